"""The host's end of the agent's port: one request, one answer, however many processes ask."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from image.errors import GuestError, GuestTimeout

LOOK_S = 0.5  # between looks whether the guest is still alive while waiting for an answer


@contextlib.contextmanager
def connected(folder: Path, name: str) -> Iterator[socket.socket]:
    """A connection to a Unix socket in a folder whose path may be too long for an address. `OSError`."""
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"/proc/self/fd/{directory}/{name}")
            yield connection
    finally:
        os.close(directory)


@contextlib.contextmanager
def turn(folder: Path, name: str, deadline: float) -> Iterator[None]:
    """Waits for one's turn: QEMU's sockets serve one client at a time. `GuestTimeout` where it does not come."""
    with open(folder / f"{name}.lock", "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise GuestTimeout(f"another process keeps the guest's {name}") from None
                time.sleep(0.01)
        yield


class Channel:
    """Asks the agent. `check` raises where the guest is dead; it is called while an answer is awaited."""

    def __init__(self, folder: Path, check: Callable[[], None]) -> None:
        self._folder = folder
        self._check = check

    def ask(self, do: str, deadline_s: float, **fields: Any) -> dict[str, Any]:
        """The agent's answer. `GuestError` where it refuses, `GuestTimeout` where none comes in time."""
        deadline = time.monotonic() + deadline_s
        identity = secrets.token_hex(8)
        # The first line break ends what someone who was killed may have left unfinished.
        request = b"\n" + json.dumps({"id": identity, "do": do, **fields}).encode() + b"\n"
        try:
            with turn(self._folder, "agent", deadline), connected(self._folder, "agent.sock") as connection:
                connection.settimeout(deadline_s)
                connection.sendall(request)
                answer = self._receive(connection, identity, deadline)
        except (ConnectionError, FileNotFoundError, TimeoutError) as error:
            self._check()
            raise GuestTimeout(f"the agent cannot be asked to {do}: {error}") from error
        if "error" in answer:
            raise GuestError(f"the agent refuses to {do}: {answer['error']}")
        return answer

    def _receive(self, connection: socket.socket, identity: str, deadline: float) -> dict[str, Any]:
        pending = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            connection.settimeout(min(LOOK_S, left))
            try:
                data = connection.recv(1 << 20)
            except TimeoutError:
                self._check()
                continue
            if not data:
                raise ConnectionResetError("the machine closed the port")
            pending += data
            *lines, pending = pending.split(b"\n")
            for line in lines:
                answer = _parsed(line)
                if answer.get("id") == identity:  # others answer someone who did not wait for it
                    return answer


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:  # the rest of an answer to someone who went away
        return {}
    return answer
