"""Encrypted datasets, snapshots and holds through libzfs_core, as the vault uses them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import libzfs_core as lzc
import pytest
from conftest import Shell
from libzfs_core import exceptions
from libzfs_core._constants import zfs_keyformat, zio_encrypt

KEY_BYTES = 32


@pytest.fixture
def key() -> bytes:
    return os.urandom(KEY_BYTES)


@pytest.fixture
def dataset(pool: str, key: bytes, sh: Shell) -> Iterator[str]:
    """A raw-key encryption root, mounted by hand; gone after the test."""
    name = f"{pool}/sealed"
    properties = {
        b"encryption": zio_encrypt.ZIO_CRYPT_AES_256_GCM,
        b"keyformat": zfs_keyformat.ZFS_KEYFORMAT_RAW,
        b"keylocation": b"prompt",
    }
    lzc.lzc_create(name.encode(), "zfs", properties, key)
    sh("zfs", "set", "mountpoint=legacy", "canmount=noauto", name)
    yield name
    for mount in (f"{name}@guard", name):
        while any(line.split()[0] == mount for line in Path("/proc/mounts").read_text().splitlines()):
            sh("umount", mount)
    for snapshot in sh("zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-r", name).split():
        tags = lzc.lzc_get_holds(snapshot.encode())
        lzc.lzc_release({snapshot.encode(): list(tags)})
    sh("zfs", "destroy", "-r", name)


def mounted(name: str, place: Path, sh: Shell) -> Path:
    """Mounts a dataset or a snapshot."""
    place.mkdir(exist_ok=True)
    sh("mount", "-t", "zfs", *(["-o", "ro"] if "@" in name else []), name, str(place))
    return place


def test_a_raw_key_opens_and_only_that(dataset: str, key: bytes, tmp_path: Path, sh: Shell) -> None:
    properties = sh(
        "zfs", "get", "-H", "-o", "value", "encryption,keyformat,keystatus,encryptionroot", dataset
    ).split()
    assert properties == ["aes-256-gcm", "raw", "available", dataset]
    place = mounted(dataset, tmp_path / "live", sh)
    (place / "file").write_bytes(b"kept")
    with pytest.raises(exceptions.DatasetBusy):
        lzc.lzc_unload_key(dataset.encode())
    sh("umount", dataset)
    lzc.lzc_unload_key(dataset.encode())
    assert "key not loaded" in sh("mount", "-t", "zfs", dataset, str(place), code=2)
    with pytest.raises(exceptions.ZFSError):
        lzc.lzc_load_key(dataset.encode(), False, bytes(KEY_BYTES))
    lzc.lzc_load_key(dataset.encode(), False, key)
    assert (mounted(dataset, place, sh) / "file").read_bytes() == b"kept"


def test_a_held_snapshot_keeps_destroy_out_and_a_released_one_does_not(dataset: str, sh: Shell) -> None:
    guard = f"{dataset}@guard".encode()
    lzc.lzc_snapshot([guard])
    assert lzc.lzc_hold({guard: b"earwitness"}) == []
    assert "it's being held" in sh("zfs", "destroy", "-r", dataset, code=1)
    with pytest.raises(exceptions.SnapshotDestructionFailure) as refused:
        lzc.lzc_destroy_snaps([guard], False)
    assert isinstance(refused.value.errors[0], exceptions.SnapshotIsHeld)
    assert lzc.lzc_exists(guard), "refused, it destroyed nothing"
    assert set(lzc.lzc_get_holds(guard)) == {b"earwitness"}
    lzc.lzc_release({guard: [b"earwitness"]})
    lzc.lzc_destroy_snaps([guard], False)
    assert not lzc.lzc_exists(guard)


def test_a_snapshot_shows_what_was_unlinked_later(dataset: str, tmp_path: Path, sh: Shell) -> None:
    place = mounted(dataset, tmp_path / "live", sh)
    (place / "file").write_bytes(b"deleted later")
    lzc.lzc_snapshot([f"{dataset}@guard".encode()])
    (place / "file").unlink()
    before = mounted(f"{dataset}@guard", tmp_path / "before", sh)
    assert (before / "file").read_bytes() == b"deleted later"
    with pytest.raises(OSError, match="Read-only"):
        (before / "file").unlink()


def test_a_hold_on_a_missing_snapshot_is_told_in_what_it_returns(dataset: str) -> None:
    missing = f"{dataset}@never".encode()
    assert lzc.lzc_hold({missing: b"earwitness"}) == [missing]
