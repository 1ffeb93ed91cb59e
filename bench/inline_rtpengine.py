"""rtpengine (Debian's, in user space) as the yardstick: it relays the calls and records each to a pcap file.

It is told over its control protocol "ng": UDP datagrams of a cookie and a bencoded dictionary (rtpengine's
documentation of the ng control protocol).
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PORTS = (36000, 39998)  # for media; outside capture's range
PATIENCE_S = 20.0
LARGEST = 65535


def encode(value: object) -> bytes:
    """Bencode: text as UTF-8, dictionaries sorted by key. TypeError for what it has no form for."""
    match value:
        case bool():
            raise TypeError("bencode knows no truth values")
        case int():
            return b"i%de" % value
        case str():
            return encode(value.encode())
        case bytes():
            return b"%d:%s" % (len(value), value)
        case Mapping():
            items = sorted((str(key), item) for key, item in value.items())
            return b"d" + b"".join(encode(key) + encode(item) for key, item in items) + b"e"
        case Sequence():
            return b"l" + b"".join(encode(item) for item in value) + b"e"
        case _:
            raise TypeError(f"bencode has no form for {type(value).__name__}")


def decode(data: bytes) -> object:
    """One bencoded value; strings stay bytes, keys become text. ValueError where it is none or more than one."""
    value, end = _decode(data, 0, 0)
    if end != len(data):
        raise ValueError("something stands behind the value")
    return value


def _decode(data: bytes, at: int, depth: int) -> tuple[object, int]:
    if depth > 16 or at >= len(data):
        raise ValueError("too deep, or cut off")
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items: list[object] = []
        at += 1
        while data[at : at + 1] != b"e":
            item, at = _decode(data, at, depth + 1)
            items.append(item)
        if kind == b"l":
            return items, at + 1
        keys = [key.decode() if isinstance(key, bytes) else str(key) for key in items[::2]]
        return dict(zip(keys, items[1::2], strict=True)), at + 1
    colon = data.index(b":", at)
    length = int(data[at:colon])
    text = data[colon + 1 : colon + 1 + length]
    if length < 0 or len(text) != length:
        raise ValueError("a string is cut off")
    return text, colon + 1 + length


@dataclass(frozen=True)
class Bridged:
    """A call that it relays: where it takes the first and the second party's packets."""

    call_id: str
    tags: tuple[str, str]
    ports: tuple[int, int]


class RtpEngine:
    """A running rtpengine."""

    def __init__(self, process: subprocess.Popen[bytes], control: tuple[str, int], log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(control)

    def close(self) -> None:
        self._socket.close()

    def ask(self, **order: object) -> dict[str, object]:
        """One command and its answer. RuntimeError where it refuses or ended, TimeoutError where it does not answer."""
        cookie = secrets.token_hex(8).encode()
        message = cookie + b" " + encode(order)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(
                ConnectionRefusedError, TimeoutError
            ):  # not up yet; or the datagram is lost
                self._socket.settimeout(0.5)
                self._socket.send(message)
                while True:
                    back, _, body = self._socket.recv(LARGEST).partition(b" ")
                    if back != cookie:
                        continue  # a late answer to a repeated command
                    answer = decode(body)
                    if not isinstance(answer, dict) or answer.get("result") not in (b"ok", b"pong"):
                        raise RuntimeError(f"rtpengine refuses {order.get('command')}: {answer}")
                    return answer
            if self._process.poll() is not None:
                raise RuntimeError(f"rtpengine ended:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.05)
        raise TimeoutError("rtpengine does not answer")

    def bridge(self, call_id: str, address: str, ports: tuple[int, int], *, record: bool) -> Bridged:
        """Offer and answer of two parties that take G.711 mu-law at these ports."""
        tags = (f"{call_id}-a", f"{call_id}-b")
        common: dict[str, object] = {
            "call-id": call_id,
            "from-tag": tags[0],
            "replace": ["origin", "session-connection"],
            "ICE": "remove",
        }
        if record:
            common["record-call"] = "yes"
        offered = self.ask(command="offer", sdp=_sdp(address, ports[0]), **common)
        answered = self.ask(command="answer", sdp=_sdp(address, ports[1]), **common, **{"to-tag": tags[1]})
        # What the offer became tells the second party where to send, and the answer tells the first.
        return Bridged(call_id, tags, (_port(answered), _port(offered)))

    def end(self, call: Bridged) -> None:
        """The call is over; its recording is closed."""
        self.ask(command="delete", **{"call-id": call.call_id, "from-tag": call.tags[0], "delete-delay": 0})


@contextlib.contextmanager
def running(folder: Path, address: str) -> Iterator[RtpEngine]:
    """Starts one that records into `folder`, and ends it."""
    if shutil.which("rtpengine") is None:
        raise RuntimeError("rtpengine is not installed: sh tests/system/install-peers.sh")
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        control = (address, int(probe.getsockname()[1]))
    log = folder / "rtpengine.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=4", "--table=-1",
                f"--interface={address}", f"--listen-ng={control[0]}:{control[1]}",
                f"--port-min={PORTS[0]}", f"--port-max={PORTS[1]}",
                f"--recording-dir={folder}", "--recording-method=pcap",
            ],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    engine = RtpEngine(process, control, log)
    try:
        engine.ask(command="ping")
        yield engine
    finally:
        engine.close()
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


def _sdp(address: str, port: int) -> str:
    lines = [
        "v=0",
        f"o=- 1 1 IN IP4 {address}",
        "s=-",
        f"c=IN IP4 {address}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=sendrecv",
    ]
    return "\r\n".join(lines) + "\r\n"


def _port(answer: Mapping[str, object]) -> int:
    sdp = answer.get("sdp", b"")
    found = re.search(rb"^m=audio (\d+) ", sdp if isinstance(sdp, bytes) else b"", re.M)
    if found is None:
        raise RuntimeError("rtpengine's answer has no media line")
    return int(found[1])
