"""The suites that run inside the guest: each line is one run of pytest there, one after the other.

Emulated, the vault's whole suite takes the better part of an hour: EARWITNESS_BOX_FULL=1 asks for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

FULL = os.environ.get("EARWITNESS_BOX_FULL", "") not in ("", "0")
_ZFS = ("--backend", "zfs")
# What takes longest there, and what does not depend on what is beneath.
_CHOSEN = " and ".join(
    f"not {word}"
    for word in ("crash", "many_hands", "batches", "names", "tags_are", "no_name", "no_file", "slices")
)


@dataclass(frozen=True)
class Suite:
    """A name, the words for pytest, and seconds until it is given up."""

    name: str
    words: tuple[str, ...]
    timeout: float = 1200.0


def _vault(name: str, *words: str, timeout: float = 2400.0) -> Suite:
    return Suite(name, (*_ZFS, *words), timeout if not FULL else 4 * timeout)


_VAULT = "tests/storage/vault"
_PARTS = ("keys", "snapshots", "copies")
SUITES: tuple[Suite, ...] = (
    Suite("inside", ("tests/box/inside",)),
    _vault("contract", *(f"{_VAULT}/contract/test_contract_{part}.py" for part in _PARTS), "-k", _CHOSEN),
)
if FULL:
    SUITES = (
        SUITES[0],
        _vault("contract", f"{_VAULT}/contract"),
        _vault("vault", _VAULT, "--ignore", f"{_VAULT}/contract"),
        _vault("replica", "tests/storage/replica"),
        _vault("whole", "tests/whole/test_whole_retention.py"),
    )
