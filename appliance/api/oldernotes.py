"""Notes and tags of an older release, which no sidecar has, are sealed by and by: a few at once, while the vault is quiet.

The catalogue knows what is left, so that it goes on after a restart. Of a tenant whose keys are locked they wait for the
unlocking, and nothing of it holds up what people do meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from appliance.api.notesealing import NoteSealing
from appliance.api.parts import Parts
from appliance.catalog import sidecars
from appliance.model import EarwitnessError, Kind
from appliance.process.status import INFO

log = structlog.get_logger()

UNSEALED: Final = "NotesUnsealed"
AT_ONCE: Final = 20  # recordings in a round
BETWEEN_S: Final = 0.5
ROUND_S: Final = 30.0
DONE_S: Final = 3600.0  # until it is looked again: a damaged catalogue may have been read anew
BUSY: Final = 10  # recordings that wait to be filed

_LATER: Final = frozenset({"TENANT_LOCKED", "BUCKET_BUSY"})


class OlderNotes:
    """See the module. `round_s`: between two rounds, seconds."""

    def __init__(self, parts: Parts, *, round_s: float = ROUND_S, between_s: float = BETWEEN_S) -> None:
        self._parts = parts
        self._sealing = NoteSealing(parts)
        self._round_s = round_s
        self._between_s = between_s
        self._after = ""
        self._locked: set[str] = set()
        """Tenants that are passed over until everything was gone through."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._round_s)
            try:
                left = await self.step()
            except EarwitnessError as error:
                if error.kind is not Kind.UNAVAILABLE:
                    raise
                # The follower tells of a vault that is away, the store of a catalogue that is; there is a next round.
                log.info("older notes not sealed now", reason=error.reason)
                continue
            if not left:
                await asyncio.sleep(DONE_S)

    async def step(self) -> int:
        """One round; how many recordings are left. What is unavailable raises, and nothing is lost by that."""
        left = await self._parts.store.read(sidecars.count_unsealed)
        self._tell(left)
        if left and await self._is_quiet():
            after, without = self._after, frozenset(self._locked)
            page = await self._parts.store.read(
                lambda connection: sidecars.unsealed_recordings(connection, AT_ONCE, after, without)
            )
            # From the beginning again after the last: what could not be sealed is tried again then.
            self._after = page[-1][0] if page else ""
            if not page:
                self._locked.clear()
            for recording_id, tenant_id in page:
                if await self._seal(recording_id, tenant_id):
                    left -= 1
                    await asyncio.sleep(self._between_s)
                    if not await self._is_quiet():
                        self._after = recording_id
                        break
            self._tell(left)
        return left

    async def _is_quiet(self) -> bool:
        status = await self._parts.vault.status()
        return status.store_answers and status.spooled <= BUSY

    async def _seal(self, recording_id: str, tenant_id: str) -> bool:
        try:
            self._parts.key_states.refuse_locked(tenant_id)
            return await self._sealing.seal_older(recording_id)
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            if error.reason == "TENANT_LOCKED":
                self._locked.add(tenant_id)
            say = log.debug if error.reason in _LATER else log.warning
            say("older notes of a recording not sealed", recording=recording_id, reason=error.reason)
            return False

    def _tell(self, left: int) -> None:
        self._parts.status.gauge("notes_unsealed_recordings", left)
        if left:
            self._parts.status.raise_condition(
                UNSEALED,
                INFO,
                f"{left} recordings have notes or tags of an older release that are not sealed yet. They are sealed by and"
                " by, while the box is quiet and their tenant's keys are unlocked.",
            )
        else:
            self._parts.status.clear_condition(UNSEALED)
