"""SubjectsService: requests for access and their clock (UK GDPR Art. 12(3) and 15)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import naming
from appliance.api import masks, names, subjectconvert
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text
from appliance.api.scope import caller
from appliance.api.subjectrestrictions import span
from appliance.catalog import alarms, restrictions, subjectrequests, tenants
from appliance.catalog.database import numbering_of
from appliance.catalog.numbering import Numbering
from appliance.catalog.subjecterrors import SubjectNumberUnverifiedError, SubjectRequestStateError
from appliance.catalog.subjectrequests import Number, Request, State
from appliance.model import new_id
from appliance.packs import subjectclock
from appliance.packs.subjectclock import Pause
from earwitness.v1 import subjects_pb2 as pb

FIELDS: Final = (
    "reference",
    "receive_date",
    "identification",
    "numbers",
    "from_time",
    "to_time",
    "handler",
    "nation",
)
MAX_NUMBERS: Final = 50
MAX_STOPS: Final = 50
MIN_SAID: Final = 10
DUE: Final = "SubjectRequestDue"
OVERDUE: Final = "SubjectRequestOverdue"
_OUTCOMES: Final = {
    pb.SUBJECT_REQUEST_STATE_ANSWERED: State.ANSWERED,
    pb.SUBJECT_REQUEST_STATE_REFUSED: State.REFUSED,
    pb.SUBJECT_REQUEST_STATE_WITHDRAWN: State.WITHDRAWN,
}
Changed = Callable[[sa.Connection, Request], Request]


class Requesting:
    """The requests' part of SubjectsService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def CreateSubjectRequest(
        self, request: pb.CreateSubjectRequestRequest, context: Any
    ) -> pb.CreateSubjectRequestResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        now_ns, who, request_id = self._parts.clock_ns(), caller().name, new_id()

        def planned(connection: sa.Connection) -> Request:
            zone = tenants.get_tenant(connection, tenant_id).time_zone
            empty = Request(request_id, tenant_id, "", "", "", (), None, None, "", "", now_ns)
            made = _read(request.subject_request, empty, numbering_of(connection), now_ns, zone, who)
            return made.acted(now_ns, who, "received")

        if request.validate_only:
            answer = await self._shown(planned)
            for name in ("name", "create_time", "etag"):
                answer.ClearField(name)  # it is not made
            return pb.CreateSubjectRequestResponse(subject_request=answer)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                subjectrequests.add(connection, planned(connection))
                note(connection, request_id)

            await self._parts.store.write(work)
            return request_id

        done = await self._parts.once("CreateSubjectRequest", request, act)
        return pb.CreateSubjectRequestResponse(subject_request=await self._get(tenant_id, done))

    async def GetSubjectRequest(
        self, request: pb.GetSubjectRequestRequest, context: Any
    ) -> pb.GetSubjectRequestResponse:
        found = await self._get(*names.child(request.name, "subjectRequests"))
        return pb.GetSubjectRequestResponse(subject_request=found)

    async def ListSubjectRequests(
        self, request: pb.ListSubjectRequestsRequest, context: Any
    ) -> pb.ListSubjectRequestsResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self._parts, "ListSubjectRequests", request)
        size, after, now_ns = page.size, page.after, self._parts.clock_ns()

        def work(connection: sa.Connection) -> tuple[list[Request], dict[str, str]]:
            found = subjectrequests.some(connection, tenant_id, size + 1, after, closed=request.show_closed)
            zones = {
                one: tenants.get_tenant(connection, one).time_zone
                for one in {each.tenant_id for each in found}
            }
            return found, zones

        found, zones = await self._parts.store.read(work)
        answer = pb.ListSubjectRequestsResponse(
            subject_requests=[
                subjectconvert.request(one, now_ns, zones[one.tenant_id]) for one in found[:size]
            ]
        )
        size = page.cut(answer.subject_requests)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.request_id)
        return answer

    async def UpdateSubjectRequest(
        self, request: pb.UpdateSubjectRequestRequest, context: Any
    ) -> pb.UpdateSubjectRequestResponse:
        said = request.subject_request
        paths = masks.paths(request.update_mask, said, FIELDS)
        now_ns, who = self._parts.clock_ns(), caller().name

        def changed(connection: sa.Connection, before: Request) -> Request:
            zone = tenants.get_tenant(connection, before.tenant_id).time_zone
            shown = subjectconvert.request(before, now_ns, zone)
            merged = masks.merged(shown, said, paths)
            after = _read(merged, before, numbering_of(connection), now_ns, zone, who)
            return after.acted(now_ns, who, "changed", ", ".join(paths)[:200])

        made = await self._change(
            "UpdateSubjectRequest", request, changed, said.name, "subject_request.name", said.etag
        )
        return pb.UpdateSubjectRequestResponse(subject_request=made)

    async def PauseSubjectClock(
        self, request: pb.PauseSubjectClockRequest, context: Any
    ) -> pb.PauseSubjectClockResponse:
        pause = Pause(subjectconvert.word(pb.SubjectClockPause, request.pause, "pause"))
        now_ns, who = self._parts.clock_ns(), caller().name

        def changed(connection: sa.Connection, before: Request) -> Request:
            open_ = [stop for stop in before.stops if not stop[2]]
            if open_:
                if open_[0][0] == pause.value:
                    return before
                raise SubjectRequestStateError("the clock stands for something else", state=open_[0][0])
            if len(before.stops) >= MAX_STOPS:
                raise FieldInvalidError(f"the clock stood {MAX_STOPS} times already", field="pause")
            since = self._day(connection, before, request.from_date, "from_date", now_ns)
            stops = (*before.stops, (pause.value, since.isoformat(), ""))
            return replace(before, stops=stops).acted(now_ns, who, f"awaits {pause.value}")

        return pb.PauseSubjectClockResponse(
            subject_request=await self._change("PauseSubjectClock", request, changed)
        )

    async def ResumeSubjectClock(
        self, request: pb.ResumeSubjectClockRequest, context: Any
    ) -> pb.ResumeSubjectClockResponse:
        now_ns, who = self._parts.clock_ns(), caller().name

        def changed(connection: sa.Connection, before: Request) -> Request:
            if not before.stops or before.stops[-1][2]:
                return before
            pause, since, _ = before.stops[-1]
            until = self._day(connection, before, request.to_date, "to_date", now_ns)
            if until < date.fromisoformat(since):
                raise FieldInvalidError("should not be before the clock stopped", field="to_date")
            stops = (*before.stops[:-1], (pause, since, until.isoformat()))
            return replace(before, stops=stops).acted(now_ns, who, f"has {pause}")

        return pb.ResumeSubjectClockResponse(
            subject_request=await self._change("ResumeSubjectClock", request, changed)
        )

    async def ExtendSubjectClock(
        self, request: pb.ExtendSubjectClockRequest, context: Any
    ) -> pb.ExtendSubjectClockResponse:
        reason = check_text(request.reason, "reason", 300, MIN_SAID if request.reason else 0)
        now_ns, who = self._parts.clock_ns(), caller().name

        def changed(connection: sa.Connection, before: Request) -> Request:
            if before.extension_reason == reason:
                return before
            act = "extended" if reason else "not extended"
            return replace(before, extension_reason=reason).acted(now_ns, who, act, reason)

        return pb.ExtendSubjectClockResponse(
            subject_request=await self._change("ExtendSubjectClock", request, changed)
        )

    async def CloseSubjectRequest(
        self, request: pb.CloseSubjectRequestRequest, context: Any
    ) -> pb.CloseSubjectRequestResponse:
        if request.outcome not in _OUTCOMES:
            raise FieldInvalidError("should be ANSWERED, REFUSED or WITHDRAWN", field="outcome")
        state = _OUTCOMES[request.outcome]
        reason = check_text(request.reason, "reason", 300, MIN_SAID if state is State.REFUSED else 0)
        now_ns, who = self._parts.clock_ns(), caller().name

        def changed(connection: sa.Connection, before: Request) -> Request:
            after = replace(
                before, state=state, before=before.state.value, close_reason=reason, close_ns=now_ns
            )
            return after.acted(now_ns, who, state.value, reason)

        return pb.CloseSubjectRequestResponse(
            subject_request=await self._change("CloseSubjectRequest", request, changed)
        )

    async def ReopenSubjectRequest(
        self, request: pb.ReopenSubjectRequestRequest, context: Any
    ) -> pb.ReopenSubjectRequestResponse:
        now_ns, who = self._parts.clock_ns(), caller().name

        def changed(connection: sa.Connection, before: Request) -> Request:
            if not before.closed:
                return before
            after = replace(
                before, state=State(before.before), before="", close_reason="", close_ns=None, reminded=""
            )
            return after.acted(now_ns, who, "reopened")

        return pb.ReopenSubjectRequestResponse(
            subject_request=await self._change("ReopenSubjectRequest", request, changed, closed=True)
        )

    def _day(self, connection: sa.Connection, one: Request, text: str, field: str, now_ns: int) -> date:
        """Not before the request came, nor in the future; empty: today."""
        now = subjectconvert.today(now_ns, tenants.get_tenant(connection, one.tenant_id).time_zone)
        found = subjectconvert.day(text, field) if text else now
        if not date.fromisoformat(one.receive_date) <= found <= now:
            raise FieldInvalidError("should be between the day of the request and today", field=field)
        return found

    async def _change(
        self,
        method: str,
        request: Any,
        changed: Changed,
        name: str = "",
        field: str = "name",
        etag: str = "",
        *,
        closed: bool = False,
    ) -> pb.SubjectRequest:
        """Change one that is open; `closed`: one that may be closed."""
        tenant_id, request_id = names.child(name or getattr(request, "name", ""), "subjectRequests", field)
        etag = etag or getattr(request, "etag", "")
        now_ns = self._parts.clock_ns()

        def planned(connection: sa.Connection) -> tuple[Request, Request]:
            before = subjectrequests.get(connection, request_id, tenant_id, etag)
            if before.closed and not closed:
                raise SubjectRequestStateError("the request is closed", state=before.state.value)
            return before, changed(connection, before)

        if request.validate_only:
            return await self._shown(lambda connection: planned(connection)[1])

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                before, after = planned(connection)
                if after != before:
                    # Whatever was said of its time may not hold any more.
                    for kind in (DUE, OVERDUE):
                        alarms.clear_alarm(connection, kind, request_id, now_ns)
                    subjectrequests.update(connection, replace(after, reminded=""))
                note(connection, request_id)

            await self._parts.store.write(work)
            return request_id

        await self._parts.once(method, request, act)
        return await self._get(tenant_id, request_id)

    async def _get(self, tenant_id: str | None, request_id: str) -> pb.SubjectRequest:
        return await self._shown(lambda connection: subjectrequests.get(connection, request_id, tenant_id))

    async def _shown(self, find: Callable[[sa.Connection], Request]) -> pb.SubjectRequest:
        now_ns = self._parts.clock_ns()

        def work(connection: sa.Connection) -> pb.SubjectRequest:
            one = find(connection)
            zone = tenants.get_tenant(connection, one.tenant_id).time_zone
            return subjectconvert.request(one, now_ns, zone)

        return await self._parts.store.read(work)


def _read(
    said: pb.SubjectRequest, before: Request, numbering: Numbering, now_ns: int, zone: str, who: str
) -> Request:
    """What a request shall say; FieldInvalidError, NumberPartialError, SubjectNumberUnverifiedError."""
    field = "subject_request"
    received = subjectconvert.day(said.receive_date, f"{field}.receive_date")
    if received > subjectconvert.today(now_ns, zone):
        raise FieldInvalidError("should not be in the future", field=f"{field}.receive_date")
    nation = said.nation or "ENG"
    if nation not in subjectclock.NATIONS:
        raise FieldInvalidError("should be ENG, WLS, SCT or NIR", field=f"{field}.nation")
    if len(said.numbers) > MAX_NUMBERS:
        raise FieldInvalidError(f"at most {MAX_NUMBERS}", field=f"{field}.numbers")
    begin, end = span(said, field)
    return replace(
        before,
        reference=check_text(said.reference, f"{field}.reference", 100, 1),
        receive_date=received.isoformat(),
        identification=check_text(said.identification, f"{field}.identification", 1000),
        numbers=tuple(
            _number(one, f"{field}.numbers[{place}]", numbering) for place, one in enumerate(said.numbers)
        ),
        from_ns=begin,
        to_ns=end,
        handler=check_text(said.handler or naming.parts(who)[1], f"{field}.handler", 100, 1),
        nation=nation,
    )


def _number(said: pb.SubjectNumber, field: str, numbering: Numbering) -> Number:
    verification = check_text(said.verification, f"{field}.verification", 300)
    if not said.own and len(verification.strip()) < MIN_SAID:
        raise SubjectNumberUnverifiedError(
            "is not the person's own: say how it was verified that they may have what was said on it",
            field=f"{field}.verification",
        )
    return Number(
        restrictions.whole_number(said.number, f"{field}.number", numbering), said.own, verification
    )
