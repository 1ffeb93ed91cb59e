"""The way into the log for whoever does something: records in, conditions out."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from appliance.audit import entry, segments
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.forward import Forwarder
from appliance.audit.index import Index
from appliance.audit.log import Log
from appliance.audit.opening import open_log
from appliance.audit.refusals import Refusals
from appliance.audit.scrub import Scrub
from appliance.config.settings import SyslogSettings
from appliance.process.status import ALARM, WARNING, Status

_SIGNED_KIND: Final = re.compile(r"[a-z][a-z0-9-]{0,59}")
UNWRITABLE: Final = "AuditUnwritable"
ROLLED_BACK: Final = "AuditRolledBack"
_WHY: Final = {
    "shorter": "it is shorter than what was signed",
    "other": "entries are not those that were signed",
    "key-lost": "its key is gone",
    "checkpoints-missing": "its checkpoints are gone",
    "checkpoint-forged": "a checkpoint among its files is not of its key",
}


class _Waiters:
    """Tasks of one loop that wait for entries. What was written together wakes the loop once, not once for each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._done: deque[tuple[asyncio.Future[int], Future[int]]] = deque()
        self._told = False

    async def wait(self, written: Future[int]) -> int:
        mine: asyncio.Future[int] = self.loop.create_future()
        written.add_done_callback(lambda done: self._tell(mine, done))
        return await mine

    def _tell(self, mine: asyncio.Future[int], done: Future[int]) -> None:
        """In the log's thread."""
        self._done.append((mine, done))
        if not self._told:
            self._told = True
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._told = False
        while self._done:
            mine, done = self._done.popleft()
            if mine.done():
                continue  # whoever waited is gone
            if (error := done.exception()) is not None:
                mine.set_exception(error)
            else:
                mine.set_result(done.result())


class Trail:
    """The audit log of a control directory. Lines hold names, ids and stable words, never what a call answered."""

    def __init__(
        self,
        control: Path,
        status: Status,
        clock_ns: Callable[[], int] = time.time_ns,
        *,
        syslog: SyslogSettings | None = None,
        **options: float,
    ) -> None:
        """Opens it, and says what was found; AuditUnavailableError where it cannot be. `syslog`: where it is forwarded."""
        self._status = status
        self._waiters: _Waiters | None = None
        try:
            control.mkdir(mode=0o700, parents=True, exist_ok=True)
            opened = open_log(control, clock_ns)
            self.log = Log(opened, clock_ns=clock_ns, told=self._told, **options)  # type: ignore[arg-type]
        except OSError as error:
            self._told(error)
            raise AuditUnavailableError("the audit log cannot be opened", errno=error.errno or 0) from error
        self.index = Index(self.log)
        self.forwarder = Forwarder(self.log, syslog, status) if syslog else None
        self._scrub = Scrub(self.log, self._damaged)
        if opened.alarm:
            status.raise_condition(
                ROLLED_BACK,
                ALARM,
                f"The audit log is not what was signed: {_WHY[opened.alarm]}. Find out who had the disk in hand; verify it "
                "against checkpoints kept elsewhere (docs/audit.md).",
            )
        elif opened.generation > 1:
            status.raise_condition(
                ROLLED_BACK,
                WARNING,
                f"The audit log was broken before, and is in its generation {opened.generation} (docs/audit.md).",
            )

    def _damaged(self, index: int) -> None:
        self._status.raise_condition(
            ROLLED_BACK,
            ALARM,
            f"The audit log on disk is not what was written: entry {index} was changed or taken out. Verify it against "
            "checkpoints kept elsewhere (docs/audit.md).",
        )

    def _told(self, error: OSError | None) -> None:
        if error is None:
            self._status.clear_condition(UNWRITABLE)
            return
        self._status.raise_condition(
            UNWRITABLE,
            ALARM,
            "The audit log cannot be written, so calls of the API are refused: make space.",
        )

    def write(self, record: Mapping[str, object], *, durable: bool) -> int:
        """Append an entry; its number. `durable`: on disk before this returns. AuditUnavailableError."""
        return self.log.submit(entry.pack(record), durable=durable).result()

    async def append(self, record: Mapping[str, object], *, durable: bool) -> int:
        """The same within a loop. Who goes away meanwhile takes no entry away."""
        loop = asyncio.get_running_loop()
        if self._waiters is None or self._waiters.loop is not loop:
            self._waiters = _Waiters(loop)
        return await self._waiters.wait(self.log.submit(entry.pack(record), durable=durable))

    def sign(self, kind: str, data: bytes) -> str:
        """A signed note over something that goes outside, to be laid beside it.

        `kind`: what it is, such as completeness-report: its first line, so that no signature can be moved to a thing of
        another kind, or to a checkpoint. Its second line is the SHA-256 of `data`. By the key of the log, under its name.
        """
        if not _SIGNED_KIND.fullmatch(kind):
            raise ValueError("a kind of signed things has lower-case letters, digits and dashes")
        return self.log.signer.sign(f"earwitness.example/{kind}/v1\n{hashlib.sha256(data).hexdigest()}\n")

    async def tell(self, refusals: Refusals) -> None:
        """Write down how many refused calls were counted and not written one by one."""
        if count := refusals.counted():
            try:
                await self.append(
                    {"time_ns": time.time_ns(), "what": "refused", "count": count}, durable=False
                )
            except AuditUnavailableError:
                refusals.put_back(count)  # its condition is raised

    def tail(self, size: int) -> list[dict[str, object]]:
        """The entries that stand whole in the last `size` bytes, oldest first; AuditUnavailableError."""
        found = b""
        try:
            for serial in reversed(segments.serials(self.log.folder)):
                with segments.path_of(self.log.folder, serial).open("rb") as file:
                    wanted = size - len(found)
                    end = file.seek(0, 2)
                    file.seek(max(0, end - wanted))
                    some = file.read(wanted)
                    found = (some if end <= wanted else some.partition(b"\n")[2]) + found
                if end >= wanted:
                    break
        except OSError as error:
            raise AuditUnavailableError("the audit log cannot be read", errno=error.errno or 0) from error
        records = map(entry.parse, found.split(b"\n"))
        return [record for record in records if record is not None]

    def close(self) -> None:
        """Everything durable and signed."""
        self._scrub.close()
        if self.forwarder is not None:
            self.forwarder.close()
        self.index.close()
        self.log.close()
