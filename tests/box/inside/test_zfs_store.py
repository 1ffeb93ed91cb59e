"""The ZFS backend on a real pool, beyond the contract: what others do to datasets, and what a crash or a hang leaves."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libzfs_core
import pytest
from conftest import Shell, until

from appliance.model import new_id
from appliance.storage.names import BucketId, SnapshotId
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketKeyError,
    SnapshotsRemainError,
    StoreRefusedError,
    StoreSuspendedError,
    StoreUnavailableError,
)
from appliance.storage.vault.stored import BucketState
from appliance.storage.vault.zfs import lzc, open_store
from appliance.storage.vault.zfs.store import ZfsStore
from appliance.storage.vault.zfs.trouble import Trouble

KEY = bytes(range(32))
MOUNTS = Path("/run/zfs-store-test")


@pytest.fixture(scope="module")
def store(pool: str, sh: Shell) -> Iterator[ZfsStore]:
    sh("zfs", "create", "-o", "canmount=off", "-o", "mountpoint=none", f"{pool}/test")
    made = open_store(f"{pool}/test/rec", MOUNTS, deadline_s=30.0)
    yield made
    made.close()


@pytest.fixture
def root(pool: str) -> str:
    return f"{pool}/test/rec"


def fresh(slice_: str = "2026-11-25") -> BucketId:
    return BucketId(new_id(), new_id(), slice_)


def put(store: ZfsStore, bucket: BucketId, folder: Path, raw: bytes = b"sealed") -> str:
    name = new_id()
    (folder / name).write_bytes(raw)
    store.write(bucket, name, folder / name)
    return name


def filled(store: ZfsStore, folder: Path) -> tuple[BucketId, str]:
    bucket = fresh()
    store.create(bucket, KEY)
    return bucket, put(store, bucket, folder)


def place(bucket: BucketId) -> Path:
    return MOUNTS / bucket.path.replace("/", ".")


def prop(sh: Shell, name: str, dataset: str) -> str:
    return sh("zfs", "get", "-H", "-p", "-o", "value", name, dataset).strip()


def test_a_package_that_hides_debians_library_is_refused(
    store: ZfsStore, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: store.health() == [])
    shadow = tmp_path / "site-packages" / "libzfs_core"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("def lzc_create(name, ds_type='zfs', props=None): ...\n")
    monkeypatch.setenv("PYTHONPATH", str(shadow.parent))
    with pytest.raises(StoreRefusedError) as refused:
        open_store(root, MOUNTS)
    assert "hides it" in refused.value.message and str(shadow) in str(refused.value.data["found"])


def test_datasets_are_as_they_should_be(store: ZfsStore, root: str, tmp_path: Path, sh: Shell) -> None:
    bucket, _ = filled(store, tmp_path)
    dataset = f"{root}/{bucket.path}"
    wanted = {
        "encryption": "aes-256-gcm",
        "keyformat": "raw",
        "encryptionroot": dataset,
        "recordsize": "131072",
        "atime": "off",
        "compression": "off",
        "dedup": "off",
        "mountpoint": "legacy",
        "canmount": "noauto",
        "devices": "off",
        "setuid": "off",
        "exec": "off",
    }
    assert {name: prop(sh, name, dataset) for name in wanted} == wanted
    assert prop(sh, "xattr", dataset) in ("sa", "on")
    for parent in (root, f"{root}/{bucket.tenant_id}", f"{root}/{bucket.tenant_id}/{bucket.line_id}"):
        assert [prop(sh, name, parent) for name in ("encryption", "canmount")] == ["off", "off"]
    (line,) = [line for line in Path("/proc/mounts").read_text().splitlines() if line.startswith(dataset)]
    assert {"nodev", "nosuid", "noexec", "noatime"} <= set(line.split()[3].split(","))
    assert sh("zfs", "destroy", "-r", dataset, code=1), "the guard keeps a stray command away"
    assert store.state(bucket) is BucketState.OPEN


def test_a_mark_tells_whether_a_bucket_was_closed_in_good_order(
    store: ZfsStore, root: str, tmp_path: Path, sh: Shell
) -> None:
    bucket, name = filled(store, tmp_path)
    dataset = f"{root}/{bucket.path}"
    assert prop(sh, "ew:open", dataset) == "1"
    store.lock(bucket)
    assert prop(sh, "ew:open", dataset) == "-"
    store.unlock(bucket, KEY)
    assert store.find(bucket, name) and prop(sh, "ew:open", dataset) == "-", "reading marks nothing"
    store.snapshot([bucket], "g-1")
    put(store, bucket, tmp_path)
    assert prop(sh, "ew:open", dataset) == "1"


def test_a_bucket_that_a_crash_left_half_made_is_completed_with_its_key_alone(
    store: ZfsStore, root: str, tmp_path: Path, sh: Shell
) -> None:
    sibling, _ = filled(store, tmp_path)
    bucket = BucketId(sibling.tenant_id, sibling.line_id, "2026-11-26")
    dataset = f"{root}/{bucket.path}"
    lzc.create(dataset, {}, KEY)  # the properties come in a second transaction
    assert store.state(bucket) is BucketState.ABSENT and bucket.path in list(store.survey().strangers)
    store.destroy(bucket)
    with pytest.raises(BucketKeyError):
        store.create(bucket, bytes(32))
    assert bucket.path in list(store.survey().strangers), "it is not touched"
    store.create(bucket, KEY)
    assert store.state(bucket) is BucketState.OPEN and bucket.path not in list(store.survey().strangers)
    assert [prop(sh, name, dataset) for name in ("mountpoint", "canmount", "ew:kind")] == [
        "legacy",
        "noauto",
        "bucket",
    ]
    name = put(store, bucket, tmp_path)
    assert store.find(bucket, name)
    (guard,) = store.snapshots(bucket)
    assert guard.holds == {"ew.guard"}


def test_what_others_made_is_told_and_left_alone(
    store: ZfsStore, root: str, tmp_path: Path, sh: Shell
) -> None:
    bucket, _ = filled(store, tmp_path)
    above = f"{root}/{bucket.tenant_id}"
    plain = BucketId(bucket.tenant_id, bucket.line_id, "2026-11-27")
    sh("zfs", "create", "-o", "canmount=off", f"{root}/{plain.path}")
    sh("zfs", "create", "-V", "1M", "-s", f"{above}/volume")
    sh("zfs", "create", "-o", "canmount=off", f"{root}/{bucket.path}/below")
    sh("zfs", "snapshot", f"{root}/{bucket.path}@daily")
    sh("zfs", "snapshot", f"{above}@g-1")
    (place(bucket) / "notes").write_text("somebody's")
    foreign = {
        plain.path,
        f"{bucket.tenant_id}/volume",
        f"{bucket.path}/below",
        f"{bucket.path}@daily",
        f"{bucket.tenant_id}@g-1",
        f"{bucket.path}/notes",
    }
    assert {one for one in store.survey().strangers if one.startswith(bucket.tenant_id)} == foreign
    with pytest.raises(BucketKeyError):
        store.create(plain, KEY)
    store.destroy(plain)
    with pytest.raises(SnapshotsRemainError) as left:
        store.destroy(bucket)
    assert left.value.data["snapshots"] == [f"{bucket.path}@daily", f"{bucket.path}/below"]
    assert {one for one in store.survey().strangers if one.startswith(bucket.tenant_id)} == foreign
    assert [one.id.name for one in store.snapshots(bucket)] == ["guard"]


def test_nothing_is_written_where_a_bucket_is_not_mounted(
    store: ZfsStore, root: str, tmp_path: Path, sh: Shell
) -> None:
    bucket, _ = filled(store, tmp_path)
    sh("umount", str(place(bucket)))
    name = put(store, bucket, tmp_path, b"after")
    sh("umount", str(place(bucket)))
    assert os.listdir(place(bucket)) == [], "not a byte beneath"
    assert store.find(bucket, name)
    sh("mount", "-t", "tmpfs", "none", str(place(bucket)))
    with pytest.raises(StoreUnavailableError) as astray:
        put(store, bucket, tmp_path)
    assert astray.value.data["errno"] == errno.ESTALE and os.listdir(place(bucket)) == []
    sh("umount", str(place(bucket)))
    with store.read(bucket, name) as file:
        assert file.read() == b"after"


def test_a_bucket_that_another_process_looks_into_is_busy(store: ZfsStore, root: str, tmp_path: Path) -> None:
    bucket, _ = filled(store, tmp_path)
    process = subprocess.Popen(["sleep", "600"], cwd=place(bucket))
    try:
        before = time.monotonic()
        for refused in (store.lock, store.destroy):
            with pytest.raises(BucketBusyError):
                refused(bucket)
        assert time.monotonic() - before < 20
        assert store.state(bucket) is BucketState.OPEN and [
            one.id.name for one in store.snapshots(bucket)
        ] == ["guard"]
    finally:
        process.kill()
        process.wait()
    store.lock(bucket)
    store.destroy(bucket)


def test_an_agent_that_dies_takes_nothing_with_it(store: ZfsStore, tmp_path: Path) -> None:
    bucket, name = filled(store, tmp_path)
    file = store.read(bucket, name)
    pid = agent()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    with pytest.raises(StoreUnavailableError):
        file.read()
    with pytest.raises(BucketBusyError):
        store.lock(bucket)
    file.close()
    store.lock(bucket)
    store.unlock(bucket, KEY)
    assert store.find(bucket, name)


def agent() -> int:
    """The youngest agent of this process."""
    found = subprocess.run(
        ["pgrep", "-n", "-P", str(os.getpid()), "-f", "vault.zfs.agent"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout)


def test_what_hangs_is_given_up_told_and_recovers(store: ZfsStore, tmp_path: Path) -> None:
    bucket, name = filled(store, tmp_path)
    short = open_store(store._tree.root, MOUNTS, deadline_s=30.0)
    try:
        short._worker._deadline_s = 1.0
        pid = agent()
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(StoreUnavailableError) as late:
            short.find(bucket, name)
        assert late.value.data["errno"] == errno.ETIMEDOUT and not isinstance(late.value, StoreSuspendedError)
        before = time.monotonic()
        ailments = short.health()
        assert time.monotonic() - before < 1.5, "a second, and what an emulated machine adds"
        assert "PoolStuck" in [one.name for one in ailments]
        os.kill(pid, signal.SIGCONT)
        until(lambda: not short._worker.stuck())
        short._worker._deadline_s = 30.0
        assert short.find(bucket, name)
    finally:
        os.kill(pid, signal.SIGCONT)
        short._worker.close()  # not `close`: that would lock the other's buckets


def test_no_more_is_mounted_than_may_be(store: ZfsStore, tmp_path: Path) -> None:
    store._mounts._most = 3
    try:
        made = [filled(store, tmp_path) for _ in range(3)]
        first, name = made[0]
        with store.read(first, name) as file:
            for bucket, other in made[1:]:
                store.snapshot([bucket], "g-1")
                with store.read(bucket, other, snapshot="g-1") as snapshot:
                    assert snapshot.read() == b"sealed"
            mounted = [line for line in Path("/proc/mounts").read_text().splitlines() if str(MOUNTS) in line]
            assert len(mounted) <= 3 and any(first.path in line for line in mounted)
            assert file.read() == b"sealed"
    finally:
        store._mounts._most = 200
    for bucket, name in made:
        assert store.find(bucket, name)


def test_a_full_pool_can_still_be_emptied(
    store: ZfsStore, pool: str, root: str, tmp_path: Path, sh: Shell
) -> None:
    bucket, _ = filled(store, tmp_path)
    big = put(store, bucket, tmp_path, os.urandom(8 << 20))
    store.snapshot([bucket], "g-1")
    reserve = f"{pool}/test/ew-reserve"
    assert int(prop(sh, "refreservation", reserve)) > 0
    # What is free, but for a little, is promised to somebody else.
    free = int(prop(sh, "available", root))
    sh("zfs", "create", "-o", "canmount=off", "-o", "mountpoint=none", f"{pool}/ballast")
    sh("zfs", "set", f"refreservation={free - (6 << 20)}", f"{pool}/ballast")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(12 << 20))
    with pytest.raises(Exception) as full:
        store.write(bucket, new_id(), source)
    assert getattr(full.value, "reason", "") == "STORE_FULL" and source.exists()
    until(lambda: [one.name for one in store.health()] == ["PoolFull"])
    store.snapshot([bucket], "g-2")
    store.remove(bucket, [big])
    store.destroy_snapshots([SnapshotId(bucket, "g-1"), SnapshotId(bucket, "g-2")])
    sh("zfs", "destroy", f"{pool}/ballast")
    assert store.space().free > 0
    assert int(prop(sh, "refreservation", reserve)) > 0, "the reserve is there again"
    store.write(bucket, new_id(), source)
    until(lambda: store.health() == [])


def test_a_program_and_the_commands_tell_the_same(store: ZfsStore, root: str, tmp_path: Path) -> None:
    from appliance.storage.vault.zfs.listing import by_command

    bucket, _ = filled(store, tmp_path)
    store.snapshot([bucket], "g-1", {"ew:kind": "grace", "ew:n": "7 %\u00e9"})
    store.hold([SnapshotId(bucket, "g-1")], "ew.grace")
    dataset = f"{root}/{bucket.path}"
    for names in (dataset, f"{root}/{bucket.tenant_id}"):
        told = store._datasets.facts([names], snapshots=True)
        assert told == by_command(store._commands, store._worker, names, True) and told
    assert by_command(store._commands, store._worker, f"{dataset}/none", True) == []
    (whole,) = store._datasets.facts([dataset], snapshots=True)
    for name in ("g-1", "guard", "g-2"):
        (one,) = store._datasets.facts([dataset], at=name)
        assert one.snapshots == tuple(there for there in whole.snapshots if there.name == name)
    (brief,) = store._datasets.facts([dataset], snapshots=True, brief=True)
    assert brief == replace(whole, origin="", own_root=False, guid=0, type="")
    (tagged,) = store._datasets.facts([dataset], tags=True)
    assert tagged == whole.with_tags_alone()
    store.lock(bucket)
    store.mark({bucket: "1:abc"})
    (marked,) = store._datasets.facts([dataset])
    (said,) = by_command(store._commands, store._worker, dataset, False)
    assert marked == said and (said.written, said.mark) == (False, "1:abc")
    assert libzfs_core.lzc_exists(dataset.encode()) and sys.version_info >= (3, 13)


def test_holds_are_told_of_the_snapshots_asked_for_in_buckets_of_ours(
    store: ZfsStore, root: str, tmp_path: Path, sh: Shell
) -> None:
    bucket, _ = filled(store, tmp_path)
    for name in ("g-1", "g-2", "g-3"):
        store.snapshot([bucket], name)
    free, once, twice = (SnapshotId(bucket, name) for name in ("g-1", "g-2", "g-3"))
    store.hold([once, twice], "ew.grace")
    sh("zfs", "hold", "somebody's", f"{root}/{bucket.path}@{twice.name}")
    foreign = BucketId(bucket.tenant_id, bucket.line_id, "2026-11-26")
    sh("zfs", "create", "-o", "mountpoint=none", f"{root}/{foreign.path}")
    sh("zfs", "snapshot", f"{root}/{foreign.path}@g-1")
    asked = [
        free,
        once,
        twice,
        SnapshotId(bucket, "g-4"),
        SnapshotId(foreign, "g-1"),
        SnapshotId(fresh(), "g-1"),
    ]
    told = {free: frozenset(), once: frozenset({"ew.grace"}), twice: frozenset({"ew.grace", "somebody's"})}
    assert store._datasets.held(asked) == told
    assert store._datasets.held([]) == {}
    # The same where no program can read them.
    refuse = lambda program, arguments: (_ for _ in ()).throw(Trouble(errno.ENOMEM, "Program"))  # noqa: E731
    store._datasets._read, read = refuse, store._datasets._read  # type: ignore[method-assign]
    try:
        assert store._datasets.held(asked[:5]) == told
    finally:
        store._datasets._read = read  # type: ignore[method-assign]
    sh("zfs", "release", "somebody's", f"{root}/{bucket.path}@{twice.name}")
