"""`earwitness tenants` and `earwitness lines`: whose calls, and what was contracted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, TenantOption, box
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import party_pb2, tenants_pb2

tenants = typer.Typer(help="Tenants: whose calls these are. List, create.", no_args_is_help=True)
lines = typer.Typer(help="Lines: what a tenant contracted. List, create.", no_args_is_help=True)

_DIRECTIONS = {
    "inbound": party_pb2.DIRECTION_INBOUND,
    "outbound": party_pb2.DIRECTION_OUTBOUND,
    "internal": party_pb2.DIRECTION_INTERNAL,
    "unknown": party_pb2.DIRECTION_UNKNOWN,
}
GRAINS = {"day": tenants_pb2.GRAIN_DAY, "week": tenants_pb2.GRAIN_WEEK, "month": tenants_pb2.GRAIN_MONTH}


@tenants.command("list")
def list_tenants(context: typer.Context, json: JsonOption = False) -> None:
    """All tenants."""
    found: list[tenants_pb2.Tenant] = []
    request = tenants_pb2.ListTenantsRequest(page_size=500)
    with box(context) as services:
        while True:
            answer = services.tenants.ListTenants(request, timeout=CALL_TIMEOUT_S)
            found += answer.tenants
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    if json:
        output.print_json({"tenants": [output.as_dict(tenant) for tenant in found]})
    else:
        rows = ((bare(tenant.name), tenant.display_name, output.when(tenant.create_time)) for tenant in found)
        output.table(("ID", "Name", "Created"), rows, empty="No tenant.")


@tenants.command("create")
def create_tenant(
    context: typer.Context,
    display_name: Annotated[str, typer.Argument(help="Name to show.")],
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a tenant and its key pair."""
    request = tenants_pb2.CreateTenantRequest(
        tenant=tenants_pb2.Tenant(display_name=display_name), validate_only=validate_only
    )
    with box(context) as services:
        tenant = services.tenants.CreateTenant(request, timeout=CALL_TIMEOUT_S).tenant
    if json:
        output.print_json(output.as_dict(tenant))
    else:
        output.console.print(bare(tenant.name) or "valid")


@lines.command("list")
def list_lines(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """Lines of one tenant, or of all."""
    found: list[tenants_pb2.Line] = []
    request = tenants_pb2.ListLinesRequest(parent=tenant_parent(tenant), page_size=500)
    with box(context) as services:
        while True:
            answer = services.tenants.ListLines(request, timeout=CALL_TIMEOUT_S)
            found += answer.lines
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    if json:
        output.print_json({"lines": [output.as_dict(line) for line in found]})
        return
    rows = (
        (
            bare(line.name),
            line.display_name,
            line.name.split("/")[1],
            "everything else" if line.catch_all else ", ".join([*line.numbers, *line.trunks]),
            output.enum_word(tenants_pb2.Grain, line.grain),
        )
        for line in found
    )
    output.table(("ID", "Name", "Tenant", "Takes", "Bucket"), rows, empty="No line.")


def choice(option: str, word: str, words: Mapping[str, Any]) -> Any:
    if word not in words:
        raise Failure(Exit.USAGE, f"{option}: {word!r} is none of {', '.join(words)}", "OPTION_INVALID")
    return words[word]


@lines.command("create")
def create_line(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Name or id of the tenant.")],
    display_name: Annotated[str, typer.Argument(help="Name to show.")],
    number: Annotated[
        list[str] | None, typer.Option("--number", help="A number, or a prefix with a trailing *.")
    ] = None,
    trunk: Annotated[
        list[str] | None,
        typer.Option("--trunk", help="An address, a network, or a name in a TLS certificate."),
    ] = None,
    catch_all: Annotated[bool, typer.Option("--catch-all", help="Takes what no other line takes.")] = False,
    direction: Annotated[
        list[str] | None,
        typer.Option("--direction", help="Record only these: inbound, outbound, internal, unknown."),
    ] = None,
    do_not_record: Annotated[
        list[str] | None,
        typer.Option("--do-not-record", help="A number whose calls are noted, not recorded."),
    ] = None,
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
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a line: which calls are this tenant's, and what is done with them.

    How long they are kept says `earwitness retention set`.
    """
    line = tenants_pb2.Line(
        display_name=display_name,
        numbers=number or [],
        trunks=trunk or [],
        catch_all=catch_all,
        directions=[choice("--direction", word, _DIRECTIONS) for word in direction or []],
        do_not_record=do_not_record or [],
        grain=choice("--bucket", grain, GRAINS) if grain else tenants_pb2.GRAIN_UNSPECIFIED,
        grace_days=grace_days,
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
