"""`earwitness completeness`: the switchboard's call records against the recordings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import completenessview as view
from appliance.cli import files, output, recordsources
from appliance.cli.connection import bare
from appliance.cli.context import CALL_TIMEOUT_S, Box, JsonOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.purposes import TenantOption, tenant_of
from earwitness import pages
from earwitness.v1 import completeness_pb2 as pb

app = typer.Typer(
    help="Completeness: the switchboard's call records against the recordings. Import, sources, days, report, watch.",
    no_args_is_help=True,
)
app.add_typer(recordsources.app, name="sources")

_PART = 256 * 1024
_IMPORT_TIMEOUT_S = 600.0
DayArgument = Annotated[str, typer.Argument(help="Such as 2026-11-29; else yesterday.", show_default=False)]


@app.command("import")
def import_(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of call records.")],
    source: Annotated[
        str, typer.Option("--source", help="Name or id of the source; not needed where there is one.")
    ] = "",
    tenant: TenantOption = "",
    validate_only: Annotated[
        bool, typer.Option("--dry-run", "--validate-only", help="Say what would come of it, keep nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Take files of call records, and hold them against the recordings. What came before is taken once.

    earwitness completeness import Master.csv
    """
    with box(context) as services:
        name = recordsources.source_of(services, source, tenant)
        for file in files:
            answer = services.completeness.ImportCallRecords(
                _parts(name, file, validate_only), timeout=_IMPORT_TIMEOUT_S
            )
            if json:
                output.print_line(output.as_dict(answer))
            else:
                view.import_(file.name, answer, dry=validate_only)


@app.command("imports")
def imports(
    context: typer.Context,
    tenant: TenantOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """Files that were taken, newest first."""
    with box(context) as services:
        request = pb.ListCallRecordImportsRequest(
            parent=tenant_of(services, tenant), page_size=min(limit, 1000)
        )
        found = list(services.completeness.ListCallRecordImports(request, timeout=CALL_TIMEOUT_S).imports)
    if json:
        output.print_json({"imports": [output.as_dict(one) for one in found]})
        return
    output.table(
        ("Import", "When", "By", ">Rows", ">New", ">Repeated", ">Broken", "Clock"),
        (
            (
                bare(one.name),
                output.when(one.create_time),
                one.creator or "(folder)",
                str(one.row_count),
                str(one.new_count),
                str(one.repeated_count or ""),
                str(one.broken_count or ""),
                view.shift(one.shift) if one.HasField("shift") else "",
            )
            for one in found
        ),
        empty="Nothing was imported.",
    )


@app.command("days")
def days(
    context: typer.Context,
    tenant: TenantOption = "",
    first: Annotated[str, typer.Option("--from", help="Not before this day.")] = "",
    last: Annotated[str, typer.Option("--until", help="Not after this day.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 31,
    json: JsonOption = False,
) -> None:
    """Days, newest first: what was contracted, what is missing, faults of all kinds."""
    with box(context) as services:
        found = _days(services, tenant_of(services, tenant), first, last, limit)
    if json:
        output.print_json({"days": [output.as_dict(one) for one in found]})
    else:
        view.days(found)


@app.command("report")
def report(
    context: typer.Context,
    day: DayArgument = "",
    tenant: TenantOption = "",
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Write report and signature into this directory.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The signed report itself.")] = False,
) -> None:
    """The report of a day: hour by hour, and each fault. With --to it can be verified anywhere: earwitness verify.

    earwitness completeness report 2026-11-28 --to reports
    """
    with box(context) as services:
        name = f"{tenant_of(services, tenant)}/completenessDays/{day or yesterday()}"
        request = pb.GetCompletenessReportRequest(name=name)
        found = services.completeness.GetCompletenessReport(request, timeout=CALL_TIMEOUT_S)
    if to is not None:
        path = files.named(to, found.file_name)
        files.make_folder(to)
        for file, text in (
            (path, found.report),
            (path.with_name(f"{path.name}.note"), found.signature.encode()),
        ):
            files.write(file, text)
            output.console.print(str(file))
    elif json:
        typer.echo(found.report.decode(), nl=False)
    else:
        view.report(found)


@app.command("records")
def records(
    context: typer.Context,
    day: DayArgument = "",
    outcome: Annotated[
        list[str] | None,
        typer.Option("--outcome", help="These alone, such as missing, late, unwanted; one a time."),
    ] = None,
    tenant: TenantOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
    json: JsonOption = False,
) -> None:
    """Call records of a day, and what became of each call. Numbers are there as long as they are needed."""
    with box(context) as services:
        request = pb.ListCallRecordsRequest(
            parent=f"{tenant_of(services, tenant)}/completenessDays/{day or yesterday()}",
            outcomes=[view.outcome_of(one) for one in outcome or ()],
            page_size=min(limit, 1000),
        )
        found: list[pb.CallRecord] = []
        for answer in pages(services.completeness.ListCallRecords, request, timeout=CALL_TIMEOUT_S):
            found += answer.records
            if len(found) >= limit:
                break
    if json:
        output.print_json({"records": [output.as_dict(one) for one in found[:limit]]})
    else:
        view.records(found[:limit])


@app.command("watch")
def watch(
    context: typer.Context,
    tenant: TenantOption = "",
    every: Annotated[float, typer.Option("--every", min=1, max=3600, help="Seconds between two looks.")] = 10,
    count: Annotated[
        int, typer.Option("--count", min=0, help="End after so many looks; 0: with Ctrl-C.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Say it when a day becomes another: records came, a call is missing, or was found."""
    seen: dict[str, str] = {}
    looks = 0
    with box(context) as services:
        parent = tenant_of(services, tenant)
        while True:
            for one in reversed(_days(services, parent, "", "", 7)):
                now = one.SerializeToString(deterministic=True).hex()
                if seen.get(one.name) != now:
                    seen[one.name] = now
                    if json:
                        output.print_line(output.as_dict(one))
                    else:
                        output.console.print(view.line(one), soft_wrap=True)
            looks += 1
            if looks == count:
                return
            time.sleep(every)


def yesterday() -> str:
    return (date.today() - timedelta(days=1)).isoformat()


def _days(services: Box, parent: str, first: str, last: str, limit: int) -> list[pb.CompletenessDay]:
    found: list[pb.CompletenessDay] = []
    request = pb.ListCompletenessDaysRequest(
        parent=parent, first_day=first, last_day=last, page_size=min(limit, 1000)
    )
    for answer in pages(services.completeness.ListCompletenessDays, request, timeout=CALL_TIMEOUT_S):
        found += answer.days
        if len(found) >= limit:
            break
    return found[:limit]


def _parts(name: str, file: Path, validate_only: bool) -> Iterator[pb.ImportCallRecordsRequest]:
    yield pb.ImportCallRecordsRequest(parent=name, validate_only=validate_only)
    try:
        with file.open("rb") as opened:
            while part := opened.read(_PART):
                yield pb.ImportCallRecordsRequest(data=part)
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot read {file}: {error.strerror}", "FILE_UNREADABLE") from error
