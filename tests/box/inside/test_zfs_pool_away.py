"""A pool that is not there when the store opens, that comes later, and whose disk lies about what was written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Shell, blocks

from appliance.model import new_id
from appliance.storage.names import BucketId
from appliance.storage.vault.errors import StoredFileCorruptError, StoreSuspendedError, StoreUnavailableError
from appliance.storage.vault.stored import BucketState
from appliance.storage.vault.zfs import open_store
from appliance.storage.vault.zfs.store import ZfsStore

KEY = bytes(range(32))
POOL = "away"
MOUNTS = Path("/run/zfs-away-test")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, sh: Shell) -> Iterator[Path]:
    """A pool on one file."""
    path = tmp_path_factory.mktemp("away") / "disk"
    with open(path, "wb") as file:
        file.truncate(256 << 20)
    sh("zpool", "create", "-f", "-o", "ashift=12", "-O", "mountpoint=none", POOL, str(path))
    yield path
    if Path(f"/proc/spl/kstat/zfs/{POOL}").exists():
        sh("zpool", "destroy", "-f", POOL)


def opened() -> ZfsStore:
    return open_store(f"{POOL}/rec", MOUNTS, deadline_s=30.0)


def test_a_pool_that_comes_later_is_found_and_damage_on_it_is_told(
    disk: Path, tmp_path: Path, sh: Shell
) -> None:
    store = opened()
    bucket, name, sound = BucketId(new_id(), new_id(), "2026-11-25"), new_id(), new_id()
    dataset = f"{POOL}/rec/{bucket.path}"
    store.create(bucket, KEY)
    raw = os.urandom(512 << 10)
    for one in (name, sound):
        (tmp_path / one).write_bytes(raw)
        store.write(bucket, one, tmp_path / one)
    number = os.stat(MOUNTS / bucket.path.replace("/", ".") / f"{name}.ewr").st_ino
    sh("zpool", "sync", POOL)
    found = blocks(dataset, number, sh)
    assert len(found) == 4
    store.close()
    sh("zpool", "export", POOL)

    store = opened()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError) as missing:
            store.state(bucket)
        assert not isinstance(missing.value, StoreSuspendedError)
    (told,) = store.health()
    assert told.name == "PoolMissing" and told.alarm

    with open(disk, "r+b") as file:
        file.seek(found[2])
        file.write(os.urandom(4096))
    sh("zpool", "import", "-d", str(disk.parent), POOL)
    assert store.state(bucket) is BucketState.LOCKED and list(store.buckets()) == [bucket], (
        "no restart was needed"
    )
    assert store.health() == []
    store.unlock(bucket, KEY)
    with store.read(bucket, sound) as file:
        assert file.read() == raw
    with store.read(bucket, name) as file:
        assert file.read(256 << 10) == raw[: 256 << 10]
        with pytest.raises(StoredFileCorruptError) as corrupt:
            file.read()
        assert corrupt.value.data == {"recording_id": name, "offset": 256 << 10}
    end = time.monotonic() + 60
    while not [one for one in store.health() if one.name == "PoolErrors" and one.alarm]:
        assert time.monotonic() < end, "damage is told"
        time.sleep(0.5)
    store.close()
