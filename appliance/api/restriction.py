"""What restrictions need beside the catalogue: a copy that outlives it, legal holds, and the erasures of upheld
objections.

The copy is `control/restrictions.sealed`, the whole of them under the key of identities' secrets (AES-256-GCM), as they
hold numbers of people. A catalogue that is new or older than its copy takes up what the copy says, before it takes up
recordings: so a lost catalogue lifts no restriction.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.access.refusals import IdentityKeyError
from appliance.access.sealing import Sealing
from appliance.api import names
from appliance.api.parts import Parts
from appliance.api.store import ShuttingDownError
from appliance.api.vaultretention import MAX_NAMED
from appliance.audit.trail import Trail
from appliance.catalog import recordings, restrictionduties, state
from appliance.catalog.restrictions import SERIAL, Restriction
from appliance.model import EarwitnessError, Kind
from appliance.process.status import ALARM, WARNING
from appliance.process.wholefile import set_aside, write_whole
from earwitness.internal.v1 import retention_pb2

log = structlog.get_logger()

FILE: Final = "restrictions.sealed"
UNWRITABLE: Final = "RestrictionsCopyUnwritable"
RESTORED: Final = "RestrictionsRestored"
ALTERED: Final = "RestrictionsCopyAltered"
FAILING: Final = "RestrictionDutyFailing"
LOOK_S: Final = 30.0
PAUSE_S: Final = 0.5  # between two looks, however much is written
BATCH: Final = 100
_SEALED_FOR: Final = "\0restrictions"  # no identity has such a name
_HELD_ALREADY: Final = frozenset({"HOLD_EXISTS"})
_RELEASED: Final = frozenset({"HOLD_RELEASED", "HOLD_NOT_FOUND"})


class RestrictionKeeper:
    """See the module. `settle` before recordings are taken up, `keep` after a change, `run` beside all else."""

    def __init__(self, parts: Parts, sealing: Sealing, trail: Trail, clock_ns: Callable[[], int]) -> None:
        self._parts = parts
        self._store = parts.store
        self._path: Path = parts.settings.layout.control / FILE
        self._sealing = sealing
        self._trail = trail
        self._clock_ns = clock_ns
        self._turn = asyncio.Lock()
        self._round = asyncio.Lock()  # a hold that one round makes, another must not release before it
        self._written = -1  # the serial of the copy
        self._aside: Path | None = None  # where a damaged copy is kept before another takes its place

    async def settle(self) -> None:
        """Hold the catalogue against the copy; what is newer counts."""
        serial = await self._serial()
        try:
            kept = await asyncio.to_thread(self._read)
        except (IdentityKeyError, ValueError):
            # Whoever altered it may have wanted something lifted: the catalogue has not lost anything, or says so itself.
            self._aside = self._path.with_name(f"{FILE}.damaged-{time.time_ns()}")
            self._parts.status.raise_condition(
                ALTERED,
                ALARM,
                "The copy of restrictions beside the catalogue is damaged or of another box; it is written anew from the"
                f" catalogue, and what was there is kept as control/{self._aside.name}. Was the catalogue lost, too? Then"
                " look through the audit for CreateRestriction.",
            )
            kept = None
        if kept is not None:
            self._written = int(kept["serial"])
            if self._written > serial:
                await self._store.write(lambda connection: restrictionduties.load(connection, kept))
                log.warning("restrictions restored from their copy", serial=self._written)
                self._parts.status.raise_condition(
                    RESTORED,
                    WARNING,
                    "The catalogue was new or older than the copy of restrictions: they came back from the copy.",
                )
        await self.keep()

    async def keep(self) -> None:
        """Write the copy where it is behind. The change itself holds: a condition says where it cannot be written."""
        async with self._turn:
            if await self._serial() == self._written:
                return
            found = await self._store.read(restrictionduties.dump)
            content = json.dumps(found, separators=(",", ":")).encode()
            try:
                sealed = self._sealing.seal(content, _SEALED_FOR)
                if self._aside is not None:
                    await asyncio.to_thread(set_aside, self._path, self._aside)
                    self._aside = None
                await asyncio.to_thread(write_whole, self._path, sealed)
            except OSError as error:
                log.error("copy of restrictions not written", errno=error.errno)
                self._parts.status.raise_condition(
                    UNWRITABLE,
                    ALARM,
                    "The copy of restrictions beside the catalogue cannot be written: make space. Until then a lost"
                    " catalogue would lift the newest of them.",
                )
                return
            self._written = found["serial"]
            self._parts.status.clear_condition(UNWRITABLE)

    def _read(self) -> dict[str, Any] | None:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        found = json.loads(self._sealing.open(raw, _SEALED_FOR))
        if not isinstance(found, dict) or not {"serial", "restrictions", "restricted"} <= found.keys():
            raise ValueError("not a copy of restrictions")
        return found

    async def _serial(self) -> int:
        return await self._store.read(lambda connection: state.get_int(connection, SERIAL))

    async def run(self) -> None:
        """Until cancelled, or the process stops."""
        while True:
            seen = self._store.events.number
            await self.attempt()
            await asyncio.sleep(PAUSE_S)
            try:
                await self._store.events.wait(seen, LOOK_S)
            except ShuttingDownError:
                return

    async def attempt(self) -> None:
        """Copy, legal holds, erasures, as far as it goes now: restrictions hold without them, and there is a next time."""
        try:
            async with self._round:
                await self.keep()
                await self._do()
        except EarwitnessError as error:
            if error.kind is not Kind.UNAVAILABLE:
                raise
            log.info("restrictions wait", reason=error.reason)

    async def _do(self) -> None:
        """Legal holds that are wanted or not wanted any more, and erasures that are due."""
        failing = ""
        for one, ids in await self._store.read(lambda c: restrictionduties.holds_due(c, MAX_NAMED)):
            failing = await self._tried(self._hold(one, ids)) or failing
        for one in await self._store.read(restrictionduties.releases_due):
            failing = await self._tried(self._release(one)) or failing
        for recording_id, one in await self._store.read(lambda c: restrictionduties.erasures_due(c, BATCH)):
            failing = await self._tried(self._erase(recording_id, one)) or failing
        if failing:
            self._parts.status.raise_condition(
                FAILING,
                ALARM,
                f"The vault refuses the legal hold or release that a restriction wants ({failing}): retention may take"
                " what somebody needs for a claim. See `earwitness recordings restrictions` and `earwitness holds list`.",
            )
        else:
            self._parts.status.clear_condition(FAILING)

    async def _tried(self, work: Coroutine[Any, Any, None]) -> str:
        """The reason where it was refused for good; what is UNAVAILABLE is raised."""
        try:
            await work
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            log.error("restriction not carried out", reason=error.reason)
            return error.reason
        return ""

    async def _hold(self, one: Restriction, ids: list[str]) -> None:
        retention = self._parts.retention
        if one.hold == "due":
            wanted = retention_pb2.CreateHoldRequest(
                case_id=one.case_id,
                tenant_id=one.tenant_id,
                title="Restriction for a legal claim",
                reason=f"UK GDPR Art. 18(1)(c): {names.restriction(one.tenant_id, one.restriction_id)}",
                owner=one.history[0][1] if one.history else "",
            )
            try:
                await retention.create_hold(wanted)
            except EarwitnessError as error:
                if error.reason not in _HELD_ALREADY:  # a stop came between the two
                    raise
        if ids:
            request = retention_pb2.AddToHoldRequest(
                case_id=one.case_id, who="restriction", recording_ids=ids
            )
            await retention.add_to_hold(request)
        await self._store.write(lambda c: restrictionduties.held(c, one.restriction_id, ids))
        await self._tell(one, "restriction-held", count=len(ids))

    async def _release(self, one: Restriction) -> None:
        request = retention_pb2.ReleaseHoldRequest(
            case_id=one.case_id, who="restriction", reason="the restriction was lifted"
        )
        try:
            await self._parts.retention.release_hold(request)
        except EarwitnessError as error:
            if error.reason not in _RELEASED:
                raise
        await self._store.write(lambda c: restrictionduties.released(c, one.restriction_id))
        await self._tell(one, "restriction-released")

    async def _erase(self, recording_id: str, one: Restriction) -> None:
        """Where something else keeps it, such as a legal hold, it stays restricted."""
        restriction_id = one.restriction_id
        if not await self._store.read(
            lambda c: restrictionduties.erase_is_due(c, recording_id, restriction_id)
        ):
            return  # it was lifted, or decided otherwise, since the round began
        await self._store.read(lambda c: recordings.get(c, recording_id))
        try:
            await self._parts.vault.erase(recording_id, "objection upheld (UK GDPR Art. 21)")
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            log.warning("not erased after an objection", recording=recording_id, reason=error.reason)
            await self._store.write(lambda c: restrictionduties.erase_refused(c, recording_id))
            await self._tell(one, "restriction-erased", recording=recording_id, outcome=error.reason)
            return
        await self._tell(one, "restriction-erased", recording=recording_id, outcome="OK")
        self._parts.renders.forget(recording_id)
        await self._parts.follower.refresh(recording_id)

    async def _tell(self, one: Restriction, what: str, **more: object) -> None:
        await self._trail.append(
            {
                "time_ns": self._clock_ns(),
                "what": what,
                "tenant": one.tenant_id,
                "subject": names.restriction(one.tenant_id, one.restriction_id),
                **more,
            },
            durable=True,
        )
