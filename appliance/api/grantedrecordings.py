"""RecordingsService as support meets it: under grants alone, and without what they leave out. Others pass through."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from appliance.api import grantview
from appliance.api.granted import Granted, by_grant_alone
from appliance.api.grantview import View
from appliance.api.parts import Parts
from appliance.api.recordings import Recordings
from appliance.api.scope import caller
from appliance.catalog import grants as rows
from appliance.catalog.errors import RecordingNotFoundError
from appliance.catalog.filters import Field
from appliance.catalog.recording_filter import FIELDS
from appliance.catalog.records import Recording
from earwitness.v1 import recordings_pb2 as pb

Item = TypeVar("Item", pb.DownloadRecordingResponse, pb.VerifyRecordingResponse)
PLAIN: Final[Mapping[str, Field]] = {
    name: FIELDS[name]
    for name in (
        "start_time",
        "end_time",
        "duration",
        "size_bytes",
        "part",
        "state",
        "direction",
        "whole",
        "line",
        "call",
        "source",
        "flags",
        "marks",
    )
}
"""Filter fields that say nothing of people: a filter answers questions, too."""
_GIVEN_OUT: Final = "-"  # the etag of what has none


class GrantedRecordings(Recordings):
    """See recordings.proto."""

    def __init__(self, parts: Parts, granted: Granted) -> None:
        super().__init__(parts)
        self._granted = granted

    def _look(
        self, method: str, kind: str = "", format_: str = "", etag: str = "", purpose: str = ""
    ) -> View | None:
        """How the caller looks in this call; None: by a right of its own."""
        alone = by_grant_alone(method)
        return grantview.enter(View(self._granted, kind, format_, etag, purpose) if alone else None)

    @property
    def fields(self) -> Mapping[str, Field]:
        return FIELDS if grantview.current() is None else PLAIN

    async def among(self) -> sa.Select[tuple[str]] | None:
        view = grantview.current()
        if view is None:
            return None
        identity = caller()

        def work(connection: sa.Connection) -> tuple[set[str], set[str]]:
            found = self._granted.active(connection, identity)
            return {one.grant_id for one in found}, set(
                rows.covers(connection, {one.grant_id for one in found if one.include_parties})
            )

        grant_ids, view.open_ids = await self.parts.store.read(work)
        return rows.among(grant_ids)

    async def find(self, tenant_id: str | None, recording_id: str) -> Recording:
        row = await super().find(tenant_id, recording_id)
        view = grantview.current()
        if view is not None and view.read is None:
            seen = await self._granted.visible(row, reading=bool(view.kind))
            if not seen:
                raise RecordingNotFoundError("no such recording", recording=recording_id)
            if any(one.include_parties for one in seen):
                view.open_ids.add(recording_id)
        return row

    async def _readable(self, name: str) -> Recording:
        row = await super()._readable(name)
        view = grantview.current()
        if view is not None and view.kind == "verify":
            await view.count(row)  # the others are counted once they are admitted (`admission`)
        return row

    async def ListRecordings(
        self, request: pb.ListRecordingsRequest, context: Any
    ) -> pb.ListRecordingsResponse:
        view = self._look("ListRecordings")
        answer = await super().ListRecordings(request, context)
        if view is not None:
            for one in answer.recordings:
                _veil(one, view)
        return answer

    async def GetRecording(self, request: pb.GetRecordingRequest, context: Any) -> pb.GetRecordingResponse:
        view = self._look("GetRecording")
        answer = await super().GetRecording(request, context)
        if view is not None:
            _veil(answer.recording, view)
        return answer

    def DownloadRecording(
        self, request: pb.DownloadRecordingRequest, context: Any
    ) -> AsyncIterator[pb.DownloadRecordingResponse]:
        format_ = _word(pb.DownloadFormat, request.format)
        view = self._look("DownloadRecording", "download", format_, request.etag, request.purpose)
        stream = super().DownloadRecording(request, context)
        return stream if view is None else self._watched(stream, view)

    def VerifyRecording(
        self, request: pb.VerifyRecordingRequest, context: Any
    ) -> AsyncIterator[pb.VerifyRecordingResponse]:
        view = self._look("VerifyRecording", "verify")
        stream = super().VerifyRecording(request, context)
        return stream if view is None else self._watched(stream, view)

    async def GetWaveform(self, request: pb.GetWaveformRequest, context: Any) -> pb.GetWaveformResponse:
        view = self._look("GetWaveform", "waveform", purpose=request.purpose)
        try:
            answer = await super().GetWaveform(request, context)
            if view is not None and view.read is not None:
                await self._granted.serve(view.read, _GIVEN_OUT)
                self._granted.check(view.read)
                if not view.read.grant.include_parties:
                    _veil_marks(answer.marks)
            return answer
        finally:
            self._done(view)

    async def _watched(self, stream: AsyncIterator[Item], view: View) -> AsyncGenerator[Item, None]:
        """A stream that breaks off when its grant ends."""
        assert isinstance(stream, AsyncGenerator)
        try:
            async with aclosing(stream):
                async for item in stream:
                    read = view.read
                    if read is None:
                        raise AssertionError("a read under a grant that was not counted")
                    given = _given_out(item)
                    if given:
                        await self._granted.serve(read, given)
                    self._granted.check(read)
                    yield item
        finally:
            self._done(view)

    def _done(self, view: View | None) -> None:
        if view is not None and view.read is not None:
            self._granted.done(view.read)


def _word(enum: Any, value: int) -> str:
    return enum.Name(value).rpartition("_")[2].lower() if value in enum.values() else ""


def _given_out(item: pb.DownloadRecordingResponse | pb.VerifyRecordingResponse) -> str:
    """The etag of what is given out with this message and after it; empty: nothing is yet, or it was said before."""
    if isinstance(item, pb.DownloadRecordingResponse):
        return item.header.etag if item.HasField("header") else ""
    return _GIVEN_OUT if item.HasField("report") else ""


def _veil(recording: pb.Recording, view: View) -> None:
    """Take out what says something of people, where no grant shows it."""
    if recording.name.rpartition("/")[2] in view.open_ids:
        return
    for party in recording.parties:
        for name in ("address", "number", "display_name"):
            party.ClearField(name)
    for track in recording.tracks:
        track.ClearField("label")
    recording.ClearField("sip_call_id")
    recording.ClearField("session_ids")
    recording.ClearField("tags")
    recording.ClearField("state_reason")
    recording.ClearField("certificate")
    _veil_marks(recording.marks)


def _veil_marks(marks: Any) -> None:
    for mark in marks:
        for name in ("actor", "reason", "data"):
            mark.ClearField(name)
