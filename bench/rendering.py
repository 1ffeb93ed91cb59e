"""Rendering a sealed two-leg G.711 recording to sound: how many times faster than it was spoken."""

from __future__ import annotations

import io
import time

import numpy as np

from appliance.media.audio import Rendering, RenderOptions, load
from appliance.model import Party, PayloadFormat, RecordingInfo, Role, TrackInfo, new_id
from appliance.storage.sealed import PacketColumns, SealedReader, SealedWriter, pack_info, prepare
from bench.voice import conversations

SECONDS = 900
FRAME = 160
KEY = bytes(32)


def sealed(seconds: int = SECONDS) -> bytes:
    """A sealed recording of two people who talk for so long, a frame a second."""
    names = [new_id() for _ in range(4)]
    formats = (PayloadFormat(number=0, encoding="PCMU", clock_rate=8000),)
    info = RecordingInfo(
        recording_id=names[0],
        call_id=names[3],
        tenant_id=names[1],
        line_id=names[2],
        started_ns=10**18,
        parties=(Party(role=Role.CALLER), Party(role=Role.AGENT)),
        tracks=tuple(TrackInfo(track=side, party=side, formats=formats) for side in range(2)),
    )
    sides = [np.resize(side, seconds * 8000).reshape(-1, FRAME) for side in conversations()[0]]
    writer = SealedWriter(names[0], names[1], names[2], 10**18, KEY)
    parts = [writer.header]
    for second in range(seconds):
        packets = np.arange(second * 50, second * 50 + 50)
        both = np.concatenate([packets, packets])
        columns = PacketColumns(
            sequence=both.astype(np.uint16),
            timestamp=(both * FRAME).astype(np.uint32),
            arrival_ns=10**18 + both.astype(np.int64) * 20_000_000,
            payload_type=np.zeros(100, np.uint8),
            ssrc=np.repeat(np.array([1, 2], np.uint32), 50),
            size=np.full(100, FRAME, np.uint16),
            payload=np.concatenate([side[packets].ravel() for side in sides]),
        )
        prepared = prepare(columns, np.array([0, 50, 100]), np.array([0, 1]))
        blocks = [pack_info(info)] if not second else []
        parts.append(writer.frame([*blocks, prepared.block(0), prepared.block(1)]))
    parts.append(writer.end(10**18 + seconds * 10**9))
    return b"".join(parts)


def run() -> dict[str, float]:
    """Times real time, by format: from the sealed bytes to the last byte of the file."""
    data = sealed()
    found: dict[str, float] = {"seconds": float(SECONDS)}
    for form in ("wav", "flac", "ogg"):
        began = time.perf_counter()
        recording = load(SealedReader(io.BytesIO(data), KEY))
        size = sum(len(chunk) for chunk in Rendering(recording, RenderOptions(format=form)).chunks())
        assert size > 1000
        found[form] = SECONDS / (time.perf_counter() - began)
    return found
