"""The kernel's log, one record a read, as a pipe in packet mode gives it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.storage.vault import bootclock
from appliance.storage.vault.bootclock import booted_ns

SAID = b"rtc_cmos 00:04: setting system clock to 2026-11-24T16:00:00 UTC (1795968000)"
FIRST = b"5,0,0,-;Linux version 6.12.118+deb13-amd64\n"

Kmsg = Callable[..., Path]


def record(text: bytes, *, priority: int = 6, at_us: int = 1_250_000) -> bytes:
    return b"%d,412,%d,-;%s\n SUBSYSTEM=platform\n DEVICE=+platform:rtc_cmos\n" % (priority, at_us, text)


@pytest.fixture
def kmsg() -> Iterator[Kmsg]:
    ends: list[int] = []

    def make(*records: bytes) -> Path:
        ends.extend(os.pipe2(os.O_DIRECT | os.O_CLOEXEC))
        for one in records:
            os.write(ends[-1], one)
        return Path(f"/proc/self/fd/{ends[-2]}")

    yield make
    for end in ends:
        os.close(end)


def test_what_it_said_less_the_time_since_the_boot(kmsg: Kmsg) -> None:
    path = kmsg(FIRST, record(b"x" * 900), record(SAID), record(b"later", at_us=9_000_000))
    assert booted_ns(path) == 1_795_968_000_000_000_000 - 1_250_000_000


@pytest.mark.parametrize(
    "records",
    [
        pytest.param((), id="nothing"),
        pytest.param((FIRST, record(b"quite another thing")), id="not said"),
        pytest.param((record(SAID, priority=(1 << 3) + 6),), id="by a program"),
        pytest.param((record(SAID, at_us=121_000_000),), id="long after the boot"),
        pytest.param((record(b"x", at_us=121_000_000), record(SAID)), id="what was early is gone"),
        pytest.param((record(b"user said: " + SAID + b" yes"),), id="with more behind it"),
        pytest.param((record(SAID.replace(b"1795968000", b"-1795968000")),), id="before the epoch"),
        pytest.param((record(SAID.replace(b"1795968000", b"9" * 13)),), id="too long"),
        pytest.param((b"", b";", b"6;" + SAID, b"a,b,c,-;" + SAID, b"\xff" * 3000), id="no records"),
    ],
)
def test_what_tells_nothing(kmsg: Kmsg, records: tuple[bytes, ...]) -> None:
    assert booted_ns(kmsg(*records)) is None


def test_a_log_that_is_not_there_or_has_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert booted_ns(tmp_path / "none") is None
    assert booted_ns(tmp_path) is None
    monkeypatch.setattr(bootclock, "_RECORDS", 100)
    assert booted_ns(Path("/dev/zero")) is None


def test_this_machine() -> None:
    """Where its kernel says it, it is when it was booted; a container's may not be read, or say nothing."""
    found = booted_ns()
    booted = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert found is None or abs(found - booted) < 400 * 86_400 * 10**9
