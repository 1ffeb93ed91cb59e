"""What stands inside a frame: typed blocks, each with an 8-byte head. Packers for the writer, one parser for the reader."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from appliance.model import Mark, RecordingInfo
from appliance.storage.sealed.columns import PacketBlock, unpack_packets
from appliance.storage.sealed.errors import SealedLimitError
from appliance.storage.sealed.layout import MAX_PLAIN

BLOCK_HEAD = struct.Struct("<BBHI")  # type, zero, zero, length of the body
BLOCK_HEAD_BYTES = BLOCK_HEAD.size
_EVIDENCE = struct.Struct("<qHH")
_END = struct.Struct("<QQQQqI4x32s")
MAX_JSON = 4 << 20
MAX_EVIDENCE = 16 << 20

RTCP_DTYPE = np.dtype(
    [
        ("track", "<u2"),
        ("zero", "<u2"),
        ("ssrc", "<u4"),
        ("timestamp", "<u4"),  # RTP timestamp of the sender report
        ("packets", "<u4"),  # sender's packet count
        ("octets", "<u4"),  # sender's octet count
        ("ntp", "<u8"),  # NTP timestamp, 32.32 fixed point (RFC 3550 section 6.4.1)
        ("arrival_ns", "<i8"),
    ]
)
assert RTCP_DTYPE.itemsize == 36


class BlockType(IntEnum):
    """Numbers are for ever; readers skip the ones they do not know."""

    INFO = 1
    MARK = 2
    EVIDENCE = 3
    MEDIA = 4
    EVENT = 5  # the columns of MEDIA, of telephone-event packets (RFC 4733): never audio
    RTCP = 6
    END = 7


@dataclass(frozen=True, slots=True)
class InfoBlock:
    """What the recording is of; a later one replaces an earlier one."""

    info: RecordingInfo


@dataclass(frozen=True, slots=True)
class MarkBlock:
    """One entry on the timeline."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class EvidenceBlock:
    """Signalling as it was received."""

    kind: str
    content_type: str
    at_ns: int
    content: bytes


@dataclass(frozen=True, slots=True)
class RtcpBlock:
    """Sender reports, as an array of RTCP_DTYPE."""

    reports: npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class EndBlock:
    """What the writer counted. `root` is the tree's root over header and all frames before this one."""

    frames: int
    media_packets: int
    media_bytes: int
    event_packets: int
    ended_ns: int
    flags: int
    root: bytes


@dataclass(frozen=True, slots=True)
class UnknownBlock:
    """A block of a later version; kept for whoever may know it."""

    type: int
    body: bytes


Block = InfoBlock | MarkBlock | EvidenceBlock | PacketBlock | RtcpBlock | EndBlock | UnknownBlock


class MalformedBlockError(ValueError):
    """The content of an opened frame is malformed; the reader turns this into a SealedCorruptError with a place."""


def pack_block(kind: int, body: bytes) -> bytes:
    """Head and body of any block."""
    return BLOCK_HEAD.pack(kind, 0, 0, len(body)) + body


def pack_info(info: RecordingInfo | bytes) -> bytes:
    """An INFO block, from the model or from its JSON."""
    return _pack_json(BlockType.INFO, info if isinstance(info, bytes) else info.model_dump_json().encode())


def pack_mark(mark: Mark | bytes) -> bytes:
    """A MARK block, from the model or from its JSON."""
    return _pack_json(BlockType.MARK, mark if isinstance(mark, bytes) else mark.model_dump_json().encode())


def _pack_json(kind: BlockType, body: bytes) -> bytes:
    if len(body) > MAX_JSON:
        raise SealedLimitError("a JSON block is too large", size=len(body), limit=MAX_JSON)
    return pack_block(kind, body)


def pack_evidence(kind: str, content_type: str, at_ns: int, content: bytes) -> bytes:
    """An EVIDENCE block. `kind` and `content_type` are cut to 255 bytes: they may come from the network."""
    if len(content) > MAX_EVIDENCE:
        raise SealedLimitError("evidence is too large", size=len(content), limit=MAX_EVIDENCE)
    name = kind.encode(errors="replace")[:255]
    media_type = content_type.encode(errors="replace")[:255]
    return pack_block(
        BlockType.EVIDENCE, _EVIDENCE.pack(at_ns, len(name), len(media_type)) + name + media_type + content
    )


def pack_rtcp(reports: npt.NDArray[np.void]) -> bytes:
    """An RTCP block from an array of RTCP_DTYPE (use `np.zeros(n, RTCP_DTYPE)` and fill it)."""
    return pack_block(BlockType.RTCP, np.ascontiguousarray(reports, dtype=RTCP_DTYPE).tobytes())


def pack_end(end: EndBlock) -> bytes:
    """The END block, which the writer alone makes."""
    return pack_block(
        BlockType.END,
        _END.pack(
            end.frames,
            end.media_packets,
            end.media_bytes,
            end.event_packets,
            end.ended_ns,
            end.flags,
            end.root,
        ),
    )


def parse_blocks(plain: bytes) -> Iterator[Block]:
    """The blocks of one opened frame, in order. MalformedBlockError where they are not what a writer writes."""
    view = memoryview(plain)
    at = 0
    while at < len(view):
        if len(view) - at < BLOCK_HEAD_BYTES:
            raise MalformedBlockError("a block's head is cut")
        kind, _, _, length = BLOCK_HEAD.unpack_from(view, at)
        at += BLOCK_HEAD_BYTES
        if length > len(view) - at or length > MAX_PLAIN:
            raise MalformedBlockError("a block is longer than its frame")
        yield _parse_block(kind, view[at : at + length])
        at += length


def _parse_block(kind: int, body: memoryview) -> Block:
    if kind in (BlockType.MEDIA, BlockType.EVENT):
        try:
            return unpack_packets(body, audio=kind == BlockType.MEDIA)
        except ValueError as error:
            raise MalformedBlockError(str(error)) from error
    if kind == BlockType.RTCP:
        if len(body) % RTCP_DTYPE.itemsize:
            raise MalformedBlockError("an RTCP block is cut")
        return RtcpBlock(np.frombuffer(body, RTCP_DTYPE))
    if kind == BlockType.INFO:
        try:
            return InfoBlock(RecordingInfo.model_validate_json(bytes(body)))
        except ValidationError:
            # The cause is not chained: pydantic quotes the input, which is personal data.
            raise MalformedBlockError("an INFO block is not RecordingInfo") from None
    if kind == BlockType.MARK:
        return _parse_mark(bytes(body))
    if kind == BlockType.EVIDENCE:
        return _parse_evidence(body)
    if kind == BlockType.END:
        if len(body) != _END.size:
            raise MalformedBlockError("an END block has another length")
        return EndBlock(*_END.unpack(body))
    return UnknownBlock(kind, bytes(body))


def _parse_mark(body: bytes) -> MarkBlock | UnknownBlock:
    try:
        return MarkBlock(Mark.model_validate_json(body))
    except ValidationError as error:
        if [item["type"] for item in error.errors(include_input=False)] == ["enum"]:
            return UnknownBlock(BlockType.MARK, body)  # a kind of mark that a later version knows
    raise MalformedBlockError("a MARK block is not a Mark")


def _parse_evidence(body: memoryview) -> EvidenceBlock:
    if len(body) < _EVIDENCE.size:
        raise MalformedBlockError("an EVIDENCE block is cut")
    at_ns, name, media_type = _EVIDENCE.unpack_from(body)
    start = _EVIDENCE.size
    if start + name + media_type > len(body):
        raise MalformedBlockError("an EVIDENCE block is cut")
    middle = start + name
    return EvidenceBlock(
        bytes(body[start:middle]).decode(errors="replace"),
        bytes(body[middle : middle + media_type]).decode(errors="replace"),
        at_ns,
        bytes(body[middle + media_type :]),
    )
