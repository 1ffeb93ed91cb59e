"""Files in buckets: they come whole, go, come back byte for byte, and are told from what was tampered with."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from contract_kit import KEY, bucket, content, filled, names, put
from ground import Ground

from appliance.model import new_id
from appliance.storage.names import BucketNameError
from appliance.storage.vault.contract import (
    BucketId,
    BucketState,
    BucketStore,
    SliceUnit,
    Stored,
    slice_end_ns,
    slice_of,
    slice_start_ns,
)
from appliance.storage.vault.errors import (
    BucketMissingError,
    StoredFileCorruptError,
    StoredFileExistsError,
    StoredFileMissingError,
)


def test_a_bucket_is_absent_then_open(store: BucketStore) -> None:
    made = bucket()
    assert store.state(made) is BucketState.ABSENT and list(store.buckets()) == []
    for _ in range(2):
        store.create(made, KEY)
        assert store.state(made) is BucketState.OPEN and list(store.buckets()) == [made]


def test_what_there_is_no_bucket_for_is_refused(store: BucketStore, tmp_path: Path) -> None:
    made = bucket()
    source = tmp_path / "source"
    source.write_bytes(b"sealed")
    for refused in (
        lambda: store.write(made, new_id(), source),
        lambda: store.read(made, new_id()),
        lambda: list(store.files(made)),
        lambda: store.find(made, new_id()),
        lambda: store.remove(made, [new_id()]),
        lambda: store.unlock(made, KEY),
        lambda: store.lock(made),
        lambda: store.snapshot([made], "g-1"),
    ):
        with pytest.raises(BucketMissingError):
            refused()
    assert source.read_bytes() == b"sealed" and list(store.buckets()) == []
    store.destroy(made)  # what is absent is destroyed already


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 400_001])
def test_what_was_written_is_read_from_anywhere(store: BucketStore, tmp_path: Path, size: int) -> None:
    made, raw = bucket(), os.urandom(size)
    store.create(made, KEY)
    name = put(store, made, tmp_path, raw)
    assert content(store, made, name) == raw
    assert store.find(made, name) == Stored(made, name, size)
    with store.read(made, name) as file:
        for at in (size // 2, 0, max(0, size - 3), size, size + 5):
            file.seek(at)
            assert file.read(70_000) == raw[at : at + 70_000]
        assert file.seek(0, os.SEEK_END) == size


def test_files_go_and_come_back_from_a_snapshot(store: BucketStore, tmp_path: Path) -> None:
    made, (first, second, third) = filled(store, tmp_path, 3)
    before = {name: content(store, made, name) for name in (first, second, third)}
    store.snapshot([made], "g-1")
    for _ in range(2):  # each step twice is success
        store.remove(made, [first, second])
        assert names(store, made) == [third] and store.find(made, first) is None
    with pytest.raises(StoredFileMissingError):
        store.read(made, first)
    assert content(store, made, first, "g-1") == before[first]
    assert names(store, made, "g-1") == sorted(before)
    for _ in range(2):
        store.restore(made, "g-1", [first])
        assert names(store, made) == sorted([first, third])
        assert content(store, made, first) == before[first]
    with pytest.raises(StoredFileMissingError):
        store.restore(made, "g-1", [second, new_id()])
    assert names(store, made) == sorted([first, third]), "all or none"


def test_an_open_file_stays_readable_when_it_goes(store: BucketStore, tmp_path: Path) -> None:
    made, (name, _) = filled(store, tmp_path)
    raw = content(store, made, name)
    with store.read(made, name) as file:
        store.remove(made, [name])
        assert file.read() == raw


def test_the_same_file_twice_is_success_another_is_refused(store: BucketStore, tmp_path: Path) -> None:
    made = bucket()
    store.create(made, KEY)
    name = put(store, made, tmp_path)
    put(store, made, tmp_path, b"sealed", name)
    source = tmp_path / "again"
    for other in (b"others", b"sealed and more", b""):
        source.write_bytes(other)
        with pytest.raises(StoredFileExistsError):
            store.write(made, name, source)
        assert source.read_bytes() == other and content(store, made, name) == b"sealed"


def test_a_file_that_came_back_over_another_is_refused(store: BucketStore, tmp_path: Path) -> None:
    made, (name, _) = filled(store, tmp_path)
    store.snapshot([made], "g-1")
    store.remove(made, [name])
    put(store, made, tmp_path, b"other bytes", name)
    with pytest.raises(StoredFileExistsError):
        store.restore(made, "g-1", [name])
    assert content(store, made, name) == b"other bytes"


@pytest.mark.parametrize(
    "parts",
    [
        ("..", "a" * 26, "2026-11-25"),
        ("a" * 26, "a" * 26, "../x"),
        ("a" * 26, "", "2026-11"),
        ("a" * 26, "a" * 26, "2026-11-25\n"),
        ("a" * 26, "hold", "2026-11-25"),
        ("a" * 26, "a" * 26, "a" * 26),
    ],
)
def test_no_name_leads_elsewhere(parts: tuple[str, str, str]) -> None:
    with pytest.raises(BucketNameError):
        BucketId(*parts)


@pytest.mark.parametrize("name", ["../x", "", "A" * 26, "a" * 27, "x/y", "a" * 26 + "\0"])
def test_no_file_has_a_name_that_is_not_ours(store: BucketStore, tmp_path: Path, name: str) -> None:
    made, _ = filled(store, tmp_path)
    source = tmp_path / "source"
    source.write_bytes(b"sealed")
    for refused in (
        lambda: store.read(made, name),
        lambda: store.write(made, name, source),
        lambda: store.remove(made, [name]),
        lambda: store.find(made, name),
    ):
        with pytest.raises(BucketNameError):
            refused()
    assert source.exists()


def test_damage_on_the_medium_is_told(
    store: BucketStore, ground: Ground, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    if pytestconfig.getoption("--backend") == "zfs":
        pytest.skip(
            "what is written into a mounted dataset is no damage to ZFS; the sealed file itself tells it"
        )
    made, (name, sound) = filled(store, tmp_path)
    ground.damage(made, name)
    with store.read(made, name) as file, pytest.raises(StoredFileCorruptError):
        file.read()
    assert content(store, made, sound)


def test_many_hands_at_once(store: BucketStore, tmp_path: Path) -> None:
    made = [bucket() for _ in range(3)]
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            own = made[number % 3]
            store.create(own, KEY)
            for turn in range(3):
                raw = os.urandom(5000)
                name = put(store, own, tmp_path, raw)
                store.snapshot([own], f"g-{number * 10 + turn + 1}")
                assert content(store, own, name) == raw
                store.remove(own, [name])
                store.restore(own, f"g-{number * 10 + turn + 1}", [name])
                assert content(store, own, name) == raw
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sum(len(names(store, item)) for item in made) == 18


def test_slices() -> None:
    at = 1_796_083_200_000_000_000  # 2026-12-01
    assert [slice_of(at, unit) for unit in SliceUnit] == ["2026-12-01", "2026-W49", "2026-12"]
    assert slice_of(at - 1) == "2026-11-30"
    for unit in SliceUnit:
        for moment in (at - 1, at, at + 40 * 86_400 * 10**9):
            slice_ = slice_of(moment, unit)
            BucketId(new_id(), new_id(), slice_)
            assert slice_start_ns(slice_) <= moment < slice_end_ns(slice_)
            assert slice_of(slice_end_ns(slice_), unit) != slice_
            assert (
                slice_of(slice_end_ns(slice_) - 1, unit) == slice_ == slice_of(slice_start_ns(slice_), unit)
            )
    for none in ("2026-13", "2026-02-30", "2026-W54", "0000-01"):
        with pytest.raises(BucketNameError):
            slice_end_ns(none)
