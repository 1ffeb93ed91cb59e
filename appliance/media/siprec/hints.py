"""What the SIP headers of a recording session's INVITE say of the recorded call, beside or instead of metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.message import SipRequest
from appliance.media.sip.uri import SipUri
from appliance.media.siprec.extensions import MAX_IDENTIFIERS, identifiers
from appliance.media.siprec.numbers import clean, is_number, subscriber

_IDENTIFYING = (
    ("Session-ID", "session-id"),
    ("User-to-User", "ucid"),
    ("X-ISR-UCID", "ucid"),
    ("X-UCID", "ucid"),
    ("Cisco-Guid", "guid"),
    ("Cisco-Gucid", "guid"),
    ("X-Genesys-CallUUID", "uuid"),
)
_NAMING = ("P-Asserted-Identity", "Remote-Party-ID", "Diversion", "P-Called-Party-ID", "History-Info")
_PARAMETER = re.compile(r";\s*(x-[a-z]{1,30})(?:\s*=\s*\"?([^;>\",\s]{1,100}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fork:
    """One end of a call whose two ends are recorded by two INVITEs (Cisco's built-in bridge and gateway forking).

    `near` tells whose voice this session carries: the recorded phone's own, or what it hears. `key` is the same for both.
    """

    near: bool
    key: str
    near_address: str = field(default="", repr=False)
    far_address: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Hints:
    """`numbers` are those of who may take part, the likeliest first; `calling` and `called` are From and To where they
    can be parties at all. `identifiers` as in `CallData`."""

    calling: str = field(default="", repr=False)
    called: str = field(default="", repr=False)
    calling_name: str = field(default="", repr=False)
    numbers: tuple[str, ...] = field(default=(), repr=False)
    identifiers: tuple[str, ...] = ()
    fork: Fork | None = None
    recording_client: bool = False  # it says of itself that it is an SRC (RFC 7866, section 6.1.2)


def read_hints(request: SipRequest) -> Hints:
    """Reads the headers. Raises nothing: what is malformed says nothing."""
    found: list[str] = []
    for header, kind in _IDENTIFYING:
        for value in request.headers.get_all(header)[:4]:
            found += identifiers(kind, clean(value, 1024))
    from_value = clean(request.headers.get("From") or "", 4096)
    calling, called = _number(from_value), _number(request.headers.get("To") or "")
    fork = _fork(from_value, calling)
    numbers = [calling, called]
    if isinstance(request.uri, SipUri):
        numbers.append(_number(str(request.uri)))
    if fork is not None:
        numbers = [_number(fork.near_address), _number(fork.far_address), *numbers]
    for header in _NAMING:
        for value in request.headers.get_all(header)[:4]:
            numbers += [_number(element) for element in value.split(",")[:4]]
    return Hints(
        calling,
        called,
        _display_name(request),
        tuple(dict.fromkeys(filter(None, numbers)))[:16],
        tuple(dict.fromkeys(found))[:MAX_IDENTIFIERS],
        fork,
        _is_client(request),
    )


def _number(text: str) -> str:
    """The number in an address; "" for a name, which in these headers is that of a device."""
    found = subscriber(clean(text, 1024))
    return found if is_number(found) else ""


def _display_name(request: SipRequest) -> str:
    try:
        return clean(request.from_.display_name, 256)
    except SipParseError:
        return ""


def _is_client(request: SipRequest) -> bool:
    try:
        contact = request.contact
        return "siprec" in request.require or (contact is not None and contact.has_feature("sip.src"))
    except SipParseError:
        return False


def _fork(from_value: str, own: str) -> Fork | None:
    """From with x-nearend or x-farend, and the reference of the recorded leg."""
    params = {match[1].lower(): match[2] or "" for match in _PARAMETER.finditer(from_value)}
    if "x-nearend" not in params and "x-farend" not in params:
        return None
    reference = params.get("x-refci", "")
    if not reference:
        return None
    key = f"refci:{params.get('x-nearendclusterid', '')}:{params.get('x-nearenddevice', '')}:{reference}".lower()
    near = params.get("x-nearendaddr", "") or own
    return Fork("x-nearend" in params, key, near, params.get("x-farendaddr", ""))
