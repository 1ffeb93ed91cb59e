"""Building responses (RFC 3261, section 8.2.6) and noting where a request came from (section 18.2.1, RFC 3581)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.grammar import split_outside
from appliance.media.sip.headers import Headers
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.values import NameAddr

REASONS = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}


def reason_phrase(status: int) -> str:
    """The phrase of a status code; that of its class for codes we do not know."""
    return REASONS.get(status) or REASONS.get(status // 100 * 100, "Unknown")


def make_response(
    request: SipRequest,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> SipResponse:
    """A response that carries the request's Via, From, To, Call-ID, CSeq, and Timestamp with a 100.

    They are copied as they were written, so that a `SipParseError.request` can be answered too. `to_tag` is added to
    To where it has none. Record-Route and Contact are the dialog's business.
    """
    fields = [(name, value) for name in ("Via", "From") for value in request.headers.get_all(name)]
    for value in request.headers.get_all("To"):
        fields.append(("To", _tagged(value, to_tag)))
    copied = ("Call-ID", "CSeq") + (("Timestamp",) if status == 100 else ())
    fields += [(name, value) for name in copied for value in request.headers.get_all(name)]
    fields += headers
    if content_type is not None:
        fields.append(("Content-Type", content_type))
    return SipResponse(status, reason_phrase(status) if reason is None else reason, Headers(fields), body)


def _tagged(to: str, tag: str | None) -> str:
    if tag is None:
        return to
    try:
        return to if NameAddr.parse(to).tag else f"{to};tag={tag}"
    except SipParseError:
        return to  # an unreadable To goes back as it came


def stamp_received(request: SipRequest, host: str, port: int) -> None:
    """Note in the topmost Via where the request really came from, so that its responses find back.

    `received` is added where the sent-by is a name or another address, or `rport` was asked for, which gets `port`.
    `host` is numeric, without brackets. A Via that cannot be read is left alone.
    """
    value = request.headers.get("Via")
    top = request.top_via
    if value is None or top is None:
        return
    if not top.wants_rport and _same_address(top.host, host) and not top.received:
        return
    try:
        first, *others = split_outside(value, ",")
    except SipParseError:
        return
    del first
    params = top.params.with_param("received", host)
    if top.wants_rport:
        params = params.with_param("rport", str(port))
    stamped = str(type(top)(top.transport, top.host, top.port, params, top.protocol))
    request.headers.set_first("Via", ", ".join([stamped, *others]))


def _same_address(sent_by: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(sent_by) == ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
