"""Everything at one look, and marks: there while nothing of a bucket's files may have changed, whoever changes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from contract_kit import KEY, bucket, content, filled, put
from ground import Ground

from appliance.storage.names import SnapshotNameError
from appliance.storage.vault.contract import BucketId, BucketState, BucketStore, SnapshotId

WORD = "1:0123456789abcdef"


def mark_of(store: BucketStore, of: BucketId) -> str:
    return store.survey(snapshots=False).buckets[of].mark


def marked(store: BucketStore, folder: Path, *, snapshot: bool = True) -> tuple[BucketId, list[str]]:
    made, names = filled(store, folder)
    if snapshot:
        store.snapshot([made], "g-1")
    store.lock(made)
    store.mark({made: WORD})
    assert mark_of(store, made) == WORD
    return made, names


def test_a_survey_tells_states_snapshots_holds_and_strangers(
    store: BucketStore, ground: Ground, tmp_path: Path
) -> None:
    assert store.survey().buckets == {} and store.survey().strangers == ()
    one, _ = filled(store, tmp_path)
    two, _ = filled(store, tmp_path, tenant=one.tenant_id)
    store.snapshot([one, two], "g-7", {"ew:n": "7"})
    store.hold([SnapshotId(one, "g-7")], "ew.grace")
    ground.foreign_hold(SnapshotId(one, "g-7"), "somebody")
    store.lock(two)
    stranger = ground.foreign_bucket(one.tenant_id)
    found = store.survey()
    assert list(found.buckets) == sorted([one, two]) and stranger in found.strangers
    assert found.buckets[one].state is BucketState.OPEN and found.buckets[two].state is BucketState.LOCKED
    guard = frozenset({"ew.guard"})
    assert found.buckets[one].tags == {"guard": guard, "g-7": frozenset({"ew.grace", "somebody"})}
    assert found.buckets[two].tags == {"guard": guard, "g-7": frozenset()}
    assert found.snapshots() == {
        SnapshotId(each.id.bucket, each.id.name): each.holds for each in store.snapshots()
    }
    brief = store.survey(snapshots=False)
    assert brief.strangers == () and not any(each.tags for each in brief.buckets.values())
    assert {each: brief.buckets[each].state for each in brief.buckets} == {
        one: BucketState.OPEN,
        two: BucketState.LOCKED,
    }


def test_a_mark_stays_where_a_bucket_is_only_read(store: BucketStore, ground: Ground, tmp_path: Path) -> None:
    made, names = marked(store, tmp_path)
    store.unlock(made, KEY)
    assert content(store, made, names[0])
    store.snapshot([made], "g-2")
    store.hold([SnapshotId(made, "g-2")], "ew.grace")
    store.lock(made)
    assert mark_of(store, made) == WORD
    store.mark({made: "2:another"})
    assert mark_of(ground.open(), made) == "2:another", "the next process finds it"


CHANGES: dict[str, Callable[[BucketStore, BucketId, list[str], Path], object]] = {
    "write": lambda store, made, names, folder: put(store, made, folder),
    "sidecar": lambda store, made, names, folder: store.write_sidecar(made, names[0], source(folder)),
    "remove": lambda store, made, names, folder: store.remove(made, names[:1]),
    "restore": lambda store, made, names, folder: (
        store.remove(made, names[:1]),
        store.restore(made, "g-1", names[:1]),
    ),
}


def source(folder: Path) -> Path:
    path = folder / "note"
    path.write_bytes(b"a note")
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_a_mark_is_gone_when_a_file_changes(store: BucketStore, tmp_path: Path, change: str) -> None:
    made, names = marked(store, tmp_path)
    other, _ = marked(store, tmp_path)
    store.unlock(made, KEY)
    CHANGES[change](store, made, names, tmp_path)
    assert mark_of(store, made) == ""
    store.lock(made)
    assert mark_of(store, made) == "" and mark_of(store, other) == WORD


def test_a_mark_is_gone_when_somebody_else_changed_the_bucket(
    store: BucketStore, ground: Ground, tmp_path: Path
) -> None:
    made, _ = marked(store, tmp_path, snapshot=False)
    ground.roll_back(made)
    assert mark_of(store, made) == "" == mark_of(ground.open(), made)


def test_what_is_open_or_absent_is_not_marked(store: BucketStore, tmp_path: Path) -> None:
    made, _ = filled(store, tmp_path)
    other, _ = filled(store, tmp_path)
    store.lock(other)
    store.mark({made: WORD, other: WORD, bucket(): WORD})
    assert (mark_of(store, made), mark_of(store, other)) == ("", WORD)
    store.mark({})


@pytest.mark.parametrize("word", ["", "two words", "x" * 129, "é", "a\n", "%41"])
def test_words_that_no_bucket_is_marked_with(store: BucketStore, tmp_path: Path, word: str) -> None:
    made, _ = filled(store, tmp_path)
    store.lock(made)
    with pytest.raises(SnapshotNameError):
        store.mark({made: word})
    assert mark_of(store, made) == ""


def test_a_bucket_that_is_made_again_has_no_mark(store: BucketStore, tmp_path: Path) -> None:
    made, _ = marked(store, tmp_path, snapshot=False)
    store.destroy(made)
    store.create(made, KEY)
    assert mark_of(store, made) == ""
