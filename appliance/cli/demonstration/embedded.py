"""An embedded box for as long as a block runs: `earwitness serve` as a process of its own, on ports of its choice."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.cli.connection import Connection
from appliance.config.layout import Layout
from appliance.model import UnavailableError

STOP_TIMEOUT_S = 60.0
LATE_S = 600.0  # a box may be ready before its API is


class BoxError(UnavailableError):
    """The embedded box did not come up; the message holds what it said."""

    reason = "BOX_NOT_READY"


@dataclass(frozen=True)
class EmbeddedBox:
    """A running box."""

    data: Path
    process: subprocess.Popen[str]
    addresses: dict[str, str]

    @property
    def layout(self) -> Layout:
        """Where things are."""
        return Layout(self.data)

    @property
    def connection(self) -> Connection:
        """How the administrator's client reaches it."""
        return Connection(self.data, server=self.addresses["api"])

    def sip(self, transport: str) -> tuple[str, int]:
        """Host and port of SIP over udp, tcp or tls."""
        host, port = self.addresses[f"sip_{transport}"].rsplit(":", 1)
        return host, int(port)


@contextlib.contextmanager
def embedded_box(data: Path, *options: str, ports: bool = True) -> Iterator[EmbeddedBox]:
    """Starts a box on `data` and stops it cleanly at the end. BoxError where it does not come up.

    `options` are options of `earwitness serve`; without `ports` they say the ports too.
    """
    command = [sys.executable, "-m", "appliance.cli.main", "serve", "--data", str(data)]
    if ports:
        command += ["--sip-port", "0", "--sips-port", "0", "--api-port", "0"]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if "is ready" not in line:
                process.wait(STOP_TIMEOUT_S)
                errors.seek(0)
                raise BoxError((line + errors.read()).strip() or "the box ended without a word")
            yield EmbeddedBox(data, process, _addresses(data, process))
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIMEOUT_S)
            process.stdout.close()


def _addresses(data: Path, process: subprocess.Popen[str]) -> dict[str, str]:
    """Where it listens, once its API does too."""
    end = time.monotonic() + LATE_S
    while True:
        found: dict[str, str] = json.loads((Layout(data).run / "addresses.json").read_text("utf-8"))
        if "api" in found:
            return found
        if process.poll() is not None or time.monotonic() > end:
            raise BoxError("the box records, and its API does not come up")
        time.sleep(0.2)
