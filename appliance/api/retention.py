"""RetentionService: plans, runs, what is due soon, the clock. Policies and legal holds have modules of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from appliance.api import convert, names, retentionconvert
from appliance.api.errors import FieldInvalidError
from appliance.api.holds import Holds
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.policies import Policies
from appliance.api.scope import caller
from appliance.catalog import recordings
from appliance.catalog.records import State
from appliance.model import ErasedError, NotFoundError
from earwitness.internal.v1 import retention_pb2 as vault
from earwitness.v1 import retention_pb2 as pb
from earwitness.v1 import retention_pb2_grpc

MAX_DAYS: Final = 36_525
_RUNS_AT_ONCE: Final = 10  # that are looked through for the one that has just ended


class Retention(Policies, Holds, retention_pb2_grpc.RetentionServiceServicer):
    """See retention.proto."""

    def __init__(self, parts: Parts) -> None:
        Policies.__init__(self, parts)
        Holds.__init__(self, parts)
        self._running: set[asyncio.Task[str]] = set()

    # Plans and runs.

    async def PlanRetention(
        self, request: pb.PlanRetentionRequest, context: Any
    ) -> AsyncIterator[pb.PlanRetentionResponse]:
        tenant_id = names.parent(request.parent)
        async with aclosing(self.parts.retention.plan(tenant_id or "")) as items:
            async for item in items:
                if item.HasField("header"):
                    yield pb.PlanRetentionResponse(header=retentionconvert.plan_header(item.header))
                else:
                    yield pb.PlanRetentionResponse(plan_item=retentionconvert.plan_item(item.plan_item))

    async def RunRetention(
        self, request: pb.RunRetentionRequest, context: Any
    ) -> AsyncIterator[pb.RunRetentionResponse]:
        who = caller().name
        steps: asyncio.Queue[float | None] = asyncio.Queue()

        async def act(note: Note) -> str:
            run_id = ""
            async with aclosing(self.parts.retention.run(who, request.digest)) as items:
                async for item in items:
                    if item.HasField("run"):
                        run_id = item.run.run_id
                    else:
                        steps.put_nowait(item.progress.done / max(1, item.progress.steps))
            await self.parts.store.write(lambda connection: note(connection, run_id))
            return run_id

        # A task of its own: where the caller goes away, the run goes on, and so does what notes it.
        task = asyncio.create_task(self.parts.once("RunRetention", request, act))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.add_done_callback(lambda done: steps.put_nowait(None))
        while (fraction := await steps.get()) is not None:
            yield pb.RunRetentionResponse(progress=pb.RunProgress(fraction=min(1.0, fraction)))
        yield pb.RunRetentionResponse(run=await self._run(await task))

    async def _run(self, run_id: str) -> pb.RetentionRun:
        before, more = "", True
        while more:
            found = await self.parts.retention.runs(_RUNS_AT_ONCE, before)
            for one in found.runs:
                if one.run_id == run_id:
                    return retentionconvert.run(one)
                before = one.run_id
            more = found.more
        raise NotFoundError("the run is too long ago")

    async def ListRetentionRuns(
        self, request: pb.ListRetentionRunsRequest, context: Any
    ) -> pb.ListRetentionRunsResponse:
        page = Page(self.parts, "ListRetentionRuns", request, (str,))
        found = await self.parts.retention.runs(page.size, page.after[0] if page.after else "")
        answer = pb.ListRetentionRunsResponse(retention_runs=map(retentionconvert.run, found.runs))
        if found.more:
            answer.next_page_token = page.token(found.runs[-1].run_id)
        return answer

    # What is due soon.

    async def ListUpcomingExpirations(
        self, request: pb.ListUpcomingExpirationsRequest, context: Any
    ) -> pb.ListUpcomingExpirationsResponse:
        tenant_id, line_id = names.tenant_or_line(request.parent)
        page = Page(self.parts, "ListUpcomingExpirations", request, (int, str, str, str))
        asked = vault.ListUpcomingRequest(
            days=_days(request.days), tenant_id=tenant_id or "", line_id=line_id
        )
        if page.after:
            when, *place = page.after
            asked.after.CopyFrom(vault.Upcoming(when_ns=when, bucket=_bucket(*place)))
        answer = pb.ListUpcomingExpirationsResponse()
        last = vault.Upcoming()
        async with aclosing(self.parts.retention.upcoming(asked)) as found:
            async for one in found:
                if len(answer.upcoming_expirations) == page.size:
                    answer.next_page_token = page.token(*_place(last))
                    break
                answer.upcoming_expirations.append(retentionconvert.upcoming(one))
                last = one
        return answer

    async def ListExpiringRecordings(
        self, request: pb.ListExpiringRecordingsRequest, context: Any
    ) -> pb.ListExpiringRecordingsResponse:
        tenant_id, line_id = names.tenant_or_line(request.parent)
        days = _days(request.days)
        page = Page(self.parts, "ListExpiringRecordings", request, (int, str, str, str, str))
        asked = vault.ListExpiringRequest(
            days=days, tenant_id=tenant_id or "", line_id=line_id, limit=page.size
        )
        if page.after:
            when, *place, last = page.after
            asked.after.CopyFrom(vault.Expiring(recording_id=last, when_ns=when, bucket=_bucket(*place)))
        found = await self.parts.retention.expiring(asked)
        answer = pb.ListExpiringRecordingsResponse(
            expiring_recordings=[
                pb.ExpiringRecording(
                    recording=names.recording(one.tenant_id, one.recording_id),
                    line=names.line(one.tenant_id, one.line_id),
                    expire_time=convert.timestamp(one.when_ns),
                    size_bytes=one.bytes,
                )
                for one in found.expiring
            ]
        )
        if found.more:
            one = found.expiring[-1]
            answer.next_page_token = page.token(*_place(one), one.recording_id)
        return answer

    async def ExplainRetention(
        self, request: pb.ExplainRetentionRequest, context: Any
    ) -> pb.ExplainRetentionResponse:
        tenant_id, recording_id = names.child(request.name, "recordings")
        row = await self.parts.store.read(
            lambda connection: recordings.get(connection, recording_id, tenant_id)
        )
        if row.state is State.ERASED:
            raise ErasedError("the recording is erased: its key is destroyed", recording=recording_id)
        found = await self.parts.retention.explain(recording_id)
        return pb.ExplainRetentionResponse(
            recording=names.recording(row.tenant_id, recording_id),
            reasons=[retentionconvert.reason(why, row.tenant_id) for why in found.reasons],
            bucket=retentionconvert.bucket_name(found.bucket),
            expire_time=retentionconvert.time(found.keeping.expire_ns),
            purge_time=retentionconvert.time(found.keeping.purge_ns),
        )

    # The clock.

    async def GetRetentionClock(
        self, request: pb.GetRetentionClockRequest, context: Any
    ) -> pb.GetRetentionClockResponse:
        clock = retentionconvert.clock(await self.parts.retention.clock())
        return pb.GetRetentionClockResponse(retention_clock=clock)

    async def AcceptRetentionClock(
        self, request: pb.AcceptRetentionClockRequest, context: Any
    ) -> pb.AcceptRetentionClockResponse:
        who = caller().name

        async def act(note: Note) -> str:
            await self.parts.retention.accept_clock(who)
            await self.parts.store.write(lambda connection: note(connection, "clock"))
            return "clock"

        await self.parts.once("AcceptRetentionClock", request, act)
        clock = retentionconvert.clock(await self.parts.retention.clock())
        return pb.AcceptRetentionClockResponse(retention_clock=clock)


def _bucket(tenant_id: str, line_id: str, slice_: str) -> vault.Bucket:
    return vault.Bucket(tenant_id=tenant_id, line_id=line_id, slice=slice_)


def _place(each: vault.Upcoming | vault.Expiring) -> tuple[int | str, ...]:
    bucket = each.bucket
    return each.when_ns, bucket.tenant_id, bucket.line_id, bucket.slice


def _days(days: int) -> int:
    if not 0 <= days <= MAX_DAYS:
        raise FieldInvalidError(f"should be 0 to {MAX_DAYS}", field="days")
    return days
