"""Many buckets and snapshots: everything answers, and what is filed meanwhile is whole. Figures are printed, not judged.

EARWITNESS_BOX_BUCKETS says how many, each with ten snapshots; 2,000 is what a release is held to. It takes too long to be
part of every run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import pytest

from image.guest.session import Guest

DISK = 16 << 30  # bytes, sparse; an empty bucket takes about 0.7 MiB
BUCKETS = int(os.environ.get("EARWITNESS_BOX_BUCKETS", "0"))
LIMIT_S = 1200 + 4 * BUCKETS
STATE = "/dev/disk/by-id/virtio-d2"

pytestmark = [
    pytest.mark.timeout(2 * LIMIT_S + 120),
    pytest.mark.skipif(not BUCKETS, reason="asked for by EARWITNESS_BOX_BUCKETS"),
]


def progress(out: bytes, err: bytes) -> None:
    """What the scene says, as it goes: it takes long."""
    if sys.__stdout__ is not None:
        sys.__stdout__.write((out + err).decode(errors="replace"))
        sys.__stdout__.flush()


def test_many_buckets_and_snapshots(boot: Callable[..., Guest], tell: Callable[[str], None]) -> None:
    guest = boot(2, DISK)
    pool = ["zpool", "create", "-f", "-o", "ashift=12", "-O", "canmount=off", "-O", "mountpoint=none", "tank"]
    guest.run([*pool, "virtio-d1"])
    guest.run(["sh", "-c", f"mkfs.ext4 -q {STATE} && mkdir -p /state && mount {STATE} /state"])
    figures = {}
    for phase in ("build", "measure"):
        words = [
            "python",
            "/srv/earwitness/tests/box/scenes/scale.py",
            phase,
            str(BUCKETS),
            str(10 * BUCKETS),
        ]
        result = guest.run(words, LIMIT_S, output=progress)
        (line,) = [line for line in result.text.splitlines() if line.startswith("figures ")]
        figures |= json.loads(line.removeprefix("figures "))
    tell("scale: " + ", ".join(f"{name} {value:g}" for name, value in figures.items()))
    assert figures["filed_meanwhile"] > 0
    guest.close()
