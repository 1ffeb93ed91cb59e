"""What the box itself says: a prompt or a tone on its way to one participant, packet by packet. No sockets and no clock."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliance.media.audio import tones
from appliance.media.audio.codecs import ALAW, ULAW
from appliance.media.audio.tones import ALAW_CODES, ULAW_CODES, Tone
from appliance.media.capture.kept import BoxVoice, Kept

PACKET_MS = 20
PACKET_NS = PACKET_MS * 1_000_000
MAX_LATE_NS = 5 * PACKET_NS
"""A worker that was held up longer goes on from now instead of sending a burst."""
_TABLES = {"PCMU": (ULAW, ULAW_CODES), "PCMA": (ALAW, ALAW_CODES)}


@dataclass(frozen=True, slots=True)
class Sound:
    """Payloads of 20 ms each, and how much the RTP clock moves with each. `tone`: it may be mixed into what passes."""

    payloads: Sequence[bytes] = field(repr=False)
    encoding: str
    clock_rate: int
    tone: Tone | None = None

    @property
    def step(self) -> int:
        return self.clock_rate * PACKET_MS // 1000

    @property
    def duration_ms(self) -> int:
        return PACKET_MS * len(self.payloads)


@dataclass(slots=True)
class OwnVoice:
    """The stream in which a participant hears the box: one SSRC for all that is played to it (RFC 3550 section 5.1).

    Numbers and times go on from one sound to the next.
    """

    ssrc: int = field(default_factory=lambda: secrets.randbits(32))
    sequence: int = field(default_factory=lambda: secrets.randbits(16))
    timestamp: int = field(default_factory=lambda: secrets.randbits(32))
    clock_rate: int = 0
    ended_ns: int = 0

    def begin(self, clock_rate: int, now_ns: int) -> None:
        """A sound begins: the clock has run on meanwhile. Another clock rate is another source."""
        if self.clock_rate and self.clock_rate != clock_rate:
            self.ssrc = secrets.randbits(32)
        elif self.clock_rate:
            self._run(max(now_ns - self.ended_ns, 0) * clock_rate // 1_000_000_000)
        self.clock_rate = clock_rate

    def advance(self, step: int, ended_ns: int) -> None:
        """A packet is out, which ends at `ended_ns`."""
        self.sequence = self.sequence + 1 & 0xFFFF
        self._run(step)
        self.ended_ns = ended_ns

    def _run(self, units: int) -> None:
        self.timestamp = self.timestamp + units & 0xFFFFFFFF


@dataclass(slots=True)
class Playing:
    """One sound, from its first packet to its last. `second` is the payload type that it is sent with."""

    play_id: str
    sound: Sound
    second: int
    repeat: bool = False
    interruptible: bool = False
    voice: BoxVoice | None = None
    next_ns: int = 0
    """When the next packet is due, by the monotonic clock; 0: it has not begun."""
    sent: int = 0
    """Packets that were sent, or mixed into what passed."""
    _at: int = 0
    _sample: int = 0
    _own: OwnVoice = field(default_factory=OwnVoice)
    _marked: bool = False

    def begin(self, own: OwnVoice, now_ns: int) -> None:
        """The first packet is due now, by the monotonic clock."""
        own.begin(self.sound.clock_rate, now_ns)
        self._own = own
        self.next_ns = now_ns

    @property
    def over(self) -> bool:
        """All of it has been sent."""
        return self._at >= len(self.sound.payloads) and not self.repeat

    @property
    def mixes(self) -> bool:
        """Short enough, and of a kind, to go along with what the participant hears."""
        return self.sound.tone is not None and not self.repeat

    @property
    def left_ms(self) -> int:
        """How much is still to come; without repetitions."""
        return PACKET_MS * (len(self.sound.payloads) - self._at)

    def next_packet(self) -> bytes:
        """The next RTP packet."""
        at = self._at % len(self.sound.payloads)
        payload = self.sound.payloads[at]
        second = self.second | (0 if self._marked else 0x80)
        own = self._own
        return struct.pack(">BBHII", 0x80, second, own.sequence, own.timestamp, own.ssrc) + payload

    def advance(self, arrival_ns: int, *, sent: bool) -> Kept | None:
        """The packet is out (or could not be sent); what the recording keeps of it."""
        at = self._at % len(self.sound.payloads)
        own, kept = self._own, None
        if sent:
            self.sent += 1
            if self.voice is not None and self.voice.takes(arrival_ns):
                second = self.second | (0 if self._marked else 0x80)
                payload = self.sound.payloads[at]
                kept = Kept(False, arrival_ns, own.sequence, own.timestamp, own.ssrc, second, payload)
            self._marked = True
        self._at = at + 1
        self._sample = 0
        self.next_ns += PACKET_NS
        own.advance(self.sound.step, self.next_ns)
        return kept

    # riding along

    def fits(self, payload_type: int) -> bool:
        """Packets of this payload type can take the sound along."""
        return payload_type == self.second

    def ride(
        self, cell: NDArray[np.uint8], size: int, offset: int, length: int, arrival_ns: int
    ) -> tuple[int, list[Kept]]:
        """Puts the next piece of the tone into a packet: mixes it (G.711), or replaces what is in it.

        `cell` holds the packet of `size` bytes, its payload at `offset`, `length` bytes long. The packet's new size, and
        what the recording keeps of the tone.
        """
        table = _TABLES.get(self.sound.encoding)
        if table is not None:
            return size, self._mix(cell[offset : offset + length], *table, arrival_ns)
        payload = np.frombuffer(self.sound.payloads[self._at], np.uint8)
        if offset + len(payload) > len(cell) - 16:
            return size, []  # no room: this packet passes as it is
        cell[offset : offset + len(payload)] = payload
        cell[0] &= 0xDF  # padding went with what was replaced
        kept = self.advance(arrival_ns, sent=True)
        return offset + len(payload), [kept] if kept else []

    def _mix(
        self,
        payload: NDArray[np.uint8],
        table: NDArray[np.int16],
        codes: NDArray[np.uint8],
        arrival_ns: int,
    ) -> list[Kept]:
        assert self.sound.tone is not None
        tone = tones.samples(self.sound.tone, self.sound.clock_rate)
        step = self.sound.step
        begin = self._at * step + self._sample
        piece = tone[begin : begin + len(payload)].astype(np.int32)
        mixed = np.clip(table[payload[: len(piece)]] + piece, -32768, 32767).astype(np.int16)
        changed = piece != 0
        payload[: len(piece)][changed] = codes[mixed.view(np.uint16)][changed]
        kept = []
        end = begin + len(piece)
        while (self._at + 1) * step <= end:
            packet = self.advance(arrival_ns, sent=True)
            if packet is not None:
                kept.append(packet)
        self._sample = end - self._at * step
        return kept
