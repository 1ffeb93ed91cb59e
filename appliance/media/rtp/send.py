"""Batched send: rows of packets out of many sockets, by sendmmsg(2) through ctypes.

The kernel's message headers of all rows are a table, as in `receive`: a group of consecutive rows that leave by one
socket is one call. A row's bytes lie where they were received, or in a cell of this table where they were changed.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import socket
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.media.rtp.receive import CELL, IOVEC, MMSGHDR
from appliance.model import InvalidError

NAME = 32
"""Bytes kept for one socket address; sockaddr_in6 has 28."""
OUT_CELL = CELL + 64
"""Bytes of one cell: a received packet, and what SRTP adds to it (at most 16)."""
_MSG_DONTWAIT = 0x40

# PyDLL keeps the interpreter's lock, as in `receive`: nothing here ever sleeps.
_libc = ctypes.PyDLL(None, use_errno=True)
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
_sendmmsg.restype = ctypes.c_int
_sendto = _libc.sendto
_sendto.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
]
_sendto.restype = ctypes.c_ssize_t


class RemoteAddressError(InvalidError):
    """Where to send is no unicast address in numbers, of the family of our own; `data['field']` names it."""

    reason = "REMOTE_ADDRESS_INVALID"


def socket_address(host: str, port: int, family: int, field: str = "remote.host") -> bytes:
    """The kernel's form of an address: 16 bytes for IPv4, 28 for IPv6; none where nothing is to be sent (port 0, the
    unspecified address). RemoteAddressError where the address is none, multicast, broadcast, or of another family.
    """
    if not 0 <= port <= 0xFFFF:
        raise RemoteAddressError("not a port", field=field)
    try:
        address = ipaddress.ip_address(host or "0.0.0.0")
    except ValueError:
        # The address is somebody's: it is not quoted.
        raise RemoteAddressError("not an address in numbers", field=field) from None
    if address.is_unspecified or not port:
        return b""
    if address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        raise RemoteAddressError("media goes to one receiver only", field=field)
    if (socket.AF_INET6 if address.version == 6 else socket.AF_INET) != family:
        raise RemoteAddressError("the address is of another family than our own", field=field)
    if isinstance(address, ipaddress.IPv4Address):
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + address.packed + bytes(8)
    if address.scope_id is not None:
        raise RemoteAddressError("an address that holds on one link only", field=field)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0) + address.packed + bytes(4)


def host_part(name: bytes) -> bytes:
    """The address without its port, of a socket address in the kernel's form."""
    return name[8:24] if name[:2] == struct.pack("=H", socket.AF_INET6) else name[4:8]


def sendable(name: bytes) -> bool:
    """A packet may be sent there: a unicast address with a port. Source addresses can be forged."""
    host = host_part(name)
    if name[2:4] == b"\0\0" or not any(host):
        return False
    if len(host) == 16:
        # A mapped IPv4 address is judged as what it stands for.
        if host[:12] == bytes(10) + b"\xff\xff":
            host = host[12:]
        else:
            return host[0] != 0xFF
    return host[0] < 224


def send_one(fd: int, data: bytes, name: bytes) -> int:
    """Sends one datagram; 0, or the kernel's error number."""
    if _sendto(fd, data, len(data), _MSG_DONTWAIT, name, len(name)) < 0:
        return ctypes.get_errno()
    return 0


class Outgoing:
    """`rows` rows that can be sent together."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.cells: NDArray[np.uint8] = np.zeros((rows, OUT_CELL), np.uint8)
        self._headers = np.zeros(rows, MMSGHDR)
        self._iovecs = np.zeros(rows, IOVEC)
        self._headers["iov"] = np.uint64(self._iovecs.ctypes.data) + np.arange(
            rows, dtype=np.uint64
        ) * np.uint64(16)
        self._headers["iovlen"] = 1
        self._address: int = self._headers.ctypes.data
        self._own = np.uint64(self.cells.ctypes.data) + np.arange(rows, dtype=np.uint64) * np.uint64(OUT_CELL)
        self.errors: dict[int, int] = {}
        """Packets the kernel did not take, by its error number."""

    def fill(
        self,
        first: int,
        bases: NDArray[np.uint64] | None,
        lengths: NDArray[np.uint32],
        names: NDArray[np.uint64],
        name_lengths: NDArray[np.uint32],
    ) -> None:
        """Sets rows from `first` on: where the bytes are (None: in this table's cells), how many, and whom they go to
        (addresses of memory that stays where it is until they are sent)."""
        part = slice(first, first + len(lengths))
        self._iovecs["base"][part] = self._own[part] if bases is None else bases
        self._iovecs["len"][part] = lengths
        headers = self._headers[part]
        headers["name"] = names
        headers["namelen"] = name_lengths

    def send(self, fds: Sequence[int], counts: Sequence[int]) -> list[int]:
        """Sends rows from 0 on, group by group. How many of each the kernel did not take; `errors` says why."""
        row = self._address
        call, dontwait = _sendmmsg, _MSG_DONTWAIT
        failed: list[int] = []
        for fd, count in zip(fds, counts, strict=True):
            done = call(fd, row, count, dontwait)
            failed.append(0 if done == count else self._rest(fd, row, count, max(done, 0), done < 0))
            row += count << 6
        return failed

    def _rest(self, fd: int, row: int, count: int, done: int, refused: bool) -> int:
        """What is left of a group that the kernel did not take in one go."""
        failed = 0
        while done < count:
            if not refused:
                more = _sendmmsg(fd, row + (done << 6), count - done, _MSG_DONTWAIT)
                if more > 0:
                    done += more
                    continue
            code = ctypes.get_errno()
            refused = False
            if code == errno.EINTR:
                continue
            self.errors[code] = self.errors.get(code, 0) + 1
            if code in (errno.EAGAIN, errno.ENOBUFS):  # no room: the others of the group would fare no better
                self.errors[code] += count - done - 1
                return failed + count - done
            failed += 1
            # An error that waited in the socket (ICMP) is told instead of sending: that packet is tried once more.
            if code != errno.ECONNREFUSED or _sendmmsg(fd, row + (done << 6), 1, _MSG_DONTWAIT) != 1:
                done += 1
                continue
            self.errors[code] -= 1
            failed -= 1
            done += 1
        return failed
