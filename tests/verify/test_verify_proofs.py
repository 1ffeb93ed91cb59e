"""Proofs against trees built straight from the definition (RFC 9162 section 2.1)."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from earwitness.verify.proofs import consistent, included, leaf_hash


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def split(size: int) -> int:
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node(root(leaves[:k]), root(leaves[k:]))


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162 section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*path(index, leaves[:k]), root(leaves[k:])]
    return [*path(index - k, leaves[k:]), root(leaves[:k])]


def growth(first: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """RFC 9162 section 2.1.4.1."""
    if first == len(leaves):
        return [] if whole else [root(leaves)]
    k = split(len(leaves))
    if first <= k:
        return [*growth(first, leaves[:k], whole), root(leaves[k:])]
    return [*growth(first - k, leaves[k:], False), root(leaves[:k])]


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(size)]


@given(st.integers(1, 70), st.data())
def test_an_entry_is_where_it_is_and_nowhere_else(size, data):
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof = path(index, leaves)
    assert included(leaves[index], index, size, proof, root(leaves))
    other = data.draw(st.integers(-1, size + 1))
    if other != index:
        assert not included(leaves[index], other, size, proof, root(leaves))
    assert not included(leaf_hash(b"x"), index, size, proof, root(leaves))
    assert not included(leaves[index], index, size, [*proof, proof[-1] if proof else b"x" * 32], root(leaves))
    if proof:
        assert not included(leaves[index], index, size, proof[:-1], root(leaves))


@given(st.integers(1, 70), st.data())
def test_a_log_grows_and_never_changes(size, data):
    leaves = leaves_of(size)
    first = data.draw(st.integers(1, size))
    proof = growth(first, leaves)
    old, new = root(leaves[:first]), root(leaves)
    assert consistent(first, old, size, new, proof)
    assert not consistent(first, b"x" * 32, size, new, proof)
    assert not consistent(first, old, size, b"x" * 32, proof)
    if first < size:
        changed = [leaf_hash(b"y"), *leaves[1:]]
        assert not consistent(first, old, size, root(changed), growth(first, changed))
        assert not consistent(first, old, size, new, proof[:-1])


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70), st.integers(), st.integers())
def test_rubbish_proves_nothing(proof, first, second):
    root_ = b"r" * 32
    assert not included(b"l" * 32, first, second, proof, root_)
    if first != 0 and first != second:
        assert not consistent(first, root_, second, b"n" * 32, proof)
