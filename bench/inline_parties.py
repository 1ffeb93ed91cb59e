"""The two parties of many bridged calls, as `python -m bench.inline_parties send` and `... hear`.

Both are given the same sockets (one for each stream and engine, inherited), so that what is sent comes from where
the answer is heard, as a telephone does it. Standard input of both: one JSON object.

`send` sends each stream's packet first to the reference, then to every engine, from that engine's socket. `hear`
drains the sockets until standard input ends, and prints how long what came by an engine took beyond the reference
copy of the same packet, by the kernel's receive times.
"""

from __future__ import annotations

import array
import json
import mmap
import os
import select
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.sender import Sender, _sendmmsg, run

DRAIN_S = 0.1
_TIMESPEC = struct.Struct("@qq")
_IDENTITY = struct.Struct("!II")  # RTP timestamp and SSRC


class PartySender(Sender):
    """As Sender, each copy of each stream from a socket of its own: `sockets[copy][stream]` are descriptors."""

    def __init__(
        self, address: str, copies: list[list[int]], counter: memoryview, sockets: list[list[int]]
    ) -> None:
        super().__init__(address, copies, counter)
        self._sockets = sockets
        self.failed = 0

    def dispatch(self, first: int, last: int) -> None:
        """One message a socket, all copies of a packet right after each other: the reference first.

        A socket that refuses or is full loses the packet, as a network would.
        """
        base = self._messages.ctypes.data
        for stream in range(first, last):
            at = base + stream * 64
            for sockets in self._sockets:
                if _sendmmsg(sockets[stream], at, 1, 0) < 0:
                    self.failed += 1
                at += self.streams * 64


def send() -> None:
    """See the module."""
    order = json.loads(sys.stdin.readline())
    with Path(order["counter"]).open("r+b") as file:
        counter = memoryview(mmap.mmap(file.fileno(), 8))
    parties = PartySender(order["address"], order["copies"], counter, order["sockets"])
    done = run(parties, order["seconds"])
    print(json.dumps(done | {"failed": parties.failed}), flush=True)
    os._exit(0)  # the counter's map has views; nothing is left to clean up


class Ears:
    """What came to the sockets of one engine (or of the reference): keys of packets, and when."""

    def __init__(self, descriptors: list[int]) -> None:
        self._sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        for each in self._sockets:
            each.setblocking(False)
        self.keys = array.array("Q")  # RTP timestamp and SSRC: no relay changes them
        self.times = array.array("Q")

    def drain(self) -> None:
        """Takes all that is there."""
        for each in self._sockets:
            while True:
                try:
                    data, extra, _, _ = each.recvmsg(2048, 64)
                except BlockingIOError:
                    break
                if len(data) < 12 or data[0] >> 6 != 2 or 192 <= data[1] <= 223:
                    continue  # what an engine says for itself, such as RTCP
                seconds, nanoseconds = _TIMESPEC.unpack(extra[0][2][: _TIMESPEC.size])
                timestamp, source = _IDENTITY.unpack_from(data, 4)
                self.keys.append(timestamp << 32 | source)
                self.times.append(seconds * 10**9 + nanoseconds)

    def first_times(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Keys, sorted, each once, and when each came first."""
        keys, first = np.unique(np.frombuffer(self.keys, np.uint64), return_index=True)
        return keys, np.frombuffer(self.times, np.uint64)[first]


def compare(reference: Ears, engine: Ears, warm_s: float) -> dict[str, Any]:
    """Loss and added delay of an engine against the reference, without the first `warm_s` and the last second."""
    keys, sent = reference.first_times()
    if not len(keys):
        raise RuntimeError("no reference packet came")
    window = (sent > sent.min() + int(warm_s * 1e9)) & (sent < sent.max() - 10**9)
    keys, sent = keys[window], sent[window]
    came, at = engine.first_times()
    if not len(came):
        return {"packets": len(keys), "lost": len(keys), "p50_us": 0.0, "p99_us": 0.0, "max_us": 0.0}
    place = np.minimum(np.searchsorted(came, keys), len(came) - 1)
    found = came[place] == keys
    added = (at[place][found].astype(np.int64) - sent[found].astype(np.int64)) / 1000
    p50, p99 = np.percentile(added, [50, 99]) if len(added) else (0.0, 0.0)
    return {
        "packets": len(keys),
        "lost": int(len(keys) - found.sum()),
        "p50_us": round(float(p50), 1),
        "p99_us": round(float(p99), 1),
        "max_us": round(float(added.max(initial=0.0)), 1),
    }


def hear() -> None:
    """See the module."""
    order = json.loads(sys.stdin.readline())
    ears = [Ears(descriptors) for descriptors in order["sockets"]]
    print(json.dumps({"ready": True}), flush=True)
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    ending = False
    while not ending:
        ending = bool(poll.poll(DRAIN_S * 1000))
        for each in ears:
            each.drain()
    reference, *engines = ears
    print(json.dumps([compare(reference, each, order["warm_s"]) for each in engines]), flush=True)


if __name__ == "__main__":
    {"send": send, "hear": hear}[sys.argv[1]]()
