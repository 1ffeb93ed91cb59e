"""The general copy of what the catalogue alone knows: kept while it lives, read back when it is lost.

A table that was written to is copied anew within a minute, and at once where something was erased in it; the rest keeps
its file. Beside SQLite alone: a database server has backups of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
import structlog

from appliance.access.copyfiles import CopyFiles, Index, Part, Row
from appliance.access.refusals import CatalogueCopyError
from appliance.access.sealing import Sealing
from appliance.api.catalogueopen import REBUILT
from appliance.api.store import ShuttingDownError, Store
from appliance.api.taking import CURSOR
from appliance.catalog import copying, revisions, state, tables, whence
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.config.layout import Layout
from appliance.process.status import ALARM, WARNING, Status

log = structlog.get_logger()

FOLDER: Final = "catalogue-copy"
ANCHOR: Final = "catalogue-copy.serial"
UNWRITABLE: Final = "CatalogueCopyUnwritable"
REFUSED: Final = "CatalogueCopyRefused"
DELAY_S: Final = 30.0  # what is changed meanwhile goes with it
SHARE: Final = 20  # of the time that copying takes, so long is between two
URGENT_SHARE: Final = 2
RETRY_MAX_S: Final = 480.0
LOOK_S: Final = 5.0
PAUSE_S: Final = 0.2
CLOSE_S: Final = 3.0
_COUNTED: Final = {
    "staff": "staff",
    "notices": "notices",
    "acknowledgements": "acknowledgements",
    "scorecards": "scorecards",
    "review_rules": "review rules",
    "reviews": "reviews",
    "record_sources": "sources of call records",
    "call_records": "call records",
    "completeness_days": "days of completeness",
    "alarm_channels": "channels of alarms",
    "alarms": "alarms",
    "documents": "documents",
    "planned_work": "planned works",
    "subject_requests": "subject requests",
    "grants": "grants",
    "reads": "reads",
    "versions": "versions",
}


class _EndingError(Exception):
    """The process stops: copying is broken off."""


@dataclass
class _Restored:
    """What came back: rows by table, and what did not."""

    rows: dict[str, int] = field(default_factory=dict)
    left_out: int = 0
    unknown: list[str] = field(default_factory=list)  # columns and tables
    damaged: list[str] = field(default_factory=list)


class CatalogueCopy:
    """See the module. `settle` at the start, `run` beside all else, `close` at the end."""

    def __init__(self, store: Store, files: CopyFiles, status: Status, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._files = files
        self._status = status
        self._clock_ns = clock_ns
        self._turn = asyncio.Lock()
        self._pen = threading.Lock()  # who was cancelled may have left a thread at work
        self._tables = whence.copied() if store.database.sqlite else []
        self._names = {one.name for one in self._tables} - {
            tables.values.name
        }  # that changes with everything
        self._index: Index | None = None  # of the copy, once it is made from this catalogue as it is
        self._aside = ""  # name that a refused one is to get before another is written
        self._ending = threading.Event()
        self._ended_s, self._took_s = float("-inf"), 0.0
        self._retry_s = 0.0  # after one that could not be written

    @classmethod
    async def open(
        cls, layout: Layout, store: Store, status: Status, clock_ns: Callable[[], int]
    ) -> CatalogueCopy:
        """Held against the catalogue. Where that is new it is filled. IdentityKeyError."""
        sealing = await asyncio.to_thread(Sealing.at, layout.control / "identities.key")
        files = CopyFiles(layout.control / FOLDER, layout.pki / ANCHOR, sealing)
        made = cls(store, files, status, clock_ns)
        if store.database.sqlite:
            await asyncio.to_thread(made._settle)
            store.copy = made
        return made

    @property
    def wanted(self) -> bool:
        """Whether it is behind."""
        return bool(self._names) and (
            self._index is None or bool(self._names & self._store.database.changes.tables)
        )

    @property
    def urgent(self) -> bool:
        """Whether it may hold what was erased: at the start nobody knows."""
        return bool(self._names) and (
            self._index is None or bool(self._names & self._store.database.changes.urgent)
        )

    async def run(self) -> None:
        """Until cancelled, or the process stops."""
        while self._names:
            seen = self._store.events.number
            if self._due():
                await self.keep()
            await asyncio.sleep(PAUSE_S)
            try:
                await self._store.events.wait(seen, self._pause_s())
            except ShuttingDownError:
                return

    def _due(self) -> bool:
        return self.wanted and time.monotonic() >= self._due_s()

    def _due_s(self) -> float:
        rest_s = URGENT_SHARE * self._took_s if self.urgent else max(DELAY_S, SHARE * self._took_s)
        return self._ended_s + max(rest_s, self._retry_s)

    def _pause_s(self) -> float:
        """Until it is looked again where nothing happens: what was erased waits no longer than it has to."""
        if not self.urgent:
            return LOOK_S
        return min(LOOK_S, max(PAUSE_S, self._due_s() - time.monotonic()))

    async def keep(self) -> bool:
        """Write it where it is behind; False where that cannot be done now: a condition says so."""
        async with self._turn:
            if not self.wanted:
                return True
            begun_s = time.monotonic()
            if begun_s - self._ended_s < self._retry_s:
                return False  # each try takes all space that there is, and the audit log wants some
            try:
                await asyncio.shield(asyncio.to_thread(self._write))
            except OSError as error:
                self._retry_s = min(max(DELAY_S, 2 * self._retry_s), RETRY_MAX_S)
                log.error("copy of the catalogue not written", errno=error.errno, again_in_s=self._retry_s)
                self._status.raise_condition(
                    UNWRITABLE,
                    ALARM,
                    "The copy of what the catalogue alone knows cannot be written: make space. Until then a lost catalogue"
                    " would take the newest changes with it, and what was erased since is still in the copy.",
                )
                return False
            except CatalogueUnavailableError as error:
                log.info("copy of the catalogue waits", reason=error.reason)
                return False
            except _EndingError:
                return False
            finally:
                self._ended_s = time.monotonic()
                self._took_s = self._ended_s - begun_s
            self._retry_s = 0.0
            self._status.clear_condition(UNWRITABLE)
            return True

    async def close(self) -> None:
        """What is behind is written, where that takes little time, and else broken off."""
        self._retry_s = 0.0  # it is the last time
        writing = asyncio.create_task(self.keep())
        await asyncio.wait({writing}, timeout=CLOSE_S)
        self._ending.set()
        await writing

    def _write(self) -> None:
        """OSError, CatalogueUnavailableError, _EndingError."""
        with self._pen:
            if self._aside:
                self._put_aside()
            self._write_changed()

    def _write_changed(self) -> None:
        database = self._store.database
        with database.changed() as (connection, changes):
            before = self._index
            parts = {} if before is None else dict(before.parts)
            known = max(state.get_int(connection, copying.SERIAL), before.serial if before is not None else 0)
            serial = max(known, self._files.anchored()) + 1
            with database.write() as writing:  # first: a copy is never newer than its catalogue
                state.put_int(writing, copying.SERIAL, serial)
            try:
                for table in self._tables:
                    if table.name not in parts or table.name in changes.tables:
                        parts[table.name] = self._write_table(connection, table, serial)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._files.discard(serial)
                raise
            index = Index(serial, revisions.HEAD, self._clock_ns(), parts)
            self._files.publish(index)
            self._index = index

    def _write_table(self, connection: sa.Connection, table: sa.Table, serial: int) -> Part:
        def rows() -> Iterator[Row]:
            for row in copying.rows(connection, table):
                if self._ending.is_set():
                    raise _EndingError
                yield row

        return self._files.write(table.name, serial, copying.columns(table), rows())

    # At the start.

    def _settle(self) -> None:
        database = self._store.database
        with database.read() as connection:
            own = state.get(connection, copying.SERIAL)
            new = own is None and state.get(connection, CURSOR) is None
        anchor = self._files.anchored()
        index: Index | None = None
        problem = ""
        try:
            index = self._files.index()
        except CatalogueCopyError as error:
            log.error("copy of the catalogue refused", reason=error.reason)
            problem = "is damaged, or of another box"
        if index is None:
            if not problem and anchor > 0:
                problem = "is gone"
        elif index.serial < anchor:
            problem = "is older than the last one that was written"
        elif index.revision not in revisions.KNOWN:
            problem = "is of a newer release"
        elif not new and index.serial > int(own or 0):
            problem = "is newer than the catalogue: was an old catalogue put back?"
        elif new:
            self._restore(index, sure=anchor >= 0)
        if problem:
            # Where none was ever written from this catalogue, an earlier start may not have put it aside.
            self._refuse(problem, new=new, kept=index is not None or own is None)

    def _refuse(self, problem: str, *, new: bool, kept: bool) -> None:
        lost = (
            " The catalogue was lost, too: staff, notices, reviews, requests and all else that only it knew are gone."
            if new
            else " It is written anew from the catalogue."
        )
        what = ""
        if kept and self._files.folder.exists():
            self._aside = aside = f"{FOLDER}.refused-{time.time_ns()}"
            what = f" Put aside as {aside}: remove it when you have looked (docs/catalogue.md)."
            try:
                self._put_aside()
            except OSError as error:
                log.error("copy of the catalogue not put aside", errno=error.errno)
                what = f" No other is written until it can be put aside as {aside} (docs/catalogue.md)."
        log.error("copy of the catalogue refused", problem=problem, new=new, kept=kept)
        self._status.raise_condition(REFUSED, ALARM, f"The copy of the catalogue {problem}.{lost}{what}")

    def _put_aside(self) -> None:
        """OSError. Somebody may have taken it away meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            self._files.put_aside(self._aside)
        log.warning("refused copy of the catalogue put aside", name=self._aside)
        self._aside = ""

    def _restore(self, index: Index, *, sure: bool) -> None:
        """In one transaction: a stop amid it leaves a catalogue that is new."""
        found = _Restored()
        fit = {one.name: one for one in self._tables}
        found.unknown += sorted(index.parts.keys() - fit.keys())
        with self._store.database.write() as connection:
            for name, table in fit.items():
                if name in index.parts:
                    self._load(connection, table, index.parts[name], found)
            copying.settle(connection, index.serial, self._clock_ns())
        log.warning(
            "catalogue restored from its copy",
            serial=index.serial,
            rows=sum(found.rows.values()),
            left_out=found.left_out,
            unknown=found.unknown,
            damaged=found.damaged,
        )
        before = next(
            (one.message for one in self._status.conditions() if one.type == REBUILT),
            "The catalogue was lost, and is built anew from the recordings.",
        )
        self._status.raise_condition(REBUILT, WARNING, f"{before} {_sentence(index, found, sure=sure)}")

    def _load(self, connection: sa.Connection, table: sa.Table, part: Part, found: _Restored) -> None:
        try:
            with connection.begin_nested():
                loaded = copying.load(connection, table, part.columns, self._files.read(table.name, part))
        except (CatalogueCopyError, ValueError):
            log.error("a table of the catalogue's copy is damaged", table=table.name)
            found.damaged.append(table.name)
            return
        found.rows[table.name] = loaded.rows
        found.left_out += loaded.left_out
        found.unknown += [f"{table.name}.{name}" for name in loaded.unknown]


def _sentence(index: Index, found: _Restored, *, sure: bool) -> str:
    made = datetime.fromtimestamp(index.made_ns / 1e9, UTC)
    counts = ", ".join(
        f"{found.rows[name]} {what}" for name, what in _COUNTED.items() if found.rows.get(name)
    )
    said = [f"Back from the copy of {made:%Y-%m-%d %H:%M:%S} UTC: {counts or 'nothing'}."]
    said.append("Changes after it are lost. Support grants and long work under way ended.")
    if not sure:
        said.append("Whether it is the newest copy is not known.")
    if found.damaged:
        said.append(f"Damaged and lost: {', '.join(found.damaged)}.")
    if found.left_out:
        said.append(f"{found.left_out} rows were left out, as what they refer to is not there.")
    if found.unknown:
        said.append(f"Left out, as this release does not know it: {', '.join(found.unknown)}.")
    return " ".join(said)
