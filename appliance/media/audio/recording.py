"""Reads a sealed recording into memory as it is kept: payloads still encoded, columns joined per track."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from appliance.media.audio.codecs import Codec, Silent, Stateless, codec_for
from appliance.media.audio.formats import resolve
from appliance.media.audio.timeline import Placement, Reports, TrackPackets, place
from appliance.model import (
    ExhaustedError,
    Mark,
    MarkKind,
    PayloadFormat,
    RecordingInfo,
    Role,
    TrackInfo,
)
from appliance.storage.sealed import (
    RTCP_DTYPE,
    EndBlock,
    InfoBlock,
    MarkBlock,
    PacketBlock,
    RtcpBlock,
    SealedReader,
    join_packets,
)

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
MAX_PAYLOAD_BYTES = 2 << 30  # in memory at once; G.711 of two parties for 37 hours
MAX_DURATION_NS = 7 * 86_400_000_000_000
MAX_MARKS = 100_000
MAX_TRACKS = 1024
_FALLBACK_RATE = 8000
_PAUSING = {MarkKind.PAUSED: MarkKind.RESUMED, MarkKind.HELD: MarkKind.UNHELD}
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Track:
    """One track, placed: sound packets only, in order of speech. One entry per packet in each array."""

    number: int
    info: TrackInfo
    role: Role
    codecs: list[Codec]
    codec: I64  # index into codecs
    placement: Placement
    offset: I64
    size: I64
    samples: I64
    payload: U8
    packets: int
    losses: list[tuple[int, int]] = field(default_factory=list)  # ns from the start: what never came


@dataclass(slots=True)
class Recording:
    """A recording as placed sound. Times are nanoseconds; `start_ns` is the Unix time of its first sample."""

    info: RecordingInfo | None
    start_ns: int
    duration_ns: int
    tracks: list[Track]
    marks: list[Mark]
    whole: bool
    notes: list[str]
    """What was not rendered and why, in plain words without personal data."""


class _TrackParts:
    def __init__(self) -> None:
        self.blocks: list[PacketBlock] = []
        self.info = TrackInfo(track=-1)
        self.formats: list[PayloadFormat] = []


def load(reader: SealedReader, progress: Progress | None = None) -> Recording:
    """Reads all of `reader` and places its packets.

    `progress(frames read, 0)` is called now and then. Memory: the payload bytes, plus about 100 bytes a packet. Raises
    what the reader raises, and ExhaustedError beyond 2 GiB of payload.
    """
    info: RecordingInfo | None = None
    marks: list[Mark] = []
    parts: dict[int, _TrackParts] = {}
    rtcp: list[npt.NDArray[np.void]] = []
    end: EndBlock | None = None
    total = 0
    for number, blocks in enumerate(reader.frames()):
        for block in blocks:
            if isinstance(block, PacketBlock):
                total += len(block.payload) + 100 * len(block)
                if total > MAX_PAYLOAD_BYTES or len(parts) > MAX_TRACKS:
                    raise ExhaustedError(
                        "this recording is too large to render at once", limit=MAX_PAYLOAD_BYTES
                    )
                part = parts.setdefault(block.track, _TrackParts())
                if block.audio:
                    part.blocks.append(block)
            elif isinstance(block, InfoBlock):
                info = block.info
                for track in info.tracks:
                    part = parts.setdefault(track.track, _TrackParts())
                    part.info = track
                    # A format that a later offer no longer names still decodes what came before.
                    part.formats.extend(item for item in track.formats if item not in part.formats)
            elif isinstance(block, MarkBlock):
                if len(marks) < MAX_MARKS:
                    marks.append(block.mark)
            elif isinstance(block, RtcpBlock):
                rtcp.append(block.reports)
            elif isinstance(block, EndBlock):
                end = block
        if progress is not None and number % 64 == 0:
            progress(number, 0)
    marks.sort(key=lambda mark: mark.at_ns)
    return _assemble(reader, info, marks, parts, rtcp, end)


def _assemble(
    reader: SealedReader,
    info: RecordingInfo | None,
    marks: list[Mark],
    parts: dict[int, _TrackParts],
    rtcp: list[npt.NDArray[np.void]],
    end: EndBlock | None,
) -> Recording:
    start_ns = info.started_ns if info is not None else reader.header.created_ns
    reports = np.concatenate(rtcp) if rtcp else np.zeros(0, RTCP_DTYPE)
    notes = [str(finding) for finding in reader.findings]
    tracks = []
    last_ns = start_ns
    for number in sorted(parts):
        track, until_ns = _track(number, parts[number], info, reports, start_ns, notes)
        tracks.append(track)
        last_ns = max(last_ns, until_ns)
    end_ns = end.ended_ns if end is not None else last_ns
    for mark in marks:
        if mark.kind is MarkKind.ENDED and end is None:
            end_ns = mark.at_ns
    duration = end_ns - start_ns
    if not 0 <= duration <= MAX_DURATION_NS:
        notes.append("the stated end is not possible; the last packet is taken for it")
        duration = min(max(last_ns - start_ns, 0), MAX_DURATION_NS)
    spans = silences(marks, start_ns, duration)
    for track in tracks:
        track.losses = [
            (begin, until)
            for begin, until in track.placement.loss_ns.tolist()
            if until > begin and not any(a < until and begin < b for a, b in spans)
        ]
    return Recording(info, start_ns, duration, tracks, marks, end is not None, notes)


def _track(
    number: int,
    part: _TrackParts,
    info: RecordingInfo | None,
    reports: npt.NDArray[np.void],
    start_ns: int,
    notes: list[str],
) -> tuple[Track, int]:
    columns = join_packets(part.blocks)
    payload = np.frombuffer(b"".join([block.payload for block in part.blocks]), np.uint8)
    part.blocks.clear()
    size = columns.size.astype(np.int64)
    offset = np.cumsum(size) - size
    count = len(size)
    codecs: list[Codec] = []
    codec = np.zeros(count, np.int64)
    clock = np.full(count, _FALLBACK_RATE, np.int64)
    samples = np.zeros(count, np.int64)
    length_ns = np.zeros(count, np.int64)
    for kind in np.unique(columns.payload_type).tolist():
        mine = np.flatnonzero(columns.payload_type == kind)
        stated = resolve(kind, part.formats)
        found = codec_for(stated) if stated is not None else None
        if found is None:
            name = stated.encoding if stated is not None else f"payload type {kind}"
            notes.append(f"track {number}: {len(mine)} packets of {name} cannot be decoded and are silent")
            found = Silent(stated.clock_rate if stated is not None else _FALLBACK_RATE)
        codec[mine] = len(codecs)
        codecs.append(found)
        clock[mine] = stated.clock_rate if stated is not None else _FALLBACK_RATE
        samples[mine] = found.samples(payload, offset[mine], size[mine])
        length_ns[mine] = samples[mine] * 1_000_000_000 // found.rate

    def quiet() -> npt.NDArray[np.bool_]:
        silent = np.zeros(count, np.bool_)
        for number, kind in enumerate(codecs):
            mine = np.flatnonzero(codec == number)
            if isinstance(kind, Stateless):
                silent[mine] = kind.quiet(payload, offset[mine], size[mine])
        return silent

    own = reports[reports["track"] == number]
    placement = place(
        TrackPackets(
            columns.sequence, columns.timestamp, columns.arrival_ns, columns.ssrc, clock, length_ns, quiet
        ),
        Reports(own["ssrc"].copy(), own["timestamp"].copy(), own["ntp"].copy(), own["arrival_ns"].copy()),
        start_ns,
    )
    order = placement.order
    party = part.info.party
    role = Role.UNKNOWN
    if info is not None and 0 <= party < len(info.parties):
        role = info.parties[party].role
    until = int((columns.arrival_ns + length_ns).max()) if count else start_ns
    track = Track(
        number,
        part.info,
        role,
        codecs,
        codec[order],
        placement,
        offset[order],
        size[order],
        samples[order],
        payload,
        count,
    )
    return track, until


def silences(marks: list[Mark], start_ns: int, duration_ns: int) -> list[tuple[int, int]]:
    """Spans in which nothing was kept on purpose, in ns from the start."""
    spans = []
    for begin, finish in _PAUSING.items():
        since: int | None = None
        for mark in marks:
            if mark.kind is begin and since is None:
                since = mark.at_ns - start_ns
            elif mark.kind is finish and since is not None:
                spans.append((since, mark.at_ns - start_ns))
                since = None
        if since is not None:
            spans.append((since, duration_ns))
    return spans
