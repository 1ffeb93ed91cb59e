"""SRTP and SRTCP with SDES keys (RFC 3711, RFC 7714, RFC 4568), by libsrtp through pylibsrtp's binding, in place.

libsrtp guesses a packet's index from the highest one it has seen, and a fresh context begins at rollover 0. A
receiver that is restarted in the middle of a stream must therefore be told the rollover counter, for which
this binding has no call. `SrtpReceiver.resume` has the same effect by honest means: it makes packets of the
stream itself (it has the key), which libsrtp authenticates and whose indices it then remembers. They are
never sent anywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib

from appliance.media.rtp.rollover import RolloverStore
from appliance.model import InvalidError

_SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}
SUITES = tuple(_SUITES)
GRACE = 500
"""Packets after a change of keys for which the old one still opens: ten seconds of a voice."""
_STEP = 1 << 14  # libsrtp follows jumps of less than 2^15
_MAX_INDEX = (1 << 48) - 1
MAX_SSRCS = 64  # remembered per track; a sender who holds the key and has more is not a voice


class SrtpKeyError(InvalidError):
    """The suite is not known here or the key has another length; `data['field']` says which."""

    reason = "SRTP_KEY_INVALID"


def check_key(suite: str, key_salt: bytes) -> int:
    """libsrtp's number of a suite. SrtpKeyError where it is not known or the key has another length."""
    if suite not in _SUITES:
        raise SrtpKeyError("this SRTP suite is not known here", field="suite")
    profile, length = _SUITES[suite]
    if len(key_salt) != length:
        raise SrtpKeyError("the SRTP key has another length", field="key_salt")
    return profile


def _session(profile: int, key: bytes, ssrc_type: int) -> Session:
    policy = Policy(key=key, ssrc_type=ssrc_type, srtp_profile=profile)
    session = Session(policy)
    # The policy holds a copy of the key; libsrtp has its own by now.
    ffi.buffer(policy._policy.key, len(key))[:] = bytes(len(key))
    return session


class SrtpReceiver:
    """What decrypts one track. `key_salt` is master key and master salt, concatenated.

    `previous` is the receiver of the key before this one: until the sender has heard our answer it goes on with that, so
    packets that do not open here are tried there, for the first `GRACE` packets.

    Without `rollovers` the receiver still works; after a restart in the middle of a long stream it then
    refuses packets.
    """

    def __init__(
        self,
        suite: str,
        key_salt: bytes,
        rollovers: RolloverStore | None = None,
        previous: SrtpReceiver | None = None,
    ) -> None:
        self._profile = check_key(suite, key_salt)
        self._key = key_salt
        self._session = _session(self._profile, key_salt, Policy.SSRC_ANY_INBOUND)
        self._srtp = self._session._srtp[0]
        self._rollovers = rollovers
        self._previous = previous
        self._grace = GRACE
        if previous is not None:
            previous.drop_previous()  # two keys at a time, not a chain of them
        self._highest: dict[int, int] = {}
        self._slots: dict[int, int] = {}

    def unprotect_rows(
        self, cells: NDArray[np.uint8], lengths: NDArray[np.uint32], first: int, last: int
    ) -> int:
        """Decrypts the packets in rows `first` to `last` of `cells` in place, and makes their `lengths` those of plain RTP.

        A packet that does not authenticate, or is a replay, gets length 0. Returns how many are good.
        """
        if self._previous is None:
            return self._unprotect(cells, lengths, first, last)
        # A packet that fails may have been changed in place, so both keys need the bytes as received.
        kept, sizes = cells[first:last].copy(), lengths[first:last].copy()
        good = self._unprotect(cells, lengths, first, last)
        for index in np.flatnonzero((lengths[first:last] == 0) & (sizes > 0)).tolist():
            cells[first + index] = kept[index]
            lengths[first + index] = sizes[index]
            good += self._previous.unprotect_rows(cells, lengths, first + index, first + index + 1)
        self._grace -= last - first
        if self._grace <= 0:
            self.drop_previous()
        return good

    def drop_previous(self) -> None:
        """Forgets the key before this one."""
        if self._previous is not None:
            self._previous.close()
            self._previous = None

    def _unprotect(self, cells: NDArray[np.uint8], lengths: NDArray[np.uint32], first: int, last: int) -> int:
        width = cells.shape[1]
        base = ffi.from_buffer("unsigned char[]", cells)
        sizes = lengths[first:last].astype(np.int32)
        sizes[sizes > width] = 0  # cut by the kernel: cannot authenticate
        out = ffi.from_buffer("int[]", sizes, require_writable=True)
        unprotect, srtp = lib.srtp_unprotect, self._srtp
        for index in range(last - first):
            if unprotect(srtp, base + (first + index) * width, out + index):
                sizes[index] = 0
        lengths[first:last] = sizes
        good = np.flatnonzero(sizes >= 12)
        if len(good):
            heads = cells[first + good, :12]
            sequences = heads[:, 2].astype(np.int64) << 8 | heads[:, 3]
            ssrcs = np.ascontiguousarray(heads[:, 8:12]).view(">u4")[:, 0]
            for ssrc in set(ssrcs.tolist()):
                self._follow(ssrc, sequences[ssrcs == ssrc])
        return len(good)

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """A compound packet decrypted; None where it does not authenticate."""
        if not 12 <= len(packet) <= 4096:
            return None
        buffer = ffi.new("unsigned char[]", packet)
        size = ffi.new("int *", len(packet))
        if lib.srtp_unprotect_rtcp(self._srtp, buffer, size):
            return None if self._previous is None else self._previous.unprotect_rtcp(packet)
        return bytes(ffi.buffer(buffer, size[0]))

    def highest(self, ssrc: int) -> int | None:
        """The highest packet index seen of a stream: rollover counter times 2^16 plus sequence number (RFC
        3711 section 3.3.1).
        """
        return self._highest.get(ssrc)

    def resume(self, ssrc: int, index: int) -> None:
        """Lets a stream go on after `index`, as if all packets up to it had been received."""
        if not 0 <= index <= _MAX_INDEX:
            raise SrtpKeyError("not a packet index", field="index")
        sender = _session(self._profile, self._key, Policy.SSRC_ANY_OUTBOUND)
        at = 0
        while True:
            primer = sender.protect(struct.pack(">BBHII", 0x80, 0, at & 0xFFFF, 0, ssrc))
            buffer = ffi.new("unsigned char[]", primer)
            lib.srtp_unprotect(self._srtp, buffer, ffi.new("int *", len(primer)))
            if at >= index:
                break
            at = min(at + _STEP, index)
        self._highest[ssrc] = index

    def resume_known(self) -> int:
        """Resumes every stream of this key that the store remembers from before a restart; how many."""
        if self._rollovers is None:
            return 0
        found = self._rollovers.find(self._key)
        for ssrc, (slot, index) in found.items():
            self.resume(ssrc, index)
            self._slots[ssrc] = slot
        return len(found)

    def close(self) -> None:
        """Forgets the streams: a new key begins at rollover 0."""
        self.drop_previous()
        if self._rollovers is not None:
            for slot in self._slots.values():
                self._rollovers.free(slot)
        self._slots.clear()
        self._highest.clear()

    def _follow(self, ssrc: int, sequences: NDArray[np.int64]) -> None:
        """Libsrtp's own estimate of the index (RFC 3711 appendix A), for the highest of some packets just accepted."""
        highest = self._highest.get(ssrc)
        if highest is None:
            if len(self._highest) >= MAX_SSRCS:
                return
            highest = int(sequences[0])
        low = highest & 0xFFFF
        # Distance of each packet from the highest one so far, the short way round.
        distance = (sequences - low + 0x8000 & 0xFFFF) - 0x8000
        highest += max(0, int(distance.max()))
        self._highest[ssrc] = highest
        if self._rollovers is not None:
            slot = self._slots.get(ssrc)
            if slot is None:
                slot = self._slots[ssrc] = self._rollovers.add(self._key, ssrc)
            self._rollovers.store(slot, highest)


class SrtpSender:
    """What encrypts towards one receiver. `key_salt` is our own master key and salt, concatenated.

    A stream begins at rollover 0 with whatever number comes first, and is followed from there on (RFC 3711 section 3.3.1).
    A packet index is never used twice: repetitions, and what comes from before the beginning, are not sent. With
    `rollovers` a stream goes on after a restart of the worker, as its receiver expects.
    """

    def __init__(self, suite: str, key_salt: bytes, rollovers: RolloverStore | None = None) -> None:
        profile = check_key(suite, key_salt)
        self._session = _session(profile, key_salt, Policy.SSRC_ANY_OUTBOUND)
        self._srtp = self._session._srtp[0]
        self._rollovers = rollovers
        self._keys = (key_salt, key_salt + b"rtcp")
        self._highest: dict[int, int] = {}
        self._reports: dict[int, int] = {}
        self._slots: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def protect_rows(
        self, cells: NDArray[np.uint8], lengths: NDArray[np.uint32], first: int, last: int
    ) -> int:
        """Encrypts the RTP packets in rows `first` to `last` of `cells` in place, and makes their `lengths` those of SRTP.

        Each cell must have 16 bytes to spare. What cannot be sent gets length 0. Returns how many can.
        """
        heads = cells[first:last, :12]
        sequences = (heads[:, 2].astype(np.int64) << 8 | heads[:, 3]).tolist()
        ssrcs = np.ascontiguousarray(heads[:, 8:12]).view(">u4")[:, 0].tolist()
        senders = [self] * (last - first)
        return len(protect_each(senders, cells, lengths, first, ssrcs, sequences))

    def _protect_at(self, packet: Any, size: Any, ssrc: int, sequence: int) -> bool:
        highest = self._highest.get(ssrc)
        if highest is None:
            if len(self._highest) >= MAX_SSRCS:
                return False
            here = highest = sequence
        else:
            here = highest + ((sequence - highest + 0x8000 & 0xFFFF) - 0x8000)
            if here < 0:
                return False
        if lib.srtp_protect(self._srtp, packet, size):
            return False
        if here >= highest:
            self._highest[ssrc] = here
            if self._rollovers is not None:
                self._remember(0, ssrc, here)
        return True

    def protect(self, packet: bytes) -> bytes | None:
        """One RTP packet, encrypted; None where it must not be sent."""
        cells = np.zeros((1, len(packet) + 64), np.uint8)
        cells[0, : len(packet)] = np.frombuffer(packet, np.uint8)
        lengths = np.array([len(packet)], np.uint32)
        return cells[0, : lengths[0]].tobytes() if self.protect_rows(cells, lengths, 0, 1) else None

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        """A compound packet, encrypted; None where it cannot be."""
        if not 8 <= len(packet) <= 4096:
            return None
        ssrc = int.from_bytes(packet[4:8], "big")
        if ssrc not in self._reports and len(self._reports) >= MAX_SSRCS:
            return None
        buffer = ffi.new("unsigned char[]", packet + bytes(64))
        size = ffi.new("int *", len(packet))
        if lib.srtp_protect_rtcp(self._srtp, buffer, size):
            return None
        self._reports[ssrc] = self._reports.get(ssrc, 0) + 1
        self._remember(1, ssrc, self._reports[ssrc])
        return bytes(ffi.buffer(buffer, size[0]))

    def resume_known(self) -> int:
        """Resumes every stream of this key that the store remembers from before a restart; how many.

        Packets are encrypted and thrown away until libsrtp has counted as far as before.
        """
        if self._rollovers is None:
            return 0
        found = self._rollovers.find(self._keys[0])
        for ssrc, (slot, index) in found.items():
            at = index % _STEP
            while at <= index:
                self._session.protect(struct.pack(">BBHII", 0x80, 0, at & 0xFFFF, 0, ssrc))
                at += _STEP
            self._highest[ssrc] = index
            self._slots[0][ssrc] = slot
        for ssrc, (slot, count) in self._rollovers.find(self._keys[1]).items():
            report = struct.pack(">BBHI", 0x80, 201, 1, ssrc)
            for _ in range(min(count, 1 << 20)):
                self._session.protect_rtcp(report)
            self._reports[ssrc] = count
            self._slots[1][ssrc] = slot
        return len(found)

    def close(self) -> None:
        """Forgets the streams. The same key must not be begun with again."""
        if self._rollovers is not None:
            for slots in self._slots:
                for slot in slots.values():
                    self._rollovers.free(slot)
                slots.clear()

    def _remember(self, kind: int, ssrc: int, index: int) -> None:
        if self._rollovers is None:
            return
        slots = self._slots[kind]
        slot = slots.get(ssrc)
        if slot is None:
            slot = slots[ssrc] = self._rollovers.add(self._keys[kind], ssrc)
        self._rollovers.store(slot, index)


def protect_each(
    senders: Sequence[SrtpSender],
    cells: NDArray[np.uint8],
    lengths: NDArray[np.uint32],
    first: int,
    ssrcs: Sequence[int],
    sequences: Sequence[int],
) -> list[int]:
    """Encrypts rows of `cells` from `first` on in place, each by its own sender; as SrtpSender.protect_rows. The rows that
    can be sent, counted from 0. `ssrcs` and `sequences` are what the packets' headers say."""
    width = cells.shape[1]
    base = ffi.from_buffer("unsigned char[]", cells) + first * width
    part = slice(first, first + len(senders))
    sizes = lengths[part].astype(np.int32)
    out = ffi.from_buffer("int[]", sizes, require_writable=True)
    good = []
    for index, sender in enumerate(senders):
        if sender._protect_at(base + index * width, out + index, ssrcs[index], sequences[index]):
            good.append(index)
        else:
            sizes[index] = 0
    lengths[part] = sizes
    return good
