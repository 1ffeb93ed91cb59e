"""`earwitness tenants`: whose calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from appliance.cli import changes, closing, output
from appliance.cli.connection import bare, resource
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, box
from appliance.cli.exits import Exit, Failure
from earwitness import pages
from earwitness.v1 import tenants_pb2

app = typer.Typer(
    help="Tenants: whose calls these are. List, create, update, history, undo.", no_args_is_help=True
)
closing.join_tenants(app)

ContactOption = Annotated[
    str | None,
    typer.Option("--officer", help="How its records officer is reached; a function rather than a person."),
]
LanguageOption = Annotated[
    str | None, typer.Option("--language", help="Of its callers where nothing else is known, such as en-GB.")
]
ZoneOption = Annotated[
    str | None, typer.Option("--time-zone", help="Where its days begin, such as Europe/London.")
]
MayPauseOption = Annotated[
    bool | None,
    typer.Option(
        "--unacknowledged-may-pause/--unacknowledged-may-not-pause",
        help="Who has not acknowledged a notice that is required may pause and end recordings all the same.",
    ),
]
MayReadOption = Annotated[
    bool | None,
    typer.Option(
        "--unacknowledged-may-read/--unacknowledged-may-not-read", help="The same of reading recordings."
    ),
]
YearsOption = Annotated[
    int | None,
    typer.Option(
        "--acknowledgement-years",
        min=1,
        max=30,
        help="How long after somebody left the list of staff knows them by name.",
    ),
]
NameArgument = Annotated[str, typer.Argument(help="Name or id of the tenant.")]
DifferenceOption = Annotated[
    bool, typer.Option("--dry-run", "--validate-only", help="Show the difference, change nothing.")
]

GRAINS = {"day": tenants_pb2.GRAIN_DAY, "week": tenants_pb2.GRAIN_WEEK, "month": tenants_pb2.GRAIN_MONTH}


@app.command("list")
def list_tenants(context: typer.Context, json: JsonOption = False) -> None:
    """All tenants."""
    found: list[tenants_pb2.Tenant] = []
    request = tenants_pb2.ListTenantsRequest(page_size=500)
    with box(context) as services:
        for answer in pages(services.tenants.ListTenants, request, timeout=CALL_TIMEOUT_S):
            found += answer.tenants
    if json:
        output.print_json({"tenants": [output.as_dict(tenant) for tenant in found]})
    else:
        rows = ((bare(tenant.name), tenant.display_name, output.when(tenant.create_time)) for tenant in found)
        output.table(("ID", "Name", "Created"), rows, empty="No tenant.")


@app.command("create")
def create_tenant(
    context: typer.Context,
    display_name: Annotated[str, typer.Argument(help="Name to show.")],
    officer: ContactOption = None,
    language: LanguageOption = None,
    time_zone: ZoneOption = None,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a tenant and its key pair."""
    request = tenants_pb2.CreateTenantRequest(
        tenant=tenants_pb2.Tenant(
            display_name=display_name,
            records_officer_contact=officer or "",
            language=language or "",
            time_zone=time_zone or "",
        ),
        validate_only=validate_only,
    )
    with box(context) as services:
        tenant = services.tenants.CreateTenant(request, timeout=CALL_TIMEOUT_S).tenant
    if json:
        output.print_json(output.as_dict(tenant))
    else:
        output.console.print(bare(tenant.name) or "valid")


@app.command("update")
def update_tenant(
    context: typer.Context,
    name: NameArgument,
    display_name: Annotated[str | None, typer.Option("--name", help="Name to show.")] = None,
    officer: ContactOption = None,
    language: LanguageOption = None,
    time_zone: ZoneOption = None,
    may_pause: MayPauseOption = None,
    may_read: MayReadOption = None,
    years: YearsOption = None,
    etag: Annotated[str, typer.Option("--etag", help="Only if it is still as it was then.")] = "",
    validate_only: DifferenceOption = False,
    json: JsonOption = False,
) -> None:
    """Change a tenant. What is not named stays; an empty text takes away what was said."""
    given = {
        "display_name": display_name,
        "records_officer_contact": officer,
        "language": language,
        "time_zone": time_zone,
        "unacknowledged_may_pause": may_pause,
        "unacknowledged_may_read": may_read,
        "acknowledgement_retention_years": years,
    }
    said: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if not said:
        raise Failure(Exit.USAGE, "nothing to change: see --help", "OPTION_MISSING")
    request = tenants_pb2.UpdateTenantRequest(
        tenant=tenants_pb2.Tenant(name=resource("tenants", name), etag=etag, **said),
        validate_only=validate_only,
    )
    request.update_mask.paths.extend(said)
    with box(context) as services:
        _changed(services.tenants.UpdateTenant(request, timeout=CALL_TIMEOUT_S), json)


@app.command("history")
def history(
    context: typer.Context,
    name: NameArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    json: JsonOption = False,
) -> None:
    """What was changed of a tenant, by whom and when, newest first."""
    with box(context) as services:
        request = tenants_pb2.ListTenantVersionsRequest(parent=resource("tenants", name))
        changes.history(services.tenants.ListTenantVersions, request, limit, json)


@app.command("undo")
def undo(
    context: typer.Context,
    name: NameArgument,
    version: Annotated[
        int | None,
        typer.Option("--to", min=1, help="The version to go back to; else the one before the last."),
    ] = None,
    validate_only: DifferenceOption = False,
    json: JsonOption = False,
) -> None:
    """Give a tenant what it said in an older version. That is a new version: it can be undone, too."""
    with box(context) as services:
        full = resource("tenants", name)
        request = tenants_pb2.RestoreTenantRequest(
            name=full,
            version=version
            or changes.before_last(
                services.tenants.ListTenantVersions, tenants_pb2.ListTenantVersionsRequest(parent=full)
            ),
            validate_only=validate_only,
        )
        _changed(services.tenants.RestoreTenant(request, timeout=CALL_TIMEOUT_S), json)


def _changed(answer: Any, json: bool) -> None:
    if json:
        found = output.as_dict(answer)
        output.print_json({**found["tenant"], "changes": found.get("changes", [])})
    else:
        changes.show(answer.changes)


def choice(option: str, word: str, words: Mapping[str, Any]) -> Any:
    if word not in words:
        raise Failure(Exit.USAGE, f"{option}: {word!r} is none of {', '.join(words)}", "OPTION_INVALID")
    return words[word]
