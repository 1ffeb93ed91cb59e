"""ClosingService: notice, its taking back, and where a tenant or a line is. Exit packs are in `closingpacks`."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from appliance.api import closingview, names
from appliance.api.closingpacks import ClosingPacks
from appliance.api.closingwork import end_reminders, event
from appliance.api.errors import FieldInvalidError, NoticeTooShortError
from appliance.api.pages import Page
from appliance.api.parts import Note, check_text, moment
from appliance.api.scope import caller
from appliance.catalog import closing, events, tenants
from appliance.catalog.closing import DAY_NS
from appliance.catalog.errors import ClosingStateError
from appliance.catalog.events import EventType
from appliance.model.routing import Closing, ServiceState
from appliance.packs.exitrecord import moment as written
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import closing_pb2_grpc

MAX_YEARS_NS: Final = 10 * 366 * DAY_NS
_OPEN: Final = (ServiceState.CLOSED, ServiceState.EMPTY, ServiceState.CLOSING)


class ClosingOf(ClosingPacks, closing_pb2_grpc.ClosingServiceServicer):
    """See closing.proto."""

    async def CloseTenant(self, request: pb.CloseTenantRequest, context: Any) -> pb.CloseTenantResponse:
        tenant_id = names.one_tenant(request.name)
        return pb.CloseTenantResponse(closing=await self._close("CloseTenant", request, tenant_id, ""))

    async def CloseLine(self, request: pb.CloseLineRequest, context: Any) -> pb.CloseLineResponse:
        tenant_id, line_id = await self._line(request.name)
        return pb.CloseLineResponse(closing=await self._close("CloseLine", request, tenant_id, line_id))

    async def _close(self, method: str, request: Any, tenant_id: str, line_id: str) -> pb.Closing:
        reason = check_text(request.reason, "reason", least=1)
        now_ns = self.parts.clock_ns()
        asked = Closing(
            tenant_id=tenant_id,
            line_id=line_id,
            state=ServiceState.CLOSING,
            reason=reason,
            who=caller().name,
            begin_ns=now_ns,
            notice_ns=self._notice(request, now_ns),
        )

        def look(connection: sa.Connection) -> pb.Closing:
            tenants.get_tenant(connection, tenant_id)
            closing.check_new(connection, tenant_id, line_id)
            return closingview.looked_at(connection, tenant_id, line_id, now_ns, asked)

        if request.validate_only:
            made = await self.parts.store.read(look)
            return await closingview.with_retention(self.parts, made, tenant_id, line_id)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                look(connection)
                closing.begin(connection, asked)
                events.append(connection, event(EventType.CLOSING_BEGUN, asked, now_ns))
                tenants.changed(connection)
                note(connection, line_id or tenant_id)

            await self.parts.store.write(work)
            return line_id or tenant_id

        await self.parts.once(method, request, act)
        await self.parts.routing.publish()
        return await self._closing(tenant_id, line_id)

    def _notice(self, request: Any, now_ns: int) -> int:
        days = self.parts.settings.closing.notice_days
        earliest = now_ns + days * DAY_NS
        if not request.HasField("notice_time"):
            return earliest
        asked = moment(request.notice_time, "notice_time")
        # Within the day of asking: a date that a person names has no seconds.
        if asked < earliest - DAY_NS:
            raise NoticeTooShortError(
                "is before the notice that the contract gives is over",
                field="notice_time",
                days=days,
                earliest=written(earliest)[:10],
            )
        if asked > now_ns + MAX_YEARS_NS:
            raise FieldInvalidError("should be within ten years", field="notice_time")
        return asked

    async def CancelClosing(self, request: pb.CancelClosingRequest, context: Any) -> pb.CancelClosingResponse:
        tenant_id, line_id = await self._subject(request.name)
        made = await self._take_back("CancelClosing", request, tenant_id, line_id, (ServiceState.CLOSING,))
        return pb.CancelClosingResponse(closing=made)

    async def ReopenLine(self, request: pb.ReopenLineRequest, context: Any) -> pb.ReopenLineResponse:
        tenant_id, line_id = await self._line(request.name)
        made = await self._take_back("ReopenLine", request, tenant_id, line_id, _OPEN)
        return pb.ReopenLineResponse(closing=made)

    async def _take_back(
        self, method: str, request: Any, tenant_id: str, line_id: str, allowed: tuple[ServiceState, ...]
    ) -> pb.Closing:
        now_ns = self.parts.clock_ns()

        def take(connection: sa.Connection) -> Closing | None:
            over = closing.find(connection, tenant_id) if line_id else None
            if over is not None and over.state is not ServiceState.CLOSING:
                raise ClosingStateError("its tenant is closed", state=over.state.value)
            found = closing.find(connection, tenant_id, line_id)
            due = found is not None and found.state is ServiceState.CLOSING and found.notice_ns <= now_ns
            if due and ServiceState.CLOSED not in allowed:
                raise ClosingStateError("the date is there", state=ServiceState.CLOSED.value)
            closing.take_back(connection, tenant_id, line_id, allowed)
            return found

        if request.validate_only:

            def check(connection: sa.Connection) -> pb.Closing:
                with connection.begin_nested() as attempt:
                    take(connection)
                    made = closingview.looked_at(connection, tenant_id, line_id, now_ns)
                    attempt.rollback()
                return made

            return await self.parts.store.write(check)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                found = take(connection)
                assert found is not None
                end_reminders(connection, found, now_ns)
                kind = (
                    EventType.CLOSING_CANCELLED
                    if found.state is ServiceState.CLOSING
                    else EventType.SERVICE_REOPENED
                )
                again = found.model_copy(update={"state": ServiceState.ACTIVE})
                events.append(connection, event(kind, again, now_ns))
                tenants.changed(connection)
                note(connection, line_id or tenant_id)

            await self.parts.store.write(work)
            return line_id or tenant_id

        await self.parts.once(method, request, act)
        await self.parts.routing.publish()
        return await self._closing(tenant_id, line_id)

    async def GetClosing(self, request: pb.GetClosingRequest, context: Any) -> pb.GetClosingResponse:
        return pb.GetClosingResponse(closing=await self._closing(*await self._subject(request.name)))

    async def ListClosings(self, request: pb.ListClosingsRequest, context: Any) -> pb.ListClosingsResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self.parts, "ListClosings", request, (int, str, str))
        size, now_ns = page.size, self.parts.clock_ns()
        after: tuple[int, str, str] | None = page.after

        def work(connection: sa.Connection) -> tuple[list[Closing], list[pb.Closing]]:
            if tenant_id is not None:
                tenants.get_tenant(connection, tenant_id)
            found = closing.some(connection, tenant_id, size + 1, after)
            return found, [
                closingview.looked_at(connection, one.tenant_id, one.line_id, now_ns) for one in found[:size]
            ]

        found, made = await self.parts.store.read(work)
        answer = pb.ListClosingsResponse(closings=made)
        size = page.cut(answer.closings)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.notice_ns, last.tenant_id, last.line_id)
        return answer

    async def _closing(self, tenant_id: str, line_id: str) -> pb.Closing:
        now_ns = self.parts.clock_ns()
        made = await self.parts.store.read(
            lambda connection: closingview.looked_at(connection, tenant_id, line_id, now_ns)
        )
        return await closingview.with_retention(self.parts, made, tenant_id, line_id)

    async def _subject(self, text: str) -> tuple[str, str]:
        """A tenant, or a line of one, that is there."""
        if names.is_tenant(text):
            tenant_id = names.one_tenant(text)
            await self.parts.store.read(lambda connection: tenants.get_tenant(connection, tenant_id))
            return tenant_id, ""
        return await self._line(text)

    async def _line(self, text: str) -> tuple[str, str]:
        tenant_id, line_id = names.child(text, "lines")
        found = await self.parts.store.read(
            lambda connection: tenants.get_line(connection, line_id, tenant_id)
        )
        return found.tenant_id, line_id
