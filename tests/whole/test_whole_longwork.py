"""Long work of a served box: control is killed in the middle of it, begins anew, and ends it as if nothing had been."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import whole_kit as kit
from embedded_kit import started

import earwitness.verify.exitpack as verifier
from appliance.cli.demonstration.embedded import EmbeddedBox
from earwitness.v1 import operations_pb2 as pb

pytestmark = pytest.mark.timeout(900)
CALLS = 24
BUSY_S = 180.0  # for what takes a second or two, on a machine that has other things to do


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    """A box with a recording of each of CALLS calls, that may write exit packs into `exit` beside its data."""
    root = tmp_path_factory.mktemp("whole-longwork")
    (root / "exit").mkdir()
    site = root / "site.toml"
    site.write_text(f'[[exit.folders]]\npath = "{root / "exit"}"\n')
    with started(root / "data", "--config", str(site)) as running:
        kit.call_each(running, CALLS)
        yield running


@pytest.fixture
def tenant(box: EmbeddedBox) -> str:
    return str(kit.recordings(box)[0]["name"].rsplit("/", 2)[0])


def killed_in_the_middle(box: EmbeddedBox, begin: Callable[[], str], times: int = 2) -> pb.Operation:
    """Kills control each time some more of what is begun is done; gives the operation as it ended."""
    with kit.slow(kit.pid_of(box, "vault")):
        operation, done = begin(), 0
        for _ in range(times):

            def further(done: int = done) -> int:
                found = kit.operation(box, operation)
                return found.done_count if found is not None and found.done_count > done else 0

            done = kit.until(further, "more of it is done", BUSY_S)
            pid = kit.pid_of(box, "control")
            os.kill(pid, signal.SIGKILL)
            assert done < CALLS, "it was in the middle of it"
            kit.until(lambda pid=pid: kit.pid_of(box, "control") != pid, "control is begun anew", BUSY_S)
        again = kit.until(lambda: kit.operation(box, operation), "control answers", BUSY_S)
        assert again.state == pb.OPERATION_STATE_RUNNING, "it goes on, and had not ended"

    def ended() -> pb.Operation | None:
        found = kit.operation(box, operation)
        return found if found is not None and found.HasField("end_time") else None

    last: pb.Operation = kit.until(ended, "it has ended", BUSY_S)
    return last


def reads(box: EmbeddedBox, kind: str) -> Counter[str]:
    """How often each recording counts as read in that way."""
    catalogue = box.layout.control / "catalogue.db"
    with contextlib.closing(sqlite3.connect(f"file:{catalogue}?mode=ro", uri=True)) as opened:
        rows = opened.execute("SELECT recording_id FROM reads WHERE kind = ? AND NOT resumed", [kind])
        return Counter(str(one) for (one,) in rows)


def ids(box: EmbeddedBox) -> set[str]:
    return {one["name"].rsplit("/", 1)[-1] for one in kit.recordings(box)}


def test_a_verification_looks_at_each_recording_once(box: EmbeddedBox, tenant: str) -> None:
    last = killed_in_the_middle(
        box, lambda: str(kit.cli(box, "operations", "verify", "--tenant", tenant)["name"]), 1
    )
    found = last.verify_recordings
    assert last.state == pb.OPERATION_STATE_SUCCEEDED
    assert (found.intact_count, last.done_count, last.total_count) == (CALLS, CALLS, CALLS)


def test_an_exit_pack_is_whole_and_each_recording_read_once(box: EmbeddedBox, tenant: str) -> None:
    folder = box.data.parent / "exit"
    create = ("exit-pack", "create", "--tenant", tenant, "--folder", str(folder))
    last = killed_in_the_middle(box, lambda: str(kit.cli(box, *create, "--sealed")["operation"]["name"]))
    assert last.state == pb.OPERATION_STATE_SUCCEEDED
    assert (last.exit_pack.recording_count, last.exit_pack.problem_count) == (CALLS, 0)
    (pack,) = folder.iterdir()
    found = verifier.check(pack)
    assert (found.wrong, found.recordings) == ([], ids(box))
    assert reads(box, "exit-pack") == dict.fromkeys(ids(box), 1)
    assert not list((box.layout.control / "exit").iterdir())
    again = kit.cli(box, *create, "--wait")
    assert again["state"] == "OPERATION_STATE_SUCCEEDED"
    assert reads(box, "exit-pack") == dict.fromkeys(ids(box), 2), "another pack is another read"


def test_a_subject_pack_is_made_anew_and_read_once(box: EmbeddedBox, tenant: str, tmp_path: Path) -> None:
    created = ("subjects", "create", "SAR-1", "--number", "01632960100", "--identified", "called back")
    request = kit.cli(box, *created)["name"].rsplit("/", 1)[-1]
    kit.text(box, "subjects", "choose", request, *(one["name"] for one in kit.recordings(box)))

    def begin() -> str:
        kit.cli(box, "subjects", "pack", request, "--generate")
        return str(kit.cli(box, "operations", "list")[0]["name"])

    last = killed_in_the_middle(box, begin, 1)
    made = kit.cli(box, "subjects", "show", request)["packs"][0]
    assert (last.state, last.done_count) == (pb.OPERATION_STATE_SUCCEEDED, CALLS)
    file = tmp_path / "pack.zip"
    kit.cli(box, "subjects", "download", made["name"].rsplit("/", 1)[-1], "-o", str(file))
    with zipfile.ZipFile(file) as opened:
        assert sum(one.startswith("audio/") for one in opened.namelist()) == CALLS
    assert reads(box, "subject-pack") == dict.fromkeys(ids(box), 1)
    assert [one.suffix for one in (box.layout.control / "subject-packs").iterdir()] == [".zip"]
