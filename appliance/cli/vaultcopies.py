"""`earwitness vault copies`: copies of the keystore, and bringing recordings back from one of theirs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.confirm import confirm
from appliance.cli.context import CALL_TIMEOUT_S, LOOK_TIMEOUT_S, DryOption, JsonOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.progress import bar
from earwitness.v1 import box_pb2 as pb

app = typer.Typer(
    help="Copies: of the keystore, which there are, and forget one; of recordings, bring them back."
)


@app.callback(invoke_without_command=True)
def copies(context: typer.Context, json: JsonOption = False) -> None:
    """Copies of the keystore, those that are missing too. While one is missing, nothing can be erased."""
    if context.invoked_subcommand is not None:
        return
    with box(context) as services:
        vault = services.box.GetVault(pb.GetVaultRequest(), timeout=LOOK_TIMEOUT_S).vault
    _show_copies(list(vault.keystore_copies), json)


def _show_copies(some: list[pb.KeystoreCopy], json: bool) -> None:
    if json:
        output.print_json({"keystoreCopies": [output.as_dict(one) for one in some]})
        return
    output.table(
        ("ID", "Directory", "State", ">Epoch"),
        ((one.copy_id, one.directory, "there" if one.present else "MISSING", str(one.epoch)) for one in some),
        empty="No copy.",
    )


@app.command()
def forget(
    context: typer.Context,
    copy_id: Annotated[str, typer.Argument(help="Id of the copy, as `vault copies` shows it.")],
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Declare that the disk with a copy of the keystore is destroyed, so that erasing no longer waits for it.

    Whoever still has that disk may read what is erased after this: destroy it first.
    """
    with box(context) as services:
        request = pb.ForgetKeystoreCopyRequest(copy_id=copy_id, validate_only=True)
        services.box.ForgetKeystoreCopy(request, timeout=CALL_TIMEOUT_S)
        if not yes:
            confirm("Is that disk destroyed? Type the copy's id to forget it", copy_id)
        request.validate_only = False
        left = services.box.ForgetKeystoreCopy(request, timeout=LOOK_TIMEOUT_S).keystore_copies
    _show_copies(list(left), json)


@app.command()
def restore(
    context: typer.Context,
    copy_: Annotated[
        str, typer.Argument(metavar="COPY", help="Name of the replica, as `vault status` shows it.")
    ],
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
    where a copy did not come, or recordings are still missing.

    Examples:

    earwitness vault copies restore north --validate-only
    earwitness vault copies restore north
    """
    request = pb.RestoreFromReplicaRequest(replica=copy_, buckets=bucket or (), validate_only=True)
    with box(context) as services:
        found = _restore(services.box.RestoreFromReplica(request), "looking", quiet=json)
        if not dry:
            if not yes:
                show_restoration(found, "Would come", errors=True)
                confirm(f"Type the copy's name to bring this back from {copy_}", copy_)
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
