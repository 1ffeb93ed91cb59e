"""The retention clock: decides when something is old enough to be destroyed, and does not jump with the wall clock.

While the box is up the clock goes with the wall, and never faster than the monotonic clock: it holds where the wall is
behind it, and what it then did not advance it may catch up with when the wall is right again. The time of a power-off it
takes from the wall where that is short, or witnesses confirm it. Otherwise, and where wall and clock are far apart, it is
**frozen**: nothing is destroyed until they agree again or an administrator accepts the wall. Recording never stops for it.

`tick` never sets the clock back; `accept` may, because that only ever keeps things longer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from pydantic import TypeAdapter

from appliance.storage.retention.errors import ClockFloorError, PolicyError
from appliance.storage.retention.period import DAY_NS

SECOND_NS: Final = 1_000_000_000
HOUR_NS: Final = 3_600 * SECOND_NS
TOLERANCE_NS: Final = HOUR_NS
"""How far wall and clock may be apart before destroying stops."""
SHORT_GAP_NS: Final = 15 * 60 * SECOND_NS
"""A power-off that is taken from the wall without a witness."""
AGREE_NS: Final = 5 * 60 * SECOND_NS
"""How near to the wall a witness is that confirms it."""
PLAUSIBLE_GAP_NS: Final = 400 * DAY_NS
"""The longest power-off that an authenticated witness can confirm; beyond it an administrator has to."""
UNSIGNED_GAP_NS: Final = 31 * DAY_NS
"""The longest that witnesses can confirm of whom none is authenticated."""
LATE_NS: Final = 31 * DAY_NS
"""How old a recording may be when it is filed for its own time to be believed."""


class FreezeRule(enum.StrEnum):
    """Why the clock is frozen."""

    POWER_OFF = "power-off"  # it is not known how long the box was off
    WALL_AHEAD = "wall-ahead"
    WALL_BEHIND = "wall-behind"
    STATE_OLD = "state-old"  # the clock was behind what it had certified: its file was put back


class Severity(enum.StrEnum):
    """How bad a finding is."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Frozen:
    """That nothing may be destroyed, why, and since when (as the clock then was)."""

    rule: FreezeRule
    since_ns: int
    message: str


@dataclass(frozen=True, slots=True)
class ClockState:
    """What the caller keeps, durably, every minute. Nanoseconds; `clock_ns` and `wall_ns` since the Unix epoch."""

    clock_ns: int
    wall_ns: int
    boot_id: str
    boottime_ns: int
    frozen: Frozen | None = None
    off_unknown: bool = False
    """Whether it is still open how long the box was off: the wall may yet be confirmed."""
    owed_ns: int = 0
    """Time that passed by the monotonic clock and the retention clock has not taken, because the wall was behind."""
    unseen_ns: int = 0
    """Time that the clock took, ever, and for which neither the monotonic clock nor anybody who signed vouches."""

    @property
    def destroys(self) -> bool:
        """Whether anything may be destroyed."""
        return self.frozen is None

    @property
    def latest_ns(self) -> int:
        """The latest that it is now by the monotonic clock: for dating what is new, never for destroying."""
        return self.clock_ns + self.owed_ns


@dataclass(frozen=True, slots=True)
class Witness:
    """What somebody else says the time is: a time server, the hardware clock, a peer, the pool. `name` tells whom."""

    name: str
    ns: int
    authenticated: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """The clocks of the machine at one instant: CLOCK_REALTIME, the kernel's boot id, CLOCK_BOOTTIME, witnesses."""

    wall_ns: int
    boot_id: str
    boottime_ns: int
    witnesses: tuple[Witness, ...] = ()

    @property
    def confirmed(self) -> bool:
        """Whether the wall is what an authenticated witness says and none denies, or else what two witnesses say."""
        near = {each.name for each in self.witnesses if abs(each.ns - self.wall_ns) <= AGREE_NS}
        signed = [each for each in self.witnesses if each.authenticated]
        if signed:
            return all(abs(each.ns - self.wall_ns) <= AGREE_NS for each in signed)
        return len(near) >= 2

    @property
    def signed(self) -> bool:
        """Whether it is confirmed, and by an authenticated witness."""
        return self.confirmed and any(each.authenticated for each in self.witnesses)


@dataclass(frozen=True, slots=True)
class ClockFinding:
    """Something to tell; `message` goes on from "The retention clock". While it is frozen each tick says so."""

    name: str  # CamelCase, as in conditions
    message: str
    severity: Severity


def tick(
    state: ClockState | None, reading: Reading, *, floor_ns: int = 0
) -> tuple[ClockState, tuple[ClockFinding, ...]]:
    """The clock at a new reading. None: the very first, which is taken from the wall.

    `floor_ns`: the newest time **this clock** is known to have given, such as that of the newest certificate. The clock
    is never below it; where it was, by more than a short gap, its state is not the last one, and it is frozen
    unless the wall is confirmed.
    """
    if state is None:
        state = ClockState(
            max(reading.wall_ns, floor_ns), reading.wall_ns, reading.boot_id, reading.boottime_ns
        )
        state = replace(state, frozen=_judge(state, None, old=False))
        found = ClockFinding(
            "RetentionClockStarted",
            f"begins at {_text(state.clock_ns)}, as the wall clock says",
            Severity.INFO,
        )
        return state, (found, *_told(None, state))

    same_boot = reading.boot_id == state.boot_id
    passed = max(0, reading.boottime_ns - state.boottime_ns) if same_boot else max(0, reading.boottime_ns)
    allowed = state.clock_ns + state.owed_ns + passed
    clock = max(state.clock_ns, min(allowed, reading.wall_ns))
    gap = reading.wall_ns - allowed  # what the monotonic clock did not see
    findings = []
    unseen = state.unseen_ns

    off_unknown = state.off_unknown or not same_boot
    if off_unknown and gap >= -TOLERANCE_NS and gap <= _believed(state, reading):
        off_unknown = False
        if gap > 0:
            clock = reading.wall_ns
            unseen += 0 if reading.signed else gap
            message = f"took {_length(gap)} without power from the wall clock"
            findings.append(ClockFinding("RetentionClockGapTaken", message, Severity.INFO))

    put_back = floor_ns - max(clock, allowed) > SHORT_GAP_NS and not reading.confirmed
    if floor_ns > clock:
        message = f"was raised from {_text(clock)} to {_text(floor_ns)}, where it had been before"
        findings.append(ClockFinding("RetentionClockRaised", message, Severity.WARNING))
        unseen += max(0, floor_ns - max(clock, allowed))
        clock = floor_ns
    off_unknown = off_unknown or put_back
    new = ClockState(
        clock,
        reading.wall_ns,
        reading.boot_id,
        reading.boottime_ns,
        off_unknown=off_unknown,
        owed_ns=max(0, allowed - clock),
        unseen_ns=unseen,
    )
    old = put_back or (off_unknown and _rule(state) is FreezeRule.STATE_OLD)
    new = replace(new, frozen=_judge(new, state.frozen, old=old))
    return new, (*findings, *_told(state, new))


def _believed(state: ClockState, reading: Reading) -> int:
    """The longest time without power that this reading settles."""
    if reading.confirmed:
        return PLAUSIBLE_GAP_NS if reading.signed else UNSIGNED_GAP_NS
    return -TOLERANCE_NS - 1 if _rule(state) is FreezeRule.STATE_OLD else SHORT_GAP_NS


def accept(
    state: ClockState, reading: Reading, who: str, *, floor_ns: int = 0
) -> tuple[ClockState, tuple[ClockFinding, ...]]:
    """An administrator says that the wall clock is right: the clock is set to it, also back, and thaws.

    `who` is told in the finding. ClockFloorError where the wall is behind `floor_ns` by more than the tolerance.
    """
    if not 1 <= len(who) <= 200:
        raise PolicyError("it must be said who accepts the wall clock", field="who")
    if reading.wall_ns < floor_ns - TOLERANCE_NS:
        raise ClockFloorError(
            "the wall clock is behind what the retention clock has certified",
            wall_ns=reading.wall_ns,
            floor_ns=floor_ns,
        )
    clock = max(reading.wall_ns, floor_ns)
    message = f"was set from {_text(state.clock_ns)} to {_text(clock)} by {who}"
    new = ClockState(clock, reading.wall_ns, reading.boot_id, reading.boottime_ns, unseen_ns=state.unseen_ns)
    return new, (ClockFinding("RetentionClockAccepted", message, Severity.WARNING),)


def plausible(created_ns: int, clock: ClockState) -> int:
    """From when on a recording that is filed now is kept: when it says it was created, where that can be.

    That is from 31 days ago to an hour from now; otherwise now. While it is not known how late it is the error
    must be to keep too long: a wall that is behind is not believed at all, one that is ahead by up to 400 days is.
    """
    now = clock.latest_ns
    rule = _rule(clock)
    ahead = TOLERANCE_NS if rule is None else PLAUSIBLE_GAP_NS
    behind = 0 if rule is FreezeRule.WALL_BEHIND else LATE_NS
    return created_ns if now - behind <= created_ns <= now + ahead else now


def _judge(new: ClockState, was: Frozen | None, *, old: bool) -> Frozen | None:
    """Whether the clock is frozen after this reading."""
    skew = new.wall_ns - new.clock_ns
    if old:
        message = "the retention clock's state is not the last one it had"
        return _since(was, FreezeRule.STATE_OLD, new.clock_ns, message)
    if new.off_unknown and new.wall_ns - new.latest_ns > SHORT_GAP_NS:
        message = f"the box was off, by the wall clock for {_length(skew)}, and nothing confirms it"
        return _since(was, FreezeRule.POWER_OFF, new.clock_ns, message)
    if skew > TOLERANCE_NS:
        message = f"the wall clock is {_length(skew)} ahead of what can have passed"
        return _since(was, FreezeRule.WALL_AHEAD, new.clock_ns, message)
    if skew < -TOLERANCE_NS:
        message = f"the wall clock is {_length(-skew)} behind"
        return _since(was, FreezeRule.WALL_BEHIND, new.clock_ns, message)
    return None


def _rule(state: ClockState) -> FreezeRule | None:
    return state.frozen.rule if state.frozen else None


def _since(was: Frozen | None, rule: FreezeRule, clock_ns: int, message: str) -> Frozen:
    return Frozen(rule, was.since_ns if was and was.rule is rule else clock_ns, message)


def _told(old: ClockState | None, new: ClockState) -> Iterator[ClockFinding]:
    if new.frozen:
        message = f"is frozen, so nothing is destroyed: {new.frozen.message}"
        yield ClockFinding("RetentionClockFrozen", message, Severity.ALARM)
    elif old and old.frozen:
        yield ClockFinding("RetentionClockThawed", "is in step with the wall clock again", Severity.INFO)


def _text(at_ns: int) -> str:
    try:
        return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{at_ns} ns"


def _length(ns: int) -> str:
    for unit, size in (("days", DAY_NS), ("hours", HOUR_NS), ("minutes", 60 * SECOND_NS)):
        if ns >= 2 * size:
            return f"{ns // size} {unit}"
    return f"{ns // SECOND_NS} seconds"


CLOCK_STATE = TypeAdapter(ClockState)
READING = TypeAdapter(Reading)
