"""What a request carries: description, metadata, and what else there is, by type or, failing that, by content."""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from dataclasses import dataclass, field

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.message import SipMessage
from appliance.media.sip.multipart import MultipartError, Part, message_parts

BODY_MALFORMED = "body-malformed"

_METADATA_TYPES = frozenset(
    {
        "application/rs-metadata",
        "application/rs-metadata+xml",
        "application/rs-metadata-request",
        "application/recording-metadata+xml",
    }
)
_XML_TYPES = frozenset({"application/xml", "text/xml"})
_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.\-]{0,60}:)?(?:recording|rs-metadata)", re.IGNORECASE)
_SDP = re.compile(rb"(?:\A|[\r\n])(v=0[ \t]*\r?\n(?:[A-Za-z]=[^\r\n]*(?:\r?\n|\Z))+)")
_PROLOGUE = 4096  # octets in which a metadata document has shown its root


@dataclass(frozen=True, slots=True)
class Body:
    """The parts of a request. `metadata` and `sdp` are None where there is none; `flags` say what was odd.

    `others` are further parts as (media type, content): ISUP, GTD.
    """

    sdp: bytes | None = field(default=None, repr=False)
    metadata: bytes | None = field(default=None, repr=False)
    metadata_type: str = ""
    others: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    flags: tuple[str, ...] = ()


def read_body(message: SipMessage) -> Body:
    """Sorts the body of a request. Raises nothing."""
    try:
        parts = message_parts(message)
    except (MultipartError, SipParseError):
        return _search(message.body)
    sdp: bytes | None = None
    metadata: tuple[str, bytes] | None = None
    others: list[tuple[str, bytes]] = []
    for part in parts:
        essence = part.content_type.essence.lower()
        content = _plain(part)
        if sdp is None and _is_sdp(essence, content):
            sdp = content
        elif metadata is None and _is_metadata(part, essence, content):
            metadata = (essence, content)
        else:
            others.append((essence, content))
    if sdp is None and metadata is None and message.body.strip():
        found = _search(message.body)
        if found.sdp is not None or found.metadata is not None:
            return found
    return Body(sdp, metadata[1] if metadata else None, metadata[0] if metadata else "", tuple(others))


def _plain(part: Part) -> bytes:
    """The content without its transfer encoding, which SIP does not need and some gateways use."""
    encoding = (part.headers.get("Content-Transfer-Encoding") or "").strip().lower()
    if encoding == "base64":
        try:
            return base64.b64decode(b"".join(part.content.split()), validate=True)
        except binascii.Error:
            return part.content
    return quopri.decodestring(part.content) if encoding == "quoted-printable" else part.content


def _is_sdp(essence: str, content: bytes) -> bool:
    if essence == "application/sdp":
        return bool(content.strip())
    return content.lstrip().startswith(b"v=0") and b"\n" in content and essence not in _METADATA_TYPES


def _is_metadata(part: Part, essence: str, content: bytes) -> bool:
    if essence in _METADATA_TYPES:
        return True
    looks = (
        content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
        and _ROOT.search(content[:_PROLOGUE]) is not None
    )
    if part.disposition is not None and part.disposition.type.lower() == "recording-session":
        return looks or not _is_sdp(essence, content)
    return looks or (essence in _XML_TYPES and _ROOT.search(content[:_PROLOGUE]) is not None)


def _search(body: bytes) -> Body:
    """A body whose parts cannot be told apart: the description and the document are looked for in the bytes."""
    sdp = _SDP.search(body)
    root = _ROOT.search(body)
    metadata = None
    if root is not None:
        start = body.rfind(b"<?xml", 0, root.start())
        end = body.rfind(b">")
        metadata = body[start if start >= 0 else root.start() : end + 1]
    flags = (BODY_MALFORMED,) if body.strip() else ()
    return Body(sdp[1] if sdp else None, metadata, "", (), flags)
