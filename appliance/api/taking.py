"""Takes up into the catalogue what the vault says: row, event and cursor in one transaction."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
import structlog

from appliance.api import contents, sealednotes
from appliance.api.errors import VaultUnavailableError
from appliance.api.store import Store
from appliance.api.vault import VaultReader
from appliance.api.witness import Witness
from appliance.catalog import events, recordings, sidecars, state, witnessed
from appliance.catalog.events import Event, EventType
from appliance.catalog.records import UNREADABLE, Description, Held, Recording, State
from appliance.catalog.sidecars import Entry
from appliance.catalog.witnessed import Witnessed
from appliance.model import CorruptError, EarwitnessError, Kind

log = structlog.get_logger()

CURSOR = "vault-cursor"
_KEPT = (State.FILED, State.DELETED)
_EVENTS = {
    State.FILED: EventType.RECORDING_FILED,
    State.DELETED: EventType.RECORDING_DELETED,
    State.ERASED: EventType.RECORDING_ERASED,
    State.QUARANTINED: EventType.RECORDING_QUARANTINED,
}
# The recording went on in its life since the entry was written. (A deleted one is read when it is undeleted.)
_GONE_ON = frozenset({"RECORDING_DELETED", "RECORDING_ERASED", "ERASED", "RECORDING_NOT_FOUND"})
# Its key is absent and nobody erased it: what is known of it stays, and it is described at a start after the key is back.
_KEPT_BACK = frozenset({"RECORDING_KEY_ABSENT"})
# Its tenant's keys are locked: it is described when they are unlocked (`keystates`).
_LATER = frozenset({"TENANT_LOCKED"})


class Taker:
    """Reads what is new and writes it down."""

    def __init__(
        self, store: Store, reader: VaultReader, threads: ThreadPoolExecutor, witness: Witness
    ) -> None:
        self._store = store
        self._reader = reader
        self._threads = threads
        self._witness = witness
        self.scrub_wanted = True  # a process before this one may not have come to it
        self.put_off: set[str] = set()
        """Tenants of recordings that were not read because their keys were locked."""

    async def take(
        self,
        held: Held,
        position: int,
        *,
        moves_cursor: bool = False,
        tells: bool = True,
        anew: bool = False,
        witnesses: bool = False,
    ) -> Description | None:
        """Take up one holding at a position of the journal; gives what was read of its content, if it was read.

        `witnesses`: it is written into the audit log first. `anew`: read the content also where it is known, or at least
        once it can be read. `tells`: a change of state becomes an event.
        """
        later: list[str] = []
        wanted = await self._wants_content(held, position, anew)
        description = await self._describe(held, later) if wanted else None

        says = witnesses or await self._says_more(held, description)
        entry = await self._said(held, position, description) if says else None
        added = await self._added(held, anew, later)
        if held.state is State.ERASED and await self._erases(held, anew):
            await self._store.let_go()  # before the cursor moves on: whoever is killed here comes to it again

        def work(connection: sa.Connection) -> bool:
            if entry is not None:
                witnessed.put(connection, entry)
            before, changed = recordings.take(connection, held, position, description, doubted=anew)
            if held.sidecar is not None and held.state in _KEPT and before is not State.ERASED:
                sidecars.told(connection, held.recording_id, held.sidecar, doubted=anew)
                if added is not None:
                    sidecars.take(connection, held.recording_id, added, 0, len(added), held.sidecar.begun)
            # What an older position says is never told: something newer was told already.
            if tells and changed and before is not held.state:
                kind = _EVENTS[held.state]
                if held.state is State.FILED and before is State.DELETED:
                    kind = EventType.RECORDING_UNDELETED
                events.append(
                    connection,
                    Event(
                        kind,
                        time.time_ns(),
                        held.recording_id,
                        tenant_id=held.tenant_id,
                        line_id=held.line_id,
                        state=held.state.name,
                    ),
                )
            if moves_cursor:
                state.put_int(connection, CURSOR, position)
            return changed and held.state is State.ERASED

        erased = await self._store.write(work)
        self.put_off.update(later)  # written now, so that who looks for what waits finds it
        if erased:
            # What was deleted is overwritten in the database; its traces in the log go with the log.
            self.scrub_wanted = not await self._store.scrub_soon()
        return description

    async def _erases(self, held: Held, anew: bool) -> bool:
        """Whether a damaged catalogue that was put aside may know more of it than that it is erased."""
        damaged = self._store.damaged
        if damaged is None or not damaged.there:
            return False
        known = await self._store.read(lambda connection: recordings.state_of(connection, held.recording_id))
        if known is None and anew:  # read out of the vault by a new catalogue, whenever it was erased
            return not damaged.knew(held.since_ns)
        return known is not State.ERASED

    async def _says_more(self, held: Held, description: Description | None) -> bool:
        """Whether the gaps of a recording are known now, and were not when it was written down: its keys were locked."""
        if description is None or held.state is not State.FILED or UNREADABLE in description.flags:
            return False
        known = await self._store.read(lambda connection: witnessed.find(connection, held.recording_id))
        return known is not None and known.gaps is None

    async def _said(self, held: Held, position: int, description: Description | None) -> Witnessed | None:
        """AuditUnavailableError; what the vault raises."""
        if held.state is not State.FILED:
            return await self._witness.said(held, position, None, "")
        content: Description | Recording | None = description
        if content is None:
            content = await self._store.read(
                lambda connection: recordings.get_described(connection, held.recording_id)
            )
        sha256 = content.sha256 if content is not None else ""
        if not sha256:
            try:
                sha256 = await asyncio.get_running_loop().run_in_executor(
                    self._threads, contents.digest, self._reader, held.recording_id
                )
            except EarwitnessError as error:
                if error.kind is Kind.UNAVAILABLE:
                    raise
                # Gone on in its life, or unreadable: the entry says that there is no content to hold it against.
                log.info("recording has no digest", recording=held.recording_id, reason=error.reason)
        return await self._witness.said(held, position, content, sha256)

    async def _added(self, held: Held, anew: bool, later: list[str]) -> list[Entry] | None:
        """What was added to a recording, where not all of it was taken up; None where that is not to be had now."""
        if held.sidecar is None or held.state not in _KEPT:
            return None
        known = await self._store.read(lambda connection: sidecars.find(connection, held.recording_id))
        if (known.begun, known.taken) >= (held.sidecar.begun, held.sidecar.entries) and not anew:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, sealednotes.entries, self._reader, held.recording_id
            )
        except CorruptError as error:
            log.error("sidecar unreadable", recording=held.recording_id, reason=error.reason)
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            if error.reason in _LATER:
                later.append(held.tenant_id)
            log.info("sidecar not readable now", recording=held.recording_id, reason=error.reason)
        return None

    async def _wants_content(self, held: Held, position: int, anew: bool) -> bool:
        if held.state not in (State.FILED, State.DELETED):
            return False
        known, described = await self._store.read(
            lambda connection: recordings.standing(connection, held.recording_id)
        )
        return known <= position and (anew or not described)

    async def _describe(self, held: Held, later: list[str]) -> Description | None:
        """None where the content cannot be had just because the recording went on, or its tenant's keys are locked."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._threads, contents.describe, self._reader, held.recording_id
            )
        except VaultUnavailableError:
            raise
        except CorruptError as error:
            log.error("recording unreadable", recording=held.recording_id, reason=error.reason)
            return Description.unreadable(held)
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            if error.reason in _GONE_ON | _KEPT_BACK | _LATER:
                # A later entry of the journal says so, too; or it is taken up when the keys are unlocked.
                if error.reason in _LATER:
                    later.append(held.tenant_id)
                log.info("recording not readable now", recording=held.recording_id, reason=error.reason)
                return None
            log.error("recording unreadable", recording=held.recording_id, reason=error.reason)
            return Description.unreadable(held)
        return found if found is not None else Description.unreadable(held)
