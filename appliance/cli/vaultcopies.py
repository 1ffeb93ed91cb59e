"""`earwitness vault copies`: copies of the keystore."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.confirm import confirm
from appliance.cli.context import CALL_TIMEOUT_S, LOOK_TIMEOUT_S, JsonOption, YesOption, box
from earwitness.v1 import box_pb2 as pb

app = typer.Typer(help="Copies of the keystore: which there are, and forget one.")


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
