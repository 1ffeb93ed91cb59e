"""The Merkle tree hash of RFC 6962 section 2.1, built leaf by leaf in logarithmic memory."""

from __future__ import annotations

from hashlib import sha256


class MerkleTree:
    """Takes leaf hashes in order; `root()` may be asked at any time."""

    __slots__ = ("_size", "_stack")

    def __init__(self) -> None:
        self._stack: list[bytes] = []  # roots of the perfect subtrees, largest first
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, leaf: bytes) -> None:
        """One leaf hash, 32 bytes, already with its 0x00 prefix."""
        stack = self._stack
        size = self._size
        while size & 1:  # each trailing one bit is a perfect subtree that now gets its twin
            leaf = sha256(b"\x01" + stack.pop() + leaf).digest()
            size >>= 1
        stack.append(leaf)
        self._size += 1

    def root(self) -> bytes:
        """32 bytes; of no leaves, the hash of nothing."""
        if not self._stack:
            return sha256(b"").digest()
        node = self._stack[-1]
        for left in reversed(self._stack[:-1]):
            node = sha256(b"\x01" + left + node).digest()
        return node
