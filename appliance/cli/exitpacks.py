"""`earwitness exit-pack`: everything of a tenant or line to take along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import earwitness.verify.exitpack as verifier
from appliance.cli import output
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import (
    CALL_TIMEOUT_S,
    LOOK_TIMEOUT_S,
    DryOption,
    JsonOption,
    TenantOption,
    box,
)
from appliance.cli.exits import Exit, Failure
from appliance.cli.progress import bar
from appliance.cli.tenants import choice
from earwitness import pages
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import operations_pb2

app = typer.Typer(
    help="Exit packs: everything of a tenant or line in open forms. Create, watch, list, verify.",
    no_args_is_help=True,
)
SOUNDS = {
    "wav": pb.EXIT_PACK_SOUND_WAV,
    "flac": pb.EXIT_PACK_SOUND_FLAC,
    "none": pb.EXIT_PACK_SOUND_NONE,
}


@app.command("create")
def create(
    context: typer.Context,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose recordings (name or id).")],
    folder: Annotated[
        str, typer.Option("--folder", help="A folder of the box, below one that its site file allows.")
    ] = "",
    bucket: Annotated[str, typer.Option("--bucket", help="A bucket, as the site file calls it.")] = "",
    prefix: Annotated[str, typer.Option("--prefix", help="What its keys begin with.")] = "",
    line: Annotated[str, typer.Option("--line", help="Only of this line.")] = "",
    filter_: Annotated[str, typer.Option("--filter", help="Which; all where it is not said.")] = "",
    sound: Annotated[str, typer.Option("--sound", help="wav, flac or none.")] = "wav",
    sealed: Annotated[bool, typer.Option("--sealed", help="The sealed files, too.")] = False,
    vcon: Annotated[bool, typer.Option("--vcon", help="A vCon of each recording, too.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove-on-cancel", help="Leave no part where it is cancelled.")
    ] = False,
    purpose: Annotated[
        str, typer.Option("--purpose", help="What it is read for; else the exit itself.")
    ] = "",
    override: Annotated[
        str, typer.Option("--override", help="Why it is read for a purpose that was not stated.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Show how far it is until it has ended.")] = False,
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Write recordings, an index, a manifest and a verifier where they can be taken along. It goes on over restarts.

    earwitness exit-pack create --tenant TENANT --folder /media/exit --wait
    """
    asked = pb.ExitPack(
        line=resource("lines", line) if line else "",
        sound=choice("--sound", sound, SOUNDS),
        sealed=sealed,
        vcon=vcon,
        remainder=pb.EXIT_PACK_REMAINDER_REMOVE if remove else pb.EXIT_PACK_REMAINDER_KEEP,
        purpose=purpose,
    )
    if bool(folder) == bool(bucket):
        raise Failure(Exit.USAGE, "name --folder or --bucket", "OPTION_MISSING")
    if folder:
        asked.folder.path = folder
    else:
        asked.bucket.bucket, asked.bucket.prefix = bucket, prefix
    request = pb.CreateExitPackRequest(
        parent=tenant_parent(tenant),
        exit_pack=asked,
        filter=filter_,
        override_reason=override,
        validate_only=dry,
    )
    with box(context) as services:
        made = services.closing.CreateExitPack(request, timeout=LOOK_TIMEOUT_S)
    if wait and not dry:
        watch(context, bare(made.exit_pack.name), json)
    elif json:
        output.print_json(output.as_dict(made))
    else:
        free = output.size(made.free_bytes) if made.HasField("free_bytes") else ""
        pack = made.exit_pack
        output.facts(
            [
                ("Exit pack", bare(pack.name) or "not begun"),
                ("Recordings", f"{max(pack.recording_count, made.operation.total_count):,}"),
                ("About", output.size(pack.size_bytes) if dry else ""),
                ("Free there", free),
            ]
        )


@app.command("watch")
def watch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="EXIT_PACK", help="Name or id.")],
    json: JsonOption = False,
) -> None:
    """Show how far an exit pack is until it has ended, and what it waits for. Interrupting this does not cancel it."""
    operation = operations_pb2.Operation()
    request = operations_pb2.WatchOperationRequest(name=resource("operations", bare(name)))
    told = ""
    with box(context) as services:
        with bar("exit pack", quiet=json) as advance:
            for message in services.operations.WatchOperation(request):
                operation = message.operation
                found = operation.exit_pack
                if operation.total_count:
                    advance(operation.done_count / operation.total_count)
                if found.waiting != told and not json:
                    told = found.waiting
                    output.errors.print(_waiting(found), markup=False)
        if not operation.HasField("end_time"):
            raise Failure(Exit.FAILED, "the box ended the watch before the exit pack", "NO_END")
        if json:
            output.print_json(output.as_dict(operation))
        else:
            _ended(operation)
    if operation.state != operations_pb2.OPERATION_STATE_SUCCEEDED:
        raise typer.Exit(Exit.FAILED)


def _waiting(found: operations_pb2.ExitPackResult) -> str:
    if not found.waiting:
        return "It goes on."
    space = ""
    if found.waiting == "EXIT_SPACE":
        space = (
            f": {output.size(found.needed_bytes)} more are needed, {output.size(found.free_bytes)} are free"
        )
    return f"It waits, and goes on by itself: {found.waiting}{space}"


def _ended(operation: operations_pb2.Operation) -> None:
    found = operation.exit_pack
    word = output.enum_word(operations_pb2.OperationState, operation.state)
    output.facts(
        [
            ("Exit pack", bare(found.exit_pack)),
            ("State", f"{word} {operation.failure}".rstrip()),
            ("Recordings", f"{found.recording_count:,} of {operation.total_count:,}"),
            ("Size", output.size(found.size_bytes)),
            ("Not as asked for", f"{found.problem_count:,}" if found.problem_count else ""),
            *(("Problem", f"{bare(one.recording)} {one.code}") for one in found.problems[:20]),
        ]
    )


@app.command("list")
def list_(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """Exit packs, newest first."""
    found: list[pb.ExitPack] = []
    request = pb.ListExitPacksRequest(parent=tenant_parent(tenant), page_size=1000)
    with box(context) as services:
        for page in pages(services.closing.ListExitPacks, request, timeout=CALL_TIMEOUT_S):
            found += page.exit_packs
    if json:
        output.print_json({"exitPacks": [output.as_dict(one) for one in found]})
        return
    output.table(
        ("ID", "Of", "State", "Begun", ">Recordings", ">Size", "Where", "By"),
        [
            (
                bare(one.name),
                ("" if one.everything else "part of ") + (bare(one.line) or "all lines"),
                output.enum_word(operations_pb2.OperationState, one.state),
                output.when(one.create_time),
                f"{one.recording_count:,}",
                output.size(one.size_bytes),
                one.folder.path or f"{one.bucket.bucket}:{one.bucket.prefix}",
                one.creator,
            )
            for one in found
        ],
        empty="No exit pack.",
    )


@app.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(help="An exit pack: its folder, or that in a zip file.")],
    key: Annotated[
        str | None, typer.Option("--key", help="The box's key, as `audit checkpoint --key` says it.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check an exit pack offline, as the verify.py in it does; exit code 6 where it is not as it was written."""
    code = verifier.main(
        [str(folder), *([] if key is None else ["--key", key]), *(["--json"] if json else [])]
    )
    if code == 2:
        raise Failure(Exit.USAGE, "this is no exit pack that can be read", "NO_EXIT_PACK")
    if code:
        raise typer.Exit(Exit.NOT_INTACT)
