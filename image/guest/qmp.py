"""QEMU's monitor protocol: commands, and the events that come between their answers."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from image.errors import GuestError, GuestTimeout
from image.guest.channel import connected, turn

DEADLINE_S = 20.0


class Monitor:
    """One conversation with a running QEMU. Raises `GuestError` for what it refuses, `GuestTimeout` for silence."""

    def __init__(self, folder: Path) -> None:
        self._pending = b""
        self.events: list[dict[str, Any]] = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(turn(folder, "qmp", time.monotonic() + DEADLINE_S))
            self._socket = stack.enter_context(connected(folder, "qmp.sock"))
            self._next(time.monotonic() + DEADLINE_S)  # the greeting
            self.command("qmp_capabilities")
            self._stack = stack.pop_all()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0:
                raise GuestTimeout("QEMU's monitor is silent")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise GuestTimeout("QEMU's monitor is silent") from error
            if not data:
                raise GuestError("QEMU closed its monitor")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def command(self, name: str, **arguments: Any) -> Any:
        """Runs a command; gives what it returns. Underscores in argument names stand for hyphens."""
        said = {
            "execute": name,
            "arguments": {key.replace("_", "-"): value for key, value in arguments.items()},
        }
        self._socket.sendall(json.dumps(said).encode() + b"\n")
        deadline = time.monotonic() + DEADLINE_S
        while True:
            answer = self._next(deadline)
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise GuestError(f"QEMU refuses {name}: {answer['error']['desc']}")
            else:
                return answer.get("return")

    def wait_event(self, name: str, deadline_s: float = DEADLINE_S, **fields: Any) -> dict[str, Any]:
        """The next event of this name whose data has these fields, among those seen and those to come."""
        deadline = time.monotonic() + deadline_s
        while True:
            for event in self.events:
                data = event.get("data", {})
                if event["event"] == name and all(data.get(key) == value for key, value in fields.items()):
                    self.events.remove(event)
                    return event
            answer = self._next(deadline)
            if "event" in answer:
                self.events.append(answer)
