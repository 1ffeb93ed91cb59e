"""Capture against a bare drain: the real worker as its own process, real sockets, real disk."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc

from appliance.config.settings import MediaSettings, Settings
from appliance.model import RecordingInfo, new_id
from appliance.process import datadir, rpc
from appliance.storage.keystore import hpke
from appliance.storage.keystore.publish import publish_deposit_key
from bench.machine import cpu_ns
from earwitness.internal.v1 import capture_pb2 as pb
from earwitness.internal.v1 import capture_pb2_grpc, process_pb2, process_pb2_grpc

ADDRESS = "127.0.0.1"
WARM_S = 3.0
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class CaptureResult:
    """One number of calls. Times in microseconds of CPU a packet, user and system, in the steady state."""

    calls: int
    sent: int
    lost: int
    bare_lost: int
    capture_us: float
    bare_us: float
    ratio: float
    calls_per_core: float
    durable_p50_ms: int
    durable_p99_ms: int
    stored_over_payload: float
    sender_late_ms: float

    def as_json(self) -> dict[str, Any]:
        return {key: round(value, 4) for key, value in asdict(self).items()}


def _start(module: str, *arguments: str, log: Path) -> subprocess.Popen[str]:
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"},
        )


def _ask(process: subprocess.Popen[str], order: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    return _hear(process)


def _hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _open(stub: capture_pb2_grpc.CaptureServiceStub, tenant: tuple[str, str, bytes]) -> tuple[str, list[int]]:
    session = new_id()
    info = RecordingInfo(
        recording_id=session,
        call_id=new_id(),
        tenant_id=tenant[0],
        line_id=tenant[1],
        started_ns=time.time_ns(),
    )
    formats = [
        pb.PayloadType(number=0, encoding="PCMU", clock_rate=8000, channels=1),
        pb.PayloadType(number=101, encoding="TELEPHONE-EVENT", clock_rate=8000, channels=1),
    ]
    answer = stub.OpenSession(
        pb.OpenSessionRequest(
            session_id=session,
            tenant_id=tenant[0],
            line_id=tenant[1],
            tenant_public_key=tenant[2],
            tracks=[pb.TrackSpec(track=track, active=True, payload_types=formats) for track in (0, 1)],
            info_json=info.model_dump_json().encode(),
            address=ADDRESS,
        ),
        timeout=30,
    )
    return session, [port.rtp_port for port in answer.ports]


def measure(calls: int, seconds: float) -> CaptureResult:
    """Records `calls` two-leg calls for `seconds`, and drains the same packets in a bare process beside it."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "bench") as folder:
        return _measure(Path(folder), calls, seconds)


def _measure(root: Path, calls: int, seconds: float) -> CaptureResult:
    settings = Settings(data=root / "data", media=MediaSettings(workers=1, cool_down_s=0))
    layout = settings.layout
    datadir.prepare(layout)
    publish_deposit_key(layout.deposit_key, hpke.public_key(hpke.new_private_key()))
    tenant = (new_id(), new_id(), hpke.public_key(hpke.new_private_key()))
    file = root / "settings.json"
    file.write_text(settings.model_dump_json(), "utf-8")
    counter_file = root / "counter"
    counter_file.write_bytes(bytes(8))
    capture = _start("appliance.media.capture", "--settings", str(file), log=root / "capture.log")
    bare = _start("bench.bare", log=root / "bare.log")
    sender = _start("bench.sender", log=root / "sender.log")
    try:
        with (
            rpc.channel(layout, "capture-0") as channel,
            ThreadPoolExecutor(8) as pool,
            counter_file.open("rb") as shared,
        ):
            try:
                grpc.channel_ready_future(channel).result(timeout=30)
            except grpc.FutureTimeoutError as error:
                raise RuntimeError(
                    "capture does not start:\n" + (root / "capture.log").read_text()
                ) from error
            stub = capture_pb2_grpc.CaptureServiceStub(channel)
            status = process_pb2_grpc.ProcessServiceStub(channel)
            opened = list(pool.map(lambda _: _open(stub, tenant), range(calls)))
            ports = [port for _, pair in opened for port in pair]
            bare_ports = _ask(bare, {"sockets": len(ports), "address": ADDRESS})["ports"]
            counter = mmap.mmap(shared.fileno(), 8, prot=mmap.PROT_READ)

            def sample() -> tuple[int, int, int]:
                return int.from_bytes(counter[:8], "little"), cpu_ns(capture.pid), cpu_ns(bare.pid)

            _ask(
                sender,
                {
                    "copies": [ports, bare_ports],
                    "seconds": seconds,
                    "address": ADDRESS,
                    "counter": str(counter_file),
                },
            )
            time.sleep(WARM_S)
            before = sample()
            time.sleep(seconds - WARM_S - 1.0)
            after = sample()
            figures = status.GetProcessStatus(process_pb2.GetProcessStatusRequest()).counters
            sent = _hear(sender)
            closed = list(
                pool.map(
                    lambda item: stub.CloseSession(pb.CloseSessionRequest(session_id=item[0], reason="bye")),
                    opened,
                )
            )
            assert bare.stdin is not None
            bare.stdin.close()
            drained = _hear(bare)["packets"]
            counter.close()
    finally:
        for process in (sender, bare, capture):
            process.terminate()
        for process in (sender, bare, capture):
            process.wait(timeout=30)
    kept = sum(item.packets for item in closed)
    stored = sum(item.bytes for item in closed)
    packets = after[0] - before[0]
    capture_us = (after[1] - before[1]) / packets / 1000
    bare_us = (after[2] - before[2]) / packets / 1000
    return CaptureResult(
        calls=calls,
        sent=sent["sent"],
        lost=sent["sent"] - kept,
        bare_lost=sent["sent"] - drained,
        capture_us=capture_us,
        bare_us=bare_us,
        ratio=capture_us / bare_us,
        calls_per_core=1e6 / (capture_us * 100),
        durable_p50_ms=figures["durable_p50_ms"],
        durable_p99_ms=figures["durable_p99_ms"],
        stored_over_payload=stored / (kept * 160),
        sender_late_ms=sent["late_ns"] / 1e6,
    )
