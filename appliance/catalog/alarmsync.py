"""Conditions of processes as alarms: raised while they stand, cleared when they are over, across restarts too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from appliance.alarms.conditions import CONDITIONS
from appliance.alarms.severity import Severity
from appliance.catalog import alarms
from appliance.catalog.alarmtables import alarms as table

UNKNOWN = "UnknownCondition"
_NAMES = frozenset(one.name for one in CONDITIONS)
_KINDS = _NAMES | {UNKNOWN}

Present = Mapping[tuple[str, str], Severity]
"""Severity by process and type of the condition."""

Undecided = Collection[tuple[str, str]]
"""Process and type of conditions that neither raise an alarm nor clear one: those of a start."""


@dataclass(frozen=True)
class _Standing:
    open: bool
    severity: Severity


def differ(
    connection: sa.Connection, present: Present, processes: Iterable[str], undecided: Undecided = ()
) -> bool:
    """Whether `sync` would have anything to do."""
    before = _standing(connection, processes, undecided)
    now = _keys(present)
    return before.keys() != now.keys() or any(_grows(before[key], now[key]) for key in now)


def sync(
    connection: sa.Connection,
    present: Present,
    processes: Iterable[str],
    now_ns: int,
    undecided: Undecided = (),
) -> None:
    """Raise and clear, of these processes. A cause that goes on standing after a person cleared its alarm raises none."""
    before = _standing(connection, processes, undecided)
    now = _keys(present)
    for key, severity in now.items():
        if key not in before or _grows(before[key], severity):
            kind, subject = key
            alarms.raise_alarm(connection, kind, subject, "", now_ns, severity=severity)
    for kind, subject in before.keys() - now.keys():
        alarms.clear_alarm(connection, kind, subject, now_ns)


def _grows(before: _Standing, severity: Severity) -> bool:
    return before.open and severity.rank > before.severity.rank


def _keys(present: Present) -> dict[tuple[str, str], Severity]:
    """By kind and subject. One that has no row in the table of kinds is told all the same."""
    return {
        (kind, process) if kind in _NAMES else (UNKNOWN, f"{process}/{kind}"[:100]): severity
        for (process, kind), severity in present.items()
    }


def _standing(
    connection: sa.Connection, processes: Iterable[str], undecided: Undecided
) -> dict[tuple[str, str], _Standing]:
    asked = set(processes)
    left = {(kind, process) for process, kind in undecided}
    rows = connection.execute(
        sa.select(table.c.kind, table.c.subject, table.c.severity, table.c.clear_ns)
        .where(table.c.stands)
        .order_by(table.c.raise_ns)
    )
    return {
        (row.kind, row.subject): _Standing(row.clear_ns is None, Severity(row.severity))
        for row in rows
        if row.kind in _KINDS
        and row.subject.partition("/")[0] in asked
        and (row.kind, row.subject) not in left
    }
