"""`earwitness documents`: made from how the box really is, signed; and the service level in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import documentsview as view
from appliance.cli import files, output
from appliance.cli.connection import bare
from appliance.cli.context import CALL_TIMEOUT_S, LOOK_TIMEOUT_S, Box, DryOption, JsonOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.purposes import TenantOption, tenant_of
from earwitness import pages
from earwitness.v1 import documents_pb2 as pb
from earwitness.verify.__main__ import verify_all

app = typer.Typer(
    help="Documents made from the real configuration: make, list, get, verify; service-level; planned work.",
    no_args_is_help=True,
)
planned = typer.Typer(
    help="Work on the box that is planned: noted before it begins, told apart in reports.",
    no_args_is_help=True,
)
app.add_typer(planned, name="planned-work")

FORMATS: Final = {"md": "MARKDOWN", "markdown": "MARKDOWN", "html": "HTML", "pdf": "PDF"}
_EXITS: Final = {0: Exit.OK, 1: Exit.NOT_INTACT, 2: Exit.USAGE}
BoxOption = Annotated[bool, typer.Option("--box", help="Of the box, not of a tenant.")]
MonthOption = Annotated[str, typer.Option("--month", help="Such as 2026-11.")]
FromOption = Annotated[str, typer.Option("--from", help="Begin, such as 2026-11-01 or 2026-11-29T09:00.")]
UntilOption = Annotated[str, typer.Option("--until", help="End; without it: now.")]
ZoneOption = Annotated[str, typer.Option("--time-zone", help="Such as Europe/London; else the tenant's.")]
ToOption = Annotated[Path, typer.Option("--to", help="Directory to write into.")]


@app.command("make")
def make(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(help="processing-record, protection-annex, service-level or access-report."),
    ],
    tenant: TenantOption = "",
    of_box: BoxOption = False,
    format_: Annotated[str, typer.Option("--format", help="pdf, html or md.")] = "pdf",
    month: MonthOption = "",
    first: FromOption = "",
    last: UntilOption = "",
    time_zone: ZoneOption = "",
    people: Annotated[bool, typer.Option("--people", help="Name who has which role (annex).")] = False,
    folder: ToOption = Path("."),
    json: JsonOption = False,
) -> None:
    """Make a document as things are now, keep it, and write it with its signature beside it (FILE.note).

    earwitness documents make service-level --month 2026-11 --format html
    """
    fields: dict[str, Any] = _span(first, last)
    with box(context) as services:
        request = pb.GenerateDocumentRequest(
            parent=_parent(services, tenant, of_box),
            kind=_kind(kind),
            format=_format(format_),
            month=month,
            time_zone=time_zone,
            include_people=people,
            **fields,
        )
        made = save(services.documents.GenerateDocument(request, timeout=LOOK_TIMEOUT_S), folder, quiet=json)
    if json:
        output.print_json(output.as_dict(made))


@app.command("list")
def list_documents(
    context: typer.Context,
    tenant: TenantOption = "",
    of_box: BoxOption = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """Documents that were made, newest first. They are kept for 400 days."""
    found: list[pb.Document] = []
    with box(context) as services:
        request = pb.ListDocumentsRequest(
            parent=_parent(services, tenant, of_box), page_size=min(limit, 1000)
        )
        for answer in pages(services.documents.ListDocuments, request, timeout=CALL_TIMEOUT_S):
            found += answer.documents
            if len(found) >= limit:
                break
    if json:
        output.print_json({"documents": [output.as_dict(one) for one in found[:limit]]})
    else:
        view.documents(found[:limit])


@app.command("get")
def get(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a document, or its id.")],
    folder: ToOption = Path("."),
    tenant: TenantOption = "",
) -> None:
    """Write a document again, as it was made, with its signature."""
    with box(context) as services:
        full = name if "/" in name else f"{tenant_of(services, tenant)}/documents/{name}"
        request = pb.DownloadDocumentRequest(name=full)
        save(services.documents.DownloadDocument(request, timeout=LOOK_TIMEOUT_S), folder, quiet=False)


@app.command("verify")
def verify(
    documents: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Documents, each with FILE.note.")
    ],
    keys: Annotated[
        Path, typer.Option("--keys", help="The box's public keys, from `earwitness evidence keys`.")
    ] = Path("box-keys.json"),
    json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
) -> None:
    """Check documents offline: as this box made and signed them. The same as `earwitness verify`."""
    for file in documents:
        if not file.with_name(f"{file.name}.note").exists():
            raise Failure(
                Exit.USAGE, f"{file.name}.note is not there", "NOTE_MISSING", "it came with the document"
            )
    raise typer.Exit(_EXITS[verify_all(documents, keys, None, as_json=json)])


@app.command("service-level")
def service_level(
    context: typer.Context,
    tenant: TenantOption = "",
    of_box: BoxOption = False,
    month: MonthOption = "",
    first: FromOption = "",
    last: UntilOption = "",
    time_zone: ZoneOption = "",
    json: JsonOption = False,
) -> None:
    """Availability of access, completeness, alarms, calls, as a picture. Without a span: this month."""
    fields: dict[str, Any] = _span(first, last)
    with box(context) as services:
        request = pb.GetServiceLevelRequest(
            parent=_parent(services, tenant, of_box), month=month, time_zone=time_zone, **fields
        )
        found = services.documents.GetServiceLevel(request, timeout=LOOK_TIMEOUT_S).service_level
    if json:
        output.print_json(output.as_dict(found))
    else:
        view.service_level(found)


@planned.command("list")
def list_planned(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """Planned work, the latest first."""
    with box(context) as services:
        request = pb.ListPlannedWorkRequest(page_size=min(limit, 1000))
        found = services.documents.ListPlannedWork(request, timeout=CALL_TIMEOUT_S).planned_work
    if json:
        output.print_json({"plannedWork": [output.as_dict(one) for one in found]})
    else:
        view.works(found)


@planned.command("note")
def note_planned(
    context: typer.Context,
    description: Annotated[str, typer.Argument(help="What is done. No personal data: it stands in reports.")],
    first: Annotated[str, typer.Option("--from", help="Begin; without it: now.")] = "",
    last: Annotated[str, typer.Option("--until", help="End, such as 2026-11-29T11:00.")] = "",
    minutes: Annotated[int, typer.Option("--minutes", min=0, help="How long, instead of --until.")] = 0,
    validate_only: DryOption = False,
) -> None:
    """Note planned work, before it begins."""
    if bool(last) == bool(minutes):
        raise Failure(Exit.USAGE, "--until or --minutes", "END_NEEDED")
    work = pb.PlannedWork(description=description)
    begin = _time(first, "--from") if first else datetime.now(UTC)
    if first:
        work.start_time.CopyFrom(_stamp(begin))
    work.end_time.CopyFrom(_stamp(_time(last, "--until") if last else begin + timedelta(minutes=minutes)))
    with box(context) as services:
        request = pb.NotePlannedWorkRequest(planned_work=work, validate_only=validate_only)
        view.works([services.documents.NotePlannedWork(request, timeout=CALL_TIMEOUT_S).planned_work])


@planned.command("cancel")
def cancel_planned(
    context: typer.Context, work: Annotated[str, typer.Argument(help="Name of the work, or its id.")]
) -> None:
    """Take planned work back, or end it now."""
    with box(context) as services:
        request = pb.CancelPlannedWorkRequest(name=f"plannedWork/{bare(work)}")
        answer = services.documents.CancelPlannedWork(request, timeout=CALL_TIMEOUT_S)
    if answer.HasField("planned_work"):
        view.works([answer.planned_work])
    else:
        output.console.print("It is taken back.")


def _parent(services: Box, tenant: str, of_box: bool) -> str:
    if of_box and tenant:
        raise Failure(Exit.USAGE, "--tenant or --box", "PARENT_TWICE")
    return "" if of_box else tenant_of(services, tenant)


def _kind(word: str) -> pb.DocumentKind.ValueType:
    name = f"DOCUMENT_KIND_{word.upper().replace('-', '_')}"
    if name not in list(pb.DocumentKind.keys()) or name.endswith("UNSPECIFIED"):
        known = ", ".join(view.kind(one) for one in pb.DocumentKind.values() if one)
        raise Failure(Exit.USAGE, "no such kind of document", "KIND_UNKNOWN", f"one of {known}")
    return pb.DocumentKind.Value(name)


def _format(word: str) -> pb.DocumentFormat.ValueType:
    if word not in FORMATS:
        raise Failure(Exit.USAGE, "no such format", "FORMAT_UNKNOWN", "pdf, html or md")
    return pb.DocumentFormat.Value(f"DOCUMENT_FORMAT_{FORMATS[word]}")


def _span(first: str, last: str) -> dict[str, Timestamp]:
    if not first and not last:
        return {}
    if not first:
        raise Failure(Exit.USAGE, "--until goes with --from", "BEGIN_NEEDED")
    end = _time(last, "--until") if last else datetime.now(UTC)
    return {"start_time": _stamp(_time(first, "--from")), "end_time": _stamp(end)}


def _time(text: str, option: str) -> datetime:
    """Local time where it does not say a zone."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise Failure(
            Exit.USAGE, f"{option}: no time", "TIME_UNREADABLE", "such as 2026-11-29 or 2026-11-29T09:00"
        ) from None


def _stamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment.replace(tzinfo=None))
    return made


def save(stream: Iterable[Any], folder: Path, *, quiet: bool) -> pb.Document:
    """Writes a document and its note, the document first: a note without it would be nothing."""
    parts = iter(stream)
    made: pb.Document = next(parts).document
    path = files.named(folder, made.file_name)
    files.make_folder(folder)
    with files.written(path) as file:
        for part in parts:
            file.write(part.data)
    files.write(path.with_name(f"{path.name}.note"), made.signature.encode())
    if not quiet:
        output.console.print(f"{path}, signed ({path.name}.note)", soft_wrap=True)
    return made
