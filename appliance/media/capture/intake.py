"""What one second brings: the rows of an arena with their columns, sorted out as arrays.

A slot is the place of one open track in the tables here. Every tick, `admit` gives each new row a verdict;
nearly all rows get it from three array comparisons, the rest from `Track.admit`. When a second is over,
`gather` sorts what is kept by slot, and `rewind` makes the arena empty again, carrying along the rows of
newcomers that still wait for their verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.media.capture.batch import Batch, Control
from appliance.media.capture.payloads import Gathered, payloads
from appliance.media.capture.slots import SlotTables
from appliance.media.capture.track import Track, TrackColumns, Verdict
from appliance.media.rtp.parse import Headers, parse
from appliance.media.rtp.receive import BATCH, CELL, Arena
from appliance.media.rtp.srtp import SrtpReceiver
from appliance.storage.sealed import PacketColumns

CARRIED = 4
"""One row of so many, at most, may be a newcomer's that waits: the rest is for voices."""
_NONE, _KEEP, _DROP = int(Verdict.NONE), int(Verdict.KEEP), int(Verdict.DROP)
_REFUSE, _WAIT, _RTCP = int(Verdict.REFUSE), int(Verdict.WAIT), int(Verdict.RTCP)


class Intake(SlotTables):
    """Arena and tables of one worker. Arrival times are nanoseconds of each recording's own clock (see StepClock)."""

    def __init__(self, rows: int) -> None:
        self.arena = Arena(rows)
        self.passed_on: Callable[[Batch], None] = lambda batch: None
        """Sees each batch before what is dropped is gone from memory."""
        self._verdict = np.zeros(rows, np.uint8)
        self._slot = np.zeros(rows, np.intp)
        self._event = np.zeros(rows, np.bool_)
        self._arrival = np.zeros(rows, np.int64)
        self._sequence = np.zeros(rows, np.uint16)
        self._timestamp = np.zeros(rows, np.uint32)
        self._ssrc = np.zeros(rows, np.uint32)
        self._second = np.zeros(rows, np.uint8)
        self._offset = np.zeros(rows, np.uint16)
        self._size = np.zeros(rows, np.uint16)
        self._sorted = 0  # rows below have their verdict
        self._tracks: list[Track | None] = []
        self._free: list[int] = []
        self._srtp: dict[int, SrtpReceiver] = {}
        self._losses: list[tuple[int, int, int]] = []
        self._restless: set[int] = set()  # slots with waiting rows or spans to prune
        self._sized(0)

    # slots

    def open(self, track: Track, events: Iterable[int], srtp: SrtpReceiver | None) -> int:
        """A slot for a track; `events` are its telephone-event payload types."""
        if not self._free:
            slots = max(64, 2 * len(self._tracks))
            self._free = list(range(slots - 1, len(self._tracks) - 1, -1))
            self._tracks.extend([None] * (slots - len(self._tracks)))
            self._sized(slots)
        slot = self._free.pop()
        self._tracks[slot] = track
        for table in (self.received, self.kept, self.dropped, self.refused, self.overflowed, self.last_ns):
            table[slot] = 0
        self.numbers[slot] = track.number
        self._t_shift[slot] = 0
        self._t_counter[slot] = 0
        self._t_heard[slot] = 0
        self.change(slot, events, srtp)
        return slot

    def change(self, slot: int, events: Iterable[int], srtp: SrtpReceiver | None) -> None:
        """New payload types or keys of a slot."""
        self._t_event[slot] = False
        for number in events:
            self._t_event[slot, number & 127] = True
        if srtp is None:
            self._srtp.pop(slot, None)
        else:
            self._srtp[slot] = srtp
        self.refresh(slot)

    def refresh(self, slot: int) -> None:
        """Takes over what the slot's track says after its gates or its voice changed."""
        track = self._tracks[slot]
        assert track is not None
        self._t_ssrc[slot] = track.ssrc
        self._t_source[slot] = track.source
        self._t_plain[slot] = track.plain
        self._t_shut[slot] = track.shut_since
        if track.waiting or not track.plain:
            self._restless.add(slot)
        else:
            self._restless.discard(slot)

    def close(self, slot: int) -> None:
        """Frees a slot. Rows of it that were not gathered are gone."""
        rows = np.flatnonzero(self._slot[: self._sorted] == slot)
        self.refused[slot] += np.count_nonzero(self._verdict[rows] == _WAIT)
        self._verdict[rows] = _NONE
        self._tracks[slot] = None
        self._t_plain[slot] = False
        self._srtp.pop(slot, None)
        self._restless.discard(slot)
        self._losses = [loss for loss in self._losses if loss[0] != slot]
        self._free.append(slot)

    @property
    def slots(self) -> int:
        """How many slots there are, free ones too: groups are numbered up to twice this."""
        return len(self._tracks)

    def shift(self, slot: int, step_ns: int) -> None:
        """The wall clock was set by so much; the slot's recording keeps its own time."""
        self._t_shift[slot] += step_ns

    # rows

    def admit(
        self, slots: Sequence[int], counts: Sequence[int], now_ns: int, span: tuple[int, int] | None = None
    ) -> list[Control]:
        """Gives the rows a drain has just brought their verdict; RTCP among them is handed back.

        `slots` and `counts` name the sockets' slots in the order of the rows. `now_ns` is the wall clock.
        With `span` receive times are held within it: the wall clock was set while these packets waited.
        """
        first, last = self._sorted, self.arena.used
        self._sorted = last
        if first == last:
            return []
        served = np.asarray(slots, np.intp)
        amounts = np.asarray(counts, np.intp)
        if not amounts.all():
            served = served[amounts > 0]
            amounts = amounts[amounts > 0]
        ends = np.cumsum(amounts)
        if self._srtp:
            self._unprotect(served, ends, first)
        arena = self.arena
        lengths = arena.lengths[first:last]
        heads = parse(arena.cells[first:last], lengths)
        cut = lengths >= CELL
        if cut.any():
            heads.valid &= ~(cut & arena.truncated(first, last))
        stamps = arrival = arena.arrivals(first, last, now_ns)
        if span is not None:
            np.clip(arrival, span[0], span[1], out=arrival)
        slot = np.repeat(served, amounts)
        shifts = self._t_shift[served]
        if shifts.any():
            arrival = arrival - np.repeat(shifts, amounts)
        source = arena.sources(first, last)
        self._store(first, last, slot, arrival, heads)
        voice = heads.valid & (heads.ssrc == self._t_ssrc[slot])
        voice &= source == self._t_source[slot]
        known = voice & self._t_plain[slot]
        verdict = self._verdict[first:last]
        verdict[:] = known  # KEEP is 1
        self.received[served] += amounts
        self.last_ns[served] = arrival[ends - 1]
        for row, lost in arena.overflows(first, last):
            self._note_loss(int(self._slot[row]), int(self._arrival[row]), lost)
        control: list[Control] = []
        dropped = None
        settled = bool(known.all())
        if settled:
            self._t_heard[served] = arrival[ends - 1]
        else:
            # Of a track that is shut until further notice, as in a pause.
            gone = voice & (arrival >= self._t_shut[slot])
            verdict[gone] = _DROP
            known |= gone
            settled = bool(known.all())
            if not settled:
                control = self._admit_rest(served, ends, known, first, heads, arrival, source)
            self._t_heard[slot[known]] = arrival[known]
            dropped = np.flatnonzero(verdict == _DROP)
        self.passed_on(
            Batch(
                arena,
                first,
                served,
                ends,
                settled,
                slot,
                stamps,
                arrival,
                source,
                heads,
                self._event[first:last],
                verdict,
                self._t_source,
            )
        )
        if dropped is not None and len(dropped):
            arena.cells[first + dropped] = 0  # dropped at receipt: not even memory keeps it
            self.dropped += np.bincount(slot[dropped], minlength=len(self.dropped))
        return control

    def hide(self, slot: int, row: int) -> None:
        """Takes a row out of what is recorded: nobody is to know of it."""
        track = self._tracks[slot]
        assert track is not None
        self._verdict[row] = _NONE
        self.arena.cells[row] = 0
        track.forget_waiting([row])

    def _note_loss(self, slot: int, arrival_ns: int, counter: int) -> None:
        """The kernel's counter is the socket's, 32 bits wide, and may be older than the slot."""
        lost = (counter - int(self._t_counter[slot])) & 0xFFFFFFFF
        self._t_counter[slot] = counter
        if lost:
            self.overflowed[slot] += lost
            self._losses.append((slot, arrival_ns, lost))

    def take_losses(self) -> list[tuple[int, int, int]]:
        """What the kernel dropped for want of buffer since last asked: slot, when the next packet came, packets."""
        losses, self._losses = self._losses, []
        return losses

    def pending(self) -> NDArray[np.int64]:
        """Packets kept and not gathered yet, by slot."""
        keep = self._verdict[: self._sorted] == _KEEP
        return np.bincount(self._slot[: self._sorted][keep], minlength=len(self._tracks))

    def _store(
        self, first: int, last: int, slot: NDArray[np.intp], arrival: NDArray[np.int64], heads: Headers
    ) -> None:
        rows = slice(first, last)
        self._slot[rows] = slot
        self._arrival[rows] = arrival
        self._sequence[rows] = heads.sequence
        self._timestamp[rows] = heads.timestamp
        self._ssrc[rows] = heads.ssrc
        self._second[rows] = heads.second
        self._offset[rows] = heads.offset
        self._size[rows] = heads.size
        self._event[rows] = self._t_event[slot, heads.second & 127]

    def _unprotect(self, served: NDArray[np.intp], ends: NDArray[np.intp], first: int) -> None:
        start = first
        for slot, end in zip(served.tolist(), (ends + first).tolist(), strict=True):
            receiver = self._srtp.get(slot)
            if receiver is not None:
                receiver.unprotect_rows(self.arena.cells, self.arena.lengths, start, end)
            start = end

    def _admit_rest(
        self,
        served: NDArray[np.intp],
        ends: NDArray[np.intp],
        known: NDArray[np.bool_],
        first: int,
        heads: Headers,
        arrival: NDArray[np.int64],
        source: NDArray[np.uint64],
    ) -> list[Control]:
        """The slots that want a second look, one at a time."""
        control: list[Control] = []
        for index in np.unique(np.searchsorted(ends, np.flatnonzero(~known), side="right")).tolist():
            slot = int(served[index])
            track = self._tracks[slot]
            assert track is not None
            end = int(ends[index])
            start = int(ends[index - 1]) if index else 0
            part = slice(start, end)
            track.hear(int(self._t_heard[slot]))
            rows = np.arange(first + start, first + end)
            verdicts = track.admit(
                TrackColumns(
                    rows,
                    arrival[part],
                    heads.valid[part],
                    heads.rtcp[part],
                    heads.ssrc[part],
                    source[part],
                    heads.sequence[part],
                )
            )
            self._verdict[first + start : first + end] = verdicts
            if track.released:
                self._verdict[track.released] = _KEEP
                track.released.clear()
            self.refused[slot] += np.count_nonzero(verdicts == _REFUSE)
            for row in rows[verdicts == _RTCP].tolist():
                data = self.arena.cells[row, : self.arena.lengths[row]].tobytes()
                name = self.arena.source_name(row)
                control.append(Control(slot, int(self._arrival[row]), data, name))
            self.refresh(slot)
        return control

    def revoke(self, slot: int) -> int:
        """Drops rows already admitted which a gate of the slot's track, shut for a time gone by, now covers; how many."""
        track = self._tracks[slot]
        assert track is not None
        verdict = self._verdict[: self._sorted]
        rows = np.flatnonzero(
            (self._slot[: self._sorted] == slot) & ((verdict == _KEEP) | (verdict == _WAIT))
        )
        rows = rows[track.dropped(self._arrival[rows])]
        self._verdict[rows] = _DROP
        self.arena.cells[rows] = 0
        self.dropped[slot] += len(rows)
        track.forget_waiting(rows.tolist())
        return len(rows)

    def tidy(self, now_ns: int, memory_ns: int = 10_000_000_000) -> None:
        """Forgets spans and newcomers that are over."""
        for slot in list(self._restless):
            track = self._tracks[slot]
            assert track is not None
            here = now_ns - int(self._t_shift[slot])
            track.expire(here)
            track.prune(here - memory_ns)
            self.refresh(slot)

    @property
    def pressed(self) -> bool:
        """The arena has little room left: gather before the next tick."""
        return self.arena.used + 8 * BATCH > self.arena.rows

    def gather(self, slots: NDArray[np.intp] | None = None) -> Gathered:
        """Takes what is kept, of some slots or of all; it is not there any more afterwards."""
        mine = self._verdict[: self._sorted] == _KEEP
        if slots is not None:
            chosen = np.zeros(len(self._tracks), np.bool_)
            chosen[slots] = True
            mine &= chosen[self._slot[: self._sorted]]
        rows = np.flatnonzero(mine)
        group = self._slot[rows] * 2
        group += self._event[rows]
        groups = 2 * len(self._tracks)
        # Radix sort; rows of one track stay in order of arrival.
        order = np.argsort(group.astype(np.uint16 if groups <= 0x10000 else np.uint32), kind="stable")
        rows = rows[order]
        amounts = np.bincount(group, minlength=groups)
        starts = np.zeros(groups + 1, np.int64)
        np.cumsum(amounts, out=starts[1:])
        self.kept += amounts.reshape(-1, 2).sum(axis=1)
        arrival = self._arrival[rows]
        size = self._size[rows]
        columns = PacketColumns(
            sequence=self._sequence[rows],
            timestamp=self._timestamp[rows],
            arrival_ns=arrival,
            payload_type=self._second[rows],
            ssrc=self._ssrc[rows],
            size=size,
            payload=payloads(self.arena.cells, rows * CELL + self._offset[rows], size),
        )
        self._verdict[rows] = _NONE
        return Gathered(columns, starts)

    def rewind(self) -> None:
        """Empties the arena, but for rows that wait for their verdict: they are carried to its beginning. Where too many
        wait (somebody sprays our ports), those of the tracks with most of them are refused."""
        waits = np.flatnonzero(self._verdict[: self._sorted] == _WAIT)
        tracks = [track for slot in self._restless if (track := self._tracks[slot]) is not None]
        carried: NDArray[np.intp] = np.zeros(0, np.intp)
        if len(waits):
            chosen: list[int] = []
            for rows in sorted((track.waiting for track in tracks), key=len):
                if len(chosen) + len(rows) > self.arena.rows // CARRIED:
                    break
                chosen += rows
            carried = np.sort(np.asarray(chosen, np.intp))
            lost = np.setdiff1d(waits, carried)
            np.add.at(self.refused, self._slot[lost], 1)
        count = len(carried)
        columns = (
            self._slot,
            self._event,
            self._arrival,
            self._sequence,
            self._timestamp,
            self._ssrc,
            self._second,
            self._offset,
            self._size,
        )
        if count:
            self.arena.carry(carried)
            for column in columns:
                column[:count] = column[carried]
        moved = dict(zip(carried.tolist(), range(count), strict=True))
        for track in tracks:
            track.move_waiting(moved)
        self._verdict[: self._sorted] = _NONE
        self.arena.rewind()
        self.arena.used = self._sorted = count
        self._verdict[:count] = _WAIT
