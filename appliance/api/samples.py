"""Prompts at control's start: catalogue and data directory are made to agree, and the samples of the product are there."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from collections.abc import Callable, Collection
from importlib import resources
from typing import Any, Final

import sqlalchemy as sa
import structlog

from appliance.api.promptstore import PromptDamagedError, PromptStore, PromptUnwrittenError
from appliance.api.store import Store
from appliance.catalog import prompts, tenants
from appliance.media.audio.prompts import check, render
from appliance.media.audio.sound import read_sound
from appliance.model.prompt import Prompt
from appliance.process.status import ALARM, WARNING, Status

log = structlog.get_logger()

DAMAGED: Final = "PromptDamaged"
UNWRITTEN: Final = "SamplePromptsUnwritten"


class Samples:
    """See the module. `settle` before anything else uses prompts, `install` at leisure."""

    def __init__(self, store: Store, shelf: PromptStore, status: Status, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._shelf = shelf
        self._status = status
        self._clock_ns = clock_ns

    async def settle(self) -> None:
        """Takes away what a crash left; gives a lost catalogue what the folders hold; says what is damaged.

        Run before a lost catalogue gets its tenants back, since that is what tells it from one in use.
        """
        await asyncio.to_thread(self._shelf.tidy)

        lost = not await self._store.read(lambda connection: tenants.list_tenants(connection, 1))
        known = await self._store.read(_known)
        for prompt_id in sorted(await asyncio.to_thread(self._shelf.ids) - known):
            try:
                found = await asyncio.to_thread(self._shelf.read, prompt_id)
            except PromptDamagedError:
                log.warning("prompt without an entry is damaged, and stays", prompt=prompt_id)
                continue
            if lost or not found.tenant_id:
                await self._store.write(functools.partial(prompts.put, prompt=found))
                log.warning("prompt taken up from its folder", prompt=prompt_id)
            else:
                # Of an upload that never was answered, or of a removal that was.
                await self._take_away(prompt_id)
        await self.look()

    async def look(self) -> None:
        """Says by a condition whether files are missing or damaged."""
        known = await self._store.read(_known)
        damaged = await asyncio.to_thread(lambda: {one for one in known if not self._whole(one)})
        if damaged:
            damaged &= await self._store.read(_known)  # one that was removed meanwhile is not damaged
        if not damaged:
            self._status.clear_condition(DAMAGED)
            return
        self._status.raise_condition(
            DAMAGED,
            ALARM,
            f"Files of {len(damaged)} prompts are missing or damaged, so calls are not announced by them: upload them "
            "again, give the new ones to the lines, and remove the damaged ones.",
        )

    def _whole(self, prompt_id: str) -> bool:
        try:
            self._shelf.read(prompt_id)
        except PromptDamagedError:
            return False
        return True

    async def _take_away(self, prompt_id: str) -> None:
        try:
            await asyncio.to_thread(self._shelf.remove, prompt_id)
            log.info("prompt without an entry removed", prompt=prompt_id)
        except PromptUnwrittenError as error:
            log.warning("prompt without an entry stays", prompt=prompt_id, reason=error.reason)

    async def install(self) -> None:
        """The samples that are not there yet, or whose files are damaged. A condition says where they cannot be written."""
        known = await self._store.read(_known)
        try:
            for entry in await asyncio.to_thread(shipped):
                await self._install(entry, known)
        except PromptUnwrittenError:
            self._status.raise_condition(
                UNWRITTEN,
                WARNING,
                "The sample prompts cannot be written into the data directory: make space, and start the box again.",
            )

    async def _install(self, entry: dict[str, Any], known: Collection[str]) -> None:
        prompt_id = str(entry["id"])
        try:
            found = await asyncio.to_thread(self._shelf.read, prompt_id)
        except PromptDamagedError:
            await asyncio.to_thread(self._shelf.remove, prompt_id)
            found = await asyncio.to_thread(make, entry, self._shelf, self._clock_ns())
        if prompt_id not in known:
            await self._store.write(functools.partial(prompts.put, prompt=found))


def _known(connection: sa.Connection) -> frozenset[str]:
    """Ids of all prompts of the catalogue."""
    return prompts.sample_ids(connection) | {one.prompt_id for one in prompts.list_prompts(connection)}


def shipped() -> list[dict[str, Any]]:
    """What tools/make_prompts.py wrote: id, file, display_name, language, text, purposes of each sample."""
    text = (resources.files("appliance.data") / "prompts" / "prompts.json").read_text("utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    return entries


def make(entry: dict[str, Any], shelf: PromptStore, create_ns: int) -> Prompt:
    """Renders one sample, as `shipped` gives it, and writes it down. PromptUnwrittenError."""
    sound = read_sound((resources.files("appliance.data") / "prompts" / entry["file"]).read_bytes())
    checked = check(sound)
    prompt = Prompt(
        prompt_id=entry["id"],
        display_name=entry["display_name"],
        language=entry["language"],
        text=entry["text"],
        text_sha256=hashlib.sha256(entry["text"].encode()).hexdigest(),
        audio_sha256=sound.sha256,
        purposes=tuple(entry["purposes"]),
        duration_ms=checked.duration_ms,
        create_ns=create_ns,
    )
    return shelf.add(prompt, render(checked))
