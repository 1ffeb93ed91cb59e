import io

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.model import Mark, MarkKind, RecordingInfo, new_id
from appliance.storage import sealed

START = 1_764_000_000_000_000_000


class Sample:
    """A small recording: two tracks, marks, evidence, sender reports, telephone-events."""

    def __init__(self, frames: int = 3, packets: int = 5, seed: int = 1, ended: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.key = rng.bytes(32)
        self.device = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = self.device.public_key().public_bytes_raw()
        self.ids = [new_id() for _ in range(3)]
        self.info = RecordingInfo(
            recording_id=self.ids[0],
            call_id="c",
            tenant_id=self.ids[1],
            line_id=self.ids[2],
            started_ns=START,
        )
        self.writer = sealed.SealedWriter(*self.ids, START, self.key, nonce_prefix=b"\1\2\3\4\5\6\7")
        self.parts = [self.writer.header]
        self.columns = []
        for number in range(frames):
            prepared = self.prepare(rng, number, packets)
            blocks = [prepared.block(0), prepared.block(1), prepared.block(2)]
            if number == 0:
                blocks = [sealed.pack_info(self.info), *blocks]
            if number == 1:
                mark = Mark(kind=MarkKind.PAUSED, at_ns=START + 5, actor="agent", data={"n": 1})
                reports = np.zeros(2, sealed.RTCP_DTYPE)
                reports["ntp"] = [2**63 + 5, 7]
                reports["arrival_ns"] = START
                blocks += [
                    sealed.pack_mark(mark),
                    sealed.pack_evidence("sip-invite", "application/sdp", START, b"v=0\r\n" * 20),
                    sealed.pack_rtcp(reports),
                ]
            self.parts.append(self.writer.frame(blocks))
            self.writer.count(2 * packets, int(self.columns[-1].size[: 2 * packets].sum()), 1)
        if ended:
            self.parts.append(self.writer.end(START + 10**9 * frames))
        self.unsigned = b"".join(self.parts)
        self.offsets = np.cumsum([0] + [len(part) for part in self.parts]).tolist()

    def prepare(self, rng: np.random.Generator, number: int, packets: int) -> sealed.PreparedColumns:
        count = 2 * packets + 1
        size = rng.integers(0, 30, count).astype(np.uint16)
        size[-1] = 4
        columns = sealed.PacketColumns(
            sequence=(65530 + np.arange(count) + number * packets).astype(np.uint16),
            timestamp=(2**32 - 500 + 160 * np.arange(count) + number).astype(np.uint32),
            arrival_ns=START + number * 10**9 + np.sort(rng.integers(0, 10**9, count)),
            payload_type=rng.choice(np.array([0, 128, 8], np.uint8), count),
            ssrc=rng.choice(np.array([7, 2**32 - 1], np.uint32), count),
            size=size,
            payload=rng.integers(0, 256, int(size.sum()), dtype=np.uint8),
        )
        self.columns.append(columns)
        return sealed.prepare(
            columns, [0, packets, 2 * packets, count], [0, 1, 1], event=[False, False, True]
        )

    def signed(self, dropped: int = 0) -> bytes:
        found = sealed.inspect(io.BytesIO(self.unsigned))
        return self.unsigned + sealed.seal_footer(found, self.device, START, dropped_bytes=dropped)


@pytest.fixture(scope="session")
def sample() -> Sample:
    return Sample()


@pytest.fixture(scope="session")
def small() -> Sample:
    """For tests that try every byte."""
    return Sample(frames=2, packets=2)


@pytest.fixture
def make_sample() -> type[Sample]:
    return Sample
