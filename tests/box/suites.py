"""The suites that run inside the guest: each line is one run of pytest there, in a guest of its own.

Emulated, the vault's whole suite takes the better part of an hour: EARWITNESS_BOX_FULL=1 asks for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

FULL = os.environ.get("EARWITNESS_BOX_FULL", "") not in ("", "0")
_ZFS = ("--backend", "zfs")
_MANY = "not crash_at and not a_crash_at_every_step and not many_hands and not go_in_batches"


@dataclass(frozen=True)
class Suite:
    """A name, the words for pytest, how many empty data disks it wants, and seconds until it is given up."""

    name: str
    words: tuple[str, ...]
    disks: int = 2
    timeout: float = 900.0


def _vault(name: str, *words: str, timeout: float = 1500.0) -> Suite:
    return Suite(name, (*_ZFS, *words), disks=3, timeout=timeout if not FULL else 4 * timeout)


_VAULT = "tests/storage/vault"
_CHOSEN = (
    f"{_VAULT}/test_vault_retention.py",
    f"{_VAULT}/test_vault_shred.py",
    f"{_VAULT}/test_vault_trouble.py",
    f"{_VAULT}/test_vault_holdings.py",
)
SUITES = (
    Suite("inside", ("tests/box/inside",)),
    _vault("contract", f"{_VAULT}/contract"),
    _vault("vault", *((_VAULT, "--ignore", f"{_VAULT}/contract") if FULL else (*_CHOSEN, "-k", _MANY))),
    _vault("replica", "tests/storage/replica", *(() if FULL else ("-k", _MANY))),
)
