"""SidecarService: sidecars over gRPC on the vault's Unix socket. No rule of the vault lives here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import grpc

from appliance.storage.sealed.sidecar import Head
from appliance.storage.vault.core import Vault
from appliance.storage.vault.sidecars import Sidecars
from earwitness.internal.v1 import sidecars_pb2, sidecars_pb2_grpc

PIECE: Final = 1 << 20


def head_message(head: Head) -> sidecars_pb2.SidecarHead:
    """How far a sidecar goes, as a message."""
    return sidecars_pb2.SidecarHead(
        entries=head.entries, size=head.size, sha256=head.sha256, begun=head.begun
    )


class SidecarServicer(sidecars_pb2_grpc.SidecarServiceServicer):
    """See sidecars.proto."""

    def __init__(self, vault: Vault) -> None:
        self._sidecars = Sidecars(vault)

    def AnnotateRecording(
        self, request: sidecars_pb2.AnnotateRecordingRequest, context: grpc.ServicerContext
    ) -> sidecars_pb2.AnnotateRecordingResponse:
        """See sidecars.proto."""
        done = self._sidecars.annotate(request.recording_id, list(request.contents))
        return sidecars_pb2.AnnotateRecordingResponse(
            head=head_message(done.head), places=done.places, contents=done.contents
        )

    def BeginSidecarAnew(
        self, request: sidecars_pb2.BeginSidecarAnewRequest, context: grpc.ServicerContext
    ) -> sidecars_pb2.BeginSidecarAnewResponse:
        """See sidecars.proto."""
        done = self._sidecars.begin_anew(
            request.recording_id,
            request.content,
            list(request.more),
            validate_only=request.validate_only,
        )
        head = head_message(done.head) if done.head else None
        return sidecars_pb2.BeginSidecarAnewResponse(head=head, content=done.first, problem=str(done.problem))

    def ReadSidecar(
        self, request: sidecars_pb2.ReadSidecarRequest, context: grpc.ServicerContext
    ) -> Iterator[sidecars_pb2.ReadSidecarResponse]:
        """See sidecars.proto."""
        raw = self._sidecars.read(request.recording_id)
        for first in range(0, len(raw), PIECE):
            yield sidecars_pb2.ReadSidecarResponse(data=raw[first : first + PIECE])
