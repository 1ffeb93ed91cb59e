"""Closing: `earwitness lines close` and `reopen`, `tenants close`, and what follows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import output
from appliance.cli.confirm import confirm
from appliance.cli.connection import bare, resource
from appliance.cli.context import CALL_TIMEOUT_S, LOOK_TIMEOUT_S, DryOption, JsonOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from earwitness import pages
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import tenants_pb2

ReasonOption = Annotated[str, typer.Option("--reason", help="Why: of the contract, not of people.")]
DateOption = Annotated[
    str, typer.Option("--date", help="When, YYYY-MM-DD (UTC); else when the notice of the contract is over.")
]
TenantArgument = Annotated[str, typer.Argument(help="Name or id of the tenant.")]
LineArgument = Annotated[str, typer.Argument(help="Name or id of the line.")]


def join_tenants(app: typer.Typer) -> None:
    """Puts these commands beside the others of `earwitness tenants`."""
    app.command("close")(close_tenant)
    app.command("cancel-closing")(cancel_closing)
    app.command("closing")(closing)


def join_lines(app: typer.Typer) -> None:
    """Puts these commands beside the others of `earwitness lines`."""
    app.command("close")(close_line)
    app.command("reopen")(reopen_line)


def close_tenant(
    context: typer.Context,
    name: TenantArgument,
    reason: ReasonOption,
    date: DateOption = "",
    yes: YesOption = False,
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Give notice that a tenant closes. --validate-only says what would happen."""
    _close(
        context, "CloseTenant", pb.CloseTenantRequest, resource("tenants", name), reason, date, yes, dry, json
    )


def close_line(
    context: typer.Context,
    name: LineArgument,
    reason: ReasonOption,
    date: DateOption = "",
    yes: YesOption = False,
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Give notice that a line closes. --validate-only says what would happen."""
    _close(context, "CloseLine", pb.CloseLineRequest, resource("lines", name), reason, date, yes, dry, json)


def _close(
    context: typer.Context,
    method: str,
    kind: Any,
    name: str,
    reason: str,
    date: str,
    yes: bool,
    dry: bool,
    json: bool,
) -> None:
    request = kind(name=name, reason=reason, validate_only=True)
    if date:
        request.notice_time.CopyFrom(_date(date))
    with box(context) as services:
        call = getattr(services.closing, method)
        made = call(request, timeout=LOOK_TIMEOUT_S).closing
        if not dry:
            if not yes:
                _show(made, False)
                confirm("Nothing is recorded any more from that date on. Type close to give notice", "close")
            request.validate_only = False
            made = call(request, timeout=LOOK_TIMEOUT_S).closing
    _show(made, json)


def reopen_line(
    context: typer.Context, name: LineArgument, dry: DryOption = False, json: JsonOption = False
) -> None:
    """Let a closed line record again, or take its notice back."""
    request = pb.ReopenLineRequest(name=resource("lines", name), validate_only=dry)
    with box(context) as services:
        _show(services.closing.ReopenLine(request, timeout=LOOK_TIMEOUT_S).closing, json)


def cancel_closing(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The tenant, or the name of a line.")],
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Take notice back, until the date."""
    request = pb.CancelClosingRequest(name=resource("tenants", name), validate_only=dry)
    with box(context) as services:
        _show(services.closing.CancelClosing(request, timeout=LOOK_TIMEOUT_S).closing, json)


def closing(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="The tenant, or the name of a line; nothing: all that closes.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Where a tenant or a line is: the date, what is left of it, exit packs."""
    with box(context) as services:
        if name:
            request = pb.GetClosingRequest(name=resource("tenants", name))
            _show(services.closing.GetClosing(request, timeout=LOOK_TIMEOUT_S).closing, json)
            return
        found: list[pb.Closing] = []
        listed = pb.ListClosingsRequest(parent="tenants/-", page_size=1000)
        for page in pages(services.closing.ListClosings, listed, timeout=CALL_TIMEOUT_S):
            found += page.closings
    if json:
        output.print_json({"closings": [output.as_dict(one) for one in found]})
        return
    output.table(
        ("Tenant", "Line", "State", "Date", ">Recordings", ">Size", "Exit pack"),
        [
            (
                one.name.split("/")[1],
                bare(one.name) if "/lines/" in one.name else "all",
                _state(one),
                output.when(one.notice_time),
                f"{one.recording_count:,}",
                output.size(one.size_bytes),
                bare(one.exit_pack) or "none",
            )
            for one in found
        ],
        empty="Nothing closes.",
    )


def _state(one: pb.Closing) -> str:
    return output.enum_word(tenants_pb2.ServiceState, one.state)


def _show(one: pb.Closing, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(one))
        return
    last = output.when(one.last_expire_time) or "none expires"
    output.facts(
        [
            ("What", one.name),
            ("State", _state(one)),
            ("Date", output.when(one.notice_time)),
            ("Left", f"{one.left.seconds // 86400} days" if one.HasField("left") else ""),
            ("Reason", one.reason),
            ("By", one.creator),
            ("Closed", output.when(one.close_time)),
            ("Empty since", output.when(one.empty_time)),
            ("Recordings", f"{one.recording_count:,}, {output.size(one.size_bytes)}"),
            ("Last expires", last if one.retention_known else "not known: the vault does not answer"),
            ("On legal hold", f"{one.held_count:,}" if one.held_count else ""),
            ("Kept without end", f"{one.unlimited_count:,}" if one.unlimited_count else ""),
            ("Exit pack", bare(one.exit_pack) or "none with everything"),
        ]
    )


def _date(text: str) -> Timestamp:
    try:
        found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise Failure(Exit.USAGE, "--date: should be YYYY-MM-DD", "OPTION_INVALID") from None
    return Timestamp(seconds=int(found.timestamp()))
