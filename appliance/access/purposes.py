"""What a recording may be read for: what its caller was told (terms 4), and who may read it for something else.

UK GDPR Art. 5(1)(b): what is collected for stated purposes is not used for others.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.access.errors import PurposeNeededError, PurposeNotStatedError
from appliance.access.identities import Role
from appliance.catalog import purposes, tables, versions
from appliance.catalog.errors import PurposeUnknownError
from appliance.catalog.records import MAX_TEXT, Recording
from appliance.catalog.versions import Subject
from appliance.model import MarkKind
from appliance.model.purpose import FORM, Purpose

OVERRIDE: Final = Role.RECORDS_OFFICER
MAX_PARTS: Final = 100  # of a call: more than any restarts make


class Source(enum.StrEnum):
    """Who told the caller."""

    ANNOUNCED = "announced"  # the announcement that was heard
    LINE = "line"  # by other means, as the line said when the call began
    NOT_ANNOUNCED = "not_announced"  # not that the box knows


@dataclass(frozen=True)
class Stated:
    """What a recording may be read for."""

    purposes: tuple[str, ...]
    source: Source


def stated(connection: sa.Connection, recording: Recording) -> Stated:
    """What the caller was told: by the announcement heard, else as the line said then, else what every tenant has.

    Of a call that lasts the announcements so far come with it, as its marks.
    """
    return stated_of(connection, [recording])[0]


def stated_of(connection: sa.Connection, some: Sequence[Recording]) -> list[Stated]:
    """The same of several."""
    heard = _announcements(connection, some)
    lines: dict[tuple[str, str], list[tuple[int, Any]]] = {}
    every: dict[str, tuple[str, ...]] = {}
    found = []
    for one in some:
        with_it = [mark.data for mark in one.marks if mark.kind is MarkKind.ANNOUNCED]
        announced = heard_in([*heard[one.recording_id], *with_it])
        if announced:
            found.append(Stated(announced, Source.ANNOUNCED))
            continue
        key = one.tenant_id, one.line_id
        if key not in lines:
            lines[key] = versions.over_time(connection, Subject.LINE, *key, "purposes")
        said = _at(lines[key], one.start_ns)
        if said:
            found.append(Stated(tuple(said), Source.LINE))
            continue
        if one.tenant_id not in every:
            listed = purposes.listed(connection, one.tenant_id, archived=False)
            every[one.tenant_id] = tuple(purpose.purpose_id for _, purpose in listed if purpose.seeded)
        found.append(Stated(every[one.tenant_id], Source.NOT_ANNOUNCED))
    return found


def _at(over_time: list[tuple[int, Any]], at_ns: int) -> Any:
    """What was in force then; before the first version, what that says. None: there is none."""
    then = [value for since_ns, value in over_time if since_ns <= at_ns]
    return then[-1] if then else over_time[0][1] if over_time else None


def heard_in(announcements: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The purposes of announcements, from the data of their marks.

    One counts as heard that was played whole, or that the caller ended by a key; one that broke off does not, as what it
    did not come to was not said.
    """
    found: dict[str, None] = {}
    for data in announcements:
        if data.get("heard") != "whole" and not data.get("interrupted"):
            continue
        text = str(data.get("purposes", ""))
        some = text.split(",")
        if len(text) >= MAX_TEXT:
            some = some[:-1]  # the catalogue cuts long texts: the last one may not be whole
        found |= dict.fromkeys(one for one in some if FORM.fullmatch(one))
    return tuple(found)


def _announcements(connection: sa.Connection, some: Sequence[Recording]) -> dict[str, list[dict[str, Any]]]:
    """Data of the marks, by recording. Of all parts of its call: after a restart the announcement is in the first."""
    of_call: dict[tuple[str, str], list[str]] = defaultdict(list)
    calls = {one.call_id for one in some if one.call_id}
    rows = tables.recordings
    query = sa.select(rows.c.id, rows.c.tenant_id, rows.c.call_id).where(rows.c.call_id.in_(calls))
    for row in connection.execute(query.order_by(rows.c.part, rows.c.id)):
        of_call[row.tenant_id, row.call_id].append(row.id)
    parts = {
        one.recording_id: [one.recording_id, *of_call[one.tenant_id, one.call_id][:MAX_PARTS]] for one in some
    }
    wanted = {part for ids in parts.values() for part in ids}
    marks = tables.marks
    by_recording: dict[str, list[dict[str, Any]]] = defaultdict(list)
    found = sa.select(marks.c.recording_id, marks.c.data).where(
        marks.c.recording_id.in_(wanted), marks.c.kind == MarkKind.ANNOUNCED.value
    )
    for recording_id, data in connection.execute(found.order_by(marks.c.recording_id, marks.c.ordinal)):
        by_recording[recording_id].append(data)
    return {
        one.recording_id: [
            data for part in dict.fromkeys(parts[one.recording_id]) for data in by_recording[part]
        ]
        for one in some
    }


def judge(
    named: str, known: Purpose | None, said: Stated, roles: Collection[Role], override_reason: str
) -> bool:
    """Whether a read for a purpose is an override; refused where it may not be.

    `named` is what was asked for, `known` the tenant's purpose of that id. PurposeNeededError, PurposeUnknownError,
    PurposeNotStatedError.
    """
    if not named:
        raise PurposeNeededError("a read names its purpose", field="purpose", stated=list(said.purposes))
    if known is None:
        raise PurposeUnknownError(
            "is no purpose of this tenant: see ListPurposes", field="purpose", stated=list(said.purposes)
        )
    if named in said.purposes:
        return False
    if override_reason and OVERRIDE in roles:
        return True
    raise PurposeNotStatedError(
        "the caller was not told that recordings are used for this",
        stated=list(said.purposes),
        source=said.source.value,
        override=OVERRIDE.value,
    )
