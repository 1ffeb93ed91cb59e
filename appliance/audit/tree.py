"""The Merkle tree of RFC 6962 section 2.1 (RFC 9162 section 2.1): hashes, roots, proofs and their verification.

Sans-IO. A complete subtree of 2^level leaves is named by (level, number): number 3 of level 2 covers leaves 12 to 15.
Who keeps their hashes gives them by `get(level, number)`, so that a proof reads a few hashes and no entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from appliance.audit.errors import ProofError, TreeSizeError

HASH: Final = 32  # bytes
EMPTY: Final = sha256(b"").digest()
MAX_SIZE: Final = 2**62
MAX_PROOF: Final = 64  # hashes: no tree that there can be wants more

Get = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Of an entry's bytes; 32 bytes."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Of a node by its two children; 32 bytes each."""
    return sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The tree over the leaves so far, in logarithmic memory: the roots of its complete subtrees, largest first."""

    __slots__ = ("_stack", "size")

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        """`roots` of the complete subtrees of `size` leaves, largest first (`parts` names them)."""
        if len(roots) != size.bit_count():
            raise TreeSizeError("so many subtrees do not make a tree of this size", size=size)
        self.size = size
        self._stack = list(roots)

    @classmethod
    def kept(cls, size: int, get: Get) -> CompactRange:
        """Of hashes that are kept."""
        return cls(size, [get(level, number) for level, number in parts(0, size)])

    def append(self, leaf: bytes) -> list[tuple[int, bytes]]:
        """Add a leaf hash; gives the hashes of the subtrees that it completes, the leaf itself first: level, hash."""
        made = [(0, leaf)]
        size, level = self.size, 0
        while size & 1:  # each trailing one bit is a complete subtree that now gets its twin
            level += 1
            leaf = node_hash(self._stack.pop(), leaf)
            made.append((level, leaf))
            size >>= 1
        self._stack.append(leaf)
        self.size += 1
        return made

    def root(self) -> bytes:
        """32 bytes; of no leaves, the hash of nothing."""
        return _folded(self._stack) if self._stack else EMPTY


def parts(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The complete subtrees of leaves `start` to `end` (exclusive), largest first; `start` is where a subtree begins."""
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def root_of(size: int, get: Get) -> bytes:
    """Root hash of the tree of the first `size` leaves."""
    return _subtree(0, size, get) if size else EMPTY


def inclusion_proof(index: int, size: int, get: Get) -> list[bytes]:
    """Hashes from the leaf's sibling upwards (RFC 6962 section 2.1.1); TreeSizeError."""
    if not 0 <= index < size <= MAX_SIZE:
        raise TreeSizeError("no such leaf in a tree of this size", index=index, size=size)
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(middle, end, get))
            end = middle
        else:
            path.append(_subtree(start, middle, get))
            start = middle
    return path[::-1]


def consistency_proof(first: int, second: int, get: Get) -> list[bytes]:
    """That the tree of `first` leaves is the beginning of that of `second` (RFC 6962 section 2.1.2); TreeSizeError."""
    if not 0 <= first <= second <= MAX_SIZE:
        raise TreeSizeError("sizes should grow", first=first, second=second)
    path: list[bytes] = []
    start, end = 0, second
    known = True  # the subtree in question is a tree whose root the verifier has
    while first not in (0, end):
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_subtree(middle, end, get))
            end = middle
        else:
            path.append(_subtree(start, middle, get))
            start, known = middle, False
    if first and not known:
        path.append(_subtree(start, end, get))
    return path[::-1]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """ProofError where the proof does not lead from the leaf to the root (RFC 9162 section 2.1.3.2)."""
    _check_proof(proof)
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError("no such leaf in a tree of this size", index=index, size=size)
    number, last, found = index, size - 1, leaf
    for one in proof:
        if last == 0:
            raise ProofError("the proof is too long", index=index, size=size)
        if number & 1 or number == last:
            found = node_hash(one, found)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, one)
        number, last = number >> 1, last >> 1
    if last or found != root:
        raise ProofError("the proof does not lead to this root", index=index, size=size)


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """ProofError where the proof does not lead to both roots (RFC 9162 section 2.1.4.2)."""
    _check_proof(proof)
    if not 0 <= first <= second <= MAX_SIZE:
        raise ProofError("sizes should grow", first=first, second=second)
    wrong = ProofError("the proof does not lead to these roots", first=first, second=second)
    if first in (0, second):
        same = first_root == (second_root if first else EMPTY)
        if proof or not same:
            raise wrong
        return
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        raise wrong
    number, last = first - 1, second - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = path[0]
    for one in path[1:]:
        if last == 0:
            raise wrong
        if number & 1 or number == last:
            old, new = node_hash(one, old), node_hash(one, new)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            new = node_hash(new, one)
        number, last = number >> 1, last >> 1
    if last or old != first_root or new != second_root:
        raise wrong


def _split(count: int) -> int:
    """The largest power of two below a count above 1."""
    return 1 << ((count - 1).bit_length() - 1)


def _subtree(start: int, end: int, get: Get) -> bytes:
    return _folded([get(level, number) for level, number in parts(start, end)])


def _folded(roots: Sequence[bytes]) -> bytes:
    node = roots[-1]
    for left in reversed(roots[:-1]):
        node = node_hash(left, node)
    return node


def _check_proof(proof: Sequence[bytes]) -> None:
    if len(proof) > MAX_PROOF or any(len(one) != HASH for one in proof):
        raise ProofError("a proof has at most 64 hashes of 32 bytes")
