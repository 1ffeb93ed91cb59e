"""Session descriptions (RFC 8866): reading and writing, every line kept in order.

    offer = parse_sdp(body)
    for media in offer.media: media.kind, media.port, media.label, offer.direction_of(media), offer.connection_of(media)

Reading is tolerant: any line ends, missing v=, o=, s= or t=, lines of unknown types; an attribute that cannot be read
reads as absent. Only an m= line that cannot be read refuses the whole, as nothing could be answered in its place.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass, field, replace

from appliance.media.sip.crypto import Crypto
from appliance.media.sip.grammar import parse_uint
from appliance.model.errors import InvalidError

MAX_LINES = 4000
MAX_MEDIA = 64

_LINE = re.compile(r"[ \t]*([A-Za-z])[ \t]*=(.*)", re.DOTALL)
_RTPMAP = re.compile(r"([0-9]{1,3})[ \t]+([^/ \t]+)/([0-9]{1,10})(?:/([0-9]{1,3}))?[ \t]*")
_UINT64 = re.compile(r"[0-9]{1,20}")

# RFC 3551, table 4 and 5: what a payload type means where no rtpmap says so.
STATIC_TYPES = {
    0: ("PCMU", 8000, 1),
    3: ("GSM", 8000, 1),
    4: ("G723", 8000, 1),
    5: ("DVI4", 8000, 1),
    6: ("DVI4", 16000, 1),
    7: ("LPC", 8000, 1),
    8: ("PCMA", 8000, 1),
    9: ("G722", 8000, 1),
    10: ("L16", 44100, 2),
    11: ("L16", 44100, 1),
    12: ("QCELP", 8000, 1),
    13: ("CN", 8000, 1),
    14: ("MPA", 90000, 1),
    15: ("G728", 8000, 1),
    16: ("DVI4", 11025, 1),
    17: ("DVI4", 22050, 1),
    18: ("G729", 8000, 1),
    26: ("JPEG", 90000, 1),
    31: ("H261", 90000, 1),
    32: ("MPV", 90000, 1),
    34: ("H263", 90000, 1),
}


class SdpError(InvalidError):
    """No session description: an m= line cannot be read, or there is too much of it."""

    reason = "SDP_MALFORMED"


class MediaDirection(enum.StrEnum):
    """Who sends (RFC 8866, section 6.7), seen from who wrote the description."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        return self in (MediaDirection.SENDRECV, MediaDirection.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (MediaDirection.SENDRECV, MediaDirection.RECVONLY)

    @classmethod
    def of(cls, sends: bool, receives: bool) -> MediaDirection:
        if sends:
            return cls.SENDRECV if receives else cls.SENDONLY
        return cls.RECVONLY if receives else cls.INACTIVE

    def reversed(self) -> MediaDirection:
        """The same, seen from the other side."""
        return MediaDirection.of(self.receives, self.sends)


@dataclass(frozen=True, slots=True)
class Origin:
    """o= (section 5.2)."""

    username: str
    session_id: int
    version: int
    address: str

    def __str__(self) -> str:
        return f"{self.username} {self.session_id} {self.version} IN {address_family(self.address)} {self.address}"


@dataclass(frozen=True, slots=True)
class Connection:
    """c= (section 5.7), without TTL and count of multicast."""

    address: str

    @property
    def is_null(self) -> bool:
        """0.0.0.0 or ::, the hold of RFC 2543 (RFC 3264, section 8.4)."""
        try:
            return ipaddress.ip_address(self.address).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"IN {address_family(self.address)} {self.address}"


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type of an m= line: from rtpmap or, for static types, RFC 3551. `encoding` as written."""

    payload_type: int
    encoding: str
    clock_rate: int
    channels: int = 1
    fmtp: str | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """What sessions and media have in common: lines in order, as (type, value). They hold keys: no repr shows them."""

    lines: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def values(self, kind: str) -> list[str]:
        """The values of all lines of one type."""
        return [value for line_kind, value in self.lines if line_kind == kind]

    def attributes(self, name: str) -> list[str]:
        """The values of all attributes of that name, "" for those without; names are case-sensitive."""
        found = []
        for kind, value in self.lines:
            if kind == "a":
                key, _, rest = value.partition(":")
                if key.strip() == name:
                    found.append(rest.strip())
        return found

    def attribute(self, name: str) -> str | None:
        """The value of the first attribute of that name, "" if it has none; None if it is not there."""
        found = self.attributes(name)
        return found[0] if found else None

    @property
    def connection(self) -> Connection | None:
        """The c= line of this level."""
        for value in self.values("c"):
            fields = value.split()
            if len(fields) >= 3 and fields[0].upper() == "IN":
                return Connection(fields[2].partition("/")[0])
        return None

    @property
    def direction(self) -> MediaDirection | None:
        """The direction attribute of this level; the last one counts where there are several."""
        found = None
        for kind, value in self.lines:
            if kind == "a" and (word := value.strip().lower()) in _DIRECTIONS:
                found = _DIRECTIONS[word]
        return found


_DIRECTIONS = {direction.value: direction for direction in MediaDirection}


@dataclass(frozen=True, slots=True)
class Media(Lines):
    """An m= line and what belongs to it. `formats` as written."""

    kind: str = "audio"
    port: int = 0
    proto: str = "RTP/AVP"
    formats: tuple[str, ...] = ()
    port_count: int = 1

    @property
    def label(self) -> str | None:
        """RFC 4574."""
        return self.attribute("label") or None

    @property
    def mid(self) -> str | None:
        """RFC 5888."""
        return self.attribute("mid") or None

    @property
    def rtcp_mux(self) -> bool:
        """RFC 5761; also where nothing but multiplexing is offered (RFC 8858)."""
        return self.attribute("rtcp-mux") is not None or self.attribute("rtcp-mux-only") is not None

    @property
    def rtcp(self) -> tuple[int, str | None] | None:
        """Port, and address where one is given (RFC 3605)."""
        fields = (self.attribute("rtcp") or "").split()
        port = parse_uint(fields[0], 65535) if fields else None
        if port is None:
            return None
        return port, fields[3] if len(fields) >= 4 else None

    @property
    def ptime(self) -> int | None:
        """Milliseconds."""
        return parse_uint((self.attribute("ptime") or "").partition(".")[0])

    @property
    def cryptos(self) -> tuple[Crypto, ...]:
        """SDES lines in order (RFC 4568); those that cannot be read are left out."""
        parsed = (Crypto.parse(value) for value in self.attributes("crypto"))
        return tuple(crypto for crypto in parsed if crypto is not None)

    @property
    def secure(self) -> bool:
        """Whether the profile is one of SRTP."""
        return "SAVP" in self.proto.upper()

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """What the formats mean, in order of preference; formats without a meaning are left out."""
        maps: dict[int, tuple[str, int, int]] = {}
        for value in self.attributes("rtpmap"):
            match = _RTPMAP.match(value)
            if match is not None:
                maps.setdefault(int(match[1]), (match[2], int(match[3]), int(match[4] or 1)))
        fmtps: dict[str, str] = {}
        for value in self.attributes("fmtp"):
            fmt, _, text = value.partition(" ")
            fmtps.setdefault(fmt, text.strip())
        found = []
        for fmt in self.formats:
            number = parse_uint(fmt, 127)
            meaning = None if number is None else maps.get(number) or STATIC_TYPES.get(number)
            if number is not None and meaning is not None:
                found.append(Codec(number, *meaning, fmtps.get(fmt)))
        return tuple(found)

    def __str__(self) -> str:
        count = f"/{self.port_count}" if self.port_count > 1 else ""
        return " ".join((self.kind, f"{self.port}{count}", self.proto, *self.formats))


@dataclass(frozen=True, slots=True)
class SessionDescription(Lines):
    """A whole description: the lines of the session, then its media."""

    media: tuple[Media, ...] = ()

    @property
    def origin(self) -> Origin | None:
        for value in self.values("o"):
            fields = value.split()
            if len(fields) >= 6 and _UINT64.fullmatch(fields[1]) and _UINT64.fullmatch(fields[2]):
                return Origin(fields[0], int(fields[1]), int(fields[2]), fields[5])
        return None

    def connection_of(self, media: Media) -> Connection | None:
        """Where this media is received: its own c= line, or that of the session."""
        return media.connection or self.connection

    def direction_of(self, media: Media) -> MediaDirection:
        """Its own direction, or that of the session, or sendrecv."""
        return media.direction or self.direction or MediaDirection.SENDRECV

    def attribute_of(self, media: Media, name: str) -> str | None:
        """An attribute that may stand at either level, such as `setup` and `fingerprint`."""
        own = media.attribute(name)
        return self.attribute(name) if own is None else own

    def with_origin(self, origin: Origin) -> SessionDescription:
        """A copy with this o= line, in place of its own or after v=."""
        lines = list(self.lines)
        at = next((i for i, (kind, _) in enumerate(lines) if kind == "o"), None)
        if at is None:
            lines.insert(1 if lines[:1] and lines[0][0] == "v" else 0, ("o", str(origin)))
        else:
            lines[at] = ("o", str(origin))
        return replace(self, lines=tuple(lines))

    def serialize(self) -> bytes:
        """The description as it is sent. Raises `SdpError` when a value holds a line end."""
        pairs = list(self.lines)
        for media in self.media:
            pairs.append(("m", str(media)))
            pairs += media.lines
        if any("\r" in value or "\n" in value for _, value in pairs):
            raise SdpError("a value holds a line end")
        return "".join(f"{kind}={value}\r\n" for kind, value in pairs).encode("utf-8", "surrogateescape")


def address_family(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def parse_sdp(body: bytes) -> SessionDescription:
    """Read a session description. Raises `SdpError`; nothing else."""
    text = body.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    raw = text.split("\n")
    if len(raw) > MAX_LINES:
        raise SdpError("there are too many lines", limit=MAX_LINES)
    session: list[tuple[str, str]] = []
    media: list[tuple[Media, list[tuple[str, str]]]] = []
    for line in raw:
        match = _LINE.fullmatch(line)
        if match is None:
            continue  # empty, or no line of SDP
        kind, value = match[1], match[2].strip(" \t\x00")
        if kind == "m":
            if len(media) >= MAX_MEDIA:
                raise SdpError("there are too many media lines", limit=MAX_MEDIA)
            media.append((_parse_media(value), []))
        else:
            (media[-1][1] if media else session).append((kind, value))
    if not session and not media:
        raise SdpError("there is no line of SDP in it")
    return SessionDescription(
        tuple(session), tuple(replace(head, lines=tuple(lines)) for head, lines in media)
    )


def _parse_media(value: str) -> Media:
    fields = value.split()
    if len(fields) < 3:
        raise SdpError("an m= line is too short")
    first, slash, rest = fields[1].partition("/")
    port, count = parse_uint(first, 65535), parse_uint(rest, 65535) if slash else 1
    if port is None or count is None:
        raise SdpError("an m= line has no proper port")
    return Media((), fields[0].lower(), port, fields[2], tuple(fields[3:]), max(count, 1))
