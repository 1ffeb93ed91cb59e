"""What is wrong with the pool, and what to do. Answers within a second whatever the pool does.

The state comes from a file of the kernel that never blocks. The rest is looked up in a thread of its own, one at a
time: while that one waits, what it found before is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.model import EarwitnessError
from appliance.storage.vault.stored import Ailment, Space
from appliance.storage.vault.zfs.pool import MISSING, SUSPENDED, Pool
from appliance.storage.vault.zfs.trouble import Trouble

WAIT_S: Final = 0.7
FRESH_S: Final = 5.0
FULL_PART: Final = 0.03
FILLING_PART: Final = 0.10
_SOUND: Final = ("ONLINE", "AVAIL", "INUSE")


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found when the pool was last looked at."""

    status: dict[str, Any] = field(default_factory=dict)
    space: Space | None = None
    at: float = float("-inf")


class Health:
    """See the module. `look`: the pool's entry of `zpool status -j`, and the space."""

    def __init__(
        self,
        pool: Pool,
        look: Callable[[], tuple[dict[str, Any], Space]],
        stuck: Callable[[], int],
        relieved: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._look = look
        self._stuck = stuck
        self._relieved = relieved
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = Looked()
        self._looking: threading.Thread | None = None

    def ailments(self) -> list[Ailment]:
        """See the module."""
        return list(self._told())

    def _told(self) -> Iterator[Ailment]:
        name, state = self._pool.name, self._pool.state()
        if state == MISSING:
            yield Ailment(
                "PoolMissing",
                f"The pool {name} is not there: recordings wait in the spool. See that its disks are connected and "
                f"powered; then `zpool import {name}`.",
                alarm=True,
            )
            return
        if state == SUSPENDED:
            yield Ailment(
                "PoolSuspended",
                f"The pool {name} has lost more disks than it can do without and waits: recordings wait in the spool. "
                f"Connect the disks again; then `zpool clear {name}`.",
                alarm=True,
            )
        stuck = self._stuck()
        if stuck:
            yield Ailment(
                "PoolStuck",
                f"{stuck} calls into the pool {name} have not come back: a disk answers very slowly, or is gone. "
                "Look at the kernel's log.",
                alarm=state != SUSPENDED,
            )
        if state == SUSPENDED:
            return
        looked = self._fresh()
        yield from disks(name, looked.status)
        yield from self._room(name, looked.space)

    def _room(self, name: str, space: Space | None) -> Iterator[Ailment]:
        full = space is not None and space.total > 0 and space.free < space.total * FULL_PART
        if full or self._relieved():
            yield Ailment(
                "PoolFull",
                f"The pool {name} is full: recordings wait in the spool. Destroy what has expired, shorten retentions, or "
                "add disks.",
                alarm=True,
            )
        elif space is not None and space.free < space.total * FILLING_PART:
            yield Ailment(
                "PoolFilling",
                f"Less than a tenth of the pool {name} is free: add disks or shorten retentions.",
            )

    def _fresh(self) -> Looked:
        with self._lock:
            thread = self._looking
            if thread is None and self._clock() - self._looked.at > FRESH_S:
                thread = threading.Thread(target=self._refresh, name="zfs-health", daemon=True)
                self._looking = thread
                thread.start()
        if thread is not None:
            thread.join(WAIT_S)
        with self._lock:
            return self._looked

    def _refresh(self) -> None:
        found = None
        try:
            status, space = self._look()
            found = Looked(status, space, self._clock())
        except (EarwitnessError, Trouble):
            pass  # what was known stays; that calls do not come back is told from their number
        finally:
            with self._lock:
                self._looked = found or self._looked
                self._looking = None


def disks(name: str, status: dict[str, Any]) -> Iterator[Ailment]:
    """What `zpool status -j` says of a pool's disks and data."""
    state = str(status.get("state", "ONLINE")).upper()
    leaves = list(_leaves(status.get("vdevs", {})))
    broken = [
        f"{one['name']} ({str(one['state']).lower()})" for one in leaves if one.get("state") not in _SOUND
    ]
    if state != "ONLINE":
        which = f": {', '.join(broken)}" if broken else ""
        yield Ailment(
            "PoolDegraded",
            f"The pool {name} is {state.lower()}{which}. Recordings go on with less safety, or none: replace the disk with "
            f"`zpool replace {name}`.",
            alarm=True,
        )
    lost = int(status.get("error_count", 0) or 0)
    if lost:
        yield Ailment(
            "PoolErrors",
            f"{lost} places of the pool {name} cannot be read any more: `zpool status -v {name}` names the files. "
            "Take them from the replica.",
            alarm=True,
        )
        return
    counted = [
        one["name"] for one in leaves if any(_count(one, kind) for kind in ("read", "write", "checksum"))
    ]
    if counted:
        yield Ailment(
            "PoolErrors",
            f"Disks of the pool {name} have made errors, which were repaired: {', '.join(counted)}. Scrub the pool; "
            "replace a disk that goes on making them.",
        )


def _leaves(vdevs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for vdev in vdevs.values():
        below = vdev.get("vdevs")
        if below:
            yield from _leaves(below)
        else:
            yield vdev


def _count(vdev: dict[str, Any], kind: str) -> int:
    text = str(vdev.get(f"{kind}_errors", "0"))
    return int(text) if text.isdigit() else 1  # 1.5K and the like
