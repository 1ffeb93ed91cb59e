"""`earwitness staff`: who works for a tenant, and is to know how its calls are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.connection import bare, identity, resource
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, LineOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.purposes import TenantOption, tenant_of
from earwitness import pages
from earwitness.v1 import staff_pb2 as pb

app = typer.Typer(
    help="Staff: who works here. List, add, change, import from a table, say that somebody left.",
    no_args_is_help=True,
)

PersonArgument = Annotated[str, typer.Argument(help="Name or id of the staff member.")]
NumberOption = Annotated[
    list[str] | None,
    typer.Option(
        "--number", help="Extension or agent id, as the switchboard has it; several times for several."
    ),
]
LinesOption = Annotated[
    list[str] | None,
    typer.Option("--line", help="Name or id of a line whose calls the person takes; none: any line's."),
]
EmailOption = Annotated[str | None, typer.Option("--email", help="Where mail reaches the person.")]
IdentityOption = Annotated[
    str | None, typer.Option("--identity", help="As whom the person signs in; provider:name of a provider's.")
]
AgentOption = Annotated[
    bool | None,
    typer.Option("--agent/--other", help="Takes calls that are recorded; unsaid: who has a number."),
]
MAX_TABLE = 900_000


def person_of(parent: str, text: str) -> str:
    """The full name of a staff member that was given so, or as a bare id."""
    return text if "/" in text else f"{parent}/staffMembers/{text}"


def table_of(path: Path) -> bytes:
    """A table from a file; Failure where it cannot be read or is too large."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Failure(Exit.USAGE, f"cannot read {path}: {error.strerror}", "FILE_UNREADABLE") from error
    if len(raw) > MAX_TABLE:
        raise Failure(Exit.USAGE, f"{path} is larger than {MAX_TABLE} bytes: divide it", "TABLE_UNREADABLE")
    return raw


def show_problems(answer: Any) -> None:
    """What is wrong with a table; Failure where there is something."""
    if answer.valid:
        return
    output.table(
        (">Row", "Column", "Wrong", "Why"),
        ((str(one.row), one.column, one.reason, one.message) for one in answer.problems),
        empty="",
    )
    more = f" and {answer.more_problems} more" if answer.more_problems else ""
    raise Failure(
        Exit.FAILED, f"nothing was taken over: {len(answer.problems)} problems{more}", "TABLE_INVALID"
    )


@app.command("list")
def list_staff(
    context: typer.Context,
    tenant: TenantOption = "",
    line: LineOption = "",
    left: Annotated[bool, typer.Option("--left", help="Those who left, too.")] = False,
    json: JsonOption = False,
) -> None:
    """Who works here."""
    found: list[pb.StaffMember] = []
    with box(context) as services:
        parent = tenant_of(services, tenant)
        request = pb.ListStaffMembersRequest(
            parent=parent, page_size=1000, show_left=left, line=_line(parent, line) if line else ""
        )
        for answer in pages(services.notices.ListStaffMembers, request, timeout=CALL_TIMEOUT_S):
            found += answer.staff_members
    if json:
        output.print_json({"staffMembers": [output.as_dict(one) for one in found]})
        return
    output.table(
        ("ID", "Name", "Numbers", "Email", "Signs in as", "State"), map(_row, found), empty="Nobody."
    )


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name to show.")],
    email: EmailOption = None,
    who: IdentityOption = None,
    number: NumberOption = None,
    line: LinesOption = None,
    agent: AgentOption = None,
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Enter somebody.

    earwitness staff add "Ada Lovelace" --number 201 --email ada@trust.example
    """
    with box(context) as services:
        parent = tenant_of(services, tenant)
        request = pb.CreateStaffMemberRequest(
            parent=parent,
            staff_member=pb.StaffMember(
                display_name=name,
                email=email or "",
                identity=_identity(who or ""),
                numbers=number or [],
                lines=[_line(parent, one) for one in line or []],
                kind=_kind(agent),
            ),
            validate_only=validate_only,
        )
        made = services.notices.CreateStaffMember(request, timeout=CALL_TIMEOUT_S).staff_member
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print("valid" if validate_only else bare(made.name))


@app.command("update")
def update(
    context: typer.Context,
    staff_member: PersonArgument,
    name: Annotated[str | None, typer.Option("--name", help="Name to show.")] = None,
    email: EmailOption = None,
    who: IdentityOption = None,
    number: NumberOption = None,
    line: LinesOption = None,
    agent: AgentOption = None,
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Change what is known of somebody. What is not named stays; an empty text takes away what was said."""
    with box(context) as services:
        parent = tenant_of(services, tenant)
        said: dict[str, Any] = {
            "display_name": name,
            "email": email,
            "identity": None if who is None else _identity(who),
            "numbers": None if number is None else [one for one in number if one],
            "lines": None if line is None else [_line(parent, one) for one in line if one],
            "kind": None if agent is None else _kind(agent),
        }
        said = {field: value for field, value in said.items() if value is not None}
        if not said:
            raise Failure(Exit.USAGE, "nothing to change: see --help", "OPTION_MISSING")
        request = pb.UpdateStaffMemberRequest(
            staff_member=pb.StaffMember(name=person_of(parent, staff_member), **said),
            validate_only=validate_only,
        )
        request.update_mask.paths.extend(said)
        _show(services.notices.UpdateStaffMember(request, timeout=CALL_TIMEOUT_S).staff_member, json)


@app.command("left")
def left_(
    context: typer.Context, staff_member: PersonArgument, tenant: TenantOption = "", json: JsonOption = False
) -> None:
    """Say that somebody left. What was acknowledged stays; the person is forgotten after the tenant's time for it."""
    with box(context) as services:
        name = person_of(tenant_of(services, tenant), staff_member)
        request = pb.ArchiveStaffMemberRequest(name=name)
        _show(services.notices.ArchiveStaffMember(request, timeout=CALL_TIMEOUT_S).staff_member, json)


@app.command("back")
def back(
    context: typer.Context, staff_member: PersonArgument, tenant: TenantOption = "", json: JsonOption = False
) -> None:
    """Say that somebody works here after all, or again."""
    with box(context) as services:
        name = person_of(tenant_of(services, tenant), staff_member)
        request = pb.UnarchiveStaffMemberRequest(name=name)
        _show(services.notices.UnarchiveStaffMember(request, timeout=CALL_TIMEOUT_S).staff_member, json)


@app.command("import")
def import_table(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV: name, email, identity, number, line, kind.")],
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Enter and change many from a table: all of it, or nothing where a row is wrong."""
    with box(context) as services:
        request = pb.ImportStaffMembersRequest(
            parent=tenant_of(services, tenant), csv=table_of(file), validate_only=validate_only
        )
        answer = services.notices.ImportStaffMembers(request, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
    elif answer.valid:
        would = "would be " if validate_only else ""
        output.console.print(
            f"{output.count(answer.rows, 'row')}: {answer.created} {would}entered, {answer.updated} {would}changed"
        )
    show_problems(answer)


def _row(one: pb.StaffMember) -> tuple[str, ...]:
    state = (
        "forgotten"
        if one.forgotten
        else f"left {output.moment(one.leave_time)}"
        if one.HasField("leave_time")
        else ""
    )
    return bare(one.name), one.display_name, ", ".join(one.numbers), one.email, one.identity, state


def _show(made: pb.StaffMember, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.table(("ID", "Name", "Numbers", "Email", "Signs in as", "State"), [_row(made)], empty="")


def _line(parent: str, text: str) -> str:
    """A line of the tenant: this API wants the tenant named."""
    return f"{parent}/lines/{bare(resource('lines', text))}"


def _identity(text: str) -> str:
    return text if not text or ":" in text else identity(text)


def _kind(agent: bool | None) -> pb.StaffKind.ValueType:
    if agent is None:
        return pb.STAFF_KIND_UNSPECIFIED
    return pb.STAFF_KIND_AGENT if agent else pb.STAFF_KIND_OTHER
