"""Bodies of several parts (RFC 2046, section 5.1; RFC 5621), read as they are really sent.

    for part in body_parts(request.content_type, request.body): part.content_type.essence, part.content

Reading never refuses what can be understood: delimiters with white space after them or bare line ends, a missing
closing delimiter, a boundary parameter with quotes, spaces, or another spelling than in the body, parts without headers.
Bytes of parts are given untouched, without the line end that belongs to the delimiter.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.grammar import WS
from appliance.media.sip.headers import Headers
from appliance.media.sip.message import SipMessage
from appliance.media.sip.values import Disposition, MediaType
from appliance.model.errors import InvalidError

MAX_PARTS = 64
MAX_DEPTH = 4
MAX_PART_HEADERS = 64
MAX_HEADER_OCTETS = 16 * 1024

_FIRST_DELIMITER = re.compile(rb"(?:^|\n)[ \t]*--([^\r\n]{1,200}?)[ \t]{0,80}+\r?\n")
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*:[ \t]*(.*)", re.DOTALL)
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_SAFE_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=?]{1,70}")
_PLAIN = MediaType("text", "plain")


@dataclass(frozen=True, slots=True)
class Part:
    """One part. `content_type` is text/plain where none is given (RFC 2046, section 5.1)."""

    content_type: MediaType
    content: bytes
    disposition: Disposition | None = None
    headers: Headers = field(default_factory=Headers)


class MultipartError(InvalidError):
    """A body of several parts that has no delimiter at all, or more parts or layers than we read."""

    reason = "SIP_MULTIPART"


class NoDelimiterError(MultipartError):
    """Nothing in the body looks like a delimiter."""


def body_parts(content_type: MediaType | None, body: bytes) -> list[Part]:
    """All parts of a body, flat and in order: those inside of nested multiparts, or the body itself as the only part.

    None for an empty body. Raises `MultipartError`.
    """
    if not body:
        return []
    if content_type is None or content_type.type != "multipart":
        return [Part(content_type or _PLAIN, body)]
    parts: list[Part] = []
    _collect(content_type, body, 1, parts)
    return parts


def message_parts(message: SipMessage) -> list[Part]:
    """All parts of a message's body. Without a Content-Type that can be read, SDP and multiparts are known by their
    beginning. Raises `MultipartError`."""
    try:
        kind = message.content_type
    except SipParseError:
        kind = None
    if kind is None:
        begin = message.body[:64].lstrip()
        if begin.startswith(b"v="):
            kind = MediaType("application", "sdp")
        elif begin.startswith(b"--"):
            kind = MediaType("multipart", "mixed")
    parts = body_parts(kind, message.body)
    if len(parts) == 1 and parts[0].content is message.body:
        return [Part(parts[0].content_type, message.body, message.content_disposition)]
    return parts


def parse_multipart(content_type: MediaType, body: bytes) -> list[Part]:
    """The parts of one layer. Raises `MultipartError`."""
    return [_parse_part(content) for content in _cut(content_type.params.get("boundary") or "", body)]


def build_multipart(
    parts: Iterable[Part], subtype: str = "mixed", boundary: str | None = None
) -> tuple[MediaType, bytes]:
    """The Content-Type and the body made of `parts`. The boundary is one that no part holds."""
    whole = list(parts)
    while boundary is None or any(boundary.encode() in part.content for part in whole):
        boundary = secrets.token_hex(12)
    if not _SAFE_BOUNDARY.fullmatch(boundary):
        raise InvalidError("a boundary holds characters that it may not", field="boundary")
    pieces = []
    for part in whole:
        lines = [f"--{boundary}", f"Content-Type: {part.content_type}"]
        if part.disposition is not None:
            lines.append(f"Content-Disposition: {part.disposition}")
        lines += [
            f"{name}: {value}"
            for name, value in part.headers
            if name.lower() not in ("content-type", "content-disposition")
        ]
        pieces.append(
            "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + part.content + b"\r\n"
        )
    pieces.append(f"--{boundary}--\r\n".encode())
    quoted = boundary if re.fullmatch(r"[0-9A-Za-z'+_\-.]+", boundary) else f'"{boundary}"'
    return MediaType.parse(f"multipart/{subtype};boundary={quoted}"), b"".join(pieces)


def _collect(content_type: MediaType, body: bytes, depth: int, parts: list[Part]) -> None:
    if depth > MAX_DEPTH:
        raise MultipartError("parts are nested too deeply", limit=MAX_DEPTH)
    for part in parse_multipart(content_type, body):
        if part.content_type.type == "multipart" and part.content.strip():
            try:
                _collect(part.content_type, part.content, depth + 1, parts)
            except NoDelimiterError:
                parts.append(
                    part
                )  # it is no multipart whatever it says: its neighbours may be all that matters
        else:
            parts.append(part)
        if len(parts) > MAX_PARTS:
            raise MultipartError("there are too many parts", limit=MAX_PARTS)


def _cut(boundary: str, body: bytes) -> list[bytes]:
    """What stands between the delimiters."""
    wanted = boundary.strip(' \t"').encode("utf-8", "surrogateescape")
    chunks = _cut_at(wanted, body) if wanted else None
    if chunks is None:
        # The parameter is missing or wrong: the first line that looks like a delimiter is believed.
        found = _FIRST_DELIMITER.search(body)
        chunks = _cut_at(found[1], body) if found else None
    if chunks is None:
        raise NoDelimiterError("no delimiter is found in a body of several parts")
    return chunks


def _cut_at(boundary: bytes, body: bytes) -> list[bytes] | None:
    delimiter = re.compile(
        rb"(?:^|\r?\n)[ \t]*--[ \t]*" + re.escape(boundary) + rb"[ \t]*+(?:(--)[ \t]*+)?(?=\r?\n|$)"
    )
    chunks: list[bytes] = []
    start: int | None = None
    for match in delimiter.finditer(body):
        if start is not None:
            chunks.append(body[start : match.start()] if match.start() > start else b"")
            if len(chunks) > MAX_PARTS:
                raise MultipartError("there are too many parts", limit=MAX_PARTS)
        start = match.end()
        if match[1]:
            return chunks
    if start is None:
        return None
    chunks.append(body[start:])  # the closing delimiter is missing: the last part goes to the end
    return chunks


def _parse_part(chunk: bytes) -> Part:
    """`chunk` begins with the line end of the delimiter line, if it has any."""
    end = _HEADER_END.match(chunk)
    if end is not None:  # no headers at all
        return Part(_PLAIN, chunk[end.end() :])
    chunk = chunk.removeprefix(b"\r").removeprefix(b"\n")
    end = _HEADER_END.search(chunk, 0, MAX_HEADER_OCTETS)
    if end is None:
        head, content = (chunk, b"") if _HEADER.match(chunk[:200].decode("latin-1")) else (b"", chunk)
    else:
        head, content = chunk[: end.start()], chunk[end.end() :]
    headers = _parse_headers(head[:MAX_HEADER_OCTETS].decode("utf-8", "surrogateescape"))
    return Part(_media_type(headers), content, _disposition(headers), headers)


def _parse_headers(text: str) -> Headers:
    """Headers of a part; lines that are none are left out: only the types matter, and they have defaults."""
    lines: list[str] = []
    for line in text.split("\n"):
        line = line.removesuffix("\r").replace("\r", " ")
        if line[:1] in (" ", "\t") and lines:
            lines[-1] += " " + line.strip(WS)
        else:
            lines.append(line)
        if len(lines) > MAX_PART_HEADERS:
            raise MultipartError("a part has too many headers", limit=MAX_PART_HEADERS)
    found = (_HEADER.fullmatch(line) for line in lines)
    headers = Headers()
    for match in found:
        if match is not None:
            try:
                headers.add(match[1], match[2])
            except InvalidError:
                continue  # a name that SIP does not know how to write
    return headers


def _media_type(headers: Headers) -> MediaType:
    try:
        return MediaType.parse(headers.get("Content-Type") or "text/plain")
    except SipParseError:
        return MediaType("application", "octet-stream")


def _disposition(headers: Headers) -> Disposition | None:
    try:
        value = headers.get("Content-Disposition")
        return Disposition.parse(value) if value else None
    except SipParseError:
        return None
