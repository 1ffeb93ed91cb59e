"""OperationsService: long work is begun, shown, cancelled. What does it is `worker`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import policy
from appliance.api import closingview, convert, names, scope
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.scope import caller
from appliance.api.subjectjob import KIND as SUBJECT_PACK
from appliance.api.verification import VERIFY
from appliance.api.worker import Worker
from appliance.catalog import filters, operations, recordings, tenants
from appliance.catalog.exitpacks import EXIT_PACK
from appliance.catalog.operations import Operation, State
from appliance.catalog.recording_filter import FIELDS
from appliance.catalog.reviewrules import APPLY
from appliance.model import new_id
from earwitness.v1 import operations_pb2 as pb
from earwitness.v1 import operations_pb2_grpc

WATCH_S: Final = 15.0
# Who may begin work of a kind may cancel it.
_BEGUN_BY: Final = {
    VERIFY: "/earwitness.v1.OperationsService/VerifyRecordings",
    SUBJECT_PACK: "/earwitness.v1.SubjectsService/MakeSubjectPack",
    EXIT_PACK: "/earwitness.v1.ClosingService/CreateExitPack",
    APPLY: "/earwitness.v1.ReviewService/ApplyReviewRule",
}


class Operations(operations_pb2_grpc.OperationsServiceServicer):
    """See operations.proto."""

    def __init__(self, parts: Parts, worker: Worker, watch_s: float = WATCH_S) -> None:
        self._parts = parts
        self._worker = worker
        self._watch_s = watch_s

    async def VerifyRecordings(
        self, request: pb.VerifyRecordingsRequest, context: Any
    ) -> pb.VerifyRecordingsResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        where = filters.parse(request.filter, FIELDS)
        now_ns = self._parts.clock_ns()

        def planned(connection: sa.Connection) -> Operation:
            tenants.get_tenant(connection, tenant_id)
            return Operation(
                id=new_id(),
                tenant_id=tenant_id,
                kind=VERIFY,
                state=State.RUNNING,
                request={"filter": request.filter, "bound": recordings.newest(connection)},
                creator=caller().name,
                create_ns=now_ns,
                update_ns=now_ns,
                total=recordings.count_matching(connection, tenant_id=tenant_id, where=where),
            )

        if request.validate_only:
            answer = message(await self._parts.store.read(planned))
            answer.ClearField("name")  # chosen when it begins
            return pb.VerifyRecordingsResponse(operation=answer)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> str:
                operation = planned(connection)
                operations.add(connection, operation)
                note(connection, operation.id)
                return operation.id

            return await self._parts.store.write(work)

        operation_id = await self._parts.once("VerifyRecordings", request, act)
        self._worker.wake()
        return pb.VerifyRecordingsResponse(operation=message(await self._get(tenant_id, operation_id)))

    async def GetOperation(self, request: pb.GetOperationRequest, context: Any) -> pb.GetOperationResponse:
        found = await self._get(*names.child(request.name, "operations"))
        return pb.GetOperationResponse(operation=message(found))

    async def ListOperations(
        self, request: pb.ListOperationsRequest, context: Any
    ) -> pb.ListOperationsResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self._parts, "ListOperations", request)
        size = page.size
        after: tuple[int, str] | None = page.after
        found = await self._parts.store.read(
            lambda connection: operations.some(connection, tenant_id, size + 1, after)
        )
        answer = pb.ListOperationsResponse(operations=map(message, found[:size]))
        size = page.cut(answer.operations)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].create_ns, found[size - 1].id)
        return answer

    async def CancelOperation(
        self, request: pb.CancelOperationRequest, context: Any
    ) -> pb.CancelOperationResponse:
        found = await self._get(*names.child(request.name, "operations"))
        scope.require(*policy.ALLOWED[_BEGUN_BY[found.kind]])
        await self._parts.store.write(lambda connection: operations.cancel(connection, found.id))
        self._worker.wake()
        return pb.CancelOperationResponse(operation=message(await self._get(found.tenant_id, found.id)))

    async def WatchOperation(
        self, request: pb.WatchOperationRequest, context: Any
    ) -> AsyncIterator[pb.WatchOperationResponse]:
        tenant_id, operation_id = names.child(request.name, "operations")
        while True:
            seen = self._worker.changed.number
            found = await self._get(tenant_id, operation_id)
            yield pb.WatchOperationResponse(operation=message(found))
            if found.state is not State.RUNNING:
                return
            await self._worker.changed.wait(seen, self._watch_s)

    async def _get(self, tenant_id: str | None, operation_id: str) -> Operation:
        return await self._parts.store.read(
            lambda connection: operations.get(connection, operation_id, tenant_id)
        )


def message(row: Operation) -> pb.Operation:
    """The public message."""
    made = pb.Operation(
        name=names.operation(row.tenant_id, row.id),
        kind=pb.OperationKind.Value(f"OPERATION_KIND_{row.kind.upper().replace('-', '_')}"),
        state=pb.OperationState.Value(f"OPERATION_STATE_{row.state.name}"),
        done_count=row.done,
        total_count=max(row.total, row.done),
        create_time=convert.timestamp(row.create_ns),
        update_time=convert.timestamp(row.update_ns),
        end_time=None if row.end_ns is None else convert.timestamp(row.end_ns),
        creator=row.creator,
        failure=row.failure,
        cancelling=row.cancelling,
    )
    if row.kind == EXIT_PACK:
        made.exit_pack.CopyFrom(closingview.result(row.tenant_id, row.id, row.result))
    if row.kind == APPLY:
        made.apply_review_rule.drawn_count = int(row.result.get("drawn", 0))
    if row.kind == VERIFY:
        counts = {
            f"{word}_count": row.result.get(word, 0)
            for word in ("intact", "recovered", "damaged", "unchecked")
        }
        made.verify_recordings.CopyFrom(
            pb.VerifyRecordingsResult(
                **counts,
                problems=[
                    pb.VerificationProblem(recording=names.recording(row.tenant_id, one), code=code)
                    for one, code in row.result.get("problems", ())
                ],
            )
        )
    return made
