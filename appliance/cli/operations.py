"""`earwitness operations`: long work, how far it is, and what it found."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, TenantOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.progress import bar
from earwitness import pages
from earwitness.v1 import operations_pb2 as pb

app = typer.Typer(
    help="Long work that goes on by itself, over restarts: verify, list, show, watch, cancel.",
    no_args_is_help=True,
)
NameArgument = Annotated[str, typer.Argument(metavar="OPERATION", help="Name or id.")]


@app.command("verify")
def verify(
    context: typer.Context,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose recordings (name or id).")],
    filter_: Annotated[str, typer.Option("--filter", help="Which; all where it is not said.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Show how far it is until it has ended.")] = False,
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Verify many recordings in the background; exit code 6 with --wait where one is not as it was written.

    earwitness operations verify --tenant TENANT --filter 'start_time >= 2026-11-01' --wait
    """
    request = pb.VerifyRecordingsRequest(parent=tenant_parent(tenant), filter=filter_, validate_only=dry)
    with box(context) as services:
        operation = services.operations.VerifyRecordings(request, timeout=CALL_TIMEOUT_S).operation
    if wait and not dry:
        watch(context, operation.name, json)
    else:
        _show(operation, json)


@app.command("list")
def list_(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """Operations, newest first."""
    found: list[pb.Operation] = []
    request = pb.ListOperationsRequest(parent=tenant_parent(tenant), page_size=1000)
    with box(context) as services:
        for page in pages(services.operations.ListOperations, request, timeout=CALL_TIMEOUT_S):
            found += page.operations
    if json:
        output.print_json([output.as_dict(one) for one in found])
        return
    output.table(
        ("ID", "Work", "State", "Done", "Begun", "By"),
        [
            (
                bare(one.name),
                output.enum_word(pb.OperationKind, one.kind),
                _state(one),
                f"{one.done_count} of {one.total_count}",
                output.when(one.create_time),
                one.creator,
            )
            for one in found
        ],
        empty="No long work.",
    )


@app.command("show")
def show(context: typer.Context, name: NameArgument, json: JsonOption = False) -> None:
    """How far an operation is, and what it found."""
    request = pb.GetOperationRequest(name=resource("operations", name))
    with box(context) as services:
        _show(services.operations.GetOperation(request, timeout=CALL_TIMEOUT_S).operation, json)


@app.command("watch")
def watch(context: typer.Context, name: NameArgument, json: JsonOption = False) -> None:
    """Show how far an operation is until it has ended. Interrupting this does not cancel it."""
    operation = pb.Operation()
    request = pb.WatchOperationRequest(name=resource("operations", name))
    with box(context) as services, bar("verifying", quiet=json) as advance:
        for message in services.operations.WatchOperation(request):
            operation = message.operation
            if operation.total_count:
                advance(operation.done_count / operation.total_count)
    if not operation.HasField("end_time"):
        raise Failure(Exit.FAILED, "the box ended the watch before the operation", "NO_END")
    _show(operation, json)
    if operation.verify_recordings.damaged_count:
        raise typer.Exit(Exit.NOT_INTACT)


@app.command("cancel")
def cancel(context: typer.Context, name: NameArgument, json: JsonOption = False) -> None:
    """End an operation with its next step. What it has done stays done."""
    request = pb.CancelOperationRequest(name=resource("operations", name))
    with box(context) as services:
        _show(services.operations.CancelOperation(request, timeout=CALL_TIMEOUT_S).operation, json)


def _state(operation: pb.Operation) -> str:
    word = output.enum_word(pb.OperationState, operation.state)
    return f"{word}, to be cancelled" if operation.cancelling and not operation.HasField("end_time") else word


def _show(operation: pb.Operation, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(operation))
        return
    found = operation.verify_recordings
    output.facts(
        [
            ("Operation", bare(operation.name) or "not begun"),
            ("State", f"{_state(operation)} {operation.failure}".rstrip()),
            ("Done", f"{operation.done_count} of {operation.total_count}"),
            ("Intact", str(found.intact_count)),
            ("Recovered", str(found.recovered_count)),
            ("Damaged", str(found.damaged_count)),
            ("Unchecked", str(found.unchecked_count)),
            *(("Problem", f"{bare(one.recording)} {one.code}") for one in found.problems),
        ]
    )
