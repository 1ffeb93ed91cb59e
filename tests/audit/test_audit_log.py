"""The log on disk: what is acknowledged stays, what is torn never was, what was signed is held against what is there."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
import time

import audit_kit as kit
import pytest

from appliance.audit import entry, tree
from appliance.audit.errors import AuditUnavailableError, EntryInvalidError, IndexUnavailableError
from appliance.audit.index import Index
from appliance.audit.log import root_at
from appliance.audit.note import Verifier, open_note
from appliance.audit.reader import Reader


def naive_root(found: list[bytes]) -> bytes:
    growing = tree.CompactRange()
    for one in found:
        growing.append(tree.leaf_hash(one))
    return growing.root()


def test_entries_are_lines_in_their_order_and_signed_at_the_end(tmp_path):
    with kit.running(tmp_path) as log:
        kit.write(log, 10)
        key = str(log.signer.verifier)
    assert [one["request"] for one in kit.records(tmp_path)] == [f"r{n}" for n in range(10)]
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600
    kept = [json.loads(one) for one in (tmp_path / "audit/checkpoints.jsonl").read_text().splitlines()]
    assert [open_note(one["note"], [Verifier.parse(key)])[0].split("\n")[1] for one in kept] == ["0", "10"]
    with kit.running(tmp_path) as log:
        assert log.size == 10 and log.signed.checkpoint.root == naive_root(kit.lines(tmp_path))
        assert str(log.signer.verifier) == key and log.generation == 1
        kit.write(log, 5, start=10)
        assert root_at(log, 10) == naive_root(kit.lines(tmp_path)[:10])
        assert log.sign().checkpoint.size == 15


def test_a_log_of_nothing_starts_again(tmp_path):
    for _ in range(3):
        with kit.running(tmp_path) as log:
            assert log.size == 0 and log.generation == 1
    with kit.running(tmp_path) as log:
        kit.write(log, 1)
        assert log.size == 1


def test_many_writers_share_what_they_wait_for_and_each_gets_its_number(tmp_path):
    with kit.running(tmp_path) as log:
        syncs = []
        sync = log._tail.sync
        log._tail.sync = lambda: (syncs.append(1), sync())
        numbers: list[int] = []

        def work(start: int) -> None:
            for number in range(start, start + 50):
                numbers.append(log.submit(kit.line(number), durable=True).result(10))

        threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(16)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert sorted(numbers) == list(range(800)) and len(syncs) < 800
    assert len(kit.lines(tmp_path)) == 800


def test_segments_follow_one_another(tmp_path):
    with kit.running(tmp_path, segment=2000) as log:
        for batch in range(30):
            kit.write(log, 5, start=5 * batch)
        assert len(log.table.closed) >= 3
        for start in (0, 1, 37, 80, 149, 150):
            reader, found = Reader(log, start), []
            while some := reader.take(most=7):
                found += some
            assert [one.index for one in found] == list(range(start, 150))
            assert all(json.loads(one.line)["request"] == f"r{one.index}" for one in found)
    for _ in range(2):
        with kit.running(tmp_path, segment=2000) as log:
            assert log.size == 150 and log.generation == 1
            assert root_at(log, 150) == naive_root(kit.lines(tmp_path))
        (tmp_path / "audit/segments.json").unlink()
        (tmp_path / "audit/nodes-1-02").unlink()


@pytest.mark.parametrize("torn", [b'{"time_ns":1,"what":"as', b"\0" * 300, b'{"a":1}\n{"b', b"xx\n"])
def test_what_a_crash_tore_is_cut_and_said(tmp_path, torn):
    with kit.running(tmp_path) as log:
        kit.write(log, 7)
    whole = torn.startswith(b'{"a"')
    kit.rewrite(kit.segment(tmp_path), lambda data: data + torn)
    with kit.running(tmp_path) as log:
        log.sign()
        assert log.generation == 1
        found = kit.records(tmp_path)
    assert [one.get("what") for one in found[7:]] == [*([None] if whole else []), "recovered"]
    assert found[-1]["bytes"] == len(torn) - 8 * whole


def test_what_was_durable_but_not_signed_stays(tmp_path):
    with kit.running(tmp_path) as log:
        kit.write(log, 3)
    kit.rewrite(kit.segment(tmp_path), lambda data: data + kit.line(3) + b"\n" + kit.line(4) + b"\n")
    with kit.running(tmp_path) as log:
        assert log.size == 5 and log.signed.checkpoint.size == 3
        assert log.sign().checkpoint.root == naive_root(kit.lines(tmp_path))


def test_a_full_disk_refuses_and_leaves_nothing_half_done(tmp_path):
    with kit.running(tmp_path) as log:
        kit.write(log, 3)
        kit.write(log, 2, start=3, durable=False)
        kept = log._tail._fd
        full = os.open("/dev/full", os.O_RDWR)
        log._tail._fd = full
        for durable in (True, False):
            with pytest.raises(AuditUnavailableError):
                log.submit(kit.line(99), durable=durable).result(10)
        with pytest.raises(AuditUnavailableError):
            log.sign()
        log._tail._fd = kept
        os.close(full)
        kit.write(log, 1, start=5)
    assert [one["request"] for one in kit.records(tmp_path)] == [f"r{n}" for n in range(6)]


def test_after_a_failed_sync_what_was_acknowledged_is_written_again(tmp_path):
    told = []
    with kit.running(tmp_path, told=told.append) as log:
        kit.write(log, 2)
        kit.write(log, 1, start=2, durable=False)
        sync = log._tail.sync

        def fail() -> None:
            os.ftruncate(log._tail._fd, log._synced)  # as if the pages were dropped
            raise OSError(5, "input/output error")

        log._tail.sync = fail
        with pytest.raises(AuditUnavailableError):
            log.submit(kit.line(99), durable=True).result(10)
        log._tail.sync = sync
        kit.write(log, 1, start=3)
    assert [one["request"] for one in kit.records(tmp_path)] == ["r0", "r1", "r2", "r3"]
    assert isinstance(told[0], OSError) and told[-1] is None


def test_a_checkpoint_is_signed_by_itself_after_a_while(tmp_path):
    with kit.running(tmp_path, sign_s=0.01) as log:
        kit.write(log, 3)
        with log.grown:
            assert log.grown.wait_for(lambda: log.signed.checkpoint.size == 3, 0) or True
        for _ in range(1000):
            if log.signed.checkpoint.size == 3:
                break
            threading.Event().wait(0.01)
        assert log.signed.checkpoint.size == 3
        newest = json.loads((tmp_path / "audit/checkpoint").read_text())
        assert newest["note"] == log.signed.note


def test_what_an_older_release_wrote_becomes_the_first_entries(tmp_path):
    old = b'{"what":"asked","who":"admin","x":{"y":1}}\n{"what":"do\n{"what":"done"}\n'
    (tmp_path / "audit.jsonl").write_bytes(old)
    with kit.running(tmp_path) as log:
        kit.write(log, 1)
    found = kit.records(tmp_path)
    assert kit.lines(tmp_path)[0] == old.split(b"\n")[0]
    assert [one["what"] for one in found] == ["asked", "done", "taken-over", "asked"]
    assert (found[2]["entries"], found[2]["torn"]) == (2, 1)
    assert not (tmp_path / "audit.jsonl").exists()
    (tmp_path / "audit.jsonl").write_bytes(b'{"what":"later"}\n')
    with kit.running(tmp_path) as log:
        log.sign()
    found = kit.records(tmp_path)
    assert found[-1]["what"] == "put-aside" and (tmp_path / "audit" / found[-1]["file"]).exists()


def test_taking_over_that_was_broken_off_is_done_again(tmp_path):
    (tmp_path / "audit.jsonl").write_bytes(b'{"what":"asked"}\n')
    kit.opened(tmp_path)
    kit.segment(tmp_path).unlink()
    with kit.running(tmp_path) as log:
        log.sign()
        assert log.generation == 1
    assert [one["what"] for one in kit.records(tmp_path)] == ["asked", "taken-over"]


def test_after_the_end_nothing_is_taken(tmp_path):
    with kit.running(tmp_path) as log:
        pass
    log.close()
    with pytest.raises(AuditUnavailableError):
        log.submit(b"{}", durable=True)
    with pytest.raises(AuditUnavailableError):
        log.sign()


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"a": "x" * 401}, {"a": None}, {"a": {"b": 1}}, {"a": 2**64}, {"a": ["x"] * 17}, {"a": [1]},
        {"a b": 1}, {f"f{n}": 1 for n in range(33)}, {f"f{n}": "\u00e9" * 300 for n in range(10)}, {"a": 1.5},
    ],
)  # fmt: skip
def test_what_is_no_entry_is_not_written(wrong):
    with pytest.raises(EntryInvalidError):
        entry.pack(wrong)


def test_an_entry_is_read_as_far_as_it_can_be():
    packed = entry.pack({"time_ns": 5, "who": "a\u00e9\n", "roles": ["operator"], "tenant": "t", "other": 1})
    assert b"\n" not in packed and packed.isascii()
    found = entry.Entry.of(packed)
    assert (found.time_ns, found.who, found.roles, found.tenant) == (5, "a\u00e9\n", ("operator",), "t")
    for one in (b"", b"[]", b"{", b"{" * 5000, b"\xff", b'{"time_ns":"x","who":5,"roles":{}}'):
        assert entry.Entry.of(one) == entry.Entry()


def idle(log) -> None:
    """Wait until the log's thread has done with what was written; nothing can be signed now."""
    with pytest.raises(AuditUnavailableError):
        log.sign()


def test_a_segment_that_cannot_be_closed_goes_on_and_is_read_all_the_same(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "no space")

    with kit.running(tmp_path, segment=2000) as log:
        with monkeypatch.context() as patched:
            patched.setattr("appliance.audit.segments.files.replace", full)
            kit.write(log, 40)
            idle(log)
            before = len(os.listdir("/proc/self/fd"))
            for number in range(40, 60):
                kit.write(log, 1, start=number)
            idle(log)
            assert log.table.closed == [] and len(os.listdir("/proc/self/fd")) == before
            assert [one.index for one in Reader(log, 0).take()] == list(range(60))
        kit.write(log, 1, start=60)
        log.sign()
        assert [(one.first, one.count) for one in log.table.closed] == [(0, 61)]
        kit.write(log, 1, start=61)
        reader = Reader(log, 0)
        assert [one.index for one in [*reader.take(), *reader.take()]] == list(range(62))


def test_a_checkpoint_that_could_not_be_made_durable_shifts_none_after_it(tmp_path, monkeypatch):
    with kit.running(tmp_path) as log:
        kit.write(log, 2)
        with monkeypatch.context() as patched:
            patched.setattr("appliance.audit.checkpoints.os.fdatasync", fails_for(log.checkpoints._fd))
            with pytest.raises(AuditUnavailableError):
                log.sign()
        kit.write(log, 100, start=2)
        notes = [log.sign().note]
        rows, before = log.checkpoints.before(None, 10)
        assert [json.loads(row)["note"] for row in rows][:1] == notes and before == 0
        assert b"".join(row + b"\n" for row in reversed(rows)) == (
            (tmp_path / "audit/checkpoints.jsonl").read_bytes()
        )


def fails_for(wanted: int):
    sync = os.fdatasync

    def fdatasync(fd: int) -> None:
        if fd == wanted:
            raise OSError(errno.EIO, "cannot be made durable")
        sync(fd)

    return fdatasync


def test_an_index_that_knows_what_a_power_cut_took_is_made_anew(tmp_path):
    with kit.running(tmp_path) as log:
        kit.write(log, 5)
        log.sign()
    with kit.running(tmp_path) as log:
        kit.write(log, 2, start=5, durable=False)
        index = Index(log)
        index.caught_up(7)
        index.close()
        kept = (tmp_path / "audit/checkpoint").read_bytes()
    # The last two were not on disk when the power went, nor a checkpoint over them; the index was.
    shorter = b"".join(one + b"\n" for one in kit.lines(tmp_path)[:5])
    kit.segment(tmp_path, 1).write_bytes(shorter)
    (tmp_path / "audit/checkpoint").write_bytes(kept)
    rows = (tmp_path / "audit/checkpoints.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "audit/checkpoints.jsonl").write_bytes(b"".join(rows[:2]))
    with kit.running(tmp_path) as log:
        assert (log.generation, log.size) == (1, 5)
        kit.write(log, 3, start=100, who="somebody else entirely")
        index = Index(log)
        try:
            index.caught_up(8)
            assert [one.line for one in index.newest(None, 8, 10)] == kit.lines(tmp_path)[::-1]
        finally:
            index.close()


def test_a_disk_that_is_full_for_a_while_loses_no_hash(tmp_path):
    control = tmp_path / "control"
    with kit.running(control) as log:
        kit.write(log, 2)
        log.hashes.flush()
        (control / "audit/nodes-1-02").mkdir()  # no file can be made there
        kit.write(log, 4, start=2)  # in the midst of which a new level begins
        (control / "audit/nodes-1-02").rmdir()
        kit.write(log, 7, start=6)
        log.hashes.flush()
        for size in range(1, 14):
            assert root_at(log, size) == naive_root(kit.lines(control)[:size]), size
    with kit.running(control) as log:
        assert log.hashes.holds(13) and root_at(log, 13) == naive_root(kit.lines(control)[:13])


@pytest.mark.parametrize("page", ["root", "first"])
def test_an_index_of_which_a_power_cut_left_half_is_made_anew(tmp_path, page):
    with kit.running(tmp_path) as log:
        kit.write(log, 300)
        log.sign()
        index = Index(log)
        index.caught_up(300)
        index.close()
        path = log.folder / "index.db"
        with sqlite3.connect(path) as connection:
            (root,) = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'entries'"
            ).fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.close()
        with path.open("r+b") as file:
            number = root
            if page == "first":  # which the newest entry is not in (SQLite's file format, 1.6)
                file.seek((root - 1) * size)
                top = file.read(size)
                assert top[0] == 0x05, "too few entries for a page above the leaves"
                cell = int.from_bytes(top[12:14])
                number = int.from_bytes(top[cell : cell + 4])
            file.seek((number - 1) * size)
            file.write(b"\0" * size)
        index = Index(log)
        try:
            if page == "first":
                index.caught_up(300)
                with pytest.raises(IndexUnavailableError):
                    index.newest(None, 300, 300)
            deadline = time.monotonic() + 15
            while index.size < 300 or not _reads(index):
                assert time.monotonic() < deadline, "it stays broken"
                time.sleep(0.01)
            assert [one.line for one in index.newest(None, 300, 300)] == kit.lines(tmp_path)[:300][::-1]
        finally:
            index.close()


def _reads(index) -> bool:
    try:
        return len(index.newest(None, 300, 300)) == 300
    except IndexUnavailableError:
        return False


@pytest.mark.parametrize("rubbish", ["[" * 4000, "[[1e999, 0, 0, 0]]", "null", "\0"])
def test_rubbish_beside_the_entries_keeps_no_log_from_opening(tmp_path, rubbish):
    with kit.running(tmp_path, segment=500) as log:
        kit.write(log, 20)
    (tmp_path / "audit/segments.json").write_text(rubbish)
    with (tmp_path / "audit/checkpoints.jsonl").open("a") as file:
        file.write(rubbish + "\n")
    with kit.running(tmp_path) as log:
        assert log.generation == 1 and log.size >= 20
