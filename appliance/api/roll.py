"""Changes of identities: in the catalogue, then in the copy beside it, then told to whoever watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final, TypeVar

import sqlalchemy as sa
import structlog

from appliance.access import records, settling
from appliance.access.journal import Change, Journal
from appliance.access.refusals import JournalError
from appliance.access.settling import Finding, Settled
from appliance.api.store import Signal, Store
from appliance.process.status import ALARM, WARNING, Status

log = structlog.get_logger()
Result = TypeVar("Result")

UNWRITABLE: Final = "IdentitiesCopyUnwritable"
_SAID: Final = {
    Finding.RESTORED: (
        "IdentitiesRestored",
        WARNING,
        "The catalogue is new; identities and their credentials came back from the copy beside it.",
    ),
    Finding.CATALOGUE_OLDER: (
        "CatalogueOlder",
        ALARM,
        "The catalogue was older than the copy of identities: what changed since, revocations too, holds again. Was an"
        " old catalogue put back?",
    ),
    Finding.COPY_OLDER: (
        "IdentitiesCopyOlder",
        WARNING,
        "The copy of identities was older than the catalogue, and was written anew. Was an old copy put back?",
    ),
    Finding.COPY_ALTERED: (
        "IdentitiesCopyAltered",
        ALARM,
        "Lines of the copy of identities are torn, altered, or of another box; it was written anew from the catalogue.",
    ),
    Finding.ROLLED_BACK: (
        "IdentitiesRolledBack",
        ALARM,
        "Catalogue and copy of identities are both older than they were: revocations may be lost. Look through the audit"
        " for RevokeCertificate and DisableIdentity, and do them again.",
    ),
    Finding.REVOKED_AGAIN: (
        "CertificatesRevokedAgain",
        ALARM,
        "The catalogue had certificates in use that were revoked before; they are revoked again. Was an old catalogue"
        " put back?",
    ),
}


class Roll:
    """All changes of identities go through here. `changed` wakes the streams of whoever may be shut out by one."""

    def __init__(self, store: Store, journal: Journal, status: Status, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._journal = journal
        self._status = status
        self._clock_ns = clock_ns
        self._turn = asyncio.Lock()  # the copy's lines are in the order of the changes
        self._pen = asyncio.Lock()  # of who writes the copy
        self._unwritten: list[Change] = []  # in the catalogue, and not in the copy yet
        self._behind = False
        self.changed = Signal()

    async def settle(self) -> frozenset[Finding]:
        """At the start: see `settling`."""
        now_ns = self._clock_ns()

        def work(connection: sa.Connection) -> Settled:
            return settling.settle(connection, self._journal, now_ns)

        found = await self._store.write(work)
        for finding in sorted(found.findings, key=lambda one: one.value):
            name, severity, message = _SAID[finding]
            log.warning("identities settled", finding=finding.value, count=found.count)
            if finding is Finding.COPY_ALTERED and self._journal.aside is not None:
                message += f" What was there is kept as control/{self._journal.aside.name}."
            self._status.raise_condition(name, severity, message)
        self._behind = True  # what was found, or an older release left, is written down whole
        await self.catch_up()
        return found.findings

    async def change(self, work: Callable[[sa.Connection], tuple[Result, Collection[str]]]) -> Result:
        """Do a change, which gives its result and the names of the identities it changed; all of it or nothing.

        Once begun it is finished, even where who asked goes away.
        """
        return await asyncio.shield(self._change(work))

    async def _change(self, work: Callable[[sa.Connection], tuple[Result, Collection[str]]]) -> Result:
        def run(connection: sa.Connection) -> tuple[Result, int, dict[str, records.Record]]:
            result, names = work(connection)
            number = records.next_serial(connection) if names else records.serial(connection)
            return result, number, {name: records.read(connection, name) for name in names}

        async with self._turn:
            result, number, changed = await self._store.write(run)
            if changed:
                self._unwritten.append(Change(number, changed))
        await self._write_down(number)
        self.changed.notify()
        if self._behind:
            await self.catch_up()
        return result

    async def _write_down(self, number: int) -> None:
        """The copy has this change, when this returns; or it is behind. Changes that wait go with one write."""
        async with self._pen:
            if not self._unwritten or self._unwritten[0].serial > number:
                return  # written with one before
            changes, self._unwritten = self._unwritten, []
            if self._behind:
                return  # written anew as a whole
            try:
                await asyncio.to_thread(self._journal.append, changes)
            except JournalError as error:
                self._fell_behind(error)

    async def catch_up(self) -> None:
        """Write the copy anew where it is behind; the change itself holds, so that nobody is told it failed."""
        async with self._turn, self._pen:
            if not self._behind:
                return
            number, everybody = await self._store.read(settling.everybody)
            self._unwritten = []  # they are among them
            try:
                await asyncio.to_thread(self._journal.rewrite, number, everybody)
            except JournalError as error:
                self._fell_behind(error)
                return
            self._behind = False
            self._status.clear_condition(UNWRITABLE)

    def _fell_behind(self, error: JournalError) -> None:
        self._behind = True
        log.error("copy of identities not written", errno=error.data.get("errno"))
        self._status.raise_condition(
            UNWRITABLE,
            ALARM,
            "The copy of identities beside the catalogue cannot be written: make space. Until then a lost catalogue"
            " would take the newest changes with it.",
        )
