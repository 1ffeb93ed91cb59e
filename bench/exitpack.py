"""An exit pack beside capture: what capture loses with and without it, and how fast the pack grows meanwhile.

Capture is measured as in `bench.capture`; the pack is made by a whole box beside it, with WAV and sealed files, onto the
same disk that both record on.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import earwitness
from appliance.cli.demonstration.embedded import embedded_box
from appliance.model.routing import RoutingTable
from bench import downloads
from bench.capture import CaptureResult, measure
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import operations_pb2

CALLS: Final = 200


@dataclass(frozen=True)
class Beside:
    """Packets that capture lost of those that were sent, and the CPU that each took it; seconds of sound a second."""

    calls: int
    sent: int
    lost_alone: int
    lost_beside: int
    capture_us_alone: float
    capture_us_beside: float
    recordings: int
    megabytes: float
    times_real_time: float
    megabytes_s: float
    ended_beside: bool  # the pack was done before capture's measurement was


def _done(client: earwitness.Client, name: str) -> operations_pb2.Operation:
    return client.operations.GetOperation(operations_pb2.GetOperationRequest(name=name)).operation


def run(seconds: float) -> dict[str, Any]:
    """Figures of one run."""
    alone = measure(CALLS, seconds)
    with tempfile.TemporaryDirectory(prefix="earwitness-bench-") as text:
        folder = Path(text)
        (folder / "exit").mkdir()
        site = folder / "site.toml"
        site.write_text(f'[[exit.folders]]\npath = "{folder / "exit"}"\n')
        with embedded_box(folder / "box", "--config", str(site)) as box:
            sizes = downloads.fill(box.layout)
            client = downloads.client_of(box)
            downloads.filed(client, len(sizes))
            tenant = RoutingTable.model_validate_json(box.layout.routing.read_bytes()).tenants[0]
            asked = pb.ExitPack(folder=pb.ExitPackFolder(path=str(folder / "exit")), sealed=True)
            request = pb.CreateExitPackRequest(parent=f"tenants/{tenant.tenant_id}", exit_pack=asked)
            began = time.monotonic()
            operation = client.closing.CreateExitPack(request).operation
            beside = measure(CALLS, seconds)
            there = _done(client, operation.name)
            took_s = time.monotonic() - began
            return asdict(_figures(alone, beside, there, took_s))


def _figures(
    alone: CaptureResult, beside: CaptureResult, there: operations_pb2.Operation, took_s: float
) -> Beside:
    found = there.exit_pack
    ended = there.HasField("end_time")
    if ended:
        took_s = (there.end_time.ToNanoseconds() - there.create_time.ToNanoseconds()) / 1e9
    return Beside(
        calls=beside.calls,
        sent=beside.sent,
        lost_alone=alone.lost,
        lost_beside=beside.lost,
        capture_us_alone=alone.capture_us,
        capture_us_beside=beside.capture_us,
        recordings=found.recording_count,
        megabytes=found.size_bytes / 1e6,
        times_real_time=found.recording_count * downloads.SECONDS / took_s,
        megabytes_s=found.size_bytes / 1e6 / took_s,
        ended_beside=ended,
    )
