"""Reading back, with tshark, what really went over the loopback interface."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class SentPacket:
    """One RTP packet as the peer sent it."""

    at: float  # seconds since the Unix epoch
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def decode_alaw(data: bytes) -> np.ndarray:
    """ITU-T G.711 A-law to 16-bit linear, from the definition (not from the code under test)."""
    code = np.frombuffer(data, np.uint8).astype(np.int32) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = np.where(
        exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0)
    )
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


@contextlib.contextmanager
def capture(path: Path) -> Iterator[None]:
    """Captures loopback UDP and TCP into `path` while the block runs."""
    log = path.with_suffix(".log")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            ["tshark", "-q", "-i", "lo", "-f", "udp or tcp", "-w", str(path)], stdout=errors, stderr=errors
        )
        try:
            _wait_until_capturing(process, log)
            yield
            _wait_until_written(path)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def _wait_until_capturing(process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if b"Capturing on" in log.read_bytes():
            return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"tshark ended: {log.read_text('utf-8', 'replace')}")
    raise AssertionError("tshark does not begin to capture")


def _wait_until_written(path: Path) -> None:
    """What was sent last is in the file when a datagram sent after it is."""
    marker = secrets.token_bytes(24)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(200):
            sender.sendto(marker, ("127.0.0.1", 9))
            if path.exists() and marker in path.read_bytes():
                return
            time.sleep(0.05)
    raise AssertionError("tshark does not write what it captures")


def fields(path: Path, display_filter: str, names: list[str], *decode: str) -> list[dict[str, list[str]]]:
    """The named fields of every packet that the filter lets through."""
    command = [
        "tshark",
        "-r",
        str(path),
        "-Y",
        display_filter,
        "-T",
        "fields",
        "-E",
        "separator=\t",
        "-E",
        "aggregator=|",
    ]
    for rule in decode:
        command += ["-d", rule]
    for name in names:
        command += ["-e", name]
    output = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8", "replace")
    rows = []
    for line in output.splitlines():
        values = line.split("\t")
        rows.append(
            {name: value.split("|") if value else [] for name, value in zip(names, values, strict=True)}
        )
    return rows


def rtp_to(path: Path, port: int) -> list[SentPacket]:
    """RTP packets sent to a port, in the order they were sent."""
    names = ["frame.time_epoch", "rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.ssrc", "rtp.payload"]
    rows = fields(path, f"udp.dstport == {port} && rtp", names, f"udp.port=={port},rtp")
    return [
        SentPacket(
            float(row["frame.time_epoch"][0]),
            int(row["rtp.p_type"][0]),
            int(row["rtp.seq"][0]),
            int(row["rtp.timestamp"][0]),
            int(row["rtp.ssrc"][0], 16),
            bytes.fromhex(row["rtp.payload"][0].replace(":", "")) if row["rtp.payload"] else b"",
        )
        for row in rows
    ]
