"""EventsService: the feed, resumed by token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import convert, names
from appliance.api.errors import FieldInvalidError
from appliance.api.granted import Granted, by_grant_alone
from appliance.api.parts import Parts
from appliance.catalog import events
from appliance.catalog.events import EventType
from earwitness.v1 import events_pb2 as pb
from earwitness.v1 import events_pb2_grpc

HEARTBEAT_S: Final = 15.0
BATCH: Final = 500


class Events(events_pb2_grpc.EventsServiceServicer):
    """See events.proto."""

    def __init__(self, parts: Parts, granted: Granted, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._parts = parts
        self._granted = granted
        self._heartbeat_s = heartbeat_s

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Any
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        tenant_id = names.parent(request.parent)
        if request.resume_token and request.from_oldest:
            raise FieldInvalidError("not together with a resume token", field="from_oldest")
        types = [_type(value) for value in request.types]
        store, tokens = self._parts.store, self._parts.tokens
        if request.resume_token:
            at = tokens.read_resume(request.resume_token)
        else:
            at = await store.read(events.oldest if request.from_oldest else events.head)
        veiled = by_grant_alone("/earwitness.v1.EventsService/WatchEvents")
        first = True
        while True:
            seen = store.events.number

            def work(connection: sa.Connection, after: int = at) -> tuple[list[events.Event], int]:
                return events.after(connection, after, tenant_id=tenant_id, types=types, limit=BATCH)

            found, at = await store.read(work)
            if veiled:
                found = await self._granted.veil(found)
            if first:
                # Says at once that the watch stands, and from where.
                first = False
                yield self._answer(found[0].seq - 1 if found else at)
            for event in found:
                token = tokens.resume(event.seq)
                yield pb.WatchEventsResponse(
                    event=convert.event(event, token),
                    resume_token=token,
                    time=convert.timestamp(self._parts.clock_ns()),
                )
            if len(found) == BATCH:
                continue  # there may be more
            while not await store.events.wait(seen, self._heartbeat_s):
                yield self._answer(at)

    def _answer(self, at: int) -> pb.WatchEventsResponse:
        return pb.WatchEventsResponse(
            resume_token=self._parts.tokens.resume(at), time=convert.timestamp(self._parts.clock_ns())
        )


def _type(value: int) -> EventType:
    try:
        return EventType[pb.EventType.Name(value).removeprefix("EVENT_TYPE_")]  # type: ignore[arg-type]
    except (ValueError, KeyError):
        raise FieldInvalidError("not a type of event", field="types") from None
