"""Batched receive: many UDP sockets into one arena, by recvmmsg(2) through ctypes.

An `Arena` is a table of rows. Each row has a cell of 512 bytes (any audio packet), a source address, and a control
buffer for the kernel's receive time (SO_TIMESTAMPNS) and its count of packets lost for want of buffer (SO_RXQ_OVFL).
The kernel's message headers for all rows are built once; a drain hands the kernel the rows from `used` on, so what one
drain brings from all sockets lies in consecutive rows, and its columns are numpy views without a copy.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CELL = 512
"""Bytes of one cell. A longer datagram is cut by the kernel, which says so (MSG_TRUNC)."""
BATCH = 64
"""Datagrams asked for in one call: 200 ms of one voice are ten."""

_NAME = 32  # sockaddr_in6 has 28
_CONTROL = 64  # two control messages of 32 and 24
_PREPARE = 4096  # rows made ready at a time: a small box never touches the memory of a large one
_MSG_DONTWAIT = 0x40
_MSG_TRUNC = 0x20
_SO_RXQ_OVFL = 40
_SO_TIMESTAMPNS = 35
_SOL_SOCKET = 1
_MIX = np.uint64(0x9E3779B97F4A7C15)
_INET6 = struct.pack("=H", socket.AF_INET6)

# struct mmsghdr and struct iovec of 64-bit Linux, for `send` too.
MMSGHDR = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "len"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
IOVEC = np.dtype([("base", "u8"), ("len", "u8")])

# PyDLL keeps the interpreter's lock: a drain never sleeps, and giving the lock away 10,000 times a second costs more
# than the call.
_libc = ctypes.PyDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
_recvmmsg.restype = ctypes.c_int


def source_key(name: bytes) -> int:
    """The number that `Arena.sources` gives for a socket address in the kernel's form."""
    return int(_source_keys(np.frombuffer(name.ljust(_NAME, b"\0"), np.uint64).reshape(1, -1))[0])


def _source_keys(names: NDArray[np.uint64]) -> NDArray[np.uint64]:
    keys = names[:, 0].copy()
    wide = (keys & np.uint64(0xFFFF)) == socket.AF_INET6
    if wide.any():
        part = names[wide]
        mixed = part[:, 0] & np.uint64(0xFFFFFFFF)
        for column in (1, 2, 3):
            word = part[:, column] if column < 3 else part[:, column] & np.uint64(0xFFFFFFFF)
            mixed = (mixed ^ word) * _MIX
            mixed ^= mixed >> np.uint64(29)
        keys[wide] = mixed
    return keys


def prepare_socket(sock: socket.socket, receive_buffer: int = 256 * 1024) -> None:
    """Makes a bound UDP socket fit for an arena: kernel receive times, loss counter, buffer in bytes (the
    kernel doubles it).
    """
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)


class Arena:
    """`rows` rows to receive into. `used` of them hold packets."""

    def __init__(self, rows: int) -> None:
        if rows < 2 * BATCH:
            raise ValueError(f"an arena has at least {2 * BATCH} rows")
        self.rows = rows
        self.used = 0
        self.failures: list[tuple[int, int]] = []
        """Sockets the kernel would not read, with its error number; whoever reads the list empties it."""
        self.cells: NDArray[np.uint8] = np.empty((rows, CELL), np.uint8)
        self._headers = np.zeros(rows, MMSGHDR)
        self._iovecs = np.zeros(rows, IOVEC)
        self._names = np.zeros((rows, _NAME // 8), np.uint64)
        self._control = np.zeros((rows, _CONTROL // 8), np.int64)
        self._address: int = self._headers.ctypes.data
        self._prepared = 0
        self.lengths: NDArray[np.uint32] = self._headers["len"]
        self._prepare(min(rows, _PREPARE))

    @property
    def base(self) -> int:
        """Address of the first cell, for C libraries that work in place."""
        return int(self.cells.ctypes.data)

    @property
    def full(self) -> bool:
        """No room for another batch: empty it (`rewind`) before the next drain."""
        return self.used + BATCH > self.rows

    def _prepare(self, until: int) -> None:
        rows = np.arange(self._prepared, until, dtype=np.uint64)
        part = slice(self._prepared, until)
        self._iovecs["base"][part] = np.uint64(self.cells.ctypes.data) + rows * np.uint64(CELL)
        self._iovecs["len"][part] = CELL
        headers = self._headers[part]
        headers["name"] = np.uint64(self._names.ctypes.data) + rows * np.uint64(_NAME)
        headers["namelen"] = _NAME
        headers["iov"] = np.uint64(self._iovecs.ctypes.data) + rows * np.uint64(16)
        headers["iovlen"] = 1
        headers["control"] = np.uint64(self._control.ctypes.data) + rows * np.uint64(_CONTROL)
        headers["controllen"] = _CONTROL
        self._prepared = until

    def drain(self, fds: Sequence[int], limit: int = 8 * BATCH) -> tuple[list[int], int]:
        """Receives what waits on each socket, at most about `limit` datagrams from one.

        Returns the number of rows each socket filled, in the order of `fds`, and how many sockets were
        served: fewer than asked for when the arena is full. The rows lie from the old `used` to the new one.
        Where the kernel refuses for another reason than that nothing waits, `failures` says so.
        """
        row = self.used
        room = self.rows - BATCH
        ready = self._prepared - BATCH
        receive, batch, dontwait = _recvmmsg, BATCH, _MSG_DONTWAIT
        address = self._address
        counts: list[int] = []
        add = counts.append
        for fd in fds:
            if row > ready:
                if row > room:
                    break
                self._prepare(min(self.rows, max(row + 2 * batch, self._prepared + _PREPARE)))
                ready = self._prepared - batch
            count = receive(fd, address + (row << 6), batch, dontwait, None)
            if count > 0:
                row += count
                if count == batch:
                    self.used = row
                    count += self._drain_more(fd, limit - batch)
                    row = self.used
                    ready = self._prepared - batch
                add(count)
            else:
                if count < 0:
                    code = ctypes.get_errno()
                    # The interrupted call and an ICMP error of our own peer bring nothing; they are not our failure.
                    if code not in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                        self.failures.append((fd, code))
                add(0)
        self.used = row
        return counts, len(counts)

    def _drain_more(self, fd: int, limit: int) -> int:
        """The rest of a socket on which more than a batch waits."""
        total = 0
        while total < limit and not self.full:
            if self.used + BATCH > self._prepared:
                self._prepare(min(self.rows, max(self.used + 2 * BATCH, self._prepared + _PREPARE)))
            count = _recvmmsg(fd, self._address + (self.used << 6), BATCH, _MSG_DONTWAIT, None)
            if count <= 0:
                break
            self.used += count
            total += count
            if count < BATCH:
                break
        return total

    def rewind(self) -> None:
        """Forgets all rows; their cells are used again."""
        headers = self._headers[: self.used]
        headers["namelen"] = _NAME
        headers["controllen"] = _CONTROL
        self._control[: self.used] = 0
        self.used = 0

    def arrivals(self, first: int, last: int, now_ns: int) -> NDArray[np.int64]:
        """Kernel receive times of rows, nanoseconds since the Unix epoch; `now_ns` where the kernel gave none."""
        control = self._control[first:last]
        stamps = control[:, 2] * 1_000_000_000
        stamps += control[:, 3]
        # One word holds level and type of the control message.
        missing = control[:, 1] != (_SO_TIMESTAMPNS << 32 | _SOL_SOCKET)
        if missing.any():
            stamps[missing] = now_ns
        return stamps

    def overflows(self, first: int, last: int) -> list[tuple[int, int]]:
        """Rows that carry the kernel's loss counter, with the counter's value (32 bits, grows for the socket's life)."""
        level = self._control[first:last, 5]
        found = np.flatnonzero(level == (_SO_RXQ_OVFL << 32 | _SOL_SOCKET))
        return [(first + int(row), int(self._control[first + row, 6]) & 0xFFFFFFFF) for row in found]

    def truncated(self, first: int, last: int) -> NDArray[np.bool_]:
        """Rows whose datagram was longer than its cell."""
        flags = self._headers["flags"][first:last]
        return (flags & _MSG_TRUNC) != 0

    def sources(self, first: int, last: int) -> NDArray[np.uint64]:
        """One number for each row's source address and port: exact for IPv4, a hash for IPv6."""
        return _source_keys(self._names[first:last])

    def source_name(self, row: int) -> bytes:
        """A row's source address in the kernel's form: 16 bytes for IPv4, 28 for IPv6."""
        name = self._names[row].tobytes()
        return name[:28] if name[:2] == _INET6 else name[:16]

    def carry(self, rows: NDArray[np.intp]) -> None:
        """Copies these packets, in this order, to the first rows; used to carry them over a `rewind`."""
        self.cells[: len(rows)] = self.cells[rows]
        self.lengths[: len(rows)] = self.lengths[rows]
