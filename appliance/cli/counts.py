"""`earwitness recordings count`: how many there are, as bars."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from appliance.cli import filters, output
from appliance.cli.connection import bare, tenant_parent
from appliance.cli.context import JsonOption, TenantOption, box
from earwitness.v1 import recordings_pb2

COUNT_TIMEOUT_S = 120.0
MOST_EMPTY = 120  # a longer row of days is shown without those that have none
BAR = 40  # characters


class By(enum.StrEnum):
    """What recordings are counted by."""

    DAY = "day"
    LINE = "line"
    DIRECTION = "direction"
    FLAG = "flag"
    TAG = "tag"


def count(
    context: typer.Context,
    by: Annotated[By, typer.Option("--by", help="Day, line, direction, flag or tag.")] = By.DAY,
    tenant: TenantOption = "",
    filter_: Annotated[str, typer.Option("--filter", help="Which (docs/search.md).")] = "",
    zone: Annotated[
        str, typer.Option("--zone", help="Where days begin, such as Europe/London; else as on this machine.")
    ] = "",
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted and erased ones too.")] = False,
    json: JsonOption = False,
) -> None:
    """How many recordings there are, and how long together."""
    request = recordings_pb2.CountRecordingsRequest(
        parent=tenant_parent(tenant),
        filter=filter_,
        show_deleted=deleted,
        count_by=recordings_pb2.CountBy.Value(f"COUNT_BY_{by.name}"),
        time_zone=zone or (local_zone() if by is By.DAY else ""),
    )
    with box(context) as services, filters.shown(filter_):
        answer = services.recordings.CountRecordings(request, timeout=COUNT_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
        return
    show(answer, by)


def local_zone() -> str:
    """The time zone of this machine by its name; UTC where it has none."""
    name = os.environ.get("TZ", "").lstrip(":")
    if not name:
        target = os.path.realpath("/etc/localtime")
        name = target.partition("/zoneinfo/")[2]
    return name if name and (Path("/usr/share/zoneinfo") / name).is_file() else "UTC"


def show(answer: recordings_pb2.CountRecordingsResponse, by: By) -> None:
    """A bar for each group, and a line for all together."""
    if not answer.groups:
        output.console.print("No recording.")
        return
    most = max(group.count for group in answer.groups)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in (by.value.capitalize(), "", "Recordings", "Length"):
        table.add_column(
            head, justify="right" if head in ("Recordings", "Length") else "left", overflow="fold"
        )
    unicode = (output.console.encoding or "").lower().startswith("utf")
    for key, number, duration in rows(answer, by):
        filled = BAR * number / most
        bar = Bar(BAR, 0, filled, width=BAR) if unicode else Text("#" * max(round(filled), number > 0))
        table.add_row(Text(output.plain(key)), bar, f"{number:,}", output.clock(duration) if number else "")
    output.console.print(table)
    more = " (the oldest days are left out)" if by is By.DAY else " (the smallest are left out)"
    output.console.print(
        f"{answer.count:,} recordings, {output.clock(answer.duration)}{more if answer.more else ''}"
    )


def rows(answer: recordings_pb2.CountRecordingsResponse, by: By) -> Iterator[tuple[str, int, Duration]]:
    """Key, count and length of each group; of days also those that have none, where that is no long row."""
    if by is not By.DAY:
        for group in answer.groups:
            yield (
                bare(group.key) if by is By.LINE else group.key.lower() if by is By.DIRECTION else group.key,
                (group.count),
                group.duration,
            )
        return
    found = {date.fromisoformat(group.key): group for group in answer.groups}
    first, last = min(found), max(found)
    whole = (last - first).days <= MOST_EMPTY
    days = (first + timedelta(n) for n in range((last - first).days + 1)) if whole else iter(sorted(found))
    for day in days:
        group = found.get(day, recordings_pb2.RecordingCount())
        yield f"{day:%a} {day.isoformat()}", group.count, group.duration
