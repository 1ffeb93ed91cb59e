"""SubjectsService: restrictions and objections (UK GDPR Art. 18 and 21)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import names, subjectconvert
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text, moment
from appliance.api.restriction import RestrictionKeeper
from appliance.api.scope import caller
from appliance.catalog import recordings, restrictionduties, restrictions, tenants
from appliance.catalog.database import numbering_of
from appliance.catalog.errors import RecordingNotFoundError
from appliance.catalog.filters import And, Comparison, Node, Or
from appliance.catalog.numbering import Asked
from appliance.catalog.records import State as RecordingState
from appliance.catalog.restrictions import Ground, Restriction, Standing, State
from appliance.catalog.subjecterrors import RestrictionStateError
from appliance.model import ErasedError, new_id
from earwitness.v1 import subjects_pb2 as pb

MAX_RECORDINGS: Final = 1000
MAX_REASON: Final = 300
_PAGE: Final = 1000
_DECIDED: Final = {
    pb.OBJECTION_DECISION_ERASE: (State.UPHELD, "upheld: erase"),
    pb.OBJECTION_DECISION_KEEP_RESTRICTED: (State.UPHELD, "upheld: keep restricted"),
    pb.OBJECTION_DECISION_OVERRIDE: (State.OVERRIDDEN, "overridden"),
}


def matching(numbers: list[str], from_ns: int | None, to_ns: int | None) -> Node:
    """The filter of calls with any of these numbers, in their normal form, that began in a span."""
    some = [Comparison("party.number", "=", Asked(one, False, False)) for one in numbers]
    parts: list[Node] = [Or(tuple(some)) if len(some) > 1 else some[0]]
    if from_ns is not None:
        parts.append(Comparison("start_time", ">=", from_ns))
    if to_ns is not None:
        parts.append(Comparison("start_time", "<", to_ns))
    return And(tuple(parts))


def span(said: Any, field: str) -> tuple[int | None, int | None]:
    """from_time and to_time of a message; FieldInvalidError."""
    begin = moment(said.from_time, f"{field}.from_time") if said.HasField("from_time") else None
    end = moment(said.to_time, f"{field}.to_time") if said.HasField("to_time") else None
    if begin is not None and end is not None and end <= begin:
        raise FieldInvalidError("should be after from_time", field=f"{field}.to_time")
    return begin, end


class Restricting:
    """The restrictions' part of SubjectsService."""

    def __init__(self, parts: Parts, keeper: RestrictionKeeper) -> None:
        self._parts = parts
        self._keeper = keeper

    async def CreateRestriction(
        self, request: pb.CreateRestrictionRequest, context: Any
    ) -> pb.CreateRestrictionResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        said = request.restriction
        ground = Ground(subjectconvert.word(pb.RestrictionGround, said.ground, "restriction.ground"))
        if bool(said.recordings) == bool(said.number):
            raise FieldInvalidError("names recordings, or a number", field="restriction.recordings")
        if len(said.recordings) > MAX_RECORDINGS:
            raise FieldInvalidError(f"at most {MAX_RECORDINGS}", field="restriction.recordings")
        named = [
            names.child(one, "recordings", f"restriction.recordings[{place}]")
            for place, one in enumerate(said.recordings)
        ]
        from_ns, to_ns = span(said, "restriction") if said.number else (None, None)
        now_ns, who = self._parts.clock_ns(), caller().name
        reason = check_text(said.reason, "restriction.reason", MAX_REASON, 1)
        case_id = new_id() if ground is Ground.LEGAL_CLAIM else ""
        one = Restriction(
            restriction_id=new_id(),
            tenant_id=tenant_id,
            ground=ground,
            state=State.PENDING if ground is Ground.OBJECTION else State.ACTIVE,
            reason=reason,
            create_ns=now_ns,
            from_ns=from_ns,
            to_ns=to_ns,
            case_id=case_id,
            hold="due" if case_id else "",
        ).acted(now_ns, who, "objected" if ground is Ground.OBJECTION else "restricted", reason)

        def planned(connection: sa.Connection) -> tuple[Restriction, list[str]]:
            tenants.get_tenant(connection, tenant_id)
            if not said.number:
                for owner, recording_id in named:
                    if owner not in (None, tenant_id):  # a stranger's is not there
                        raise RecordingNotFoundError("no such recording", recording=recording_id)
                ids = [recording_id for _, recording_id in named]
                for row in recordings.get_all(connection, ids, tenant_id):
                    if row.state is RecordingState.ERASED:
                        raise ErasedError("the recording is erased", recording=row.recording_id)
                return one, ids
            number = restrictions.whole_number(said.number, "restriction.number", numbering_of(connection))
            return replace(one, number=number), list(_found(connection, tenant_id, number, from_ns, to_ns))

        if request.validate_only:
            checked, ids = await self._parts.store.read(planned)
            answer = subjectconvert.restriction(checked, Standing(len(set(ids))))
            for name in ("name", "create_time", "etag"):
                answer.ClearField(name)  # it is not made
            return pb.CreateRestrictionResponse(restriction=answer)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> list[str]:
                made, ids = planned(connection)
                restrictions.add(connection, made, ids)
                note(connection, made.restriction_id)
                return ids

            for recording_id in await self._parts.store.write(work):
                self._parts.renders.forget(recording_id)
            return one.restriction_id

        restriction_id = await self._parts.once("CreateRestriction", request, act)
        await self._keeper.attempt()
        return pb.CreateRestrictionResponse(restriction=await self._restriction(tenant_id, restriction_id))

    async def GetRestriction(
        self, request: pb.GetRestrictionRequest, context: Any
    ) -> pb.GetRestrictionResponse:
        found = await self._restriction(*names.child(request.name, "restrictions"))
        return pb.GetRestrictionResponse(restriction=found)

    async def ListRestrictions(
        self, request: pb.ListRestrictionsRequest, context: Any
    ) -> pb.ListRestrictionsResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self._parts, "ListRestrictions", request)
        size, after = page.size, page.after

        def work(connection: sa.Connection) -> tuple[list[Restriction], dict[str, Standing]]:
            found = restrictions.some(connection, tenant_id, size + 1, after, ended=request.show_ended)
            return found, restrictions.standing(connection, [one.restriction_id for one in found])

        found, standing = await self._parts.store.read(work)
        answer = pb.ListRestrictionsResponse(
            restrictions=[
                subjectconvert.restriction(one, standing.get(one.restriction_id, Standing()))
                for one in found[:size]
            ]
        )
        size = page.cut(answer.restrictions)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.restriction_id)
        return answer

    async def LiftRestriction(
        self, request: pb.LiftRestrictionRequest, context: Any
    ) -> pb.LiftRestrictionResponse:
        reason = check_text(request.reason, "reason", MAX_REASON, 1)
        now_ns, who = self._parts.clock_ns(), caller().name

        def changed(one: Restriction) -> Restriction:
            if one.state is State.LIFTED:
                return one
            if not one.in_force:
                raise RestrictionStateError("the objection was overridden already", state=one.state.value)
            return _ended(one, State.LIFTED, now_ns).acted(now_ns, who, "lifted", reason)

        return pb.LiftRestrictionResponse(
            restriction=await self._change_restriction("LiftRestriction", request, changed, lambda *_: None)
        )

    async def DecideObjection(
        self, request: pb.DecideObjectionRequest, context: Any
    ) -> pb.DecideObjectionResponse:
        if request.decision not in _DECIDED:
            raise FieldInvalidError("should be ERASE, KEEP_RESTRICTED or OVERRIDE", field="decision")
        state, word = _DECIDED[request.decision]
        reason = check_text(request.reason, "reason", MAX_REASON, 1)
        now_ns, who = self._parts.clock_ns(), caller().name

        def changed(one: Restriction) -> Restriction:
            if one.ground is not Ground.OBJECTION or one.state not in (State.PENDING, State.UPHELD):
                raise RestrictionStateError("is no objection that can be decided", state=one.state.value)
            after = one if state is State.UPHELD else _ended(one, state, now_ns)
            return replace(after, state=state).acted(now_ns, who, word, reason)

        def also(connection: sa.Connection, one: Restriction) -> None:
            if request.decision == pb.OBJECTION_DECISION_ERASE:
                restrictionduties.erase_all(connection, one.restriction_id)
            else:  # what was not erased yet is not any more
                restrictionduties.erase_none(connection, one.restriction_id)

        return pb.DecideObjectionResponse(
            restriction=await self._change_restriction("DecideObjection", request, changed, also)
        )

    async def _change_restriction(
        self,
        method: str,
        request: Any,
        changed: Callable[[Restriction], Restriction],
        also: Callable[[sa.Connection, Restriction], None],
    ) -> pb.Restriction:
        tenant_id, restriction_id = names.child(request.name, "restrictions")

        def planned(connection: sa.Connection) -> tuple[Restriction, Restriction]:
            before = restrictions.get(connection, restriction_id, tenant_id, request.etag)
            return before, changed(before)

        if request.validate_only:
            _, after = await self._parts.store.read(planned)
            standing = await self._parts.store.read(lambda c: restrictions.standing(c, [restriction_id]))
            return subjectconvert.restriction(after, standing.get(restriction_id, Standing()))

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                before, after = planned(connection)
                if after != before:
                    restrictions.update(connection, after)
                    also(connection, after)
                note(connection, restriction_id)

            await self._parts.store.write(work)
            return restriction_id

        await self._parts.once(method, request, act)
        await self._keeper.attempt()
        return await self._restriction(tenant_id, restriction_id)

    async def _restriction(self, tenant_id: str | None, restriction_id: str) -> pb.Restriction:
        def work(connection: sa.Connection) -> pb.Restriction:
            one = restrictions.get(connection, restriction_id, tenant_id)
            standing = restrictions.standing(connection, [restriction_id]).get(restriction_id, Standing())
            ids = restrictions.recordings_of(connection, restriction_id, MAX_RECORDINGS)
            return subjectconvert.restriction(one, standing, ids)

        return await self._parts.store.read(work)


def _ended(one: Restriction, state: State, now_ns: int) -> Restriction:
    """Its recordings may be read again, and what held them for it does not any more."""
    return replace(one, state=state, end_ns=now_ns, hold="release" if one.hold else "")


def _found(
    connection: sa.Connection, tenant_id: str, number: str, from_ns: int | None, to_ns: int | None
) -> Iterator[str]:
    where, after = matching([number], from_ns, to_ns), ""
    while found := recordings.matching(
        connection, tenant_id=tenant_id, where=where, limit=_PAGE, after=after
    ):
        yield from found
        after = found[-1]
