"""The vault's sidecars, held in memory, in the real form."""

from __future__ import annotations

import io
import time

from appliance.storage import sealed
from appliance.storage.sealed import sidecar, sidecaranew
from appliance.storage.sealed.sidecarerrors import SidecarProblem, SidecarWholeError
from appliance.storage.vault.errors import RecordingDeletedError, RecordingErasedError
from earwitness.internal.v1 import sidecars_pb2, sidecars_pb2_grpc, vault_pb2


class SidecarServer(sidecars_pb2_grpc.SidecarServiceServicer):
    """`fail`: raised once in the place of an answer, after everything was done; `silent`: the journal is told later."""

    def __init__(self, vault, device) -> None:
        self._vault = vault
        self._device = device
        self.files: dict[str, bytes] = {}
        self.begun: dict[str, int] = {}
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

    def BeginSidecarAnew(self, request, context):
        recording_id, holding = request.recording_id, self._vault._get(request.recording_id)
        if holding.state != vault_pb2.HOLDING_STATE_FILED:
            raise RecordingDeletedError("deleted")
        self._vault.keys.refuse_locked(holding.tenant_id)
        with self._vault.changed:
            file, raw = self._vault.files[recording_id], self.files.get(recording_id, b"")
            public, told = self._device.public_key().public_bytes_raw(), holding.sidecar
            former = sidecar.Head(told.entries, told.size, told.sha256, told.begun) if told.entries else None
            root = sealed.verify(io.BytesIO(file.data)).root
            said = sidecaranew.begun_with(raw, public, file.key, recording_id)
            if said.get("id") != sidecar.unpack_content(request.content)["id"]:
                wrong = sidecar.check(
                    raw, public, file.key, recording_id=recording_id, root=root, known=former
                )
                if not raw:
                    wrong = [sidecar.SidecarFinding(SidecarProblem.MISSING)] if former else []
                if not wrong:
                    raise SidecarWholeError("whole")
                if request.validate_only:
                    return sidecars_pb2.BeginSidecarAnewResponse(problem=str(wrong[0].problem))
                header = sidecar.new_header(recording_id, holding.tenant_id, holding.line_id, root)
                damaged = sidecaranew.Damaged(raw, wrong[0], former)
                self.files[recording_id], entered = sidecaranew.begin_anew(
                    header,
                    file.key,
                    request.content,
                    list(request.more),
                    damaged,
                    self._device,
                    time.time_ns(),
                )
                said = sidecar.unpack_content(entered)
            self.begun[recording_id] = said["begun"]
            if not self.silent:
                self.tell(recording_id)
        if self.fail is not None:
            failure, self.fail = self.fail, None
            raise failure
        return sidecars_pb2.BeginSidecarAnewResponse(
            head=self._head(recording_id), content=sidecar.pack_content(said), problem=said["problem"]
        )

    def tell(self, recording_id: str) -> None:
        """The journal says how far the sidecar goes."""
        told = vault_pb2.Holding()
        told.CopyFrom(self._vault.holdings[recording_id])
        told.sidecar.CopyFrom(self._head(recording_id))
        self._vault._set(told)

    def _head(self, recording_id: str) -> sidecars_pb2.SidecarHead:
        head = sidecar.parse(self.files[recording_id]).head
        begun = self.begun.get(recording_id, 0)
        return sidecars_pb2.SidecarHead(entries=head.entries, size=head.size, sha256=head.sha256, begun=begun)

    def ReadSidecar(self, request, context):
        raw = self.files.get(request.recording_id, b"")
        for first in range(0, len(raw), 65536):
            yield sidecars_pb2.ReadSidecarResponse(data=raw[first : first + 65536])
