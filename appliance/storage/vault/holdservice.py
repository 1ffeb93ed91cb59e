"""Legal holds over gRPC: a part of RetentionService. No rule of the vault lives here."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import groupby

import grpc

from appliance.model import id_bytes
from appliance.storage.retention.holds import HoldCreated, HoldReleased
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.retentionmessages import hold_message, hold_scopes
from earwitness.internal.v1 import retention_pb2 as pb

MAX_LISTED = 1000


class HoldMethods:
    """See retention.proto."""

    def __init__(self, parts: Assembly) -> None:
        self._legal = parts.legal
        self._clock = parts.vault.clock

    def CreateHold(
        self, request: pb.CreateHoldRequest, context: grpc.ServicerContext
    ) -> pb.CreateHoldResponse:
        """See retention.proto."""
        scopes = hold_scopes(request.scopes, request.tenant_id)
        words = (request.tenant_id, request.title, request.reason, request.owner)
        if request.validate_only:
            self._legal.book.check(HoldCreated(request.case_id, *words, self._clock(), scopes))
            return pb.CreateHoldResponse()
        hold = self._legal.create(*words, scopes, request.case_id)
        return pb.CreateHoldResponse(hold=hold_message(hold))

    def AddToHold(self, request: pb.AddToHoldRequest, context: grpc.ServicerContext) -> pb.AddToHoldResponse:
        """See retention.proto."""
        hold = self._legal.book.get(request.case_id)
        scopes = hold_scopes(request.scopes, hold.tenant_id)
        names = list(request.recording_ids)
        if request.validate_only:
            self._legal.book.check(self._legal.adding(hold.case_id, request.who, names, scopes))
        else:
            hold = self._legal.add(hold.case_id, request.who, names, scopes)
        return pb.AddToHoldResponse(hold=hold_message(hold))

    def ReleaseHold(
        self, request: pb.ReleaseHoldRequest, context: grpc.ServicerContext
    ) -> pb.ReleaseHoldResponse:
        """See retention.proto."""
        words = (request.who, request.reason)
        if request.validate_only:
            self._legal.book.check(HoldReleased(request.case_id, self._clock(), *words))
            hold = self._legal.book.get(request.case_id)
        else:
            hold = self._legal.release(request.case_id, *words)
        return pb.ReleaseHoldResponse(hold=hold_message(hold))

    def GetHold(self, request: pb.GetHoldRequest, context: grpc.ServicerContext) -> pb.GetHoldResponse:
        """See retention.proto."""
        return pb.GetHoldResponse(hold=hold_message(self._legal.book.get(request.case_id)))

    def ListHolds(
        self, request: pb.ListHoldsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListHoldsResponse]:
        """See retention.proto."""
        for hold in self._legal.book.all():
            if request.tenant_id in ("", hold.tenant_id) and (hold.open or request.released):
                yield pb.ListHoldsResponse(hold=hold_message(hold))

    def ListHoldRecordings(
        self, request: pb.ListHoldRecordingsRequest, context: grpc.ServicerContext
    ) -> pb.ListHoldRecordingsResponse:
        """See retention.proto."""
        hold = self._legal.book.get(request.case_id)
        limit = max(1, min(request.limit, MAX_LISTED))
        after = id_bytes(request.after) if request.after else b""
        # Before the holdings are looked through: what is filed meanwhile is seen twice, and not missed.
        awaited = [name for name in self._legal.awaited(hold) if id_bytes(name) > after]
        held = (one.recording_id for one in self._legal.named(hold, after))
        found: list[str] = []
        for name, _ in groupby(heapq.merge(awaited, held, key=id_bytes)):
            if len(found) == limit:
                return pb.ListHoldRecordingsResponse(recording_ids=found, more=True)
            found.append(name)
        return pb.ListHoldRecordingsResponse(recording_ids=found)
