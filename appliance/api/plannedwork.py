"""DocumentsService: work on the box that is planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import documentsview as view
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text, moment
from appliance.api.scope import caller
from appliance.catalog import availability
from appliance.model import new_id
from appliance.model.served import Work
from earwitness.v1 import documents_pb2 as pb

MAX_LENGTH_NS: Final = 7 * 86400 * 10**9
MAX_AHEAD_NS: Final = 400 * 86400 * 10**9
LATE_NS: Final = 60 * 10**9  # so late a request may come
MAX_DESCRIPTION: Final = 200


class PlannedWorks:
    """The half of DocumentsService that is of planned work."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def NotePlannedWork(
        self, request: pb.NotePlannedWorkRequest, context: Any
    ) -> pb.NotePlannedWorkResponse:
        work = self._planned(request.planned_work)
        if request.validate_only:
            await self._parts.store.read(
                lambda connection: availability.check_room(connection, work.create_ns)
            )
            answer = view.work(replace(work, id=""))
            answer.ClearField("create_time")
            return pb.NotePlannedWorkResponse(planned_work=answer)

        async def act(note: Note) -> str:
            def write(connection: sa.Connection) -> None:
                availability.plan(connection, work)
                note(connection, work.id)

            await self._parts.store.write(write)
            return work.id

        work_id = await self._parts.once("NotePlannedWork", request, act)
        return pb.NotePlannedWorkResponse(planned_work=view.work(await self._work(work_id)))

    async def ListPlannedWork(
        self, request: pb.ListPlannedWorkRequest, context: Any
    ) -> pb.ListPlannedWorkResponse:
        page = Page(self._parts, "ListPlannedWork", request)
        size = page.size
        after: tuple[int, str] | None = page.after
        found = await self._parts.store.read(
            lambda connection: availability.works(connection, size + 1, after)
        )
        answer = pb.ListPlannedWorkResponse(planned_work=map(view.work, found[:size]))
        size = page.cut(answer.planned_work)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.begin_ns, last.id)
        return answer

    async def CancelPlannedWork(
        self, request: pb.CancelPlannedWorkRequest, context: Any
    ) -> pb.CancelPlannedWorkResponse:
        work_id = view.read_work(request.name)
        now_ns = self._parts.clock_ns()
        before = await self._parts.store.read(lambda connection: availability.find_work(connection, work_id))
        if request.validate_only:
            work = await self._work(work_id, request.etag)
            ended = None if work.begin_ns > now_ns else replace(work, end_ns=min(work.end_ns, now_ns))
            return _cancelled(ended)
        left: list[Work | None] = []

        async def act(note: Note) -> str:
            def write(connection: sa.Connection) -> Work | None:
                work = availability.get_work(connection, work_id, request.etag)
                note(connection, work_id)
                return availability.cancel(connection, work, now_ns)

            left.append(await self._parts.store.write(write))
            return work_id

        await self._parts.once("CancelPlannedWork", request, act)
        return _cancelled(left[0] if left else before)

    def _planned(self, asked: pb.PlannedWork) -> Work:
        now_ns = self._parts.clock_ns()
        begin_ns = now_ns
        if asked.HasField("start_time"):
            begin_ns = moment(asked.start_time, "planned_work.start_time")
            if not now_ns - LATE_NS <= begin_ns <= now_ns + MAX_AHEAD_NS:
                raise FieldInvalidError(
                    "should not be in the past, and within 400 days", field="planned_work.start_time"
                )
        if not asked.HasField("end_time"):
            raise FieldInvalidError("is needed", field="planned_work.end_time")
        end_ns = moment(asked.end_time, "planned_work.end_time")
        # What was before it was noted is not planned.
        begin_ns = max(begin_ns, now_ns)
        if not 0 < end_ns - begin_ns <= MAX_LENGTH_NS:
            raise FieldInvalidError(
                "should be after the beginning, at most 7 days", field="planned_work.end_time"
            )
        said = check_text(asked.description, "planned_work.description", MAX_DESCRIPTION, 1)
        return Work(new_id(), begin_ns, end_ns, said, caller().name, now_ns)

    async def _work(self, work_id: str, etag: str = "") -> Work:
        return await self._parts.store.read(
            lambda connection: availability.get_work(connection, work_id, etag)
        )


def _cancelled(work: Work | None) -> pb.CancelPlannedWorkResponse:
    return pb.CancelPlannedWorkResponse(planned_work=None if work is None else view.work(work))
