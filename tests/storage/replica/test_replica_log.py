"""The log and what is signed: bytes as documented; what is forged, missing or of another box is not followed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from ground import Ground
from replica_kit import NAME

from appliance.model import EarwitnessError, new_id
from appliance.storage.names import BucketId
from appliance.storage.replica.errors import (
    DeletionLogForkError,
    DeletionLogGapError,
    ReplicaBusyError,
    ReplicaExpiredError,
    ReplicaForeignError,
    ReplicaLogFirstError,
    ReplicaNameError,
    ReplicaSignatureError,
    ReplicaStateError,
)
from appliance.storage.replica.local import LocalTarget
from appliance.storage.replica.papers import Mark, Notice, mark_of, notice_of
from appliance.storage.vault.contract import BucketState, BucketStore
from appliance.storage.vault.deletionlog import (
    MAX_IN_ENTRY,
    MAX_PLACES,
    Deletion,
    DeletionKind,
    DeletionLog,
)

KEY = bytes(range(32))
BUCKET = BucketId(new_id(), new_id(), "2026-11-25")


class Box:
    """A device key and a deletion log."""

    def __init__(self, folder: Path) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.log = DeletionLog(folder / "deletions", lambda: self.key, lambda: 7)

    @property
    def public(self) -> str:
        return self.key.public_key().public_bytes_raw().hex()

    def erase(self, count: int = 1) -> list[str]:
        names = [new_id() for _ in range(count)]
        for name in names:
            self.log.append(DeletionKind.ERASED, name, recordings=[name])
        return names

    def notice(self, store: BucketStore, bucket: BucketId = BUCKET, number: int | None = None) -> Notice:
        here = list(store.snapshots(bucket))
        return notice_of(NAME, bucket, self.log.number if number is None else number, here, self.key)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "box")
    yield made
    made.log.close()


@pytest.fixture
def target(tmp_path: Path, ground: Ground) -> Iterator[LocalTarget]:
    made = LocalTarget(ground.second(), tmp_path / "far", NAME, clock=lambda: 9)
    yield made
    made.close()


@pytest.fixture
def store(ground: Ground, tmp_path: Path) -> Iterator[BucketStore]:
    """The box's, with one bucket in it and a snapshot for the replica."""
    opened = ground.open()
    opened.create(BUCKET, KEY)
    source = tmp_path / "one.sealed"
    source.write_bytes(bytes(100_000))
    opened.write(BUCKET, new_id(), source)
    opened.snapshot([BUCKET], f"r-{NAME}-1")
    yield opened
    opened.close()


def state_of(target: LocalTarget, folder: Path) -> tuple[object, ...]:
    """All that a replica is."""
    snapshots = sorted(
        (item.id.bucket.path, item.id.name, sorted(item.holds)) for item in target._store.snapshots()
    )
    return (folder / "far" / "log").read_bytes(), (folder / "far" / "identity").read_bytes(), snapshots


# The log.


def test_an_entry_is_signed_and_chained_as_documented(box: Box, tmp_path: Path) -> None:
    name = new_id()
    box.log.append(DeletionKind.ERASED, "first", recordings=[name], buckets=[BUCKET.path])
    box.log.append(DeletionKind.RELEASED, "second", case=new_id())
    one, two = (tmp_path / "box" / "deletions").read_bytes().splitlines()
    # Built here from docs/replica.md alone.
    fields = json.loads(one[9:])
    signature = bytes.fromhex(fields.pop("signature"))
    assert fields == {
        "number": 1,
        "previous": "",
        "at_ns": 7,
        "kind": "erased",
        "key": "first",
        "recordings": [name],
        "buckets": [BUCKET.path],
        "snapshots": [],
        "case": "",
    }
    raw = b"earwitness deletion log v1\0" + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(box.public)).verify(signature, raw)
    assert json.loads(two[9:])["previous"] == hashlib.sha256(one[9:]).hexdigest() == box.log.digest_at(1)


def test_the_same_is_entered_once_and_read_from_anywhere(box: Box, tmp_path: Path) -> None:
    names = box.erase(200)
    assert box.log.append(DeletionKind.ERASED, names[3], recordings=[names[3]]) == 4
    assert box.log.number == 200
    assert [entry.number for entry in box.log.since(190, 64)] == list(range(191, 201))
    assert [entry.number for entry in box.log.since(0)] == list(range(1, 65))
    assert box.log.since(200) == [] and box.log.digest_at(0) == ""
    box.log.close()
    again = DeletionLog(tmp_path / "box" / "deletions", lambda: box.key)
    assert again.number == 200 and again.since(41, 1)[0].recordings == (names[41],)
    assert again.append(DeletionKind.ERASED, names[0], recordings=[names[0]]) == 1


def test_what_is_held_is_told_once(box: Box) -> None:
    case, names = new_id(), [new_id() for _ in range(4)]
    places = {"buckets": {BUCKET.path}, "snapshots": set()}
    assert box.log.hold(case, names[:2], **places) == 1
    assert box.log.hold(case, names[:2], **places) == 1
    assert box.log.hold(case, names[:3], **places) == 2
    assert box.log.hold(case, names[:3], buckets=set(), snapshots={f"{BUCKET.path}@g-1"}) == 3
    told = box.log.since(0)
    assert [entry.recordings for entry in told] == [tuple(names[:2]), (names[2],), ()]
    assert [entry.buckets for entry in told] == [(BUCKET.path,), (), ()]
    assert told[2].snapshots == (f"{BUCKET.path}@g-1",)


def test_very_many_are_several_entries_and_each_is_a_line(box: Box, target: LocalTarget) -> None:
    names = [new_id() for _ in range(MAX_IN_ENTRY + 1)]
    buckets = [BucketId(new_id(), new_id(), "2026-11-25").path for _ in range(MAX_PLACES + 1)]
    last = box.log.append(DeletionKind.ERASED, "many", recordings=names, buckets=buckets)
    entries = box.log.since(0)
    assert last == len(entries) == 2
    assert [name for entry in entries for name in entry.recordings] == names
    assert [path for entry in entries for path in entry.buckets] == buckets
    # What is destroyed comes with the last of what is erased with it.
    box.log.append(DeletionKind.EXPIRED, "one", recordings=names, buckets=[BUCKET.path])
    assert [entry.buckets for entry in box.log.since(2)] == [(), (BUCKET.path,)]
    target.greet(box.public)
    assert target.apply(box.log.since(0)).number == 4
    assert target.erased([*names[:3], new_id()]) == set(names[:3])


# Receipts.


def test_a_receipt_says_what_is_documented_and_nothing_in_it_can_be_changed(
    box: Box, target: LocalTarget
) -> None:
    target.greet(box.public)
    box.erase(2)
    receipt = target.apply(box.log.since(0))
    # Built here from docs/replica.md alone.
    raw = b"earwitness replica receipt v1\0" + bytes.fromhex(box.public) + (2).to_bytes(8, "big")
    raw += bytes.fromhex(box.log.digest_at(2)) + (9).to_bytes(8, "big", signed=True)
    raw += (5).to_bytes(2, "big") + b"north"
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(receipt.replica_public_key))
    key.verify(bytes.fromhex(receipt.signature), raw)
    assert receipt.holds()
    for change in (
        {"replica": "south"},
        {"device_public_key": "00" * 32},
        {"device_public_key": "00"},
        {"number": 3},
        {"number": -1},
        {"digest": "00" * 32},
        {"digest": "x"},
        {"at_ns": 10},
        {"signature": ""},
        {"replica_public_key": box.public},
    ):
        assert not replace(receipt, **change).holds()  # type: ignore[arg-type]


def test_a_notice_is_signed_as_documented(box: Box) -> None:
    notice = Notice(NAME, BUCKET.path, 3, (Mark("guard", 4),)).sign(box.key)
    fields = {"replica": NAME, "bucket": BUCKET.path, "number": 3, "anew": False}
    fields["snapshots"] = [{"name": "guard", "created_s": 4}]
    raw = (
        b"earwitness replica notice v1\0" + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    )
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(box.public)).verify(bytes.fromhex(notice.signature), raw)
    assert notice.holds(box.public)
    assert not replace(notice, anew=True).holds(box.public)


# Who a replica is.


def test_a_replica_is_the_same_after_a_start_and_belongs_to_one_box(
    box: Box, tmp_path: Path, ground: Ground
) -> None:
    first = LocalTarget(ground.second(), tmp_path / "far", NAME)
    one = first.greet(box.public)
    box.erase(3)
    first.apply(box.log.since(0))
    with pytest.raises(ReplicaBusyError):
        LocalTarget(ground.second(), tmp_path / "far", NAME)
    first.close()
    second = LocalTarget(ground.second(), tmp_path / "far", NAME)
    two = second.greet(box.public)
    assert two.replica_public_key == one.replica_public_key and (one.number, two.number) == (0, 3)
    with pytest.raises(ReplicaForeignError):
        second.greet("11" * 32)
    second.close()
    with pytest.raises(ReplicaForeignError):
        LocalTarget(ground.second(), tmp_path / "far", "south")
    with pytest.raises(ReplicaNameError):
        LocalTarget(ground.second(), tmp_path / "other", "North")


@pytest.mark.parametrize("what", ["identity", "log", "log's middle"])
def test_a_damaged_state_is_refused(what: str, box: Box, tmp_path: Path, ground: Ground) -> None:
    first = LocalTarget(ground.second(), tmp_path / "far", NAME)
    first.greet(box.public)
    box.erase(3)
    first.apply(box.log.since(0))
    first.close()
    if what == "identity":
        (tmp_path / "far" / "identity").write_bytes(b"{}")
    else:
        lines = (tmp_path / "far" / "log").read_bytes().splitlines(keepends=True)
        lines = [lines[0], lines[2]] if what == "log" else [lines[0], lines[1][:50] + b"\n", lines[2]]
        (tmp_path / "far" / "log").write_bytes(b"".join(lines))
    with pytest.raises(ReplicaStateError):
        LocalTarget(ground.second(), tmp_path / "far", NAME)
    shutil.rmtree(tmp_path / "far")


# What is not followed.


def test_nothing_is_followed_before_the_first_greeting(box: Box, target: LocalTarget) -> None:
    box.erase()
    with pytest.raises(ReplicaForeignError):
        target.apply(box.log.since(0))


def _forged(entry: Deletion) -> Deletion:
    return replace(entry, recordings=(new_id(),))


def _signed_by_another(entry: Deletion) -> Deletion:
    key = Ed25519PrivateKey.generate()
    return replace(entry, signature=key.sign(entry.signed_bytes()).hex())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_forged, ReplicaSignatureError),
        (_signed_by_another, ReplicaSignatureError),
        (lambda entry: replace(entry, signature="zz"), ReplicaSignatureError),
        (lambda entry: replace(entry, number=4), ReplicaSignatureError),
        (
            lambda entry: replace(entry, kind=DeletionKind.EXPIRED, buckets=(BUCKET.path,)),
            ReplicaSignatureError,
        ),
    ],
)
def test_a_changed_entry_changes_nothing(
    change: object,
    error: type[EarwitnessError],
    box: Box,
    target: LocalTarget,
    store: BucketStore,
    tmp_path: Path,
) -> None:
    target.greet(box.public)
    target.receive(store.send(BUCKET, f"r-{NAME}-1"), box.notice(store))
    box.erase(3)
    good = box.log.since(0)
    target.apply(good[:1])
    before = state_of(target, tmp_path)
    with pytest.raises(error):
        target.apply([change(good[1])])  # type: ignore[operator]
    assert state_of(target, tmp_path) == before
    assert target.apply(good).number == 3


def test_gaps_forks_and_other_boxes_are_refused(box: Box, target: LocalTarget, tmp_path: Path) -> None:
    target.greet(box.public)
    box.erase(4)
    good = box.log.since(0)
    target.apply(good[:2])
    before = state_of(target, tmp_path)
    with pytest.raises(DeletionLogGapError) as gap:
        target.apply(good[3:])
    assert gap.value.data == {"number": 4, "wanted": 3}
    # The box as it was after its first entry, gone on from there.
    other = Box(tmp_path / "older")
    other.key = box.key
    (first,) = good[:1]
    other.log.append(first.kind, first.key, recordings=first.recordings)
    other.erase(2)
    assert other.log.digest_at(1) == box.log.digest_at(1)
    for entries in (other.log.since(1), other.log.since(2)):
        with pytest.raises(DeletionLogForkError):
            target.apply(entries)
    stranger = Box(tmp_path / "stranger")
    stranger.erase(3)
    with pytest.raises(ReplicaSignatureError):
        target.apply(stranger.log.since(2))
    assert state_of(target, tmp_path) == before
    assert target.apply(good).number == 4
    assert target.apply(good[1:3]).number == 4, "what was followed is followed"
    for log in (other.log, stranger.log):
        log.close()


def test_those_before_a_bad_one_are_followed(box: Box, target: LocalTarget) -> None:
    target.greet(box.public)
    box.erase(4)
    good = box.log.since(0)
    with pytest.raises(ReplicaSignatureError):
        target.apply([*good[:2], _forged(good[2]), good[3]])
    assert target.greet(box.public).number == 2


# Streams.


def test_a_stream_without_a_notice_of_the_box_is_refused(
    box: Box, target: LocalTarget, store: BucketStore, tmp_path: Path
) -> None:
    target.greet(box.public)
    good = box.notice(store)
    other = BucketId(BUCKET.tenant_id, BUCKET.line_id, "2026-11-26")
    for bad in (
        replace(good, signature=""),
        replace(good, number=-1),
        good.sign(Ed25519PrivateKey.generate()),
        replace(good, replica="south").sign(box.key),
        replace(good, bucket=other.path).sign(box.key),
    ):
        with pytest.raises(ReplicaSignatureError):
            target.receive(store.send(BUCKET, f"r-{NAME}-1"), bad)
        with pytest.raises(EarwitnessError):
            target.discard(replace(bad, anew=True))
    assert list(target.copies()) == []
    target.receive(store.send(BUCKET, f"r-{NAME}-1"), good)
    with pytest.raises(ReplicaSignatureError):
        target.discard(good)  # it does not say so
    with pytest.raises(ReplicaSignatureError):
        target.arrange(replace(good, snapshots=()))
    assert list(target.copies()) == [BUCKET]


def test_the_log_comes_before_the_buckets(box: Box, target: LocalTarget, store: BucketStore) -> None:
    target.greet(box.public)
    box.erase(2)
    with pytest.raises(ReplicaLogFirstError) as refused:
        target.receive(store.send(BUCKET, f"r-{NAME}-1"), box.notice(store))
    assert refused.value.data == {"number": 0, "wanted": 2}
    target.apply(box.log.since(0))
    target.receive(store.send(BUCKET, f"r-{NAME}-1"), box.notice(store))


def test_an_expired_bucket_does_not_come_back_but_one_made_anew_may_come(
    box: Box, target: LocalTarget, store: BucketStore
) -> None:
    target.greet(box.public)
    before = box.notice(store)
    target.receive(store.send(BUCKET, f"r-{NAME}-1"), before)
    box.log.append(DeletionKind.EXPIRED, "expired", buckets=[BUCKET.path])
    target.apply(box.log.since(0))
    assert target._store.state(BUCKET) is BucketState.ABSENT
    for refused in (
        lambda: target.receive(store.send(BUCKET, f"r-{NAME}-1"), before),
        lambda: target.arrange(before),
    ):
        with pytest.raises(ReplicaExpiredError):
            refused()
    assert list(target.copies()) == []
    target.receive(store.send(BUCKET, f"r-{NAME}-1"), box.notice(store))
    assert [mark.name for mark in target.copy(BUCKET).snapshots] == [f"r-{NAME}-1"]


def test_a_foreign_hold_there_stops_an_expiry_and_is_told(
    box: Box, target: LocalTarget, store: BucketStore
) -> None:
    target.greet(box.public)
    target.receive(store.send(BUCKET, f"r-{NAME}-1"), box.notice(store))
    (snapshot,) = [item for item in target._store.snapshots(BUCKET) if item.id.name == f"r-{NAME}-1"]
    target._store.hold([snapshot.id], f"ew.case.{new_id()}")  # no entry of the log says why
    box.log.append(DeletionKind.EXPIRED, "expired", buckets=[BUCKET.path])
    with pytest.raises(EarwitnessError) as held:
        target.apply(box.log.since(0))
    assert held.value.reason == "SNAPSHOT_HELD"
    assert target.greet(box.public).number == 0, "not said to be done"
    assert mark_of(snapshot) in target.copy(BUCKET).snapshots


@pytest.mark.parametrize("torn", [1, 2])
def test_an_entry_of_several_lines_that_a_crash_tore_is_completed(tmp_path: Path, torn: int) -> None:
    box = Box(tmp_path)
    names = [new_id() for _ in range(2 * MAX_IN_ENTRY + 10)]
    told = {"recordings": names, "buckets": ["t/l/2026-01"]}
    assert box.log.append(DeletionKind.EXPIRED, "one", **told) == 3
    box.log.close()
    path = tmp_path / "deletions"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:torn]) + lines[torn][:100])
    box.log = DeletionLog(path, lambda: box.key, lambda: 7)
    assert box.log.number == torn
    number = box.log.append(DeletionKind.EXPIRED, "one", **told)
    entries = box.log.since(0)
    assert number == 3 == len(entries)
    assert [name for one in entries for name in one.recordings] == names
    assert [place for one in entries for place in one.buckets] == ["t/l/2026-01"]
    assert box.log.append(DeletionKind.EXPIRED, "one", **told) == 3, "all of it is told"
