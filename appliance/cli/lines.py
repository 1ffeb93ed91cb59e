"""`earwitness lines`: what a tenant contracted, and how the box stands in the path of its calls."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from appliance.cli import changes, closing, linerules, lineview, output
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import CALL_TIMEOUT_S, Box, DryOption, JsonOption, TenantOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.linerules import (
    AgentOption,
    AnnouncementOption,
    AnnounceOption,
    AutoResumeOption,
    InterruptibleOption,
    KeyEndOption,
    KeyPauseOption,
    KeyResumeOption,
    ListeningOption,
    ReminderOption,
    RightsOption,
    RingOption,
    SrtpOption,
    TargetInOption,
    TargetOutOption,
    ToneOption,
    WhisperOption,
)
from appliance.cli.readingoptions import known
from appliance.cli.tenants import GRAINS, choice
from earwitness import pages
from earwitness.v1 import party_pb2, tenants_pb2

app = typer.Typer(
    help="Lines: what a tenant contracted. List, show, create, update, history, undo.", no_args_is_help=True
)
closing.join_lines(app)

DIRECTIONS = {
    "inbound": party_pb2.DIRECTION_INBOUND,
    "outbound": party_pb2.DIRECTION_OUTBOUND,
    "internal": party_pb2.DIRECTION_INTERNAL,
    "unknown": party_pb2.DIRECTION_UNKNOWN,
}
NumberOption = Annotated[
    list[str] | None, typer.Option("--number", help="A number, or a prefix with a trailing *.")
]
TrunkOption = Annotated[
    list[str] | None, typer.Option("--trunk", help="An address, a network, or a name in a TLS certificate.")
]
DirectionOption = Annotated[
    list[str] | None,
    typer.Option("--direction", help="Record only these: inbound, outbound, internal, unknown."),
]
DoNotRecordOption = Annotated[
    list[str] | None,
    typer.Option("--do-not-record", help="A number whose calls are noted, not recorded."),
]
ToldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--purpose",
        help="What callers are told by other means than an announcement; one a time.",
        autocompletion=known,
    ),
]
DifferenceOption = Annotated[
    bool, typer.Option("--dry-run", "--validate-only", help="Show the difference, change nothing.")
]


@app.command("list")
def list_lines(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """Lines of one tenant, or of all."""
    found: list[tenants_pb2.Line] = []
    request = tenants_pb2.ListLinesRequest(parent=tenant_parent(tenant), page_size=500)
    with box(context) as services:
        for answer in pages(services.tenants.ListLines, request, timeout=CALL_TIMEOUT_S):
            found += answer.lines
    if json:
        output.print_json({"lines": [output.as_dict(line) for line in found]})
        return
    rows = (
        (
            bare(line.name),
            line.display_name,
            line.name.split("/")[1],
            lineview.takes(line),
            output.enum_word(tenants_pb2.Grain, line.grain),
        )
        for line in found
    )
    output.table(("ID", "Name", "Tenant", "Takes", "Bucket"), rows, empty="No line.")


@app.command("show")
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the line.")],
    json: JsonOption = False,
) -> None:
    """All of a line: which calls, where they go on to, what is played, what agents may do."""
    with box(context) as services:
        request = tenants_pb2.GetLineRequest(name=resource("lines", name))
        line = services.tenants.GetLine(request, timeout=CALL_TIMEOUT_S).line
        if json:
            output.print_json(output.as_dict(line))
        else:
            output.facts(lineview.facts(line, services))


@app.command("create")
def create(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Name or id of the tenant.")],
    display_name: Annotated[str, typer.Argument(help="Name to show.")],
    number: NumberOption = None,
    trunk: TrunkOption = None,
    catch_all: Annotated[bool, typer.Option("--catch-all", help="Takes what no other line takes.")] = False,
    direction: DirectionOption = None,
    do_not_record: DoNotRecordOption = None,
    purpose: ToldOption = None,
    grain: Annotated[
        str,
        typer.Option("--bucket", help="Time that one bucket holds: day, week or month; else it follows."),
    ] = "",
    grace_days: Annotated[
        int | None,
        typer.Option(
            "--grace-days", min=0, help="Days a deletion can be undone; else as the tenant or the box says."
        ),
    ] = None,
    target_in: TargetInOption = None,
    target_out: TargetOutOption = None,
    srtp: SrtpOption = False,
    ring: RingOption = None,
    announcement: AnnouncementOption = None,
    announce: AnnounceOption = "",
    interruptible: InterruptibleOption = None,
    whisper: WhisperOption = "",
    tone: ToneOption = None,
    rights: RightsOption = "",
    listening: ListeningOption = "",
    agent: AgentOption = None,
    auto_resume: AutoResumeOption = None,
    reminder: ReminderOption = None,
    key_pause: KeyPauseOption = None,
    key_resume: KeyResumeOption = None,
    key_end: KeyEndOption = None,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a line: which calls are this tenant's, and what is done with them.

    How long they are kept says `earwitness retention set`. With targets the box stands in the path of the calls:

    earwitness lines create TENANT Reception --number 01632960200 --target-in "sip:pbx.example;transport=tls+srtp"
    --target-out sip:trunk.example --announcement PROMPT --whisper PROMPT --rights pause
    """
    line, _ = linerules.said(
        targets_in=target_in,
        targets_out=target_out,
        srtp=srtp,
        ring=ring,
        announcements=announcement,
        announce=announce,
        interruptible=interruptible,
        whisper=whisper,
        tone=tone,
        rights=rights,
        listening=listening,
        agents=agent,
        auto_resume=auto_resume,
        reminder=reminder,
        keys={"pause": key_pause, "resume": key_resume, "end": key_end},
    )
    line.MergeFrom(
        tenants_pb2.Line(
            display_name=display_name,
            numbers=number or [],
            trunks=trunk or [],
            catch_all=catch_all,
            directions=[choice("--direction", word, DIRECTIONS) for word in direction or []],
            do_not_record=do_not_record or [],
            purposes=purpose or [],
            grain=choice("--bucket", grain, GRAINS) if grain else tenants_pb2.GRAIN_UNSPECIFIED,
            grace_days=grace_days,
        )
    )
    request = tenants_pb2.CreateLineRequest(
        parent=resource("tenants", tenant), line=line, validate_only=validate_only
    )
    with box(context) as services:
        made = services.tenants.CreateLine(request, timeout=CALL_TIMEOUT_S).line
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print(bare(made.name) or "valid")


@app.command("update")
def update(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the line.")],
    display_name: Annotated[str | None, typer.Option("--name", help="Name to show.")] = None,
    number: NumberOption = None,
    trunk: TrunkOption = None,
    catch_all: Annotated[
        bool | None, typer.Option("--catch-all/--no-catch-all", help="Takes what no other line takes.")
    ] = None,
    direction: DirectionOption = None,
    do_not_record: DoNotRecordOption = None,
    purpose: ToldOption = None,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget",
            help="Take numbers that --do-not-record leaves out from the line's history, too.",
        ),
    ] = False,
    target_in: TargetInOption = None,
    target_out: TargetOutOption = None,
    srtp: SrtpOption = False,
    ring: RingOption = None,
    announcement: AnnouncementOption = None,
    announce: AnnounceOption = "",
    interruptible: InterruptibleOption = None,
    whisper: WhisperOption = "",
    tone: ToneOption = None,
    rights: RightsOption = "",
    listening: ListeningOption = "",
    agent: AgentOption = None,
    auto_resume: AutoResumeOption = None,
    reminder: ReminderOption = None,
    key_pause: KeyPauseOption = None,
    key_resume: KeyResumeOption = None,
    key_end: KeyEndOption = None,
    clear: Annotated[
        list[str] | None,
        typer.Option("--clear", help=f"Say nothing of this any more: {', '.join(linerules.CLEARED)}."),
    ] = None,
    etag: Annotated[str, typer.Option("--etag", help="Only if the line is still as it was then.")] = "",
    validate_only: DifferenceOption = False,
    json: JsonOption = False,
) -> None:
    """Change a line, for calls that begin from then on. What is not named stays; lists are replaced as a whole.

    Examples:

    earwitness lines update LINE --announcement PROMPT --announce after --interruptible
    earwitness lines update LINE --agent 201=end --agent 20*=pause --auto-resume 120
    earwitness lines update LINE --clear whisper --dry-run
    """
    line, mask = linerules.said(
        targets_in=target_in,
        targets_out=target_out,
        srtp=srtp,
        ring=ring,
        announcements=announcement,
        announce=announce,
        interruptible=interruptible,
        whisper=whisper,
        tone=tone,
        rights=rights,
        listening=listening,
        agents=agent,
        auto_resume=auto_resume,
        reminder=reminder,
        keys={"pause": key_pause, "resume": key_resume, "end": key_end},
    )
    plain: dict[str, Any] = {
        "display_name": display_name,
        "numbers": number,
        "trunks": trunk,
        "catch_all": catch_all,
        "directions": [choice("--direction", word, DIRECTIONS) for word in direction or []] or None,
        "do_not_record": do_not_record,
        "purposes": purpose,
    }
    given = {field: value for field, value in plain.items() if value is not None}
    line.MergeFrom(tenants_pb2.Line(name=resource("lines", name), etag=etag, **given))
    mask = [*given, *mask]
    for word in clear or []:
        path = choice("--clear", word, linerules.CLEARED)
        if any(one == path or one.startswith(f"{path}.") for one in mask):
            raise Failure(Exit.USAGE, f"--clear {word} and a value for it", "OPTION_INVALID")
        mask.append(path)
    if not mask and not forget:
        raise Failure(Exit.USAGE, "nothing to change: see --help", "OPTION_MISSING")
    request = tenants_pb2.UpdateLineRequest(line=line, validate_only=validate_only, forget=forget)
    request.update_mask.paths.extend(mask)
    with box(context) as services:
        answer = services.tenants.UpdateLine(request, timeout=CALL_TIMEOUT_S)
        _changed(answer, services, validate_only, json)


def _changed(answer: Any, services: Box, dry: bool, json: bool) -> None:
    """The line and the difference; of what was only checked the difference alone."""
    if json:
        found = output.as_dict(answer)
        output.print_json({**found["line"], "changes": found.get("changes", [])})
        return
    if not dry:
        output.facts(lineview.facts(answer.line, services))
    changes.show(answer.changes)


@app.command("history")
def history(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the line.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """What was changed of a line, by whom and when, newest first."""
    with box(context) as services:
        request = tenants_pb2.ListLineVersionsRequest(parent=resource("lines", name))
        changes.history(services.tenants.ListLineVersions, request, limit, json)


@app.command("undo")
def undo(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the line.")],
    version: Annotated[
        int | None,
        typer.Option("--to", min=1, help="The version to go back to; else the one before the last."),
    ] = None,
    validate_only: DifferenceOption = False,
    json: JsonOption = False,
) -> None:
    """Give a line what it said in an older version. That is a new version: it can be undone, too."""
    with box(context) as services:
        full = resource("lines", name)
        request = tenants_pb2.RestoreLineRequest(
            name=full,
            version=version
            or changes.before_last(
                services.tenants.ListLineVersions, tenants_pb2.ListLineVersionsRequest(parent=full)
            ),
            validate_only=validate_only,
        )
        _changed(services.tenants.RestoreLine(request, timeout=CALL_TIMEOUT_S), services, validate_only, json)
