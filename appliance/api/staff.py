"""Of NoticesService what is about staff: entering, changing, leaving, importing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import csvtable, masks, names, noticeconvert, stafffields, staffrows
from appliance.api.csvtable import Problem
from appliance.api.noticebase import NoticeBase, below, line_ids, of_tenant
from appliance.api.pages import Page
from appliance.catalog import staff, tenants
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.noticeerrors import StaffLeftError, StaffLimitError
from appliance.model import new_id
from appliance.model.staff import StaffMember, takes_calls_of
from earwitness.v1 import staff_pb2 as pb

FIELDS: Final = ("display_name", "email", "identity", "numbers", "lines", "kind")
MAX_PROBLEMS: Final = 100


class Staff(NoticeBase):
    """See the module."""

    async def ListStaffMembers(
        self, request: pb.ListStaffMembersRequest, context: Any
    ) -> pb.ListStaffMembersResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        line_id = below(tenant_id, request.line, "lines", "line") if request.line else ""
        page = Page(self._parts, "ListStaffMembers", request)
        size, after = page.size, page.after

        def work(connection: sa.Connection) -> list[StaffMember]:
            tenants.get_tenant(connection, tenant_id)
            if not line_id:
                return staff.listed(connection, tenant_id, size + 1, after, left=request.show_left)
            tenants.get_line(connection, line_id, tenant_id)
            found = staff.listed(connection, tenant_id, None, after, left=request.show_left)
            return [one for one in found if takes_calls_of(one, line_id)][: size + 1]

        found = await self._parts.store.read(work)
        answer = pb.ListStaffMembersResponse(staff_members=map(noticeconvert.member, found[:size]))
        size = page.cut(answer.staff_members)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.staff_id)
        return answer

    async def GetStaffMember(
        self, request: pb.GetStaffMemberRequest, context: Any
    ) -> pb.GetStaffMemberResponse:
        return pb.GetStaffMemberResponse(
            staff_member=await self._member(*of_tenant(request.name, "staffMembers"))
        )

    async def CreateStaffMember(
        self, request: pb.CreateStaffMemberRequest, context: Any
    ) -> pb.CreateStaffMemberResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        empty = StaffMember(
            staff_id=new_id(), tenant_id=tenant_id, display_name="", create_ns=self._parts.clock_ns()
        )

        def plan(connection: sa.Connection) -> StaffMember:
            made = stafffields.read(request.staff_member, empty, line_ids(connection, tenant_id))
            staff.check(connection, made)
            staff.check_room(connection, tenant_id, 1)
            return made

        def apply(connection: sa.Connection, made: StaffMember) -> str:
            staff.add(connection, made)
            return made.staff_id

        change = await self.change("CreateStaffMember", request, plan, apply)
        made, staff_id = change.made, change.subject
        if request.validate_only:
            answer = noticeconvert.member(made or empty)
            for chosen in ("name", "create_time", "etag"):
                answer.ClearField(chosen)
            return pb.CreateStaffMemberResponse(staff_member=answer)
        return pb.CreateStaffMemberResponse(staff_member=await self._member(tenant_id, staff_id))

    async def UpdateStaffMember(
        self, request: pb.UpdateStaffMemberRequest, context: Any
    ) -> pb.UpdateStaffMemberResponse:
        tenant_id, staff_id = of_tenant(request.staff_member.name, "staffMembers", "staff_member.name")
        paths = masks.paths(request.update_mask, request.staff_member, FIELDS)

        def changed(connection: sa.Connection) -> StaffMember:
            before = staff.get(connection, tenant_id, staff_id, request.staff_member.etag)
            wanted = masks.merged(noticeconvert.member(before), request.staff_member, paths)
            # A line that is gone since stays where nothing is said of it.
            known = {*line_ids(connection, tenant_id), *before.lines}
            if before.forgotten:
                raise StaffLeftError("the person left, and was forgotten")
            return stafffields.read(wanted, before, known)

        return pb.UpdateStaffMemberResponse(
            staff_member=await self._changed_member(
                "UpdateStaffMember", request, tenant_id, staff_id, changed
            )
        )

    async def ArchiveStaffMember(
        self, request: pb.ArchiveStaffMemberRequest, context: Any
    ) -> pb.ArchiveStaffMemberResponse:
        tenant_id, staff_id = of_tenant(request.name, "staffMembers")
        now_ns = self._parts.clock_ns()

        def changed(connection: sa.Connection) -> StaffMember:
            before = staff.get(connection, tenant_id, staff_id, request.etag)
            return before if not before.works_here else before.model_copy(update={"leave_ns": now_ns})

        return pb.ArchiveStaffMemberResponse(
            staff_member=await self._changed_member(
                "ArchiveStaffMember", request, tenant_id, staff_id, changed
            )
        )

    async def UnarchiveStaffMember(
        self, request: pb.UnarchiveStaffMemberRequest, context: Any
    ) -> pb.UnarchiveStaffMemberResponse:
        tenant_id, staff_id = of_tenant(request.name, "staffMembers")

        def changed(connection: sa.Connection) -> StaffMember:
            before = staff.get(connection, tenant_id, staff_id, request.etag)
            if before.forgotten:
                raise StaffLeftError("the person left, and was forgotten")
            if not before.works_here:
                staff.check_room(connection, tenant_id, 1)
            return before.model_copy(update={"leave_ns": None})

        return pb.UnarchiveStaffMemberResponse(
            staff_member=await self._changed_member(
                "UnarchiveStaffMember", request, tenant_id, staff_id, changed
            )
        )

    async def ImportStaffMembers(
        self, request: pb.ImportStaffMembersRequest, context: Any
    ) -> pb.ImportStaffMembersResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        rows = csvtable.read(request.csv, staffrows.COLUMNS, staffrows.NEEDED)
        now_ns = self._parts.clock_ns()

        def plan(connection: sa.Connection) -> staffrows.Planned:
            tenants.get_tenant(connection, tenant_id)
            lines = tenants.list_lines(connection, tenant_id=tenant_id)
            made = staffrows.plan(rows, staff.working(connection, tenant_id), lines, tenant_id, now_ns)
            try:
                staff.check_room(connection, tenant_id, len(made.created))
            except StaffLimitError as error:
                made.problems.append(Problem(1, "", "limit", error.message))
            return made

        def apply(connection: sa.Connection, made: staffrows.Planned) -> str:
            if made.problems:
                raise EtagMismatchError(
                    "the list of staff changed meanwhile: send the table again", field="csv"
                )
            staff.put_all(connection, made.created, made.updated)
            return tenant_id

        # A table that is wrong is an answer, and no request that was done.
        made: staffrows.Planned | None = await self._parts.store.read(plan)
        if made is not None and not made.problems and not request.validate_only:
            made = (await self.change("ImportStaffMembers", request, plan, apply)).made
        if made is None:
            return pb.ImportStaffMembersResponse(valid=True, rows=len(rows))  # it was done before
        valid = not made.problems
        return pb.ImportStaffMembersResponse(
            valid=valid,
            rows=len(rows),
            created=len(made.created) if valid else 0,
            updated=len(made.updated) if valid else 0,
            problems=problems(made.problems),
            more_problems=max(0, len(made.problems) - MAX_PROBLEMS),
        )

    async def _changed_member(
        self, method: str, request: Any, tenant_id: str, staff_id: str, changed: Any
    ) -> pb.StaffMember:
        def plan(connection: sa.Connection) -> StaffMember:
            made: StaffMember = changed(connection)
            if not made.forgotten:
                staff.check(connection, made)
            return made

        def apply(connection: sa.Connection, made: StaffMember) -> str:
            if not made.forgotten:
                staff.update(connection, made)
            return staff_id

        made = (await self.change(method, request, plan, apply)).made
        if request.validate_only and made is not None:
            return noticeconvert.member(made)
        return await self._member(tenant_id, staff_id)

    async def _member(self, tenant_id: str, staff_id: str) -> pb.StaffMember:
        return noticeconvert.member(
            await self._parts.store.read(lambda connection: staff.get(connection, tenant_id, staff_id))
        )


def problems(some: Sequence[Problem]) -> list[pb.RowProblem]:
    """The first of them, as messages."""
    return [
        pb.RowProblem(row=one.row, column=one.column, reason=one.reason, message=one.message)
        for one in some[:MAX_PROBLEMS]
    ]
