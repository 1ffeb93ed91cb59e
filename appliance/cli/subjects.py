"""`earwitness subjects`: requests of people for access, what they are given, and the pack they get."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from appliance.cli import output, subjectgiving
from appliance.cli.connection import bare, tenant_parent
from appliance.cli.context import (
    CALL_TIMEOUT_S,
    DryOption,
    JsonOption,
    TenantOption,
    box,
)
from appliance.cli.holds import moment
from appliance.cli.purposes import tenant_of
from appliance.cli.subjectview import RequestArgument, chosen, left, named, show_request, value
from earwitness import pages
from earwitness.v1 import subjects_pb2 as pb

app = typer.Typer(
    help="Requests for access (UK GDPR Art. 15): the clock, find, choose, mute, withhold, pack, answer.",
    no_args_is_help=True,
)
subjectgiving.join(app)


@app.command("create")
def create(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(help="What you call it, such as a case number.")],
    number: Annotated[
        list[str] | None, typer.Option("--number", help="A number of the person's own.")
    ] = None,
    other: Annotated[
        list[str] | None,
        typer.Option(
            "--other-number", help="NUMBER=HOW: another's number, and how the right to it was verified."
        ),
    ] = None,
    received: Annotated[
        str, typer.Option("--received", help="The day it came, 2026-11-25; else today.")
    ] = "",
    identified: Annotated[
        str,
        typer.Option("--identified", help="How it was made sure who the person is; no copies of documents."),
    ] = "",
    from_: Annotated[str, typer.Option("--from", help="Calls from then on: 2026-11-25 or a time.")] = "",
    to: Annotated[str, typer.Option("--to", help="Calls before then.")] = "",
    handler: Annotated[str, typer.Option("--handler", help="Who handles it.")] = "",
    nation: Annotated[str, typer.Option("--nation", help="Whose bank holidays: ENG, WLS, SCT, NIR.")] = "",
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Open a request; the clock goes from the day it came.

    earwitness subjects create SAR-2026-7 --number 07700900123 --received 2026-11-20 --identified "called back"
    """
    numbers = [pb.SubjectNumber(number=one, own=True) for one in number or ()]
    for one in other or ():
        text, _, how = one.partition("=")
        numbers.append(pb.SubjectNumber(number=text, verification=how))
    said = pb.SubjectRequest(
        reference=reference,
        receive_date=received or datetime.now(UTC).date().isoformat(),
        identification=identified,
        numbers=numbers,
        from_time=moment("--from", from_),
        to_time=moment("--to", to),
        handler=handler,
        nation=nation,
    )
    with box(context) as services:
        request = pb.CreateSubjectRequestRequest(
            parent=tenant_of(services, tenant), subject_request=said, validate_only=validate_only
        )
        made = services.subjects.CreateSubjectRequest(request, timeout=CALL_TIMEOUT_S).subject_request
    show_request(made, json)


@app.command("list")
def list_(
    context: typer.Context,
    tenant: TenantOption = "",
    closed: Annotated[bool, typer.Option("--all", help="Those that are closed, too.")] = False,
    json: JsonOption = False,
) -> None:
    """Requests, newest first, with the last day for each."""
    found: list[pb.SubjectRequest] = []
    request = pb.ListSubjectRequestsRequest(parent=tenant_parent(tenant), page_size=1000, show_closed=closed)
    with box(context) as services:
        for page in pages(services.subjects.ListSubjectRequests, request, timeout=CALL_TIMEOUT_S):
            found += page.subject_requests
    if json:
        output.print_json([output.as_dict(one) for one in found])
        return
    rows = (
        (
            bare(one.name),
            one.reference,
            output.enum_word(pb.SubjectRequestState, one.state),
            one.due_date,
            left(one),
        )
        for one in found
    )
    output.table(("Request", "Reference", "State", "Due", "Left"), rows, empty="No request.")


@app.command("show")
def show(context: typer.Context, name: RequestArgument, json: JsonOption = False) -> None:
    """One request: its clock, its packs, what was done."""
    with box(context) as services:
        request = pb.GetSubjectRequestRequest(name=named(name))
        one = services.subjects.GetSubjectRequest(request, timeout=CALL_TIMEOUT_S).subject_request
        listed = pb.ListSubjectPacksRequest(parent=one.name, page_size=1000)
        packs = list(services.subjects.ListSubjectPacks(listed, timeout=CALL_TIMEOUT_S).packs)
    if json:
        packs_shown = [output.as_dict(pack) for pack in packs]
        output.print_json({"subjectRequest": output.as_dict(one), "packs": packs_shown})
        return
    show_request(one, False)
    rows = (
        (
            bare(pack.name),
            output.enum_word(pb.SubjectPackState, pack.state),
            str(pack.recording_count),
            pack.end_reason,
        )
        for pack in packs
    )
    output.table(("Pack", "State", "Recordings", "Why"), rows, empty="No pack.")


@app.command("find")
def find(context: typer.Context, name: RequestArgument, json: JsonOption = False) -> None:
    """The recordings that a request is about, with what was chosen of each."""
    found: list[pb.SubjectCandidate] = []
    request = pb.FindSubjectRecordingsRequest(name=named(name), page_size=1000)
    with box(context) as services:
        for page in pages(services.subjects.FindSubjectRecordings, request, timeout=CALL_TIMEOUT_S):
            found += page.candidates
    if json:
        output.print_json([output.as_dict(one) for one in found])
        return
    rows = (
        (
            bare(one.recording.name),
            output.when(one.recording.start_time),
            output.clock(one.recording.duration),
            ", ".join(
                f"{place} {party.display_name or party.number}"
                for place, party in enumerate(one.recording.parties)
            ),
            chosen(one),
        )
        for one in found
    )
    output.table(("Recording", "When", "Length", "Parties", "Chosen"), rows, empty="No recording.")


@app.command("pause")
def pause(
    context: typer.Context,
    name: RequestArgument,
    awaited: Annotated[str, typer.Argument(help="identity or clarification.")],
    day: Annotated[str, typer.Option("--from", help="From this day on, 2026-11-25; else today.")] = "",
    json: JsonOption = False,
) -> None:
    """Stop the clock while something is awaited from the person."""
    with box(context) as services:
        request = pb.PauseSubjectClockRequest(
            name=named(name),
            pause=value(pb.SubjectClockPause, "SUBJECT_CLOCK_PAUSE_", awaited, "AWAITED"),
            from_date=day,
        )
        show_request(
            services.subjects.PauseSubjectClock(request, timeout=CALL_TIMEOUT_S).subject_request, json
        )


@app.command("resume")
def resume(
    context: typer.Context,
    name: RequestArgument,
    day: Annotated[str, typer.Option("--on", help="The day it came, 2026-11-25; else today.")] = "",
    json: JsonOption = False,
) -> None:
    """Let the clock go on: what was awaited has come."""
    with box(context) as services:
        request = pb.ResumeSubjectClockRequest(name=named(name), to_date=day)
        show_request(
            services.subjects.ResumeSubjectClock(request, timeout=CALL_TIMEOUT_S).subject_request, json
        )


@app.command("extend")
def extend(
    context: typer.Context,
    name: RequestArgument,
    reason: Annotated[str, typer.Argument(help="Why; the person is told. Empty: not extended any more.")],
    json: JsonOption = False,
) -> None:
    """Two months more, where the request is complex or one of many."""
    with box(context) as services:
        request = pb.ExtendSubjectClockRequest(name=named(name), reason=reason)
        show_request(
            services.subjects.ExtendSubjectClock(request, timeout=CALL_TIMEOUT_S).subject_request, json
        )


@app.command("close")
def close(
    context: typer.Context,
    name: RequestArgument,
    outcome: Annotated[str, typer.Argument(help="answered, refused or withdrawn.")] = "answered",
    reason: Annotated[
        str, typer.Option("--reason", help="Why; where it is refused the reason of the law.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Close a request; `subjects reopen` undoes it."""
    with box(context) as services:
        request = pb.CloseSubjectRequestRequest(
            name=named(name),
            outcome=value(pb.SubjectRequestState, "SUBJECT_REQUEST_STATE_", outcome, "OUTCOME"),
            reason=reason,
        )
        show_request(
            services.subjects.CloseSubjectRequest(request, timeout=CALL_TIMEOUT_S).subject_request, json
        )


@app.command("reopen")
def reopen(context: typer.Context, name: RequestArgument, json: JsonOption = False) -> None:
    """Open a closed request again, as it was before."""
    with box(context) as services:
        request = pb.ReopenSubjectRequestRequest(name=named(name))
        show_request(
            services.subjects.ReopenSubjectRequest(request, timeout=CALL_TIMEOUT_S).subject_request, json
        )
