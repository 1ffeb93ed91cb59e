"""BoxService: how the box is, gathered from all of its processes."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from appliance.access import certificates, pki
from appliance.api import alarmconvert, convert
from appliance.api.errors import FieldInvalidError, SignalingUnavailableError
from appliance.api.parts import MAX_PAGE
from appliance.api.processes import Seen
from appliance.api.vaultview import VaultView
from appliance.catalog import alarmlist
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.model import EarwitnessError
from appliance.process import incidents
from earwitness.internal.v1 import process_pb2, vault_pb2
from earwitness.v1 import box_pb2 as pb
from earwitness.v1 import box_pb2_grpc

DEFAULT_INCIDENTS: Final = 20
_LIBRARIES: Final = ("grpcio", "protobuf", "cryptography", "sqlalchemy", "numpy", "av", "zstandard", "lxml")


class Box(VaultView, box_pb2_grpc.BoxServiceServicer):
    """See box.proto."""

    async def GetBoxStatus(self, request: pb.GetBoxStatusRequest, context: Any) -> pb.GetBoxStatusResponse:
        if request.incident_limit < 0:
            raise FieldInvalidError("should not be negative", field="incident_limit")
        limit = min(request.incident_limit or DEFAULT_INCIDENTS, MAX_PAGE)
        layout = self.parts.settings.layout
        seen, vault, happened, present, restarts = await asyncio.gather(
            self.parts.processes.look(tells=False),
            self._vault(),
            asyncio.to_thread(incidents.read, layout.incidents),
            asyncio.to_thread(pki.present, layout),
            asyncio.to_thread(_restarts, layout.run / "supervisor.json"),
        )
        answer = pb.GetBoxStatusResponse(
            time=convert.timestamp(self.parts.clock_ns()),
            version=importlib.metadata.version("earwitness"),
            library_versions={name: importlib.metadata.version(name) for name in _LIBRARIES},
            processes=[_process(one, restarts.get(one.process, 0)) for one in seen],
            conditions=[_condition(one, condition) for one in seen for condition in one.conditions()],
            incidents=[
                pb.Incident(
                    time=convert.timestamp(incident.time_ns),
                    process=incident.process,
                    kind=incident.kind,
                    message=incident.message,
                )
                for incident in reversed(happened[-limit:])
            ],
            certificates=[
                pb.CertificateStatus(
                    usage=label.removeprefix("clients/"),
                    fingerprint=certificates.fingerprint(certificate),
                    expire_time=convert.timestamp(certificates.expire_ns(certificate)),
                )
                for label, certificate in present.items()
            ],
        )
        capture: Counter[str] = Counter()
        for one in seen:
            if one.answer is not None and one.process.startswith("capture-"):
                capture.update(dict(one.answer.counters))
        for name, value in capture.items():
            answer.capture_counters[name] = value
        if vault is not None:
            answer.vault.CopyFrom(_vault(vault, self.parts.follower.cursor))
        try:
            standing = await self.parts.store.read(alarmlist.of_everybody)
            answer.alarms.CopyFrom(alarmconvert.counts(standing))
        except CatalogueUnavailableError:
            pass  # absent says so, and a condition does
        try:
            answer.live_call_count = len(self.parts.board.calls())
        except SignalingUnavailableError:
            pass  # absent says so
        return answer

    async def _vault(self) -> vault_pb2.GetVaultStatusResponse | None:
        try:
            return await self.parts.vault.status()
        except EarwitnessError:
            return None  # absent says so, and a condition does

    async def RebuildCatalogue(
        self, request: pb.RebuildCatalogueRequest, context: Any
    ) -> AsyncIterator[pb.RebuildCatalogueResponse]:
        async with aclosing(self.parts.follower.rebuild()) as steps:
            async for step in steps:
                if step.done or step.recordings % 20 == 0:
                    yield pb.RebuildCatalogueResponse(
                        recordings=step.recordings, unreadable=step.unreadable, done=step.done
                    )


def _restarts(path: Path) -> dict[str, int]:
    """How often each process was restarted, as our supervisor says. Under systemd there is no such file."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    return {one["name"]: one["restarts"] for one in json.loads(text)["processes"]}


def _condition(seen: Seen, condition: process_pb2.Condition) -> pb.Condition:
    starting = seen.is_starting(condition.type)
    severity = process_pb2.SEVERITY_INFO if starting else condition.severity
    return pb.Condition(
        process=seen.process,
        type=condition.type,
        severity=pb.Severity.Name(severity),  # type: ignore[arg-type]
        message=condition.message,
        since_time=convert.timestamp(condition.since_ns),
        starting=starting,
    )


def _process(seen: Seen, restarts: int) -> pb.ProcessStatus:
    made = pb.ProcessStatus(process=seen.process, up=seen.up, restarts=restarts)
    if seen.answer is not None:
        made.pid = seen.answer.pid
        made.start_time.CopyFrom(convert.timestamp(seen.answer.started_ns))
        for name, value in seen.answer.counters.items():
            made.counters[name] = value
    return made


def _vault(status: vault_pb2.GetVaultStatusResponse, cursor: int) -> pb.VaultStatus:
    made = pb.VaultStatus(
        backend=status.backend,
        free_bytes=status.free_bytes,
        total_bytes=status.total_bytes,
        stored_bytes=status.stored_bytes,
        filed_count=status.filed,
        deleted_count=status.deleted,
        erased_count=status.erased,
        quarantined_count=status.quarantined,
        spooled_count=status.spooled,
        epoch=status.epoch,
        key_count=status.keys,
        device_public_key=status.device_public_key,
        catalogue_lag=max(0, status.position - cursor),
    )
    if status.last_erasure_ns:
        made.last_erasure_time.CopyFrom(convert.timestamp(status.last_erasure_ns))
    return made
