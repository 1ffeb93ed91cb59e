"""Listening in with real processes: how late a tone is heard, what a pause leaves, and what stands in the sealed file."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import whole_kit as kit
from embedded_kit import started

from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.demo.sbc import Sbc
from bench.listening import Onsets, allow, bare_receiver, coming_and_going, live_call
from earwitness import Client
from earwitness.v1 import calls_pb2 as pb

pytestmark = pytest.mark.timeout(150)
SECONDS = 8.0
FRAMES = int(SECONDS * 50)
PAUSED_AT, RESUMED_AT = 150, 220  # frames
MUST_MS = 2000.0  # of a machine that does other things as well; the figure is in the bench


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("listening") / "data") as running:
        yield running


class Listener:
    """One who listens in a thread, until the call ends."""

    def __init__(self, client: Client, name: str, format_: pb.ListenFormat.ValueType) -> None:
        request = pb.ListenCallRequest(name=name, purpose="training", format=format_)
        self.stream = client.calls.ListenCall(request)
        self.header = next(self.stream).header  # type: ignore[call-overload]
        self.events: list[int] = []
        self.heard: list[bytes] = []

    def take(self) -> Iterator[pb.ListenCallResponse]:
        """What comes, noted as well."""
        for message in self.stream:
            if message.HasField("event"):
                self.events.append(message.event.kind)
            elif message.HasField("chunk") and message.chunk.track == 1:
                self.heard.append(message.chunk.data)
            yield message

    def run(self) -> None:
        for _ in self.take():
            pass


async def call(box: EmbeddedBox, client: Client, onsets: Onsets, speech: bytes) -> list[Listener]:
    """A call of two parties; the agent's every frame can be told from every other."""
    async with Sbc("udp", box.sip("udp")) as sbc:
        placed = await sbc.place(kit.parties(1), [coming_and_going(SECONDS), speech])
        name = await asyncio.to_thread(live_call, client)
        formats = (pb.LISTEN_FORMAT_PCM, pb.LISTEN_FORMAT_PAYLOAD, pb.LISTEN_FORMAT_PCM)
        listeners = [await asyncio.to_thread(Listener, client, name, one) for one in formats]
        pcm, payload, _ = listeners  # the third has its header and takes nothing more
        work = [
            asyncio.create_task(asyncio.to_thread(onsets.listen, pcm.take())),
            asyncio.create_task(asyncio.to_thread(payload.run)),
        ]
        with bare_receiver(onsets) as target, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spare:
            onsets.follow(placed, target, spare)
            await placed.play(PAUSED_AT)
            await asyncio.to_thread(client.calls.PauseCall, pb.PauseCallRequest(name=name, reason="card"))
            await placed.play(RESUMED_AT - PAUSED_AT)
            await asyncio.to_thread(client.calls.ResumeCall, pb.ResumeCallRequest(name=name))
            await placed.play()
        await placed.hang_up()
        await asyncio.gather(*work)
        listeners[2].stream.cancel()  # type: ignore[attr-defined]
    return listeners


def test_a_call_is_heard_while_it_lasts_and_nobody_who_listens_costs_it_a_packet(
    box: EmbeddedBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onsets, speech = Onsets(), kit.noise(SECONDS, 7)
    with box.connection.channel() as channel:
        client = Client(channel)
        allow(client)
        pcm, payload, _ = asyncio.run(call(box, client, onsets, speech))
        assert payload.stream.code() is grpc.StatusCode.OK  # type: ignore[attr-defined]

    delays = onsets.delays_ms(onsets.heard)
    with capsys.disabled():
        print(
            f"\nlistening: heard after p50 {np.percentile(delays, 50):.0f} ms, p95 {np.percentile(delays, 95):.0f} ms;"
            f" bare receive p50 {np.percentile(onsets.delays_ms(onsets.bare), 50):.2f} ms"
        )
    assert len(delays) > len(onsets.sent) // 2 and np.percentile(delays, 50) < MUST_MS
    told = [pb.LISTEN_EVENT_KIND_PAUSED, pb.LISTEN_EVENT_KIND_RESUMED, pb.LISTEN_EVENT_KIND_ENDED]
    assert [one for one in payload.events if one != pb.LISTEN_EVENT_KIND_LOST] == told
    assert pb.LISTEN_EVENT_KIND_PAUSED in pcm.events

    # What is recorded is all that was sent but for the pause; what is heard is nothing else.
    found = kit.until(lambda: kit.recordings(box), "the recording is filed")[0]
    recorded = kit.frames_in(kit.wav(box, found["name"], tmp_path)[1], speech)
    within = slice(PAUSED_AT + 5, RESUMED_AT - 5)
    assert recorded[: PAUSED_AT - 5].all() and recorded[RESUMED_AT + 15 : FRAMES - 2].all()
    assert not recorded[within].any()
    sent = [speech[at : at + kit.FRAME] for at in range(0, len(speech), kit.FRAME)]
    numbers = {frame: number for number, frame in enumerate(sent)}
    heard = np.zeros(len(sent), bool)
    heard[[numbers[frame] for frame in payload.heard]] = True
    assert not (heard & ~recorded)[: FRAMES - 2].any(), "nothing of a pause reaches a listener"
    assert np.count_nonzero(heard) > np.count_nonzero(recorded) // 2

    # Who listened stands in the sealed file, and with it in the evidence.
    shown = kit.cli(box, "recordings", "show", found["name"])
    marks = [mark for mark in shown["marks"] if mark["kind"] == "MARK_KIND_LISTENED"]
    assert sorted(mark["data"]["phase"] for mark in marks) == ["began"] * 3 + ["ended"] * 3
    assert {mark["data"]["purpose"] for mark in marks} == {"training"} and all(
        mark["actor"] == "admin" for mark in marks
    )
    assert len({mark["data"]["listener"] for mark in marks}) == 3
    assert kit.cli(box, "recordings", "verify", found["name"])["verdict"] == "VERDICT_INTACT"


def test_the_command_writes_what_it_hears(box: EmbeddedBox, tmp_path: Path) -> None:
    async def go() -> None:
        async with Sbc("udp", box.sip("udp")) as sbc:
            payload = coming_and_going(90)  # longer than any machine takes to start a command
            placed = await sbc.place(kit.parties(2), [payload, b"\xff" * len(payload)])
            playing = asyncio.create_task(placed.play())
            with box.connection.channel() as channel:
                client = Client(channel)
                allow(client)
                name = await asyncio.to_thread(live_call, client)
            words = ("calls", "listen", name, "--purpose", "training", "-o", str(tmp_path / "x.wav"))
            await asyncio.to_thread(kit.text, box, *words, "--seconds", "1.5")
            playing.cancel()
            await placed.hang_up()

    asyncio.run(go())
    left, right = kit.channels(tmp_path / "x.wav")
    loud = np.abs(left.astype(np.int32)) > 2000
    assert len(left) > 16000 and 0.1 < loud.mean() < 0.9, "a tone that comes and goes"
    assert not (np.abs(right.astype(np.int32)) > 200).any(), "who said nothing is not heard"
