"""Of NoticesService what is about lists: who acknowledged what, who has not, and how many have."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from appliance.api import convert, names, noticeconvert
from appliance.api.noticebase import NoticeBase, below
from appliance.api.pages import Page
from appliance.catalog import acknowledgements, notices, staff, tenants
from appliance.catalog.acknowledgements import Acknowledgement
from appliance.model.staff import goes_to, outstanding, takes_calls_of
from earwitness.v1 import notices_pb2 as pb


class Acknowledged(NoticeBase):
    """See the module."""

    async def ListAcknowledgements(
        self, request: pb.ListAcknowledgementsRequest, context: Any
    ) -> pb.ListAcknowledgementsResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        notice_id = below(tenant_id, request.notice, "notices", "notice") if request.notice else ""
        staff_id = (
            below(tenant_id, request.staff_member, "staffMembers", "staff_member")
            if request.staff_member
            else ""
        )
        page = Page(self._parts, "ListAcknowledgements", request)
        size, before = page.size, page.after

        def work(connection: sa.Connection) -> tuple[list[Acknowledgement], dict[str, str]]:
            tenants.get_tenant(connection, tenant_id)
            found = acknowledgements.listed(
                connection, tenant_id, size + 1, before, notice_id=notice_id, staff_id=staff_id
            )
            return found, staff.named(connection, (one.staff_id for one in found))

        found, people = await self._parts.store.read(work)
        answer = pb.ListAcknowledgementsResponse(
            acknowledgements=[
                noticeconvert.acknowledgement(one, people.get(one.staff_id, "")) for one in found[:size]
            ]
        )
        size = page.cut(answer.acknowledgements)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.id)
        return answer

    async def ListOutstandingAcknowledgements(
        self, request: pb.ListOutstandingAcknowledgementsRequest, context: Any
    ) -> pb.ListOutstandingAcknowledgementsResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        notice_id = below(tenant_id, request.notice, "notices", "notice") if request.notice else ""
        line_id = below(tenant_id, request.line, "lines", "line") if request.line else ""
        page = Page(self._parts, "ListOutstandingAcknowledgements", request)
        size, after = page.size, page.after
        now_ns = self._parts.clock_ns()

        def work(connection: sa.Connection) -> Any:
            tenant = tenants.get_tenant(connection, tenant_id)
            if notice_id:
                notices.get(connection, tenant_id, notice_id)
            return tenant, acknowledgements.missing(connection, tenant_id, now_ns)

        tenant, missing = await self._parts.store.read(work)
        found = [
            (member, wanted)
            for member, wanted in missing
            if (after is None or (member.create_ns, member.staff_id) > after)
            and (not line_id or takes_calls_of(member, line_id))
            and (not notice_id or any(one.notice.notice_id == notice_id for one in wanted))
        ]
        answer = pb.ListOutstandingAcknowledgementsResponse()
        for member, wanted in found[:size]:
            required = any(one.notice.required for one in wanted)
            answer.outstanding_acknowledgements.add(
                staff_member=names.staff_member(tenant_id, member.staff_id),
                display_name=member.display_name,
                notices=[names.notice(tenant_id, one.notice.notice_id) for one in wanted],
                since_time=convert.timestamp(min(max(one.since_ns, member.create_ns) for one in wanted)),
                barred_from_pausing=required and not tenant.unacknowledged_may_pause,
                barred_from_reading=required and not tenant.unacknowledged_may_read,
            )
        size = page.cut(answer.outstanding_acknowledgements)
        if len(found) > size:
            last = found[size - 1][0]
            answer.next_page_token = page.token(last.create_ns, last.staff_id)
        return answer

    async def CountAcknowledgements(
        self, request: pb.CountAcknowledgementsRequest, context: Any
    ) -> pb.CountAcknowledgementsResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        line_id = below(tenant_id, request.line, "lines", "line") if request.line else ""
        now_ns = self._parts.clock_ns()

        def work(connection: sa.Connection) -> pb.CountAcknowledgementsResponse:
            tenants.get_tenant(connection, tenant_id)
            some = notices.in_force(connection, tenant_id, now_ns)
            done = acknowledgements.of_tenant(connection, tenant_id)
            people = [
                one
                for one in staff.working(connection, tenant_id)
                if not line_id or takes_calls_of(one, line_id)
            ]
            answer = pb.CountAcknowledgementsResponse(staff=len(people))
            for one in some:
                to = [member for member in people if goes_to(one.notice, member)]
                lacking = [x for x in to if outstanding(x, [one], done.get(x.staff_id, {}))]
                answer.notices.add(
                    notice=names.notice(tenant_id, one.notice.notice_id),
                    display_name=one.notice.display_name,
                    addressed=len(to),
                    acknowledged=len(to) - len(lacking),
                    required=one.notice.required,
                )
            return answer

        return await self._parts.store.read(work)
