"""`earwitness retention`: how long recordings are kept, what goes when and why, and carrying it out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import bulk, output, planview, policies, policyview, titles
from appliance.cli.confirm import confirm
from appliance.cli.connection import resource, tenant_parent
from appliance.cli.context import (
    CALL_TIMEOUT_S,
    LOOK_TIMEOUT_S,
    Box,
    JsonOption,
    LineOption,
    TenantOption,
    YesOption,
    box,
)
from appliance.cli.downloads import FORMATS
from appliance.cli.exits import Exit, Failure
from appliance.cli.progress import bar
from appliance.cli.readingoptions import OverrideOption, PurposeOption
from earwitness import pages
from earwitness.v1 import retention_pb2 as pb

app = typer.Typer(
    help="Retention: show, set, cancel, plan, run, runs, upcoming, explain, clock.", no_args_is_help=True
)

SHORTEST_DIGEST = 8  # characters that a digest may be cut to when it is typed
app.command("show")(policies.show)
app.command("set")(policies.set_policy)
app.command("cancel")(policies.cancel)


def _plan(services: Box, parent: str) -> tuple[pb.PlanHeader, list[pb.PlanItem]]:
    stream = services.retention.PlanRetention(pb.PlanRetentionRequest(parent=parent), timeout=LOOK_TIMEOUT_S)
    header: pb.PlanHeader | None = None
    items: list[pb.PlanItem] = []
    for one in stream:
        if one.HasField("header"):
            header = one.header
        elif one.plan_item.continuation and items:
            planview.go_on(items[-1], one.plan_item)
        else:
            items.append(one.plan_item)
    if header is None:
        raise Failure(Exit.FAILED, "the box sent no plan", "NO_HEADER")
    return header, items


@app.command()
def plan(
    context: typer.Context,
    tenant: TenantOption = "",
    everything: Annotated[
        bool, typer.Option("--all", help="List each thing, kept ones too, with why.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """What the next run would do, and why each kept thing is kept. Nothing is done.

    Examples:

    earwitness retention plan
    earwitness retention plan --all --tenant TENANT
    """
    with box(context) as services:
        header, items = _plan(services, tenant_parent(tenant))
        if json:
            output.print_json(
                {"header": output.as_dict(header), "items": [output.as_dict(item) for item in items]}
            )
        else:
            planview.show(header, items, titles.titles(services), everything=everything)


@app.command()
def run(
    context: typer.Context,
    digest: Annotated[
        str,
        typer.Option("--confirm", help="The digest of the plan that you looked at (8 characters will do)."),
    ] = "",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Carry out what is due now, as it is done every night. Exit code 8 where the brake or the clock forbids it.

    A plan that is far larger than forecast wants to be confirmed by its digest. Examples:

    earwitness retention run
    earwitness retention run --confirm 1f0c9a3e
    """
    with box(context) as services:
        header, items = _plan(services, "tenants/-")
        if digest and not (len(digest) >= SHORTEST_DIGEST and header.digest.startswith(digest)):
            raise Failure(
                Exit.CONFLICT,
                "what would be destroyed is not what this digest names",
                "PLAN_CHANGED",
                "look at `earwitness retention plan` again",
            )
        doomed = [item for item in items if item.destroys]
        if doomed and not yes and not digest:
            if not json:
                planview.show(header, items, titles.titles(services), everything=False)
            count = sum(item.recording_count for item in doomed)
            confirm(
                f"{output.count(count, 'recording')} will be destroyed for ever. Type the first 8 characters of the digest",
                header.digest,
                undone="nothing was destroyed",
                shortest=SHORTEST_DIGEST,
            )
        # What was confirmed is done, and nothing that has become due since.
        request = pb.RunRetentionRequest(
            digest=header.digest if doomed and not yes else digest and header.digest
        )
        last: pb.RetentionRun | None = None
        with bar("retention", quiet=json) as advance:
            for one in services.retention.RunRetention(request):
                if one.HasField("run"):
                    last = one.run
                else:
                    advance(one.progress.fraction)
    if last is None:
        raise Failure(
            Exit.FAILED, "the box did not say what the run came to", "NO_RUN", "see `retention runs`"
        )
    if json:
        output.print_json(output.as_dict(last))
    else:
        planview.run(last)
    if last.outcome == pb.RUN_OUTCOME_PARTIAL:
        raise typer.Exit(Exit.FAILED)
    if last.outcome in (pb.RUN_OUTCOME_BRAKED, pb.RUN_OUTCOME_FROZEN):
        raise typer.Exit(Exit.CONFLICT)


@app.command()
def runs(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """What the last runs came to, newest first."""
    found: list[pb.RetentionRun] = []
    request = pb.ListRetentionRunsRequest()
    with box(context) as services:
        while len(found) < limit:
            request.page_size = min(limit - len(found), 500)
            answer = services.retention.ListRetentionRuns(request, timeout=CALL_TIMEOUT_S)
            found += answer.retention_runs
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    if json:
        output.print_json({"retentionRuns": [output.as_dict(one) for one in found]})
    else:
        planview.runs(found)


@app.command()
def upcoming(
    context: typer.Context,
    days: Annotated[int, typer.Option("--days", min=0, help="Within so many days.")] = 30,
    tenant: TenantOption = "",
    line: LineOption = "",
    download: Annotated[
        Path | None, typer.Option("--download", help="Download these recordings into this folder.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", "-f", help="wav, flac, ogg or sealed.")] = "wav",
    purpose: PurposeOption = "",
    override: OverrideOption = "",
    json: JsonOption = False,
) -> None:
    """What expires soon, and downloading it before. Done again, a download goes on where it broke off.

    Examples:

    earwitness retention upcoming --days 60
    earwitness retention upcoming --tenant TENANT --download exit --format flac --purpose evidence
    """
    if format_ not in FORMATS:
        raise Failure(Exit.USAGE, f"--format: {format_!r} is none of {', '.join(FORMATS)}", "FORMAT_UNKNOWN")
    parent = resource("lines", line) if line else tenant_parent(tenant)
    with box(context) as services:
        if download is not None:
            done = bulk.download(
                services,
                _expiring(services, parent, days),
                download,
                format_,
                purpose=purpose,
                override=override,
                quiet=json,
            )
            _tell(done, json)
            return
        found: list[pb.UpcomingExpiration] = []
        request = pb.ListUpcomingExpirationsRequest(parent=parent, days=days, page_size=1000)
        for answer in pages(services.retention.ListUpcomingExpirations, request, timeout=LOOK_TIMEOUT_S):
            found += answer.upcoming_expirations
        if json:
            output.print_json({"upcomingExpirations": [output.as_dict(one) for one in found]})
            return
        policyview.upcoming(found, titles.titles(services))
        if found:
            count, size = (
                sum(getattr(one, name) for one in found) for name in ("recording_count", "size_bytes")
            )
            output.console.print(
                f"{output.count(count, 'recording')}, {output.size(size)}, within {output.count(days, 'day')}."
            )


def _expiring(services: Box, parent: str, days: int) -> list[pb.ExpiringRecording]:
    found: list[pb.ExpiringRecording] = []
    request = pb.ListExpiringRecordingsRequest(parent=parent, days=days, page_size=1000)
    for answer in pages(services.retention.ListExpiringRecordings, request, timeout=LOOK_TIMEOUT_S):
        found += answer.expiring_recordings
    return found


def _tell(done: bulk.Bulk, json: bool) -> None:
    if json:
        output.print_json(done.as_dict())
    else:
        output.console.print(
            f"{done.folder}: {done.downloaded} downloaded ({output.size(done.size)}), {done.present} there already"
            + (f", {done.gone} gone meanwhile" if done.gone else "")
            + (f", {len(done.failed)} failed" if done.failed else ""),
            soft_wrap=True,
        )
        for one in done.failed:
            output.errors.print(f"{one['recording']}: {one['reason']}", markup=False)
    if done.failed:
        raise typer.Exit(Exit.FAILED)


@app.command()
def explain(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the recording.")],
    json: JsonOption = False,
) -> None:
    """Every rule that keeps one recording, the strongest first."""
    with box(context) as services:
        request = pb.ExplainRetentionRequest(name=resource("recordings", name))
        found = services.retention.ExplainRetention(request, timeout=LOOK_TIMEOUT_S)
        if json:
            output.print_json(output.as_dict(found))
            return
        lines = titles.titles(services)
    output.facts(
        [
            ("Recording", found.recording),
            ("Bucket", titles.bucket(found.bucket, lines) if found.bucket else "quarantine"),
            ("Expires", titles.day(found.expire_time)),
            ("Undelete until", output.when(found.purge_time)),
            *(("Kept", titles.sentence(reason.sentence, lines)) for reason in found.reasons),
            ("", "" if found.reasons else "nothing keeps it: the next run destroys it"),
        ]
    )


@app.command()
def clock(
    context: typer.Context,
    accept: Annotated[
        bool, typer.Option("--accept", help="The wall clock is right: set the retention clock to it.")
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """The clock by which things are old enough to be destroyed, and what is wrong with it.

    Where the wall clock jumped, or the box was off for long, nothing is destroyed until somebody says that it is right:

    earwitness retention clock --accept
    """
    with box(context) as services:
        found = services.retention.GetRetentionClock(
            pb.GetRetentionClockRequest(), timeout=CALL_TIMEOUT_S
        ).retention_clock
        if accept:
            if not yes:
                if not json:
                    show_clock(found)
                confirm("It goes to the wall clock's time. Type accept", "accept")
            found = services.retention.AcceptRetentionClock(
                pb.AcceptRetentionClockRequest(), timeout=CALL_TIMEOUT_S
            ).retention_clock
    if json:
        output.print_json(output.as_dict(found))
    else:
        show_clock(found)


def show_clock(found: pb.RetentionClock) -> None:
    """Both clocks, and what is wrong."""
    output.facts(
        [
            ("Retention clock", output.when(found.time)),
            ("Wall clock", output.when(found.wall_time)),
            (
                "FROZEN",
                f"{found.freeze.message}; nothing is destroyed" if found.HasField("freeze") else "",
            ),
            ("", "" if found.HasField("freeze") else "in step"),
        ]
    )
