"""Where each packet of a track belongs on the timeline of its recording. Pure: arrays in, arrays out.

The rule is RTP's own: packets stand by their timestamps, so that within speech every sample keeps its place. What RTP
cannot say is where a source's clock begins, when it is restarted, and how it drifts. That is taken from arrival times (and
sender reports): for a stretch of packets, the one that came fastest tells when the stretch was sent. A source is moved
against the timeline only where nothing is heard of it: at a pause between words, a loss, a silent packet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

TOLERANCE_NS = 40e6
"""A source is moved when it is off by more than this."""
HIDDEN_GAP_NS = 150e6
"""Packets that follow each other by number and timestamp, but not in time, by more than this: the sender stood still."""
RESTART_NS = 200e6
"""A timestamp that jumps ahead of arrival by more than this has a new beginning."""
WINDOW = 512
"""Packets among which the fastest is looked for: ten seconds."""
MAX_AHEAD = 3000  # RFC 3550 appendix A.1: MAX_DROPOUT
MAX_BEHIND = 100  # and MAX_MISORDER
_MIN_REPORTS = 3
_REPORT_SPAN_NS = 150e6
_CLOCKS = (8000, 16000, 32000, 48000)


@dataclass(frozen=True, slots=True)
class TrackPackets:
    """Packets of one track in order of arrival; one entry per packet.

    `clock`: RTP clock rate in Hz. `length_ns`: how long its sound is (0: comfort noise, or not known). `quiet` tells, when
    it must be known, which packets hold no speech, so that their source may be moved there.
    """

    sequence: npt.NDArray[np.uint16]
    timestamp: npt.NDArray[np.uint32]
    arrival_ns: I64
    ssrc: npt.NDArray[np.uint32]
    clock: I64
    length_ns: I64
    quiet: Callable[[], Bool]

    def __len__(self) -> int:
        return len(self.sequence)


@dataclass(frozen=True, slots=True)
class Reports:
    """Sender reports of one track (RFC 3550 section 6.4.1), in order of arrival."""

    ssrc: npt.NDArray[np.uint32]
    timestamp: npt.NDArray[np.uint32]
    ntp: npt.NDArray[np.uint64]
    arrival_ns: I64

    @classmethod
    def none(cls) -> Reports:
        """No reports."""
        return cls(
            np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0, np.uint64), np.zeros(0, np.int64)
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where packets belong. `order` holds indices of those that are kept, source by source, in order of speech.

    A packet begins `base_ns + ticks / clock` after the start of the recording; packets with the same `base_ns` and source
    are exact to the sample among themselves. `source` numbers the voices of the track.
    """

    order: I64
    source: I64
    base_ns: I64
    ticks: I64
    clock: I64
    duplicates: int
    moves: int  # how often a source was moved against the timeline, after its beginning
    lost: int  # packets that never came
    loss_ns: I64  # (n, 2): from, until, of each run of lost packets

    def __len__(self) -> int:
        return len(self.order)


def place(packets: TrackPackets, reports: Reports, start_ns: int) -> Placement:
    """Places the packets of one track on a timeline that begins at `start_ns`."""
    if not len(packets):
        none = np.zeros(0, np.int64)
        return Placement(none, none, none, none, none, 0, 0, 0, np.zeros((0, 2), np.int64))
    # A source is an SSRC with one clock: a change of payload format may change the clock.
    key = packets.ssrc.astype(np.int64) << 20 | np.clip(packets.clock, 1, (1 << 20) - 1)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    grouped = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[grouped], np.arange(len(first) + 1))
    parts: list[Placement] = []
    for number in np.argsort(first, kind="stable").tolist():
        index = grouped[bounds[number] : bounds[number + 1]]
        parts.append(_Source(packets, index, reports, start_ns).placed(len(parts)))

    def joined(name: str) -> I64:
        return np.concatenate([getattr(part, name) for part in parts])

    return Placement(
        order=joined("order"),
        source=joined("source"),
        base_ns=joined("base_ns"),
        ticks=joined("ticks"),
        clock=joined("clock"),
        duplicates=sum(part.duplicates for part in parts),
        moves=sum(part.moves for part in parts),
        lost=sum(part.lost for part in parts),
        loss_ns=joined("loss_ns"),
    )


class _Source:
    """One SSRC of a track."""

    def __init__(self, packets: TrackPackets, index: I64, reports: Reports, start_ns: int) -> None:
        self._packets = packets
        self._reports = reports
        self._start_ns = start_ns
        self._sort(index)
        index = self.index
        self.clock = self._true_clock(int(packets.clock[index[0]]))
        self.time = np.zeros(len(index), np.int64)  # timestamps, unwrapped
        steps = np.diff(packets.timestamp[index]).view(np.int32)
        np.cumsum(steps, dtype=np.int64, out=self.time[1:])
        self.arrival = packets.arrival_ns[index] - start_ns
        # When the source's timestamp 0 would have been sent, by each packet.
        self.offset = self.arrival - self.time * (1e9 / self.clock)

    def _sort(self, index: I64) -> None:
        """Order of speech, without duplicates: by sequence number, within chapters; each begins where numbering does."""
        sequence = self._packets.sequence[index]
        step = np.diff(sequence).view(np.int16).astype(np.int64)
        extended = np.concatenate([[0], np.cumsum(step)])
        far = np.concatenate([[False], (step > MAX_AHEAD) | (step < -MAX_BEHIND)])
        if far.any():
            # One packet far off between two that belong together is late, not a new beginning.
            across = np.full(len(index), MAX_AHEAD + 1, np.int64)
            across[1:-1] = (sequence[2:] - sequence[:-2]).view(np.int16)
            late = far & np.append(far[1:], False) & (across >= -MAX_BEHIND) & (across <= MAX_AHEAD)
            far &= ~(late | np.concatenate([[False], late[:-1]]))
        chapter = np.cumsum(far)
        order = np.lexsort((extended, chapter))
        chapter, extended = chapter[order], extended[order]
        fresh = np.ones(len(index), np.bool_)
        fresh[1:] = (np.diff(extended) != 0) | (np.diff(chapter) != 0)
        self.duplicates = int(len(index) - np.count_nonzero(fresh))
        self.index = index[order][fresh]
        self.extended = extended[fresh]
        self.opens: Bool = np.ones(len(self.index), np.bool_)
        self.opens[1:] = np.diff(chapter[fresh]) != 0

    def _true_clock(self, stated: int) -> int:
        """The clock that fits the lengths of packets: some senders of wideband sound count in its sample rate."""
        packets, index = self._packets, self.index
        length = packets.length_ns[index][:-1]
        use = (np.diff(self.extended) == 1) & (length > 0) & ~self.opens[1:]
        if np.count_nonzero(use) < 10:
            return stated
        steps = np.diff(packets.timestamp[index])[use].astype(np.float64)
        rate = float(np.median(steps / length[use])) * 1e9
        if abs(rate / stated - 1) < 0.02:
            return stated
        return next((clock for clock in _CLOCKS if abs(rate / clock - 1) < 0.02), stated)

    def placed(self, number: int) -> Placement:
        """The placement of this source as voice `number`."""
        index = self.index
        count = len(index)
        length = np.rint(self._packets.length_ns[index] * (self.clock / 1e9)).astype(np.int64)
        numbers = np.diff(self.extended)
        step = np.diff(self.time)
        # What the timestamp should be if every packet were as long as the one before it.
        expected = length[:-1] * np.maximum(numbers, 1)
        tight = np.zeros(count, np.bool_)  # this packet goes on exactly where the one before it ended
        tight[1:] = (numbers == 1) & (step == length[:-1]) & ~self.opens[1:]
        ahead = np.zeros(count, np.bool_)
        ahead[1:] = step - expected > RESTART_NS * self.clock / 1e9
        estimate = self._estimate(ahead)
        bases, starts = self._moves(estimate, tight, length)
        group = np.zeros(count, np.int64)
        group[starts[1:]] = 1
        group = np.cumsum(group)
        origin = self.time[starts]
        base_ns = np.rint(np.asarray(bases) + origin * (1e9 / self.clock)).astype(np.int64)
        ticks = self.time - origin[group]
        missing = np.flatnonzero((numbers > 1) & ~self.opens[1:])
        begin = base_ns[group] + np.rint(ticks * (1e9 / self.clock)).astype(np.int64)
        ends = begin + self._packets.length_ns[index]
        return Placement(
            order=index,
            source=np.full(count, number, np.int64),
            base_ns=base_ns[group],
            ticks=ticks,
            clock=np.full(count, self.clock, np.int64),
            duplicates=self.duplicates,
            moves=len(starts) - 1,
            lost=int((numbers[missing] - 1).sum()),
            loss_ns=np.stack([ends[missing], begin[missing + 1]], axis=1),
        )

    def _estimate(self, ahead: Bool) -> F64:
        """For each packet, the offset of the fastest one from it on, as far as the source's clock is the same."""
        offset = self.offset
        part = np.cumsum(self.opens, dtype=np.int64)
        # A clock that was set forward makes all that follows look fast: what came before must not be judged by it.
        before = _windowed_minimum(offset[::-1], part[::-1])[::-1]
        restart = ahead.copy()
        restart[1:] &= offset[1:] < before[:-1] - RESTART_NS
        estimate = _windowed_minimum(offset, np.cumsum(self.opens | restart, dtype=np.int64))
        return self._by_reports(estimate)

    def _by_reports(self, estimate: F64) -> F64:
        """Sender reports give the clock's course without the network's jitter; they are believed where both agree."""
        reports = self._reports
        mine = np.flatnonzero(reports.ssrc == self._packets.ssrc[self.index[0]])
        mine = mine[reports.ntp[mine] != 0]
        if len(mine) < _MIN_REPORTS:
            return estimate
        sent_ns = (reports.ntp[mine] >> np.uint64(32)).astype(np.float64) * 1e9
        sent_ns += (reports.ntp[mine] & np.uint64(0xFFFFFFFF)).astype(np.float64) * (1e9 / 2**32)
        sent_ns -= sent_ns[0]
        # The packet that came last before the report tells which turn of the timestamp is meant.
        by_arrival = np.argsort(self.arrival, kind="stable")
        near = np.searchsorted(self.arrival[by_arrival], reports.arrival_ns[mine] - self._start_ns)
        near = by_arrival[np.clip(near - 1, 0, len(by_arrival) - 1)]
        turn = (reports.timestamp[mine] - self._packets.timestamp[self.index[near]]).view(np.int32)
        time = self.time[near] + turn
        rising = np.ones(len(mine), np.bool_)
        rising[1:] = (np.diff(time) > 0) & (np.diff(sent_ns) > 0)
        if not rising.all():
            return estimate  # a clock that was set: arrival times alone are safer
        course = np.interp(self.time, time, sent_ns - time * (1e9 / self.clock))
        course += np.median(estimate - course)  # the sender's wall clock is not ours
        return np.where(np.abs(course - estimate) < _REPORT_SPAN_NS, course, estimate)

    def _moves(self, estimate: F64, tight: Bool, length: I64) -> tuple[list[float], I64]:
        """Where the source is moved, and to what offset: the first is its beginning."""
        packets, index = self._packets, self.index
        base = float(estimate[0])
        if np.abs(estimate - base).max() <= TOLERANCE_NS:
            return [base], np.zeros(1, np.int64)  # nearly always
        step_ns = np.concatenate([[0.0], np.diff(self.time) * (1e9 / self.clock)])
        wait_ns = np.concatenate([[0], np.diff(self.arrival)])
        hidden = wait_ns - step_ns > HIDDEN_GAP_NS
        # How long nothing was said before each packet: so far it may be moved back without covering speech.
        quiet = packets.quiet()[index]
        lengths = packets.length_ns[index].astype(np.float64)
        silence = np.cumsum(np.where(quiet, lengths, 0.0))
        silence -= np.maximum.accumulate(np.where(quiet, 0.0, silence))
        room_ns = step_ns
        room_ns[1:] += silence[:-1] - lengths[:-1]
        candidates = np.flatnonzero(~tight | hidden | quiet)
        bases = [base]
        starts = [0]
        opens = self.opens
        for at, wanted, room in zip(
            candidates.tolist(), estimate[candidates].tolist(), room_ns[candidates].tolist(), strict=True
        ):
            move = wanted - base
            if at == 0 or -TOLERANCE_NS <= move <= TOLERANCE_NS:
                continue
            if move < 0 and room < -move <= RESTART_NS and not opens[at]:
                continue  # it would cover what was just said; the next silence will do
            base = wanted
            bases.append(base)
            starts.append(at)
        return bases, np.asarray(starts, np.int64)


def _windowed_minimum(values: F64, part: npt.NDArray[np.int64]) -> F64:
    """For each value the least of it and the WINDOW - 1 after it, within its part. `part` never goes back on itself."""
    least = values.copy()
    reach = 1
    while reach < min(WINDOW, len(values)):
        same = part[reach:] == part[:-reach]
        np.minimum(least[:-reach], np.where(same, least[reach:], np.inf), out=least[:-reach])
        reach *= 2
    return least
