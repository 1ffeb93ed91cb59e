"""Who the copies are: a disk that is away, replaced, cloned, put back or of another box is told apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest_keystore import Box, Crash, Faults

from appliance.model import Kind, is_id, new_id
from appliance.storage.keystore import CopyState, copies, writing
from appliance.storage.keystore.errors import (
    KeyAbsentError,
    KeystoreCopyMissingError,
    KeystoreCopyPresentError,
    KeystoreCopyUnknownError,
    KeystoreCorruptError,
    KeystoreForeignError,
    KeystoreWriteError,
)


def present(box: Box) -> dict[str, CopyState]:
    return {item.directory: item for item in box.store.copies() if item.present}


def lost(box: Box) -> list[CopyState]:
    return [item for item in box.store.copies() if not item.present]


def away(box: Box, copy: int = 1) -> Path:
    """Takes a directory away."""
    return box.directories[copy].rename(box.directories[copy].with_name("away"))


def back(box: Box, path: Path, copy: int = 1) -> None:
    if box.directories[copy].exists():
        shutil.rmtree(box.directories[copy])
    path.rename(box.directories[copy])


def roots(box: Box) -> set[str]:
    return {name for name in box.files() if "root" in name}


def test_every_copy_bears_an_id_that_stays(box: Box) -> None:
    box.open()
    first = box.store.copies()
    assert [(item.directory, item.present, item.last_epoch) for item in first] == [
        ("a", True, 1),
        ("b", True, 1),
    ]
    assert len({item.id for item in first}) == 2 and all(is_id(item.id) for item in first)
    box.store.shred(box.fill(2)[:1])
    for _ in range(2):
        assert [item.last_epoch for item in box.store.copies()] == [2, 2]
        assert [item.id for item in box.store.copies()] == [item.id for item in first]
        assert box.store.findings == [] and box.store.degraded == []
        box.open(create=False)


@pytest.mark.parametrize("copy", [0, 1])
def test_an_empty_directory_becomes_a_new_copy_and_the_old_one_is_missing(box: Box, copy: int) -> None:
    box.open()
    names = box.fill(3)
    old = present(box)["ab"[copy]].id
    box.close()
    away(box, copy)
    box.open(create=False)
    assert present(box)["ab"[copy]].id != old
    assert lost(box) == [CopyState(old, "ab"[copy], False, 1)]
    # Everything but erasing goes on, over reopening and merging too.
    names += box.fill(2)
    key = box.store.create_bucket_key(box.tenant, "hold", "2026-11")
    box.store.pin(names[:1])
    box.store.unpin(names[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "JOURNAL_LIMIT", 1)
        assert box.store.compact()
    box.fill(1)
    box.open(create=False)
    assert box.store.bucket_key(box.tenant, "hold", "2026-11") == key and box.held() == box.keys
    before = box.files()
    for asked in (
        lambda: box.store.shred(names[:1]),
        lambda: box.store.shred([], buckets=[(box.tenant, "hold", "2026-11")]),
    ):
        with pytest.raises(KeystoreCopyMissingError) as error:
            asked()
        assert error.value.kind is Kind.PRECONDITION and error.value.data == {"copies": [old]}
    assert box.files() == before and box.held() == box.keys
    # What is not there was not there when the copy went either.
    assert box.store.shred([new_id()]).destroyed == ()


@pytest.mark.parametrize("how", ["reopened", "shred", "scrub"])
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_missing_copy_that_is_back_is_brought_up_to_date(box: Box, how: str, turns: int) -> None:
    box.open()
    names = box.fill(4)
    box.store.shred(names[:1])
    box.close()
    path = away(box)
    old = (path / "root-1").read_bytes()
    box.open(create=False)
    made = present(box)["b"].id
    box.fill(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "JOURNAL_LIMIT", 1)
        for _ in range(turns):
            box.store.compact()
    box.fill(1)
    box.keys.pop(names[0])
    if how == "reopened":
        box.close()
    back(box, path)
    if how == "reopened":
        box.open(create=False)
    elif how == "scrub":
        box.store.scrub()
    else:
        # The one that was made in its place is now the missing one.
        with pytest.raises(KeystoreCopyMissingError) as error:
            box.store.shred(names[1:2])
        assert error.value.data["copies"] == [made]
    assert [item.id for item in lost(box)] == [made]
    assert present(box)["b"].last_epoch == 2 + turns
    assert roots(box) == {f"a/root-{(turns + 1) % 2}", f"b/root-{(turns + 1) % 2}"}
    assert (old in box.files().values()) is (turns == 0)
    box.store.forget_copy(made)
    assert box.store.shred(names[1:2]).destroyed == (names[1],)
    box.keys.pop(names[1])
    box.close()
    for keep in (0, 1):
        # Each copy alone holds everything that is left.
        shutil.copytree(box.directories[keep].parent, box.directories[keep].parent.with_name(f"k{keep}"))
        alone = Box(box.directories[keep].parent.with_name(f"k{keep}"))
        shutil.rmtree(alone.directories[1 - keep])
        alone.open(create=False)
        assert alone.held() == box.keys
        alone.close()


def test_the_root_key_of_a_copy_that_is_back_is_overwritten_before_the_copy_counts(box: Box) -> None:
    box.open()
    names = box.fill(2)
    box.close()
    path = away(box)
    box.open(create=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "JOURNAL_LIMIT", 1)
        box.store.compact()
        box.store.compact()  # the active slot is the one that the old copy has its old key in
    made = present(box)["b"].id
    box.close()
    back(box, path)
    # Another name for the same file: what the file system would still have of it.
    (box.directories[1].parent / "block").hardlink_to(box.directories[1] / "root-0")
    old = (box.directories[1].parent / "block").read_bytes()
    box.open(create=False)
    assert (box.directories[1].parent / "block").read_bytes() != old
    assert (box.directories[1] / "root-0").read_bytes() == (box.directories[0] / "root-0").read_bytes()
    box.store.forget_copy(made)
    box.store.shred(names[:1])


def test_a_copy_whose_old_root_key_cannot_be_destroyed_does_not_count(box: Box, monkeypatch) -> None:
    box.open()
    names = box.fill(2)
    box.close()
    path = away(box)
    box.open(create=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "JOURNAL_LIMIT", 1)
        box.store.compact()
        box.store.compact()
    made = present(box)["b"].id
    box.close()
    back(box, path)
    from appliance.storage.keystore.rootslot import FileRootSlot

    real = FileRootSlot._destroy_slot

    def refuse(self: FileRootSlot, directory: Path, slot: int) -> None:
        if directory.name == "b" and slot == 0:
            raise OSError(30, "Read-only file system")
        real(self, directory, slot)

    with monkeypatch.context() as patch:
        patch.setattr(FileRootSlot, "_destroy_slot", refuse)
        box.open(create=False)
        assert box.held() == box.keys and box.store.degraded
        assert present(box)["b"].last_epoch == 1
        box.fill(1)
        with pytest.raises(Exception) as error:
            box.store.forget_copy(made)
            box.store.shred(names[:1])
        assert error.value.reason == "KEYSTORE_DEGRADED" and box.held() == box.keys
    assert box.store.shred(names[:1]).destroyed == (names[0],)
    assert present(box)["b"].last_epoch == 4


def test_a_copy_is_forgotten_only_when_it_is_known_and_away(box: Box) -> None:
    box.open()
    names, here = box.fill(2), present(box)["b"].id
    with pytest.raises(KeystoreCopyPresentError):
        box.store.forget_copy(here)
    with pytest.raises(KeystoreCopyUnknownError):
        box.store.forget_copy(new_id())
    path = away(box)
    box.store.forget_copy(here)  # seen without asking first
    assert lost(box) == []
    box.open(create=False)
    assert lost(box) == [] and box.store.degraded == []
    box.store.shred(names[:1])
    # It was not destroyed after all: what it holds is.
    back(box, path)
    box.open(create=False)
    assert present(box)["b"].id == here and any("not listed" in item for item in box.store.findings)
    assert names[0] not in box.store and roots(box) == {"a/root-1", "b/root-1"}


def test_a_disk_that_is_replaced_while_open_is_seen_before_the_next_shred(box: Box) -> None:
    box.open()
    names, here = box.fill(3), present(box)["b"].id
    away(box)
    box.directories[1].mkdir()
    with pytest.raises(KeystoreCopyMissingError) as error:
        box.store.shred(names[:1])
    assert error.value.data["copies"] == [here] and box.held() == box.keys
    assert box.store.findings
    box.fill(1)
    box.store.forget_copy(here)
    box.store.shred(names[:1])
    assert present(box)["b"].last_epoch == 2


def test_a_copy_that_goes_in_the_middle_of_a_shred_leaves_it_incomplete(box: Box) -> None:
    box.open()
    names, here = box.fill(3), present(box)["b"].id

    aside = box.directories[0].with_name("away")

    def fault(step: str) -> None:
        # The disk falls out once the keystore is open, and what is under it comes to the fore.
        if box.store is not None and step == "flipped in a" and not aside.exists():
            away(box)
            box.directories[1].mkdir()

    box.open(fault, create=False)
    with pytest.raises(KeystoreCopyMissingError) as error:
        box.store.shred(names[:1])
    assert error.value.data["copies"] == [here]
    assert names[0] not in box.store
    for _ in range(2):
        # It is gone here, and may still be there: that is no success, today or after a start.
        with pytest.raises(KeystoreCopyMissingError):
            box.store.shred(names[:1])
        box.open(create=False)
    assert lost(box)[0].last_epoch == 1
    made = present(box)["b"].id
    back(box, aside)
    box.store.scrub()
    assert [item.id for item in lost(box)] == [made] and roots(box) == {"a/root-1", "b/root-1"}
    box.store.forget_copy(made)
    assert box.store.shred(names[:1]).absent == (names[0],)


def test_a_cloned_directory_gets_an_id_of_its_own(box: Box) -> None:
    box.open()
    names, ids = box.fill(2), {item.directory: item.id for item in box.store.copies()}
    box.close()
    shutil.rmtree(box.directories[1])
    shutil.copytree(box.directories[0], box.directories[1])
    box.open(create=False)
    assert present(box)["a"].id == ids["a"] and present(box)["b"].id not in ids.values()
    assert [item.id for item in lost(box)] == [ids["b"]]
    with pytest.raises(KeystoreCopyMissingError):
        box.store.shred(names)


def test_directories_may_change_places(box: Box) -> None:
    box.open()
    names, ids = box.fill(2), {item.directory: item.id for item in box.store.copies()}
    box.close()
    path = away(box)
    box.directories[0].rename(box.directories[1])
    path.rename(box.directories[0])
    box.open(create=False)
    assert {item.directory: item.id for item in box.store.copies()} == {"a": ids["b"], "b": ids["a"]}
    box.store.shred(names)


# A file system that is not mounted.


def test_nothing_is_put_beneath_a_disk_that_is_not_mounted(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = {"b"}
    monkeypatch.setattr(copies, "is_mount", lambda directory: directory.name in mounted)
    box.open()
    names, here = box.fill(3), present(box)["b"].id
    box.close()
    path = away(box)
    mounted.clear()
    for _ in range(2):
        box.open(create=False)
        assert box.store.findings == ["b: its disk is not mounted"]
        assert [item.id for item in lost(box)] == [here] and set(present(box)) == {"a"}
        assert len(box.files()) == 5 and not any("b/" in name for name in box.files())
        box.fill(1)
        assert box.held() == box.keys
        with pytest.raises(KeystoreCopyMissingError):
            box.store.shred(names[:1])
    with monkeypatch.context() as patch:
        patch.setattr(writing, "JOURNAL_LIMIT", 1)
        assert box.store.compact()
    assert box.store.scrub() == ["b: its disk is not mounted"]
    # It is mounted while the keystore is open: nothing else is needed.
    back(box, path)
    mounted.add("b")
    assert box.store.shred(names[:1]).destroyed == (names[0],)
    assert present(box)["b"].id == here and lost(box) == [] and box.store.degraded == []
    box.keys.pop(names[0])
    box.open(create=False)
    assert box.held() == box.keys and box.store.findings == []


def test_a_new_disk_or_none_for_good_takes_a_word_of_the_operator(box: Box, monkeypatch) -> None:
    mounted = {"b"}
    monkeypatch.setattr(copies, "is_mount", lambda directory: directory.name in mounted)
    box.open()
    names, here = box.fill(3), present(box)["b"].id
    box.close()
    away(box)
    box.open(create=False)  # mounted and empty: a new disk
    second = present(box)["b"].id
    box.store.forget_copy(here)
    box.store.shred(names[:1])
    box.close()
    shutil.rmtree(box.directories[1])
    mounted.clear()
    box.open(create=False)
    assert set(present(box)) == {"a"}
    box.store.forget_copy(second)
    box.store.scrub()
    assert set(present(box)) == {"a", "b"} and lost(box) == []
    box.store.shred(names[1:2])


# Another box's.


def foreign(tmp_path: Path) -> Box:
    other = Box(tmp_path / "other")
    other.open()
    other.fill(3)
    for name in list(other.keys)[:2]:
        other.store.shred([name])
    other.close()
    return other


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("without_id", [False, True])
def test_another_keystore_in_one_directory_is_refused_and_not_touched(
    box: Box, tmp_path: Path, copy: int, without_id: bool
) -> None:
    other = foreign(tmp_path)
    box.open()
    box.fill(2)
    box.close()
    path = away(box, copy)
    shutil.copytree(other.directories[copy], box.directories[copy])
    if without_id:
        for directory in box.directories:
            (directory / "copy").unlink()
    before = box.files()
    for create in (True, False):
        with pytest.raises(KeystoreForeignError) as error:
            box.open(create=create)
        assert error.value.kind is Kind.PRECONDITION and error.value.data["directories"] == ["a", "b"]
    assert box.files() == before
    back(box, path, copy)
    box.open(create=False)
    assert box.held() == box.keys and lost(box) == []


def test_ids_of_another_keystore_than_the_content_are_refused(box: Box, tmp_path: Path) -> None:
    other = foreign(tmp_path)
    box.open()
    box.fill(2)
    box.close()
    for directory, source in zip(box.directories, other.directories, strict=True):
        shutil.copy(source / "copy", directory / "copy")
    before = box.files()
    with pytest.raises(KeystoreForeignError):
        box.open(create=False)
    assert box.files() == before


def test_another_keystore_that_comes_while_open_is_refused_and_not_touched(box: Box, tmp_path: Path) -> None:
    other = foreign(tmp_path)
    box.open()
    names = box.fill(2)
    path = away(box)
    shutil.copytree(other.directories[1], box.directories[1])
    before = {name: raw for name, raw in box.files().items() if name.startswith("b/")}
    box.fill(1)  # goes on, in one copy
    assert box.store.degraded
    for ask in (lambda: box.store.shred(names[:1]), box.store.scrub):
        with pytest.raises(KeystoreForeignError) as error:
            ask()
        assert error.value.data["directories"] == ["b"]
    assert {name: raw for name, raw in box.files().items() if name.startswith("b/")} == before
    back(box, path)
    box.store.shred(names[:1])
    assert lost(box) == [] and box.store.degraded == []


def test_nothing_is_written_into_a_journal_that_is_another_than_before(box: Box) -> None:
    box.open()
    box.fill(2)
    journal = box.directories[1] / "epoch-0000000001.journal"
    journal.write_bytes(journal.read_bytes()[:-40])
    before = journal.read_bytes()
    box.fill(1)
    assert journal.read_bytes() == before and box.store.degraded
    assert box.store.scrub() and box.store.degraded == []
    box.fill(1)
    box.close()
    shutil.rmtree(box.directories[0])
    box.open(create=False)
    assert box.held() == box.keys


def test_a_later_epoch_that_comes_while_open_is_not_overwritten(box: Box) -> None:
    box.open()
    box.fill(3)
    box.close()
    root = box.directories[0].parent
    shutil.copytree(root, root.with_name("later"))
    later = Box(root.with_name("later"))
    later.open(create=False)
    later.store.shred(next(iter(box.keys)) for _ in range(1))
    later.close()
    box.open(create=False)
    away(box)
    shutil.copytree(later.directories[1], box.directories[1])
    (box.directories[1] / "copy").unlink()
    before = box.files()
    with pytest.raises(KeystoreCorruptError):
        box.store.scrub()
    assert box.files() == before


def test_copies_that_each_took_keys_without_the_other_are_told_and_not_merged(box: Box) -> None:
    box.open()
    box.fill(2)
    box.close()
    root = box.directories[0].parent
    shutil.copytree(root, root.with_name("twin"))
    box.open(create=False)
    box.fill(1)
    box.close()
    twin = Box(root.with_name("twin"))
    twin.open(create=False)
    twin.fill(1)
    twin.close()
    shutil.rmtree(box.directories[1])
    shutil.copytree(twin.directories[1], box.directories[1])
    before = box.files()
    with pytest.raises(KeystoreCorruptError, match="differently"):
        box.open(create=False)
    assert box.files() == before


# Crashes and full disks.


@pytest.mark.parametrize("at", range(16))
@pytest.mark.parametrize("second", range(0, 12, 4))
def test_a_new_disk_is_never_taken_for_the_old_one_wherever_a_crash_comes(
    box: Box, at: int, second: int
) -> None:
    box.open()
    names, here = box.fill(3), present(box)["b"].id
    box.close()
    path = away(box)
    for place in (at, second):
        try:
            box.open(Faults(place), create=False)
        except Crash:
            box.store = None
    box.open(create=False)
    assert [item.id for item in lost(box)] == [here] and set(present(box)) == {"a", "b"}
    with pytest.raises(KeystoreCopyMissingError):
        box.store.shred(names[:1])
    made = present(box)["b"].id
    box.close()
    back(box, path)
    for place in (at, second):
        try:
            box.open(Faults(place), create=False)
        except Crash:
            box.store = None
    box.open(create=False)
    assert [item.id for item in lost(box)] == [made] and present(box)["b"].id == here
    box.store.forget_copy(made)
    assert box.store.shred(names[:1]).destroyed == (names[0],)
    with pytest.raises(KeyAbsentError):
        box.store.data_key(names[0])


def test_a_list_that_cannot_be_written_is_told_and_nothing_is_erased_before_it_is(
    box: Box, monkeypatch
) -> None:
    from test_keystore_store import failing_pwrite

    box.open()
    names, here = box.fill(3), present(box)["b"].id
    box.close()
    away(box)
    with monkeypatch.context() as patch:
        failing_pwrite(patch, ".journal")
        box.open(create=False)
        assert any("not brought up to date" in item for item in box.store.findings)
        with pytest.raises((KeystoreWriteError, KeystoreCopyMissingError)):
            box.store.forget_copy(here)
            box.store.shred(names[:1])
    box.open(create=False)
    assert box.held() == box.keys and [item.id for item in lost(box)] == [here]


def test_any_bytes_in_a_copy_file_are_an_id_or_damaged(tmp_path: Path) -> None:
    from hypothesis import given, settings
    from hypothesis import strategies as st

    whole = copies.Identity(b"k" * 16, b"c" * 16).pack()

    @settings(deadline=None)
    @given(st.one_of(st.binary(max_size=80), st.integers(0, len(whole) - 1)))
    def check(raw: bytes | int) -> None:
        if isinstance(raw, int):
            changed = bytearray(whole)
            changed[raw] ^= 0x10
            raw = bytes(changed)
        (tmp_path / "copy").write_bytes(raw)
        assert copies.read_identity(tmp_path) == "damaged"

    check()
    (tmp_path / "copy").write_bytes(whole)
    assert copies.read_identity(tmp_path) == copies.Identity(b"k" * 16, b"c" * 16)
