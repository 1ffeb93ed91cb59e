"""Control's side of the process that fills an exit pack, and the journal of what is whole."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from appliance.api.errors import ExitPackBrokenError, ExitPackWaitsError
from appliance.config.exits import ExitSettings
from appliance.config.layout import Layout
from appliance.model import EarwitnessError, Kind
from appliance.packs.manifest import Packed, packed, whole_lines

ANSWER_S: Final = 3600.0  # for one recording: a day of sound onto a slow disk
LINE: Final = 16 << 20  # bytes of one answer
START_S: Final = 60.0


class Journal:
    """What is whole of a pack, one line a recording, on the box's own disk: opaque ids and hashes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.last = ""  # id of the last recording, in the order of ids
        self.owed: list[str] = []  # whose sound is to come yet
        self.recordings = self.files = self.bytes = 0
        self.problems: list[tuple[str, str]] = []
        end = 0
        late: set[str] = set()
        for one, until in self._whole():
            end = until
            self._count(one)
            if one.recording <= self.last:
                late.add(one.recording)
            else:
                self.last = one.recording
        self.owed = [one for one in self.owed if one not in late]
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, end)  # what broke off
        os.lseek(self._fd, end, os.SEEK_SET)
        self.begun = end > 0

    def _whole(self) -> Iterator[tuple[Packed, int]]:
        if self._path.exists():
            with self._path.open("rb") as file:
                yield from whole_lines(file)

    def _count(self, one: Packed) -> None:
        self.files += len(one.entries)
        self.bytes += sum(entry.size for entry in one.entries)
        if one.problem:
            self.problems.append((one.recording, one.problem))
        if one.owed:
            self.owed.append(one.recording)
        if one.recording > self.last:
            self.recordings += 1

    def append(self, one: Packed) -> None:
        """In the order of ids; sound that was owed comes after all of them."""
        line = memoryview(one.line())
        while line:
            line = line[os.write(self._fd, line) :]
        self._count(one)
        if one.recording > self.last:
            self.last = one.recording

    def sync(self) -> None:
        """Durable from here on."""
        os.fsync(self._fd)

    def read(self) -> Iterator[Packed]:
        """All of it, from the first line on."""
        for one, _ in self._whole():
            yield one

    def close(self) -> None:
        os.close(self._fd)


class Writer:
    """The process that fills a pack. A context: it is gone when that ends."""

    def __init__(
        self,
        layout: Layout,
        settings: ExitSettings,
        spec: dict[str, Any],
        lock: Path,
        actor: str,
        purpose: str,
    ) -> None:
        self._begin = {
            "data": str(layout.root.absolute()),
            "settings": settings.model_dump(mode="json"),
            "spec": spec,
            "lock": str(lock.absolute()),
            "actor": actor,
            "purpose": purpose,
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "appliance.api.exitpackchild",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
        )
        try:
            await self._ask(self._begin, START_S)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()  # what it was at is written anew by the next one
        await asyncio.shield(self._process.wait())

    async def pack(self, job: dict[str, Any]) -> Packed:
        """One recording. ExitPackWaitsError where it is to be tried again later."""
        told = await self._ask(job, ANSWER_S)
        found = packed(base64.b64decode(told["packed"]))
        if found is None:
            raise ExitPackWaitsError("the exit pack's process answers what nobody understands", why="ANSWER")
        return found

    async def _ask(self, said: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        assert (
            self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        )
        try:
            async with asyncio.timeout(deadline_s):
                self._process.stdin.write(json.dumps(said).encode() + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except (TimeoutError, ConnectionError) as error:
            raise ExitPackWaitsError("the exit pack's process does not answer", why="PROCESS_GONE") from error
        if not line:
            raise ExitPackWaitsError("the exit pack's process is gone", why="PROCESS_GONE")
        told: dict[str, Any] = json.loads(line)
        if "reason" in told:
            raise refusal(told)
        return told


def refusal(told: dict[str, Any]) -> EarwitnessError:
    """What the process could not do: a lack of space and what does not answer are waited for."""
    reason, data = str(told["reason"]), told["data"]
    if told["kind"] == Kind.UNAVAILABLE.value or reason == "EXIT_SPACE":
        space = {name: int(data[name]) for name in ("needed", "free") if name in data}
        return ExitPackWaitsError("the exit pack waits", why=reason, **space)
    return ExitPackBrokenError("the exit pack cannot go on", why=reason)
