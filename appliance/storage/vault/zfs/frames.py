"""Messages between the vault and its agent, over two pipes.

A frame: length of the head (4, big-endian), length of the payload (4, big-endian), the head as JSON, the payload as bytes.
Bucket keys and pieces of files travel as payload, never in the head.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO, Final

_LENGTHS: Final = struct.Struct(">II")
MAX_HEAD: Final = 256 << 20  # the list of a very large bucket's files
MAX_PAYLOAD: Final = 256 << 20  # what a channel program tells of a whole pool


class FrameError(Exception):
    """What came is not a frame: the other side is broken."""


def pack(head: dict[str, Any], payload: bytes = b"") -> bytes:
    """One frame."""
    raw = json.dumps(head, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(raw), len(payload)) + raw + payload


def read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next frame; None at the end of the stream. FrameError where it ends within one or is none."""
    lengths = stream.read(_LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) != _LENGTHS.size:
        raise FrameError("the stream ends within a frame")
    head_size, payload_size = _LENGTHS.unpack(lengths)
    if head_size > MAX_HEAD or payload_size > MAX_PAYLOAD:
        raise FrameError("a frame is too large")
    raw, payload = stream.read(head_size), stream.read(payload_size)
    if len(raw) != head_size or len(payload) != payload_size:
        raise FrameError("the stream ends within a frame")
    try:
        head = json.loads(raw)
    except ValueError as error:
        raise FrameError("a head is not JSON") from error
    if not isinstance(head, dict):
        raise FrameError("a head is not an object")
    return head, payload
