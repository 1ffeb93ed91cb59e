"""The half of AlarmsService about channels: where alarms go, and whether they get there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.access.identities import Role
from appliance.alarms.channel import Channel
from appliance.api import alarmconvert, masks, names
from appliance.api.alarmpost import Post
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.scope import confine, require
from appliance.catalog import alarmchannels as rows
from appliance.catalog import alarmoutbox, tenants
from appliance.model import new_id
from earwitness.v1 import alarms_pb2 as pb
from earwitness.v1 import alarms_pb2_grpc

FIELDS: Final = ("display_name", "minimum_severity", "disabled", "smtp", "webhook", "syslog")


class Channels(alarms_pb2_grpc.AlarmsServiceServicer):
    """See alarms.proto."""

    def __init__(self, parts: Parts, post: Post) -> None:
        self._parts = parts
        self._post = post

    async def ListAlarmChannels(
        self, request: pb.ListAlarmChannelsRequest, context: Any
    ) -> pb.ListAlarmChannelsResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self._parts, "ListAlarmChannels", request)
        size = page.size
        after: tuple[int, str] | None = page.after

        def work(connection: sa.Connection) -> tuple[list[Channel], dict[str, int]]:
            found = rows.listed(connection, tenant_id, size + 1, after)
            return found, alarmoutbox.waiting(connection, [one.id for one in found])

        found, waiting = await self._parts.store.read(work)
        answer = pb.ListAlarmChannelsResponse(
            alarm_channels=[alarmconvert.channel(one, waiting.get(one.id, 0)) for one in found[:size]]
        )
        size = page.cut(answer.alarm_channels)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.id)
        return answer

    async def GetAlarmChannel(
        self, request: pb.GetAlarmChannelRequest, context: Any
    ) -> pb.GetAlarmChannelResponse:
        tenant_id, channel_id = names.alarm_or_channel(request.name, "alarmChannels")
        return pb.GetAlarmChannelResponse(alarm_channel=await self._channel(tenant_id, channel_id))

    async def CreateAlarmChannel(
        self, request: pb.CreateAlarmChannelRequest, context: Any
    ) -> pb.CreateAlarmChannelResponse:
        tenant_id = names.one_tenant(request.parent, "parent") if request.parent else confine("") or ""
        if not request.parent:
            require(Role.OPERATOR)
        now_ns = self._parts.clock_ns()
        said, secret = alarmconvert.read(request.alarm_channel, None)
        channel = replace(said, id=new_id(), tenant_id=tenant_id, create_ns=now_ns, change_ns=now_ns)
        if secret:
            channel = replace(channel, sealed=self._post.seal(secret, channel.id))

        def check(connection: sa.Connection) -> None:
            if tenant_id:
                tenants.get_tenant(connection, tenant_id)
            rows.check_new(connection, tenant_id)

        if request.validate_only:
            await self._parts.store.read(check)
            made = alarmconvert.channel(channel, 0)
            for name in ("name", "create_time", "etag"):
                made.ClearField(name)  # it is not made
            return pb.CreateAlarmChannelResponse(alarm_channel=made)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                check(connection)
                rows.add(connection, channel)
                note(connection, channel.id)

            await self._parts.store.write(work)
            return channel.id

        bare = alarmconvert.without_secret(request)
        channel_id = await self._parts.once("CreateAlarmChannel", bare, act)
        return pb.CreateAlarmChannelResponse(alarm_channel=await self._channel(tenant_id, channel_id))

    async def UpdateAlarmChannel(
        self, request: pb.UpdateAlarmChannelRequest, context: Any
    ) -> pb.UpdateAlarmChannelResponse:
        asked = request.alarm_channel
        tenant_id, channel_id = names.alarm_or_channel(asked.name, "alarmChannels", "alarm_channel.name")
        paths = masks.paths(request.update_mask, asked, FIELDS)

        def changed(connection: sa.Connection) -> Channel:
            before = rows.get(connection, tenant_id, channel_id, asked.etag)
            wanted = masks.merged(alarmconvert.channel(before, 0), asked, paths)
            said, secret = alarmconvert.read(wanted, before)
            # Never the same time twice: the etag stands on it.
            said = replace(said, change_ns=max(self._parts.clock_ns(), before.change_ns + 1))
            return replace(said, sealed=self._post.seal(secret, channel_id)) if secret else said

        if request.validate_only:
            after = await self._parts.store.read(changed)
            return pb.UpdateAlarmChannelResponse(alarm_channel=alarmconvert.channel(after, 0))

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                after = changed(connection)
                rows.update(connection, after, self._parts.clock_ns())
                note(connection, channel_id)

            await self._parts.store.write(work)
            return channel_id

        await self._parts.once("UpdateAlarmChannel", alarmconvert.without_secret(request), act)
        self._post.wake()
        return pb.UpdateAlarmChannelResponse(alarm_channel=await self._channel(tenant_id, channel_id))

    async def DeleteAlarmChannel(
        self, request: pb.DeleteAlarmChannelRequest, context: Any
    ) -> pb.DeleteAlarmChannelResponse:
        tenant_id, channel_id = names.alarm_or_channel(request.name, "alarmChannels")
        if request.validate_only:
            await self._parts.store.read(
                lambda connection: rows.get(connection, tenant_id, channel_id, request.etag)
            )
            return pb.DeleteAlarmChannelResponse()

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                rows.get(connection, tenant_id, channel_id, request.etag)
                rows.delete(connection, channel_id, self._parts.clock_ns())
                note(connection, channel_id)

            await self._parts.store.write(work)
            return channel_id

        await self._parts.once("DeleteAlarmChannel", request, act)
        return pb.DeleteAlarmChannelResponse()

    async def TestAlarmChannel(
        self, request: pb.TestAlarmChannelRequest, context: Any
    ) -> pb.TestAlarmChannelResponse:
        tenant_id, channel_id = names.alarm_or_channel(request.name, "alarmChannels")
        channel = await self._parts.store.read(lambda connection: rows.get(connection, tenant_id, channel_id))
        failure, reply = await self._post.test(channel)
        return pb.TestAlarmChannelResponse(delivered=not failure, failure=failure, reply=reply)

    async def _channel(self, tenant_id: str | None, channel_id: str) -> pb.AlarmChannel:
        def work(connection: sa.Connection) -> tuple[Channel, dict[str, int]]:
            found = rows.get(connection, tenant_id, channel_id)
            return found, alarmoutbox.waiting(connection, [channel_id])

        found, waiting = await self._parts.store.read(work)
        return alarmconvert.channel(found, waiting.get(channel_id, 0))
