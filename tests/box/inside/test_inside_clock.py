"""The clocks of a real machine: this one has a hardware clock, and its kernel says what it read from it."""

from __future__ import annotations

import time

from appliance.storage.vault.bootclock import booted_ns
from appliance.storage.vault.timekeeper import Machine


def test_the_kernel_says_what_the_hardware_clock_was_at_the_boot() -> None:
    found = booted_ns()
    assert found is not None
    booted = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(found - booted) < 30 * 10**9
    assert "hardware clock" in [each.name for each in Machine().read().witnesses]
