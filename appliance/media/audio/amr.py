"""AMR and AMR-WB payloads (RFC 4867) as storage frames, which is what decoders take."""

from __future__ import annotations

# Speech bits of each frame type; 0: no data. RFC 4867 section 3.6 and the codecs' specifications (3GPP TS 26.101, 26.201).
_NB_BITS = (95, 103, 118, 134, 148, 159, 204, 244, 39, 0, 0, 0, 0, 0, 0, 0)
_WB_BITS = (132, 177, 253, 285, 317, 365, 397, 461, 477, 40, 0, 0, 0, 0, 0, 0)
MAX_FRAMES = 32


def storage_frames(payload: bytes, *, wide: bool, aligned: bool) -> list[bytes] | None:
    """One storage frame (RFC 4867 section 5.3) for each 20 ms of the payload; None where it is malformed.

    `aligned`: octet-aligned mode (fmtp octet-align=1); otherwise bandwidth-efficient mode. Interleaving, CRCs and
    several channels are not read.
    """
    sizes = _WB_BITS if wide else _NB_BITS
    bits = int.from_bytes(payload, "big")
    left = len(payload) * 8

    def take(count: int) -> int:
        nonlocal left
        left -= count
        return bits >> left & (1 << count) - 1

    if left < 16:
        return None
    take(8 if aligned else 4)  # CMR, what the other side would like to get
    heads: list[tuple[int, int]] = []
    more = 1
    while more:
        if left < 8 or len(heads) >= MAX_FRAMES:
            return None
        more, kind, quality = take(1), take(4), take(1)
        if aligned:
            take(2)
        heads.append((kind, quality))
    frames = []
    for kind, quality in heads:
        size = sizes[kind]
        octets = (size + 7) // 8
        if left < (octets * 8 if aligned else size):
            return None
        speech = take(octets * 8) if aligned else take(size) << (octets * 8 - size)
        frames.append(bytes([kind << 3 | quality << 2]) + speech.to_bytes(octets, "big"))
    return frames
