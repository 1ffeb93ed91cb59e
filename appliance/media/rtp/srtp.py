"""SRTP and SRTCP with SDES keys (RFC 3711, RFC 7714, RFC 4568), by libsrtp through pylibsrtp's binding, in place.

libsrtp guesses a packet's index from the highest one it has seen, and a fresh context begins at rollover 0. A
receiver that is restarted in the middle of a stream must therefore be told the rollover counter, for which
this binding has no call. `SrtpReceiver.resume` has the same effect by honest means: it makes packets of the
stream itself (it has the key), which libsrtp authenticates and whose indices it then remembers. They are
never sent anywhere.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib

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
        if suite not in _SUITES:
            raise SrtpKeyError("this SRTP suite is not known here", field="suite")
        self._profile, length = _SUITES[suite]
        if len(key_salt) != length:
            raise SrtpKeyError("the SRTP key has another length", field="key_salt")
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


_ENTRY = np.dtype([("name", "V16"), ("check", "<u4"), ("ssrc", "<u4"), ("index", "<u8")])
_EMPTY = np.zeros((), _ENTRY)


class RolloverStore:
    """Packet indices of live SRTP streams in a small mapped file, so that a restarted worker can go on.

    The file names a key only by a hash of it, cut to 128 bits; nothing in it opens anything. It outlives the process,
    not the machine: after a power cut there is no call to go on with.
    """

    def __init__(self, path: Path, entries: int = 8192) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, entries * _ENTRY.itemsize)
            self._map = mmap.mmap(fd, entries * _ENTRY.itemsize)
        finally:
            os.close(fd)
        self._table = np.frombuffer(self._map, _ENTRY)
        self._index = self._table["index"]
        kept = self._table["check"] != 0
        for slot in np.flatnonzero(kept).tolist():
            if self._check(slot) != int(self._table["check"][slot]):
                self._table[slot] = _EMPTY
                kept[slot] = False
        self._kept: dict[bytes, list[int]] = {}
        for slot in np.flatnonzero(kept).tolist():
            self._kept.setdefault(bytes(self._table["name"][slot]), []).append(slot)
        self._free = np.flatnonzero(~kept)[::-1].tolist()

    def _check(self, slot: int) -> int:
        entry = self._table[slot]
        return zlib.crc32(bytes(entry["name"]) + int(entry["ssrc"]).to_bytes(4, "little")) or 1

    @staticmethod
    def _name(key: bytes) -> bytes:
        return hashlib.sha256(b"earwitness srtp rollover\0" + key).digest()[:16]

    def find(self, key: bytes) -> dict[int, tuple[int, int]]:
        """What an earlier process left of a key's streams: slot and highest index by SSRC.

        They are the caller's from now on.
        """
        slots = self._kept.pop(self._name(key), [])
        return {int(self._table["ssrc"][slot]): (slot, int(self._index[slot])) for slot in slots}

    def add(self, key: bytes, ssrc: int) -> int:
        """A slot for a stream; -1 where the file is full of living ones: then a restart cannot go on with it."""
        if not self._free:
            self.forget_unclaimed()
        if not self._free:
            return -1
        slot: int = self._free.pop()
        self._table[slot] = (self._name(key), 0, ssrc, 0)
        self._table["check"][slot] = self._check(slot)
        return slot

    def store(self, slot: int, index: int) -> None:
        """Remembers the highest index of a stream: one aligned word, so that a crash leaves the old or the new one."""
        if slot >= 0:
            self._index[slot] = index

    def free(self, slot: int) -> None:
        if slot >= 0:
            self._table[slot] = _EMPTY
            self._free.append(slot)

    def forget_unclaimed(self) -> int:
        """Frees what an earlier process left and nobody asked for; how many."""
        slots = [slot for group in self._kept.values() for slot in group]
        for slot in slots:
            self.free(slot)
        self._kept.clear()
        return len(slots)

    def close(self) -> None:
        """Unmaps the file; what is in it stays."""
        del self._index, self._table
        self._map.close()
