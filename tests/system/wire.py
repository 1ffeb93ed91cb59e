"""What a peer was sent, from the wire: RTP and SRTP out of a capture, on its true time, and the keys pressed in it."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from pathlib import Path

import captured
import numpy as np
import pylibsrtp

RATE = 8000
PCMU, PCMA = 0, 8
_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
_KEYS = "0123456789*#ABCD"


@dataclass(frozen=True)
class Heard:
    """What came to one port."""

    packets: list[captured.SentPacket]

    def sound(self, start: float, end: float) -> np.ndarray:
        """G.711 between two times (seconds since the Unix epoch), on the time of its arrival; silence where none came.

        A source keeps its own beat from its first packet on, and starts anew with a marker or after a pause.
        """
        samples = np.zeros(round((end - start) * RATE), np.int16)
        base: dict[int, tuple[int, int]] = {}  # SSRC: RTP timestamp, and the sample it stands at
        for packet in self.packets:
            if packet.payload_type not in (PCMU, PCMA):
                continue
            arrived = round((packet.at - start) * RATE)
            known = base.get(packet.ssrc)
            place = arrived if known is None else known[1] + _signed(packet.timestamp - known[0])
            if abs(place - arrived) > RATE // 5:
                place = arrived
            base[packet.ssrc] = (packet.timestamp, place)
            decode = captured.decode_alaw if packet.payload_type == PCMA else decode_ulaw
            decoded = decode(packet.payload)
            first, last = max(0, place), min(len(samples), place + len(decoded))
            if first < last:
                samples[first:last] = decoded[first - place : last - place]
        return samples

    def keys(self, payload_type: int = 101) -> str:
        """Keys of the telephone-events (RFC 4733) that came, one for each event."""
        found, last = "", None
        for packet in self.packets:
            if packet.payload_type == payload_type and len(packet.payload) >= 4:
                event = (packet.ssrc, packet.timestamp)
                if event != last:
                    found += _KEYS[packet.payload[0]] if packet.payload[0] < len(_KEYS) else "?"
                last = event
        return found

    def gaps(self) -> int:
        """Sequence numbers that are missing between the first and the last packet, over all sources."""
        missing = 0
        last: dict[int, int] = {}
        for packet in self.packets:
            if packet.ssrc in last:
                missing += max(0, ((packet.sequence - last[packet.ssrc]) & 0xFFFF) - 1)
            last[packet.ssrc] = packet.sequence
        return missing


def heard(pcap: Path, port: int, *cryptos: tuple[str, str]) -> Heard:
    """What was sent to a UDP port. `cryptos`: suites and keys (base64, RFC 4568) that whoever sent has said, in the order
    in which they came to hold; none: plain RTP.

    AssertionError where a packet opens with none of the keys that may hold by then.
    """
    rows = captured.fields(pcap, f"udp.dstport == {port}", ["frame.time_epoch", "udp.payload"])
    sessions = [_session(*crypto) for crypto in cryptos]
    packets = []
    for row in rows:
        if not row["udp.payload"]:
            continue
        data = bytes.fromhex(row["udp.payload"][0].replace(":", ""))
        if len(data) < 12 or data[0] >> 6 != 2 or 192 <= data[1] <= 223:  # RTCP on the same port
            continue
        while sessions:
            try:
                data = sessions[0].unprotect(data)
                break
            except pylibsrtp.Error as error:
                assert sessions[1:], f"a packet to port {port} is not protected as agreed: {error}"
                del sessions[0]
        packets.append(_parse(float(row["frame.time_epoch"][0]), data))
    return Heard(packets)


def _session(suite: str, key: str) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(
        key=base64.b64decode(key + "=" * (-len(key) % 4)),
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND,
        srtp_profile=_PROFILES[suite],
    )
    return pylibsrtp.Session(policy)


def decode_ulaw(data: bytes) -> np.ndarray:
    """ITU-T G.711 mu-law to 16-bit linear, from the definition."""
    code = ~np.frombuffer(data, np.uint8)
    magnitude = ((((code & 15).astype(np.int32) << 3) + 132) << ((code >> 4) & 7)) - 132
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _parse(at: float, data: bytes) -> captured.SentPacket:
    first, second, sequence, timestamp, ssrc = struct.unpack("!BBHII", data[:12])
    begin = 12 + 4 * (first & 15)
    if first & 0x10:
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    end = len(data) - (data[-1] if first & 0x20 else 0)
    return captured.SentPacket(at, second & 0x7F, sequence, timestamp, ssrc, data[begin:end])


def _signed(difference: int) -> int:
    return ((difference + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
