"""From the spool into the buckets: nothing is lost, whatever state it is in and wherever a crash comes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from conftest_vault import CREATED_NS, DAY_NS, NOW_NS, SLICE, Clock, Crash, Faults, House
from ground import DirectoryGround
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.model import new_id
from appliance.storage.keystore import hpke
from appliance.storage.sealed import HEADER_BYTES, Footer, FooterFlag
from appliance.storage.vault.contract import Stored
from appliance.storage.vault.errors import (
    RecordingLiveError,
    RecordingNotFoundError,
    RecordingQuarantinedError,
    RecordingSpooledError,
    StoreUnavailableError,
)
from appliance.storage.vault.holding import HoldingState
from appliance.storage.vault.parking import undelete


def conditions(house: House) -> set[str]:
    return {item.type for item in house.status.conditions()}


def in_spool(house: House) -> list[str]:
    return sorted(path.name for path in house.layout.spool_recordings.iterdir())


def test_a_recording_is_filed_signed_and_readable(house: House) -> None:
    vault = house.open()
    name = house.record()
    assert house.poll() == 1
    held = house.check_readable(name)
    assert (held.tenant_id, held.line_id, held.slice) == (house.tenant, house.line, SLICE)
    assert held.state is HoldingState.FILED and held.whole and held.created_ns == CREATED_NS
    assert vault.store.find(held.bucket, name) == Stored(held.bucket, name, held.size)
    assert in_spool(house) == [] and list(house.layout.spool_keys.iterdir()) == []
    assert [item.holding for item in vault.holdings.since(0)] == [held]
    assert house.poll() == 0
    assert vault.holdings.position == 1


def test_a_recording_waits_for_its_key_and_it_is_told_after_a_while(house: House) -> None:
    vault = house.open()
    name = house.record(deposited=False)
    for _ in range(3):
        assert house.poll() == 0
    with pytest.raises(RecordingSpooledError):
        vault.holding(name)
    assert "KeyMissing" not in conditions(house)
    house.clock.now += 61
    house.poll()
    assert "KeyMissing" in conditions(house) and in_spool(house) == [f"{name}.sealed"]
    house.deposit(name, house.keys[name])
    assert house.poll() == 1
    house.check_readable(name)
    assert "KeyMissing" not in conditions(house)


def test_a_live_recording_is_left_alone_until_its_writer_is_dead(house: House) -> None:
    vault = house.open()
    name = house.record(ended=False, live=True, tail=b"half a fra")
    before = (house.layout.spool_recordings / f"{name}.part").read_bytes()
    assert house.poll() == 0
    with pytest.raises(RecordingLiveError):
        vault.holding(name)
    assert (house.layout.spool_recordings / f"{name}.part").read_bytes() == before
    house.let_go()
    assert house.poll() == 1
    held = house.check_readable(name)
    assert not held.whole
    with vault.read(name) as file:
        footer = Footer.parse(file.read()[-200:])
    assert footer is not None
    assert footer.flags == FooterFlag.RECOVERED and footer.dropped_bytes == 10 and footer.frames == 3


@pytest.mark.parametrize("tail", [b"", b"\xe7EWR", bytes(4096)])
def test_an_orphan_without_a_frame_is_filed_too(house: House, tail: bytes) -> None:
    house.open()
    name = house.record(frames=0, ended=False, tail=tail)
    assert house.poll() == 1
    assert not house.check_readable(name).whole


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1])
def test_an_orphan_without_a_header_is_kept_in_quarantine_with_a_reason(house: House, length: int) -> None:
    vault = house.open()
    name = house.record(frames=0, ended=False)
    os.truncate(house.layout.spool_recordings / f"{name}.part", length)
    assert house.poll() == 0
    held = vault.holding(name)
    assert held.state is HoldingState.QUARANTINED and f"byte {length}" in held.reason
    assert (vault.quarantine / f"{name}.part").stat().st_size == length
    assert in_spool(house) == []


@pytest.mark.parametrize("suffix", [".part", ".sealed"])
def test_damage_in_the_middle_goes_to_quarantine_with_its_place_and_untouched(
    house: House, suffix: str
) -> None:
    vault = house.open()
    name = house.record(frames=5, ended=suffix == ".sealed")
    path = house.layout.spool_recordings / f"{name}{suffix}"
    raw = bytearray(path.read_bytes())
    raw[HEADER_BYTES + 40] ^= 1
    path.write_bytes(raw)
    other = house.record()
    assert house.poll() == 1
    held = vault.holding(name)
    assert held.state is HoldingState.QUARANTINED and f"byte {HEADER_BYTES}" in held.reason
    assert (held.tenant_id, held.line_id) == (house.tenant, house.line)
    assert (vault.quarantine / path.name).read_bytes() == raw
    house.check_readable(other)
    for forbidden in (
        vault.readable,
        lambda item: vault.delete(item, ""),
        lambda item: undelete(vault, item),
    ):
        with pytest.raises(RecordingQuarantinedError):
            forbidden(name)


def test_misnamed_files_and_foreign_footers_go_to_quarantine(house: House, tmp_path: Path) -> None:
    vault = house.open()
    name, other = house.record(), new_id()
    house.deposit(other, bytes(32))
    spool = house.layout.spool_recordings
    (spool / f"{name}.sealed").rename(spool / f"{other}.sealed")
    (spool / "notes.sealed").write_bytes(b"whatever")
    (spool / "notes.txt").write_bytes(b"not ours")
    foreign = House(tmp_path / "foreign" / "data", DirectoryGround(tmp_path / "foreign"))
    foreign.open()
    alien = foreign.filed()[0]
    with foreign.vault.read(alien) as file:
        (spool / f"{alien}.sealed").write_bytes(file.read())
    foreign.close()
    house.deposit(alien, bytes(32))
    house.poll()
    assert "misnamed" in vault.holding(other).reason
    assert "not signed by this box" in vault.holding(alien).reason
    assert sorted(path.name for path in vault.quarantine.iterdir()) == sorted(
        [f"{other}.sealed", f"{alien}.sealed", "notes.sealed"]
    )
    assert in_spool(house) == ["notes.txt"]


def test_a_key_of_another_tenant_or_of_an_unknown_one_does_not_file(house: House) -> None:
    vault = house.open()
    mixed, unknown = house.record(deposited=False), house.record(deposited=False)
    house.deposit(mixed, house.keys[mixed], tenant=new_id())
    foreign = hpke.public_key(hpke.new_private_key())
    house.deposit(unknown, house.keys[unknown], public=foreign)
    house.poll()
    assert "another tenant" in vault.holding(mixed).reason
    assert "does not open" in vault.holding(unknown).reason
    # Once the cause is gone, putting the file back is all it takes.
    assert len(list(vault.quarantine.iterdir())) == 2


def test_what_was_in_quarantine_is_filed_when_put_back(house: House) -> None:
    vault = house.open()
    name = house.record(frames=5)
    path = house.layout.spool_recordings / f"{name}.sealed"
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"?" + whole[201:])
    house.poll()
    assert vault.holding(name).state is HoldingState.QUARANTINED
    path.write_bytes(whole)
    assert house.poll() == 1
    house.check_readable(name)


def test_the_same_recording_twice_is_filed_once_and_another_under_its_name_is_kept(house: House) -> None:
    vault = house.open()
    name = house.filed()[0]
    spool = house.layout.spool_recordings / f"{name}.sealed"
    before = house.stored(name)
    spool.write_bytes(before)
    house.poll()
    assert in_spool(house) == [] and vault.holdings.position == 1
    house.clocks.pass_(1)
    spool.write_bytes(before[:-200])  # signed again, at another time
    house.poll()
    assert house.stored(name) == before and vault.holding(name).state is HoldingState.FILED
    assert [path.name for path in vault.quarantine.iterdir()] == [f"{name}.sealed"]


@pytest.mark.parametrize("created", [-(2**63), 2**63 - 2, CREATED_NS - 40 * DAY_NS, CREATED_NS + DAY_NS])
def test_a_time_that_cannot_be_is_not_believed(house: House, created: int) -> None:
    """A clock that was wrong while it was recorded makes no recording old before its time."""
    house.open()
    name = house.record(created_ns=created)
    assert house.poll() == 1
    held = house.check_readable(name)
    assert (held.slice, held.kept_from_ns) == (SLICE, NOW_NS)


def test_a_recording_that_comes_late_counts_from_its_creation(house: House) -> None:
    house.open()
    name = house.record(created_ns=CREATED_NS - 30 * DAY_NS)
    assert house.poll() == 1
    assert house.check_readable(name).slice == "2026-08"


STEPS = ["deposits kept", "footer appended", "in its bucket", "filed"]


@pytest.mark.parametrize("step", [*STEPS, "orphan recovered"])
def test_a_crash_at_any_step_of_filing_loses_nothing(house: House, step: str) -> None:
    house.open(Faults(step))
    names = [house.record(), house.record(ended=False, tail=b"torn")]
    with pytest.raises(Crash):
        house.poll()
    vault = house.open()
    house.settle()
    house.poll()
    assert {house.check_readable(name).recording_id for name in names} == set(names)
    assert in_spool(house) == [] and vault.holdings.position == 2
    assert all(len(house.everywhere(name)) == 1 for name in names)


def test_a_crash_while_going_to_quarantine_loses_nothing(house: House) -> None:
    house.open(Faults("quarantine journalled"))
    name = house.record()
    os.truncate(house.layout.spool_recordings / f"{name}.sealed", 100)
    with pytest.raises(Crash):
        house.poll()
    vault = house.open()
    house.settle()
    house.poll()
    assert vault.holdings.position == 1 and vault.holding(name).state is HoldingState.QUARANTINED
    assert [path.name for path in vault.quarantine.iterdir()] == [f"{name}.sealed"]


def test_a_torn_footer_of_a_crash_is_made_anew(house: House) -> None:
    house.open()
    name = house.record(tail=b"\x89EWF\r\n\x1a\n" + bytes(50))
    assert house.poll() == 1
    assert house.check_readable(name).whole


def test_a_disk_without_space_keeps_the_file_in_the_spool_and_tries_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.open()
    name = house.record()
    before = (house.layout.spool_recordings / f"{name}.sealed").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        assert house.poll() == 0
        assert "FilingFailed" in conditions(house)
        assert house.poll() == 0  # not tried again at once
    assert (house.layout.spool_recordings / f"{name}.sealed").read_bytes().startswith(before)
    house.clock.now += 6
    assert house.poll() == 1
    house.check_readable(name)
    assert "FilingFailed" not in conditions(house)


def test_a_journal_that_cannot_be_written_files_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = house.open()
    name = house.record()
    real = os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/vault/journal"):
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, data, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        assert house.poll() == 0
    assert vault.holdings.position == 0
    house.settle()
    house.clock.now += 6
    house.poll()
    house.check_readable(name)
    assert vault.holdings.position == 1


def test_an_unreadable_spool_or_store_is_told_and_recovers(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.open()
    spool = house.layout.spool_recordings
    spool.rmdir()
    spool.write_text("in the way")
    assert house.poll() == 0
    assert "FilingFailed" in conditions(house)
    spool.unlink()
    spool.mkdir()
    name = house.record()
    house.clock.now += 6
    with monkeypatch.context() as patch:
        patch.setattr(house.vault.store, "create", broken)
        assert house.poll() == 0 and "FilingFailed" in conditions(house)
    house.clock.now += 6
    assert house.poll() == 1
    house.check_readable(name)
    assert conditions(house) == set() and house.vault.store.health() == []


def broken(*_: object) -> None:
    raise StoreUnavailableError("the store does not answer", errno=errno.EIO)


def test_keys_that_cannot_be_kept_stay_in_the_spool(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.open()
    name = house.record()
    real = os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if "/keystore/" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        assert house.poll() == 0
    assert "KeysNotKept" in conditions(house)
    assert len(list(house.layout.spool_keys.iterdir())) == 1
    assert house.poll() == 1
    house.check_readable(name)
    assert conditions(house) == set()


def test_a_deposit_for_an_unknown_key_waits_to_be_renewed_then_goes_to_quarantine(house: House) -> None:
    vault = house.open()
    raw = house.depositor.deposit(
        new_id(), house.tenant, house.public, hpke.public_key(hpke.new_private_key()), bytes(32), 0
    )
    path = house.layout.spool_keys / "old.deposit"
    path.write_bytes(raw)
    house.poll()
    assert path.exists() and "DepositsUnopened" in conditions(house)
    house.clock.now += 61
    house.poll()
    assert not path.exists() and (vault.quarantine / "old.deposit").read_bytes() == raw
    house.poll()
    assert "DepositsUnopened" not in conditions(house)


def test_a_damaged_deposit_is_kept_in_quarantine_and_stops_no_other(house: House) -> None:
    vault = house.open()
    bad = house.layout.spool_keys / "aaa.deposit"
    bad.write_bytes(b"no deposit at all")
    name = house.record()
    assert house.poll() == 1
    house.check_readable(name)
    assert (vault.quarantine / "aaa.deposit").exists()


def test_the_vault_holds_no_such_recording(house: House) -> None:
    vault = house.open()
    with pytest.raises(RecordingNotFoundError):
        vault.holding(new_id())


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_lies_in_the_spool_is_filed_or_kept(tmp_path_factory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("spool")
    house = House(folder / "data", DirectoryGround(folder))
    house.clock = Clock()
    vault = house.open()
    name = house.record(ended=data.draw(st.booleans()), frames=2)
    path = next(house.layout.spool_recordings.iterdir())
    raw = bytearray(path.read_bytes())
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=4)):
        raw[at % len(raw)] = value
    del raw[data.draw(st.integers(0, 1200)) :]
    path.write_bytes(bytes(raw) + data.draw(st.binary(max_size=60)))
    content = path.read_bytes()
    house.poll()
    held = vault.holding(name)
    if held.state is HoldingState.QUARANTINED:
        (kept,) = house.everywhere(name)
        assert held.reason and kept.parent == vault.quarantine
        found = kept.read_bytes()
    else:
        found = house.stored(name)
        assert held.size == len(found)
    assert found[:100] == content[:100]
    house.close()
