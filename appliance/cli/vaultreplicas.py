"""`earwitness vault replicas`: second stores with copies of the recordings, and bringing back what is lost here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.confirm import confirm
from appliance.cli.context import LOOK_TIMEOUT_S, DryOption, JsonOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.progress import bar
from earwitness.v1 import box_pb2 as pb

app = typer.Typer(help="Replicas: which there are, and bring recordings back from one.")


@app.callback(invoke_without_command=True)
def replicas(context: typer.Context, json: JsonOption = False) -> None:
    """Replicas, and how far each has followed the log of what was deleted and held."""
    if context.invoked_subcommand is not None:
        return
    with box(context) as services:
        vault = services.box.GetVault(pb.GetVaultRequest(), timeout=LOOK_TIMEOUT_S).vault
    if json:
        output.print_json({"replicas": [output.as_dict(one) for one in vault.replicas]})
        return
    output.table(
        ("Replica", ">Has followed to"),
        ((one.replica, str(one.confirmed_number)) for one in vault.replicas),
        empty="No replica.",
    )


@app.command()
def restore(
    context: typer.Context,
    replica: Annotated[str, typer.Argument(help="Name of the replica, as `vault replicas` shows it.")],
    bucket: Annotated[
        list[str] | None,
        typer.Option(
            "--bucket", help="Only this bucket, as `vault buckets --json` names it; may be repeated."
        ),
    ] = None,
    dry: DryOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Bring recordings back from a replica: those that are lost here, and sidecars that are lost or damaged.

    What is erased or has expired does not come. Ctrl-C ends it; what has come stays, and asking again goes on. Exit code 1
    where a bucket did not come, or recordings are still missing.

    Examples:

    earwitness vault replicas restore north --validate-only
    earwitness vault replicas restore north
    """
    request = pb.RestoreFromReplicaRequest(replica=replica, buckets=bucket or (), validate_only=True)
    with box(context) as services:
        found = _restore(services.box.RestoreFromReplica(request), "looking", quiet=json)
        if not dry:
            if not yes:
                show_restoration(found, "Would come", errors=True)
                confirm(f"Type the replica's name to bring this back from {replica}", replica)
            request.validate_only = False
            found = _restore(services.box.RestoreFromReplica(request), "bringing back", quiet=json)
    if json:
        output.print_json(output.as_dict(found))
    else:
        show_restoration(found, "Would come" if dry else "Came")
    if found.failure_count or found.missing_count:
        raise typer.Exit(Exit.FAILED)


def _restore(steps: Iterable[pb.RestoreFromReplicaResponse], title: str, *, quiet: bool) -> pb.Restoration:
    totals: pb.Restoration | None = None
    with bar(title, quiet=quiet) as advance:
        for one in steps:
            if one.HasField("totals"):
                totals = one.totals
            else:
                advance(one.progress.done_count / max(1, one.progress.bucket_count))
    if totals is None:
        raise Failure(Exit.FAILED, "the box ended it without a report", "NO_REPORT", "ask again: it goes on")
    return totals


def show_restoration(found: pb.Restoration, title: str, *, errors: bool = False) -> None:
    """What came or would come, what is refused, and what did not come."""
    for name, text in (
        (
            title,
            f"{output.count(found.recording_count, 'recording')}, {output.count(found.sidecar_count, 'sidecar')}",
        ),
        ("Buckets", f"{found.whole_count} as they were, {found.merged_count} get what they lack"),
        ("Erased", f"{found.erased_count} do not come" if found.erased_count else ""),
        (
            "Expired",
            f"{output.count(found.expired_count, 'bucket')} do not come" if found.expired_count else "",
        ),
        ("Failed", output.some(found.failure_count, "bucket")),
        *(("", f"{one.bucket}: {one.code}: {one.message}") for one in found.failures),
        ("Missing", f"{found.missing_count} recordings have no file" if found.missing_count else ""),
    ):
        if text:
            (output.errors if errors else output.console).print(f"{name:<12}{text}", markup=False)
