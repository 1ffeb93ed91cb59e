"""When the disk does not take what it is given, and keys on their way to the vault."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from capture_kit import Box, rtp, tone

from appliance.media.capture.commands import Close
from appliance.media.capture.deposits import SpoolDeposits
from appliance.model import MarkKind
from appliance.storage.keystore import DepositRequest  # noqa: F401 - the room's public name
from appliance.storage.sealed import SealedReader


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A real limit of the kernel: what goes beyond is written in part and then refused (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_for_a_while_costs_nothing(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(seq, os.urandom(160)) for seq in range(10)])
    box.tick()
    box.commit()
    whole = box.path(session, "part").stat().st_size
    with no_file_larger_than(whole + 500):
        for burst in range(1, 4):
            box.send(port, [rtp(10 * burst + seq, os.urandom(160)) for seq in range(10)])
            box.tick()
            box.commit()
            assert [getattr(error, "errno", None) for error in box.errors] == [errno.EFBIG]
            # Cut back to the last whole frame: a reader finds nothing torn.
            assert box.path(session, "part").stat().st_size == whole
    box.commit()
    assert box.errors == []
    content = box.close(session)
    assert content.sequences(0) == list(range(40))
    assert content.findings == []


def test_a_disk_that_stays_full_costs_the_oldest_and_says_so(tmp_path: Path) -> None:
    box = Box(tmp_path / "data", memory=20_000)
    session, port = box.open_one()
    box.tick()
    box.commit()
    with no_file_larger_than(box.path(session, "part").stat().st_size + 100):
        for burst in range(8):
            box.send(port, [rtp(20 * burst + seq, os.urandom(160)) for seq in range(20)])
            box.tick()
            box.commit()
    box.commit()
    content = box.close(session)
    kept = content.sequences(0)
    # The first burst was sealed before the disk refused it; of the rest the newest fit in memory.
    assert kept[:20] == list(range(20))
    assert kept[-20:] == list(range(140, 160))
    assert len(kept) + box.recorder.counters()["packets_shed"] == 160
    assert len(kept) < 160
    gaps = [mark for mark in content.marks if mark.kind is MarkKind.GAP]
    assert [gap.reason for gap in gaps] == ["disk-full"]
    assert int(gaps[0].data["until_ns"]) > gaps[0].at_ns
    box.shut()


def test_the_end_waits_for_a_full_disk(box: Box) -> None:
    session, port = box.open_one()
    box.tick()
    box.commit()
    box.send(port, [rtp(0, os.urandom(160))])
    with no_file_larger_than(box.path(session, "part").stat().st_size + 10):
        box.recorder.close(Close(session, "bye"), lambda closed: box.closed.__setitem__(session, closed))
        box.commit()
        assert session not in box.closed
        assert box.path(session, "part").exists()
        box.commit()
        assert session not in box.closed
    box.commit()
    assert session in box.closed
    assert box.read(session).sequences(0) == [0]
    assert not box.recorder.unfinished


def test_nothing_is_written_before_its_key_is_deposited(box: Box) -> None:
    box.layout.deposit_key.unlink()
    session, port = box.open_one()
    for burst in range(3):
        box.send(port, [rtp(burst)])
        box.tick()
        box.commit()
        assert box.errors
        assert list(box.layout.spool_recordings.iterdir()) == []
    box.keys.publish()
    box.commit()
    assert box.errors == []
    assert box.close(session).sequences(0) == [0, 1, 2]


def test_a_malformed_tenant_key_does_not_keep_others_from_recording(box: Box) -> None:
    good = box.keys.tenant_public
    box.keys.tenant_public = b"no key"
    bad, _ = box.open_one()
    box.keys.tenant_public = good
    session, port = box.open_one()
    box.send(port, [rtp(0)])
    box.tick()
    box.commit()
    assert len(box.errors) == 1
    assert not box.path(bad, "part").exists()
    assert box.close(session).sequences(0) == [0]


def test_keys_go_again_to_a_new_deposit_key(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(0)])
    box.close(session)
    before = set(box.layout.spool_keys.iterdir())
    box.keys.publish()  # an erasure: what is sealed to the old key opens nothing any more
    box.deposits.renew()
    after = set(box.layout.spool_keys.iterdir())
    assert len(after) == 1 and not before & after
    assert box.read(session).sequences(0) == [0]
    assert box.deposits.waiting == 1
    for path in after:
        path.unlink()  # the vault has taken it
    box.deposits.renew()
    assert box.deposits.waiting == 0


def test_one_deposit_for_all_sessions_of_a_commit(box: Box) -> None:
    sessions = [box.open_one()[0] for _ in range(5)]
    box.commit()
    assert len(list(box.layout.spool_keys.glob("*.deposit"))) == 1
    for session in sessions:
        assert len(box.keys.data_key(session)) == 32


def test_a_deposit_that_cannot_be_written_leaves_nothing_behind(box: Box) -> None:
    with no_file_larger_than(100):
        session, _ = box.open_one()
        box.commit()
    assert [getattr(error, "errno", None) for error in box.errors] == [errno.EFBIG]
    assert list(box.layout.spool_keys.iterdir()) == []
    box.commit()
    assert box.errors == []
    assert isinstance(box.deposits, SpoolDeposits)
    assert box.close(session).end is not None


def test_a_part_is_locked_while_it_is_written(box: Box) -> None:
    session, _ = box.open_one()
    box.commit()
    with box.path(session, "part").open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        box.close(session)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_is_committed_can_be_read_while_the_call_goes_on(box: Box) -> None:
    session, port = box.open_one()
    for burst in range(3):
        box.send(port, [rtp(burst, tone(burst))])
        box.tick()
        box.commit()
        reader = SealedReader(box.path(session, "part").read_bytes(), box.keys.data_key(session))
        assert sum(len(block) for block in reader if hasattr(block, "ssrc")) == burst + 1  # type: ignore[arg-type]
