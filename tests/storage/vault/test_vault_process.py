"""The vault as a process: the contract over its socket, and kill -9 in the middle of everything."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from conftest_process import WAIT_S, Process, refused

from appliance.model import new_id
from appliance.storage.sealed import verify
from earwitness.internal.v1 import vault_pb2


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path / "data")
    made.start()
    yield made
    made.stop()
    made.house.let_go()


def check_readable(process: Process, name: str) -> None:
    key = process.lease(name)
    assert key == process.house.keys[name]
    report = verify(process.read(name), process.status().device_public_key, key)
    assert report.findings == () and report.trusted and report.opened


def test_from_the_spool_to_a_reading_and_to_erasure(process: Process) -> None:
    house = process.house
    name = house.record(frames=10)
    (entry,) = process.watch(0, 1)
    assert entry.position == 1 and entry.holding.state == vault_pb2.HOLDING_STATE_FILED
    assert entry.holding == process.holding(name)
    check_readable(process, name)
    whole = process.read(name)
    assert len(whole) == entry.holding.size
    assert process.read(name, offset=100, length=50) == whole[100:150]
    assert process.read(name, offset=len(whole) - 7) == whole[-7:]
    assert process.read(name, offset=len(whole) + 1) == b""
    assert refused(process.read, name, -1) == ("INVALID_ARGUMENT", "INVALID")

    request = vault_pb2.DeleteRecordingRequest(recording_id=name, reason="asked")
    assert process.stub.DeleteRecording(request).holding.state == vault_pb2.HOLDING_STATE_DELETED
    assert refused(process.lease, name) == ("FAILED_PRECONDITION", "RECORDING_DELETED")
    assert refused(process.read, name) == ("FAILED_PRECONDITION", "RECORDING_DELETED")
    process.stub.UndeleteRecording(vault_pb2.UndeleteRecordingRequest(recording_id=name))
    check_readable(process, name)

    (certificate,) = process.erase(name, reason="asked")
    assert process.erase(name, reason="other") == [certificate]
    assert refused(process.lease, name) == ("FAILED_PRECONDITION", "RECORDING_ERASED")
    assert [item.holding.state for item in process.watch(0, 4)] == [1, 2, 1, 3]
    assert process.holding(name).certificate == certificate
    status = process.status()
    assert (status.filed, status.erased, status.keys, status.position) == (0, 1, 0, 4)
    assert status.backend == "directory" and status.free_bytes <= status.total_bytes
    assert status.last_erasure_ns == certificate.erased_ns and status.stored_bytes == 0
    assert certificate.device_public_key == status.device_public_key
    assert process.process_status().process == "vault"


def test_what_is_refused_comes_with_its_reason(process: Process) -> None:
    house = process.house
    live = house.record(ended=False, live=True)
    assert refused(process.holding, live) == ("FAILED_PRECONDITION", "RECORDING_LIVE")
    assert refused(process.erase, live) == ("FAILED_PRECONDITION", "RECORDING_LIVE")
    assert refused(process.holding, new_id()) == ("NOT_FOUND", "RECORDING_NOT_FOUND")
    assert refused(process.holding, "../../etc/passwd") == ("INVALID_ARGUMENT", "INVALID")
    assert refused(process.erase) == ("INVALID_ARGUMENT", "INVALID")
    assert refused(process.watch, -1, 1) == ("INVALID_ARGUMENT", "INVALID")
    assert refused(process.watch, 1, 1) == ("FAILED_PRECONDITION", "JOURNAL_POSITION")
    assert (
        refused(process.stub.CreateTenantKey, vault_pb2.CreateTenantKeyRequest(tenant_id="x"))[0]
        == "INVALID_ARGUMENT"
    )


def test_large_files_come_in_pieces_of_a_mebibyte(process: Process) -> None:
    house = process.house
    name = house.record(frames=4, payload=os.urandom(900_000))
    process.watch(0, 1)
    request = vault_pb2.ReadSealedRequest(recording_id=name)
    pieces = [len(item.data) for item in process.stub.ReadSealed(request)]
    assert sum(pieces) == process.holding(name).size > 3_000_000
    assert set(pieces[:-1]) == {1 << 20}


def test_watchers_get_backlog_then_live_and_leave_when_cancelled(process: Process) -> None:
    house = process.house
    first = house.record()
    process.watch(0, 1)
    # More watchers than the server has threads, one after the other: each must give its thread back.
    for _ in range(30):
        assert process.watch(0, 1)[0].holding.recording_id == first
    stream = process.stub.WatchRecordings(vault_pb2.WatchRecordingsRequest(after=1), timeout=WAIT_S)
    second = house.record()
    entry = next(stream)
    assert (entry.position, entry.holding.recording_id) == (2, second)
    listed = list(process.stub.ListHoldings(vault_pb2.ListHoldingsRequest()))
    assert {item.holding.recording_id for item in listed} == {first, second}
    assert {item.position for item in listed} == {2}
    # A watcher does not keep the process from stopping.
    assert process.end(signal.SIGTERM) == 0
    with pytest.raises(grpc.RpcError):
        list(stream)


def test_erasing_from_two_sides_at_once_gives_one_certificate(process: Process) -> None:
    names = [process.house.record() for _ in range(3)]
    process.watch(0, 3)
    results: list[list[vault_pb2.ErasureCertificate]] = []
    sides = [
        threading.Thread(target=lambda: results.append(process.erase(*names, reason="x"))) for _ in range(4)
    ]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert len(results) == 4 and all(item == results[0] for item in results)
    assert process.status().position == 6


def test_killed_while_filing_nothing_is_lost_and_nothing_is_filed_twice(process: Process) -> None:
    house = process.house
    names = []
    for round_ in range(4):
        names += [house.record(ended=place % 3 > 0) for place in range(12)]
        # Killed as soon as it has begun with these.
        process.watch(12 * round_, 1 + round_)
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
        process.start()
        process.watch(0, len(names))
    entries = process.watch(0, len(names))
    assert [entry.position for entry in entries] == list(range(1, len(names) + 1))
    assert {entry.holding.recording_id for entry in entries} == set(names)
    for name in names:
        check_readable(process, name)
        assert len(house.everywhere(name)) == 1
    assert process.process_status().conditions == []


def test_killed_while_erasing_it_is_completed_or_was_not_begun(process: Process) -> None:
    house = process.house
    names = [house.record() for _ in range(12)]
    process.watch(0, 12)
    for round_ in range(4):
        gone = names[3 * round_ : 3 * round_ + 3]
        # Killed as soon as something of it can be seen from outside: the intent, or a new deposit key.
        deposit_key = house.layout.deposit_key
        before = deposit_key.stat().st_ino
        pending = process.stub.EraseRecordings.future(
            vault_pb2.EraseRecordingsRequest(recording_ids=gone, reason="asked"), timeout=WAIT_S
        )
        while not pending.done():
            if round_ % 2 == 0 and any((house.layout.vault / "erasing").glob("*.json")):
                break
            if round_ % 2 == 1 and deposit_key.stat().st_ino != before:
                break
        process.end(signal.SIGKILL)
        process.start()
        certificates = process.erase(*gone, reason="asked again")
        assert [item.recording_id for item in certificates] == gone
        for name in gone:
            assert refused(process.lease, name) == ("FAILED_PRECONDITION", "RECORDING_ERASED")
            assert house.everywhere(name) == []
        for name in names[3 * round_ + 3 :]:
            check_readable(process, name)
    assert process.status().keys == 0
    assert not list((house.layout.vault / "erasing").iterdir())


def test_after_a_stop_it_goes_on_where_it_was(process: Process) -> None:
    name = process.house.record()
    process.watch(0, 1)
    assert process.end(signal.SIGTERM) == 0
    key = process.house.layout.deposit_key.read_bytes()
    waits = process.house.record()
    process.start()
    assert process.house.layout.deposit_key.read_bytes() == key
    assert process.watch(1, 1)[0].holding.recording_id == waits
    check_readable(process, name)
    check_readable(process, waits)


def test_it_listens_on_no_network_and_its_log_holds_no_key(process: Process) -> None:
    name = process.house.record()
    process.watch(0, 1)
    process.lease(name)
    pid = process.process_status().pid
    sockets = {
        os.readlink(f"/proc/{pid}/fd/{fd}")[8:-1]
        for fd in os.listdir(f"/proc/{pid}/fd")
        if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    }
    for table in ("tcp", "tcp6", "udp", "udp6"):
        inodes = {line.split()[9] for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]}
        assert not sockets & inodes
    assert process.end(signal.SIGTERM) == 0
    text = process.log.read_text()
    assert "key leased" in text and process.house.keys[name].hex() not in text
    private = process.house.layout.root / "keystore"
    assert all(not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in private.rglob("*") if path.is_file())


def test_a_lost_keystore_stops_the_start_with_its_reason(process: Process) -> None:
    import shutil

    process.house.record()
    process.watch(0, 1)
    process.end(signal.SIGTERM)
    for folder in process.layout.keystores:
        shutil.rmtree(folder)
    with pytest.raises(AssertionError, match="KEYSTORE_LOST"):
        process.start()
