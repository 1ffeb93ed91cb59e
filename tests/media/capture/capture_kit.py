"""A recorder with real sockets and a real disk, driven step by step; and what is needed to read its files."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from appliance.config.layout import Layout
from appliance.media.capture.clock import StepClock
from appliance.media.capture.commands import Close, Closed, Open, Ports
from appliance.media.capture.deposits import SpoolDeposits
from appliance.media.capture.disk import Cycle, Disk, PartFile
from appliance.media.capture.recorder import Recorder
from appliance.media.capture.session import Evidence, TrackRequest
from appliance.media.rtp.ports import PortPool
from appliance.media.rtp.rollover import RolloverStore
from appliance.model import Mark, RecordingInfo, id_bytes, new_id
from appliance.process import datadir
from appliance.storage.keystore import hpke, open_deposit, publish_deposit_key
from appliance.storage.keystore.wrap import unseal_intermediate, unwrap_data_key
from appliance.storage.sealed import MarkBlock, PacketBlock, SealedReader

LOOPBACK = "127.0.0.1"
EVENT = 101


def rtp(
    seq: int, payload: bytes = b"\xff" * 160, *, ssrc: int = 7, pt: int = 0, ts: int | None = None
) -> bytes:
    """One packet; `ts` follows from `seq` where it is not said."""
    stamp = (seq * 160 if ts is None else ts) & 0xFFFFFFFF
    return struct.pack(">BBHII", 0x80, pt, seq & 0xFFFF, stamp, ssrc) + payload


def tone(byte: int) -> bytes:
    """A payload that can be told from others."""
    return bytes([byte]) * 160


def free_range(pairs: int) -> tuple[int, int]:
    """Even ports of which all are free just now."""
    for first in range(20000 + (time.time_ns() // 1000 % 5000) * 2, 60000, 2 * pairs):
        socks = []
        try:
            for port in range(first, first + 2 * pairs):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                socks.append(sock)
                sock.bind((LOOPBACK, port))
        except OSError:
            continue
        else:
            return first, first + 2 * pairs
        finally:
            for sock in socks:
                sock.close()
    raise AssertionError("no free ports")


class Keys:
    """The vault's and a tenant's private halves, which capture never has."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tenant = hpke.new_private_key()
        self.tenant_public = hpke.public_key(self.tenant)
        self.deposit: dict[bytes, bytes] = {}
        self.publish()

    def publish(self) -> None:
        """A fresh deposit key; the old ones are gone."""
        private = hpke.new_private_key()
        public = hpke.public_key(private)
        self.deposit = {hpke.key_id(public): private}
        publish_deposit_key(self.layout.deposit_key, public)

    def data_key(self, recording_id: str) -> bytes:
        """What the vault and the tenant together find in the spool."""
        for path in self.layout.spool_keys.glob("*.deposit"):
            found = open_deposit(path.read_bytes(), self.deposit)
            intermediates = {item.id: item for item in found.intermediates}
            for record in found.records:
                if record.recording == id_bytes(recording_id):
                    item = intermediates[record.intermediate]
                    key = unseal_intermediate(self.tenant, item.tenant, item.id, item.sealed)
                    return unwrap_data_key(
                        key, record.counter, item.tenant, item.id, record.recording, record.wrapped
                    )
        raise AssertionError("no deposit holds this recording's key")


class Content:
    """What a file says, for tests."""

    def __init__(self, path: Path, key: bytes) -> None:
        reader = SealedReader(path.read_bytes(), key)
        self.blocks = list(reader)
        self.end = reader.end
        self.findings = reader.findings

    @property
    def marks(self) -> list[Mark]:
        return [block.mark for block in self.blocks if isinstance(block, MarkBlock)]

    def packets(self, track: int, *, audio: bool = True) -> list[tuple[int, int, bytes]]:
        """SSRC, sequence number and payload, in the order kept."""
        return [
            (int(ssrc), int(seq), payload)
            for block in self.blocks
            if isinstance(block, PacketBlock) and block.track == track and block.audio == audio
            for ssrc, seq, payload in zip(block.ssrc, block.sequence, block.packets(), strict=True)
        ]

    def sequences(self, track: int) -> list[int]:
        return [seq for _, seq, _ in self.packets(track)]


class Wall:
    """A clock that can be set."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self.offset = 0
        self._clock = clock

    def __call__(self) -> int:
        return self._clock() + self.offset


class Box:
    """One worker without its threads."""

    def __init__(self, root: Path, *, pairs: int = 8, cool_down_ns: int = 0, memory: int = 1 << 28) -> None:
        self.layout = Layout(root)
        datadir.prepare(self.layout)
        self.keys = Keys(self.layout)
        self.wall = Wall()
        self.mono = Wall(time.monotonic_ns)
        self.pool = PortPool(*free_range(pairs), cool_down_ns)
        self.rollovers = RolloverStore(self.layout.capture / "rollover.bin", 64)
        self.recorder = Recorder(
            pool=self.pool,
            clock=StepClock(self.wall, self.mono),
            part_file=lambda name: PartFile(self.layout.spool_recordings, name),
            rollovers=self.rollovers,
            rows=4096,
            memory=memory,
        )
        self.deposits = SpoolDeposits(self.layout.spool_keys, self.layout.deposit_key)
        self.disk = Disk(self.layout.spool_recordings, self.deposits, lambda cycle: None)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tenant_id, self.line_id = new_id(), new_id()
        self.closed: dict[str, Closed] = {}
        self.errors: list[Exception] = []

    def open(
        self,
        *tracks: TrackRequest,
        marks: Sequence[Mark] = (),
        evidence: Iterable[Evidence] = (),
        context: bytes = b"",
        address: str = LOOPBACK,
        relay_only: bool = False,
    ) -> tuple[str, list[Ports]]:
        session = new_id()
        info = RecordingInfo(
            recording_id=session,
            call_id=new_id(),
            tenant_id=self.tenant_id,
            line_id=self.line_id,
            started_ns=time.time_ns(),
        )
        ports = self.recorder.open(
            Open(
                session_id=session,
                tenant_id=self.tenant_id,
                line_id=self.line_id,
                tenant_public_key=self.keys.tenant_public,
                address=address,
                relay_only=relay_only,
                tracks=tracks,
                info_json=info.model_dump_json().encode(),
                evidence=tuple(evidence),
                marks=tuple(mark.model_dump_json().encode() for mark in marks),
                context=context,
            )
        )
        return session, ports

    def open_one(self, *, events: frozenset[int] = frozenset({EVENT}), **more: object) -> tuple[str, int]:
        """A session with one track; its id and port."""
        session, ports = self.open(TrackRequest(0, events=events, **more))  # type: ignore[arg-type]
        return session, ports[0].rtp_port

    def send(self, port: int, packets: Iterable[bytes], sender: socket.socket | None = None) -> None:
        for packet in packets:
            (sender or self.sender).sendto(packet, (LOOPBACK, port))

    def tick(self) -> None:
        """Loopback delivers before sendto returns, so one drain has everything that was sent before."""
        self.recorder.tick()

    def advance(self, ms: float) -> None:
        """Lets time go by, in steps of a fast tick."""
        for _ in range(max(1, round(ms / 10))):
            self.wall.offset += 10_000_000
            self.mono.offset += 10_000_000
            self.recorder.breathe()

    def commit(self) -> Cycle | None:
        cycle = self.recorder.commits.commit()
        if cycle is not None:
            self.disk.run(cycle)
            self.errors = self.recorder.commits.finished(cycle)
        return cycle

    def close(self, session: str, reason: str = "bye", at_ns: int = 0) -> Content:
        self.recorder.close(
            Close(session, reason, at_ns=at_ns), lambda closed: self.closed.__setitem__(session, closed)
        )
        self.commit()
        return self.read(session)

    def path(self, session: str, suffix: str = "sealed") -> Path:
        return self.layout.spool_recordings / f"{session}.{suffix}"

    def read(self, session: str, suffix: str = "sealed") -> Content:
        return Content(self.path(session, suffix), self.keys.data_key(session))

    def figures(self, session: str, track: int = 0):  # type: ignore[no-untyped-def]
        state = next(item for item in self.recorder.figures() if item.session_id == session)
        return next(item for item in state.tracks if item.track == track)

    def shut(self) -> None:
        self.sender.close()
        self.recorder.shut()
        self.rollovers.close()
