"""AlarmsService: what somebody has to know and act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import policy
from appliance.access.identities import Role
from appliance.alarms.alarm import Alarm
from appliance.alarms.kinds import KINDS
from appliance.api import alarmconvert, names
from appliance.api.alarmchannels import Channels
from appliance.api.pages import Page
from appliance.api.parts import Note, check_text
from appliance.api.scope import NOBODY, caller
from appliance.catalog import alarmlist
from appliance.catalog import alarms as rows
from appliance.catalog.alarmlist import Counts
from earwitness.v1 import alarms_pb2 as pb

MAX_NOTE: Final = 500


class Alarms(Channels):
    """See alarms.proto."""

    async def ListAlarms(self, request: pb.ListAlarmsRequest, context: Any) -> pb.ListAlarmsResponse:
        tenant_id = _seen(names.parent(request.parent), "ListAlarms")
        where = alarmlist.clause(request.filter)
        page = Page(self._parts, "ListAlarms", request)
        size = page.size
        after: tuple[int, str] | None = page.after
        found = await self._parts.store.read(
            lambda connection: alarmlist.some(connection, tenant_id, where, size + 1, after)
        )
        answer = pb.ListAlarmsResponse(alarms=[alarmconvert.alarm(one) for one in found[:size]])
        size = page.cut(answer.alarms)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.raise_ns, last.id)
        return answer

    async def GetAlarm(self, request: pb.GetAlarmRequest, context: Any) -> pb.GetAlarmResponse:
        tenant_id, alarm_id = names.alarm_or_channel(request.name, "alarms")
        return pb.GetAlarmResponse(alarm=await self._alarm(_seen(tenant_id, "GetAlarm"), alarm_id))

    async def CountAlarms(self, request: pb.CountAlarmsRequest, context: Any) -> pb.CountAlarmsResponse:
        tenant_id = names.parent(request.parent)
        of_box = not caller().tenant_id

        def work(connection: sa.Connection) -> tuple[Counts, Counts]:
            return (
                alarmlist.of_tenants(connection, tenant_id),
                alarmlist.of_box(connection, all_of_them=of_box),
            )

        tenant, box = await self._parts.store.read(work)
        return pb.CountAlarmsResponse(tenant=alarmconvert.counts(tenant), box=alarmconvert.counts(box))

    async def AcknowledgeAlarm(
        self, request: pb.AcknowledgeAlarmRequest, context: Any
    ) -> pb.AcknowledgeAlarmResponse:
        note = check_text(request.note, "note", MAX_NOTE)
        who, now_ns = caller().name, self._parts.clock_ns()
        made = await self._change(
            "AcknowledgeAlarm",
            request,
            rows.check_open,
            lambda connection, alarm: rows.acknowledge(connection, alarm, who, note, now_ns),
        )
        return pb.AcknowledgeAlarmResponse(alarm=made)

    async def UnacknowledgeAlarm(
        self, request: pb.UnacknowledgeAlarmRequest, context: Any
    ) -> pb.UnacknowledgeAlarmResponse:
        now_ns = self._parts.clock_ns()
        made = await self._change(
            "UnacknowledgeAlarm",
            request,
            lambda alarm: None,
            lambda connection, alarm: rows.unacknowledge(connection, alarm, now_ns),
        )
        return pb.UnacknowledgeAlarmResponse(alarm=made)

    async def ClearAlarm(self, request: pb.ClearAlarmRequest, context: Any) -> pb.ClearAlarmResponse:
        who, now_ns = caller().name, self._parts.clock_ns()
        made = await self._change(
            "ClearAlarm",
            request,
            rows.check_clearable,
            lambda connection, alarm: rows.clear_by_hand(connection, alarm, who, now_ns),
        )
        return pb.ClearAlarmResponse(alarm=made)

    async def ListAlarmKinds(
        self, request: pb.ListAlarmKindsRequest, context: Any
    ) -> pb.ListAlarmKindsResponse:
        page = Page(self._parts, "ListAlarmKinds", request, (str,))
        size = page.size
        after = page.after[0] if page.after else ""
        rest = sorted(name for name in KINDS if name > after)
        answer = pb.ListAlarmKindsResponse(
            alarm_kinds=[alarmconvert.alarm_kind(KINDS[name]) for name in rest[:size]]
        )
        size = page.cut(answer.alarm_kinds)
        if len(rest) > size:
            answer.next_page_token = page.token(rest[size - 1])
        return answer

    async def _change(
        self,
        method: str,
        request: Any,
        check: Callable[[Alarm], None],
        change: Callable[[sa.Connection, Alarm], Alarm],
    ) -> pb.Alarm:
        tenant_id, alarm_id = names.alarm_or_channel(request.name, "alarms")

        def look(connection: sa.Connection) -> Alarm:
            found = rows.get(connection, tenant_id, alarm_id, request.etag)
            check(found)
            return found

        if request.validate_only:
            return alarmconvert.alarm(await self._parts.store.read(look))

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                change(connection, look(connection))
                note(connection, alarm_id)

            await self._parts.store.write(work)
            return alarm_id

        await self._parts.once(method, request, act)
        return await self._alarm(tenant_id, alarm_id)

    async def _alarm(self, tenant_id: str | None, alarm_id: str) -> pb.Alarm:
        return alarmconvert.alarm(
            await self._parts.store.read(lambda connection: rows.get(connection, tenant_id, alarm_id))
        )


def _seen(tenant_id: str | None, method: str) -> str | None:
    """Whose alarms the caller sees of those that were asked for: support sees the box's, and of tenants the counts."""
    if not policy.only_as(Role.SUPPORT, caller(), f"/earwitness.v1.AlarmsService/{method}"):
        return tenant_id
    return NOBODY if tenant_id else ""
