"""Whether media comes: from the figures of capture, for each track that should have some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from appliance.model import Mark, MarkKind
from appliance.process.status import ALARM, Status
from earwitness.internal.v1 import capture_pb2 as pb

NO_MEDIA = "CallsWithoutMedia"
ONE_SIDED = "CallsWithOneSide"
_YET_NS = 2_000_000_000  # until "no media yet" is worth showing
SILENT_NS = 30_000_000_000  # signaling.proto: tracks without media for 30 seconds are silent


@dataclass(slots=True)
class _Track:
    awaited_ns: int  # since when media should come
    last_ns: int = 0
    told: bool = False  # the timeline has a mark of this silence


class Watched(Protocol):
    """Something whose media is watched. `silent` are tracks without media."""

    silent: set[int]

    @property
    def awaited(self) -> list[int]:
        """Tracks on which media should come now."""


class MediaWatch:
    """Looks at one list of figures after the other. Held tracks await nothing, however long that lasts."""

    def __init__(self, alarm_s: float, status: Status) -> None:
        self._alarm_ns = int(alarm_s * 1e9)
        self._status = status
        self._tracks: dict[Watched, dict[int, _Track]] = {}
        self._without: set[Watched] = set()
        self._one_sided: set[Watched] = set()

    def look(self, leg: Watched, figures: Iterable[pb.TrackState], now_ns: int) -> tuple[list[Mark], bool]:
        """Marks to add to the recording, and whether `leg.silent` has changed."""
        known = self._tracks.setdefault(leg, {})
        last = {one.track: one.last_packet_ns for one in figures}
        awaited = leg.awaited
        for number in [number for number in known if number not in awaited]:
            del known[number]
        silent: set[int] = set()
        overdue: list[int] = []
        for number in awaited:
            track = known.setdefault(number, _Track(now_ns))
            if last.get(number, 0) > track.last_ns:
                track.last_ns = last[number]
                track.told = False
            waited = now_ns - max(track.last_ns, track.awaited_ns)
            if waited >= (SILENT_NS if track.last_ns else _YET_NS):
                silent.add(number)
            if waited >= self._alarm_ns:
                overdue.append(number)
        marks = self._marks(known, awaited, overdue, now_ns)
        whole = bool(awaited) and len(overdue) == len(awaited)
        never = any(not known[number].last_ns for number in overdue)
        self._note(self._without, leg, whole)
        self._note(self._one_sided, leg, never and not whole)
        self._raise()
        changed = silent != leg.silent
        leg.silent = silent
        return marks, changed

    def quiet_since(self, leg: Watched) -> int:
        """When media last came, or has been awaited in vain from; 0 where none is awaited."""
        tracks = self._tracks.get(leg, {}).values()
        return max((max(track.last_ns, track.awaited_ns) for track in tracks), default=0)

    def forget(self, leg: Watched) -> None:
        """The session is over."""
        self._tracks.pop(leg, None)
        self._without.discard(leg)
        self._one_sided.discard(leg)
        self._raise()

    @staticmethod
    def _marks(known: dict[int, _Track], awaited: list[int], overdue: list[int], now_ns: int) -> list[Mark]:
        fresh = [number for number in overdue if not known[number].told]
        for number in fresh:
            known[number].told = True
        if not fresh:
            return []
        places = [-1] if len(fresh) == len(awaited) else fresh
        return [
            Mark(
                kind=MarkKind.NO_MEDIA,
                at_ns=now_ns,
                track=place,
                data={
                    "since_ns": min(max(known[number].last_ns, known[number].awaited_ns) for number in fresh)
                },
            )
            for place in places
        ]

    @staticmethod
    def _note(group: set[Watched], leg: Watched, member: bool) -> None:
        if member:
            group.add(leg)
        else:
            group.discard(leg)

    def _raise(self) -> None:
        for type_, severity, group, words in (
            (NO_MEDIA, ALARM, self._without, "up, and no media comes"),
            (ONE_SIDED, ALARM, self._one_sided, "up, and one side has never sent any media"),
        ):
            if group:
                verb = "call is" if len(group) == 1 else "calls are"
                self._status.raise_condition(type_, severity, f"{len(group)} {verb} {words}.")
            else:
                self._status.clear_condition(type_)
