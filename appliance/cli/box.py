"""`earwitness box`: how the box is, and rebuilding its catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.context import CALL_TIMEOUT_S, JsonOption, box
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import box_pb2

app = typer.Typer(help="The box itself: status, rebuild-catalogue.", no_args_is_help=True)


@app.command()
def status(
    context: typer.Context,
    incidents: Annotated[
        int, typer.Option("--incidents", min=0, help="How many of the last incidents to show.")
    ] = 10,
    json: JsonOption = False,
) -> None:
    """Processes, conditions, what happened, space, keys. Exit code 1 while a condition is an alarm."""
    with box(context) as services:
        state = services.box.GetBoxStatus(
            box_pb2.GetBoxStatusRequest(incident_limit=incidents), timeout=CALL_TIMEOUT_S
        )
    if json:
        output.print_json(output.as_dict(state))
    else:
        show(state)
    if any(condition.severity == box_pb2.SEVERITY_ALARM for condition in state.conditions):
        raise typer.Exit(Exit.FAILED)


def show(state: box_pb2.GetBoxStatusResponse) -> None:
    """The state of the box for people: what is wrong first."""
    if state.conditions:
        output.console.print("[bold]Conditions[/bold]")
        rows = (
            (
                "STARTING" if found.starting else output.enum_word(box_pb2.Severity, found.severity).upper(),
                found.type,
                found.process,
                output.when(found.since_time),
                found.message,
            )
            for found in sorted(state.conditions, key=lambda found: -found.severity)
        )
        output.table(("Severity", "Condition", "Process", "Since", "What to know"), rows, empty="")
    else:
        output.console.print("All is as it should be.")
    output.console.print(_alarms(state))
    output.console.print("\n[bold]Processes[/bold]")
    output.table(
        ("Process", "State", ">PID", "Started", ">Restarts"),
        (
            (
                process.process,
                "up" if process.up else "DOWN",
                str(process.pid or ""),
                output.when(process.start_time),
                str(process.restarts),
            )
            for process in state.processes
        ),
        empty="none",
    )
    if state.incidents:
        output.console.print("\n[bold]What happened[/bold]")
        output.table(
            ("When", "Process", "What", "Details"),
            ((output.when(item.time), item.process, item.kind, item.message) for item in state.incidents),
            empty="",
        )
    vault = state.vault
    output.console.print("\n[bold]Vault[/bold]")
    output.facts(
        [
            ("Backend", vault.backend),
            ("Space", f"{output.size(vault.free_bytes)} free of {output.size(vault.total_bytes)}"),
            ("Recordings", f"{vault.filed_count} filed, {output.size(vault.stored_bytes)}"),
            ("Deleted", f"{vault.deleted_count} can be brought back" if vault.deleted_count else ""),
            (
                "Erased",
                f"{vault.erased_count}, last {output.when(vault.last_erasure_time)}"
                if vault.erased_count
                else "",
            ),
            ("Quarantine", f"{vault.quarantined_count}" if vault.quarantined_count else ""),
            ("To be filed", f"{vault.spooled_count}" if vault.spooled_count else ""),
            ("Keys", f"{vault.key_count}, epoch {vault.epoch}"),
            ("Box key", vault.device_public_key.hex()),
            ("Live calls", str(state.live_call_count) if state.HasField("live_call_count") else "not known"),
            *(
                (f"Certificate {one.usage}", f"until {output.when(one.expire_time)}")
                for one in state.certificates
            ),
            ("Version", state.version),
        ]
    )


def _alarms(state: box_pb2.GetBoxStatusResponse) -> str:
    if not state.HasField("alarms"):
        return "Alarms: not known, as the catalogue does not answer."
    found = state.alarms
    some = [
        f"{n} {word}"
        for n, word in ((found.critical, "critical"), (found.warning, "warning"), (found.notice, "notice"))
        if n
    ]
    if not some:
        return "No alarm stands."
    return f"Alarms that stand: {', '.join(some)}; not acknowledged: {found.unacknowledged} (`earwitness alarms list`)."


@app.command("rebuild-catalogue")
def rebuild_catalogue(context: typer.Context, json: JsonOption = False) -> None:
    """Make the catalogue anew from the sealed files. Recording goes on meanwhile."""
    last = None
    with box(context) as services:
        for last in services.box.RebuildCatalogue(box_pb2.RebuildCatalogueRequest()):
            if not json and not last.done:
                output.errors.print(f"{last.recordings} recordings read", end="\r")
    if last is None or not last.done:
        raise Failure(Exit.FAILED, "the rebuild did not come to its end", "REBUILD_INCOMPLETE", "try again")
    if json:
        output.print_json(output.as_dict(last))
    else:
        output.console.print(
            f"catalogue rebuilt: {last.recordings} recordings, {last.unreadable} not readable"
        )
