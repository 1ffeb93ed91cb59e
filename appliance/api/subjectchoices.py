"""SubjectsService: what a request for access is about, and what of it is given, muted, withheld."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import convert, names, subjectconvert
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text
from appliance.api.scope import caller
from appliance.api.subjectrestrictions import matching
from appliance.catalog import recordings, subjectpacks, subjectrequests
from appliance.catalog.database import numbering_of
from appliance.catalog.numbering import Numbering
from appliance.catalog.recordings import Order
from appliance.catalog.records import Recording
from appliance.catalog.subjecterrors import (
    SubjectChoiceOutsideError,
    SubjectMuteImpossibleError,
    SubjectRequestStateError,
)
from appliance.catalog.subjectrequests import Choice, Request, State
from appliance.model import Role
from earwitness.v1 import subjects_pb2 as pb

MAX_MUTES: Final = 200


class Choosing:
    """The choices' part of SubjectsService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def FindSubjectRecordings(
        self, request: pb.FindSubjectRecordingsRequest, context: Any
    ) -> pb.FindSubjectRecordingsResponse:
        tenant_id, request_id = names.child(request.name, "subjectRequests")
        page = Page(self._parts, "FindSubjectRecordings", request, (int, int, str))
        size = page.size
        bound: int | None = page.after[0] if page.after else None
        after: tuple[int, str] | None = page.after[1:] if page.after else None

        def work(connection: sa.Connection) -> tuple[list[Recording], dict[str, Choice], int]:
            one = subjectrequests.get(connection, request_id, tenant_id)
            if not one.numbers:
                raise SubjectRequestStateError("the request names no number yet", state="without numbers")
            newest = recordings.newest(connection) if bound is None else bound
            found = recordings.search(
                connection,
                tenant_id=one.tenant_id,
                where=matching([each.number for each in one.numbers], one.from_ns, one.to_ns),
                order=Order(),
                limit=size + 1,
                bound=newest,
                after=after,
            )
            chosen = subjectrequests.chosen(connection, request_id, [row.recording_id for row in found])
            return found, chosen, newest

        found, chosen, newest = await self._parts.store.read(work)
        answer = pb.FindSubjectRecordingsResponse()
        for row in found[:size]:
            candidate = answer.candidates.add(
                recording=convert.recording(row, full=False, kept=convert.Kept(None)),
                restricted=row.restricted,
            )
            if row.recording_id in chosen:
                candidate.choice.CopyFrom(subjectconvert.choice(chosen[row.recording_id], row.tenant_id))
        size = page.cut(answer.candidates)
        if len(found) > size:
            position = recordings.position_of(found[size - 1], Order())
            answer.next_page_token = page.token(newest, *position)
        return answer

    async def SetSubjectChoice(
        self, request: pb.SetSubjectChoiceRequest, context: Any
    ) -> pb.SetSubjectChoiceResponse:
        tenant_id, request_id = names.child(request.name, "subjectRequests")
        owner, recording_id = names.child(request.choice.recording, "recordings", "choice.recording")
        said = _read(request.choice, request_id, recording_id)
        made = replace(said, actor=caller().name, at_ns=self._parts.clock_ns())

        def planned(connection: sa.Connection) -> Request:
            one = _open(connection, request_id, tenant_id)
            recordings.get(connection, recording_id, owner or one.tenant_id)
            row = recordings.get(connection, recording_id, one.tenant_id)
            _check_about(one, row, numbering_of(connection))
            _check_mutes(row, made)
            return one

        if request.validate_only:
            one = await self._parts.store.read(planned)
            return pb.SetSubjectChoiceResponse(choice=subjectconvert.choice(made, one.tenant_id))

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                one = planned(connection)
                subjectrequests.choose(connection, made)
                self._searching(connection, one)
                note(connection, recording_id)

            await self._parts.store.write(work)
            return recording_id

        await self._parts.once("SetSubjectChoice", request, act)

        def kept(connection: sa.Connection) -> pb.SetSubjectChoiceResponse:
            one = subjectrequests.get(connection, request_id, tenant_id)
            found = subjectrequests.chosen(connection, request_id, [recording_id]).get(recording_id)
            return pb.SetSubjectChoiceResponse(
                choice=None if found is None else subjectconvert.choice(found, one.tenant_id)
            )

        return await self._parts.store.read(kept)

    async def RemoveSubjectChoice(
        self, request: pb.RemoveSubjectChoiceRequest, context: Any
    ) -> pb.RemoveSubjectChoiceResponse:
        tenant_id, request_id = names.child(request.name, "subjectRequests")
        _, recording_id = names.child(request.recording, "recordings", "recording")

        def check(connection: sa.Connection) -> Request:
            return _open(connection, request_id, tenant_id)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                one = check(connection)
                if subjectrequests.unchoose(connection, request_id, recording_id):
                    self._searching(connection, one)
                note(connection, recording_id)

            await self._parts.store.write(work)
            return recording_id

        if request.validate_only:
            await self._parts.store.read(check)
        else:
            await self._parts.once("RemoveSubjectChoice", request, act)
        return pb.RemoveSubjectChoiceResponse()

    def _searching(self, connection: sa.Connection, one: Request) -> None:
        """What was chosen is other than in any pack that there is."""
        if one.state is not State.SEARCHING:
            after = replace(one, state=State.SEARCHING)
            act = (self._parts.clock_ns(), caller().name, "searching")
            subjectrequests.update(connection, after.acted(*act))


def _open(connection: sa.Connection, request_id: str, tenant_id: str | None) -> Request:
    one = subjectrequests.get(connection, request_id, tenant_id)
    if one.closed:
        raise SubjectRequestStateError("the request is closed", state=one.state.value)
    if subjectpacks.is_making(connection, request_id):
        raise SubjectRequestStateError("a pack is being made of what is chosen now", state="making")
    return one


def _read(said: pb.SubjectChoice, request_id: str, recording_id: str) -> Choice:
    if len(said.mutes) > MAX_MUTES:
        raise FieldInvalidError(f"at most {MAX_MUTES}", field="choice.mutes")
    least = 0 if said.give else 1
    ground = subjectconvert.word(pb.WithholdingGround, said.ground, "choice.ground", least=least)
    text = check_text(said.text, "choice.text", 300, 1 if ground == "other" else 0)
    if said.give and said.untold:
        raise FieldInvalidError("what is given is told", field="choice.untold")
    if not said.give and said.mutes:
        raise FieldInvalidError("what is withheld is not muted", field="choice.mutes")
    return Choice(
        request_id=request_id,
        recording_id=recording_id,
        give=said.give,
        mutes=tuple(
            subjectconvert.mute(one, f"choice.mutes[{place}]") for place, one in enumerate(said.mutes)
        ),
        ground=ground,
        text=text,
        untold=said.untold,
        exception=subjectconvert.word(
            pb.RestrictionException, said.restriction_exception, "choice.restriction_exception", least=0
        ),
    )


def _check_about(one: Request, row: Recording, numbering: Numbering) -> None:
    """That the recording is one that the request is about: nobody gets another's by a slip."""
    wanted = {each.number for each in one.numbers}
    has = wanted & {numbering.normal(party.number) for party in row.parties if party.number}
    then = (one.from_ns is None or row.start_ns >= one.from_ns) and (
        one.to_ns is None or row.start_ns < one.to_ns
    )
    if not (has and then):
        raise SubjectChoiceOutsideError(
            "the recording is not one that the request is about", recording=row.recording_id
        )


def _check_mutes(row: Recording, made: Choice) -> None:
    """One voice is muted only where it is known which track is whose: a mix, or a track of nobody's, may hold it, too."""
    heard = {track.party for track in row.tracks}
    voices = {place for place, party in enumerate(row.parties) if party.role is not Role.BOX}
    for place, mute in enumerate(made.mutes):
        if mute.party is None:
            continue
        field = f"choice.mutes[{place}].party"
        if not 0 <= mute.party < len(row.parties):
            raise FieldInvalidError("should be the place of a party", field=field)
        if -1 in heard or voices - heard:
            raise SubjectMuteImpossibleError("the recording does not keep the voices apart", field=field)
