"""AuditService: what the log has, its checkpoints and proofs, an export that can be checked offline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from appliance.api import auditexport, auditfilter, convert, names
from appliance.api.auditexport import checkpoint, kept
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Parts
from appliance.api.store import Signal
from appliance.audit import tree
from appliance.audit.errors import TreeSizeError
from appliance.audit.index import Found
from appliance.audit.refusals import Refusals
from appliance.audit.trail import Trail
from earwitness.v1 import audit_pb2 as pb
from earwitness.v1 import audit_pb2_grpc

FEED: Final = "audit"
BATCH: Final = 500


class Audit(audit_pb2_grpc.AuditServiceServicer):
    """See audit.proto."""

    def __init__(self, parts: Parts, trail: Trail, refusals: Refusals, heartbeat_s: float) -> None:
        self._parts = parts
        self._trail = trail
        self._log = trail.log
        self._index = trail.index
        self._refusals = refusals
        self._heartbeat_s = heartbeat_s
        self._grown = Signal()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._grown.notify)

        self._index.listen(wake)

    def close(self) -> None:
        """Watches end."""
        self._index.listen(lambda: None)
        self._grown.close()

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: Any
    ) -> pb.ListAuditEntriesResponse:
        tenant_id = names.parent(request.parent)
        clause = auditfilter.clause(request.filter)
        page = Page(self._parts, "ListAuditEntries", request, (int,))
        size: int = page.size
        before: int = page.after[0] if page.after else self._log.size

        def work() -> list[Found]:
            self._index.caught_up(before)
            return self._index.newest(clause, before, size + 1, tenant_id)

        found = await asyncio.to_thread(work)
        answer = pb.ListAuditEntriesResponse(audit_entries=map(entry, found[:size]))
        size = page.cut(answer.audit_entries)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].index)
        return answer

    async def WatchAuditEntries(
        self, request: pb.WatchAuditEntriesRequest, context: Any
    ) -> AsyncIterator[pb.WatchAuditEntriesResponse]:
        tenant_id, clause = names.parent(request.parent), auditfilter.clause(request.filter)
        if request.resume_token and request.from_oldest:
            raise FieldInvalidError("not together with a resume token", field="from_oldest")
        at = 0 if request.from_oldest else self._log.size
        if request.resume_token:
            at = self._parts.tokens.read_resume(request.resume_token, FEED)
        yield self._sign_of_life(at)
        while True:
            seen, end = self._grown.number, self._index.size
            found = await asyncio.to_thread(self._index.oldest, clause, at, end, BATCH, tenant_id)
            for one in found:
                at = one.index + 1
                message = self._sign_of_life(at)
                message.audit_entry.CopyFrom(entry(one))
                yield message
            if len(found) == BATCH:
                continue  # there may be more
            at = max(at, end)
            while not await self._grown.wait(seen, self._heartbeat_s):
                yield self._sign_of_life(at)

    def _sign_of_life(self, at: int) -> pb.WatchAuditEntriesResponse:
        token = self._parts.tokens.resume(at, FEED)
        return pb.WatchAuditEntriesResponse(
            resume_token=token, time=convert.timestamp(self._parts.clock_ns())
        )

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, context: Any) -> pb.GetCheckpointResponse:
        signed = await asyncio.to_thread(self._log.sign)
        return pb.GetCheckpointResponse(checkpoint=checkpoint(signed), verifier_key=str(self._log.verifier))

    async def ListCheckpoints(
        self, request: pb.ListCheckpointsRequest, context: Any
    ) -> pb.ListCheckpointsResponse:
        page = Page(self._parts, "ListCheckpoints", request, (int,))
        end = page.after[0] if page.after else None
        rows, before = await asyncio.to_thread(self._log.checkpoints.before, end, page.size)
        answer = pb.ListCheckpointsResponse(checkpoints=map(kept, rows))
        if before > 0:
            answer.next_page_token = page.token(before)
        return answer

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, context: Any
    ) -> pb.GetInclusionProofResponse:
        size = self._tree_size(request.tree_size, "tree_size")
        if not 0 <= request.index < size:
            raise TreeSizeError("no such entry in a log of this size", field="index", size=size)

        def work() -> pb.GetInclusionProofResponse:
            get = self._log.hashes.get
            return pb.GetInclusionProofResponse(
                leaf_hash=get(0, request.index),
                tree_size=size,
                root_hash=tree.root_of(size, get),
                hashes=tree.inclusion_proof(request.index, size, get),
            )

        return await asyncio.to_thread(work)

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: Any
    ) -> pb.GetConsistencyProofResponse:
        first, second = request.first_size, self._tree_size(request.second_size, "second_size")
        if not 0 <= first <= second:
            raise TreeSizeError("should be from 0 to second_size", field="first_size", size=second)

        def work() -> pb.GetConsistencyProofResponse:
            get = self._log.hashes.get
            return pb.GetConsistencyProofResponse(
                first_size=first,
                second_size=second,
                first_root_hash=tree.root_of(first, get),
                second_root_hash=tree.root_of(second, get),
                hashes=tree.consistency_proof(first, second, get),
            )

        return await asyncio.to_thread(work)

    def _tree_size(self, asked: int, field: str) -> int:
        signed = self._log.signed
        size = asked or (signed.checkpoint.size if signed else 0)
        if not 0 <= size <= self._log.size:
            raise TreeSizeError("the log has not had this size", field=field, size=self._log.size)
        return size

    async def ExportAudit(
        self, request: pb.ExportAuditRequest, context: Any
    ) -> AsyncIterator[pb.ExportAuditResponse]:
        tenant_id = names.parent(request.parent)
        signed = await asyncio.to_thread(self._log.sign)
        if not 0 <= request.start_index <= signed.checkpoint.size:
            raise FieldInvalidError("should be the number of an entry", field="start_index")
        parts = auditexport.parts(self._log, signed.checkpoint.size, tenant_id, request.start_index)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            yield part

    async def GetAuditStatus(
        self, request: pb.GetAuditStatusRequest, context: Any
    ) -> pb.GetAuditStatusResponse:
        log = self._log
        return pb.GetAuditStatusResponse(
            size=log.size,
            signed_size=log.signed.checkpoint.size if log.signed else 0,
            origin=log.verifier.name,
            verifier_key=str(log.verifier),
            generation=log.generation,
            indexed_size=self._index.size,
            size_bytes=await asyncio.to_thread(log.bytes_on_disk),
            unwritten_refusals=self._refusals.total_unwritten,
            forwarding=self._forwarding(),
        )

    def _forwarding(self) -> pb.AuditForwarding:
        forwarder = self._trail.forwarder
        if forwarder is None:
            return pb.AuditForwarding()
        found = forwarder.progress
        answer = pb.AuditForwarding(
            configured=True,
            cursor=found.cursor,
            lag_count=max(0, self._log.size - found.cursor),
            connected=found.connected,
            failure=found.failure,
        )
        if found.delivered_ns:
            answer.last_delivery_time.CopyFrom(convert.timestamp(found.delivered_ns))
        return answer


def entry(found: Found) -> pb.AuditEntry:
    """An entry as the API has it."""
    one = found.entry
    return pb.AuditEntry(
        index=found.index,
        time=convert.timestamp(one.time_ns),
        what=one.what,
        who=one.who,
        roles=one.roles,
        tenant=names.tenant(one.tenant) if one.tenant else "",
        method=one.method,
        subject=one.subject,
        purpose=one.purpose,
        outcome=one.outcome,
        request=one.request,
        certificate=one.certificate,
        line=found.line,
        leaf_hash=found.leaf,
    )
