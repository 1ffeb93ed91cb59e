"""`earwitness tenants`: whose calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.connection import bare
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, box
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import tenants_pb2

tenants = typer.Typer(help="Tenants: whose calls these are. List, create.", no_args_is_help=True)

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


def choice(option: str, word: str, words: Mapping[str, Any]) -> Any:
    if word not in words:
        raise Failure(Exit.USAGE, f"{option}: {word!r} is none of {', '.join(words)}", "OPTION_INVALID")
    return words[word]
