"""What the hardware clock said when this machine was booted: the kernel writes that into its log, before anything else
can have set it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

KMSG: Final = Path("/dev/kmsg")
_RECORD_BYTES: Final = 8192  # longer ones the kernel does not give
_EARLY_US: Final = 120 * 1_000_000
"""A record that is later is none of the boot's: what came before it is no longer there."""
_RECORDS: Final = 20_000
# drivers/rtc/class.c, rtc_hctosys: "setting system clock to %ptR UTC (%lld)"
_SAID: Final = re.compile(rb"rtc.*: setting system clock to \S+ UTC \((\d{1,12})\)$")


def booted_ns(kmsg: Path = KMSG) -> int | None:
    """When this machine was booted, by its hardware clock, in nanoseconds since the Unix epoch.

    None where the kernel did not say it, says it no longer, or its log may not be read.
    """
    for record in _records(kmsg):
        head, _, text = record.partition(b";")
        fields = head.split(b",")
        if len(fields) < 3 or not fields[0].isdigit() or not fields[2].isdigit():
            continue
        priority, at_us = int(fields[0]), int(fields[2])
        if at_us > _EARLY_US:
            return None
        # A program that writes to the log cannot do so as the kernel (Documentation/ABI/testing/dev-kmsg).
        found = _SAID.search(text.split(b"\n", 1)[0]) if priority >> 3 == 0 else None
        if found is not None:
            return int(found[1]) * 1_000_000_000 - at_us * 1_000
    return None


def _records(kmsg: Path) -> Iterator[bytes]:
    """One read, one record."""
    try:
        file = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # there is none, or it is for others to read: one witness less
    try:
        for _ in range(_RECORDS):
            try:
                record = os.read(file, _RECORD_BYTES)
            except BrokenPipeError:
                continue  # overwritten meanwhile; the next read gives the oldest that is left
            except OSError:
                return  # the end, for now
            if not record:
                return
            yield record
    finally:
        os.close(file)
