"""Exit packs, as long work: recording after recording, in the order of their ids, then index, manifest and signature.

What is whole stands in a journal on the box (`exitpackwriter`), so that a stop, a pulled disk or a full one costs the
recording that was under way and no more. Who reads what is written into the audit log and the table of reads before a byte
of it goes anywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog

from appliance.access import purposes as rules
from appliance.access.identities import Role
from appliance.api import exitpackcontent as content
from appliance.api.errors import ExitPackWaitsError
from appliance.api.exitpackchild import target_of
from appliance.api.exitpackclear import check_alone, clear
from appliance.api.exitpackwriter import Journal, Writer
from appliance.api.store import Store
from appliance.api.worker import Keep
from appliance.audit.trail import Trail
from appliance.catalog import events, exitpacks, filters, operations, purposes, reads, recordings
from appliance.catalog.errors import OperationNotFoundError
from appliance.catalog.events import Event, EventType
from appliance.catalog.exitpacks import EXIT_PACK, ExitPack, PackState
from appliance.catalog.operations import Operation
from appliance.catalog.operations import State as OperationState
from appliance.catalog.reads import Read
from appliance.catalog.recording_filter import FIELDS
from appliance.catalog.records import Recording, State
from appliance.config.settings import Settings
from appliance.model import EarwitnessError, Kind
from appliance.packs.errors import ExitTargetAwayError
from appliance.packs.exitrecord import Whole, folder
from appliance.packs.exittargets import Target
from appliance.packs.manifest import Packed

log = structlog.get_logger()

READ: Final = "exit-pack"
BATCH: Final = 16  # recordings of one entry in the audit log, which holds lists of that length
KEEP_EVERY_S: Final = 1.0
MOST_PROBLEMS: Final = 100
UNWRITABLE: Final = "EXIT_JOURNAL_UNWRITABLE"


class ExitPacks:
    """See `worker.Job`."""

    kind = EXIT_PACK

    def __init__(
        self, settings: Settings, store: Store, trail: Trail, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._settings = settings
        self._store = store
        self._trail = trail
        self._clock_ns = clock_ns
        self.writer: Writer | None = None
        """The process that is at work now."""

    def _file(self, pack_id: str, ending: str) -> Path:
        return self._settings.layout.control / "exit" / f"{pack_id}.{ending}"

    async def run(self, operation: Operation, keep: Keep) -> bool:
        """See `worker.Job`."""
        pack = await self._store.read(lambda connection: exitpacks.get(connection, operation.id))
        if pack.state is not PackState.RUNNING:
            self._forget(pack.id)  # it broke off before that
            return True
        try:
            return await self._journalled(operation, pack, keep)
        except OSError as error:
            # The box's own disk, as when it is full: what is whole is found again by the next try.
            kept = await self._store.read(lambda connection: operations.get(connection, operation.id))
            await keep(kept.cursor, kept.done, {**kept.result, "waiting": UNWRITABLE})
            raise ExitPackWaitsError("the journal cannot be written", why=UNWRITABLE) from error

    async def _journalled(self, operation: Operation, pack: ExitPack, keep: Keep) -> bool:
        journal = await asyncio.to_thread(Journal, self._file(pack.id, "journal"))
        try:
            return await self._fill(operation, pack, journal, keep)
        except EarwitnessError as error:
            if error.kind is not Kind.UNAVAILABLE and error.reason != "EXIT_SPACE":
                raise
            data: dict[str, Any] = {
                name: error.data[name] for name in ("needed", "free") if name in error.data
            }
            waits: dict[str, Any] = {"waiting": error.data.get("why", error.reason), **data}
            await keep(journal.last, journal.recordings, self._result(journal) | waits)
            if error.kind is Kind.UNAVAILABLE:
                raise
            raise ExitPackWaitsError("the exit pack waits", why=error.reason, **data) from error
        finally:
            journal.close()

    async def _fill(self, operation: Operation, pack: ExitPack, journal: Journal, keep: Keep) -> bool:
        asked = operation.request
        target = await asyncio.to_thread(self._opened, pack, journal, operation.cursor != "")
        if target is None:
            await self._made(pack)  # it broke off between its last step and the word of it
            return True
        try:
            # The cursor says that it is begun from here on, whatever comes.
            if await keep(operation.cursor or "begun", journal.recordings, self._result(journal)):
                return False
            lock = self._file(pack.id, "lock")
            layout, settings = self._settings.layout, self._settings.exit
            async with Writer(layout, settings, pack.spec, lock, pack.who, pack.purpose or "exit") as writer:
                self.writer = writer
                await clear(self._store, pack, target, journal, self._file(pack.id, "at"))
                if not await self._recordings(asked, pack, target, writer, journal, keep):
                    return False
                if not await self._owed(pack, target, writer, journal, keep):
                    return False
            made = await self._finish(pack, target, journal, int(asked["bound"]))
            await self._made(made)
            return True
        finally:
            self.writer = None
            target.close()

    def _opened(self, pack: ExitPack, journal: Journal, begun: bool) -> Target | None:
        """In a thread. None where the pack is whole already."""
        target = target_of(pack.spec, self._settings.exit)
        try:
            if target.open(begun=begun or journal.begun):
                target.close()
                return None
        except BaseException:
            target.close()
            raise
        return target

    async def _recordings(
        self,
        asked: dict[str, Any],
        pack: ExitPack,
        target: Target,
        writer: Writer,
        journal: Journal,
        keep: Keep,
    ) -> bool:
        where = filters.parse(str(asked["filter"]), FIELDS) if asked["filter"] else None
        at = self._file(pack.id, "at")
        kept_s = time.monotonic()
        while True:

            def page(connection: sa.Connection) -> list[Recording]:
                ids = recordings.matching(
                    connection,
                    tenant_id=pack.tenant_id,
                    where=where,
                    limit=BATCH,
                    after=journal.last,
                    bound=int(asked["bound"]),
                )
                return recordings.of_ids(connection, ids)

            found = await self._store.read(page)
            if not found:
                await asyncio.to_thread(journal.sync)
                return not await keep(journal.last, journal.recordings, self._result(journal))
            refused = await self._admitted(asked, pack, found)
            for recording_id in sorted(refused):
                at.write_text(recording_id, "ascii")
                journal.append(await self._packed(pack, target, writer, recording_id, refused[recording_id]))
                if time.monotonic() - kept_s >= KEEP_EVERY_S:
                    kept_s = time.monotonic()
                    await asyncio.to_thread(journal.sync)
                    if await keep(journal.last, journal.recordings, self._result(journal)):
                        return False

    async def _packed(
        self, pack: ExitPack, target: Target, writer: Writer, recording_id: str, problem: str, **only: object
    ) -> Packed:
        """One recording, as it stands once it is put there: what is erased, deleted or restricted meanwhile is put anew.

        `only`: what else than all of it is asked for.
        """
        while (whole := await self._whole(recording_id)) is not None:
            made = await writer.pack({**content.job(whole, pack.spec, problem, self._clock_ns()), **only})
            after = await self._store.read(lambda connection: content.standing(connection, recording_id))
            if after == (whole.row.state, whole.restrictions):
                return made
            gone = [entry.path for entry in made.entries] if only else [folder(recording_id)]
            for path in gone:
                await asyncio.to_thread(target.drop, path)
        # What broke off amid it, and where sound was owed what was put there before: the manifest leaves it out.
        await asyncio.to_thread(target.drop, folder(recording_id))
        return Packed(recording_id, (), problem="ERASED")

    async def _owed(
        self, pack: ExitPack, target: Target, writer: Writer, journal: Journal, keep: Keep
    ) -> bool:
        """Sound of recordings whose keys were locked. It waits until they are unlocked."""
        while journal.owed:
            recording_id = journal.owed[0]
            late = await self._packed(
                pack, target, writer, recording_id, "", sealed=False, document=None, reviews=None
            )
            if late.owed:
                raise ExitPackWaitsError("the tenant's keys are locked", why="TENANT_LOCKED")
            journal.append(late)
            journal.owed.pop(0)
            await asyncio.to_thread(journal.sync)
            if await keep(journal.last, journal.recordings, self._result(journal)):
                return False
        return True

    async def _admitted(
        self, asked: dict[str, Any], pack: ExitPack, found: list[Recording]
    ) -> dict[str, str]:
        """Why each may not be read, "" where it may; written down, in the audit log and for the reports, before it is."""
        roles = frozenset(Role(one) for one in asked["roles"])
        reason = str(asked["override_reason"])

        def look(connection: sa.Connection) -> list[tuple[rules.Stated, bool, str]]:
            known = purposes.find(connection, pack.tenant_id, pack.purpose) if pack.purpose else None
            said = rules.stated_of(connection, found)
            return [(one, *self._judged(pack, known, one, roles, reason)) for one in said]

        judged = await self._store.read(look)
        now_ns = self._clock_ns()
        noted = [
            Read(
                at_ns=now_ns,
                tenant_id=pack.tenant_id,
                recording_id=row.recording_id,
                purpose=pack.purpose,
                source=stated.source.value,
                kind=READ,
                identity=pack.who,
                roles=tuple(sorted(role.value for role in roles)),
                refused=refused,
                overridden=overridden,
                override_reason=reason if overridden else "",
            )
            for row, (stated, overridden, refused) in zip(found, judged, strict=True)
        ]
        let_in = [one.recording_id for one in noted if not one.refused]
        if let_in:
            await self._trail.append(
                {
                    "time_ns": time.time_ns(),
                    "what": "read",
                    "kind": READ,
                    "who": pack.who,
                    "roles": sorted(roles),
                    "tenant": pack.tenant_id,
                    "subject": f"tenants/{pack.tenant_id}/exitPacks/{pack.id}",
                    "purpose": pack.purpose or "exit",
                    "recordings": let_in,
                    **({"override": True} if any(one.overridden for one in noted) else {}),
                },
                durable=True,
            )

        def note(connection: sa.Connection) -> None:
            before = exitpacks.admit(connection, pack.id, found[-1].recording_id)
            for one in noted:
                # What breaks off and is taken up again is one read; what another pack read is another.
                again = one.recording_id <= before and not one.refused
                resumed = again and reads.goes_on(connection, one, pack.create_ns)
                reads.note(connection, replace(one, resumed=resumed))

        await self._store.write(note)
        return {one.recording_id: one.refused for one in noted}

    async def _whole(self, recording_id: str) -> Whole | None:
        """None where it is erased, or not there any more."""
        found = await self._store.read(lambda connection: content.wholes(connection, [recording_id]))
        return found[0] if found and found[0].row.state is not State.ERASED else None

    @staticmethod
    def _judged(
        pack: ExitPack, known: Any, stated: rules.Stated, roles: frozenset[Role], reason: str
    ) -> tuple[bool, str]:
        """Whether it is an override, and why it is refused. The exit itself hands on what there is, and uses none of it."""
        if not pack.purpose:
            return False, ""
        try:
            return rules.judge(pack.purpose, known, stated, roles, reason), ""
        except EarwitnessError as error:
            return False, error.reason

    # The end.

    async def _finish(
        self, pack: ExitPack, target: Target, journal: Journal, bound: int, note: str = ""
    ) -> ExitPack:
        """`note`: why it is a part; empty: it is none."""
        rest = content.Rest(self._store.database, self._trail, target, journal, pack, bound, self._clock_ns)
        made = await asyncio.to_thread(rest.put, note)
        await self._store.write(lambda connection: exitpacks.update(connection, made))
        await asyncio.to_thread(target.finish, "-part" if note else "")
        return made

    async def _made(self, pack: ExitPack, state: PackState = PackState.SUCCEEDED) -> None:
        now_ns = self._clock_ns()
        ended = replace(pack, state=state, end_ns=now_ns)

        def work(connection: sa.Connection) -> None:
            exitpacks.update(connection, ended)
            if state is PackState.SUCCEEDED:
                event = Event(EventType.EXIT_PACK_MADE, now_ns, pack.id, pack.tenant_id, pack.line_id)
                events.append(connection, event)

        await self._trail.append(
            {
                "time_ns": time.time_ns(),
                "what": "exit-pack",
                "who": pack.who,
                "tenant": pack.tenant_id,
                "subject": f"tenants/{pack.tenant_id}/exitPacks/{pack.id}",
                "outcome": state.value,
                "recordings": pack.recordings,
                "manifest_sha256": pack.manifest_sha256,
            },
            durable=True,
        )
        await self._store.write(work)
        self._forget(pack.id)

    def _forget(self, pack_id: str) -> None:
        for ending in ("journal", "at", "lock"):
            self._file(pack_id, ending).unlink(missing_ok=True)

    @staticmethod
    def _result(journal: Journal) -> dict[str, Any]:
        return {
            "recordings": journal.recordings,
            "files": journal.files,
            "bytes": journal.bytes,
            "sound_waiting": len(journal.owed),
            "problem_count": len(journal.problems),
            "problems": [list(one) for one in journal.problems[:MOST_PROBLEMS]],
        }

    async def tidy(self) -> None:
        """Bring to an end what was cancelled, or failed: a part that is whole as a part, or nothing."""
        for pack in await self._store.read(exitpacks.running):
            state = await self._state_of(pack.id)
            if state is None:
                continue
            try:
                await self._tidied(pack, PackState(state.value))
            except EarwitnessError as error:
                log.info("exit pack not tidied up", pack=pack.id, reason=error.reason)  # it is tried again

    async def _state_of(self, pack_id: str) -> OperationState | None:
        return await self._store.read(lambda connection: _ended(connection, pack_id))

    async def _tidied(self, pack: ExitPack, state: PackState) -> None:
        journal = await asyncio.to_thread(Journal, self._file(pack.id, "journal"))
        target = target_of(pack.spec, self._settings.exit)
        try:
            check_alone(self._file(pack.id, "lock"))
            if not await asyncio.to_thread(target.open, begun=True):
                if pack.spec["remove"]:
                    await asyncio.to_thread(target.remove)
                else:
                    await clear(self._store, pack, target, journal, self._file(pack.id, "at"))
                    pack = await self._finish(pack, target, journal, pack.spec["bound"], state.value)
        except ExitTargetAwayError as error:
            if journal.begun or error.data.get("code") != "PACK_AWAY":
                raise
            # Nothing was put there yet.
        finally:
            target.close()
            journal.close()
        await self._made(pack, state)


def _ended(connection: sa.Connection, operation_id: str) -> OperationState | None:
    """The state of an operation that has ended, or is forgotten; None where it goes on."""
    try:
        found = operations.get(connection, operation_id)
    except OperationNotFoundError:
        return OperationState.FAILED
    return None if found.state is OperationState.RUNNING else found.state
