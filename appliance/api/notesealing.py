"""Changes of what people add to recordings: into the sealed sidecar first, then into the catalogue, as one.

A crash between the two is made good by the vault's journal (`taking`); who asks again with the same request_id finds
it done.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from appliance.api import sealednotes
from appliance.api.parts import Note as NoteDone
from appliance.api.parts import Parts
from appliance.api.scope import caller
from appliance.catalog import requests, sidecars
from appliance.catalog.sidecars import Entry
from appliance.model import id_text, new_id
from appliance.storage.sealed.sidecar import pack_content, unpack_content
from appliance.storage.sealed.sidecaranew import BEGUN
from appliance.storage.sealed.sidecarerrors import SidecarEntryError
from earwitness.internal.v1 import sidecars_pb2


@dataclass(frozen=True)
class Planned:
    """What shall be entered (nothing: it is so already), and the id of what the request is about."""

    entries: tuple[Entry, ...]
    subject: str


Plan = Callable[[sa.Connection, "Ids"], Planned]
"""Looks, refuses, and says what shall be entered. It may be asked twice."""


class Ids:
    """Ids of what one request makes: the same when it is asked again under its request_id."""

    def __init__(self, method: str, request: Any) -> None:
        self._seed = b""
        if request.request_id:
            said = (method, caller().name, request.request_id)
            self._seed = "\0".join(said).encode() + b"\0" + request.SerializeToString(deterministic=True)

    def of(self, what: str) -> str:
        """An id; another for another `what`."""
        if not self._seed:
            return new_id()
        return id_text(
            hashlib.sha256(b"earwitness entry\0" + what.encode() + b"\0" + self._seed).digest()[:16]
        )


class NoteSealing:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def change(self, method: str, request: Any, recording_id: str, plan: Plan) -> str:
        """Carry out a request once; the id of what it is about. Errors of the plan, of the vault, of the catalogue."""
        ids = Ids(method, request)

        async def act(done: NoteDone) -> str:
            # One change of a recording at a time: what was looked at is so when it is entered.
            async with self._parts.locks.held(f"sidecar {recording_id}"):
                planned = await self._parts.store.read(
                    lambda connection: self._plan(connection, recording_id, ids, plan)
                )
                await self._enter(recording_id, planned, done)
                return planned.subject

        return await self._parts.once(method, request, act)

    async def begin_anew(
        self, request: Any, recording_id: str, look: Callable[[sa.Connection], object]
    ) -> tuple[Entry, int]:
        """Set a damaged sidecar aside and begin a new one with what the catalogue has of notes and tags.

        Its first entry, and how many it has; with `validate_only` what is wrong now, and 0. `look` refuses. Errors of the
        vault: SidecarWholeError.
        """
        ids = Ids("BeginSidecarAnew", request)

        async def begin(done: NoteDone) -> str:
            async with self._parts.locks.held(f"sidecar {recording_id}"):
                older = await self._parts.store.read(
                    lambda connection: _standing(connection, recording_id, look)
                )
                first = {
                    "id": ids.of("begun"),
                    "what": BEGUN,
                    "by": caller().name,
                    "at_ns": self._parts.clock_ns(),
                    "reason": request.reason,
                }
                answer = await self._parts.vault.begin_sidecar_anew(
                    recording_id,
                    pack_content(first),
                    [pack_content(one) for one in older],
                    validate_only=request.validate_only,
                )
                if request.validate_only:
                    return answer.problem
                whole, begun = await self._whole(recording_id), answer.head.begun

                def take(connection: sa.Connection) -> None:
                    sidecars.take(connection, recording_id, whole, 0, len(whole), begun)
                    done(connection, recording_id)

                await self._parts.store.write(take)
                return recording_id

        if request.validate_only:
            known = await self._parts.store.read(lambda connection: sidecars.find(connection, recording_id))
            problem = await begin(lambda connection, subject: None)
            return {"problem": problem, "former_entries": known.entries, "kept": False}, 0
        await self._parts.once("BeginSidecarAnew", request, begin)
        whole = await self._whole(recording_id)
        return whole[0], len(whole)

    async def seal_older(self, recording_id: str) -> bool:
        """Seal what a filed recording has of notes and tags that no sidecar has yet; whether there was something.

        Errors of the vault; SidecarEntryError where a note is none that could be read back: nothing is sealed then.
        """
        async with self._parts.locks.held(f"sidecar {recording_id}"):
            older = await self._parts.store.read(
                lambda connection: sidecars.unsealed(connection, recording_id)
            )
            if not older:
                return False
            try:
                for one in older:
                    sidecars.check(one)
            except ValueError as error:
                raise SidecarEntryError("an older note is malformed", field="content") from error
            answer = await self._parts.vault.annotate(recording_id, [pack_content(one) for one in older])
            # Where the vault has more than the catalogue knew of, the journal says so, and it is taken up from there.
            await self._parts.store.write(
                lambda connection: _take(connection, recording_id, answer, _nothing_done, Planned((), ""))
            )
            return True

    @staticmethod
    def _plan(connection: sa.Connection, recording_id: str, ids: Ids, plan: Plan) -> Planned:
        entry_id = ids.of("entry")
        known = sidecars.find(connection, recording_id)
        if known.last_id == entry_id:
            # A crash came after it was entered, and it was taken up from there: what it changed is not to be judged again.
            return Planned((), ids.of("note"))
        return plan(connection, ids)

    async def _enter(self, recording_id: str, planned: Planned, done: NoteDone) -> None:
        if planned.entries:
            older = await self._parts.store.read(
                lambda connection: sidecars.unsealed(connection, recording_id)
            )
            answer = await self._parts.vault.annotate(
                recording_id, [pack_content(one) for one in (*older, *planned.entries)]
            )
            if self._of_old(answer, len(older)):
                renamed = Planned(tuple(one | {"id": new_id()} for one in planned.entries), planned.subject)
                return await self._enter(recording_id, renamed, done)
            if await self._parts.store.write(
                lambda connection: _take(connection, recording_id, answer, done, planned)
            ):
                return None
            # Something before it was not taken up yet: what a crash left.
            whole = await self._whole(recording_id)
            await self._parts.store.write(
                lambda connection: sidecars.take(
                    connection, recording_id, whole, 0, len(whole), answer.head.begun
                )
            )
        return await self._parts.store.write(lambda connection: done(connection, planned.subject))

    def _of_old(self, answer: sidecars_pb2.AnnotateRecordingResponse, older: int) -> bool:
        """Whether it was entered so long ago that its request_id means another change by now."""
        entered = [unpack_content(one)["at_ns"] for one in answer.contents[older:]]
        return bool(min(entered) <= self._parts.clock_ns() - requests.KEEP_NS)

    async def _whole(self, recording_id: str) -> Sequence[Entry]:
        return await asyncio.get_running_loop().run_in_executor(
            self._parts.readers, sealednotes.entries, self._parts.reader, recording_id
        )


def _nothing_done(connection: sa.Connection, subject: str) -> None:
    """Nobody asked for it: there is no request to be noted."""


def _standing(
    connection: sa.Connection, recording_id: str, look: Callable[[sa.Connection], object]
) -> list[Entry]:
    look(connection)
    return sidecars.standing(connection, recording_id)


def _take(
    connection: sa.Connection,
    recording_id: str,
    answer: sidecars_pb2.AnnotateRecordingResponse,
    done: NoteDone,
    planned: Planned,
) -> bool:
    entered = [unpack_content(one) for one in answer.contents]
    head = answer.head
    if not sidecars.take(connection, recording_id, entered, answer.places[0], head.entries, head.begun):
        return False
    done(connection, planned.subject)
    return True
