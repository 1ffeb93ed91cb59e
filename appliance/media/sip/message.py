"""SIP messages: reading, writing (RFC 3261, sections 7 and 25).

    message = parse_message(data)              # SipRequest | SipResponse; SipParseError
    message.from_.tag, message.cseq.number     # typed headers: see `appliance.media.sip.fields`
    message.headers.get("X-Any")               # raw headers: see `appliance.media.sip.headers`
    message.serialize()                        # bytes, Content-Length made right

`parse_message` refuses what cannot be processed at all: a start line, header line or length it cannot trust, and a
missing, doubled or malformed Via, From, To, Call-ID or CSeq. What only makes a request unacceptable to a user agent
server (unknown extension, scheme, method, body) is told by `appliance.media.sip.validate`.

Let pass, because the real world needs it: bare LF line ends, folded lines, white space before the colon, empty lines
before the start line, a missing empty line at the end, a Content-Length counted with the other kind of line end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.fields import Fields
from appliance.media.sip.grammar import WS, is_token
from appliance.media.sip.headers import Headers, header_key
from appliance.media.sip.uri import OpaqueUri, Uri, parse_uri

VERSION = "SIP/2.0"
ONCE = ("From", "To", "Call-ID", "CSeq")  # needed, and only once


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one message may hold. Octets, except `header_fields`."""

    header_section: int = 64 * 1024
    header_fields: int = 512
    body: int = 1024 * 1024


DEFAULT_LIMITS = Limits()

_END = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([^ ]+) ([^ ]+) ([Ss][Ii][Pp]/[0-9]+\.[0-9]+)")
_STATUS_LINE = re.compile(r"([Ss][Ii][Pp]/[0-9]+\.[0-9]+) ([1-6][0-9]{2})(?: (.*))?", re.DOTALL)
_LOOKS_LIKE_STATUS = re.compile(r"[Ss][Ii][Pp]/[0-9.]+ ")
_LENGTH = re.compile(r"[0-9]{1,10}")
_BROKEN_URI = OpaqueUri("unreadable", "")


@dataclass(slots=True, repr=False)
class SipRequest(Fields):
    """A request. `version` is what stood in the request line."""

    method: str
    uri: Uri
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    version: str = VERSION

    def start_line(self) -> str:
        return f"{self.method} {self.uri} {self.version}"

    def serialize(self) -> bytes:
        """The bytes on the wire. Content-Length is set to the length of the body."""
        return _serialize(self.start_line(), self.headers, self.body)

    def copy(self) -> SipRequest:
        """One with headers of its own."""
        return SipRequest(self.method, self.uri, self.headers.copy(), self.body, self.version)

    def __repr__(self) -> str:
        return f"SipRequest({self.method}, {self.headers!r}, {len(self.body)} octets of body)"


@dataclass(slots=True, repr=False)
class SipResponse(Fields):
    """A response."""

    status: int
    reason: str = ""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    version: str = VERSION

    def start_line(self) -> str:
        return f"{self.version} {self.status:03d} {self.reason}"

    def serialize(self) -> bytes:
        """The bytes on the wire. Content-Length is set to the length of the body."""
        return _serialize(self.start_line(), self.headers, self.body)

    def copy(self) -> SipResponse:
        """One with headers of its own."""
        return SipResponse(self.status, self.reason, self.headers.copy(), self.body, self.version)

    def __repr__(self) -> str:
        return f"SipResponse({self.status}, {self.headers!r}, {len(self.body)} octets of body)"


SipMessage = SipRequest | SipResponse


def serialize(message: SipMessage) -> bytes:
    """The bytes on the wire."""
    return message.serialize()


def is_keepalive(data: bytes) -> bool:
    """Whether a datagram is but line ends or NULs, sent to keep a NAT binding alive (RFC 5626, 4.4.1, and custom)."""
    return not data.strip(b"\r\n\0 ")


def parse_message(data: bytes, limits: Limits = DEFAULT_LIMITS) -> SipMessage:
    """Read one message: a datagram, or what a `StreamFramer` cut out.

    What follows the body is ignored (section 18.3). Raises `SipParseError`; nothing else.
    """
    start = len(data) - len(data.lstrip(b"\r\n"))
    end = _END.search(data, start, start + limits.header_section + 4)
    if end is None:
        if len(data) - start > limits.header_section:
            raise SipParseError("the header section is too long", status=513)
        head, rest = data[start:], b""
    else:
        head, rest = data[start : end.start()], data[end.end() :]
    first, _, lines = head.decode("utf-8", "surrogateescape").partition("\n")
    first = first.removesuffix("\r")
    fields, flaw = _read_fields(lines, limits)
    headers = Headers.from_wire(fields)
    if _LOOKS_LIKE_STATUS.match(first):
        return _read_response(first, headers, flaw, rest, limits)
    return _read_request(first, headers, flaw, rest, limits)


def _read_fields(lines: str, limits: Limits) -> tuple[list[tuple[str, str, str]], SipParseError | None]:
    """Header fields, and the first flaw found: the others are still read, so that an answer can be made."""
    fields: list[tuple[str, str, str]] = []
    flaw: SipParseError | None = None
    pieces: list[str] = []  # the lines of the field being read
    if not lines:
        return fields, flaw
    for line in [*lines.split("\n"), None]:
        if line is not None:
            line = line.removesuffix("\r")
            if "\r" in line:
                flaw = flaw or SipParseError("a header line holds a carriage return")
                line = line.replace("\r", " ")
            if line[:1] in (" ", "\t"):
                if pieces:
                    pieces.append(line.strip(WS))
                else:
                    flaw = flaw or SipParseError("the first header line begins with white space")
                continue
        if pieces:
            name, colon, value = (pieces[0] if len(pieces) == 1 else " ".join(pieces)).partition(":")
            name = name.rstrip(WS)
            if not colon or not is_token(name):
                flaw = flaw or SipParseError("a header line is none")
            elif len(fields) >= limits.header_fields:
                return fields, SipParseError("too many header fields", status=513)
            else:
                fields.append((header_key(name), name, value.strip(WS)))
        pieces = [line] if line else []
    return fields, flaw


def _read_response(
    first: str, headers: Headers, flaw: SipParseError | None, rest: bytes, limits: Limits
) -> SipResponse:
    match = _STATUS_LINE.fullmatch(first)
    if match is None or "\r" in first or match[1].upper() != VERSION:
        raise SipParseError("the status line is malformed")
    response = SipResponse(int(match[2]), match[3] or "", headers)
    if flaw is not None:
        raise flaw
    _check_needed(response)
    response.body = _cut_body(headers, rest, limits)
    return response


def _read_request(
    first: str, headers: Headers, flaw: SipParseError | None, rest: bytes, limits: Limits
) -> SipRequest:
    match = _REQUEST_LINE.fullmatch(first)
    request = SipRequest(first.partition(" ")[0], _BROKEN_URI, headers)
    try:
        if match is None:
            raise SipParseError("the request line is malformed")
        if match[3].upper() != VERSION:
            raise SipParseError("the version is not SIP/2.0", status=505)
        if not is_token(match[1]):
            raise SipParseError("the method is no token")
        request.uri = parse_uri(match[2])
        if flaw is not None:
            raise flaw
        _check_needed(request)
        request.body = _cut_body(headers, rest, limits)
    except SipParseError as error:
        field_to_blame = {"field": error.data["field"]} if "field" in error.data else {}
        raise SipParseError(
            error.message,
            status=error.status,
            request=request if _answerable(request, headers) else None,
            **field_to_blame,
        ) from None
    return request


def _answerable(request: SipRequest, headers: Headers) -> bool:
    """Whether a response can be made: there is somewhere to send it, and the request is no ACK (section 17.1)."""
    cseq_method = (headers.get("CSeq") or "").rpartition(" ")[2]
    return "ACK" not in (request.method, cseq_method) and request.top_via is not None


def _check_needed(message: SipMessage) -> None:
    for name in ONCE:
        if len(message.headers.get_all(name)) > 1:
            raise SipParseError(f"{name} is there more than once", field=name)
    _ = message.via, message.from_, message.to, message.call_id, message.cseq
    if isinstance(message, SipRequest) and message.cseq.method != message.method:
        raise SipParseError("the method of CSeq is another than that of the request", field="CSeq")


def content_length(headers: Headers) -> int | None:
    """The announced length of the body, None where there is none. Raises `SipParseError`: nonsense or contradiction."""
    values = {value.strip(WS) for value in headers.get_all("Content-Length")}
    if not values:
        return None
    if len(values) > 1:
        raise SipParseError("several Content-Length contradict each other", field="Content-Length")
    value = values.pop()
    if not _LENGTH.fullmatch(value):
        raise SipParseError("Content-Length is no number", field="Content-Length")
    return int(value)


def _cut_body(headers: Headers, rest: bytes, limits: Limits) -> bytes:
    length = content_length(headers)
    if length is None:
        length = len(rest)
    elif length != len(rest):
        length = _mend_length(length, rest)
    if length > limits.body:
        raise SipParseError("the body is too long", status=513)
    if length > len(rest):
        raise SipParseError("the body is shorter than Content-Length", field="Content-Length")
    return rest[:length]


def _mend_length(length: int, rest: bytes) -> int:
    """Content-Length as it should be, where it was counted with the other kind of line end than was sent."""
    both = rest.count(b"\r\n")
    bare = rest.count(b"\n") - both
    if both and length == len(rest) - both:
        return len(rest)
    if bare and not both and length == len(rest) + bare:
        return len(rest)
    return length


def _serialize(start_line: str, headers: Headers, body: bytes) -> bytes:
    if "\r" in start_line or "\n" in start_line:
        raise SipParseError("a start line holds a line end")
    lines = [start_line]
    written = False
    for name, value in headers:
        if header_key(name) == "content-length":
            if written:
                continue
            value, written = str(len(body)), True
        lines.append(f"{name}: {value}")
    if not written:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + body
