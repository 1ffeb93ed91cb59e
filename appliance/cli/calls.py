"""`earwitness calls`: what is being recorded now."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli import callview, output
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import CALL_TIMEOUT_S, JsonOption, TenantOption, box
from appliance.cli.listen import listen
from earwitness import pages
from earwitness.v1 import calls_pb2

app = typer.Typer(help="Live calls: list, watch, listen, pause, resume, stop.", no_args_is_help=True)
app.command()(listen)

NameArgument = Annotated[str, typer.Argument(help="Name or id of the call.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept as a mark on the timeline.")]


@app.command("list")
def list_calls(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """Calls that are up now."""
    with box(context) as services:
        request = calls_pb2.ListCallsRequest(parent=tenant_parent(tenant), page_size=500)
        calls: list[calls_pb2.Call] = []
        for answer in pages(services.calls.ListCalls, request, timeout=CALL_TIMEOUT_S):
            calls += answer.calls
    if json:
        output.print_json({"calls": [output.as_dict(call) for call in calls]})
    else:
        output.table(callview.COLUMNS, map(callview.row, calls), empty="No call is up.")


@app.command()
def watch(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """Every live call, then each change as it happens, until interrupted."""
    with box(context) as services:
        for change in services.calls.WatchCalls(calls_pb2.WatchCallsRequest(parent=tenant_parent(tenant))):
            if json:
                output.print_line(output.as_dict(change))
            elif change.HasField("call"):
                at = change.time if change.HasField("time") else change.call.state_time
                output.console.print(
                    output.plain(callview.line(change.call, at)), markup=False, soft_wrap=True
                )


def _changed(call: calls_pb2.Call, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(call))
    else:
        output.console.print(f"{bare(call.name)}: {callview.state(call)}")


@app.command()
def pause(
    context: typer.Context, name: NameArgument, reason: ReasonOption = "", json: JsonOption = False
) -> None:
    """Keep nothing of a call until it is resumed; the gap stays on the timeline."""
    with box(context) as services:
        request = calls_pb2.PauseCallRequest(name=resource("calls", name), reason=reason)
        _changed(services.calls.PauseCall(request, timeout=CALL_TIMEOUT_S).call, json)


@app.command()
def resume(
    context: typer.Context, name: NameArgument, reason: ReasonOption = "", json: JsonOption = False
) -> None:
    """Keep a paused call again."""
    with box(context) as services:
        request = calls_pb2.ResumeCallRequest(name=resource("calls", name), reason=reason)
        _changed(services.calls.ResumeCall(request, timeout=CALL_TIMEOUT_S).call, json)


@app.command()
def stop(
    context: typer.Context, name: NameArgument, reason: ReasonOption = "", json: JsonOption = False
) -> None:
    """End the recording of a call; final for this call."""
    with box(context) as services:
        request = calls_pb2.StopCallRequest(name=resource("calls", name), reason=reason)
        _changed(services.calls.StopCall(request, timeout=CALL_TIMEOUT_S).call, json)
