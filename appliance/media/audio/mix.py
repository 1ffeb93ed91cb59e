"""From placed packets to samples of each channel, piece by piece from the start, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from appliance.media.audio.codecs import Decode, Stateful, Stateless
from appliance.media.audio.muting import Mute, of_track, silence
from appliance.media.audio.recording import Recording, Track
from appliance.media.audio.resample import CONTEXT, resample
from appliance.model import InvalidError, Role

I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]
NS = 1_000_000_000
MIN_RATE = 8000
MAX_RATE = 48000
LAYOUTS = ("sides", "mono", "tracks")
MAX_CHANNELS = 8


@dataclass(slots=True)
class Failures:
    """Packets that a decoder refused, by the name of their track and codec."""

    count: dict[int, int] = field(default_factory=dict)


def output_rate(tracks: Iterable[Track]) -> int:
    """The highest rate of any sound there is: nothing is thrown away."""
    rates = [
        codec.rate
        for track in tracks
        for number, codec in enumerate(track.codecs)
        if not codec.silent and bool((track.samples[track.codec == number] > 0).any())
    ]
    rate = max(rates, default=MIN_RATE)
    # Rates that encoders and players do not know are brought to the next they do.
    return next((known for known in (8000, 16000, 24000, 48000) if rate <= known), MAX_RATE)


def channels_of(tracks: list[Track], layout: str) -> list[list[Track]]:
    """Which tracks each channel holds: caller left, agent right; who is neither goes where there is room."""
    if layout not in LAYOUTS:
        raise InvalidError("no such layout of channels", field="layout")
    if layout == "mono":
        return [tracks]
    if layout == "tracks":
        if len(tracks) > MAX_CHANNELS:
            raise InvalidError(f"at most {MAX_CHANNELS} tracks can have a channel each", field="layout")
        return [[track] for track in tracks] or [[]]
    if len(tracks) == 1 and tracks[0].role is Role.UNKNOWN:
        return [tracks]  # a recorder that gets one mix has no sides
    left = [track for track in tracks if track.role is Role.CALLER]
    # What the box says is heard by the caller, as what the agent says.
    right = [track for track in tracks if track.role in (Role.AGENT, Role.BOX)]
    for track in tracks:
        if track.role is Role.UNKNOWN:
            (left if len(left) <= len(right) else right).append(track)
    return [left, right]


class _Lane:
    """The packets of one voice (one source, one codec) of one track, decoded as they are needed."""

    def __init__(
        self, track: Track, codec_number: int, mine: I64, failures: Failures, mutes: tuple[Mute, ...]
    ) -> None:
        codec = track.codecs[codec_number]
        self.rate = codec.rate
        place = track.placement
        # Whole samples for the base, then exact steps within.
        begin = _scaled(place.base_ns[mine], codec.rate, NS)
        begin += _scaled(place.ticks[mine], codec.rate, place.clock[mine])
        by_time = np.argsort(begin, kind="stable")
        mine = mine[by_time]
        self._begin = begin[by_time]
        self._samples = track.samples[mine]
        self._offset = track.offset[mine]
        self._size = track.size[mine]
        self._payload = track.payload
        self._codec = codec
        self._decode: Decode | None = codec.decoder() if isinstance(codec, Stateful) else None
        self._failures = failures
        self._track = track.number
        self.mutes = mutes
        ends = self._begin + self._samples
        self.first = int(self._begin[0])
        self.last = int(ends.max())
        self._reach = np.maximum.accumulate(ends)
        self._next = 0
        self._held: list[tuple[int, I16]] = []  # decoded, and still wanted

    def read(self, start: int, stop: int) -> I16:
        """Samples [start, stop) at the lane's own rate. Each call's start is not before the last one's."""
        out = np.zeros(stop - start, np.int16)
        if stop <= self.first or start >= self.last:
            return out
        if isinstance(self._codec, Stateless):
            self._read_stateless(self._codec, start, stop, out)
        else:
            self._read_stateful(start, stop, out)
        return silence(out, start, self.rate, self.mutes)

    def _read_stateless(self, codec: Stateless, start: int, stop: int, out: I16) -> None:
        # Packets are sorted by where they begin; `_reach` finds the first that is not over yet.
        first = int(np.searchsorted(self._reach, start, side="right"))
        until = int(np.searchsorted(self._begin, stop, side="left"))
        if first >= until:
            return
        begin = self._begin[first:until]
        offset = self._offset[first:until]
        size = self._size[first:until]
        samples = self._samples[first:until]
        # Packets that follow each other in time and in memory are one stretch.
        breaks = np.flatnonzero(
            (begin[1:] != begin[:-1] + samples[:-1])
            | (offset[1:] != offset[:-1] + size[:-1])
            | (size[:-1] != samples[:-1] * codec.width)
        )
        heads = np.concatenate([[0], breaks + 1])
        tails = np.concatenate([breaks, [len(begin) - 1]])
        for place, low, high in zip(
            begin[heads].tolist(),
            offset[heads].tolist(),
            (offset[tails] + size[tails]).tolist(),
            strict=True,
        ):
            _put(out, place - start, codec.decode(self._payload[low:high]))

    def _read_stateful(self, start: int, stop: int, out: I16) -> None:
        assert self._decode is not None
        held = [(place, values) for place, values in self._held if place + len(values) > start]
        until = int(np.searchsorted(self._begin, stop, side="left"))
        for index in range(self._next, until):
            offset, size = int(self._offset[index]), int(self._size[index])
            values = self._decode(self._payload[offset : offset + size].tobytes())
            if values is None:
                self._failures.count[self._track] = self._failures.count.get(self._track, 0) + 1
                continue
            place = int(self._begin[index])
            if place + len(values) > start:
                held.append((place, values[: int(self._samples[index])]))
        self._next = max(self._next, until)
        for place, values in held:
            _put(out, place - start, values)
        self._held = held


def _scaled(value: I64, factor: int, divisor: I64 | int) -> I64:
    """value * factor / divisor, rounded to nearest, without leaving 64 bits."""
    whole, rest = np.divmod(value, divisor)
    return whole * factor + (2 * rest * factor + divisor) // (2 * np.asarray(divisor))


def _put(out: I16, at: int, values: I16) -> None:
    low = max(at, 0)
    high = min(at + len(values), len(out))
    if low < high:
        out[low:high] = values[low - at : high - at]


class Mixer:
    """The sound of a recording as channels of 16-bit samples at one rate.

    `start_ns` and `end_ns` count from the start of the recording. Reading is from the start on, once; make another Mixer to
    read again.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        layout: str = "sides",
        start_ns: int = 0,
        end_ns: int | None = None,
        tracks: Iterable[int] | None = None,
        mutes: Iterable[Mute] = (),
    ) -> None:
        stop_ns = recording.duration_ns if end_ns is None else min(end_ns, recording.duration_ns)
        if start_ns < 0 or (end_ns is not None and end_ns < start_ns):
            raise InvalidError("the end of a part is not before its start", field="start")
        wanted = None if tracks is None else set(tracks)
        muted = tuple(mutes)
        # The layout is that of the whole recording: a muted party leaves its side silent.
        groups = channels_of(recording.tracks, layout)
        self.rate = output_rate(recording.tracks)
        self.channels = len(groups)
        self._first = min(start_ns, stop_ns) * self.rate // NS
        self.samples = stop_ns * self.rate // NS - self._first
        """Samples in each channel."""
        self.failures = Failures()
        self._lanes = [
            [
                lane
                for track in group
                if wanted is None or track.number in wanted
                for lane in _lanes(track, self.failures, of_track(muted, track.number))
            ]
            for group in groups
        ]

    def pieces(self, size: int = 0, skip: int = 0) -> Iterator[I16]:
        """Arrays of (samples, channels), `size` samples each (30 s where 0), from sample `skip` on."""
        step = size or 30 * self.rate
        for at in range(skip, self.samples, step):
            start = self._first + at
            stop = self._first + min(at + step, self.samples)
            out = np.empty((stop - start, self.channels), np.int16)
            for number, lanes in enumerate(self._lanes):
                out[:, number] = self._mixed(lanes, start, stop)
            yield out

    def _mixed(self, lanes: list[_Lane], start: int, stop: int) -> I16:
        spans = [(lane, *self._span(lane, start, stop)) for lane in lanes]
        heard = [(lane, low, high) for lane, low, high in spans if low < high]
        if not heard:
            return np.zeros(stop - start, np.int16)
        if len(heard) == 1:
            return self._read(heard[0][0], start, stop)
        total = np.zeros(stop - start, np.int32)
        for lane, low, high in heard:
            total[low - start : high - start] += self._read(lane, low, high)
        return np.clip(total, -32768, 32767).astype(np.int16)

    def _span(self, lane: _Lane, start: int, stop: int) -> tuple[int, int]:
        """What a lane can be heard in of [start, stop); a resampler rings a little to either side."""
        low = (lane.first - CONTEXT) * self.rate // lane.rate
        high = (lane.last + CONTEXT) * self.rate // lane.rate + 1
        return max(start, low), min(stop, high)

    def _read(self, lane: _Lane, start: int, stop: int) -> I16:
        if lane.rate == self.rate:
            return lane.read(start, stop)
        found = resample(lane.read, lane.rate, self.rate, start, stop)
        return silence(found, start, self.rate, lane.mutes)


def _lanes(track: Track, failures: Failures, mutes: tuple[Mute, ...]) -> Iterator[_Lane]:
    heard = np.flatnonzero(track.samples > 0)
    pair = track.placement.source[heard] << 8 | track.codec[heard]  # payload types number 128 at most
    order = np.argsort(pair, kind="stable")
    cuts = np.flatnonzero(np.diff(pair[order])) + 1
    for part in np.split(heard[order], cuts):
        if len(part):
            yield _Lane(track, int(track.codec[part[0]]), part, failures, mutes)
