"""RecordingsService: find, look at, delete, erase. Reading is in `reading`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from appliance.api import admission, convert, names
from appliance.api.errors import EtagNeededError, FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text
from appliance.api.reading import Reading
from appliance.catalog import counting, filters, recordings
from appliance.catalog.errors import EtagMismatchError, RecordingNotFoundError
from appliance.catalog.filters import Field
from appliance.catalog.recording_filter import FIELDS
from appliance.catalog.records import Recording, State
from appliance.model import ErasedError, NotFoundError
from earwitness.v1 import recordings_pb2 as pb
from earwitness.v1 import recordings_pb2_grpc

MAX_ETAG = 100
MAX_ZONE = 64
_COUNT_BY = {pb.CountBy.Value(f"COUNT_BY_{by.name}"): by for by in counting.By}


class Recordings(Reading, recordings_pb2_grpc.RecordingsServiceServicer):
    """See recordings.proto."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)

    @property
    def fields(self) -> Mapping[str, Field]:
        """What the caller may filter by."""
        return FIELDS

    async def among(self) -> sa.Select[tuple[str]] | None:
        """Ids of the recordings that the caller may see; None: all that is not another tenant's."""
        return None

    async def ListRecordings(
        self, request: pb.ListRecordingsRequest, context: Any
    ) -> pb.ListRecordingsResponse:
        tenant_id = names.parent(request.parent)
        where = filters.parse(request.filter, self.fields)
        order = recordings.parse_order(request.order_by)
        among = await self.among()
        page = Page(self.parts, "ListRecordings", request, (int, int, str))
        size = page.size
        bound: int | None = page.after[0] if page.after else None
        after: tuple[int, str] | None = page.after[1:] if page.after else None
        full = request.view == pb.RECORDING_VIEW_FULL

        def work(connection: sa.Connection) -> tuple[list[Recording], int]:
            newest = recordings.newest(connection) if bound is None else bound
            found = recordings.search(
                connection,
                tenant_id=tenant_id,
                where=where,
                order=order,
                limit=size + 1,
                bound=newest,
                after=after,
                show_deleted=request.show_deleted,
                full=full,
                among=among,
            )
            return found, newest

        found, newest = await self.parts.store.read(work)
        kept = await self._kept(found[:size])
        answer = pb.ListRecordingsResponse(
            recordings=[convert.recording(row, full=full, kept=kept) for row in found[:size]]
        )
        if full:
            await admission.show(self.parts, found[:size], answer.recordings)
        size = page.cut(answer.recordings)
        if len(found) > size:
            position = recordings.position_of(found[size - 1], order)
            answer.next_page_token = page.token(newest, *position)
        return answer

    async def GetRecording(self, request: pb.GetRecordingRequest, context: Any) -> pb.GetRecordingResponse:
        tenant_id, recording_id = names.child(request.name, "recordings")
        row = await self.find(tenant_id, recording_id)
        return pb.GetRecordingResponse(
            recording=await self._message(row, full=request.view != pb.RECORDING_VIEW_BASIC)
        )

    async def DeleteRecording(
        self, request: pb.DeleteRecordingRequest, context: Any
    ) -> pb.DeleteRecordingResponse:
        tenant_id, recording_id = names.child(request.name, "recordings")
        check_text(request.reason, "reason")

        async def act(note: Note) -> str:
            row = await self._find_to_change(tenant_id, recording_id, request.etag, request.allow_missing)
            if row is not None and row.state is not State.DELETED:
                await self.parts.vault.delete(recording_id, request.reason, check=request.validate_only)
            if row is None or request.validate_only:
                return recording_id
            if row.state is not State.DELETED:
                await self._changed(recording_id)
            await self.parts.store.write(lambda connection: note(connection, recording_id))
            return recording_id

        async with self.parts.locks.held(recording_id):
            await self.parts.once("DeleteRecording", request, act)
        return pb.DeleteRecordingResponse(
            recording=await self._after(tenant_id, recording_id, request.allow_missing)
        )

    async def UndeleteRecording(
        self, request: pb.UndeleteRecordingRequest, context: Any
    ) -> pb.UndeleteRecordingResponse:
        tenant_id, recording_id = names.child(request.name, "recordings")

        async def act(note: Note) -> str:
            row = await self._find_to_change(tenant_id, recording_id, request.etag, False)
            if row is not None and row.state is not State.FILED:
                await self.parts.vault.undelete(recording_id, check=request.validate_only)
            if row is None or request.validate_only:
                return recording_id
            if row.state is not State.FILED:
                await self._changed(recording_id)
            await self.parts.store.write(lambda connection: note(connection, recording_id))
            return recording_id

        async with self.parts.locks.held(recording_id):
            await self.parts.once("UndeleteRecording", request, act)
        return pb.UndeleteRecordingResponse(recording=await self._after(tenant_id, recording_id, False))

    async def EraseRecording(
        self, request: pb.EraseRecordingRequest, context: Any
    ) -> pb.EraseRecordingResponse:
        tenant_id, recording_id = names.child(request.name, "recordings")
        check_text(request.reason, "reason", least=1)

        async def act(note: Note) -> str:
            row = await self._find_to_change(
                tenant_id, recording_id, request.etag, request.allow_missing, erasing=True
            )
            if row is not None and row.state is not State.ERASED and not (request.etag or request.force):
                raise EtagNeededError("erasing wants the recording's etag, or force", field="etag")
            if row is not None and row.state is not State.ERASED:
                await self.parts.vault.erase(recording_id, request.reason, check=request.validate_only)
            if row is None or request.validate_only:
                return recording_id
            if row.state is not State.ERASED:
                await self._changed(recording_id)
            await self.parts.store.write(lambda connection: note(connection, recording_id))
            return recording_id

        async with self.parts.locks.held(recording_id):
            await self.parts.once("EraseRecording", request, act)
        return pb.EraseRecordingResponse(
            recording=await self._after(tenant_id, recording_id, request.allow_missing)
        )

    async def CountRecordings(
        self, request: pb.CountRecordingsRequest, context: Any
    ) -> pb.CountRecordingsResponse:
        tenant_id = names.parent(request.parent)
        where = filters.parse(request.filter, FIELDS)
        by = _COUNT_BY.get(request.count_by)
        if by is None:
            raise FieldInvalidError("says by what to count", field="count_by")
        if len(request.time_zone) > MAX_ZONE:
            raise FieldInvalidError("not a time zone", field="time_zone")
        zone = counting.zone(request.time_zone)
        found = await self.parts.store.read(
            lambda connection: counting.count(
                connection,
                tenant_id=tenant_id,
                where=where,
                by=by,
                time_zone=zone,
                show_deleted=request.show_deleted,
            )
        )
        return convert.counted(found, by)

    async def _find_to_change(
        self,
        tenant_id: str | None,
        recording_id: str,
        etag: str,
        allow_missing: bool,
        *,
        erasing: bool = False,
    ) -> Recording | None:
        if len(etag) > MAX_ETAG:
            raise FieldInvalidError("not an etag", field="etag")
        try:
            row = await self.find(tenant_id, recording_id)
        except NotFoundError:
            if allow_missing:
                return None
            raise
        if row.state is State.ERASED:
            if erasing:
                return row  # done already, whatever it was before
            raise ErasedError("the recording is erased", recording=recording_id)
        if etag and etag != row.etag:
            raise EtagMismatchError("the recording changed since", recording=recording_id, field="etag")
        return row

    async def _changed(self, recording_id: str) -> None:
        self.parts.renders.forget(recording_id)
        await self.parts.follower.refresh(recording_id)

    async def _after(
        self, tenant_id: str | None, recording_id: str, allow_missing: bool
    ) -> pb.Recording | None:
        try:
            return await self._message(await self.find(tenant_id, recording_id), full=True)
        except RecordingNotFoundError:
            if allow_missing:
                return None
            raise

    async def _message(self, row: Recording, *, full: bool) -> pb.Recording:
        made = convert.recording(row, full=full, kept=await self._kept([row]))
        if full:
            await admission.show(self.parts, [row], [made])
        return made

    async def _kept(self, rows: Sequence[Recording]) -> convert.Kept:
        if not rows:
            return convert.Kept(None)
        ids = [row.recording_id for row in rows]
        return convert.Kept(await self.parts.retention.keeping_if_told(ids))
