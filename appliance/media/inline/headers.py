"""Which headers of an INVITE are the caller's to say, and go on with the call."""

from __future__ import annotations

from appliance.media.sip.message import SipRequest

PASSED = (
    "Accept-Language",
    "Alert-Info",
    "Diversion",
    "History-Info",
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "Priority",
    "Privacy",
    "Remote-Party-ID",
    "Session-ID",
    "Subject",
    "User-to-User",
)
MAX_VALUES = 8  # of one header
MAX_LENGTH = 1024


def passed_on(request: SipRequest) -> list[tuple[str, str]]:
    """Headers for the INVITE of the other side, with one hop less to go (RFC 3261 section 16.6, step 3: a back-to-back
    user agent that counted anew would let a loop run for ever)."""
    hops = request.max_forwards
    found = [("Max-Forwards", str(70 if hops is None else max(0, hops - 1)))]
    for name in PASSED:
        for value in request.headers.get_all(name)[:MAX_VALUES]:
            if len(value) <= MAX_LENGTH:
                found.append((name, value))
    return found
