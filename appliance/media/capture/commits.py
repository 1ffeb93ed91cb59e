"""The group commit, on the loop's side: from the rows of an arena to frames for the disk, and back with the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.media.capture.clock import StepClock
from appliance.media.capture.commands import Closed
from appliance.media.capture.disk import Cycle, Write
from appliance.media.capture.entry import Entry
from appliance.media.capture.outbox import Block, Media
from appliance.media.capture.payloads import Gathered
from appliance.media.capture.receiving import Receiving
from appliance.storage.sealed import prepare

TURNS = 8
"""Recordings between two looks at the clock; one takes about 50 microseconds."""


class Commits:
    """Of the recordings in `entries`, shared with the recorder. `memory`: plain bytes that may wait for the disk."""

    def __init__(self, entries: dict[str, Entry], clock: StepClock, memory: int) -> None:
        self._entries = entries
        self._clock = clock
        self._memory = memory
        self._ended: list[Entry] = []
        self._arrivals: list[NDArray[np.int64]] = []
        self.frames_written = self.bytes_written = self.payload_bytes = self.packets_shed = 0

    receiving: Receiving  # set by the recorder: the two know each other
    breathe: Callable[[], None]
    """Set by the recorder. Called every few recordings, so that a long commit does not hold up what is relayed."""

    def end(self, entry: Entry) -> None:
        """The next commit ends this recording."""
        self._ended.append(entry)

    def spill(self, entries: Sequence[Entry] | None = None) -> None:
        """Moves what the arena holds to the recordings' outboxes."""
        if entries is None:
            gathered = self.receiving.intake.gather()
            self.receiving.intake.rewind()
            chosen: Sequence[Entry] = list(self._entries.values())
        else:
            slots = [slot for entry in entries for slot in entry.slots]
            gathered = self.receiving.intake.gather(np.asarray(slots, np.intp))
            chosen = entries
        if len(gathered.columns.sequence):
            self._arrivals.append(gathered.columns.arrival_ns)
            self._deal(gathered, chosen)
        for entry in chosen:
            entry.session.flush_kept()
        self._shed()

    def _deal(self, gathered: Gathered, entries: Sequence[Entry]) -> None:
        """Gives each recording its packets. What can be done for all at once is; the loop runs once a recording."""
        columns, starts = gathered.columns, gathered.starts
        prepared = prepare(columns, starts, self._numbers(), event=np.arange(len(starts) - 1) % 2 == 1)
        ends = np.zeros(len(columns.size) + 1, np.int64)
        np.cumsum(columns.size, out=ends[1:])
        self.payload_bytes += int(ends[-1])
        payload = np.diff(ends[starts]).tolist()
        packets = np.diff(starts).tolist()
        # Both groups of a slot lie side by side: its packets are those from one even bound to the next.
        edges = starts[::2]
        newest = len(columns.arrival_ns) - 1
        firsts = columns.arrival_ns[np.minimum(edges[:-1], newest)].tolist()
        lasts = columns.arrival_ns[edges[1:] - 1].tolist()
        block = prepared.block
        for turn, entry in enumerate(entries):
            if not turn % TURNS:
                self.breathe()
            blocks: list[Block] = []
            media = event = size = 0
            first, last = 1 << 62, 0
            for slot in entry.slots:
                group = 2 * slot
                count, other = packets[group], packets[group + 1]
                if count:
                    blocks.append(block(group))
                    media += count
                    size += payload[group]
                elif not other:
                    continue
                if other:
                    blocks.append(block(group + 1))
                    event += other
                if firsts[slot] < first:
                    first = firsts[slot]
                if lasts[slot] > last:
                    last = lasts[slot]
            if blocks:
                session = entry.session
                if last > session.gathered_ns:
                    session.gathered_ns = last
                plain = size + 64 * len(blocks) + 20 * (media + event)
                session.outbox.put_media(Media(blocks, plain, media, size, event, first, last))

    def _numbers(self) -> NDArray[np.int64]:
        """The track number of each group."""
        return np.repeat(self.receiving.intake.numbers, 2)

    def _shed(self) -> None:
        """Keeps what waits within bounds: the oldest goes first, everywhere alike."""
        waiting = sum(entry.session.outbox.size for entry in self._entries.values())
        while waiting > self._memory:
            oldest = min(
                (entry.session.outbox for entry in self._entries.values() if entry.session.outbox.size),
                key=lambda outbox: outbox.oldest_ns or 0,
                default=None,
            )
            if oldest is None:
                return
            before = oldest.dropped_packets
            waiting -= oldest.shed()
            self.packets_shed += oldest.dropped_packets - before

    @property
    def ending(self) -> bool:
        """Sessions have been closed since the last commit."""
        return bool(self._ended)

    def commit(self, *, everything: bool = True) -> Cycle | None:
        """Seals what is there (or only what ends) for the disk; None where there is nothing to do.

        Only one cycle may be under way: hand it to `finished` before the next commit.
        """
        ended, self._ended = self._ended, []
        if everything or self.receiving.intake.pressed:
            self.spill()
        elif ended:
            self.spill(ended)
        for entry in ended:
            entry.session.flush_reports()
            if entry.closing is not None and entry.closing.relaying:
                entry.slots = []  # they are another entry's now
            else:
                self.receiving.close(entry)
        chosen = list(self._entries.values()) if everything else ended
        writes = []
        for turn, entry in enumerate(chosen):
            if not turn % TURNS:
                self.breathe()
            session = entry.session
            if session.reports:
                session.flush_reports()
            final = False
            if entry.closing is None:
                data = session.outbox.seal()
            else:
                data, final = session.outbox.seal_last(entry.closing.ended_ns)
            if data is not None:
                writes.append(Write(entry.file, entry.ticket, session.outbox.offset, data, final, entry))
        if not writes:
            return None
        arrivals, self._arrivals = self._arrivals, []
        return Cycle(writes, arrivals, self._clock.monotonic())

    def finished(self, cycle: Cycle) -> list[Exception]:
        """Takes the outcome of a cycle; the errors in it."""
        errors: list[Exception] = []
        if any(write.error is not None for write in cycle.writes):
            self._arrivals = [*cycle.arrivals, *self._arrivals][-64:]  # their delay goes on
            cycle.arrivals = []
        for write in cycle.writes:
            if write.error is not None:
                errors.append(write.error)
                continue
            entry = write.owner
            assert isinstance(entry, Entry)
            outbox = entry.session.outbox
            outbox.written()
            self.frames_written += 1
            self.bytes_written += len(write.data)
            if write.final:
                assert entry.closing is not None
                del self._entries[entry.session.recording_id]
                entry.closing.done(Closed(outbox.packets, outbox.offset))
        return errors
