"""Opens frames with the data key and gives what is inside, in order, with bounded memory."""

from __future__ import annotations

import io
from collections.abc import Iterator

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.model import InvalidError
from appliance.storage.sealed.blocks import Block, EndBlock, MalformedBlockError, parse_blocks
from appliance.storage.sealed.errors import Problem, SealedCorruptError
from appliance.storage.sealed.footer import Footer
from appliance.storage.sealed.inspection import MAX_FINDINGS, Finding
from appliance.storage.sealed.layout import (
    KEY_BYTES,
    MAX_PLAIN,
    PREFIX_BYTES,
    FrameKind,
    Header,
    frame_aad,
    frame_nonce,
    leaf_hash,
)
from appliance.storage.sealed.walk import Damage, FooterFound, Frame, Source, walk


class Opener:
    """Opens the frames of one file."""

    def __init__(self, header: Header, data_key: bytes) -> None:
        if len(data_key) != KEY_BYTES:
            raise InvalidError(f"a data key has {KEY_BYTES} bytes", field="data_key")
        self._aead = AESGCM(data_key)
        self._nonce_prefix = header.nonce_prefix
        self._header_hash = leaf_hash(header.pack())
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_PLAIN)

    def open(self, frame: Frame) -> list[Block]:
        """The blocks of a frame; SealedCorruptError where it does not open, or holds what no writer writes."""
        prefix = frame.prefix
        try:
            packed = self._aead.decrypt(
                frame_nonce(self._nonce_prefix, prefix.counter, prefix.kind),
                frame.raw[PREFIX_BYTES:],
                frame_aad(self._header_hash, frame.offset, frame.raw[:PREFIX_BYTES]),
            )
        except InvalidTag:
            raise SealedCorruptError(Problem.FRAME_FORGED, frame.offset, prefix.counter) from None
        try:
            blocks = list(parse_blocks(self._decompress(packed)))
            ends = [isinstance(block, EndBlock) for block in blocks]
            if any(ends[:-1]) or (prefix.kind == FrameKind.LAST) != (bool(ends) and ends[-1]):
                raise MalformedBlockError("an END block stands where none may, or is missing")
        except MalformedBlockError as error:
            raise SealedCorruptError(
                Problem.CONTENT_CORRUPT, frame.offset, prefix.counter, str(error)
            ) from None
        return blocks

    def _decompress(self, packed: bytes) -> bytes:
        """One or more zstd frames back to back, each stating its size before anything is allocated for it."""
        out = []
        total = 0
        at = 0
        while at < len(packed):
            try:
                size = zstandard.get_frame_parameters(packed[at : at + 18]).content_size
                if size == zstandard.CONTENTSIZE_UNKNOWN or size > MAX_PLAIN - total:
                    raise MalformedBlockError("a zstd frame does not state its size, or too much of it")
                end = _zstd_frame_end(packed, at)
                # The destination has the stated size, so a frame that lies about it cannot grow.
                plain = self._decompressor.decompress(packed[at:end], allow_extra_data=False)
            except zstandard.ZstdError:
                raise MalformedBlockError("a zstd frame is malformed") from None
            if len(plain) != size:
                raise MalformedBlockError("a zstd frame has another size than it states")
            out.append(plain)
            total += size
            at = end
        return out[0] if len(out) == 1 else b"".join(out)


def _zstd_frame_end(packed: bytes, at: int) -> int:
    """Where the zstd frame at `at` ends (RFC 8878 section 3.1.1): header, blocks, optional checksum."""
    checksum = 4 if packed[at + 4] & 4 else 0
    at += zstandard.frame_header_size(packed[at : at + 18])
    while at + 3 <= len(packed):
        head = int.from_bytes(packed[at : at + 3], "little")
        at += 3 + (1 if head >> 1 & 3 == 1 else head >> 3)  # an RLE block holds one byte
        if head & 1:
            at += checksum
            if at <= len(packed):
                return at
            break
    raise MalformedBlockError("a zstd frame is cut")


class SealedReader:
    """Iterates over the blocks of a sealed file, in the order in which they were written.

    `source` is anything with a blocking `read(size)` at the beginning of the file, or the file's bytes. A file without
    footer, or torn at its end, is read to its last whole frame; what was missing stands in `findings` after that. Any
    other damage raises SealedCorruptError at its place; with `tolerant=True` it goes into `findings` instead, and
    reading goes on with the next frame that opens.

    `header` is read at once; `footer` (None: there is none) and `end` (None: the writer did not end the file) are set
    once the iteration is over. The signature is not checked here: see `verify`.
    """

    def __init__(self, source: Source | bytes, data_key: bytes, *, tolerant: bool = False) -> None:
        self._walk = walk(io.BytesIO(source) if isinstance(source, bytes) else source)
        first = next(self._walk)
        if not isinstance(first, Header):
            raise AssertionError("a walk begins with the header")
        self.header = first
        self._opener = Opener(first, data_key)
        self._tolerant = tolerant
        self.findings: list[Finding] = []
        self.footer: Footer | None = None
        self.end: EndBlock | None = None

    def __iter__(self) -> Iterator[Block]:
        for blocks in self.frames():
            yield from blocks

    def frames(self) -> Iterator[list[Block]]:
        """The blocks of each frame, once."""
        for item in self._walk:
            if isinstance(item, Frame):
                if item.misplaced:
                    problem = Problem.TRAILING if self.end else Problem.FRAME_MISPLACED
                    self._report(problem, item.offset, item.prefix.counter)
                try:
                    blocks = self._opener.open(item)
                except SealedCorruptError as error:
                    if not self._tolerant:
                        raise
                    self._note(error.problem, error.offset, error.frame)
                    continue
                if blocks and isinstance(blocks[-1], EndBlock):
                    self.end = blocks[-1]
                yield blocks
            elif isinstance(item, Damage):
                if item.problem is Problem.TORN:
                    self._note(Problem.TORN, item.offset, item.frame)
                else:
                    self._report(item.problem, item.offset, item.frame)
            elif isinstance(item, FooterFound):
                self.footer = item.footer
                if item.footer is None:
                    self._report(Problem.FOOTER_CORRUPT, item.offset, -1)
        if self.end is None and self.footer is None and not self.findings:
            self._note(Problem.CUT, -1, -1)

    def _note(self, problem: Problem, offset: int, frame: int) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(problem, offset, frame))

    def _report(self, problem: Problem, offset: int, frame: int) -> None:
        if not self._tolerant:
            raise SealedCorruptError(problem, offset, frame)
        self._note(problem, offset, frame)
