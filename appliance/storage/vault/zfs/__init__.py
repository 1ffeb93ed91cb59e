"""Buckets as ZFS datasets, each under a key of its own; the same contract. `open_store` is the way in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from appliance.storage.vault.zfs.store import ZfsStore

DEADLINE_S: Final = 20.0


def open_store(
    root: str,
    mounts: Path,
    *,
    deadline_s: float = DEADLINE_S,
    fault: Callable[[str], None] = lambda step: None,
) -> ZfsStore:
    """A store on the dataset `root` (such as tank/rec), which is made where it is missing and the pool is there.

    `mounts`: a private directory, not on the pool, under which buckets are mounted. `deadline_s`: how long a call may take.
    Where the pool is not there the store is opened all the same: its calls fail until the pool comes, and `health` says so.
    StoreRefusedError where OpenZFS is not what the store may stand on, or `root` is somebody else's.
    """
    from appliance.storage.vault.zfs.store import (
        ZfsStore,  # here, because the agent imports this package and little more
    )

    store = ZfsStore(root, mounts, deadline_s=deadline_s, fault=fault)
    try:
        store.begin()
    except BaseException:
        store.close()
        raise
    return store
