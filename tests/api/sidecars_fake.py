"""The vault's sidecars, held in memory, in the real form."""

from __future__ import annotations

import io
import time

from appliance.storage import sealed
from appliance.storage.sealed import sidecar
from appliance.storage.vault.errors import RecordingDeletedError, RecordingErasedError
from earwitness.internal.v1 import sidecars_pb2, sidecars_pb2_grpc, vault_pb2


class SidecarServer(sidecars_pb2_grpc.SidecarServiceServicer):
    """`fail`: raised once in the place of an answer, after everything was done; `silent`: the journal is told later."""

    def __init__(self, vault, device) -> None:
        self._vault = vault
        self._device = device
        self.files: dict[str, bytes] = {}
        self.fail: Exception | None = None
        self.silent = False

    def AnnotateRecording(self, request, context):
        recording_id, holding = request.recording_id, self._vault._get(request.recording_id)
        if holding.state == vault_pb2.HOLDING_STATE_ERASED:
            raise RecordingErasedError("erased")
        if holding.state == vault_pb2.HOLDING_STATE_DELETED:
            raise RecordingDeletedError("deleted")
        self._vault.keys.refuse_locked(holding.tenant_id)
        with self._vault.changed:
            file, raw = self._vault.files[recording_id], self.files.get(recording_id, b"")
            there = sidecar.read(sidecar.parse(raw), file.key) if raw else []
            known = {one["id"]: place for place, one in enumerate(there)}
            wanted = [sidecar.unpack_content(one) for one in request.contents]
            fresh = [one for one in wanted if one["id"] not in known]
            if fresh:
                root = sealed.verify(io.BytesIO(file.data)).root
                header = sidecar.new_header(recording_id, holding.tenant_id, holding.line_id, root)
                packed = [sidecar.pack_content(one) for one in fresh]
                header = sidecar.parse(raw).header if raw else header
                raw = sidecar.append(raw, header, file.key, packed, self._device, time.time_ns())
                self.files[recording_id] = raw
                known |= {one["id"]: len(there) + place for place, one in enumerate(fresh)}
                there += fresh
            if fresh and not self.silent:
                self.tell(recording_id)
        if self.fail is not None:
            failure, self.fail = self.fail, None
            raise failure
        places = [known[one["id"]] for one in wanted]
        contents = [sidecar.pack_content(there[place]) for place in places]
        return sidecars_pb2.AnnotateRecordingResponse(
            head=self._head(recording_id), places=places, contents=contents
        )

    def tell(self, recording_id: str) -> None:
        """The journal says how far the sidecar goes."""
        told = vault_pb2.Holding()
        told.CopyFrom(self._vault.holdings[recording_id])
        told.sidecar.CopyFrom(self._head(recording_id))
        self._vault._set(told)

    def _head(self, recording_id: str) -> sidecars_pb2.SidecarHead:
        head = sidecar.parse(self.files[recording_id]).head
        return sidecars_pb2.SidecarHead(entries=head.entries, size=head.size, sha256=head.sha256)

    def ReadSidecar(self, request, context):
        raw = self.files.get(request.recording_id, b"")
        for first in range(0, len(raw), 65536):
            yield sidecars_pb2.ReadSidecarResponse(data=raw[first : first + 65536])
