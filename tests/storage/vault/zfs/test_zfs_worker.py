"""Requests with a deadline: what does not come back is given up, counted, and asked again only when it has ended."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.storage.vault.errors import StoreSuspendedError, StoreUnavailableError
from appliance.storage.vault.zfs.pool import Pool
from appliance.storage.vault.zfs.trouble import ASTRAY, Trouble
from appliance.storage.vault.zfs.worker import MAX_STUCK, Worker

COMMAND = (sys.executable, str(Path(__file__).with_name("agent_of_tests.py")))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "tank" / "state"
    path.parent.mkdir()
    path.write_text("ONLINE\n")
    return path


@pytest.fixture
def worker(state: Path, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(Pool("tank", tmp_path), 10.0, COMMAND)
    yield made
    made.close()


def test_everybody_gets_his_own_answer(worker: Worker) -> None:
    got: dict[int, bytes] = {}

    def ask(number: int) -> None:
        got[number] = worker.call("echo", payload=os.urandom(0) + str(number).encode() * 50_000).payload

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: str(number).encode() * 50_000 for number in range(20)}


def test_errors_come_as_numbers(worker: Worker) -> None:
    with pytest.raises(Trouble) as system:
        worker.call("fail", number=errno.EDQUOT)
    assert system.value.number == errno.EDQUOT
    with pytest.raises(Trouble) as astray:
        worker.call("astray")
    assert astray.value.kind == ASTRAY
    with pytest.raises(Trouble) as bug:
        worker.call("bug")
    assert (bug.value.number, bug.value.kind) == (errno.EPROTO, "KeyError")


def test_what_is_late_is_given_up_and_keeps_its_names_busy(worker: Worker) -> None:
    before = time.monotonic()
    with pytest.raises(StoreUnavailableError) as late:
        worker.call("sleep", changes=["tank/a"], deadline_s=0.2, seconds=3)
    assert time.monotonic() - before < 2 and late.value.data["errno"] == errno.ETIMEDOUT
    assert [request.op for request in worker.stuck()] == ["sleep"]
    with pytest.raises(StoreUnavailableError):
        worker.call("echo", changes=["tank/a", "tank/b"])
    assert worker.call("echo", changes=["tank/b"], payload=b"others").payload == b"others"
    until(lambda: not worker.stuck())
    assert worker.call("echo", changes=["tank/a"], payload=b"again").payload == b"again"


def test_no_more_is_asked_when_many_are_stuck(worker: Worker) -> None:
    for _ in range(MAX_STUCK):
        with pytest.raises(StoreUnavailableError):
            worker.call("sleep", deadline_s=0.05, seconds=4)
    before = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        worker.call("echo")
    assert time.monotonic() - before < 0.5
    assert worker.call("echo", on_pool=False, payload=b"not of the pool").payload == b"not of the pool"
    until(lambda: not worker.stuck())
    assert worker.call("echo", payload=b"again").payload == b"again"


def test_a_suspended_pool_is_told_before_the_deadline(worker: Worker, state: Path) -> None:
    timer = threading.Timer(0.3, state.write_text, ("SUSPENDED\n",))
    timer.start()
    before = time.monotonic()
    with pytest.raises(StoreSuspendedError):
        worker.call("sleep", seconds=8)
    assert time.monotonic() - before < 5
    before = time.monotonic()
    with pytest.raises(StoreSuspendedError):
        worker.call("echo")
    assert time.monotonic() - before < 0.5
    state.write_text("ONLINE\n")
    assert worker.call("echo", payload=b"it is back").payload == b"it is back"


def test_a_pool_that_is_not_there_is_told_at_once(worker: Worker, state: Path) -> None:
    state.unlink()
    with pytest.raises(StoreUnavailableError) as missing:
        worker.call("echo")
    assert not isinstance(missing.value, StoreSuspendedError)


def test_an_agent_that_dies_is_followed_by_another(worker: Worker) -> None:
    first = worker.call("pid").value
    with pytest.raises(StoreUnavailableError):
        worker.call("die")
    until(lambda: worker.call("pid").value != first)


def test_an_agent_that_cannot_be_understood_is_ended(worker: Worker) -> None:
    first = worker.call("pid").value
    with pytest.raises(StoreUnavailableError):
        worker.call("garble")
    assert worker.call("pid").value != first
    until(lambda: not os.path.exists(f"/proc/{first}"))


def test_a_file_that_was_opened_too_late_is_closed(worker: Worker) -> None:
    with pytest.raises(StoreUnavailableError):
        worker.call("open", deadline_s=0.1, seconds=0.5, handle=77)
    until(lambda: worker.call("closed").value == [77])


def test_closing_waits_for_nobody(worker: Worker) -> None:
    pid = worker.call("pid").value
    with pytest.raises(StoreUnavailableError):
        worker.call("sleep", deadline_s=0.1, seconds=60)
    before = time.monotonic()
    worker.close()
    assert time.monotonic() - before < 5
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    with pytest.raises(StoreUnavailableError):
        worker.call("echo")


def test_the_agent_ends_when_the_vault_is_gone(state: Path, tmp_path: Path) -> None:
    code = (
        "import sys, os\n"
        "from pathlib import Path\n"
        "from appliance.storage.vault.zfs.pool import Pool\n"
        "from appliance.storage.vault.zfs.worker import Worker\n"
        f"worker = Worker(Pool('tank', Path({str(tmp_path)!r})), 10.0, {COMMAND!r})\n"
        "print(worker.call('pid').value, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    import subprocess

    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout)
    until(lambda: not os.path.exists(f"/proc/{pid}"))
