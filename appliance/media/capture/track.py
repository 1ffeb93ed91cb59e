"""What one track takes: which sources and SSRCs are its voice, and when packets are dropped.

Most packets never come here: `Intake` lets those of the established source and SSRC of an undisturbed track pass as
arrays. What is left is decided here, packet by packet, without sockets and without a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from appliance.media.capture.gate import Gate

RUN = 4
"""Consecutive packets that make a new SSRC a voice (RFC 3550 appendix A.1 asks for two; strays come in pairs)."""
QUIET_NS = 200_000_000
"""How long the established source must have been silent before another one is believed."""
QUIET_SAID_NS = 2_000_000_000
"""The same where it speaks from where signaling has said: who does that seldom moves without a word."""
PATIENCE_NS = 2_000_000_000
"""A newcomer that has not made its run in this time is refused."""
MAX_CANDIDATES = 8
MAX_WAITING = 64
MAX_SSRCS = 1024
_MAX_SKIP = 16  # packets a run may miss


class Verdict(IntEnum):
    """What becomes of a packet."""

    NONE = 0
    KEEP = 1
    DROP = 2  # paused, held, or after the end
    REFUSE = 3  # not RTP, wrong key, too large, from nowhere
    WAIT = 4  # of a newcomer that may still make its run
    RTCP = 5


@dataclass(slots=True)
class _Candidate:
    """A newcomer: its packets wait in the arena until it is believed or refused."""

    first_ns: int
    last_ns: int
    sequence: int
    run: int = 1
    rows: list[int] = field(default_factory=list)


@dataclass(slots=True)
class TrackColumns:
    """Columns of the packets of one track that one tick brought, in order of arrival.

    `row` is each one's row in the arena.
    """

    row: NDArray[np.int64]
    arrival_ns: NDArray[np.int64]
    valid: NDArray[np.bool_]
    rtcp: NDArray[np.bool_]
    ssrc: NDArray[np.uint32]
    source: NDArray[np.uint64]
    sequence: NDArray[np.uint16]


class Track:
    """The rules of one track."""

    __slots__ = (
        "_candidates",
        "authenticated",
        "ended",
        "heard_ns",
        "hold",
        "number",
        "pause",
        "released",
        "said",
        "source",
        "ssrc",
        "ssrcs",
    )

    def __init__(self, number: int, *, authenticated: bool = False) -> None:
        self.number = number
        self.authenticated = authenticated
        """SRTP: the key proves who sends, so that no newcomer need wait."""
        self.pause = Gate()
        self.hold = Gate()
        self.ended = Gate()
        self.ssrc = 0
        self.source = 0
        self.said = 0
        """Where signaling says that the participant is, as a source; 0: it does not. Whoever was first, a voice from there
        is the participant's."""
        self.ssrcs: dict[int, None] = {}
        self.heard_ns = 0
        self.released: list[int] = []
        """Rows of earlier ticks that waited and are kept now; whoever reads them empties the list."""
        self._candidates: dict[tuple[int, int], _Candidate] = {}

    @property
    def established(self) -> bool:
        return bool(self.ssrcs)

    @property
    def plain(self) -> bool:
        """Packets of the present source and SSRC need no second look."""
        return self.established and self.pause.idle and self.hold.idle and self.ended.idle

    @property
    def shut(self) -> bool:
        return self.pause.shut or self.hold.shut or self.ended.shut

    @property
    def shut_since(self) -> int:
        """From when on packets are dropped until further notice; far in the future where they are not."""
        return min(self.pause.shut_since, self.hold.shut_since, self.ended.shut_since)

    def prune(self, before_ns: int) -> None:
        """Forgets spans that can concern no packet any more."""
        self.pause.prune(before_ns)
        self.hold.prune(before_ns)

    def dropped(self, arrival_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which packets fall into a pause, a hold, or behind the end."""
        return self.pause.dropped(arrival_ns) | self.hold.dropped(arrival_ns) | self.ended.dropped(arrival_ns)

    def admit(self, packets: TrackColumns) -> NDArray[np.uint8]:
        """A verdict for each packet. Rows that were waiting and are kept now come in `released`."""
        verdicts = np.full(len(packets.row), Verdict.REFUSE, np.uint8)
        verdicts[packets.rtcp] = Verdict.RTCP
        dropped = self.dropped(packets.arrival_ns)
        known = packets.valid & (packets.ssrc == self.ssrc) & (packets.source == np.uint64(self.source))
        if self.established and known.all():
            verdicts[:] = np.where(dropped, Verdict.DROP, Verdict.KEEP)
            if len(verdicts):
                self.hear(int(packets.arrival_ns[-1]))
            return verdicts
        for index in np.flatnonzero(packets.valid).tolist():
            verdict = self._judge(
                int(packets.row[index]),
                int(packets.arrival_ns[index]),
                int(packets.ssrc[index]),
                int(packets.source[index]),
                int(packets.sequence[index]),
                bool(dropped[index]),
            )
            verdicts[index] = verdict
        if self.released:
            here = np.isin(packets.row, self.released)
            verdicts[here & (verdicts == Verdict.WAIT)] = Verdict.KEEP
            mine = set(packets.row[here].tolist())
            self.released = [row for row in self.released if row not in mine]
        return verdicts

    def _judge(
        self, row: int, arrival_ns: int, ssrc: int, source: int, sequence: int, dropped: bool
    ) -> Verdict:
        keep = Verdict.DROP if dropped else Verdict.KEEP
        if source == self.source and ssrc in self.ssrcs:
            self.hear(arrival_ns)
            if ssrc != self.ssrc and self._run(row, arrival_ns, ssrc, source, sequence, True) >= RUN:
                # An earlier voice of this track speaks again; until now its packets were late ones.
                del self._candidates[(ssrc, source)]
                self.ssrc = ssrc
            return keep
        if not self.established or (self.authenticated and len(self.ssrcs) < MAX_SSRCS):
            self._accept(ssrc, source)
            self.hear(arrival_ns)
            return keep
        run = self._run(row, arrival_ns, ssrc, source, sequence, dropped)
        quiet = QUIET_SAID_NS if self.said and self.source == self.said else QUIET_NS
        moved = source != self.source and source != self.said
        if run < RUN or (moved and arrival_ns - self.heard_ns < quiet):
            return Verdict.DROP if dropped else Verdict.WAIT
        self.released.extend(self._candidates.pop((ssrc, source)).rows)
        self._accept(ssrc, source)
        self.hear(arrival_ns)
        return keep

    def hear(self, arrival_ns: int) -> None:
        """The established source spoke then: whoever spoke from elsewhere meanwhile was not its successor."""
        if arrival_ns <= self.heard_ns:
            return
        self.heard_ns = arrival_ns
        for (_, source), candidate in self._candidates.items():
            if source not in (self.source, self.said):
                candidate.rows.clear()
                candidate.run = 0

    def _accept(self, ssrc: int, source: int) -> None:
        self.ssrcs.pop(ssrc, None)
        self.ssrcs[ssrc] = None
        if len(self.ssrcs) > MAX_SSRCS:
            del self.ssrcs[next(iter(self.ssrcs))]
        self.ssrc = ssrc
        self.source = source

    def _run(self, row: int, arrival_ns: int, ssrc: int, source: int, sequence: int, dropped: bool) -> int:
        """Adds a packet to its newcomer; how many have come in a row."""
        pair = (ssrc, source)
        candidate = self._candidates.get(pair)
        if candidate is None:
            if len(self._candidates) >= MAX_CANDIDATES:
                del self._candidates[next(iter(self._candidates))]  # the oldest
            candidate = self._candidates[pair] = _Candidate(arrival_ns, arrival_ns, sequence)
        else:
            ahead = sequence - candidate.sequence & 0xFFFF
            candidate.run = candidate.run + 1 if 0 < ahead <= _MAX_SKIP else 1
            candidate.sequence = sequence
            candidate.last_ns = arrival_ns
        if not dropped:
            candidate.rows.append(row)
            if len(candidate.rows) > MAX_WAITING:
                del candidate.rows[0]
        return candidate.run

    def expire(self, now_ns: int) -> None:
        """Refuses newcomers that did not make their run in time."""
        if not self._candidates:
            return
        for pair, candidate in list(self._candidates.items()):
            if (
                now_ns - candidate.first_ns > PATIENCE_NS and candidate.run < RUN
            ) or now_ns - candidate.last_ns > PATIENCE_NS:
                del self._candidates[pair]

    @property
    def waiting(self) -> list[int]:
        """Arena rows of packets that may still be kept."""
        return [row for candidate in self._candidates.values() for row in candidate.rows]

    def move_waiting(self, moved: dict[int, int]) -> None:
        """Tells where waiting rows lie now; rows that are not named are gone."""
        for candidate in self._candidates.values():
            candidate.rows = [moved[row] for row in candidate.rows if row in moved]

    def forget_waiting(self, rows: Iterable[int]) -> None:
        """Rows that must not be kept any more, whoever sent them."""
        gone = set(rows)
        for candidate in self._candidates.values():
            candidate.rows = [row for row in candidate.rows if row not in gone]
