"""Sealed recordings as the box makes them, for the verifier that shares no code with it."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.model import RecordingInfo, new_id
from appliance.storage import sealed

START = 1_764_000_000_000_000_000


class Made:
    """A recording of a few frames, in its parts: header, frames, last frame, footer."""

    def __init__(self, device: Ed25519PrivateKey, frames: int = 3, *, ended: bool = True) -> None:
        self.recording, tenant, line = (new_id() for _ in range(3))
        writer = sealed.SealedWriter(self.recording, tenant, line, START, os.urandom(32))
        info = RecordingInfo(
            recording_id=self.recording, call_id="c", tenant_id=tenant, line_id=line, started_ns=START
        )
        self.parts = [writer.header]
        for number in range(frames):
            columns = sealed.PacketColumns(
                sequence=np.arange(50, dtype=np.uint16),
                timestamp=(np.arange(50) * 160).astype(np.uint32),
                arrival_ns=START + number * 10**9 + np.arange(50) * 20_000_000,
                payload_type=np.zeros(50, np.uint8),
                ssrc=np.ones(50, np.uint32),
                size=np.full(50, 160, np.uint16),
                payload=np.random.default_rng(number).integers(0, 256, 8000, dtype=np.uint8),
            )
            prepared = sealed.prepare(columns, [0, 50], [0])
            self.parts.append(writer.frame([sealed.pack_info(info), prepared.block(0)]))
            writer.count(50, 8000)
        if ended:
            self.parts.append(writer.end(START + frames * 10**9))
        unsigned = b"".join(self.parts)
        self.parts.append(self.footer(unsigned, device))

    @staticmethod
    def footer(unsigned: bytes, device: Ed25519PrivateKey) -> bytes:
        return sealed.seal_footer(sealed.inspect(io.BytesIO(unsigned)), device, START)

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)


@pytest.fixture(scope="session")
def device() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="session")
def make_recording():
    return Made
