"""`earwitness purposes`: what recordings may be used for, and what they were used for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from appliance.cli import changes, output
from appliance.cli.connection import bare, resource
from appliance.cli.context import CALL_TIMEOUT_S, LOOK_TIMEOUT_S, Box, DryOption, JsonOption, box
from appliance.cli.exits import Exit, Failure
from earwitness import pages
from earwitness.v1 import purposes_pb2 as pb
from earwitness.v1 import tenants_pb2

app = typer.Typer(
    help="Purposes: what recordings may be used for. List, create, update, archive, report.",
    no_args_is_help=True,
)

TenantOption = Annotated[
    str, typer.Option("--tenant", help="Name or id of the tenant; not needed where there is one.")
]
IdArgument = Annotated[str, typer.Argument(help="Id of the purpose, such as training.")]
BasisOption = Annotated[str | None, typer.Option("--basis", help="The law it stands on.")]
BAR = 30  # characters


def tenant_of(services: Box, text: str) -> str:
    """The full name of the tenant that is meant; Failure TENANT_NEEDED where several are there and none is named."""
    if text:
        return resource("tenants", text)
    request = tenants_pb2.ListTenantsRequest(page_size=2)
    found = services.tenants.ListTenants(request, timeout=CALL_TIMEOUT_S).tenants
    if len(found) != 1:
        raise Failure(
            Exit.USAGE, "which tenant?", "TENANT_NEEDED", "--tenant; `earwitness tenants list` has them"
        )
    return str(found[0].name)


@app.command("list")
def list_purposes(
    context: typer.Context,
    tenant: TenantOption = "",
    archived: Annotated[bool, typer.Option("--archived", help="Those taken out of use, too.")] = False,
    json: JsonOption = False,
) -> None:
    """What a tenant's recordings may be used for."""
    found: list[pb.Purpose] = []
    with box(context) as services:
        request = pb.ListPurposesRequest(
            parent=tenant_of(services, tenant), page_size=1000, show_archived=archived
        )
        for answer in pages(services.purposes.ListPurposes, request, timeout=CALL_TIMEOUT_S):
            found += answer.purposes
    if json:
        output.print_json({"purposes": [output.as_dict(one) for one in found]})
        return
    rows = (
        (
            bare(one.name),
            one.display_name,
            one.legal_basis,
            f"archived {output.when(one.archive_time)}" if one.HasField("archive_time") else "",
        )
        for one in found
    )
    output.table(("Purpose", "Name", "Stands on", "State"), rows, empty="No purpose.")


@app.command("create")
def create(
    context: typer.Context,
    purpose: IdArgument,
    display_name: Annotated[str, typer.Argument(help="Name to show.")],
    basis: BasisOption = None,
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a purpose, which prompts and lines may state from then on.

    earwitness purposes create research "Approved research" --basis "UK GDPR Art. 9(2)(j)"
    """
    with box(context) as services:
        request = pb.CreatePurposeRequest(
            parent=tenant_of(services, tenant),
            purpose_id=purpose,
            purpose=pb.Purpose(display_name=display_name, legal_basis=basis or ""),
            validate_only=validate_only,
        )
        made = services.purposes.CreatePurpose(request, timeout=CALL_TIMEOUT_S).purpose
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print("valid" if validate_only else bare(made.name))


@app.command("update")
def update(
    context: typer.Context,
    purpose: IdArgument,
    display_name: Annotated[str | None, typer.Option("--name", help="Name to show.")] = None,
    basis: BasisOption = None,
    tenant: TenantOption = "",
    etag: Annotated[str, typer.Option("--etag", help="Only if it is still as it was then.")] = "",
    validate_only: Annotated[
        bool, typer.Option("--dry-run", "--validate-only", help="Show the difference, change nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Change how a purpose is called, or the law it stands on."""
    given = {"display_name": display_name, "legal_basis": basis}
    said: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if not said:
        raise Failure(Exit.USAGE, "nothing to change: see --help", "OPTION_MISSING")
    with box(context) as services:
        name = f"{tenant_of(services, tenant)}/purposes/{purpose}"
        request = pb.UpdatePurposeRequest(
            purpose=pb.Purpose(name=name, etag=etag, **said), validate_only=validate_only
        )
        request.update_mask.paths.extend(said)
        answer = services.purposes.UpdatePurpose(request, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
    else:
        changes.show(answer.changes)


@app.command("archive")
def archive(
    context: typer.Context,
    purpose: IdArgument,
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Take a purpose out of use: it stays for what was recorded under it, and is not for new prompts and lines."""
    with box(context) as services:
        name = f"{tenant_of(services, tenant)}/purposes/{purpose}"
        request = pb.ArchivePurposeRequest(name=name, validate_only=validate_only)
        answer = services.purposes.ArchivePurpose(request, timeout=CALL_TIMEOUT_S).purpose
    if json:
        output.print_json(output.as_dict(answer))
    else:
        output.console.print(f"{purpose}: {'can be archived' if validate_only else 'archived'}")


@app.command("history")
def history(
    context: typer.Context,
    purpose: IdArgument,
    tenant: TenantOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """What was changed of a purpose, by whom and when, newest first."""
    with box(context) as services:
        request = pb.ListPurposeVersionsRequest(parent=f"{tenant_of(services, tenant)}/purposes/{purpose}")
        changes.history(services.purposes.ListPurposeVersions, request, limit, json)


@app.command("report")
def report(
    context: typer.Context,
    month: Annotated[
        str, typer.Option("--month", help="Such as 2026-11; else this month.", show_default=False)
    ] = "",
    tenant: TenantOption = "",
    time_zone: Annotated[
        str, typer.Option("--time-zone", help="Such as Europe/London; else the tenant's.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """How often recordings were read in a month: what for, in which role, by whom, and against what was stated."""
    with box(context) as services:
        request = pb.GetReadReportRequest(
            parent=tenant_of(services, tenant),
            month=month or datetime.now().strftime("%Y-%m"),
            time_zone=time_zone,
        )
        found = services.purposes.GetReadReport(request, timeout=LOOK_TIMEOUT_S).report
    if json:
        output.print_json(output.as_dict(found))
        return
    total = found.total
    output.console.print(
        f"{found.month} ({found.time_zone}): {output.count(total.reads, 'read')} of "
        f"{output.count(total.recordings, 'recording')}; {total.overrides} against what was stated, "
        f"{total.not_announced} where nothing was announced, {total.granted} under support grants, "
        f"{total.refusals} refused.",
        soft_wrap=True,
    )
    for title, rows in (
        ("Purpose", found.by_purpose),
        ("Role", found.by_role),
        ("Person", found.by_person),
    ):
        _bars(title, list(rows), total.reads)
    if found.overrides:
        output.table(
            ("Override", "By", "Purpose", "Recording", "Why"),
            (
                (output.when(one.time), one.actor, one.purpose, bare(one.recording), one.reason or "(erased)")
                for one in found.overrides
            ),
            empty="",
        )


def _bars(title: str, rows: list[pb.ReadCount], most: int) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, overflow="fold")
    for head in ("Reads", "Overrides", "Refused"):
        table.add_column(head, justify="right")
    table.add_column("", width=BAR)
    for one in rows:
        table.add_row(
            Text(output.plain(one.key or "(none of the tenant's)")),
            str(one.counts.reads),
            str(one.counts.overrides or ""),
            str(one.counts.refusals or ""),
            Bar(max(1, most), 0, one.counts.reads, width=BAR),
        )
    output.console.print(table)
