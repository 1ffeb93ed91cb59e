"""Calls whose every frame can be told from every other, and finding those frames in what was recorded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
import wave
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import command_kit
import grpc
import numpy as np

from appliance.cli.connection import Connection
from appliance.cli.context import services_of
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.downloads import fetch
from appliance.demo.metadata import Participant
from appliance.demo.sbc import Sbc
from earwitness import Client
from earwitness.v1 import operations_pb2

FRAME = 160
PATIENCE = 10.0 if "EARWITNESS_GUEST" in os.environ else 1.0  # an emulated machine takes its time
CLI_S = 90 * PATIENCE
os.environ.setdefault("EARWITNESS_PURPOSE", "evidence")  # what these tests read for
CODES = np.array(
    [code for code in range(256) if code not in (0x7F, 0xFF)], np.uint8
)  # those two are both zero


def mulaw(codes: np.ndarray) -> np.ndarray:
    """ITU-T G.711 µ-law to linear, from the definition."""
    flipped = ~codes.astype(np.int32) & 0xFF
    magnitude = ((((flipped & 15) << 3) + 0x84) << ((flipped >> 4) & 7)) - 0x84
    return np.where(flipped & 0x80, -magnitude, magnitude).astype(np.int16)


_BACK = np.zeros(65536, np.uint8)
_BACK[mulaw(CODES).astype(np.uint16)] = CODES


def noise(seconds: float, seed: int) -> bytes:
    """Random G.711 in which no two frames are alike and no sample is zero."""
    return np.random.default_rng(seed).choice(CODES, round(seconds * 50) * FRAME).tobytes()


def tone(seconds: float) -> bytes:
    """G.711 of a tone, well below full scale."""
    at = np.arange(round(seconds * 50) * FRAME)
    values = np.rint(8000 * np.sin(2 * np.pi * 440 * at / 8000)).astype(np.int32)
    order = np.argsort(mulaw(CODES), kind="stable")
    levels = mulaw(CODES)[order].astype(np.int32)
    return CODES[order][np.searchsorted(levels, values).clip(0, len(levels) - 1)].tobytes()


def frames_in(samples: np.ndarray, payload: bytes) -> np.ndarray:
    """Which frames of `payload` stand whole in `samples`; shape (frames,), bool."""
    codes = np.where(samples == 0, 0, _BACK[samples.astype(np.uint16)])
    sent = np.frombuffer(payload, np.uint8).reshape(-1, FRAME)
    keys = {row[:8].tobytes(): number for number, row in enumerate(sent)}
    found = np.zeros(len(sent), bool)
    data = codes.tobytes()
    place = 0
    while place + FRAME <= len(data):
        number = keys.get(data[place : place + 8])
        if number is not None and data[place : place + FRAME] == sent[number].tobytes():
            found[number] = True
            place += FRAME
        else:
            place += 1
    return found


def heard_whole(samples: np.ndarray, payload: bytes) -> bool:
    """Whether every frame of `payload` is heard; the call's end may fall into the last one."""
    return bool(frames_in(samples, payload)[:-1].all())


def parties(number: int) -> list[Participant]:
    """Two parties of call `number`."""
    return [
        Participant(f"sip:07700900{number:03}@pbx.example", f"Caller {number}", "1"),
        Participant("sip:01632960100@pbx.example", "Desk", "2"),
    ]


def nothing(payload: bytes) -> np.ndarray:
    """No frame of `payload`."""
    return np.zeros(len(payload) // FRAME, bool)


def missing(channels: Iterable[np.ndarray], payload: bytes) -> int:
    """How many frames of `payload` stand in none of these; the call's end may fall into the last one."""
    found = nothing(payload)
    for channel in channels:
        found |= frames_in(channel, payload)
    return int((~found[:-1]).sum())


def _run(box: EmbeddedBox, *words: str, **environment: str) -> command_kit.Done:
    return command_kit.run(
        "--data", str(box.data), *words, timeout=CLI_S, environment={**os.environ, **environment}
    )


def cli(box: EmbeddedBox, *words: str, code: int = 0) -> Any:
    """Runs the command line on a box; gives its JSON, or of an expected failure what it said."""
    done = _run(box, *words, *([] if code else ["--json"]))
    assert done.returncode == code, f"exit code {done.returncode}: {done.stderr}"
    return json.loads(done.stdout) if not code else done.stderr + done.stdout


def text(box: EmbeddedBox, *words: str) -> str:
    """What the command line says to people."""
    done = _run(box, *words, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    return done.stdout


def cli_ok(box: EmbeddedBox, *words: str) -> bool:
    """Whether a command succeeds."""
    return _run(box, *words).returncode == 0


def status(box: EmbeddedBox) -> Any:
    """What `box status` says; its exit code is 1 while there is an alarm."""
    done = _run(box, "box", "status", "--json")
    assert done.returncode in (0, 1) and done.stdout, done.stderr
    return json.loads(done.stdout)


def answers(box: EmbeddedBox) -> bool:
    """Whether it says how it is, alarms or not."""
    return _run(box, "box", "status", "--json").returncode in (0, 1)


def until(true: Callable[[], Any], what: str, seconds: float = 40) -> Any:
    """Waits until something is so; gives what it gave."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        if value := true():
            return value
        assert time.monotonic() < deadline, f"did not come about in time: {what}"
        time.sleep(0.1)


def recordings(box: EmbeddedBox, *options: str) -> list[dict[str, Any]]:
    """All recordings of a box."""
    return list(cli(box, "recordings", "list", "--limit", "1000", *options)["recordings"])


def pid_of(box: EmbeddedBox, process: str) -> int:
    """The process id of one of the box's processes."""
    state = json.loads((box.layout.run / "supervisor.json").read_text("utf-8"))
    return next(int(one["pid"]) for one in state["processes"] if one["name"] == process)


def captures() -> list[str]:
    """The names of a box's capture processes."""
    return [f"capture-{number}" for number in range(len(os.sched_getaffinity(0)))]


def channels(path: Path) -> np.ndarray:
    """Samples of a WAV, shape (channels, length)."""
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels()).T


def wav(box: EmbeddedBox, name: str, folder: Path) -> np.ndarray:
    """A recording's sound, shape (channels, length)."""
    path = folder / f"{name.rsplit('/', 1)[-1]}.wav"
    cli(box, "recordings", "download", name, "-o", str(path), "--force")
    return channels(path)


def wavs(box: EmbeddedBox, names: Iterable[str], folder: Path) -> dict[str, np.ndarray]:
    """The same of many over one connection: the command line's start takes longer than the sound."""
    with box.connection.channel() as channel:
        services = services_of(channel)
        return {
            name: channels(
                fetch(
                    services, name, "wav", folder / f"{name[-26:]}.wav", purpose="evidence", quiet=True
                ).path
            )
            for name in names
        }


def call_each(box: EmbeddedBox, count: int) -> None:
    """Places so many calls of a second side by side, and waits until the recording of each is filed."""

    async def calls() -> None:
        async with Sbc("udp", box.sip("udp")) as sbc:
            placed = [
                await sbc.place(parties(number), [noise(1, 2 * number), noise(1, 2 * number + 1)])
                for number in range(count)
            ]
            await asyncio.gather(*(call.play() for call in placed))
            await asyncio.gather(*(call.hang_up() for call in placed))

    asyncio.run(calls())
    until(lambda: len(recordings(box)) == count, "the recordings are filed", 60)


@contextlib.contextmanager
def slow(pid: int) -> Iterator[None]:
    """A process that gets a thirtieth of the time, so that what asks it takes long enough to be met in the middle."""
    ended = threading.Event()

    def hinder() -> None:
        while not ended.is_set():
            os.kill(pid, signal.SIGSTOP)
            ended.wait(0.3)
            os.kill(pid, signal.SIGCONT)
            ended.wait(0.01)

    hindering = threading.Thread(target=hinder)
    hindering.start()
    try:
        yield
    finally:
        ended.set()
        hindering.join()


def operation(box: EmbeddedBox, name: str) -> operations_pb2.Operation | None:
    """How far long work is; None while control is away."""
    with Connection(box.data).channel() as channel, contextlib.suppress(grpc.RpcError):
        request = operations_pb2.GetOperationRequest(name=name)
        return Client(channel).operations.GetOperation(request, timeout=5).operation
    return None
