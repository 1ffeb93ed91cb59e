"""Sending RTP in real time: one source, twenty milliseconds a packet."""

from __future__ import annotations

import secrets
import socket
import struct
from dataclasses import dataclass, field

from pylibsrtp import Policy, Session

FRAME_S = 0.02
FRAME = 160  # samples, and bytes of G.711
PAYLOAD_TYPES = {"PCMU": 0, "PCMA": 8}
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}


@dataclass(frozen=True)
class SrtpKey:
    """Master key and salt of one stream (RFC 4568)."""

    suite: str
    key_salt: bytes = field(repr=False)

    @classmethod
    def make(cls, suite: str) -> SrtpKey:
        """A random key for a suite."""
        return cls(suite, secrets.token_bytes(SUITES[suite][1]))

    def session(self) -> Session:
        """A sender's SRTP session."""
        policy = Policy(
            key=self.key_salt, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=SUITES[self.suite][0]
        )
        return Session(policy=policy)


@dataclass
class RtpSource:
    """One direction of media: G.711 payload that goes out frame by frame.

    `position` counts frames; `sent` the packets that went out. `muted` frames are not sent, and time goes on.
    """

    payload: bytes
    encoding: str = "PCMU"
    key: SrtpKey | None = None
    ssrc: int = field(default_factory=lambda: secrets.randbits(32))
    sequence: int = field(default_factory=lambda: secrets.randbits(15))
    timestamp: int = field(default_factory=lambda: secrets.randbits(31))
    muted: bool = False
    sent: int = 0
    position: int = 0
    _marker: bool = True

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self._srtp = self.key.session() if self.key is not None else None

    @property
    def port(self) -> int:
        """Where it sends from, and what the offer names."""
        return int(self.socket.getsockname()[1])

    @property
    def frames(self) -> int:
        """How many packets the payload makes."""
        return len(self.payload) // FRAME

    def packet(self, index: int, *, marker: bool = False) -> bytes:
        """The packet of one frame, protected where there is a key."""
        header = struct.pack(
            "!BBHII",
            0x80,
            PAYLOAD_TYPES[self.encoding] | (0x80 if marker else 0),
            (self.sequence + index) & 0xFFFF,
            (self.timestamp + FRAME * index) & 0xFFFFFFFF,
            self.ssrc,
        )
        packet = header + self.payload[FRAME * index : FRAME * (index + 1)]
        return self._srtp.protect(packet) if self._srtp is not None else packet

    def send_next(self, target: tuple[str, int]) -> None:
        """Sends the frame at `position` (unless muted) and moves on."""
        if not self.muted:
            self.socket.sendto(self.packet(self.position, marker=self._marker), target)
            self._marker = False
            self.sent += 1
        self.position += 1

    def skip(self, frames: int) -> None:
        """Time passed in which nothing was sent: the next packet begins a new talkspurt (RFC 3551, section 4.1)."""
        if frames > 0:
            self.timestamp += FRAME * frames
            self._marker = True

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()
