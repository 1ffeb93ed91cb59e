"""The keys of one participant: which are told, which are passed on, and which nobody else ever hears of.

No sockets and no clock. Each event packet of the participant gets a fate; what the box's own codes are made of is held back
until it is clear what it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from appliance.media.capture.kept import Kept
from appliance.media.rtp.events import Event, EventReader
from appliance.media.rtp.keypad import Keypad, Outcome

MAX_PRESSES = 20
"""Keys told in one second; the fastest autodialler sends ten."""
_SECOND_NS = 1_000_000_000
_MAX_HELD = 64  # packets kept back of one key


class Fate(IntEnum):
    """What becomes of an event's packets."""

    PASS = 0  # passed on and recorded
    RECORD = 1  # recorded only: the key ended a play, or is sent anew
    HOLD = 2  # not clear yet
    HIDE = 3  # of a code: neither


@dataclass(frozen=True, slots=True)
class Told:
    """A key that was pressed, or a code that was entered."""

    keys: str = field(repr=False)
    code: bool
    at_ns: int


@dataclass(slots=True)
class KeyWatch:
    """See the module. Whoever reads `told`, `resend` and `keep` empties them."""

    codes: tuple[str, ...] = ()
    told: list[Told] = field(default_factory=list)
    resend: list[Event] = field(default_factory=list)
    """Keys to send anew to whoever hears the participant, in order."""
    keep: list[Kept] = field(default_factory=list)
    """Packets that were held back and belong into the recording after all."""
    _reader: EventReader = field(default_factory=EventReader)
    _keypad: Keypad = field(init=False)
    _waiting: list[Event] = field(default_factory=list)
    _held: dict[Event, list[Kept]] = field(default_factory=dict)
    _presses: deque[int] = field(default_factory=lambda: deque(maxlen=MAX_PRESSES))

    def __post_init__(self) -> None:
        self._keypad = Keypad(self.codes)

    @property
    def pending(self) -> bool:
        """Keys wait: call `expire` from time to time."""
        return bool(self._waiting)

    def change(self, codes: Iterable[str]) -> None:
        """Other codes; keys that wait are given back, or were a code of before."""
        codes = tuple(codes)
        if codes != self.codes:
            self._apply(self._keypad.flush(), None, busy=True)
            self.codes = codes
            self._keypad = Keypad(codes)

    def take(
        self, ssrc: int, timestamp: int, payload: bytes, at_ns: int, *, busy: bool, interrupts: bool
    ) -> tuple[Fate, Event | None, bool]:
        """The fate of one packet, its event, and whether a key was pressed that ends a play.

        `busy`: keys of before are still being sent anew, so that this one must queue. `interrupts`: any key ends what
        plays to the participant.
        """
        fate, event, ended = Fate.PASS, None, False
        for found, fresh in self._reader.read(ssrc, timestamp, payload, at_ns):
            if fresh and found.key:
                ended |= self._pressed(found, at_ns, busy, interrupts and not ended)
            if event is None or found.fate > fate:
                fate, event = Fate(found.fate), found
        return fate, event, ended

    def hold(self, event: Event, packet: Kept) -> None:
        """A packet whose fate is to wait, and that would be recorded."""
        packets = self._held.setdefault(event, [])
        if len(packets) < _MAX_HELD:
            packets.append(packet)

    def forget_held(self, from_ns: int) -> None:
        """A pause that began at `from_ns` covers these too."""
        for event, packets in self._held.items():
            self._held[event] = [packet for packet in packets if packet.arrival_ns < from_ns]

    def expire(self, now_ns: int, *, busy: bool) -> None:
        """What is decided by time alone."""
        self._apply(self._keypad.expire(now_ns), None, busy=busy)

    def _pressed(self, event: Event, at_ns: int, busy: bool, interrupts: bool) -> bool:
        if len(self._presses) == MAX_PRESSES and at_ns - self._presses[0] < _SECOND_NS:
            # Not keyed in by anybody. Where there are codes it must not be a way around them.
            event.fate = Fate.HIDE if self.codes else Fate.PASS
            return False
        self._presses.append(at_ns)
        if interrupts:
            event.fate = Fate.RECORD
            self.told.append(Told(event.key, False, at_ns))
            return True
        event.fate = Fate.HOLD
        self._waiting.append(event)
        self._apply(self._keypad.press(event.key, at_ns), event, busy=busy)
        return False

    def _apply(self, outcomes: list[Outcome], current: Event | None, *, busy: bool) -> None:
        for outcome in outcomes:
            events = self._waiting[: len(outcome.keys)]
            del self._waiting[: len(outcome.keys)]
            self.told.append(Told(outcome.keys, outcome.code, events[-1].at_ns))
            for event in events:
                held = self._held.pop(event, [])
                if outcome.code:
                    event.fate = Fate.HIDE
                elif event is current and not busy and not self.resend:
                    event.fate = Fate.PASS
                else:
                    event.fate = Fate.RECORD
                    self.resend.append(event)
                    self.keep.extend(held)
