"""Listening to live calls: who may, what for, and when it ends. The sound is `ear`'s."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import sqlalchemy as sa
from pydantic import ValidationError

from appliance.access import purposes as rules
from appliance.api import convert, names
from appliance.api.admission import Admitted, admit
from appliance.api.ear import Ear, Heard, InfoUnreadableError, info_of
from appliance.api.errors import CallNotFoundError, FieldInvalidError
from appliance.api.listenpost import Found
from appliance.api.parts import Parts
from appliance.api.scope import caller
from appliance.catalog import purposes, restrictions, tenants, values
from appliance.catalog.records import MarkRow, Recording, State
from appliance.media.audio.live import Chunk
from appliance.media.signaling.errors import CallNotRecordedError
from appliance.model import DeniedError, Direction, EarwitnessError, Kind, Mark, RecordingInfo, Role, new_id
from appliance.model.purpose import Purpose
from appliance.model.routing import Line, Listening
from earwitness.internal.v1 import capture_pb2, signaling_pb2
from earwitness.v1 import calls_pb2 as pb

RECHECK_S: Final = 2.0
GO_ON_S: Final = 4.0  # how long another recording of the same call is waited for
GO_ON_TRY_S: Final = 0.25


class ListeningNotAllowedError(DeniedError):
    """The line does not allow that its calls are listened to while they last."""

    reason = "LISTENING_NOT_ALLOWED"


class ListenCalls:
    """The listening part of CallsService."""

    _parts: Parts

    async def ListenCall(
        self, request: pb.ListenCallRequest, context: Any
    ) -> AsyncIterator[pb.ListenCallResponse]:
        form = _form(request)
        tenant_id, call_id = names.child(request.name, "calls")
        live = self._parts.board.call(tenant_id, call_id)
        numbers: set[str] = set()
        line = await self._allowed(live, numbers)
        found = await self._parts.listening.find(live.recording_ids)
        if found is None:
            raise CallNotRecordedError("the call is not being recorded", why=live.detail)
        numbers.update(_recorded(found))
        await self._allowed(live, numbers)
        ear = Ear(self._parts.listening, **form)
        with self._parts.listening.place(call_id, shown=line.listening is Listening.SHOWN):
            before: list[str] = []
            while found is not None:
                admitted = await admit(self._parts, _row(live, found), request)
                before.append(found.recording_id)
                asked = capture_pb2.MonitorRequest(
                    session_id=found.recording_id,
                    actor=caller().name,
                    purpose=request.purpose,
                    listener_id=new_id(),
                )
                lost: EarwitnessError | None = None
                async with self._watched(ear, live, found, numbers, request), ear.listening(found, asked):
                    answers = _Answers(live, found, ear.rate, admitted)
                    try:
                        async with aclosing(ear.heard()) as ticks:
                            async for heard in ticks:
                                for answer in answers.of(heard):
                                    yield answer
                    except EarwitnessError as error:
                        if error.kind is not Kind.UNAVAILABLE:
                            raise
                        lost = error  # capture is gone: the call may go on in another recording
                        ear.error = None
                live, found = await self._next(live, before, numbers)
                if found is None and lost is not None:
                    raise lost

    async def _allowed(self, live: signaling_pb2.LiveCall, numbers: set[str]) -> Line:
        """The call's line; ListeningNotAllowedError, TenantLockedError; VaultUnavailableError where nobody knows.

        RecordingRestrictedError where a restriction covers calls of one of its numbers: of who takes part now, and of who
        did before. `numbers` are theirs; those of now are added.
        """
        numbers.update(values.number_of(one.aor) for one in live.parties)

        def look(connection: sa.Connection) -> tuple[Line, tuple[str, ...]]:
            restricted = restrictions.of_numbers(connection, live.tenant_id, numbers, live.started_ns)
            return tenants.get_line(connection, live.line_id, live.tenant_id), restricted

        line, restricted = await self._parts.store.read(look)
        if restricted:
            raise restrictions.refusal((*live.recording_ids, "")[0], restricted)
        if line.listening is Listening.NONE:
            raise ListeningNotAllowedError("the line does not allow listening", call=live.call_id)
        # As reading is: what nobody may open now, nobody hears either.
        await self._parts.key_states.take(await self._parts.vault_keys.of(live.tenant_id))
        self._parts.key_states.refuse_locked(live.tenant_id)
        return line

    @asynccontextmanager
    async def _watched(
        self,
        ear: Ear,
        live: signaling_pb2.LiveCall,
        found: Found,
        numbers: set[str],
        request: pb.ListenCallRequest,
    ) -> AsyncIterator[None]:
        """Ends the listening when it would not be allowed any more. That the caller may call at all the gate watches."""

        async def watch() -> None:
            while True:
                await asyncio.sleep(RECHECK_S)
                try:
                    await self._allowed(self._parts.board.latest(live), numbers)
                    session = await self._parts.listening.session(found.worker, found.recording_id)
                    now = Found(found.worker, found.recording_id, session)
                    numbers.update(_recorded(now))  # who came and went in between
                    await self._still_stated(_row(live, now), request)
                except EarwitnessError as error:
                    if error.kind in (Kind.UNAVAILABLE, Kind.NOT_FOUND):
                        continue  # nobody can say now; or the recording has just ended
                    ear.error = error
                    return

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher

    async def _still_stated(self, row: Recording, request: pb.ListenCallRequest) -> None:
        """PurposeNotStatedError, as where an announcement has stated something else meanwhile."""

        def look(connection: sa.Connection) -> tuple[Purpose | None, rules.Stated]:
            return purposes.find(connection, row.tenant_id, request.purpose), rules.stated(connection, row)

        known, stated = await self._parts.store.read(look)
        rules.judge(request.purpose, known, stated, caller().roles, request.override_reason)

    async def _next(
        self, live: signaling_pb2.LiveCall, before: list[str], numbers: set[str]
    ) -> tuple[signaling_pb2.LiveCall, Found | None]:
        """The next recording of the call, where it goes on in another one."""
        deadline = asyncio.get_running_loop().time() + GO_ON_S
        while asyncio.get_running_loop().time() < deadline:
            try:
                live = self._parts.board.call(live.tenant_id, live.call_id)
                if live.state in (
                    signaling_pb2.CALL_STATE_NOT_RECORDED,
                    signaling_pb2.CALL_STATE_ENDED,
                ):
                    return live, None
                fresh = [one for one in live.recording_ids if one not in before]
                if fresh and (found := await self._parts.listening.find(fresh)) is not None:
                    numbers.update(_recorded(found))
                    await self._allowed(live, numbers)
                    return live, found
            except CallNotFoundError:
                return live, None
            except EarwitnessError as error:
                if error.kind is not Kind.UNAVAILABLE:
                    raise
            await asyncio.sleep(GO_ON_TRY_S)
        return live, None


def _form(request: pb.ListenCallRequest) -> dict[str, bool]:
    formats = (pb.LISTEN_FORMAT_OPUS, pb.LISTEN_FORMAT_PCM, pb.LISTEN_FORMAT_PAYLOAD)
    if request.format not in formats:
        raise FieldInvalidError("should be one of OPUS, PCM, PAYLOAD", field="format")
    payload = request.format == pb.LISTEN_FORMAT_PAYLOAD
    if payload and request.mixed:
        raise FieldInvalidError("what is sent as it was received is not mixed", field="mixed")
    return {
        "opus": request.format == pb.LISTEN_FORMAT_OPUS,
        "mixed": request.mixed,
        "payload": payload,
    }


def _recorded(found: Found) -> set[str]:
    """The numbers of all who are in the recording, also of who has left the call: it will be restricted by them."""
    return {values.number_of(one.aor) for one in info_of(found.session.info_json).parties}


def _announced(found: Found) -> tuple[MarkRow, ...]:
    """What this call's announcements have stated so far."""
    made = []
    for one in found.session.announced:
        try:
            mark = Mark.model_validate_json(one.json)
        except ValidationError:
            # Not chained: it quotes its input, which is personal data.
            raise InfoUnreadableError("what capture says of the recording cannot be read") from None
        made.append(MarkRow(mark.kind, mark.at_ns, None, mark.actor, mark.reason, mark.track, mark.data))
    return tuple(made)


def _row(live: signaling_pb2.LiveCall, found: Found) -> Recording:
    """The recording as the catalogue will have it, as far as a read of it is judged by."""
    info = info_of(found.session.info_json)
    return Recording(
        recording_id=found.recording_id,
        tenant_id=live.tenant_id,
        line_id=live.line_id,
        slice="",
        state=State.FILED,
        state_ns=info.started_ns,
        state_reason="",
        etag="",
        size=0,
        whole=False,
        described=False,
        start_ns=live.started_ns,
        end_ns=None,
        duration_ns=0,
        call_id=live.call_id,
        part=info.part,
        direction=Direction.UNKNOWN,
        source=live.source,
        sip_call_id="",
        sha256="",
        marks=_announced(found),
    )


class _Answers:
    """What a listener is told, made from what was heard."""

    def __init__(self, live: signaling_pb2.LiveCall, found: Found, rate: int, admitted: Admitted) -> None:
        self._live, self._found = live, found
        self._rate = rate
        self._admitted = admitted
        self._paused = False
        self._begun = False

    def of(self, heard: Heard) -> list[pb.ListenCallResponse]:
        made: list[pb.ListenCallResponse] = []
        for event in heard.events:
            made += self._event(event)
        if not self._begun:
            return made  # nothing is heard before capture has said what it is
        if heard.lost:
            lost = pb.ListenEvent(kind=pb.LISTEN_EVENT_KIND_LOST, track=-1, lost=heard.lost)
            made.append(pb.ListenCallResponse(event=lost))
        made += [pb.ListenCallResponse(chunk=_chunk(one)) for one in heard.chunks]
        return made

    def _event(self, event: capture_pb2.MonitorEvent) -> list[pb.ListenCallResponse]:
        what = event.WhichOneof("what")
        if what == "begun":
            self._paused, self._begun = event.begun.paused, True
            return [self._header(info_of(event.begun.info_json), event.at_ns)]
        if what == "info_json":
            return [self._header(info_of(event.info_json), event.at_ns)]
        track = -1
        if what == "paused":
            self._paused = event.paused
            kind = pb.LISTEN_EVENT_KIND_PAUSED if event.paused else pb.LISTEN_EVENT_KIND_RESUMED
        elif what == "held":
            kind, track = pb.LISTEN_EVENT_KIND_HELD, event.held
        elif what == "unheld":
            kind, track = pb.LISTEN_EVENT_KIND_UNHELD, event.unheld
        else:
            kind = pb.LISTEN_EVENT_KIND_ENDED
        told = pb.ListenEvent(kind=kind, time=convert.timestamp(event.at_ns), track=track)
        return [pb.ListenCallResponse(event=told)]

    def _header(self, info: RecordingInfo, at_ns: int) -> pb.ListenCallResponse:
        header = pb.ListenHeader(
            recording=names.recording(self._live.tenant_id, self._found.recording_id),
            sample_rate=self._rate,
            paused=self._paused,
            purpose_source=self._admitted.source,
            time=convert.timestamp(at_ns),
        )
        for track in info.tracks:
            known = 0 <= track.party < len(info.parties)
            role = info.parties[track.party].role if known else Role.UNKNOWN
            made = header.tracks.add(track=track.track, role=convert.role(role))
            if self._rate:
                continue
            for form in track.formats:
                made.payload_types.add(
                    number=form.number,
                    encoding=form.encoding,
                    clock_rate=form.clock_rate,
                    channels=form.channels,
                    fmtp=form.fmtp,
                )
        return pb.ListenCallResponse(header=header)


def _chunk(one: Chunk) -> pb.ListenChunk:
    return pb.ListenChunk(
        track=one.track,
        sequence=one.sequence,
        capture_time=convert.timestamp(one.arrival_ns),
        data=one.data,
        payload_type=one.payload_type,
        rtp_timestamp=one.timestamp,
    )
