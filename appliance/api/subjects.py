"""SubjectsService, and all that works for it beside: restrictions kept, reminders given, packs destroyed in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Self

import sqlalchemy as sa
import structlog

from appliance.access.sealing import Sealing
from appliance.api import names, subjectconvert
from appliance.api.parts import Parts
from appliance.api.restriction import RestrictionKeeper
from appliance.api.store import ShuttingDownError
from appliance.api.subjectchoices import Choosing
from appliance.api.subjectjob import SubjectPacking
from appliance.api.subjectpacks import Packing
from appliance.api.subjectrequests import DUE, OVERDUE, Requesting
from appliance.api.subjectrestrictions import Restricting
from appliance.api.worker import Worker
from appliance.audit.trail import Trail
from appliance.catalog import alarms, restrictions, subjectpacks, subjectrequests, tenants
from appliance.catalog.subjectrequests import Request
from appliance.model import EarwitnessError, Kind
from earwitness.v1 import subjects_pb2_grpc

log = structlog.get_logger()

LOOK_S: Final = 60.0
PAUSE_S: Final = 0.5
REMIND_DAYS: Final = (2, 7)
_ALL: Final = 1_000_000


class SubjectWork:
    """See the module. `run` beside all else."""

    def __init__(self, parts: Parts, sealing: Sealing, trail: Trail, clock_ns: Callable[[], int]) -> None:
        self._parts = parts
        self._trail = trail
        self._clock_ns = clock_ns
        self.sealing = sealing
        self.keeper = RestrictionKeeper(parts, sealing, trail, clock_ns)
        self.job = SubjectPacking(parts, sealing, trail)

    @classmethod
    async def open(cls, parts: Parts, trail: Trail) -> Self:
        """Before recordings are taken up: a new catalogue has its restrictions by then. IdentityKeyError."""
        key = parts.settings.layout.control / "identities.key"
        made = cls(parts, await asyncio.to_thread(Sealing.at, key), trail, parts.clock_ns)
        await made.keeper.settle()
        await made._tidy()
        return made

    async def run(self) -> None:
        """Until cancelled, or the process stops."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.keeper.run(), name="restrictions")
            tasks.create_task(self._run(), name="subject packs")

    async def _run(self) -> None:
        looked_s = float("-inf")
        while True:
            seen = self._parts.store.events.number
            try:
                if time.monotonic() - looked_s >= LOOK_S:
                    await self.look()
                    looked_s = time.monotonic()
                await self._destroy()
            except EarwitnessError as error:
                if error.kind is not Kind.UNAVAILABLE:
                    raise
                log.info("packs and reminders wait", reason=error.reason)  # its condition is raised
            await asyncio.sleep(PAUSE_S)
            try:
                await self._parts.store.events.wait(seen, LOOK_S)
            except ShuttingDownError:
                return

    async def look(self) -> None:
        """What time brings: packs that are too old, requests that are due, what is to be forgotten."""
        now_ns = self._clock_ns()

        def work(connection: sa.Connection) -> None:
            subjectpacks.expire(connection, now_ns)
            for pack_id in subjectpacks.abandoned(connection):
                subjectpacks.failed(connection, pack_id, "CANCELLED")
            subjectpacks.prune(connection, now_ns)
            subjectrequests.prune(connection, now_ns)
            restrictions.prune(connection, now_ns)
            for one in subjectrequests.some(connection, None, _ALL, None, closed=False):
                remind(connection, one, now_ns)

        await self._parts.store.write(work)

    async def _destroy(self) -> None:
        """Files of packs that nobody is to have any more."""
        for pack in await self._parts.store.read(subjectpacks.to_destroy):
            for path in (self.job.path(pack.pack_id), self.job.part(pack.pack_id)):
                await asyncio.to_thread(path.unlink, missing_ok=True)
            await self._trail.append(
                {
                    "time_ns": self._clock_ns(),
                    "what": "subject-pack-destroyed",
                    "tenant": pack.tenant_id,
                    "subject": names.subject_pack(pack.tenant_id, pack.pack_id),
                    "reason": pack.end_reason,
                },
                durable=True,
            )

            def gone(connection: sa.Connection, pack_id: str = pack.pack_id) -> None:
                subjectpacks.destroyed(connection, pack_id)

            await self._parts.store.write(gone)

    async def _tidy(self) -> None:
        """Files that a stop left, of packs that are not to have any."""
        kept = await self._parts.store.read(subjectpacks.with_files)

        def work() -> None:
            for path in self.job.folder.glob("*"):
                if path.stem not in kept:
                    path.unlink()

        await asyncio.to_thread(work)


def remind(connection: sa.Connection, one: Request, now_ns: int) -> None:
    """Alarms of a request that is open: a notice at 7 and at 2 days, a warning when its time is over."""
    zone = tenants.get_tenant(connection, one.tenant_id).time_zone
    last = subjectconvert.due(one)
    left = None if last is None else (last - subjectconvert.today(now_ns, zone)).days
    stage = ""
    if left is not None:
        near = [days for days in REMIND_DAYS if left <= days]
        stage = "over" if left < 0 else str(near[0]) if near else ""
    reminded = f"{last}/{stage}" if stage else ""
    if reminded == one.reminded:
        return
    if stage != "over":
        alarms.clear_alarm(connection, OVERDUE, one.request_id, now_ns)
    if stage in ("", "over"):
        alarms.clear_alarm(connection, DUE, one.request_id, now_ns)
    if stage and left is not None:
        kind = OVERDUE if stage == "over" else DUE
        alarms.raise_alarm(connection, kind, one.request_id, one.tenant_id, now_ns, {"days_left": left})
    subjectrequests.remind(connection, one.request_id, reminded)


class Subjects(Requesting, Choosing, Packing, Restricting, subjects_pb2_grpc.SubjectsServiceServicer):
    """See subjects.proto."""

    def __init__(self, parts: Parts, work: SubjectWork, worker: Worker) -> None:
        Packing.__init__(self, parts, work.job, work.sealing, worker)
        Restricting.__init__(self, parts, work.keeper)
