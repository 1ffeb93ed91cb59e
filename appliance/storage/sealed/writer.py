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

SPLIT_BYTES = 2048  # blocks from this size on get a zstd frame, and with it entropy tables, of their own
Buffer = bytes | bytearray | memoryview
BlockBytes = Buffer | tuple[Buffer, ...]


class Compressor:
    """One zstd context, shared by all writers of one thread.

    Speech has no repeats worth naming, only a skewed alphabet: asked for long matches alone and a small table, zstd
    takes a third of the time of its level 3 and stores 3 % less.
    """

    __slots__ = ("compress",)

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters(
                strategy=zstandard.STRATEGY_FAST,
                window_log=17,
                hash_log=10,
                chain_log=6,
                search_log=1,
                min_match=7,
                target_length=0,
                # Each frame states its content size, so that a reader knows before it allocates.
                write_content_size=True,
                write_checksum=False,
            )
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

    def frame(self, blocks: Iterable[BlockBytes]) -> bytes:
        """One frame of these packed blocks, each as bytes or as the tuple of buffers that PreparedColumns.block gives.

        At most 32 MiB of them, or SealedLimitError; nothing has changed then.
        """
        return self._seal(blocks, FrameKind.DATA)

    def end(self, ended_ns: int, blocks: Iterable[BlockBytes] = (), flags: int = 0) -> bytes:
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
        return self._seal((*blocks, end), FrameKind.LAST)

    def _pack(self, blocks: Iterable[BlockBytes]) -> bytes:
        # A talking and a silent leg have different statistics: sharing one Huffman table costs up to a tenth.
        compress = self._compress
        out: list[bytes] = []
        small: list[Buffer] = []
        total = 0
        for block in blocks:
            whole = b"".join(block) if isinstance(block, tuple) else block
            total += len(whole)
            if total > MAX_PLAIN:
                raise SealedLimitError("too much for one frame", size=total, limit=MAX_PLAIN)
            if len(whole) < SPLIT_BYTES:
                small.append(whole)
                continue
            if small:
                out.append(compress(b"".join(small)))
                small.clear()
            out.append(compress(whole))
        if small or not out:
            out.append(compress(b"".join(small)))
        return b"".join(out) if len(out) > 1 else out[0]

    def _seal(self, blocks: Iterable[BlockBytes], kind: FrameKind) -> bytes:
        if self._ended:
            raise SealedStateError("this sealed file has ended")
        counter = self._counter
        if counter >= MAX_FRAMES:
            raise SealedLimitError("too many frames for one file", limit=MAX_FRAMES)
        packed = self._pack(blocks)
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
