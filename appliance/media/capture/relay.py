"""Passes packets on between the participants of a call, in the tick in which they were received.

Works on the rows of an arena as arrays: who hears whom, where it receives, and what has to be changed on the way are tables
by slot. What nothing has to be changed in leaves from where it was received. Relaying knows nothing of pauses and holds;
it comes before the recording's verdict is carried out.
"""

from __future__ import annotations

import itertools
import struct

import numpy as np
from numpy.typing import NDArray

from appliance.media.capture.batch import Batch
from appliance.media.capture.clock import StepClock
from appliance.media.capture.delays import Delays
from appliance.media.capture.leg import KEY_PAUSE_NS, Leg
from appliance.media.capture.wiring import BURST, Wiring
from appliance.media.rtp.events import STEP_MS, Event
from appliance.media.rtp.receive import CELL
from appliance.media.rtp.rollover import RolloverStore
from appliance.media.rtp.rtcp import parse_compound
from appliance.media.rtp.send import NAME, Outgoing, host_part, sendable
from appliance.media.rtp.srtp import protect_each

RTCP_BURST = 16
_ROWS = 1024
_STEP_NS = STEP_MS * 1_000_000
_DIRECT, _SHIFTED, _SEALED, _SPECIAL = 0, 1, 2, 3


class Relay(Wiring):
    """See the module."""

    def __init__(self, clock: StepClock, rollovers: RolloverStore | None) -> None:
        super().__init__(clock, rollovers)
        self._out = Outgoing(_ROWS)
        self._lengths = np.zeros(_ROWS, np.uint32)
        self.delays = Delays(bin_ns=100_000, bins=5000, commits=256)
        self.relayed = 0
        self.failed = 0
        self.played = 0
        self.over_rate = 0

    def settle(self, leg: Leg) -> None:
        """How packets to this participant are passed on from now on."""
        slot = leg.slot
        if leg.special:
            self._mode[slot] = _SPECIAL
            return
        if leg.sender is not None:
            self._mode[slot] = _SEALED
            return
        ssrc = int(self._last_ssrc[slot])
        stream = leg.streams.get(ssrc)
        if all(other.plain for other in leg.streams.values()):
            self._mode[slot] = _DIRECT
            return
        if stream is None or stream.highest is None:
            self._mode[slot] = _SPECIAL  # until it is known which one is heard now
            return
        self._mode[slot] = _SHIFTED
        self._shift[slot] = stream.offset
        self._shift_ssrc[slot] = ssrc
        self._shift_edge[slot] = stream.highest + 1 & 0xFFFF

    def sync(self, leg: Leg) -> None:
        """Lets a participant's streams know of what went out without them."""
        slot = leg.slot
        if self.last_ns[slot] and self._mode[slot] in (_DIRECT, _SHIFTED):
            leg.heard(int(self._last_ssrc[slot]), int(self._last_seq[slot]))

    def media_time(self, leg: Leg, event: Event, clock_rate: int, wall_ns: int) -> int:
        """The RTP time of now in what a participant hears, for a key made afresh."""
        slot = leg.slot
        begin, at = event.timestamp, leg.session.wall_time(event.at_ns)
        if self.last_ns[slot] > at and int(self._last_ssrc[slot]) == event.ssrc:
            begin, at = int(self._last_ts[slot]), int(self.last_ns[slot])
        return begin + max(wall_ns - at, 0) * clock_rate // 1_000_000_000 & 0xFFFFFFFF

    # packets

    def refill(self) -> None:
        """Every 200 ms: what may be passed on in the next."""
        self._budget.fill(BURST)
        for leg in self.legs.values():
            leg.reports = 0

    def believed(self, batch: Batch) -> NDArray[np.bool_]:
        """Packets of the participants themselves: from their established source, or from where they say they receive, or
        under their key."""
        found = batch.source == batch.voice[batch.slot]
        found |= self._proven[batch.slot]
        found |= batch.source == self._said[batch.slot]
        found &= batch.heads.valid
        return found

    def follow(self, batch: Batch) -> None:
        """Symmetric RTP: sends to where a participant's own voice comes from."""
        served = batch.served
        voice = batch.voice[served]
        moved = (voice != self._toward[served]) & self._addressed[served] & (voice != 0)
        for slot in served[moved].tolist():
            mine = (batch.slot == slot) & (batch.source == batch.voice[slot]) & batch.heads.valid
            rows = np.flatnonzero(mine)
            leg = self.legs[slot]
            if not len(rows):
                continue
            row = int(rows[-1])
            if int(batch.source[row]) == leg.stale_key and int(batch.stamps[row]) < leg.stale_ns:
                continue
            name = batch.arena.source_name(batch.first + row)
            if sendable(name):
                self.aim(slot, name)

    def limit(self, batch: Batch, take: NDArray[np.bool_]) -> None:
        """Takes out what is more than a voice can be."""
        amounts = np.bincount(batch.slot[take], minlength=len(self._budget))
        self._budget -= amounts
        over = np.flatnonzero((self._budget < 0) & (amounts > 0))
        for slot in over.tolist():
            rows = np.flatnonzero(take & (batch.slot == slot))
            gone = rows[max(0, len(rows) + int(self._budget[slot])) :]
            take[gone] = False
            self.over_rate += len(gone)

    def pass_whole(self, batch: Batch) -> bool:
        """Passes a batch on in which nothing is out of the ordinary, as nearly all are; False where something is."""
        served = batch.served
        hearer = self.listener[served]
        if (hearer < 0).any() or self._extra or self._mode[hearer].any():
            return False
        count = len(batch.slot)
        if count > _ROWS or not self._name_len[hearer].all() or int(batch.stamps.min()) < self._latest_ns:
            return False
        amounts = np.diff(batch.ends, prepend=0)
        budget = self._budget[served] - amounts
        if (budget < 0).any():
            return False
        self._budget[served] = budget
        self._note(batch, batch.ends - 1, hearer)
        first = batch.first
        where = np.arange(first, first + count, dtype=np.uint64) * np.uint64(CELL)
        where += np.uint64(batch.arena.base)
        lengths = batch.arena.lengths[first : first + count]
        self._dispatch(where, lengths, np.repeat(hearer, amounts), hearer, amounts, batch.stamps)
        return True

    def forward(self, batch: Batch, rows: NDArray[np.intp]) -> None:
        """Passes rows on to whoever hears them."""
        slot = batch.slot[rows]
        self._pass(batch, rows, self.listener[slot])
        for source, hearers in self._extra.items():
            mine = rows[slot == source]
            if len(mine):
                for hearer in hearers:
                    self._pass(batch, mine, np.full(len(mine), hearer, np.intp))

    def _pass(self, batch: Batch, rows: NDArray[np.intp], hearer: NDArray[np.intp]) -> None:
        heads = batch.heads
        mode = self._mode[hearer]
        if mode.any():
            ssrc, sequence = heads.ssrc[rows], heads.sequence[rows]
            shifted = mode == _SHIFTED
            fits = (ssrc == self._shift_ssrc[hearer]) & (sequence - self._shift_edge[hearer] < 0x8000)
            special = (mode == _SPECIAL) | (shifted & ~fits)
            if special.any():
                # All that goes to one participant goes one way, in order.
                special |= np.isin(hearer, hearer[special])
            shifted &= ~special
            if special.any():
                self._special(batch, rows[special], hearer[special])
            if shifted.any():
                self._shifted(batch, rows[shifted], hearer[shifted])
            sealed = mode == _SEALED
            if sealed.any():
                self._sealed(batch, rows[sealed], hearer[sealed])
            direct = ~(special | shifted | sealed)
            rows, hearer = rows[direct], hearer[direct]
        if len(rows):
            self._note(batch, rows, hearer)
            lengths = batch.arena.lengths
            for at in range(0, len(rows), _ROWS):
                part, to = rows[at : at + _ROWS], hearer[at : at + _ROWS]
                where = (part + batch.first).astype(np.uint64) * np.uint64(CELL) + np.uint64(batch.arena.base)
                self._send(where, lengths[batch.first + part], to, batch.stamps[part])

    def _note(self, batch: Batch, rows: NDArray[np.intp], hearer: NDArray[np.intp]) -> None:
        """What each has heard last: of several, the last assignment is the one that stays."""
        heads = batch.heads
        self._last_ssrc[hearer] = heads.ssrc[rows]
        self._last_seq[hearer] = heads.sequence[rows]
        self._last_ts[hearer] = heads.timestamp[rows]
        self.last_second[hearer] = heads.second[rows]
        self.last_ns[hearer] = batch.stamps[rows]

    def _shifted(self, batch: Batch, rows: NDArray[np.intp], hearer: NDArray[np.intp]) -> None:
        """Packets that go out under another number and are changed in nothing else."""
        self._note(batch, rows, hearer)
        for at in range(0, len(rows), _ROWS):
            part, to = rows[at : at + _ROWS], hearer[at : at + _ROWS]
            cells = self._out.cells[: len(part)]
            cells[:, :CELL] = batch.arena.cells[batch.first + part]
            number = batch.heads.sequence[part] + self._shift[to]
            cells[:, 2] = number >> 8
            cells[:, 3] = number & 0xFF
            self._send(None, batch.arena.lengths[batch.first + part], to, batch.stamps[part])
            self._wipe(len(part))

    def _wipe(self, rows: int) -> None:
        """What a pause drops stays nowhere in memory."""
        self._out.cells[:rows] = 0

    def _sealed(self, batch: Batch, rows: NDArray[np.intp], hearer: NDArray[np.intp]) -> None:
        """Packets that are encrypted and changed in nothing but their number."""
        self._note(batch, rows, hearer)
        heads, cells = batch.heads, self._out.cells
        for at in range(0, len(rows), _ROWS):
            part, to = rows[at : at + _ROWS], hearer[at : at + _ROWS]
            cells[: len(part), :CELL] = batch.arena.cells[batch.first + part]
            lengths = batch.arena.lengths[batch.first + part]
            ssrcs, sequences = heads.ssrc[part].tolist(), heads.sequence[part].tolist()
            senders = []
            for row, slot in enumerate(to.tolist()):
                leg = self.legs[slot]
                assert leg.sender is not None
                senders.append(leg.sender)
                number = leg.stream(ssrcs[row]).number(sequences[row])
                if number != sequences[row]:
                    cells[row, 2], cells[row, 3] = number >> 8, number & 0xFF
                    sequences[row] = number
            good = protect_each(senders, cells, lengths, 0, ssrcs, sequences)
            count = len(part)
            if len(good) < count:
                chosen = np.asarray(good, np.intp)
                cells[: len(good)] = cells[chosen]
                part, to, lengths = part[chosen], to[chosen], lengths[chosen]
            if good:
                self._send(None, lengths, to, batch.stamps[part])
            self._wipe(count)

    def _special(self, batch: Batch, rows: NDArray[np.intp], hearer: NDArray[np.intp]) -> None:
        """Packets that each must be looked at, one participant after the other."""
        for at in range(0, len(rows), _ROWS):
            part, to = rows[at : at + _ROWS], hearer[at : at + _ROWS]
            edges = [0, *(np.flatnonzero(np.diff(to)) + 1).tolist(), len(to)]
            used = 0
            toward: list[int] = []
            stamps = []
            for begin, end in itertools.pairwise(edges):
                leg = self.legs[int(to[begin])]
                self.sync(leg)
                mine = part[begin:end]
                count = leg.prepare(batch, mine.tolist(), self._out.cells, self._lengths, used)
                self._note(batch, mine, to[begin:end])
                self.settle(leg)
                toward += [leg.slot] * count
                stamps.append(batch.stamps[mine[len(mine) - count :]])
                used += count
            if used:
                self._send(
                    None, self._lengths[:used].copy(), np.array(toward, np.intp), np.concatenate(stamps)
                )
            self._wipe(len(part))

    def _send(
        self,
        where: NDArray[np.uint64] | None,
        lengths: NDArray[np.uint32],
        hearer: NDArray[np.intp],
        stamps: NDArray[np.int64],
    ) -> None:
        """Sends prepared rows, group by group of one participant. Those that are to be sent nowhere are left out."""
        name_len = self._name_len[hearer]
        if not name_len.all():
            open_ = np.flatnonzero(name_len)
            if where is None:
                self._out.cells[: len(open_)] = self._out.cells[open_]
            else:
                where = where[open_]
            lengths, hearer, stamps = lengths[open_], hearer[open_], stamps[open_]
            if not len(open_):
                return
        starts = np.flatnonzero(np.diff(hearer, prepend=-1))
        counts = np.diff(starts, append=len(hearer))
        self._dispatch(where, lengths, hearer, hearer[starts], counts, stamps)

    def _dispatch(
        self,
        where: NDArray[np.uint64] | None,
        lengths: NDArray[np.uint32],
        hearer: NDArray[np.intp],
        groups: NDArray[np.intp],
        counts: NDArray[np.intp],
        stamps: NDArray[np.int64],
    ) -> None:
        """Sends rows: `hearer` of each, `groups` of consecutive ones of one participant, with how many each has."""
        names = np.uint64(self._names.ctypes.data) + hearer.astype(np.uint64) * np.uint64(NAME)
        self._out.fill(0, where, lengths, names, self._name_len[hearer])
        failed = self._out.send(self._fd[groups].tolist(), counts.tolist())
        if any(failed):
            lost = np.asarray(failed)
            self.failed += int(lost.sum())
            counts = counts - lost
        self.relayed += int(counts.sum())
        self.sent[groups] += counts  # a participant is in one group only
        self.delays.add([stamps], self._clock.wall())

    def count_own(self, leg: Leg, code: int) -> bool:
        """Notes what became of a packet of the box's own (see Leg.post); whether it was sent."""
        if code > 0:
            self.failed += 1
        elif not code:
            self.sent[leg.slot] += 1
            self.played += 1
        return not code

    def make(self, leg: Leg, now_ns: int, wall_ns: int) -> None:
        """Sends what is due of keys made afresh; `now_ns` by the monotonic clock."""
        while leg.making and leg.making[0].next_ns <= now_ns:
            making = leg.making[0]
            found = None if leg.muted else making.maker.next()
            if found is None:
                leg.making.popleft()
                if leg.making:
                    leg.making[0].next_ns = max(leg.making[0].next_ns, now_ns + KEY_PAUSE_NS)
                continue
            payload, marker = found
            if making.timestamp is None:
                making.timestamp = self.media_time(leg, making.event, making.maker.clock_rate, wall_ns)
            number = leg.stream(making.event.ssrc).insert()
            if number is not None:
                second = making.second & 127 | (0x80 if marker else 0)
                head = struct.pack(">BBHII", 0x80, second, number, making.timestamp, making.event.ssrc)
                self.count_own(leg, leg.post(head + payload, self.name(leg.slot)))
            making.next_ns += _STEP_NS

    # RTCP

    def control(self, slot: int, data: bytes, name: bytes) -> None:
        """Passes a compound packet on, as it is, where it comes from the participant itself. `data` is not encrypted."""
        leg = self.legs.get(slot)
        if leg is None:
            return
        leg.reports += 1
        hosts = {host_part(known) for known in (leg.said_name, self.name(slot)) if known}
        if leg.reports > RTCP_BURST or not (self._proven[slot] or host_part(name) in hosts):
            return
        if not parse_compound(data).whole:
            return
        if leg.opened.pair.rtcp is not None and leg.rtcp_name and sendable(name):
            leg.rtcp_name = name
        for hearer in self.hearers(slot):
            to = hearer.rtcp_name if hearer.opened.pair.rtcp is not None else self.name(hearer.slot)
            if self._name_len[hearer.slot] and hearer.post_rtcp(data, to) > 0:
                self.failed += 1
