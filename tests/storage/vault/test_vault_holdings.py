"""Journal, index, delete and undelete, reconciling."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conftest_vault import SLICE, Crash, Faults, House
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.model import new_id
from appliance.storage.vault.errors import RecordingDeletedError
from appliance.storage.vault.holding import Certificate, Entry, Holding, HoldingState
from appliance.storage.vault.index import Holdings
from appliance.storage.vault.journal import pack_line, parse_line
from appliance.storage.vault.parking import undelete


def holding(state: HoldingState = HoldingState.FILED, size: int = 10) -> Holding:
    return Holding(new_id(), new_id(), new_id(), SLICE, state, size, True, "why: ä\n", 5, 4)


def fill(folder: Path, count: int) -> list[Holding]:
    holdings = Holdings(folder)
    made = [holding() for _ in range(count)]
    for item in made:
        holdings.append([item])
    holdings.close()
    return made


def read(folder: Path) -> list[Holding]:
    holdings = Holdings(folder)
    try:
        entries = holdings.since(0, 10_000)
        assert [entry.position for entry in entries] == sorted({entry.position for entry in entries})
        assert {item.recording_id for item in holdings.all()} == {
            entry.holding.recording_id for entry in entries
        }
        return [entry.holding for entry in entries]
    finally:
        holdings.close()


def test_entries_come_back_in_order_without_gaps(tmp_path: Path) -> None:
    made = fill(tmp_path, 300)
    holdings = Holdings(tmp_path)
    assert holdings.position == 300 and holdings.findings == []
    for after in (0, 1, 127, 128, 129, 255, 256, 299, 300, 1000):
        entries = holdings.since(after, 400)
        assert [entry.position for entry in entries] == list(range(after + 1, 301))
        assert [entry.holding for entry in entries] == made[after:]
    assert len(holdings.since(0, 7)) == 7
    holdings.close()


def test_a_certificate_survives_the_journal(tmp_path: Path) -> None:
    item = replace(
        holding(HoldingState.ERASED), certificate=Certificate(new_id(), new_id(), 3, 99, "why", "ab", "cd")
    )
    holdings = Holdings(tmp_path)
    holdings.append([item])
    assert holdings.last_erasure_ns() == 99
    holdings.close()
    assert read(tmp_path) == [item]


@pytest.mark.parametrize("gone", ["all", "index.db-wal", "garbage"])
def test_the_index_is_made_anew_from_the_journal(tmp_path: Path, gone: str) -> None:
    made = fill(tmp_path, 20)
    for path in tmp_path.glob("index.db*"):
        if gone == "garbage":
            path.write_bytes(b"no database" * 1000)
        elif gone in ("all", path.name):
            path.unlink()
    assert read(tmp_path) == made


def test_an_index_of_another_journal_is_not_believed(tmp_path: Path) -> None:
    fill(tmp_path / "one", 20)
    made = fill(tmp_path / "two", 5)
    shutil.copy(tmp_path / "one" / "index.db", tmp_path / "two" / "index.db")
    assert read(tmp_path / "two") == made


def test_counts_follow_every_change(tmp_path: Path) -> None:
    holdings = Holdings(tmp_path)
    item = holding(size=100)
    other = holding(size=7)
    holdings.append([item, other])
    holdings.append([replace(item, state=HoldingState.DELETED)])
    counts = holdings.counts()
    assert counts.by_state[HoldingState.FILED] == 1 and counts.by_state[HoldingState.DELETED] == 1
    assert counts.stored_bytes == 107
    holdings.append([replace(item, state=HoldingState.ERASED), replace(other, state=HoldingState.ERASED)])
    assert holdings.counts().stored_bytes == 0
    before = holdings.counts()
    holdings.close()
    holdings = Holdings(tmp_path)
    assert holdings.counts() == before and before.by_state[HoldingState.ERASED] == 2
    holdings.close()


def test_a_torn_last_line_is_cut_and_its_position_used_again(tmp_path: Path) -> None:
    made = fill(tmp_path, 3)
    whole = (tmp_path / "journal").read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last + 1, len(whole)):
        (tmp_path / "journal").write_bytes(whole[:cut])
        holdings = Holdings(tmp_path)
        assert holdings.position == 2 and "torn" in holdings.findings[0]
        assert (tmp_path / "journal").read_bytes() == whole[:last]
        item = holding()
        holdings.append([item])
        holdings.close()
        assert read(tmp_path) == [*made[:2], item]


def test_a_damaged_line_costs_that_line_alone_and_is_told(tmp_path: Path) -> None:
    made = fill(tmp_path, 5)
    lines = (tmp_path / "journal").read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"filed", b"fired")
    (tmp_path / "journal").write_bytes(b"".join(lines))
    for path in tmp_path.glob("index.db*"):
        path.unlink()
    holdings = Holdings(tmp_path)
    assert holdings.position == 5 and "damaged from byte" in holdings.findings[0]
    assert [entry.position for entry in holdings.since(0)] == [1, 2, 4, 5]
    holdings.append([made[2]])
    assert holdings.position == 6
    holdings.close()


@given(st.binary(max_size=600), st.integers(0, 3000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_journal_opens(tmp_path_factory, tail: bytes, keep: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    made = fill(folder, 4)
    raw = (folder / "journal").read_bytes()
    (folder / "journal").write_bytes(raw[:keep] + tail)
    found = read(folder)
    assert found == made[: len(found)]
    holdings = Holdings(folder)
    holdings.append([holding()])
    holdings.close()
    assert len(read(folder)) == len(found) + 1


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_line_is_an_entry_or_none(raw: bytes) -> None:
    assert parse_line(raw) is None
    assert parse_line(b"00000000 " + raw + b"\n") is None


def test_a_flipped_bit_anywhere_in_a_line_is_seen() -> None:
    line = pack_line(Entry(1, holding()))
    assert parse_line(line) is not None
    for at in range(len(line)):
        assert parse_line(line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]) is None


def test_who_waits_is_told_of_the_next_entry_and_may_give_up(tmp_path: Path) -> None:
    holdings = Holdings(tmp_path)
    heard: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        after = 0
        while not stop.is_set():
            holdings.wait(after, stop.is_set)
            for entry in holdings.since(after):
                after = entry.position
                heard.append(after)
                if after == 3:
                    third.set()

    third = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(3):
        holdings.append([holding()])
    assert third.wait(30)
    stop.set()
    holdings.wake()
    watcher.join(30)
    assert not watcher.is_alive() and heard == [1, 2, 3]
    holdings.close()


def test_the_index_catches_up_after_it_could_not_be_written(tmp_path: Path, monkeypatch) -> None:
    import sqlite3

    holdings = Holdings(tmp_path)
    real = holdings._catch_up

    def full(database: sqlite3.Connection) -> list[tuple[str, int, int]]:
        real(database)
        raise sqlite3.OperationalError("database or disk is full")

    item = holding()
    with monkeypatch.context() as patch:
        patch.setattr(holdings, "_catch_up", full)
        holdings.append([item])
        assert holdings.position == 1
    assert holdings.get(item.recording_id) == item
    assert holdings.counts().by_state[HoldingState.FILED] == 1
    holdings.close()


# Delete and undelete.


def test_a_deleted_recording_is_out_of_sight_and_comes_back(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    deleted = vault.delete(name, "retention")
    assert (deleted.state, deleted.reason) == (HoldingState.DELETED, "retention")
    assert vault.delete(name, "again") == deleted
    for refused in (vault.read, lambda item: vault.lease(item)):
        with pytest.raises(RecordingDeletedError):
            refused(name)
    house.poll()
    parked = vault.holding(name)
    assert parked == replace(deleted, parked="g-2"), "by the journal's number"
    assert vault.store.find(parked.bucket, name) is None
    assert vault.store.find(parked.bucket, name, snapshot="g-2") is not None
    back = undelete(vault, name)
    assert back.state is HoldingState.FILED and undelete(vault, name) == back
    house.check_readable(name)
    assert vault.holdings.position == 4


def test_what_is_brought_back_before_it_is_parked_never_moved(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    vault.delete(name, "")
    undelete(vault, name)
    house.poll()
    house.check_readable(name)
    assert [item.id.name for item in vault.store.snapshots()] == ["guard"]


def test_many_deleted_of_a_bucket_share_a_snapshot_and_each_comes_back(house: House) -> None:
    vault = house.open()
    names = house.filed(5)
    for name in names[:3]:
        vault.delete(name, "")
    house.poll()
    vault.delete(names[3], "")
    house.poll()
    first, second = vault.holding(names[0]).parked, vault.holding(names[3]).parked
    assert [vault.holding(name).parked for name in names] == [first, first, first, second, ""]
    assert "" not in (first, second) and first != second
    undelete(vault, names[1])
    vault.delete(names[1], "")
    house.poll()
    assert vault.holding(names[1]).parked not in ("", first, second), "a name comes once"
    for name in names[:4]:
        undelete(vault, name)
        house.check_readable(name)
    assert all(item.holds for item in vault.store.snapshots())


def test_a_crash_at_every_step_of_deleting_and_bringing_back(house: House) -> None:
    """What was answered holds, and the recording is whole, wherever the crash comes."""
    at = 0
    while True:
        house.open()
        name, other = house.filed(2)
        faults = Faults()
        vault = house.open(faults)
        faults.steps.clear()
        faults.at = at
        answered = HoldingState.FILED
        try:
            vault.delete(name, "")
            answered = HoldingState.DELETED
            house.parts.parker.poll()
            undelete(vault, name)
            answered = HoldingState.FILED
        except Crash:
            pass
        else:
            break
        vault = house.open()
        house.settle()
        held = vault.holding(name)
        # What was journalled holds, whether or not it was answered: a store may have steps of its own behind it.
        journalled = HoldingState.FILED
        if "deletion journalled" in faults.steps and "undeletion journalled" not in faults.steps:
            journalled = HoldingState.DELETED
        assert held.state in (answered, journalled)
        if held.state is HoldingState.DELETED:
            vault.buckets.open(held.bucket)
            assert held.parked and vault.store.find(held.bucket, name) is None
            undelete(vault, name)
        house.check_readable(name)
        house.check_readable(other)
        again = house.settle()
        assert (again.moved, again.missing, again.unknown) == (0, 0, 0)
        at += 1
    assert at >= 6


# Reconciling.


def test_a_file_that_the_journal_does_not_know_is_filed_again(house: House) -> None:
    vault = house.open()
    names = house.filed(3)
    vault.delete(names[2], "")
    house.poll()
    before = {name: vault.holding(name) for name in names}
    house.close()
    for path in house.layout.vault.glob("*"):
        if path.is_file():
            path.unlink()
    # Without its journal the vault still must not make a new keystore, and does not.
    vault = house.open()
    assert house.settle().filed == 3
    for name in names:
        again = vault.holding(name)
        same = {"since_ns": 0, "reason": "", "grace_from_ns": 0}
        assert replace(again, **same) == replace(before[name], **same)
    undelete(vault, names[2])
    house.check_readable(names[0])
    assert house.settle().filed == 0


def test_a_holding_without_a_file_is_told_and_kept(house: House) -> None:
    vault = house.open()
    names = house.filed(2)
    vault.store.remove(vault.holding(names[0]).bucket, [names[0]])
    assert house.settle().missing == 1
    assert [item.type for item in house.status.conditions()] == ["FilesMissing"]
    assert vault.holding(names[0]).state is HoldingState.FILED and names[0] in vault.keystore


def test_a_holding_without_a_key_is_told_and_kept_until_somebody_erases_it(house: House) -> None:
    vault = house.open()
    names = house.filed(2)
    vault.keystore.shred([names[0]])
    held = vault.holding(names[0])
    for _ in range(2):
        assert house.settle().keys_absent == 1
        assert vault.holding(names[0]) == held
        assert vault.store.find(held.bucket, names[0]) is not None
    assert {item.type for item in house.status.conditions()} == {"KeysAbsent"}
    # Asked for, it gets its certificate, and the file goes.
    (certificate,) = house.eraser.erase([names[0]], "asked")
    assert certificate.holds(vault.keystore.device_public_key)
    assert vault.store.find(held.bucket, names[0]) is None
    house.check_readable(names[1])
    assert house.settle().keys_absent == 0
    assert not house.status.conditions()


def test_what_nobody_knows_is_left_alone_and_told(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    source = house.layout.root / "source"
    source.write_bytes(b"kept")
    unknown = new_id()
    held = vault.holding(name)
    vault.store.write(held.bucket, unknown, source)  # a file without key and journal entry
    stranger = house.ground.foreign_bucket(house.tenant)
    found = house.settle()
    assert (found.unknown, found.strangers) == (1, 1)
    vault.buckets.open(held.bucket)
    with vault.store.read(held.bucket, unknown) as file:
        assert file.read() == b"kept"
    assert house.ground.has(stranger)
    assert {item.type for item in house.status.conditions()} == {"UnknownFiles"}
    assert vault.holdings.position == 1


def test_an_unreadable_bucket_stops_reconciling_with_an_error_of_the_house(house: House) -> None:
    from appliance.storage.vault.errors import StoreUnavailableError

    vault = house.open()
    (name,) = house.filed()

    def denied(*_: object, **__: object) -> object:
        raise StoreUnavailableError("permission denied", errno=13)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault.store, "files", denied)
        with pytest.raises(StoreUnavailableError):
            house.settle()
    assert house.settle().filed == 0
    house.check_readable(name)
