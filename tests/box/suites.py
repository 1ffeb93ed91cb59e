"""The suites that run inside the guest: each line is one run of pytest there, in a guest of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """A name, the words for pytest, how many empty data disks it wants, and seconds until it is given up."""

    name: str
    words: tuple[str, ...]
    disks: int = 2
    timeout: float = 900.0


SUITES = (Suite("inside", ("tests/box/inside",)),)
