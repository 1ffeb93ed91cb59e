"""The tree against a naive one written from the RFC's definitions, and against the known answers of RFC 6962's users."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit import tree
from appliance.audit.errors import ProofError, TreeSizeError

# The leaves and roots of the test vectors of Certificate Transparency.
LEAVES = [
    bytes.fromhex(one)
    for one in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return naive_path(m, leaves[:k]) + [naive_root(leaves[k:])]
    return naive_path(m - k, leaves[k:]) + [naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], known: bool) -> list[bytes]:
    """SUBPROOF of section 2.1.2."""
    if m == len(leaves):
        return [] if known else [naive_root(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return naive_subproof(m, leaves[:k], known) + [naive_root(leaves[k:])]
    return naive_subproof(m - k, leaves[k:], False) + [naive_root(leaves[:k])]


class Kept:
    """Hashes of complete subtrees, as they come out of a compact range."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.levels: dict[int, list[bytes]] = {}
        self.range = tree.CompactRange()
        for leaf in leaves:
            for level, found in self.range.append(tree.leaf_hash(leaf)):
                self.levels.setdefault(level, []).append(found)

    def get(self, level: int, number: int) -> bytes:
        return self.levels[level][number]


def entries(count: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(count)]


def test_known_roots():
    growing = tree.CompactRange()
    assert growing.root() == sha256(b"").digest()
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        growing.append(tree.leaf_hash(leaf))
        assert growing.root().hex() == root


def test_every_proof_up_to_a_size():
    for size in range(1, 34):
        leaves = entries(size)
        kept = Kept(leaves)
        root = naive_root(leaves)
        assert kept.range.root() == root == tree.root_of(size, kept.get)
        assert tree.CompactRange.kept(size, kept.get).root() == root
        for index in range(size):
            proof = tree.inclusion_proof(index, size, kept.get)
            assert proof == naive_path(index, leaves)
            tree.verify_inclusion(index, size, tree.leaf_hash(leaves[index]), proof, root)
        for first in range(1, size + 1):
            proof = tree.consistency_proof(first, size, kept.get)
            assert proof == naive_subproof(first, leaves, True)
            tree.verify_consistency(first, size, proof, naive_root(leaves[:first]), root)
        assert tree.consistency_proof(0, size, kept.get) == []
        tree.verify_consistency(0, size, [], tree.EMPTY, root)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_what_is_not_so_is_not_proven(data):
    size = data.draw(st.integers(2, 300))
    leaves = entries(size)
    kept = Kept(leaves)
    root = kept.range.root()
    index = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion_proof(index, size, kept.get)
    tree.verify_inclusion(index, size, tree.leaf_hash(leaves[index]), proof, root)
    other = data.draw(st.integers(0, size - 1).filter(lambda one: one != index))
    spoiled = [list(proof) for _ in range(3)]
    place = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    flipped = bytearray(proof[place])
    flipped[bit // 8] ^= 1 << bit % 8
    spoiled[0][place] = bytes(flipped)
    del spoiled[1][place]
    spoiled[2].insert(place, proof[place])
    for one in spoiled:
        with pytest.raises(ProofError):
            tree.verify_inclusion(index, size, tree.leaf_hash(leaves[index]), one, root)
    with pytest.raises(ProofError):
        tree.verify_inclusion(index, size, tree.leaf_hash(leaves[other]), proof, root)
    with pytest.raises(ProofError):
        tree.verify_inclusion(other, size, tree.leaf_hash(leaves[index]), proof, root)
    first = data.draw(st.integers(1, size - 1))
    chain = tree.consistency_proof(first, size, kept.get)
    old = naive_root(leaves[:first])
    tree.verify_consistency(first, size, chain, old, root)
    for one in (chain[:-1], chain + [root], [bytes(32)] * len(chain)):
        with pytest.raises(ProofError):
            tree.verify_consistency(first, size, one, old, root)
    with pytest.raises(ProofError):
        tree.verify_consistency(first, size, chain, naive_root(leaves[: first - 1]), root)


def test_hostile_sizes_and_proofs_are_refused():
    kept = Kept(entries(4))
    for index, size in ((4, 4), (-1, 4), (0, 0), (0, 2**63)):
        with pytest.raises(TreeSizeError):
            tree.inclusion_proof(index, size, kept.get)
        with pytest.raises(ProofError):
            tree.verify_inclusion(index, size, bytes(32), [], bytes(32))
    for first, second in ((5, 4), (-1, 4), (1, 2**63)):
        with pytest.raises(TreeSizeError):
            tree.consistency_proof(first, second, kept.get)
        with pytest.raises(ProofError):
            tree.verify_consistency(first, second, [bytes(32)], bytes(32), bytes(32))
    for proof in ([bytes(32)] * 65, [bytes(31)], [b""]):
        with pytest.raises(ProofError):
            tree.verify_inclusion(0, 2, bytes(32), proof, bytes(32))
        with pytest.raises(ProofError):
            tree.verify_consistency(1, 2, proof, bytes(32), bytes(32))
    with pytest.raises(TreeSizeError):
        tree.CompactRange(3, [bytes(32)])
