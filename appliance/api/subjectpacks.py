"""SubjectsService: packs for people are asked for, listed, downloaded, destroyed."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator
from typing import Any, Final

import sqlalchemy as sa

from appliance.access.sealing import Sealing
from appliance.api import gate, names, operations, recheck, subjectconvert
from appliance.api.admission import admit
from appliance.api.errors import FieldInvalidError, NotReadableError, OffsetError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.scope import caller
from appliance.api.subjectjob import KIND, SubjectPacking, secret_name
from appliance.api.worker import Worker
from appliance.catalog import operations as operation_rows
from appliance.catalog import recordings, restrictions, subjectpacks, subjectrequests
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.operations import Operation
from appliance.catalog.records import Recording
from appliance.catalog.records import State as RecordingState
from appliance.catalog.subjecterrors import (
    SubjectPackEmptyError,
    SubjectPackStateError,
    SubjectRequestLimitError,
    SubjectRequestStateError,
)
from appliance.catalog.subjectpacks import Pack, State
from appliance.catalog.subjectrequests import Choice, Request
from appliance.model import ErasedError, new_id
from appliance.packs.zipping import check_passphrase
from earwitness.v1 import recordings_pb2
from earwitness.v1 import subjects_pb2 as pb

CHUNK: Final = 512 * 1024
MAX_GIVEN: Final = 500  # in one pack
KEEP_DAYS: Final = 30
MAX_KEEP_DAYS: Final = 90
PURPOSE: Final = "subject-access"
OBLIGED: Final = "the law obliges to answer (UK GDPR Art. 15)"


class Packing:
    """The packs' part of SubjectsService."""

    def __init__(self, parts: Parts, job: SubjectPacking, sealing: Sealing, worker: Worker) -> None:
        self._parts = parts
        self._job = job
        self._sealing = sealing
        self._worker = worker

    async def MakeSubjectPack(
        self, request: pb.MakeSubjectPackRequest, context: Any
    ) -> pb.MakeSubjectPackResponse:
        tenant_id, request_id = names.child(request.name, "subjectRequests")
        passphrase = check_passphrase(request.passphrase)
        if not 0 <= request.keep_days <= MAX_KEEP_DAYS:
            raise FieldInvalidError(f"should be 1 to {MAX_KEEP_DAYS}, or 0", field="keep_days")

        def planned(connection: sa.Connection) -> tuple[Request, list[tuple[Recording, Choice]]]:
            one = _ready_for_a_pack(connection, request_id, tenant_id)
            subjectpacks.check_room(connection, request_id)
            choices = subjectrequests.chosen(connection, request_id)
            given = [one for one in choices.values() if one.give]
            if not choices or not (given or any(not each.untold for each in choices.values())):
                raise SubjectPackEmptyError("nothing is chosen that can be given or told")
            if len(given) > MAX_GIVEN:
                raise SubjectRequestLimitError(
                    "a pack would hold more recordings than one may", limit=MAX_GIVEN
                )
            some = recordings.get_all(connection, [each.recording_id for each in given], one.tenant_id)
            rows = list(zip(some, given, strict=True))
            return one, rows

        one, rows = await self._parts.store.read(planned)
        for row, choice in rows:
            self._check_readable(row, choice)
        now_ns = self._parts.clock_ns()
        # What is kept of a request to know it again must not help to guess the passphrase.
        asked = pb.MakeSubjectPackRequest()
        asked.CopyFrom(request)
        asked.passphrase = ""
        asked.purpose = asked.purpose or PURPOSE
        asked.override_reason = asked.override_reason or OBLIGED
        operation = Operation(
            id=new_id(),
            tenant_id=one.tenant_id,
            kind=KIND,
            state=operation_rows.State.RUNNING,
            request={},
            creator=caller().name,
            create_ns=now_ns,
            update_ns=now_ns,
            total=len(rows),
        )
        pack = Pack(
            pack_id=new_id(),
            request_id=request_id,
            tenant_id=one.tenant_id,
            operation_id=operation.id,
            create_ns=now_ns,
            creator=caller().name,
            keep_days=request.keep_days or KEEP_DAYS,
        )
        operation.request.update(pack=pack.pack_id, purpose=asked.purpose)
        if request.validate_only:
            shown, made = operations.message(operation), subjectconvert.pack(pack, len(rows))
            shown.ClearField("name")  # chosen when it begins
            made.ClearField("name")
            return pb.MakeSubjectPackResponse(operation=shown, pack=made)
        secret = self._sealing.seal(passphrase, secret_name(pack.pack_id))

        async def act(note: Note) -> str:
            for row, choice in rows:
                await admit(self._parts, row, asked, restricted_for=choice.exception)

            def work(connection: sa.Connection) -> None:
                _ready_for_a_pack(connection, request_id, tenant_id)
                now = subjectrequests.chosen(connection, request_id).values()
                if [each for each in now if each.give] != [choice for _, choice in rows]:
                    raise SubjectRequestStateError("what is given was changed meanwhile", state="changed")
                operation_rows.add(connection, operation)
                contents = {row.recording_id: choice.exception for row, choice in rows}
                subjectpacks.add(connection, _sealed(pack, secret), contents)
                note(connection, pack.pack_id)

            await self._parts.store.write(work)
            return pack.pack_id

        pack_id = await self._parts.once("MakeSubjectPack", asked, act)
        self._worker.wake()

        def begun(connection: sa.Connection) -> pb.MakeSubjectPackResponse:
            found = subjectpacks.get(connection, pack_id, tenant_id)
            count = subjectpacks.counts(connection, [pack_id]).get(pack_id, 0)
            return pb.MakeSubjectPackResponse(
                operation=operations.message(operation_rows.get(connection, found.operation_id, tenant_id)),
                pack=subjectconvert.pack(found, count),
            )

        return await self._parts.store.read(begun)

    def _check_readable(self, row: Recording, choice: Choice) -> None:
        if row.state is RecordingState.ERASED:
            raise ErasedError("the recording is erased: its key is destroyed", recording=row.recording_id)
        if row.state is not RecordingState.FILED:
            raise NotReadableError(
                "the recording cannot be read in this state", state=row.state.name, recording=row.recording_id
            )
        if row.restricted and not choice.exception:
            raise restrictions.refusal(row.recording_id, [])
        self._parts.key_states.refuse_locked(row.tenant_id)

    async def ListSubjectPacks(
        self, request: pb.ListSubjectPacksRequest, context: Any
    ) -> pb.ListSubjectPacksResponse:
        tenant_id, request_id = names.child(request.parent, "subjectRequests", "parent")
        page = Page(self._parts, "ListSubjectPacks", request)
        size, after = page.size, page.after

        def work(connection: sa.Connection) -> tuple[list[Pack], dict[str, int]]:
            subjectrequests.get(connection, request_id, tenant_id)
            found = subjectpacks.of_request(connection, request_id, size + 1, after)
            return found, subjectpacks.counts(connection, [one.pack_id for one in found])

        found, counts = await self._parts.store.read(work)
        answer = pb.ListSubjectPacksResponse(
            packs=[subjectconvert.pack(one, counts.get(one.pack_id, 0)) for one in found[:size]]
        )
        size = page.cut(answer.packs)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.pack_id)
        return answer

    async def DownloadSubjectPack(
        self, request: pb.DownloadSubjectPackRequest, context: Any
    ) -> AsyncIterator[pb.DownloadSubjectPackResponse]:
        tenant_id, pack_id = names.child(request.name, "subjectPacks")
        if request.offset < 0 or (request.offset and not request.etag):
            raise OffsetError("an offset is not negative, and comes with an etag", field="offset")
        pack = await self._parts.store.read(lambda c: _there(c, pack_id, tenant_id))
        etag = f"zip-{pack.sha256[:32]}"
        if request.etag and request.etag != etag:
            raise EtagMismatchError("these would be other bytes: begin anew", field="etag")
        if request.offset > pack.size:
            raise OffsetError("the offset is behind the end", field="offset", size=pack.size)
        fd = await asyncio.to_thread(self._open, pack_id)
        try:
            await gate.write_down("read", kind="subject-pack-download", pack=pack_id)
            # It may be destroyed, or what is in it restricted, at any time.
            gate.ends_with(recheck.refused(self._parts.store, lambda c: _there(c, pack_id, tenant_id)))
            if not request.offset:
                await self._parts.store.write(lambda c: subjectpacks.downloaded(c, pack_id))
            header = recordings_pb2.DownloadHeader(
                size_bytes=pack.size,
                media_type="application/zip",
                file_name=f"{pack_id}.zip",
                etag=etag,
                sha256=bytes.fromhex(pack.sha256),
                offset=request.offset,
            )
            yield pb.DownloadSubjectPackResponse(header=header)
            offset = request.offset
            while offset < pack.size:
                data = await asyncio.to_thread(os.pread, fd, CHUNK, offset)
                if not data:
                    raise NotReadableError("the pack's file is shorter than it was")
                chunk = recordings_pb2.DownloadChunk(offset=offset, data=data, crc32=zlib.crc32(data))
                yield pb.DownloadSubjectPackResponse(chunk=chunk)
                offset += len(data)
        finally:
            os.close(fd)

    def _open(self, pack_id: str) -> int:
        try:
            return os.open(self._job.path(pack_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SubjectPackStateError("the pack's file is gone", state="destroyed") from None

    async def DeleteSubjectPack(
        self, request: pb.DeleteSubjectPackRequest, context: Any
    ) -> pb.DeleteSubjectPackResponse:
        tenant_id, pack_id = names.child(request.name, "subjectPacks")

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                subjectpacks.get(connection, pack_id, tenant_id)
                subjectpacks.destroy(connection, pack_id, "DELETED")
                note(connection, pack_id)

            await self._parts.store.write(work)
            return pack_id

        if not request.validate_only:
            await self._parts.once("DeleteSubjectPack", request, act)

        def shown(connection: sa.Connection) -> pb.DeleteSubjectPackResponse:
            found = subjectpacks.get(connection, pack_id, tenant_id)
            count = subjectpacks.counts(connection, [pack_id]).get(pack_id, 0)
            return pb.DeleteSubjectPackResponse(pack=subjectconvert.pack(found, count))

        return await self._parts.store.read(shown)


def _sealed(pack: Pack, secret: bytes) -> Pack:
    return Pack(**{**pack.__dict__, "secret": secret})


def _ready_for_a_pack(connection: sa.Connection, request_id: str, tenant_id: str | None) -> Request:
    """One that is open, of somebody who is known."""
    one = subjectrequests.get(connection, request_id, tenant_id)
    if one.closed:
        raise SubjectRequestStateError("the request is closed", state=one.state.value)
    if any(pause == "identity" and not until for pause, _, until in one.stops) or not one.identification:
        raise SubjectRequestStateError(
            "it is not noted how it was made sure who the person is", state="unidentified"
        )
    if subjectpacks.is_making(connection, request_id):
        raise SubjectRequestStateError("a pack is being made already", state="making")
    return one


def _there(connection: sa.Connection, pack_id: str, tenant_id: str | None) -> Pack:
    """A pack that can be had now; SubjectPackStateError, RecordingRestrictedError."""
    pack = subjectpacks.get(connection, pack_id, tenant_id)
    if pack.state is not State.READY:
        raise SubjectPackStateError("there is no such file now", state=pack.state.value)
    contents = subjectpacks.recordings_in(connection, pack_id)
    for recording_id, ids in restrictions.of(connection, list(contents)).items():
        if not contents[recording_id]:
            raise restrictions.refusal(recording_id, ids)
    return pack
