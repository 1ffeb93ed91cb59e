"""The machine's clocks as witnesses: the hardware clock must be one of its own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from appliance.storage.retention.clock import SECOND_NS, ClockState, FreezeRule, tick
from appliance.storage.retention.period import DAY_NS
from appliance.storage.vault.timekeeper import HARDWARE_CLOCK_NS, Machine


class Board:
    """A hardware clock in a file, and a kernel that a time server may discipline."""

    def __init__(self, folder: Path) -> None:
        self.rtc = folder / "since_epoch"
        self.up_ns = 60 * SECOND_NS
        self.synchronised = False
        self.booted_ns: int | None = None  # as the kernel's log says
        self.set(0)

    def set(self, off_ns: int) -> None:
        """The hardware clock, so far from the wall."""
        self.rtc.write_text(f"{(time.time_ns() + off_ns) // SECOND_NS}\n")

    def machine(self) -> Machine:
        return Machine(
            rtc=self.rtc,
            kernel=lambda: self.booted_ns,
            synchronised=lambda: self.synchronised,
            boottime=lambda: self.up_ns,
        )


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def names(machine: Machine) -> list[str]:
    return [each.name for each in machine.read().witnesses]


def test_hardware_clock_and_time_server_agree(board: Board) -> None:
    machine = board.machine()
    assert names(machine) == ["hardware clock"]
    board.synchronised = True
    assert names(machine) == ["time server", "hardware clock"]
    assert machine.read().confirmed


def test_the_hardware_clock_is_what_it_was_before_the_time_server_set_it(board: Board) -> None:
    board.set(-300 * DAY_NS)
    machine = board.machine()
    machine.read()
    board.synchronised = True
    board.set(0)  # as the kernel does
    board.up_ns += 660 * SECOND_NS
    reading = machine.read()
    assert not reading.confirmed
    ahead = reading.wall_ns + 660 * SECOND_NS - reading.witnesses[1].ns
    assert abs(ahead - 300 * DAY_NS) < 5 * SECOND_NS, "it goes on by the monotonic clock"

    before = ClockState(reading.wall_ns - 20 * DAY_NS, 0, "an earlier boot", 0)
    state, _ = tick(before, reading)
    assert state.frozen is not None and state.frozen.rule is FreezeRule.POWER_OFF


def test_whoever_starts_after_the_time_server_has_no_hardware_clock(board: Board) -> None:
    board.synchronised = True
    machine = board.machine()
    assert names(machine) == ["time server"]
    board.synchronised = False
    assert names(machine) == [], "nor later: it was set"


def test_what_the_kernel_read_at_the_boot_counts_whoever_came_first(board: Board) -> None:
    board.synchronised = True
    board.up_ns = 20 * DAY_NS
    board.booted_ns = time.time_ns() - board.up_ns
    board.set(5 * DAY_NS)  # what it says now is the time server's
    machine = board.machine()
    assert names(machine) == ["time server", "hardware clock"] and machine.read().confirmed
    board.booted_ns -= 300 * DAY_NS
    assert not board.machine().read().confirmed


def test_long_after_the_boot_the_hardware_clock_is_nobody(board: Board) -> None:
    board.up_ns = HARDWARE_CLOCK_NS + 1
    assert names(board.machine()) == []


def test_a_machine_without_a_hardware_clock(board: Board) -> None:
    board.rtc.unlink()
    assert names(board.machine()) == []


def test_the_clocks_of_this_machine() -> None:
    reading = Machine().read()
    assert (
        abs(reading.wall_ns - time.time_ns()) < 60 * SECOND_NS and reading.boottime_ns > 0 and reading.boot_id
    )
