"""A software TPM to test with: swtpm on a Unix socket, started and stopped by the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

NEEDED = {"swtpm": "swtpm", "tpm2": "tpm2-tools"}


def skip_without_tpm() -> None:
    """Skips where a package is missing, naming it."""
    missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no TPM to test with: install {' '.join(missing)}")


class SoftwareTpm:
    """One machine's TPM. It keeps what it holds while it is off."""

    def __init__(self) -> None:
        # The path of a socket is at most 107 bytes long: pytest's own directories are too deep.
        self.folder = Path(tempfile.mkdtemp(prefix="tpm"))
        self.tcti = f"swtpm:path={self.folder}/s"
        self._process: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        self._process = subprocess.Popen(
            [
                "swtpm",
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={self.folder}",
                "--server",
                f"type=unixio,path={self.folder}/s",
                "--ctrl",
                f"type=unixio,path={self.folder}/s.ctrl",
                "--flags",
                "startup-clear",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while not (self.folder / "s.ctrl").exists() or not (self.folder / "s").exists():
            assert self._process.poll() is None and time.monotonic() < until, "swtpm did not come up"
            time.sleep(0.01)

    def off(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
        for name in ("s", "s.ctrl"):
            (self.folder / name).unlink(missing_ok=True)

    def run(self, *arguments: str) -> bytes:
        environment = os.environ | {"TPM2TOOLS_TCTI": self.tcti}
        return subprocess.run(
            ["tpm2", *arguments], env=environment, check=True, capture_output=True, timeout=20
        ).stdout

    def remove(self) -> None:
        self.off()
        shutil.rmtree(self.folder)
