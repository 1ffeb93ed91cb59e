"""What goes between the participants of a call: relayed packets, keys, and what the box plays. One thread calls this."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from appliance.media.capture.batch import Batch
from appliance.media.capture.clock import StepClock
from appliance.media.capture.feed import MediaEvent, MediaFeed, PlayEnd
from appliance.media.capture.kept import Kept
from appliance.media.capture.keys import Fate, KeyWatch
from appliance.media.capture.leg import Leg
from appliance.media.capture.playing import MAX_LATE_NS, PACKET_MS, Playing
from appliance.media.capture.relay import Relay
from appliance.media.capture.session import MediaSession, OpenTrack
from appliance.media.capture.track import Verdict
from appliance.media.rtp.rollover import RolloverStore
from appliance.model import ExhaustedError, PreconditionError

MAX_PLAYS = 16
"""Sounds that play or wait in one session."""
RIDE_NS = 60_000_000
"""A tone goes along with what a participant hears, if that came this short a time ago."""
_KEEP, _WAIT, _REFUSE = int(Verdict.KEEP), int(Verdict.WAIT), int(Verdict.REFUSE)


class PlayExistsError(PreconditionError):
    """Something of this play_id plays or waits in the session."""

    reason = "PLAY_EXISTS"


class TooManyPlaysError(ExhaustedError):
    """Enough plays or waits in this session; `data['limit']`."""

    reason = "TOO_MANY_PLAYS"


class NowhereToPlayError(PreconditionError):
    """The participant receives nothing: its track has no `remote`."""

    reason = "PLAY_NOWHERE"


class Exchange:
    """See the module. `hide(slot, row)` takes a row out of what is recorded."""

    def __init__(
        self,
        clock: StepClock,
        rollovers: RolloverStore | None,
        feed: MediaFeed,
        hide: Callable[[int, int], None],
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._hide = hide
        self.relay = Relay(clock, rollovers)
        self._places: dict[int, tuple[MediaSession, OpenTrack]] = {}
        self._watches: dict[int, KeyWatch] = {}
        self._playing: dict[int, Leg] = {}
        self._making: dict[int, Leg] = {}
        self._pending: set[int] = set()
        self._fast: set[int] = set()
        self._monitored: set[int] = set()
        self.version = 0
        """Changes with `fast`."""

    # participants

    def open(self, slots: int, session: MediaSession, opened: OpenTrack) -> None:
        """A track has got a slot. Errors of Relay.open."""
        self.relay.open(slots, session, opened)
        self._places[opened.slot] = (session, opened)
        if opened.request.codes:
            self._watches[opened.slot] = KeyWatch(opened.request.codes)

    def changed(self, opened: OpenTrack) -> None:
        """A track's codes may be others."""
        watch = self._watches.get(opened.slot)
        if watch is not None:
            watch.change(opened.request.codes)
            self._tell(opened.slot, watch)
        elif opened.request.codes:
            self._watches[opened.slot] = KeyWatch(opened.request.codes)

    def wire(self, session: MediaSession) -> None:
        """Who hears whom has changed, or a track's remote."""
        self.relay.wire(session)
        for opened in session.tracks.values():
            if (leg := self.relay.legs.get(opened.slot)) is not None:
                self.relay.settle(leg)
            self._pace(opened.slot)

    def move(self, session: MediaSession) -> None:
        """The tracks of this session were another's until now."""
        for opened in session.tracks.values():
            self._places[opened.slot] = (session, opened)
        self.relay.move((opened.slot for opened in session.tracks.values()), session)

    def close(self, slot: int) -> None:
        """The slot is free again; what plays there ends."""
        leg = self.relay.legs.get(slot)
        if leg is not None:
            self.silence(leg)
        self._watches.pop(slot, None)
        self._places.pop(slot, None)
        self._pending.discard(slot)
        self._making.pop(slot, None)
        self.relay.close(slot)
        self._pace(slot)

    def end(self, session: MediaSession) -> None:
        """The call is over: nothing is passed on or played any more, though its sockets are still open."""
        for opened in session.tracks.values():
            self.relay.unwire(opened.slot)
            if (leg := self.relay.legs.get(opened.slot)) is not None:
                self.silence(leg)
                leg.making.clear()

    def forget(self, session: MediaSession, from_ns: int) -> None:
        """A pause that began at `from_ns` covers keys that were held back, too."""
        for opened in session.tracks.values():
            if (watch := self._watches.get(opened.slot)) is not None:
                watch.forget_held(from_ns)

    def monitor(self, slot: int, heard: bool) -> None:
        """Somebody listens to what is recorded of a track, or nobody does any more."""
        (self._monitored.add if heard else self._monitored.discard)(slot)
        self._pace(slot)

    @property
    def fast(self) -> set[int]:
        """Slots whose sockets want to be drained each tick of 10 ms."""
        return self._fast

    @property
    def busy(self) -> bool:
        """Something is passed on, plays, or waits for its time."""
        return bool(self._fast)

    def _pace(self, slot: int) -> None:
        place = self._places.get(slot)
        wanted = place is not None and (
            self.relay.heard(slot)
            or bool(place[1].request.codes)
            or slot in self._playing
            or slot in self._making
            or slot in self._pending
            or slot in self._monitored
        )
        if wanted != (slot in self._fast):
            self.version += 1
            (self._fast.add if wanted else self._fast.discard)(slot)

    # packets

    def admitted(self, batch: Batch) -> None:
        """Passes on what a drain has brought, and reads the keys in it."""
        events = batch.event & batch.heads.valid
        some = bool(events.any())
        if not self._fast and not some:
            return
        self.relay.follow(batch)
        if batch.settled and not some and self.relay.pass_whole(batch):
            return
        believed = batch.heads.valid if batch.settled else self.relay.believed(batch)
        take = believed & (self.relay.listener[batch.slot] >= 0)
        take &= batch.stamps >= self.relay.since_ns[batch.slot]
        if some:
            self._read_keys(batch, np.flatnonzero(events), believed, take)
        if take.any():
            self.relay.limit(batch, take)
            self.relay.forward(batch, np.flatnonzero(take))

    def _read_keys(
        self,
        batch: Batch,
        rows: NDArray[np.intp],
        believed: NDArray[np.bool_],
        take: NDArray[np.bool_],
    ) -> None:
        heads = batch.heads
        touched: dict[int, KeyWatch] = {}
        for row in rows.tolist():
            slot = int(batch.slot[row])
            watch = self._watches.get(slot)
            if watch is None:
                watch = self._watches[slot] = KeyWatch()
            if not believed[row]:
                if watch.codes and batch.verdict[row] == _WAIT:
                    # Nobody knows yet whose it is; a code must not come into the recording that way.
                    self._hide(slot, batch.first + row)
                    batch.verdict[row] = _REFUSE
                continue
            touched[slot] = watch
            offset, size = int(heads.offset[row]), int(heads.size[row])
            payload = batch.arena.cells[batch.first + row, offset : offset + size].tobytes()
            ssrc, timestamp = int(heads.ssrc[row]), int(heads.timestamp[row])
            leg = self.relay.legs.get(slot)
            fate, event, ended = watch.take(
                ssrc,
                timestamp,
                payload,
                int(batch.arrival[row]),
                busy=self._busy(slot),
                interrupts=leg is not None and leg.interruptible,
            )
            if ended and leg is not None:
                self._end_play(leg, whole=False, interrupted=True)
            if fate is Fate.PASS:
                continue
            take[row] = False
            sequence = int(heads.sequence[row])
            for hearer in self.relay.hearers(slot):
                self.relay.sync(hearer)
                hearer.swallow(ssrc, sequence)
                self.relay.settle(hearer)
            if fate in (Fate.HOLD, Fate.HIDE):
                if fate is Fate.HOLD and event is not None and batch.verdict[row] == _KEEP:
                    packet = Kept(
                        True,
                        int(batch.arrival[row]),
                        sequence,
                        timestamp,
                        ssrc,
                        int(heads.second[row]),
                        payload,
                    )
                    watch.hold(event, packet)
                if batch.verdict[row] in (_KEEP, _WAIT):
                    self._hide(slot, batch.first + row)
        for slot, watch in touched.items():
            self._tell(slot, watch)

    def _busy(self, slot: int) -> bool:
        return any(leg.making for leg in self.relay.hearers(slot))

    def _tell(self, slot: int, watch: KeyWatch) -> None:
        """Carries out what a watch has decided."""
        session, opened = self._places[slot]
        number = opened.request.number
        for told in watch.told:
            at = session.wall_time(told.at_ns)
            key, code = ("", told.keys) if told.code else (told.keys, "")
            self._feed.publish(MediaEvent(session.recording_id, number, at, key=key, code=code))
        watch.told.clear()
        if watch.resend:
            clocks = dict(opened.request.clocks)
            second = min(opened.request.events, default=0)
            now = self._clock.monotonic()
            for leg in self.relay.hearers(slot):
                for event in watch.resend:
                    leg.resend(event, second, clocks.get(second, 8000), now)
                self._making[leg.slot] = leg
                self.relay.settle(leg)
                self._pace(leg.slot)
            watch.resend.clear()
        if watch.keep:
            arrivals = np.array([packet.arrival_ns for packet in watch.keep], np.int64)
            for packet, gone in zip(watch.keep, opened.track.dropped(arrivals), strict=True):
                if not gone:
                    session.keep(number, packet)
            watch.keep.clear()
        (self._pending.add if watch.pending else self._pending.discard)(slot)
        self._pace(slot)

    # time

    def tick(self) -> None:
        """What is due: keys that waited long enough, keys made afresh, and what plays."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        for slot in list(self._pending):
            watch = self._watches[slot]
            watch.expire(self._places[slot][0].own_time(wall), busy=self._busy(slot))
            if watch.told:
                self._tell(slot, watch)
        for slot, leg in list(self._making.items()):
            self.relay.make(leg, now, wall)
            if not leg.making:
                del self._making[slot]
                self.relay.settle(leg)
                self._pace(slot)
        for leg in list(self._playing.values()):
            self._play_on(leg, now, wall)

    # what the box plays

    def play(self, session: MediaSession, leg: Leg | None, playing: Playing) -> tuple[int, int]:
        """Plays to a participant, behind what plays already; what only repeats gives way. When its first packet goes out
        (wall clock), and how long it is, milliseconds; 0 where it repeats."""
        if leg is None:
            raise NowhereToPlayError("this participant receives nothing")
        present = [item for _, item in self._plays(session)]
        if any(item.play_id == playing.play_id for item in present):
            raise PlayExistsError("something of this play_id plays already")
        if len(present) >= MAX_PLAYS:
            raise TooManyPlaysError("enough plays in this session", limit=MAX_PLAYS)
        wait = sum(item.left_ms for item in leg.queue)
        leg.queue.append(playing)
        if leg.play is not None and leg.play.repeat:
            wait -= sum(item.left_ms for item in leg.queue if item is not playing)
            self._end_play(leg, whole=False)
        elif leg.play is None:
            self._begin(leg)
        else:
            wait += leg.play.left_ms
        if leg.play is playing:
            wait = 0
            self._play_on(leg, self._clock.monotonic(), self._clock.wall())
        length = 0 if playing.repeat else playing.sound.duration_ms
        return self._clock.wall() + wait * 1_000_000, length

    def stop(self, session: MediaSession, play_id: str) -> None:
        """Ends something that plays or waits; nothing happens where it does not."""
        for leg, item in self._plays(session):
            if item.play_id != play_id:
                continue
            if item is leg.play:
                self._end_play(leg, whole=False)
            else:
                leg.queue.remove(item)
                self._ended(leg, item, whole=False)

    def silence(self, leg: Leg) -> None:
        """Ends all that plays to a participant or waits."""
        waiting = list(leg.queue)
        leg.queue.clear()
        if leg.play is not None:
            self._end_play(leg, whole=False)
        for item in waiting:
            self._ended(leg, item, whole=False)

    def _plays(self, session: MediaSession) -> list[tuple[Leg, Playing]]:
        found = []
        for opened in session.tracks.values():
            leg = self.relay.legs.get(opened.slot)
            if leg is not None:
                found += [(leg, item) for item in ([leg.play] if leg.play else []) + list(leg.queue)]
        return found

    def _begin(self, leg: Leg, at_ns: int | None = None) -> None:
        """Takes the next that waits, from `at_ns` on, by the monotonic clock; None: now."""
        self.relay.sync(leg)
        leg.riding = False
        leg.play = leg.queue.popleft() if leg.queue else None
        if leg.play is None:
            self._playing.pop(leg.slot, None)
        else:
            leg.play.begin(leg.own, self._clock.monotonic() if at_ns is None else at_ns)
            self._playing[leg.slot] = leg
        self.relay.settle(leg)
        self._pace(leg.slot)

    def _end_play(self, leg: Leg, *, whole: bool, interrupted: bool = False) -> None:
        item = leg.play
        assert item is not None
        self._begin(leg, item.next_ns if whole else None)  # without a gap
        self._ended(leg, item, whole=whole, interrupted=interrupted)

    def _ended(self, leg: Leg, item: Playing, *, whole: bool, interrupted: bool = False) -> None:
        end = PlayEnd(item.play_id, whole, item.sent * PACKET_MS, interrupted)
        self._feed.publish(
            MediaEvent(leg.session.recording_id, leg.opened.request.number, self._clock.wall(), play=end)
        )

    def _play_on(self, leg: Leg, now: int, wall: int) -> None:
        """Sends what is due of what plays to a participant."""
        while (item := leg.play) is not None:
            if item.mixes:
                if leg.riding and item.over:
                    item.next_ns = now
                    self._end_play(leg, whole=True)
                    continue
                rides = wall - int(self.relay.last_ns[leg.slot]) < RIDE_NS and item.fits(
                    int(self.relay.last_second[leg.slot]) & 127
                )
                if rides or leg.riding:
                    item.next_ns = now
                leg.riding = rides
                if rides:
                    return
            if item.next_ns > now:
                return
            if item.over:
                self._end_play(leg, whole=item.sent == len(item.sound.payloads))
                continue
            if now - item.next_ns > MAX_LATE_NS:
                item.next_ns = now
            packet = item.next_packet()
            sent = self.relay.count_own(leg, leg.post(packet, self.relay.name(leg.slot)))
            kept = item.advance(leg.session.own_time(wall), sent=sent)
            if kept is not None:
                assert item.voice is not None
                leg.session.keep(item.voice.number, kept)
