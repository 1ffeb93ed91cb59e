"""Inline calls: bridged and recorded by capture, and by rtpengine beside it, in one run with the same packets."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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
from bench import inline_rtpengine
from bench.machine import cpu_ns
from earwitness.internal.v1 import capture_pb2 as pb
from earwitness.internal.v1 import capture_pb2_grpc

ADDRESS = "127.0.0.1"
ROOT = Path(__file__).parents[1]
WARM_S = 4.0
RECEIVE_BUFFER = 256 * 1024
_SO_TIMESTAMPNS = 35
PRODUCT, YARDSTICK = "earwitness", "rtpengine"


@dataclass(frozen=True)
class InlineResult:
    """One engine. Delays in microseconds beyond a copy of the same packet that was sent past it."""

    engine: str
    calls: int
    cpu_ms_per_call_second: float
    packets: int
    lost: int
    delay_p50_us: float
    delay_p99_us: float
    delay_max_us: float
    stored_bytes_per_call_second: float

    def as_json(self) -> dict[str, Any]:
        return {
            key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class InlineRun:
    """All engines of one run, and how well the sender kept time."""

    engines: list[InlineResult]
    sender_late_ms: float
    reference_missing: int

    def as_json(self) -> dict[str, Any]:
        return {
            "engines": {result.engine: result.as_json() for result in self.engines},
            "sender_late_ms": round(self.sender_late_ms, 2),
            "reference_missing": self.reference_missing,
        }


@dataclass(frozen=True)
class _Engine:
    name: str
    pid: int
    open: Callable[[tuple[int, int]], tuple[int, int]]
    """Bridges two parties who hear at these ports; gives where each sends to."""
    close: Callable[[], int]
    """Ends all calls; gives the bytes stored."""


@contextlib.contextmanager
def _rtpengine(folder: Path) -> Iterator[_Engine]:
    with inline_rtpengine.running(folder, ADDRESS) as engine:
        calls: list[inline_rtpengine.Bridged] = []

        def bridge(ports: tuple[int, int]) -> tuple[int, int]:
            calls.append(engine.bridge(new_id(), ADDRESS, ports, record=True))
            return calls[-1].ports

        def close() -> int:
            for call in calls:
                engine.end(call)
            return sum(path.stat().st_size for path in folder.rglob("*.pcap"))

        yield _Engine(YARDSTICK, engine.pid, bridge, close)


@contextlib.contextmanager
def _capture(folder: Path) -> Iterator[_Engine]:
    settings = Settings(data=folder / "data", media=MediaSettings(workers=1, cool_down_s=0))
    layout = settings.layout
    datadir.prepare(layout)
    publish_deposit_key(layout.deposit_key, hpke.public_key(hpke.new_private_key()))
    tenant, line, key = new_id(), new_id(), hpke.public_key(hpke.new_private_key())
    file = folder / "settings.json"
    file.write_text(settings.model_dump_json(), "utf-8")
    sessions: list[str] = []
    with (
        _child("appliance.media.capture", "--settings", str(file), log=folder / "capture.log") as process,
        rpc.channel(layout, "capture-0") as channel,
    ):
        try:
            grpc.channel_ready_future(channel).result(timeout=30)
        except grpc.FutureTimeoutError as error:
            raise RuntimeError("capture does not start:\n" + (folder / "capture.log").read_text()) from error
        stub = capture_pb2_grpc.CaptureServiceStub(channel)

        def bridge(ports: tuple[int, int]) -> tuple[int, int]:
            request = _session(tenant, line, key, ports)
            opened = stub.OpenSession(request, timeout=30)
            sessions.append(request.session_id)
            found = {port.track: port.rtp_port for port in opened.ports}
            return found[0], found[1]

        def close() -> int:
            with ThreadPoolExecutor(8) as pool:
                requests = [pb.CloseSessionRequest(session_id=each, reason="bye") for each in sessions]
                return sum(answer.bytes for answer in pool.map(stub.CloseSession, requests))

        yield _Engine(PRODUCT, process.pid, bridge, close)


def _session(tenant: str, line: str, key: bytes, ports: tuple[int, int]) -> pb.OpenSessionRequest:
    session = new_id()
    info = RecordingInfo(
        recording_id=session, call_id=new_id(), tenant_id=tenant, line_id=line, started_ns=time.time_ns()
    )
    formats = [
        pb.PayloadType(number=0, encoding="PCMU", clock_rate=8000, channels=1),
        pb.PayloadType(number=101, encoding="TELEPHONE-EVENT", clock_rate=8000, channels=1),
    ]
    tracks = [
        pb.TrackSpec(
            track=track,
            active=True,
            payload_types=formats,
            remote=pb.Remote(host=ADDRESS, rtp_port=ports[track]),
            hears=1 - track,
            codes=["*2", "*3", "*4"] if track else [],
        )
        for track in (0, 1)
    ]
    return pb.OpenSessionRequest(
        session_id=session,
        tenant_id=tenant,
        line_id=line,
        tenant_public_key=key,
        tracks=tracks,
        info_json=info.model_dump_json().encode(),
        address=ADDRESS,
    )


ENGINES = {PRODUCT: _capture, YARDSTICK: _rtpengine}


def measure(calls: int, seconds: float, names: tuple[str, ...] = (PRODUCT, YARDSTICK)) -> InlineRun:
    """Bridges `calls` two-party calls by every engine at once, for `seconds`.

    RuntimeError where an engine, the sender or the listener does not come up or ends early.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "bench") as folder,
        contextlib.ExitStack() as stack,
    ):
        root = Path(folder)
        engines = [stack.enter_context(ENGINES[name](root / name)) for name in names]
        return _measure(root, engines, calls, seconds)


def _measure(root: Path, engines: list[_Engine], calls: int, seconds: float) -> InlineRun:
    with contextlib.ExitStack() as stack:
        ears = [[stack.enter_context(_ear()) for _ in range(2 * calls)] for _ in range(1 + len(engines))]
        ports = [[ear.getsockname()[1] for ear in each] for each in ears]
        targets = [ports[0]]
        for engine, heard in zip(engines, ports[1:], strict=True):
            pairs = [engine.open((heard[at], heard[at + 1])) for at in range(0, 2 * calls, 2)]
            targets.append([port for pair in pairs for port in pair])
        descriptors = [[ear.fileno() for ear in each] for each in ears]
        inherited = [descriptor for each in descriptors for descriptor in each]
        counter_file = root / "counter"
        counter_file.write_bytes(bytes(8))
        shared = stack.enter_context(counter_file.open("rb"))
        counter = stack.enter_context(mmap.mmap(shared.fileno(), 8, prot=mmap.PROT_READ))
        ear = stack.enter_context(
            _child("bench.inline_parties", "hear", log=root / "hear.log", descriptors=inherited)
        )
        mouth = stack.enter_context(
            _child("bench.inline_parties", "send", log=root / "send.log", descriptors=inherited)
        )
        _tell(ear, {"sockets": descriptors, "warm_s": WARM_S})
        _hear(ear)
        order = {
            "address": ADDRESS,
            "copies": targets,
            "sockets": descriptors,
            "seconds": seconds,
            "counter": str(counter_file),
        }
        _tell(mouth, order)
        _hear(mouth)

        def sample() -> list[int]:
            return [int.from_bytes(counter[:8], "little"), *(cpu_ns(engine.pid) for engine in engines)]

        time.sleep(WARM_S)
        before = sample()
        time.sleep(seconds - WARM_S - 1.0)
        after = sample()
        sent = _hear(mouth)
        time.sleep(0.5)
        assert ear.stdin is not None
        ear.stdin.close()
        figures = _hear(ear)
        stored = [engine.close() for engine in engines]
    call_seconds = (after[0] - before[0]) / 100  # two streams of 50 packets a second
    expected = round(sent["sent"] * (seconds - WARM_S - 1.0) / seconds)
    results = [
        InlineResult(
            engine=engine.name,
            calls=calls,
            cpu_ms_per_call_second=(after[1 + at] - before[1 + at]) / 1e6 / call_seconds,
            packets=figures[at]["packets"],
            lost=figures[at]["lost"],
            delay_p50_us=figures[at]["p50_us"],
            delay_p99_us=figures[at]["p99_us"],
            delay_max_us=figures[at]["max_us"],
            stored_bytes_per_call_second=stored[at] / (calls * seconds),
        )
        for at, engine in enumerate(engines)
    ]
    # A tenth of a second of the window's edges is no loss of the reference.
    missing = max(0, expected - results[0].packets - 10 * calls) if results else 0
    return InlineRun(results, sent["late_ns"] / 1e6, missing)


def _ear() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.bind((ADDRESS, 0))
    return made


@contextlib.contextmanager
def _child(
    module: str, *arguments: str, log: Path, descriptors: list[int] | None = None
) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            pass_fds=descriptors or [],
            env={key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"},
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _tell(process: subprocess.Popen[str], order: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    return json.loads(line)
