"""A serial held a second time, in another directory: what is older than it was is noticed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.process.wholefile import write_whole

_DIGITS: Final = 20


@dataclass(frozen=True)
class Anchor:
    """The file."""

    path: Path

    def read(self) -> int:
        """The newest serial this box ever had; 0: none yet; -1: the file is damaged, and nothing is known."""
        try:
            return int(self.path.read_text("ascii"))
        except FileNotFoundError:
            return 0
        except (ValueError, UnicodeDecodeError):
            return -1

    def rise(self, serial: int) -> None:
        """On disk when this returns, unless a newer one is there. OSError."""
        if (before := self.read()) >= serial:
            return
        digits = f"{serial:0{_DIGITS}}\n".encode()
        if before <= 0 or self.path.stat().st_size != len(digits):
            write_whole(self.path, digits)  # there is none yet, or one of an older release
            return
        # In its place: so few bytes are one block, which a disk writes whole or not at all.
        with open(os.open(self.path, os.O_WRONLY | os.O_CLOEXEC), "wb", buffering=0) as file:
            if file.write(digits) != len(digits):
                raise OSError("short write")
            os.fdatasync(file.fileno())
