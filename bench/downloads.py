"""Downloads of sealed recordings from a running box, against a bare gRPC stream of the same bytes in the same run.

Both are reached over TLS by the same clients, threads of one process; the bare server has the bytes in memory and sends
chunks of the same size.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import numpy as np

import earwitness
from appliance.api.reading import CHUNK
from appliance.cli.demonstration.embedded import EmbeddedBox, embedded_box
from appliance.config.layout import Layout
from appliance.model import RecordingInfo, new_id
from appliance.model.routing import RoutingTable
from appliance.storage.keystore import Depositor
from appliance.storage.keystore.publish import load_deposit_key
from appliance.storage.sealed import PacketColumns, SealedWriter, pack_info, prepare
from earwitness.v1 import recordings_pb2 as pb

RECORDINGS: Final = 50
SECONDS: Final = 600  # of a two-leg call that nothing compresses: about 10 MB
AT_ONCE: Final = (1, 10, 50)
FILING_S: Final = 300.0
PURPOSE: Final = "quality"
METHOD: Final = "/bench.Bare/Read"


@dataclass(frozen=True)
class Figure:
    """One number of downloads at once; MB are 10^6 bytes."""

    at_once: int
    megabytes: float
    box_mb_s: float
    bare_mb_s: float
    first_byte_p95_ms: float

    @property
    def ratio(self) -> float:
        """How many times longer the box takes."""
        return self.bare_mb_s / self.box_mb_s


def sealed(tenant_id: str, line_id: str, key: bytes, seed: int) -> tuple[str, bytes]:
    """Id and bytes of a recording as capture leaves it."""
    recording_id = new_id()
    now_ns = time.time_ns()
    rng = np.random.default_rng(seed)
    writer = SealedWriter(recording_id, tenant_id, line_id, now_ns, key)
    info = RecordingInfo(
        recording_id=recording_id, call_id=new_id(), tenant_id=tenant_id, line_id=line_id, started_ns=now_ns
    )
    parts = [writer.header, writer.frame([pack_info(info)])]
    for second in range(SECONDS):
        order = np.arange(second * 50, second * 50 + 50)
        columns = PacketColumns(
            sequence=np.tile(order, 2).astype(np.uint16),
            timestamp=(np.tile(order, 2) * 160).astype(np.uint32),
            arrival_ns=now_ns + np.tile(order, 2) * 20_000_000,
            payload_type=np.zeros(100, np.uint8),
            ssrc=np.repeat(np.array([1, 2], np.uint32), 50),
            size=np.full(100, 160, np.uint16),
            payload=rng.integers(0, 256, 16_000, dtype=np.uint8),
        )
        prepared = prepare(columns, [0, 50, 100], [0, 1])
        parts.append(writer.frame([prepared.block(0), prepared.block(1)]))
        writer.count(100, 16_000)
    parts.append(writer.end(now_ns + SECONDS * 10**9))
    return recording_id, b"".join(parts)


def fill(layout: Layout) -> dict[str, int]:
    """Lay recordings into the spool as capture does; gives their sizes there by id."""
    routing = RoutingTable.model_validate_json(layout.routing.read_bytes())
    tenant, line = routing.tenants[0], routing.lines[0]
    depositor, deposit_key = Depositor(), load_deposit_key(layout.deposit_key)
    sizes = {}
    for number in range(RECORDINGS):
        key = os.urandom(32)
        recording_id, data = sealed(tenant.tenant_id, line.line_id, key, number)
        raw = depositor.deposit(
            recording_id, tenant.tenant_id, tenant.public_key, deposit_key, key, time.monotonic_ns()
        )
        for folder, name, content in (
            (layout.spool_keys, f"{new_id()}.deposit", raw),
            (layout.spool_recordings, f"{recording_id}.sealed", data),
        ):
            scratch = folder / f".{name}.new"
            scratch.write_bytes(content)
            scratch.rename(folder / name)
        sizes[recording_id] = len(data)
    return sizes


def client_of(box: EmbeddedBox) -> earwitness.Client:
    pki = box.layout.pki
    clients = pki / "clients"
    return earwitness.connect(
        box.addresses["api"], pki / "ca.crt", clients / "admin.crt", clients / "admin.key"
    )


def filed(client: earwitness.Client, wanted: int) -> list[str]:
    """Names of the recordings, once all are there."""
    deadline = time.monotonic() + FILING_S
    while True:
        request = pb.ListRecordingsRequest(parent="tenants/-", page_size=1000)
        names = [one.name for one in client.recordings.ListRecordings(request).recordings]
        if len(names) == wanted:
            return names
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(names)} of {wanted} recordings were filed")
        time.sleep(0.5)


def from_box(client: earwitness.Client, name: str) -> Iterator[int]:
    """Sizes of chunks as they come."""
    request = pb.DownloadRecordingRequest(name=name, format=pb.DOWNLOAD_FORMAT_SEALED, purpose=PURPOSE)
    for item in client.recordings.DownloadRecording(request):
        if item.HasField("chunk"):
            yield len(item.chunk.data)


def from_bare(channel: grpc.Channel, size: int) -> Iterator[int]:
    read = channel.unary_stream(
        METHOD, request_serializer=None, response_deserializer=pb.DownloadRecordingResponse.FromString
    )
    for item in read(str(size).encode()):
        yield len(item.chunk.data)


def at_once(count: int, start: Callable[[int], Iterator[int]]) -> tuple[float, int, list[float]]:
    """Seconds until all were read, bytes, and seconds until the first byte of each."""
    first: list[float] = []
    ready = threading.Barrier(count + 1)

    def one(number: int) -> int:
        ready.wait()
        began, total = time.perf_counter(), 0
        for size in start(number):
            if not total:
                first.append(time.perf_counter() - began)
            total += size
        return total

    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(one, number) for number in range(count)]
        ready.wait()
        began = time.perf_counter()
        total = sum(future.result() for future in futures)
        return time.perf_counter() - began, total, first


def serve_bare(pki: str, sizes: list[int], told: Any) -> None:
    """A server that has nothing to do but send; a process of its own, as control is."""
    data = {size: np.random.default_rng(size).bytes(size) for size in sizes}

    async def read(request: bytes, context: Any) -> Any:
        content = data[int(request)]
        for offset in range(0, len(content), CHUNK):
            yield pb.DownloadRecordingResponse(
                chunk=pb.DownloadChunk(offset=offset, data=content[offset : offset + CHUNK])
            )

    async def run() -> None:
        server = grpc.aio.server()
        handler = grpc.unary_stream_rpc_method_handler(
            read,
            request_deserializer=None,
            response_serializer=pb.DownloadRecordingResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bench.Bare", {"Read": handler}),)
        )
        folder = Path(pki)
        pair = (folder / "server.key").read_bytes(), (folder / "server.crt").read_bytes()
        port = server.add_secure_port(
            "127.0.0.1:0",
            grpc.ssl_server_credentials([pair], (folder / "ca.crt").read_bytes(), require_client_auth=True),
        )
        await server.start()
        told.send(port)
        await server.wait_for_termination()

    asyncio.run(run())


def run() -> dict[str, list[dict[str, Any]]]:
    """Figures for each number of downloads at once, the two alternating, the better of two each."""
    figures = []
    with (
        tempfile.TemporaryDirectory(prefix="earwitness-bench-") as folder,
        embedded_box(Path(folder) / "box") as box,
    ):
        sizes = fill(box.layout)
        client = client_of(box)
        names = filed(client, RECORDINGS)
        told, telling = multiprocessing.get_context("spawn").Pipe(False)
        bare_server = multiprocessing.get_context("spawn").Process(
            target=serve_bare, args=(str(box.layout.pki), sorted(set(sizes.values())), telling), daemon=True
        )
        bare_server.start()
        try:
            bare = earwitness.connect(
                f"127.0.0.1:{told.recv()}",
                box.layout.pki / "ca.crt",
                box.layout.pki / "clients/admin.crt",
                box.layout.pki / "clients/admin.key",
            )
            by_number = [sizes[name[-26:]] for name in names]
            for count in AT_ONCE:
                figures.append(_measure(client, names, bare, by_number, count))
        finally:
            bare_server.terminate()
            bare_server.join()
    return {"figures": [{**asdict(one), "ratio": one.ratio} for one in figures]}


def _measure(
    client: earwitness.Client, names: list[str], bare: earwitness.Client, sizes: list[int], count: int
) -> Figure:
    box_s, bare_s, first_s = [], [], [0.0]
    total = bare_total = 0
    for _ in range(2):
        took, total, first_s = at_once(count, lambda number: from_box(client, names[number]))
        box_s.append(took)
        took, bare_total, _ = at_once(count, lambda number: from_bare(bare.channel, sizes[number]))
        bare_s.append(took)
    return Figure(
        at_once=count,
        megabytes=total / 1e6,
        box_mb_s=total / 1e6 / min(box_s),
        bare_mb_s=bare_total / 1e6 / min(bare_s),
        first_byte_p95_ms=float(np.percentile(first_s, 95)) * 1000,
    )
