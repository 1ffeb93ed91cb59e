"""sipp as the outside: a trunk that calls, a switchboard that is called (scenarios/trunk*.xml, switchboard*.xml)."""

from __future__ import annotations

import functools
import random
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import captured
import numpy as np

SCENARIOS = Path(__file__).with_name("scenarios")
LIMIT_S = 60


class Sipp:
    """One sipp process that takes or makes one call over UDP. `speaks` is what it says once the call is up."""

    def __init__(
        self,
        folder: Path,
        scenario: str,
        *,
        to: tuple[str, int] | None = None,
        number: str = "5550200",
        caller: str = "02079460123",
        speaks: np.ndarray | None = None,
        wait_s: float = 1.0,
        values: Mapping[str, str] | None = None,
    ) -> None:
        """`to`: host and port that it calls; None: it is called. `wait_s`: the scenario's pause (ringing, or talking)."""
        self.port, self.media_port = free_port(), free_port()
        self.call_id = f"{scenario}-{time.time_ns()}@sipp"
        self._folder = folder / f"{scenario}-{self.port}"
        self._folder.mkdir(parents=True)
        write_scenario(self._folder, scenario, speaks, {"CALLER": caller, **(values or {})})
        self._called = to is None
        self._command = [
            "sipp", *([f"{to[0]}:{to[1]}", "-s", number, "-cid_str", self.call_id] if to else []),
            "-sf", str(self._folder / "scenario.xml"), "-i", "127.0.0.1", "-p", str(self.port),
            "-mi", "127.0.0.1", *media_options(self.media_port),
            "-d", str(round(wait_s * 1000)), "-m", "1", "-t", "u1", "-nostdin", "-trace_err", "-error_file",
            str(self._folder / "errors.log"), "-trace_msg", "-message_file", str(self._folder / "messages.log"),
            "-timeout", f"{LIMIT_S}s", "-timeout_error",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Where it is called."""
        return f"sip:127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        with (self._folder / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._folder
            )
        deadline = time.monotonic() + 10
        while self._called and not _bound(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(f"sipp does not come up\n{self.said()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def finish(self) -> None:
        """Waits for the end of its scenario; AssertionError where that went otherwise than it stands there."""
        assert self._process is not None
        try:
            status = self._process.wait(LIMIT_S + 10)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"sipp does not end\n{self.said()}") from error
        assert status == 0, self.said()

    def messages(self) -> str:
        """All that it sent and took, as text."""
        file = self._folder / "messages.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def said(self) -> str:
        """What it complained of, and the last messages."""
        errors = self._folder / "errors.log"
        complaints = errors.read_text("utf-8", "replace")[-2000:] if errors.exists() else ""
        output = (self._folder / "output.log").read_text("utf-8", "replace")[-800:]
        return f"{self._command[2:4]}\n{complaints}\n{output}\n{self.messages()[-3000:]}"


def write_scenario(
    folder: Path, name: str, speaks: np.ndarray | None = None, values: Mapping[str, str] | None = None
) -> None:
    """`scenario.xml` in a folder, with its sound (a second of silence where nothing is to be said) and its values."""
    audio = folder / "speaks.pcma"
    audio.write_bytes(encode_alaw(np.zeros(8000, np.int16) if speaks is None else speaks))
    text = (SCENARIOS / f"{name}.xml").read_text()
    replaced = {"AUDIO": str(audio), "CALLER": "02079460123", "STATUS": "486", "MORE": "", "RINGING": "180"}
    for word, value in (replaced | dict(values or {})).items():
        text = text.replace(f"@{word}@", value)
    (folder / "scenario.xml").write_text(text)


@functools.cache
def _options() -> str:
    return subprocess.run(["sipp", "-h"], capture_output=True, text=True, check=False).stdout


def media_options(port: int) -> list[str]:
    """From 3.7 on sipp has options for the range of its RTP streams; before, they begin at the media port."""
    if "-min_rtp_port" in _options():
        return ["-min_rtp_port", str(port), "-max_rtp_port", str(port + 3)]
    return ["-mp", str(port)]


def encode_alaw(samples: np.ndarray) -> bytes:
    """16-bit linear to the nearest A-law code, by the decoder's own table."""
    table = captured.decode_alaw(bytes(range(256))).astype(np.int32)
    order = np.argsort(table)
    middles = (table[order][1:] + table[order][:-1]) / 2
    return order[np.searchsorted(middles, samples)].astype(np.uint8).tobytes()


def free_port() -> int:
    """An even UDP port that is free with the three behind it, outside the box's range."""
    for _ in range(200):
        port = random.randrange(50000, 59000, 4)
        if not any(_in_use(port + offset) for offset in range(4)):
            return port
    raise AssertionError("no free ports")


def _bound(port: int) -> bool:
    """Whether a UDP socket has the port, without trying: a probe would be in the way of who is about to take it."""
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(int(line.split()[1].rpartition(":")[2], 16) == port for line in lines)


def _in_use(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
