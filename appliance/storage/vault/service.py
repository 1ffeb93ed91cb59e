"""VaultService: the vault over gRPC on its Unix socket. No rule of the vault lives here."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc

from appliance.model import EarwitnessError, InvalidError
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.errors import JournalPositionError
from appliance.storage.vault.holding import Certificate, Holding, HoldingState
from appliance.storage.vault.keeping import Keeper
from appliance.storage.vault.parking import undelete
from appliance.storage.vault.sidecarservice import head_message
from earwitness.internal.v1 import vault_pb2, vault_pb2_grpc

PIECE = 1 << 20

_STATES = {
    HoldingState.FILED: vault_pb2.HOLDING_STATE_FILED,
    HoldingState.DELETED: vault_pb2.HOLDING_STATE_DELETED,
    HoldingState.ERASED: vault_pb2.HOLDING_STATE_ERASED,
    HoldingState.QUARANTINED: vault_pb2.HOLDING_STATE_QUARANTINED,
}


def certificate_message(found: Certificate) -> vault_pb2.ErasureCertificate:
    """A certificate as a message."""
    return vault_pb2.ErasureCertificate(
        recording_id=found.recording_id,
        tenant_id=found.tenant_id,
        epoch=found.epoch,
        erased_ns=found.erased_ns,
        reason=found.reason,
        signature=bytes.fromhex(found.signature),
        device_public_key=bytes.fromhex(found.device_public_key),
        version=found.version,
        log_number=found.log_number,
        replicas=found.replicas,
    )


def holding_message(found: Holding) -> vault_pb2.Holding:
    """A holding as a message."""
    return vault_pb2.Holding(
        recording_id=found.recording_id,
        tenant_id=found.tenant_id,
        line_id=found.line_id,
        slice=found.slice,
        state=_STATES[found.state],
        size=found.size,
        whole=found.whole,
        reason=found.reason,
        since_ns=found.since_ns,
        created_ns=found.created_ns,
        certificate=certificate_message(found.certificate) if found.certificate else None,
        sidecar=head_message(found.sidecar) if found.sidecar else None,
    )


class VaultServicer(vault_pb2_grpc.VaultServiceServicer):
    """See vault.proto. `stopping`: set, with Holdings.wake after it, where the process shall end."""

    def __init__(self, parts: Assembly, stopping: threading.Event) -> None:
        self._vault = parts.vault
        self._eraser = parts.eraser
        self._keeper = Keeper(parts)
        self._stopping = stopping

    def CreateTenantKey(
        self, request: vault_pb2.CreateTenantKeyRequest, context: grpc.ServicerContext
    ) -> vault_pb2.CreateTenantKeyResponse:
        """See vault.proto."""
        return vault_pb2.CreateTenantKeyResponse(
            public_key=self._vault.keystore.create_tenant(request.tenant_id)
        )

    def WatchRecordings(
        self, request: vault_pb2.WatchRecordingsRequest, context: grpc.ServicerContext
    ) -> Iterator[vault_pb2.WatchRecordingsResponse]:
        """See vault.proto."""
        if request.after < 0:
            raise InvalidError("a position is not negative", field="after")
        position = self._vault.holdings.position
        if request.after > position:
            raise JournalPositionError("the journal does not go that far", position=position)
        gone = threading.Event()

        def wake() -> None:
            gone.set()
            self._vault.holdings.wake()

        if not context.add_callback(wake):
            return
        after = request.after
        while not gone.is_set() and not self._stopping.is_set():
            for entry in self._vault.holdings.since(after):
                yield vault_pb2.WatchRecordingsResponse(
                    position=entry.position, holding=holding_message(entry.holding)
                )
                after = entry.position
            self._vault.holdings.wait(after, lambda: gone.is_set() or self._stopping.is_set())

    def GetHolding(
        self, request: vault_pb2.GetHoldingRequest, context: grpc.ServicerContext
    ) -> vault_pb2.GetHoldingResponse:
        """See vault.proto."""
        return vault_pb2.GetHoldingResponse(
            holding=holding_message(self._vault.holding(request.recording_id))
        )

    def ListHoldings(
        self, request: vault_pb2.ListHoldingsRequest, context: grpc.ServicerContext
    ) -> Iterator[vault_pb2.ListHoldingsResponse]:
        """See vault.proto."""
        # Taken before the list: whoever watches from here on misses nothing, and may see some things twice.
        position = self._vault.holdings.position
        for found in self._vault.holdings.all():
            yield vault_pb2.ListHoldingsResponse(holding=holding_message(found), position=position)

    def LeaseKey(
        self, request: vault_pb2.LeaseKeyRequest, context: grpc.ServicerContext
    ) -> vault_pb2.LeaseKeyResponse:
        """See vault.proto."""
        key = self._vault.lease(request.recording_id, deleted=request.deleted)
        return vault_pb2.LeaseKeyResponse(data_key=key)

    def ReadSealed(
        self, request: vault_pb2.ReadSealedRequest, context: grpc.ServicerContext
    ) -> Iterator[vault_pb2.ReadSealedResponse]:
        """See vault.proto."""
        if request.offset < 0 or request.length < 0:
            raise InvalidError("offset and length are not negative", field="offset")
        with self._vault.read(request.recording_id, deleted=request.deleted) as file:
            file.seek(request.offset)
            left = request.length or None
            while left is None or left > 0:
                piece = file.read(PIECE if left is None else min(PIECE, left))
                if not piece:
                    return
                if left is not None:
                    left -= len(piece)
                yield vault_pb2.ReadSealedResponse(data=piece)

    def DeleteRecording(
        self, request: vault_pb2.DeleteRecordingRequest, context: grpc.ServicerContext
    ) -> vault_pb2.DeleteRecordingResponse:
        """See vault.proto."""
        if request.validate_only:
            found = self._keeper.check_delete(request.recording_id)
        else:
            found = self._vault.delete(request.recording_id, request.reason)
        return vault_pb2.DeleteRecordingResponse(holding=holding_message(found))

    def UndeleteRecording(
        self, request: vault_pb2.UndeleteRecordingRequest, context: grpc.ServicerContext
    ) -> vault_pb2.UndeleteRecordingResponse:
        """See vault.proto."""
        found = self._keeper.check_undelete(request.recording_id)
        if not request.validate_only:
            found = undelete(self._vault, request.recording_id)
        return vault_pb2.UndeleteRecordingResponse(holding=holding_message(found))

    def EraseRecordings(
        self, request: vault_pb2.EraseRecordingsRequest, context: grpc.ServicerContext
    ) -> vault_pb2.EraseRecordingsResponse:
        """See vault.proto."""
        if request.validate_only:
            self._keeper.check_erase(request.recording_ids)
            return vault_pb2.EraseRecordingsResponse()
        found = self._eraser.erase(list(request.recording_ids), request.reason)
        return vault_pb2.EraseRecordingsResponse(certificates=[certificate_message(item) for item in found])

    def GetVaultStatus(
        self, request: vault_pb2.GetVaultStatusRequest, context: grpc.ServicerContext
    ) -> vault_pb2.GetVaultStatusResponse:
        """See vault.proto."""
        vault = self._vault
        counts = vault.holdings.counts()
        try:
            space = vault.store.space()
        except EarwitnessError:  # `store_answers` says so, and a condition what is wrong
            space = None
        return vault_pb2.GetVaultStatusResponse(
            backend=vault.store.backend,
            free_bytes=space.free if space else 0,
            total_bytes=space.total if space else 0,
            store_answers=space is not None,
            stored_bytes=counts.stored_bytes,
            filed=counts.by_state[HoldingState.FILED],
            deleted=counts.by_state[HoldingState.DELETED],
            erased=counts.by_state[HoldingState.ERASED],
            quarantined=vault.quarantined(),
            spooled=sum(1 for _ in vault.layout.spool_recordings.glob("*.sealed")),
            epoch=vault.keystore.epoch,
            keys=len(vault.keystore),
            last_erasure_ns=vault.last_erasure_ns,
            device_public_key=vault.keystore.device_public_key,
            position=vault.holdings.position,
        )
