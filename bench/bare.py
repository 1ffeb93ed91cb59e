"""The yardstick: nothing but recvmmsg on a timer, as `python -m bench.bare`. No timestamps, no addresses, nothing parsed.

Standard input: JSON with `sockets` and `address`; it prints its ports and then drains until standard input
ends, every 200 ms as capture does; at the end it prints how many packets it has had.
"""

from __future__ import annotations

import ctypes
import json
import resource
import select
import socket
import sys
import time

import numpy as np

from bench.sender import _IOVEC, _MMSGHDR

BATCH = 64
TICK_S = 0.2
CELL = 512


def main() -> None:
    """See the module."""
    order = json.loads(sys.stdin.readline())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sockets = []
    for _ in range(order["sockets"]):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        sock.bind((order["address"], 0))
        sockets.append(sock)
    fds = [sock.fileno() for sock in sockets]
    rows = 16 * len(fds) + 4 * BATCH
    cells = np.zeros((rows, CELL), np.uint8)
    iovecs = np.zeros(rows, _IOVEC)
    iovecs["base"] = cells.ctypes.data + np.arange(rows) * CELL
    iovecs["len"] = CELL
    messages = np.zeros(rows, _MMSGHDR)
    messages["iov"] = iovecs.ctypes.data + np.arange(rows) * _IOVEC.itemsize
    messages["iovlen"] = 1
    print(json.dumps({"ports": [sock.getsockname()[1] for sock in sockets]}), flush=True)

    receive = ctypes.PyDLL(None).recvmmsg
    receive.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
    base = messages.ctypes.data
    total = 0
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    due = time.monotonic() + TICK_S
    ending = False
    while not ending:
        ending = bool(poll.poll(max(0.0, (due - time.monotonic()) * 1000)))
        due += TICK_S
        row = 0
        for fd in fds:
            count = receive(fd, base + (row << 6), BATCH, 0x40, None)
            if count > 0:
                total += count
                row += count
                if row > rows - BATCH:
                    row = 0
    print(json.dumps({"packets": total}), flush=True)


if __name__ == "__main__":
    main()
