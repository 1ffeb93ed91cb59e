"""Two phones with real sockets, and a box between them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from capture_kit import EVENT, LOOPBACK, Box, rtp

from appliance.media.capture.feed import MediaEvent
from appliance.media.capture.session import RemoteRequest, TrackRequest
from appliance.media.rtp.events import KEYS


@dataclass(frozen=True)
class Packet:
    """What a phone got."""

    raw: bytes

    @property
    def seq(self) -> int:
        return int.from_bytes(self.raw[2:4], "big")

    @property
    def ts(self) -> int:
        return int.from_bytes(self.raw[4:8], "big")

    @property
    def ssrc(self) -> int:
        return int.from_bytes(self.raw[8:12], "big")

    @property
    def pt(self) -> int:
        return self.raw[1] & 127

    @property
    def marker(self) -> bool:
        return bool(self.raw[1] & 128)

    @property
    def payload(self) -> bytes:
        return self.raw[12:]


class Phone:
    """One participant: an RTP and an RTCP socket, and a voice of its own."""

    def __init__(self, ssrc: int, address: str = LOOPBACK) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.address = address
        self.ssrc = ssrc
        self.rtp = socket.socket(family, socket.SOCK_DGRAM)
        self.rtcp = socket.socket(family, socket.SOCK_DGRAM)
        for sock in (self.rtp, self.rtcp):
            sock.bind((address, 0))
            sock.setblocking(False)
        self.port = self.rtp.getsockname()[1]
        self.rtcp_port = self.rtcp.getsockname()[1]
        self.to = 0
        self.to_rtcp = 0
        self.seq = 0

    def remote(self, srtp: tuple[str, bytes] | None = None) -> RemoteRequest:
        return RemoteRequest(self.address, self.port, self.rtcp_port, srtp)

    def send(self, *packets: bytes, sock: socket.socket | None = None) -> None:
        for packet in packets:
            (sock or self.rtp).sendto(packet, (self.address, self.to))

    def say(self, *payloads: bytes, pt: int = 0, sock: socket.socket | None = None) -> list[bytes]:
        """Packets of 20 ms, one after the other."""
        packets = []
        for payload in payloads:
            packets.append(rtp(self.seq, payload, ssrc=self.ssrc, pt=pt))
            self.seq += 1
        self.send(*packets, sock=sock)
        return packets

    def key(self, key: str, *, updates: int = 3, ends: int = 3, pt: int = EVENT) -> list[bytes]:
        """One key: updates, then the end as often as is said; in timestamps that follow from the sequence."""
        begin = self.seq * 160
        packets = []
        for number in range(updates + ends):
            duration = 160 * min(number + 1, updates)
            flags = 10 | (0x80 if number >= updates else 0)
            payload = struct.pack(">BBH", KEYS.index(key), flags, duration)
            packets.append(rtp(self.seq, payload, ssrc=self.ssrc, pt=pt | (0 if number else 128), ts=begin))
            self.seq += 1
        self.send(*packets)
        return packets

    def hears(self) -> list[Packet]:
        """All that has come since last asked."""
        return [Packet(data) for data in _all(self.rtp)]

    def reports(self) -> list[bytes]:
        return list(_all(self.rtcp))

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


def _all(sock: socket.socket) -> Iterable[bytes]:
    while True:
        try:
            yield sock.recv(4096)
        except BlockingIOError:
            return


class Call:
    """A call from `caller` (track 0) to `agent` (track 1), joined; track 2 is the box's own voice."""

    def __init__(self, box: Box, *, address: str = LOOPBACK, relay_only: bool = False, **agent: Any) -> None:
        self.box = box
        self.address = address
        self.caller, self.agent = Phone(100, address), Phone(200, address)
        self.watcher = box.recorder.feed.watch()
        self.session, self.ports = box.open(
            self.track(0), self.track(1, **agent), TrackRequest(2, box_voice=True),
            address=address, relay_only=relay_only,
        )  # fmt: skip
        for phone, port in zip((self.caller, self.agent), self.ports, strict=False):
            phone.to, phone.to_rtcp = port.rtp_port, port.rtcp_port

    def track(self, number: int, **more: Any) -> TrackRequest:
        """What is asked of a track: with all that is usual, but for what is said."""
        phone = (self.caller, self.agent)[number]
        usual: dict[str, Any] = {
            "events": frozenset({EVENT}),
            "clocks": ((EVENT, 8000),),
            "remote": phone.remote(),
            "hears": 1 - number,
        }
        return TrackRequest(number, **{**usual, **more})

    def told(self) -> list[MediaEvent]:
        """What the watcher was told since last asked."""
        found = []
        while (event := self.watcher.take(0.001)) is not None:
            found.append(event)
        return found

    def keys(self) -> list[str]:
        """Keys as they are, codes in brackets."""
        return [event.key or f"[{event.code}]" for event in self.told() if event.play is None]

    def close(self) -> None:
        self.box.recorder.feed.leave(self.watcher)
        self.caller.close()
        self.agent.close()
