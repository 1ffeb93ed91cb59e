"""The guest's agent and the host's end of its port, each without the other's machine."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from image.errors import GuestDied, GuestError, GuestTimeout
from image.guest.channel import Channel
from image.guest.initrd import INSIDE

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def program(tmp_path: Path) -> ModuleType:
    """The agent's program, with its folders moved."""
    spec = importlib.util.spec_from_file_location("guest_agent", INSIDE / "agent.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.JOBS, module.STAGE = str(tmp_path / "jobs"), str(tmp_path / "stage")  # type: ignore[attr-defined]
    return module


@pytest.fixture
def ask(program: ModuleType) -> Iterator[Ask]:
    """Asks an agent; gives its answer."""
    agent = program.Agent()

    def call(do: str, **fields: Any) -> dict[str, Any]:
        answer = json.loads(agent.answer(json.dumps({"id": "x", "do": do, **fields}).encode()))
        assert answer.pop("id") == "x"
        return dict(answer)

    yield call
    for name in list(agent.jobs):
        call("forget", job=name)


def finished(ask: Ask, job: str, out: int = 0, err: int = 0) -> dict[str, Any]:
    """The answer that has the exit code; expects output to fit into one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        said = ask("poll", job=job, out=out, err=err, wait=1)
        if said["code"] is not None:
            return said
    raise AssertionError("it never ended")


def test_a_job_has_a_code_and_its_output(ask: Ask) -> None:
    job = ask("start", argv=["sh", "-c", "echo out; echo err >&2; exit 5"])["job"]
    said = finished(ask, job)
    assert (base64.b64decode(said["out"]), base64.b64decode(said["err"]), said["code"]) == (
        b"out\n",
        b"err\n",
        5,
    )


def test_the_code_comes_only_with_the_last_output(ask: Ask, program: ModuleType) -> None:
    program.CHUNK = 100  # type: ignore[attr-defined]
    job = ask("start", argv=["sh", "-c", "seq 1 100"])["job"]
    had = b""
    for _ in range(200):
        said = ask("poll", job=job, out=len(had), err=0, wait=1)
        had += base64.b64decode(said["out"])
        if said["code"] is not None:
            break
    assert had == b"".join(b"%d\n" % number for number in range(1, 101))


def test_a_staged_file_is_a_jobs_input(ask: Ask) -> None:
    for first, piece in ((True, b"one"), (False, b"two")):
        ask("stage", name="in", data=base64.b64encode(piece).decode(), first=first)
    job = ask("start", argv=["cat"], stdin="in")["job"]
    ask("unstage", name="in")
    assert base64.b64decode(finished(ask, job)["out"]) == b"onetwo"


def test_killing_takes_the_children_along(ask: Ask) -> None:
    job = ask("start", argv=["sh", "-c", "sleep 300 & echo $!; wait"])["job"]
    out = b""
    while not out.endswith(b"\n"):
        out = base64.b64decode(ask("poll", job=job, out=0, err=0, wait=0.1)["out"])
    ask("kill", job=job, signal=9)
    assert finished(ask, job)["code"] == -9
    deadline = time.monotonic() + 10
    while _runs(int(out)):
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_forgotten_job_is_dead_and_unknown(ask: Ask, program: ModuleType) -> None:
    job = ask("start", argv=["sleep", "300"])["job"]
    ask("forget", job=job)
    assert "no job" in ask("poll", job=job, out=0, err=0)["error"]
    assert os.listdir(program.JOBS) == []


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "dance"}, {}, {"do": "start"}, {"do": "start", "argv": []}, {"do": "start", "argv": "ls"[:0]},
        {"do": "start", "argv": ["/no/such"]}, {"do": "start", "argv": ["ls"], "cwd": "/no/such"},
        {"do": "poll", "job": "7"}, {"do": "stage", "name": "../up", "data": "", "first": True},
        {"do": "stage", "name": "x", "data": "!", "first": True}, {"do": "unstage", "name": "none"},
        {"do": "kill", "job": None, "signal": 9},
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(ask: Ask, request_: dict[str, Any]) -> None:
    words = {key: value for key, value in request_.items() if key != "do"}
    assert ask(request_.get("do", "none"), **words)["error"]
    assert "error" not in ask("hello")


@pytest.mark.parametrize("line", [b"{", b"[]", b"1", b"\xff", b'"x"', b"null"])
def test_lines_that_are_no_request_are_answered(program: ModuleType, line: bytes) -> None:
    assert "error" in json.loads(program.Agent().answer(line))


# -- the host's end


class Port:
    """A Unix socket that answers as it is told, one client at a time, as QEMU's does."""

    def __init__(self, folder: Path, replies: Callable[[dict[str, Any]], bytes]) -> None:
        self.seen: list[dict[str, Any]] = []
        self._replies = replies
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(folder / "agent.sock"))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, client.makefile("rb") as lines:
                for line in lines:
                    if line.strip():
                        self.seen.append(json.loads(line))
                        client.sendall(self._replies(self.seen[-1]))

    def close(self) -> None:
        self._server.close()


def answer(request: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"id": request["id"], **fields}).encode() + b"\n"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Port]]:
    ports: list[Port] = []

    def make(replies: Callable[[dict[str, Any]], bytes]) -> Port:
        ports.append(Port(tmp_path, replies))
        return ports[-1]

    yield make
    for port in ports:
        port.close()


def fine() -> None:
    """A guest that lives."""


def test_answers_to_others_and_broken_ones_are_passed_over(
    serve: Callable[..., Port], tmp_path: Path
) -> None:
    serve(lambda request: b'half an answer"}\n{"id": "other", "job": 1}\n' + answer(request, job="2"))
    assert Channel(tmp_path, fine).ask("start", 5)["job"] == "2"


def test_a_refusal_is_an_error(serve: Callable[..., Port], tmp_path: Path) -> None:
    serve(lambda request: answer(request, error="Refused: no"))
    with pytest.raises(GuestError, match="refuses to start: Refused: no"):
        Channel(tmp_path, fine).ask("start", 5)


def test_silence_ends_at_the_deadline_or_with_the_guest(serve: Callable[..., Port], tmp_path: Path) -> None:
    serve(lambda request: b"")
    with pytest.raises(GuestTimeout):
        Channel(tmp_path, fine).ask("hello", 0.3)

    def dead() -> None:
        raise GuestDied("panicked")

    began = time.monotonic()
    with pytest.raises(GuestDied):
        Channel(tmp_path, dead).ask("hello", 30)
    assert time.monotonic() - began < 10


def test_nobody_there_is_a_time_out(tmp_path: Path) -> None:
    with pytest.raises(GuestTimeout, match="cannot be asked"):
        Channel(tmp_path, fine).ask("hello", 1)


def test_many_ask_at_once_and_each_gets_its_own_answer(serve: Callable[..., Port], tmp_path: Path) -> None:
    serve(lambda request: answer(request, echo=request["number"]))
    got: dict[int, int] = {}

    def work(number: int) -> None:
        got[number] = Channel(tmp_path, fine).ask("echo", 20, number=number)["echo"]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: number for number in range(16)}
