"""Writes a sealed file as bytes: no I/O here. The caller appends what it gets, in order, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.model import InvalidError
from appliance.storage.sealed.blocks import EndBlock, pack_end
from appliance.storage.sealed.errors import SealedLimitError, SealedStateError
from appliance.storage.sealed.layout import (
    CHAIN_BYTES,
    CHECK_BYTES,
    FRAME_SYNC,
    HEADER_BYTES,
    KEY_BYTES,
    MAX_CIPHER,
    MAX_FRAMES,
    MAX_PLAIN,
    NONCE_PREFIX_BYTES,
    PREFIX,
    TAG_BYTES,
    FrameKind,
    Header,
    frame_aad,
    frame_nonce,
    leaf_hash,
)
from appliance.storage.sealed.tree import MerkleTree

LEVEL = 3
Buffer = bytes | bytearray | memoryview


class Compressor:
    """One zstd context, shared by all writers of one thread."""

    __slots__ = ("compress",)

    def __init__(self, level: int = LEVEL) -> None:
        # Each frame states its content size, so that a reader knows before it allocates.
        self.compress = zstandard.ZstdCompressor(
            level=level, write_content_size=True, write_checksum=False
        ).compress


class SealedWriter:
    """One sealed file being written.

    `header` comes first; then what each `frame()` gives; then what `end()` gives. A frame given out is part of the
    file's chain: where writing it failed, the caller cuts the file back to the length it had and writes the very same
    bytes again. It must never throw a frame away and go on: the next one would not join.

    `data_key` is 32 random bytes, used for this one file only.
    """

    __slots__ = (
        "_aead",
        "_chain",
        "_compress",
        "_counter",
        "_ended",
        "_header_hash",
        "_nonce_prefix",
        "_tree",
        "event_packets",
        "header",
        "media_bytes",
        "media_packets",
        "offset",
    )

    def __init__(
        self,
        recording_id: str,
        tenant_id: str,
        line_id: str,
        created_ns: int,
        data_key: bytes,
        *,
        compressor: Compressor | None = None,
        nonce_prefix: bytes | None = None,
    ) -> None:
        if len(data_key) != KEY_BYTES:
            raise InvalidError(f"a data key has {KEY_BYTES} bytes", field="data_key")
        self._nonce_prefix = nonce_prefix or secrets.token_bytes(NONCE_PREFIX_BYTES)
        self.header = Header(recording_id, tenant_id, line_id, created_ns, self._nonce_prefix).pack()
        self._aead = AESGCM(data_key)
        self._compress = (compressor or Compressor()).compress
        self._header_hash = leaf_hash(self.header)
        self._chain = self._header_hash[:CHAIN_BYTES]
        self._tree = MerkleTree()
        self._tree.append(self._header_hash)
        self._counter = 0
        self._ended = False
        self.offset = HEADER_BYTES
        """Length of the file once everything given out is written."""
        self.media_packets = 0
        self.media_bytes = 0
        self.event_packets = 0

    @property
    def frames(self) -> int:
        """Frames given out so far."""
        return self._counter

    def count(self, media_packets: int, media_bytes: int, event_packets: int = 0) -> None:
        """Adds to the totals that END will state. The caller counts, because it has the columns anyway."""
        self.media_packets += media_packets
        self.media_bytes += media_bytes
        self.event_packets += event_packets

    def frame(self, blocks: Iterable[Buffer]) -> bytes:
        """One frame of these buffers, which together are whole blocks. At most 32 MiB of them."""
        return self._seal(b"".join(blocks), FrameKind.DATA)

    def end(self, ended_ns: int, blocks: Iterable[Buffer] = (), flags: int = 0) -> bytes:
        """The last frame: `blocks` and then the END block. Nothing can follow."""
        end = pack_end(
            EndBlock(
                self._counter,
                self.media_packets,
                self.media_bytes,
                self.event_packets,
                ended_ns,
                flags,
                self._tree.root(),
            )
        )
        return self._seal(b"".join((*blocks, end)), FrameKind.LAST)

    def _seal(self, plain: bytes, kind: FrameKind) -> bytes:
        if self._ended:
            raise SealedStateError("this sealed file has ended")
        if len(plain) > MAX_PLAIN:
            raise SealedLimitError("too much for one frame", size=len(plain), limit=MAX_PLAIN)
        counter = self._counter
        if counter >= MAX_FRAMES:
            raise SealedLimitError("too many frames for one file", limit=MAX_FRAMES)
        packed = self._compress(plain)
        length = len(packed) + TAG_BYTES
        if length > MAX_CIPHER:  # cannot be, by zstd's bound on expansion; a reader would refuse it
            raise SealedLimitError("too much for one frame", size=length, limit=MAX_CIPHER)
        prefix = PREFIX.pack(FRAME_SYNC, length, counter, kind, self._chain)
        cipher = self._aead.encrypt(
            frame_nonce(self._nonce_prefix, counter, kind),
            packed,
            frame_aad(self._header_hash, self.offset, prefix),
        )
        body = prefix + cipher
        digest = sha256(b"\0")
        digest.update(body)
        leaf = digest.digest()
        self._tree.append(leaf)
        self._chain = leaf[:CHAIN_BYTES]
        self._counter = counter + 1
        self._ended = kind is FrameKind.LAST
        self.offset += len(body) + CHECK_BYTES
        return body + leaf[:CHECK_BYTES]
