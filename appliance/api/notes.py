"""NotesService: what people add to recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import convert, masks, names
from appliance.api.errors import FieldInvalidError, NotReadableError
from appliance.api.notesealing import Ids, NoteSealing, Planned
from appliance.api.pages import Page
from appliance.api.parts import Parts, check_text
from appliance.api.scope import caller
from appliance.catalog import additions, recordings, sidecars
from appliance.catalog.additions import MAX_NOTE, MAX_TAGS, Note
from appliance.catalog.errors import NoteNotFoundError
from appliance.catalog.records import Recording, State
from appliance.catalog.values import MAX_TAG, fold
from appliance.model import ErasedError
from earwitness.v1 import notes_pb2 as pb
from earwitness.v1 import notes_pb2_grpc

FIELDS: Final = ("text", "offset")
MAX_ETAG: Final = 100
MAX_FOLDED: Final = 120
_MOST_S: Final = 366 * 86400


class Notes(notes_pb2_grpc.NotesServiceServicer):
    """See notes.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sealing = NoteSealing(parts)

    async def CreateNote(self, request: pb.CreateNoteRequest, context: Any) -> pb.CreateNoteResponse:
        tenant_id, recording_id = names.child(request.parent, "recordings", "parent")
        text, offset_ns = _text(request.note), _offset(request.note)
        if request.validate_only:
            row = await self._parts.store.read(lambda c: _may_add(c, tenant_id, recording_id))
            now_ns = self._parts.clock_ns()
            made = Note("", recording_id, text, offset_ns, caller().name, now_ns, caller().name, now_ns)
            answer = message(made, row.tenant_id)
            for field in ("name", "create_time", "update_time", "etag"):
                answer.ClearField(field)
            return pb.CreateNoteResponse(note=answer)

        def plan(connection: sa.Connection, ids: Ids) -> Planned:
            _may_add(connection, tenant_id, recording_id)
            now_ns, who, note_id = self._parts.clock_ns(), caller().name, ids.of("note")
            note = Note(note_id, recording_id, text, offset_ns, who, now_ns, who, now_ns)
            return Planned((sidecars.note_entry("note-created", note, ids.of("entry")),), note_id)

        note_id = await self._sealing.change("CreateNote", request, recording_id, plan)
        return pb.CreateNoteResponse(note=await self._get(tenant_id, recording_id, note_id))

    async def GetNote(self, request: pb.GetNoteRequest, context: Any) -> pb.GetNoteResponse:
        return pb.GetNoteResponse(note=await self._get(*names.note(request.name)))

    async def ListNotes(self, request: pb.ListNotesRequest, context: Any) -> pb.ListNotesResponse:
        tenant_id, recording_id = names.child(request.parent, "recordings", "parent")
        page = Page(self._parts, "ListNotes", request)
        size = page.size
        after: tuple[int, str] | None = page.after

        def work(connection: sa.Connection) -> tuple[str, list[Note]]:
            row = _standing(connection, tenant_id, recording_id)
            return row.tenant_id, additions.list_notes(connection, recording_id, size + 1, after)

        owner, found = await self._parts.store.read(work)
        answer = pb.ListNotesResponse(notes=[message(one, owner) for one in found[:size]])
        size = page.cut(answer.notes)
        if len(found) > size:
            last_one = found[size - 1]
            answer.next_page_token = page.token(last_one.create_ns, last_one.note_id)
        return answer

    async def UpdateNote(self, request: pb.UpdateNoteRequest, context: Any) -> pb.UpdateNoteResponse:
        tenant_id, recording_id, note_id = names.note(request.note.name, "note.name")
        paths = masks.paths(request.update_mask, request.note, FIELDS)
        etag = _etag(request.note.etag, "note.etag")

        def changed(connection: sa.Connection) -> tuple[str, Note, bool]:
            row = _changeable(connection, tenant_id, recording_id)
            before = additions.check_note(connection, recording_id, note_id, etag)
            said = masks.merged(message(before, row.tenant_id), request.note, paths)
            after = dataclasses.replace(before, text=_text(said), offset_ns=_offset(said))
            if after == before:
                return row.tenant_id, before, False
            now_ns, version = self._parts.clock_ns(), before.version + 1
            after = dataclasses.replace(after, editor=caller().name, update_ns=now_ns, version=version)
            return row.tenant_id, after, True

        if request.validate_only:
            owner, after, _ = await self._parts.store.read(changed)
            return pb.UpdateNoteResponse(note=message(after, owner))

        def plan(connection: sa.Connection, ids: Ids) -> Planned:
            _, after, differs = changed(connection)
            entry = sidecars.note_entry("note-changed", after, ids.of("entry"))
            return Planned((entry,) if differs else (), note_id)

        await self._sealing.change("UpdateNote", request, recording_id, plan)
        await self._scrub()
        return pb.UpdateNoteResponse(note=await self._get(tenant_id, recording_id, note_id))

    async def DeleteNote(self, request: pb.DeleteNoteRequest, context: Any) -> pb.DeleteNoteResponse:
        tenant_id, recording_id, note_id = names.note(request.name)
        etag = _etag(request.etag, "etag")

        def found(connection: sa.Connection) -> Note | None:
            _changeable(connection, tenant_id, recording_id)
            try:
                return additions.check_note(connection, recording_id, note_id, etag)
            except NoteNotFoundError:
                if request.allow_missing:
                    return None
                raise

        if request.validate_only:
            await self._parts.store.read(found)
            return pb.DeleteNoteResponse()

        def plan(connection: sa.Connection, ids: Ids) -> Planned:
            note = found(connection)
            if note is None:
                return Planned((), note_id)
            gone = dataclasses.replace(
                note, editor=caller().name, update_ns=self._parts.clock_ns(), version=note.version + 1
            )
            return Planned((sidecars.note_entry("note-deleted", gone, ids.of("entry")),), note_id)

        await self._sealing.change("DeleteNote", request, recording_id, plan)
        await self._scrub()
        return pb.DeleteNoteResponse()

    async def UpdateRecordingTags(
        self, request: pb.UpdateRecordingTagsRequest, context: Any
    ) -> pb.UpdateRecordingTagsResponse:
        tenant_id, recording_id = names.child(request.name, "recordings")
        add, remove = _tags(request.add, "add"), _tags(request.remove, "remove")

        def standing(connection: sa.Connection) -> Recording:
            return _standing(connection, tenant_id, recording_id)

        if request.validate_only:
            row = await self._parts.store.read(lambda c: _changeable(c, tenant_id, recording_id))
            tags = additions.tags_after(row.tags, add, remove)
            return pb.UpdateRecordingTagsResponse(tags=tags, etag=row.etag)

        def plan(connection: sa.Connection, ids: Ids) -> Planned:
            there = _changeable(connection, tenant_id, recording_id).tags
            after = additions.tags_after(there, add, remove)
            if after == list(there):
                return Planned((), recording_id)
            now_ns = self._parts.clock_ns()
            return Planned(
                (sidecars.tags_entry(after, caller().name, now_ns, ids.of("entry")),), recording_id
            )

        await self._sealing.change("UpdateRecordingTags", request, recording_id, plan)
        if remove:
            await self._scrub()
        row = await self._parts.store.read(standing)
        return pb.UpdateRecordingTagsResponse(tags=row.tags, etag=row.etag)

    async def BeginSidecarAnew(
        self, request: pb.BeginSidecarAnewRequest, context: Any
    ) -> pb.BeginSidecarAnewResponse:
        tenant_id, recording_id = names.child(request.name, "recordings")
        check_text(request.reason, "reason", least=1)
        first, entries = await self._sealing.begin_anew(
            request, recording_id, lambda connection: _changeable(connection, tenant_id, recording_id)
        )
        return pb.BeginSidecarAnewResponse(
            code=first["problem"].upper().replace("-", "_"),
            former_entries=first["former_entries"],
            kept=first["kept"],
            entries=entries,
        )

    async def _get(self, tenant_id: str | None, recording_id: str, note_id: str) -> pb.Note:
        def work(connection: sa.Connection) -> pb.Note:
            row = _standing(connection, tenant_id, recording_id)
            return message(additions.get_note(connection, recording_id, note_id), row.tenant_id)

        return await self._parts.store.read(work)

    async def _scrub(self) -> None:
        """What was said before is in no file any more, now or as soon as it can be."""
        await self._parts.follower.scrub_soon()


def message(note: Note, tenant_id: str) -> pb.Note:
    """A note as the API gives it."""
    made = pb.Note(
        name=names.note_name(tenant_id, note.recording_id, note.note_id),
        text=note.text,
        author=note.author,
        create_time=convert.timestamp(note.create_ns),
        editor=note.editor,
        update_time=convert.timestamp(note.update_ns),
        etag=note.etag,
    )
    if note.offset_ns is not None:
        made.offset.CopyFrom(convert.duration(note.offset_ns))
    return made


def _standing(connection: sa.Connection, tenant_id: str | None, recording_id: str) -> Recording:
    row = recordings.get(connection, recording_id, tenant_id)
    if row.state is State.ERASED:
        raise ErasedError("the recording is erased", recording=recording_id)
    return row


def _changeable(connection: sa.Connection, tenant_id: str | None, recording_id: str) -> Recording:
    """One that is filed: what is added goes into its sidecar, beside it. ErasedError, NotReadableError."""
    row = _standing(connection, tenant_id, recording_id)
    if row.state is not State.FILED:
        raise NotReadableError("nothing is added to a recording in this state", state=row.state.name)
    return row


def _may_add(connection: sa.Connection, tenant_id: str | None, recording_id: str) -> Recording:
    row = _changeable(connection, tenant_id, recording_id)
    additions.refuse_more(connection, recording_id)
    return row


def _text(note: pb.Note) -> str:
    if not 1 <= len(note.text) <= MAX_NOTE or not note.text.strip() or any(map(_is_control, note.text)):
        raise FieldInvalidError(
            f"should have 1 to {MAX_NOTE} characters, none of them control characters but line feeds and tabs",
            field="note.text",
        )
    return note.text


def _is_control(letter: str) -> bool:
    return (ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160


def _offset(note: pb.Note) -> int | None:
    if not note.HasField("offset"):
        return None
    said = note.offset
    if not 0 <= said.seconds <= _MOST_S or not 0 <= said.nanos < 10**9:
        raise FieldInvalidError("should be a time from the recording's start on", field="note.offset")
    return said.seconds * 10**9 + said.nanos


def _etag(text: str, field: str) -> str:
    if len(text) > MAX_ETAG:
        raise FieldInvalidError("not an etag", field=field)
    return text


def _tags(said: Iterable[str], field: str) -> list[str]:
    found = list(said)
    if len(found) > MAX_TAGS:
        raise FieldInvalidError(f"should have at most {MAX_TAGS} tags", field=field)
    for place, tag in enumerate(found):
        bad = any(_is_control(letter) or letter in "*\"'\\\n\t" for letter in tag)
        if bad or not 1 <= len(tag) <= MAX_TAG or tag != tag.strip() or not 1 <= len(fold(tag)) <= MAX_FOLDED:
            raise FieldInvalidError(
                f"should have 1 to {MAX_TAG} characters, none of them control characters, asterisks or quotes",
                field=f"{field}[{place}]",
            )
    return found
