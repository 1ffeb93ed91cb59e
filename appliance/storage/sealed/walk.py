"""Walks a sealed file from head to end without a key: frames, damage, footer. One pass, bounded memory.

Everything that reads a sealed file stands on this one walk, so that they cannot disagree about where a frame is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from appliance.storage.sealed.errors import Problem, SealedCorruptError
from appliance.storage.sealed.footer import Footer
from appliance.storage.sealed.layout import (
    CHAIN_BYTES,
    CHECK_BYTES,
    FOOTER_BYTES,
    FOOTER_MAGIC,
    FRAME_SYNC,
    HEADER_BYTES,
    PREFIX_BYTES,
    FrameKind,
    Header,
    Prefix,
    leaf_hash,
)

_PIECE = 1 << 18
# A hostile file may be full of beginnings that are none: each costs what it makes us hash, and something at least.
_SEARCH_BUDGET = 256 << 20
_SEARCH_COST = 4096
_BEGINNING = re.compile(re.escape(FRAME_SYNC) + b"|" + re.escape(FOOTER_MAGIC))


class Source(Protocol):
    """What is read from: anything with a blocking `read`."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; empty at the end."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose checksum holds."""

    offset: int
    prefix: Prefix
    raw: bytes  # prefix and ciphertext
    leaf: bytes
    misplaced: bool  # its counter or chain does not follow what stood before

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return len(self.raw) + CHECK_BYTES


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are neither frame nor footer. `frame` is the number of the frame that should be there."""

    offset: int
    length: int
    frame: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class FooterFound:
    """The footer, or None where its bytes are not what a vault writes."""

    offset: int
    length: int
    footer: Footer | None


class _Window:
    """Bytes of a stream from `offset` on, held as long as they may be needed."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._buffer = bytearray()
        self.offset = 0
        self._end = False

    def want(self, count: int) -> bool:
        """Holds `count` bytes if the file has them."""
        while len(self._buffer) < count and not self._end:
            piece = self._source.read(max(_PIECE, count - len(self._buffer)))
            if not piece:
                self._end = True
            self._buffer += piece
        return len(self._buffer) >= count

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes."""
        self.want(count)
        with memoryview(self._buffer) as view:
            return bytes(view[:count])

    def find(self, at: int) -> int:
        """Where a frame or footer may next begin among the bytes held; -1: nowhere."""
        match = _BEGINNING.search(self._buffer, at)
        return match.start() if match else -1

    def held(self) -> int:
        return len(self._buffer)

    def drop(self, count: int) -> None:
        """Forgets the first `count` bytes."""
        del self._buffer[:count]
        self.offset += count


def walk(source: Source) -> Iterator[Header | Frame | Damage | FooterFound]:
    """First the header (errors as in Header.parse), then what follows in order of the file.

    After damage the walk goes on at the next frame or footer whose checksum holds.
    """
    window = _Window(source)
    raw_header = window.peek(HEADER_BYTES)
    if not raw_header:
        raise SealedCorruptError(Problem.HEADER_CUT, 0, -1)
    yield Header.parse(raw_header)
    window.drop(HEADER_BYTES)
    chain: bytes | None = leaf_hash(raw_header)[:CHAIN_BYTES]
    counter = 0
    ended = False
    budget = _SEARCH_BUDGET
    while window.want(1):
        if window.peek(len(FOOTER_MAGIC)) == FOOTER_MAGIC:
            raw = window.peek(FOOTER_BYTES)
            yield FooterFound(window.offset, len(raw), Footer.parse(raw))
            window.drop(len(raw))
            if window.want(1):
                yield from _rest(window, counter)
            return
        frame = _frame_at(window)
        if frame is not None:
            prefix, raw, leaf = frame
            if chain is None:  # after damage: how many frames it took is not known
                misplaced = ended or prefix.counter < counter
            else:
                misplaced = ended or prefix.counter != counter or prefix.chain != chain
            yield Frame(window.offset, prefix, raw, leaf, misplaced)
            ended = ended or prefix.kind == FrameKind.LAST
            counter = prefix.counter + 1
            chain = leaf[:CHAIN_BYTES]
            window.drop(len(raw) + CHECK_BYTES)
            continue
        offset = window.offset
        problem, budget = _search(window, budget)
        yield Damage(offset, window.offset - offset, counter, problem)
        chain = None  # what stood here is not known, so neither is what must follow


def _rest(window: _Window, counter: int) -> Iterator[Damage]:
    start = window.offset
    while window.want(1):
        window.drop(window.held())
    yield Damage(start, window.offset - start, counter, Problem.TRAILING)


def _frame_at(window: _Window) -> tuple[Prefix, bytes, bytes] | None:
    prefix = Prefix.parse(window.peek(PREFIX_BYTES))
    if prefix is None:
        return None
    body = PREFIX_BYTES + prefix.length
    whole = window.peek(body + CHECK_BYTES)
    if len(whole) < body + CHECK_BYTES:
        return None
    raw = whole[:body]
    leaf = leaf_hash(raw)
    return (prefix, raw, leaf) if whole[body:] == leaf[:CHECK_BYTES] else None


def _search(window: _Window, budget: int) -> tuple[Problem, int]:
    """Drops bytes up to the next frame or footer that holds.

    TORN where there is none to the end of the file; FRAME_CORRUPT where there is one, or the budget went on looking.
    """
    window.drop(1)
    while True:
        window.want(_PIECE)
        at = window.find(0)
        if at < 0:
            # A beginning may straddle the end of what is held.
            window.drop(max(window.held() - len(FOOTER_MAGIC) + 1, 0))
            if window.want(len(FOOTER_MAGIC)):
                continue
            window.drop(window.held())
            return Problem.TORN, budget
        window.drop(at)
        if window.peek(len(FOOTER_MAGIC)) == FOOTER_MAGIC:
            budget -= _SEARCH_COST
            if Footer.parse(window.peek(FOOTER_BYTES)) is not None:
                return Problem.FRAME_CORRUPT, budget
        elif (prefix := Prefix.parse(window.peek(PREFIX_BYTES))) is not None:
            budget -= prefix.length + _SEARCH_COST
            if budget > 0 and _frame_at(window) is not None:
                return Problem.FRAME_CORRUPT, budget
        else:
            budget -= _SEARCH_COST
        if budget <= 0:
            while window.want(1):
                window.drop(window.held())
            return Problem.FRAME_CORRUPT, budget
        window.drop(1)
