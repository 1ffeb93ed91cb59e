"""What every backend of the buckets must do; run here against the directory backend."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.model import new_id
from appliance.storage.vault.contract import BucketId, BucketState, BucketStore, SliceUnit, Stored, slice_of
from appliance.storage.vault.directory import DirectoryStore
from appliance.storage.vault.errors import (
    BucketNameError,
    StoredFileCorruptError,
    StoredFileExistsError,
    StoredFileMissingError,
    StoreFullError,
    StoreUnavailableError,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BucketStore]:
    (tmp_path / "vault").mkdir()
    yield DirectoryStore(tmp_path / "vault")


@pytest.fixture
def bucket() -> BucketId:
    return BucketId(new_id(), new_id(), "2026-11-25")


def put(store: BucketStore, bucket: BucketId, tmp_path: Path, content: bytes = b"sealed") -> str:
    name = new_id()
    source = tmp_path / name
    source.write_bytes(content)
    store.open_bucket(bucket)
    assert store.write(bucket, name, source) == len(content)
    assert not source.exists()
    return name


def content(store: BucketStore, bucket: BucketId, name: str, *, parked: bool = False) -> bytes:
    with store.read(bucket, name, parked=parked) as file:
        return file.read()


def test_a_bucket_is_absent_then_open(store: BucketStore, bucket: BucketId) -> None:
    assert store.state(bucket) is BucketState.ABSENT and list(store.buckets()) == []
    for _ in range(2):
        store.open_bucket(bucket)
        assert store.state(bucket) is BucketState.OPEN and list(store.buckets()) == [bucket]


def test_files_come_go_and_come_back(store: BucketStore, bucket: BucketId, tmp_path: Path) -> None:
    names = sorted(put(store, bucket, tmp_path) for _ in range(3))
    assert sorted(item.recording_id for item in store.files(bucket)) == names
    for _ in range(2):  # each step twice is success
        store.park(bucket, names[:2])
        assert [item.parked for item in sorted(store.files(bucket), key=lambda item: item.recording_id)] == [
            True,
            True,
            False,
        ]
    with pytest.raises(StoredFileMissingError):
        store.read(bucket, names[0])
    assert content(store, bucket, names[0], parked=True) == b"sealed"
    for _ in range(2):
        store.unpark(bucket, names[:1])
        assert content(store, bucket, names[0]) == b"sealed"
    for _ in range(2):
        store.erase(bucket, names[:2])
        assert [item.recording_id for item in store.files(bucket)] == names[2:]
    assert store.find(bucket, names[2]) == Stored(bucket, names[2], 6, False)
    assert store.find(bucket, names[0]) is None
    for missing in (store.park, store.unpark):
        with pytest.raises(StoredFileMissingError):
            missing(bucket, [names[0]])


def test_an_open_file_stays_readable_when_it_goes(
    store: BucketStore, bucket: BucketId, tmp_path: Path
) -> None:
    name = put(store, bucket, tmp_path)
    with store.read(bucket, name) as file:
        store.park(bucket, [name])
        store.erase(bucket, [name])
        assert file.read() == b"sealed"


def test_the_same_file_twice_is_success_another_is_refused(
    store: BucketStore, bucket: BucketId, tmp_path: Path
) -> None:
    name = put(store, bucket, tmp_path)
    source = tmp_path / "again"
    source.write_bytes(b"sealed")
    assert store.write(bucket, name, source) == 6 and not source.exists()
    source.write_bytes(b"others")
    with pytest.raises(StoredFileExistsError):
        store.write(bucket, name, source)
    assert source.read_bytes() == b"others" and content(store, bucket, name) == b"sealed"


@pytest.mark.parametrize(
    "parts",
    [
        ("..", "a" * 26, "2026-11-25"),
        ("a" * 26, "a" * 26, "../x"),
        ("a" * 26, "", "2026-11"),
        ("a" * 26, "a" * 26, "2026-11-25\n"),
    ],
)
def test_no_name_leads_elsewhere(parts: tuple[str, str, str], store: BucketStore, bucket: BucketId) -> None:
    with pytest.raises(BucketNameError):
        BucketId(*parts)
    for name in ("../x", "", "A" * 26):
        with pytest.raises(BucketNameError):
            store.read(bucket, name)


def test_strangers_are_told_and_left(store: BucketStore, bucket: BucketId, tmp_path: Path) -> None:
    name = put(store, bucket, tmp_path)
    folder = next((tmp_path / "vault").rglob(f"{name}.ewr")).parent
    (folder / "x.tmp").write_bytes(b"")
    (folder / f"{new_id()}.ewr").mkdir()
    (folder.parent / "2026-13-45-1").mkdir()
    (folder / f"{new_id()}.ewr.link").symlink_to("/etc/passwd")
    assert len(list(store.strangers())) == 4
    assert [item.recording_id for item in store.files(bucket)] == [name]


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_a_file_from_another_file_system_is_copied_and_compared(
    store: BucketStore, bucket: BucketId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(code, "other file system")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    name = put(store, bucket, tmp_path, os.urandom(3 << 20))
    assert [item.recording_id for item in store.files(bucket)] == [name] and not list(store.strangers())


def test_a_copy_that_comes_out_otherwise_is_not_taken(
    store: BucketStore, bucket: BucketId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "other file system")

    def fadvise(fd: int, *_: object) -> None:
        os.pwrite(fd, b"?", 0)  # the medium kept another byte

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    source = tmp_path / "source"
    source.write_bytes(b"sealed")
    store.open_bucket(bucket)
    with pytest.raises(StoredFileCorruptError):
        store.write(bucket, new_id(), source)
    assert (
        source.read_bytes() == b"sealed" and list(store.files(bucket)) == [] and not list(store.strangers())
    )


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, StoreFullError), (errno.EDQUOT, StoreFullError), (errno.EIO, StoreUnavailableError)],
)
def test_the_medium_fails_with_an_error_of_the_contract(
    store: BucketStore,
    bucket: BucketId,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    error: type[Exception],
) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    source = tmp_path / "source"
    source.write_bytes(b"sealed")
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", link)
        with pytest.raises(error):
            store.write(bucket, new_id(), source)
    assert source.read_bytes() == b"sealed"


def test_space_and_health(store: BucketStore, tmp_path: Path) -> None:
    space = store.space()
    assert 0 < space.free <= space.total and store.health() == []
    (tmp_path / "vault" / "buckets").rmdir()
    (tmp_path / "vault" / "buckets").write_text("in the way")
    (ailment,) = store.health()
    assert ailment.alarm


def test_slices() -> None:
    at = 1_796_083_200_000_000_000  # 2026-12-01
    assert [slice_of(at, unit) for unit in SliceUnit] == ["2026-12-01", "2026-W49", "2026-12"]
    assert slice_of(at - 1) == "2026-11-30"
    for unit in SliceUnit:
        BucketId(new_id(), new_id(), slice_of(at, unit))
