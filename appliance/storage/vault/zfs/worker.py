"""The vault's side of its agent: requests with a deadline.

One agent with a thread for each request, and not one agent for each: a request that is given up costs a thread in a
process that the vault can do without, files that are open stay readable, and when the pool comes back all of it ends by
itself. What was given up is counted and keeps its names busy until the kernel lets go of it: nothing is asked twice at the
same time. When MAX_STUCK of them wait, nothing more is asked.
"""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from appliance.storage.vault.errors import StoreUnavailableError
from appliance.storage.vault.zfs import frames
from appliance.storage.vault.zfs.pool import SUSPENDED, Pool
from appliance.storage.vault.zfs.trouble import Trouble

MAX_STUCK: Final = 8
LOOK_S: Final = 0.5  # how often a waiting caller looks whether the pool is suspended
STOP_S: Final = 2.0
COMMAND: Final = (sys.executable, "-m", "appliance.storage.vault.zfs.agent")
_PASSED: Final = ("PATH", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    value: Any
    payload: bytes


@dataclass(slots=True)
class _Request:
    op: str
    names: frozenset[str]
    since: float
    done: threading.Event = field(default_factory=threading.Event)
    head: dict[str, Any] | None = None
    payload: bytes = b""
    given_up: bool = False


class Agent:
    """One child process and the requests it works on."""

    def __init__(self, command: Sequence[str]) -> None:
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | {"LC_ALL": "C.UTF-8"},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._answers: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._open: dict[int, _Request] = {}
        self.gone = threading.Event()
        threading.Thread(target=self._listen, name="zfs-agent", daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._process.pid

    def ask(self, op: str, args: dict[str, Any], payload: bytes, names: frozenset[str]) -> _Request:
        """Sends a request. StoreUnavailableError where the agent is gone."""
        request = _Request(op, names, time.monotonic())
        number = next(self._ids)
        with self._lock:
            self._open[number] = request
        try:
            with self._writing:
                self._requests.write(frames.pack({"id": number, "op": op, "args": args}, payload))
                self._requests.flush()
        except (BrokenPipeError, ValueError) as error:
            with self._lock:
                self._open.pop(number, None)
            raise _gone() from error
        return request

    def _listen(self) -> None:
        try:
            while (message := frames.read(self._answers)) is not None:
                head, payload = message
                with self._lock:
                    request = self._open.pop(head["id"])
                    request.head, request.payload = head, payload
                    late = request.given_up
                request.done.set()
                if late and request.op == "open" and "error" not in head:
                    self.ask("close", {"handle": head["value"]["handle"]}, b"", frozenset())
        except (frames.FrameError, StoreUnavailableError, KeyError, OSError):
            self._process.kill()  # what it says cannot be understood, or it is being stopped
        finally:
            # The end of the pipe comes when the last thread has left the kernel: from here on nothing of it can happen.
            self.gone.set()
            with self._lock:
                left, self._open = list(self._open.values()), {}
            for request in left:
                request.done.set()
            self._process.wait()

    def give_up(self, request: _Request) -> bool:
        """Nobody waits for this request any more; false where its answer has just come."""
        with self._lock:
            request.given_up = request.head is None and not self.gone.is_set()
            return request.given_up

    def stuck(self) -> list[_Request]:
        """Requests that were given up and are still being worked on."""
        with self._lock:
            return [request for request in self._open.values() if request.given_up]

    def stop(self) -> None:
        """Ends the process as far as it can be ended now; one that is in the kernel ends when the kernel lets it."""
        try:
            self._requests.close()
        except OSError:
            pass
        if not self.gone.wait(STOP_S):
            self._process.kill()
            self.gone.wait(STOP_S)


def _gone() -> StoreUnavailableError:
    return StoreUnavailableError("the agent that works on the pool has ended", errno=errno.EPIPE)


class Worker:
    """Calls with a deadline. Safe to use from any thread."""

    def __init__(self, pool: Pool, deadline_s: float, command: Sequence[str] = COMMAND) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._command = command
        self._lock = threading.Lock()
        self._agent: Agent | None = None
        self._closed = False

    def _running(self) -> Agent:
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("the store is closed", errno=errno.ESHUTDOWN)
            if self._agent is None or self._agent.gone.is_set():
                self._agent = Agent(self._command)
            return self._agent

    def call(
        self,
        op: str,
        /,
        *,
        payload: bytes = b"",
        changes: Iterable[str] = (),
        deadline_s: float | None = None,
        on_pool: bool = True,
        **args: Any,
    ) -> Answer:
        """Asks the agent. `changes`: what the request changes; while one that was given up is at it, this is refused.

        Raises Trouble where the agent answers with an error; StoreSuspendedError or StoreUnavailableError where it does
        not answer in time, or the pool is not there (`on_pool`: the request needs it).
        """
        changed = frozenset(changes)
        if on_pool:
            self._pool.refuse_hopeless()
            self._refuse_stuck(changed)
        agent = self._running()
        request = agent.ask(op, args, payload, changed)
        self._wait(agent, request, self._deadline_s if deadline_s is None else deadline_s)
        if request.head is None:
            raise _gone()
        error = request.head.get("error")
        if error:
            raise Trouble(error["errno"], error["kind"], error["names"], error["said"])
        return Answer(request.head.get("value"), request.payload)

    def _wait(self, agent: Agent, request: _Request, deadline_s: float) -> None:
        end = time.monotonic() + deadline_s
        suspended = 0
        while not request.done.wait(min(LOOK_S, max(0.0, end - time.monotonic()))):
            suspended = suspended + 1 if self._pool.state() == SUSPENDED else 0
            if (suspended > 1 or time.monotonic() >= end) and agent.give_up(request):
                self._pool.refuse_hopeless()
                raise self._late()

    def _late(self) -> StoreUnavailableError:
        return StoreUnavailableError("the pool does not answer in time", errno=errno.ETIMEDOUT)

    def _refuse_stuck(self, names: frozenset[str]) -> None:
        stuck = self.stuck()
        if len(stuck) >= MAX_STUCK or any(request.names & names for request in stuck):
            raise self._late()

    def stuck(self) -> list[_Request]:
        """Requests that were given up and are still in the kernel."""
        with self._lock:
            agent = self._agent
        return agent.stuck() if agent else []

    def close(self) -> None:
        """Ends the agent."""
        with self._lock:
            self._closed = True
            agent, self._agent = self._agent, None
        if agent:
            agent.stop()
