"""`earwitness holds`: legal holds, which forbid to destroy what they name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import output, titles
from appliance.cli.confirm import confirm
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import (
    CALL_TIMEOUT_S,
    LOOK_TIMEOUT_S,
    Box,
    DryOption,
    JsonOption,
    TenantOption,
    YesOption,
    box,
)
from appliance.cli.exits import Exit, Failure
from appliance.cli.titles import Titles
from earwitness import pages
from earwitness.v1 import retention_pb2 as pb
from earwitness.v1 import tenants_pb2

app = typer.Typer(help="Legal holds: create, add, release, list, show.", no_args_is_help=True)

MAX_NAMED = 1000  # recordings in one request
CaseArgument = Annotated[str, typer.Argument(help="Name or id of the hold.")]
RecordingOption = Annotated[
    list[str] | None, typer.Option("--recording", help="A recording (name or id); as often as you like.")
]
FilterOption = Annotated[
    str, typer.Option("--filter", help="Recordings that match now, deleted ones too (docs/api.md).")
]
LineOption = Annotated[str, typer.Option("--line", help="All of this line, what comes later too.")]
FromOption = Annotated[
    str, typer.Option("--from", help="What was made from then on: 2026-11-25 or 2026-11-25T10:00:00Z.")
]
ToOption = Annotated[str, typer.Option("--to", help="What was made before then.")]
EverythingOption = Annotated[
    bool, typer.Option("--everything", help="All of the tenant, what comes later too.")
]


def moment(option: str, text: str) -> Timestamp | None:
    """A day (its midnight, UTC) or a time; None where nothing is said."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Failure(
            Exit.USAGE, f"{option}: {text!r} is no time such as 2026-11-25", "OPTION_INVALID"
        ) from error
    made = Timestamp()
    made.FromDatetime(found if found.tzinfo else found.replace(tzinfo=UTC))
    return made


def scope(services: Box, line: str, from_: str, to: str, everything: bool) -> list[pb.LegalHoldScope]:
    """The scope that the options name, if any."""
    if not (line or from_ or to or everything):
        return []
    name = ""
    if line:
        request = tenants_pb2.GetLineRequest(name=resource("lines", line))
        name = services.tenants.GetLine(request, timeout=CALL_TIMEOUT_S).line.name
    return [pb.LegalHoldScope(line=name, from_time=moment("--from", from_), to_time=moment("--to", to))]


def _add(
    services: Box,
    name: str,
    recordings: list[str],
    filter_: str,
    scopes: list[pb.LegalHoldScope],
    dry: bool,
) -> pb.AddToLegalHoldResponse:
    """Recordings in as many requests as they want; filter and scopes go with the last one."""
    names = [resource("recordings", one) for one in recordings]
    parts = [names[first : first + MAX_NAMED] for first in range(0, len(names), MAX_NAMED)] or [[]]
    for part in parts[:-1]:
        services.retention.AddToLegalHold(
            pb.AddToLegalHoldRequest(name=name, recordings=part, validate_only=dry), timeout=LOOK_TIMEOUT_S
        )
    last = pb.AddToLegalHoldRequest(
        name=name, recordings=parts[-1], filter=filter_, scopes=scopes, validate_only=dry
    )
    return services.retention.AddToLegalHold(last, timeout=LOOK_TIMEOUT_S)


@app.command()
def create(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Name or id of the tenant whose recordings it holds.")],
    title: Annotated[str, typer.Option("--title", help="In few words.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; shown to those who look at the vault.")],
    owner: Annotated[str, typer.Option("--owner", help="Who answers for it; else you.")] = "",
    recording: RecordingOption = None,
    filter_: FilterOption = "",
    line: LineOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    everything: EverythingOption = False,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Open a legal hold. Nothing that it names is deleted, erased or expires until it is released.

    Examples:

    earwitness holds create TENANT --title Inquest --reason 'coroner asked'
      --line LINE --from 2026-11-01 --to 2026-12-01
    earwitness holds create TENANT --title Complaint --reason 'open matter'
      --filter 'party.number:"01632 960001"'
    """
    with box(context) as services:
        hold = pb.LegalHold(
            title=title,
            reason=reason,
            owner=owner,
            scopes=scope(services, line, from_, to, everything),
        )
        made = services.retention.CreateLegalHold(
            pb.CreateLegalHoldRequest(
                parent=resource("tenants", tenant), legal_hold=hold, validate_only=validate_only
            ),
            timeout=LOOK_TIMEOUT_S,
        ).legal_hold
        if (recording or filter_) and not validate_only:
            try:
                made = _add(services, made.name, recording or [], filter_, [], False).legal_hold
            except Exception:
                output.errors.print(f"the hold {bare(made.name)} is open and holds nothing yet", markup=False)
                raise
        _show(services, made, json)


@app.command()
def add(
    context: typer.Context,
    case: CaseArgument,
    recording: RecordingOption = None,
    filter_: FilterOption = "",
    line: LineOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    everything: EverythingOption = False,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Name more in a legal hold. An erased recording is told so, and then nothing is added.

    A recording that is still being made, or is not filed yet, can be named by its id.

    Example:

    earwitness holds add CASE --recording ID --recording ID
    """
    with box(context) as services:
        scopes = scope(services, line, from_, to, everything)
        found = _add(services, resource("legalHolds", case), recording or [], filter_, scopes, validate_only)
        if json:
            output.print_json(output.as_dict(found))
            return
        if filter_:
            gone = f"; {found.erased_count} erased before" if found.erased_count else ""
            output.console.print(f"Match the filter: {output.count(found.matched_count, 'recording')}{gone}.")
        _show(services, found.legal_hold, False)


@app.command()
def release(
    context: typer.Context,
    case: CaseArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why it is over.")],
    yes: YesOption = False,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """End a legal hold for good: what it held is kept no longer than anything else."""
    name = resource("legalHolds", case)
    with box(context) as services:
        current = services.retention.GetLegalHold(
            pb.GetLegalHoldRequest(name=name), timeout=CALL_TIMEOUT_S
        ).legal_hold
        if not yes and not validate_only:
            if not json:
                _show(services, current, False)
            confirm(
                "What it held may be destroyed then. Type the hold's id to release it", bare(current.name)
            )
        request = pb.ReleaseLegalHoldRequest(name=current.name, reason=reason, validate_only=validate_only)
        _show(services, services.retention.ReleaseLegalHold(request, timeout=LOOK_TIMEOUT_S).legal_hold, json)


@app.command("list")
def list_holds(
    context: typer.Context,
    tenant: TenantOption = "",
    released: Annotated[bool, typer.Option("--released", help="Released ones too.")] = False,
    json: JsonOption = False,
) -> None:
    """Legal holds, oldest first."""
    found: list[pb.LegalHold] = []
    request = pb.ListLegalHoldsRequest(parent=tenant_parent(tenant), show_released=released, page_size=1000)
    with box(context) as services:
        for answer in pages(services.retention.ListLegalHolds, request, timeout=CALL_TIMEOUT_S):
            found += answer.legal_holds
    if json:
        output.print_json({"legalHolds": [output.as_dict(one) for one in found]})
    else:
        table(found)


def table(some: list[pb.LegalHold]) -> None:
    """Holds with who answers for them, and why."""
    output.table(
        ("ID", "Title", "Owner", "Reason", "Since", "State"),
        (
            (
                bare(one.name),
                one.title,
                one.owner,
                one.reason,
                output.moment(one.create_time),
                "released" if one.HasField("release_time") else "open",
            )
            for one in some
        ),
        empty="No legal hold.",
    )


@app.command()
def show(
    context: typer.Context,
    case: CaseArgument,
    recordings: Annotated[
        bool, typer.Option("--recordings", help="List every recording that it holds.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """One legal hold, and with --recordings what it holds.

    JSON: the hold; with --recordings an object with the hold and the names of its recordings.
    """
    with box(context) as services:
        request = pb.GetLegalHoldRequest(name=resource("legalHolds", case))
        hold = services.retention.GetLegalHold(request, timeout=CALL_TIMEOUT_S).legal_hold
        if not recordings:
            _show(services, hold, json)
            return
        held: list[str] = []
        page = pb.ListLegalHoldRecordingsRequest(parent=hold.name, page_size=1000)
        for answer in pages(services.retention.ListLegalHoldRecordings, page, timeout=LOOK_TIMEOUT_S):
            held += answer.recordings
        if json:
            output.print_json({"legalHold": output.as_dict(hold), "recordings": held})
            return
        _show(services, hold, False)
        output.console.print(f"\n[bold]{output.count(len(held), 'recording')}[/bold]")
        for one in held:
            output.console.print(bare(one), markup=False)


def _show(services: Box, hold: pb.LegalHold, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(hold))
        return
    lines = titles.titles(services)
    output.facts(
        [
            ("Hold", hold.name),
            ("Title", hold.title),
            ("Reason", hold.reason),
            ("Owner", hold.owner),
            ("Since", output.when(hold.create_time)),
            *(("Holds", _words(one, lines)) for one in hold.scopes),
            ("Names", output.some(hold.named_recording_count, "recording")),
            (
                "Released",
                f"{output.when(hold.release_time)} by {hold.releaser}: {hold.release_reason}"
                if hold.HasField("release_time")
                else "",
            ),
        ]
    )


def _words(one: pb.LegalHoldScope, lines: Titles) -> str:
    what = f"line {lines.get(one.line, bare(one.line))}" if one.line else "all lines"
    since = f" from {output.when(one.from_time)}" if one.HasField("from_time") else ""
    until = f" to {output.when(one.to_time)}" if one.HasField("to_time") else ""
    return f"{what}{since}{until}"
