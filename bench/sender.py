"""Sends the media of many calls, as `python -m bench.sender`, from one process: sendmmsg with an address for each message.

Standard input: one JSON object with `ports` (two per call, caller and agent), `seconds` and `address`. It
prints one line at the start of sending and one at the end: JSON with the number of packets sent in all and
the nanoseconds taken.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np

from bench.voice import conversations

FRAME_NS = 20_000_000
PHASES = 4  # streams are spread over a frame's time, as real ones are
_MMSGHDR = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "len"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
_IOVEC = np.dtype([("base", "u8"), ("len", "u8")])
_RTP = np.dtype([("zero", "u1"), ("second", "u1"), ("seq", ">u2"), ("ts", ">u4"), ("ssrc", ">u4")])
_ADDRESS = np.dtype([("family", "u2"), ("port", ">u2"), ("host", "u1", 4), ("zero", "u1", 8)])
_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]


class Sender:
    """Streams to `targets`; each of `ports` gets the same packets at every copy's port list."""

    def __init__(self, address: str, copies: list[list[int]], counter: memoryview) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._counter = counter
        streams = len(copies[0])
        rng = np.random.default_rng(7)
        talks = conversations()
        self._frames = np.ascontiguousarray(np.concatenate([leg for pair in talks for leg in pair]))
        begins, lengths, at = [], [], 0
        for pair in talks:
            for leg in pair:
                begins.append(at)
                lengths.append(len(leg))
                at += len(leg)
        talk = np.repeat(rng.integers(0, len(talks), streams // 2), 2)
        leg_index = 2 * talk + np.arange(streams) % 2
        self._begin = np.asarray(begins)[leg_index]
        self._length = np.asarray(lengths)[leg_index]
        self._position = np.repeat(rng.integers(0, 1 << 16, streams // 2), 2) % self._length
        self._heads = np.zeros(streams, _RTP)
        self._heads["zero"] = 0x80
        self._heads["ssrc"] = rng.integers(1, 1 << 32, streams, dtype=np.uint32)
        self._seq = rng.integers(0, 1 << 16, streams).astype(np.uint16)
        self._ts = rng.integers(0, 1 << 32, streams, dtype=np.uint32)
        self._addresses = np.zeros((len(copies), streams), _ADDRESS)
        self._addresses["family"] = socket.AF_INET
        self._addresses["port"] = np.asarray(copies)
        self._addresses["host"] = np.frombuffer(socket.inet_aton(address), np.uint8)
        self._iovecs = np.zeros((streams, 2), _IOVEC)
        self._iovecs["base"][:, 0] = self._heads.ctypes.data + np.arange(streams) * _RTP.itemsize
        self._iovecs["len"][:, 0] = _RTP.itemsize
        self._iovecs["len"][:, 1] = 160
        self._messages = np.zeros((len(copies), streams), _MMSGHDR)
        places = np.arange(len(copies) * streams).reshape(len(copies), streams)
        self._messages["name"] = self._addresses.ctypes.data + places * _ADDRESS.itemsize
        self._messages["namelen"] = _ADDRESS.itemsize
        self._messages["iov"] = self._iovecs.ctypes.data + np.arange(streams) * 2 * _IOVEC.itemsize
        self._messages["iovlen"] = 2
        self.streams = streams
        self.sent = 0

    def send(self, first: int, last: int) -> None:
        """The next packet of the streams `first` to `last`."""
        part = slice(first, last)
        self._seq[part] += 1
        self._ts[part] += 160
        self._heads["seq"][part] = self._seq[part]
        self._heads["ts"][part] = self._ts[part]
        self._position[part] = (self._position[part] + 1) % self._length[part]
        rows = self._begin[part] + self._position[part]
        self._iovecs["base"][part, 1] = self._frames.ctypes.data + rows * 160
        self.dispatch(first, last)
        self.sent += last - first
        self._counter[:8] = self.sent.to_bytes(8, "little")

    def dispatch(self, first: int, last: int) -> None:
        """Sends what is prepared, to every copy's ports."""
        for copy in range(len(self._messages)):
            done = first
            while done < last:
                address = self._messages.ctypes.data + (copy * self.streams + done) * 64
                count = _sendmmsg(self._socket.fileno(), address, min(1024, last - done), 0)
                if count < 0:
                    raise OSError(ctypes.get_errno(), "sendmmsg")
                done += count


def run(sender: Sender, seconds: float) -> dict[str, int]:
    """Sends at the pace of the media and says how that went."""
    frames = int(seconds * 1e9) // FRAME_NS
    edges = [sender.streams * phase // PHASES for phase in range(PHASES + 1)]
    started = time.monotonic_ns()
    print(json.dumps({"started": True}), flush=True)
    late = 0
    for step in range(frames * PHASES):
        due = started + step * FRAME_NS // PHASES
        wait = due - time.monotonic_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        else:
            late = max(late, -wait)
        phase = step % PHASES
        sender.send(edges[phase], edges[phase + 1])
    return {"sent": sender.sent, "ns": time.monotonic_ns() - started, "late_ns": late}


def main() -> None:
    """See the module."""
    order = json.loads(sys.stdin.readline())
    with Path(order["counter"]).open("r+b") as file:
        counter = memoryview(mmap.mmap(file.fileno(), 8))
    sender = Sender(order["address"], order["copies"], counter)
    print(json.dumps(run(sender, order["seconds"])), flush=True)
    os._exit(0)  # the counter's map has views; nothing is left to clean up


if __name__ == "__main__":
    main()
