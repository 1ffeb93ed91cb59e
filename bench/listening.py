"""Listening in: how long after a packet was sent its sound comes out of `ListenCall`, beside a bare receive.

A tone that comes and goes five times in two seconds; each time it comes is one figure.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from appliance.cli.demonstration.embedded import EmbeddedBox, embedded_box
from appliance.demo.metadata import Participant
from appliance.demo.sbc import Sbc, SbcCall
from appliance.media.audio.codecs import ULAW
from earwitness import Client
from earwitness.v1 import calls_pb2, tenants_pb2

FRAME = 160
ON, OFF = 10, 10  # frames of 20 ms
LOUD = 2000
SECONDS = 24.0
TRACK = 0


def coming_and_going(seconds: float) -> bytes:
    """G.711: OFF frames of nothing, ON frames of a tone, and so on."""
    order = np.argsort(ULAW, kind="stable")
    wave = np.rint(8000 * np.sin(2 * np.pi * 500 * np.arange(FRAME * ON) / 8000)).astype(np.int32)
    tone = order[np.searchsorted(ULAW[order], wave).clip(0, 255)].astype(np.uint8).tobytes()
    quiet = b"\xff" * FRAME * OFF
    return (quiet + tone) * round(seconds * 50 / (ON + OFF))


def allow(client: Client) -> None:
    """Every line may be listened to."""
    lines = client.tenants.ListLines(tenants_pb2.ListLinesRequest(parent="tenants/-")).lines
    for line in lines:
        changed = tenants_pb2.Line(name=line.name, listening=tenants_pb2.LISTENING_ALLOWED)
        request = tenants_pb2.UpdateLineRequest(line=changed)
        request.update_mask.paths.append("listening")
        client.tenants.UpdateLine(request)


def live_call(client: Client) -> str:
    """The name of the call that is up."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = client.calls.ListCalls(calls_pb2.ListCallsRequest(parent="tenants/-")).calls
        if found:
            return str(found[0].name)
        time.sleep(0.02)
    raise TimeoutError("no call is up")


class Onsets:
    """When the tone came: as it was sent, as it was received bare, and as it was heard. Seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.bare: list[float] = []
        self.heard: list[float] = []

    def delays_ms(self, found: list[float]) -> list[float]:
        """For each time the tone came: how long after it was sent; those that were never found are left out."""
        sent = np.asarray(self.sent)
        places = np.searchsorted(sent, found, side="right") - 1
        return [
            (when - sent[place]) * 1000
            for when, place in zip(found, places.tolist(), strict=True)
            if place >= 0
        ]

    def follow(self, call: SbcCall, target: tuple[str, int], spare: socket.socket) -> None:
        """Notes each coming as it is sent, and sends a mark of it to a bare receiver at the same time."""

        def on_frame() -> None:
            if (call.sources[0].position - 1) % (ON + OFF) == OFF:
                self.sent.append(time.monotonic())
                spare.sendto(b"\x80" * (FRAME + 12), target)

        call.on_frame = on_frame

    def listen(self, chunks: Iterator[calls_pb2.ListenCallResponse]) -> None:
        """Until the stream ends."""
        loud = False
        for message in chunks:
            if not message.HasField("chunk") or message.chunk.track != TRACK:
                continue
            now = time.monotonic()
            level = np.abs(np.frombuffer(message.chunk.data, "<i2").astype(np.int32)).max()
            if level > LOUD and not loud:
                self.heard.append(now)
            loud = bool(level > LOUD)


@contextmanager
def bare_receiver(onsets: Onsets) -> Iterator[tuple[str, int]]:
    """A socket that is read as soon as something is there, and nothing is done with it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def run() -> None:
            while len(sock.recv(2048)) > 1:
                onsets.bare.append(time.monotonic())

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield sock.getsockname()
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"x", sock.getsockname())
            thread.join()


def run(seconds: float = SECONDS, format_: int = calls_pb2.LISTEN_FORMAT_PCM) -> dict[str, Any]:
    """The figures, in ms."""
    with tempfile.TemporaryDirectory() as folder, embedded_box(Path(folder) / "data") as box:
        return asyncio.run(_measure(box, seconds, format_))


async def _measure(box: EmbeddedBox, seconds: float, format_: int) -> dict[str, Any]:
    onsets = Onsets()
    people = [
        Participant("sip:07700900001@pbx.example", "Caller", "1"),
        Participant("sip:01632960100@pbx.example", "Desk", "2"),
    ]
    with box.connection.channel() as channel, bare_receiver(onsets) as target:
        client = Client(channel)
        allow(client)
        async with Sbc("udp", box.sip("udp")) as sbc:
            payload = coming_and_going(seconds)
            call = await sbc.place(people, [payload, b"\xff" * len(payload)])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spare:
                onsets.follow(call, target, spare)
                name = await asyncio.to_thread(live_call, client)
                request = calls_pb2.ListenCallRequest(name=name, purpose="training", format=format_)  # type: ignore[arg-type]
                stream = client.calls.ListenCall(request)
                await asyncio.to_thread(lambda: next(stream))
                listening = asyncio.create_task(asyncio.to_thread(onsets.listen, iter(stream)))
                await call.play()
            await call.hang_up()
            await listening
    heard, bare = onsets.delays_ms(onsets.heard), onsets.delays_ms(onsets.bare)
    return {
        "onsets": len(onsets.sent),
        "heard": len(heard),
        **{
            f"{label}_{name}_ms": round(float(np.percentile(figures, share)), 2)
            for label, figures in (("heard", heard), ("bare", bare))
            for name, share in (("p50", 50), ("p95", 95), ("most", 100))
        },
    }
