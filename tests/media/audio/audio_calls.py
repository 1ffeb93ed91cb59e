"""Builds sealed recordings packet by packet, as a sender, a network and capture would."""

import os
from dataclasses import dataclass, field

import numpy as np

from appliance.media.audio import load
from appliance.media.audio.codecs import ULAW
from appliance.model import Mark, Party, PayloadFormat, RecordingInfo, Role, TrackInfo, new_id
from appliance.storage import sealed

START = 1_764_000_000_000_000_000
MS = 1_000_000
SECOND = 1_000_000_000
PCMU = PayloadFormat(number=0, encoding="PCMU", clock_rate=8000)
EVENT = PayloadFormat(number=101, encoding="TELEPHONE-EVENT", clock_rate=8000)

# The nearest code of each 16-bit value; ULAW[ENCODE[x + 32768]] is what a listener gets.
_ORDER = np.argsort(ULAW, kind="stable")
_EDGES = (ULAW[_ORDER][1:].astype(np.int32) + ULAW[_ORDER][:-1]) / 2


def ulaw(sound):
    """Samples as PCMU."""
    return _ORDER[np.searchsorted(_EDGES, sound)].astype(np.uint8)


def noise(samples, seed=1, peak=8000):
    """PCMU codes of noise that is nowhere quiet, and what they sound like."""
    rng = np.random.default_rng(seed)
    values = rng.integers(peak // 2, peak, samples) * rng.choice([-1, 1], samples)
    codes = ulaw(values)
    return codes, ULAW[codes]


@dataclass
class Packet:
    track: int
    sequence: int
    timestamp: int
    arrival_ns: int  # from the start
    payload: bytes
    ssrc: int = 7
    payload_type: int = 0
    event: bool = False


@dataclass
class Call:
    """Builds a sealed recording packet by packet."""

    duration_ns: int = 2 * SECOND
    formats: tuple = (PCMU, EVENT)
    roles: tuple = (Role.CALLER, Role.AGENT)
    packets: list = field(default_factory=list)
    marks: list = field(default_factory=list)
    reports: list = field(default_factory=list)  # track, ssrc, timestamp, ntp seconds, arrival ns

    def speak(
        self,
        track,
        codes,
        *,
        at_ns=0,
        sequence=100,
        timestamp=5000,
        ssrc=7,
        size=160,
        payload_type=0,
        jitter=None,
        rate=1.0,
    ):
        """Sends PCMU codes as 20 ms packets; each arrives when its sound begins on the timeline."""
        for number, start in enumerate(range(0, len(codes), size)):
            late = int(jitter[number]) if jitter is not None else 0
            self.packets.append(
                Packet(
                    track,
                    (sequence + number) & 0xFFFF,
                    (timestamp + start) & 0xFFFFFFFF,
                    at_ns + int(start * 125_000 * rate) + late,
                    bytes(codes[start : start + size]),
                    ssrc,
                    payload_type,
                )
            )
        return self

    def mark(self, kind, at_ns, **data):
        self.marks.append(Mark(kind=kind, at_ns=START + at_ns, **data))
        return self

    def seal(self, ended=True):
        """The sealed file's bytes and its key."""
        ids = [new_id() for _ in range(3)]
        key = os.urandom(32)
        writer = sealed.SealedWriter(*ids, START, key)
        info = RecordingInfo(
            recording_id=ids[0],
            call_id="c",
            tenant_id=ids[1],
            line_id=ids[2],
            started_ns=START,
            parties=tuple(Party(role=role) for role in self.roles),
            tracks=tuple(TrackInfo(track=n, party=n, formats=self.formats) for n in range(len(self.roles))),
        )
        out = [writer.header, writer.frame([sealed.pack_info(info), *map(sealed.pack_mark, self.marks)])]
        if self.reports:
            rows = np.zeros(len(self.reports), sealed.RTCP_DTYPE)
            for row, (track, ssrc, timestamp, ntp, arrival) in zip(rows, self.reports, strict=True):
                row["track"], row["ssrc"], row["timestamp"] = track, ssrc, timestamp & 0xFFFFFFFF
                row["ntp"], row["arrival_ns"] = int(ntp * 2**32), START + arrival
            out.append(writer.frame([sealed.pack_rtcp(rows)]))
        ordered = sorted(self.packets, key=lambda packet: packet.arrival_ns)
        second = 0
        while ordered:
            second += 1
            now = [packet for packet in ordered if packet.arrival_ns < second * SECOND]
            ordered = ordered[len(now) :]
            if now:
                out.append(writer.frame(self._blocks(writer, now)))
        if ended:
            out.append(writer.end(START + self.duration_ns))
        return b"".join(out), key

    def _blocks(self, writer, packets):
        groups = sorted({(packet.track, packet.event) for packet in packets})
        rows = [[p for p in packets if (p.track, p.event) == group] for group in groups]
        flat = [p for row in rows for p in row]
        columns = sealed.PacketColumns(
            np.array([p.sequence for p in flat], np.uint16),
            np.array([p.timestamp for p in flat], np.uint32),
            np.array([START + p.arrival_ns for p in flat], np.int64),
            np.array([p.payload_type for p in flat], np.uint8),
            np.array([p.ssrc for p in flat], np.uint32),
            np.array([len(p.payload) for p in flat], np.uint16),
            b"".join(p.payload for p in flat),
        )
        starts = np.cumsum([0] + [len(row) for row in rows])
        prepared = sealed.prepare(columns, starts, [g[0] for g in groups], event=[g[1] for g in groups])
        media = [p for p in flat if not p.event]
        writer.count(len(media), sum(len(p.payload) for p in media), len(flat) - len(media))
        return [prepared.block(number) for number in range(len(groups))]

    def load(self, **options):
        return load(sealed.SealedReader(*self.seal(**options)))
