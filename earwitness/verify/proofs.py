"""Proofs of a Merkle tree log (RFC 9162 section 2.1.3.2, 2.1.4.2), checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

MAX_PROOF: Final = 64


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the leaf is number `index` of the tree of that size and root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or len(proof) > MAX_PROOF:
        return False
    at, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            node = _node(sibling, node)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            node = _node(node, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and node == root


def consistent(first: int, old: bytes, second: int, new: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of size `second` begins with that of size `first` (RFC 9162 section 2.1.4.2)."""
    if not 0 <= first <= second or len(proof) > MAX_PROOF:
        return False
    if first == second:
        return not proof and old == new
    if first == 0:
        return not proof
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, old)
    if not path:
        return False
    at, last = first - 1, second - 1
    while at & 1:
        at >>= 1
        last >>= 1
    one = two = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            one, two = _node(sibling, one), _node(sibling, two)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            two = _node(two, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and one == old and two == new
