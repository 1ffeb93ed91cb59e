"""`earwitness grants`: what the provider's support may read, asked for, approved, revoked, and each use."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import files, grantview, output
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
from appliance.cli.holds import moment
from appliance.model import new_id
from earwitness import pages
from earwitness.v1 import grants_pb2 as pb

app = typer.Typer(
    help="Support grants: what the provider's staff may read, until when, how often.", no_args_is_help=True
)

_SPAN: Final = re.compile(r"(\d{1,4})([mhd])")
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
GrantArgument = Annotated[str, typer.Argument(help="Name or id of the grant.")]
RecordingOption = Annotated[
    list[str] | None, typer.Option("--recording", help="A recording (name or id); as often as you like.")
]
FilterOption = Annotated[
    str, typer.Option("--filter", help="Recordings that match, of fields that say nothing of people.")
]
LineOption = Annotated[str, typer.Option("--line", help="Recordings of this line.")]
FromOption = Annotated[
    str,
    typer.Option("--from", help="Recordings that began from then on: 2026-11-25 or 2026-11-25T10:00:00Z."),
]
ToOption = Annotated[str, typer.Option("--to", help="Recordings that began before then.")]
BeginOption = Annotated[str, typer.Option("--begin", help="Not before (a time, UTC); else at once.")]
ForOption = Annotated[str, typer.Option("--for", help="For how long, such as 30m, 8h or 3d.")]
UntilOption = Annotated[str, typer.Option("--until", help="Not after (a time, UTC), in place of --for.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; shown to who asked.")]


def _scope(
    recordings: list[str] | None, line: str, from_: str, to: str, filter_: str
) -> pb.GrantScope | None:
    if not (recordings or line or from_ or to or filter_):
        return None
    return pb.GrantScope(
        recordings=[resource("recordings", one) for one in recordings or ()],
        line=resource("lines", line) if line else "",
        from_time=moment("--from", from_),
        to_time=moment("--to", to),
        filter=filter_,
    )


def _end(begin: Timestamp | None, for_: str, until: str) -> Timestamp | None:
    """When it ends; None where neither is said."""
    if for_ and until:
        raise Failure(Exit.USAGE, "--for and --until say the same: give one of them", "OPTION_INVALID")
    if until:
        return moment("--until", until)
    if not for_:
        return None
    found = _SPAN.fullmatch(for_)
    if found is None:
        raise Failure(Exit.USAGE, f"--for: {for_!r} is no time such as 30m, 8h or 3d", "OPTION_INVALID")
    start = begin.ToDatetime(UTC) if begin is not None else datetime.now(UTC)
    made = Timestamp()
    made.FromDatetime(start + int(found[1]) * _UNITS[found[2]])
    return made


def _public_key(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Failure(Exit.USAGE, "--public-key is no base64", "OPTION_INVALID") from error


@app.command()
def request(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Name or id of the tenant whose recordings they are.")],
    purpose: Annotated[str, typer.Option("--purpose", help="One of the tenant's purposes.")],
    reads: Annotated[int, typer.Option("--reads", help="How many reads at most.")],
    because: Annotated[
        str,
        typer.Option(
            "--because", help="Why it is absolutely necessary: 20 to 1,000 characters, no personal data."
        ),
    ] = "",
    recording: RecordingOption = None,
    line: LineOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    filter_: FilterOption = "",
    begin: BeginOption = "",
    for_: ForOption = "",
    until: UntilOption = "",
    identity: Annotated[
        list[str] | None, typer.Option("--identity", help="Who would read; else you. As often as you like.")
    ] = None,
    parties: Annotated[
        bool, typer.Option("--parties", help="With names and numbers, and texts of marks and notes.")
    ] = False,
    public_key: Annotated[
        str, typer.Option("--public-key", help="As `keys pair` printed it, for tenants with attended keys.")
    ] = "",
    give: Annotated[
        bool,
        typer.Option(
            "--give", help="Give it without a request, as the tenant's records officer: help is wanted."
        ),
    ] = False,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Ask a tenant for a grant, as support; with --give, give one as its records officer.

    Examples:

    earwitness grants request TENANT --recording ID --purpose system-operation --for 8h --reads 3
      --because 'One side is silent in this recording, and the cause cannot be found otherwise.'
    earwitness grants request TENANT --line LINE --from 2026-11-25 --to 2026-11-26
      --purpose system-operation --for 2d --reads 20 --give --identity support.ada
    """
    start = moment("--begin", begin)
    asked = pb.SupportGrant(
        identities=identity or (),
        scope=_scope(recording, line, from_, to, filter_),
        purpose=purpose,
        necessity=because,
        begin_time=start,
        end_time=_end(start, for_, until),
        max_reads=reads,
        include_parties=parties,
        public_key=_public_key(public_key),
    )
    parent = resource("tenants", tenant)
    with box(context) as services:
        if give:
            answer = services.grants.CreateGrant(
                pb.CreateGrantRequest(
                    parent=parent, grant=asked, request_id=new_id(), validate_only=validate_only
                ),
                timeout=LOOK_TIMEOUT_S,
            )
            if not json:
                grantview.coverage(answer.coverage)
            grantview.show(answer.grant, json)
            return
        made = services.grants.RequestGrant(
            pb.RequestGrantRequest(
                parent=parent, grant=asked, request_id=new_id(), validate_only=validate_only
            ),
            timeout=CALL_TIMEOUT_S,
        ).grant
    grantview.show(made, json)


@app.command()
def approve(
    context: typer.Context,
    grant: GrantArgument,
    recording: RecordingOption = None,
    line: LineOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    filter_: FilterOption = "",
    begin: BeginOption = "",
    for_: ForOption = "",
    until: UntilOption = "",
    reads: Annotated[int, typer.Option("--reads", help="At most so many reads; else as asked.")] = 0,
    no_parties: Annotated[
        bool, typer.Option("--no-parties", help="Leave out names and numbers although they were asked for.")
    ] = False,
    yes: YesOption = False,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Approve a request, as it is or narrowed. Shows first what will be readable, and asks."""
    start = moment("--begin", begin)
    wanted = pb.ApproveGrantRequest(
        name=resource("grants", grant),
        scope=_scope(recording, line, from_, to, filter_),
        begin_time=start,
        end_time=_end(start, for_, until),
        max_reads=reads,
        exclude_parties=no_parties,
        validate_only=True,
    )
    with box(context) as services:
        seen = services.grants.ApproveGrant(wanted, timeout=LOOK_TIMEOUT_S)
        if validate_only or not yes:
            if not (json and not validate_only):
                _preview(seen, json)
            if validate_only:
                return
            confirm("They may read this then. Type the grant's id to approve it", bare(seen.grant.name))
        wanted.validate_only = False
        wanted.request_id = new_id()
        wanted.etag = _etag(services, wanted.name)
        done = services.grants.ApproveGrant(wanted, timeout=LOOK_TIMEOUT_S).grant
    grantview.show(done, json)


def _preview(seen: pb.ApproveGrantResponse, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(seen))
        return
    grantview.show(seen.grant, False)
    grantview.coverage(seen.coverage)


def _etag(services: Box, name: str) -> str:
    return services.grants.GetGrant(pb.GetGrantRequest(name=name), timeout=CALL_TIMEOUT_S).grant.etag


@app.command()
def deny(
    context: typer.Context, grant: GrantArgument, reason: ReasonOption, json: JsonOption = False
) -> None:
    """Deny a request."""
    with box(context) as services:
        wanted = pb.DenyGrantRequest(name=resource("grants", grant), reason=reason, request_id=new_id())
        done = services.grants.DenyGrant(wanted, timeout=CALL_TIMEOUT_S).grant
    grantview.show(done, json)


@app.command()
def revoke(
    context: typer.Context, grant: GrantArgument, reason: ReasonOption = "", json: JsonOption = False
) -> None:
    """End a grant at once; what is being read under it breaks off. Support takes its own requests back with it."""
    with box(context) as services:
        wanted = pb.RevokeGrantRequest(name=resource("grants", grant), reason=reason, request_id=new_id())
        done = services.grants.RevokeGrant(wanted, timeout=LOOK_TIMEOUT_S).grant
    grantview.show(done, json)


@app.command("list")
def list_grants(
    context: typer.Context,
    tenant: TenantOption = "",
    ended: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    json: JsonOption = False,
) -> None:
    """Requests that wait, and grants in force or about to be; newest first."""
    asked = pb.ListGrantsRequest(parent=tenant_parent(tenant), page_size=1000)
    if not ended:
        asked.states.extend((pb.GRANT_STATE_REQUESTED, pb.GRANT_STATE_APPROVED, pb.GRANT_STATE_ACTIVE))
    found: list[pb.SupportGrant] = []
    with box(context) as services:
        for answer in pages(services.grants.ListGrants, asked, timeout=CALL_TIMEOUT_S):
            found += answer.grants
    if json:
        output.print_json({"grants": [output.as_dict(one) for one in found]})
    else:
        grantview.table(found)


@app.command()
def show(context: typer.Context, grant: GrantArgument, json: JsonOption = False) -> None:
    """One grant, with the recordings that it covers."""
    with box(context) as services:
        asked = pb.GetGrantRequest(name=resource("grants", grant))
        found = services.grants.GetGrant(asked, timeout=CALL_TIMEOUT_S).grant
    grantview.show(found, json, recordings=True)


@app.command()
def uses(context: typer.Context, grant: GrantArgument, json: JsonOption = False) -> None:
    """What was read under a grant: who, when, which recording, how; newest first."""
    asked = pb.ListGrantUsesRequest(parent=resource("grants", grant), page_size=1000)
    found: list[pb.GrantUse] = []
    with box(context) as services:
        for answer in pages(services.grants.ListGrantUses, asked, timeout=CALL_TIMEOUT_S):
            found += answer.grant_uses
    if json:
        output.print_json({"grantUses": [output.as_dict(one) for one in found]})
    else:
        grantview.uses(found)


@app.command()
def keys(
    context: typer.Context,
    grant: GrantArgument,
    folder: Annotated[Path, typer.Option("--output", "-o", help="Directory; one file a recording.")],
    json: JsonOption = False,
) -> None:
    """Fetch the sealed keys of a grant, of a tenant with attended keys. `keys open` opens a recording with one."""
    asked = pb.ListGrantKeysRequest(parent=resource("grants", grant), page_size=1000)
    written: list[str] = []
    with box(context) as services:
        for answer in pages(services.grants.ListGrantKeys, asked, timeout=CALL_TIMEOUT_S):
            for one in answer.grant_keys:
                files.make_folder(folder)
                path = files.named(folder, f"{bare(one.recording)}.key")
                files.write(path, one.sealed_key)
                written.append(str(path))
    if json:
        output.print_json({"files": written})
        return
    for line in written or ["No sealed key: the box opens this tenant's recordings by itself."]:
        output.console.print(line, markup=False)
