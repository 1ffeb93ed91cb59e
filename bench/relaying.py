"""Bridged and recorded two-leg G.711 calls in a real capture worker: the delay that relaying adds, and what it costs.

`python -m bench.relaying [calls] [seconds]`. Each phone has a socket of its own. Each packet carries the time at which it
was sent, and the kernel says when it came out at the other side: both ends of the figure are outside of the worker.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from appliance.config.settings import MediaSettings, Settings
from appliance.media.rtp.receive import Arena, prepare_socket
from appliance.model import RecordingInfo, new_id
from appliance.process import datadir, rpc
from appliance.storage.keystore import hpke
from appliance.storage.keystore.publish import publish_deposit_key
from bench.capture import _start
from bench.machine import cpu_ns
from earwitness.internal.v1 import capture_pb2 as pb
from earwitness.internal.v1 import capture_pb2_grpc, process_pb2, process_pb2_grpc

ADDRESS = "127.0.0.1"
ROOT = Path(__file__).parents[1]
FRAME_NS = 20_000_000
PHASES = 10  # streams are spread over a frame's time, as real ones are
WARM_S = 3.0


@dataclass(frozen=True)
class RelayResult:
    """Delays in milliseconds: from the sender's call to the kernel's receipt at the receiver, and as the worker measures
    its own part (from the kernel's receipt to the send). CPU in microseconds a packet: received, relayed, recorded."""

    calls: int
    sent: int
    lost: int
    delay_p50_ms: float
    delay_p99_ms: float
    delay_max_ms: float
    own_p50_ms: float
    own_p99_ms: float
    cpu_us: float
    sender_late_p99_ms: float

    def as_json(self) -> dict[str, Any]:
        return {key: round(value, 3) for key, value in asdict(self).items()}


class Phones:
    """All participants: a socket each, sending every 20 ms, and drained as often."""

    def __init__(self, count: int) -> None:
        self.sockets = []
        for _ in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((ADDRESS, 0))
            prepare_socket(sock, 1 << 20)
            self.sockets.append(sock)
        self.to: list[tuple[str, int]] = []
        self._fds = [sock.fileno() for sock in self.sockets]
        self._arena = Arena(1 << 14)
        self._heads = np.zeros(
            count, [("zero", "u1"), ("pt", "u1"), ("seq", ">u2"), ("ts", ">u4"), ("ssrc", ">u4")]
        )
        self._heads["zero"] = 0x80
        self._heads["ssrc"] = np.arange(count) + 1
        self._noise = np.random.default_rng(7).bytes(1 << 16)
        self._frame = 0
        self.sent = 0
        self.delays: list[NDArray[np.int64]] = []
        self.late: list[int] = []

    def run(self, seconds: float) -> None:
        begin = time.monotonic_ns()
        steps = int(seconds * 1e9) // FRAME_NS * PHASES
        edges = [len(self.sockets) * phase // PHASES for phase in range(PHASES + 1)]
        for step in range(steps):
            due = begin + step * FRAME_NS // PHASES
            wait = due - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            self.late.append(time.monotonic_ns() - due)
            phase = step % PHASES
            if not phase:
                self._frame += 1
                self._heads["seq"] = self._frame & 0xFFFF
                self._heads["ts"] = self._frame * 160
            self._send(edges[phase], edges[phase + 1])
            self.drain(edges[phase], edges[phase + 1])

    def _send(self, first: int, last: int) -> None:
        heads = self._heads[first:last].tobytes()
        at = (self._frame * 997 + first) % (len(self._noise) - 160)
        payload = self._noise[at : at + 152]
        for index in range(first, last):
            head = heads[12 * (index - first) : 12 * (index - first) + 12]
            now = time.time_ns().to_bytes(8, "little")
            self.sockets[index].sendto(head + now + payload, self.to[index])
        self.sent += last - first

    def drain(self, first: int = 0, last: int | None = None) -> None:
        """Takes what has come; the kernel has noted when that was."""
        self._arena.drain(self._fds[first:last])
        used = self._arena.used
        if used:
            came = self._arena.arrivals(0, used, time.time_ns())
            went = np.ascontiguousarray(self._arena.cells[:used, 12:20]).view("<i8")[:, 0]
            self.delays.append(came - went)
        self._arena.rewind()


def measure(calls: int, seconds: float) -> RelayResult:
    """Bridges and records `calls` calls for `seconds`."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "bench") as folder:
        return _measure(Path(folder), calls, seconds)


def _measure(root: Path, calls: int, seconds: float) -> RelayResult:
    settings = Settings(data=root / "data", media=MediaSettings(workers=1, cool_down_s=0))
    layout = settings.layout
    datadir.prepare(layout)
    publish_deposit_key(layout.deposit_key, hpke.public_key(hpke.new_private_key()))
    tenant = (new_id(), new_id(), hpke.public_key(hpke.new_private_key()))
    file = root / "settings.json"
    file.write_text(settings.model_dump_json(), "utf-8")
    phones = Phones(2 * calls)
    capture = _start("appliance.media.capture", "--settings", str(file), log=root / "capture.log")
    try:
        with rpc.channel(layout, "capture-0") as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
            stub = capture_pb2_grpc.CaptureServiceStub(channel)
            status = process_pb2_grpc.ProcessServiceStub(channel)
            for call in range(calls):
                pair = phones.sockets[2 * call : 2 * call + 2]
                for port in _open(stub, tenant, [sock.getsockname()[1] for sock in pair]):
                    phones.to.append((ADDRESS, port))
            phones.run(WARM_S)
            time.sleep(0.3)
            phones.drain()
            phones.delays.clear()
            phones.late.clear()
            before = (phones.sent, cpu_ns(capture.pid))
            phones.run(seconds)
            sent, cpu = phones.sent - before[0], cpu_ns(capture.pid) - before[1]
            time.sleep(0.3)
            phones.drain()
            answer = status.GetProcessStatus(process_pb2.GetProcessStatusRequest(), timeout=10)
            counters = dict(answer.counters)
    finally:
        capture.kill()
        capture.wait()
    delays = np.concatenate(phones.delays) / 1e6
    return RelayResult(
        calls=calls,
        sent=sent,
        lost=sent - len(delays),
        delay_p50_ms=float(np.percentile(delays, 50)),
        delay_p99_ms=float(np.percentile(delays, 99)),
        delay_max_ms=float(delays.max()),
        own_p50_ms=counters["relay_p50_us"] / 1000,
        own_p99_ms=counters["relay_p99_us"] / 1000,
        cpu_us=cpu / sent / 1000,
        sender_late_p99_ms=float(np.percentile(np.array(phones.late) / 1e6, 99)),
    )


def _open(
    stub: capture_pb2_grpc.CaptureServiceStub, tenant: tuple[str, str, bytes], ports: list[int]
) -> list[int]:
    session = new_id()
    info = RecordingInfo(
        recording_id=session,
        call_id=new_id(),
        tenant_id=tenant[0],
        line_id=tenant[1],
        started_ns=time.time_ns(),
        source="inline",
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
            tracks=[
                pb.TrackSpec(
                    track=track,
                    active=True,
                    payload_types=formats,
                    remote=pb.Remote(host=ADDRESS, rtp_port=ports[track], rtcp_port=9),
                    hears=1 - track,
                    codes=["*2", "*3", "*4"] if track else [],
                )
                for track in (0, 1)
            ],
            info_json=info.model_dump_json().encode(),
            address=ADDRESS,
        ),
        timeout=30,
    )
    return [port.rtp_port for port in answer.ports]


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(json.dumps(measure(wanted, float(sys.argv[2]) if len(sys.argv) > 2 else 15.0).as_json(), indent=2))
