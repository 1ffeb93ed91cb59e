"""`earwitness verify`, offline, and `earwitness evidence`: what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import files, output
from appliance.cli.connection import resource
from appliance.cli.context import box
from appliance.cli.exits import Exit, Failure
from appliance.cli.secretinput import Secrets
from earwitness.v1 import evidence_pb2 as pb
from earwitness.verify.__main__ import verify_all

app = typer.Typer(
    help="Evidence: what an outsider needs to check recordings without the box.", no_args_is_help=True
)
_KEYS = Path("box-keys.json")
_EXITS = {0: Exit.OK, 1: Exit.NOT_INTACT, 2: Exit.USAGE}


def verify(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Sealed recordings, signed reports, packs.")
    ],
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            help="The box's public keys, from `earwitness evidence keys`. [default: box-keys.json]",
            show_default=False,
        ),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence", help="Evidence of the one FILE; else FILE.evidence.json, where it is there."
        ),
    ] = None,
    sidecar: Annotated[
        Path | None,
        typer.Option(
            "--sidecar", help="What was added to the one FILE; else FILE.sidecar, where it is there."
        ),
    ] = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for the passphrase of the one PATH, a subject pack.")
    ] = False,
    fd: Annotated[
        int | None, typer.Option("--passphrase-fd", help="Read the passphrase from this file descriptor.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
) -> None:
    """Check sealed recordings offline: whole, untouched, by this box, in this order, with these gaps.

    A report, document or manifest is held against the signature beside it, FILE.note.

    An exit pack, a folder or a zip file, is checked as its own verify.py does. A subject pack is whole only by its
    passphrase; without it no more than its form can be seen, and the exit code is 2. Packs need no --keys but for
    the signature over them.

    Needs no box and no secret. The same on any machine: pip install "earwitness[verify]", python -m earwitness.verify

    earwitness verify 5kcw….sealed --keys box-keys.json
    """
    wanted = passphrase or fd is not None
    if (evidence is not None or sidecar is not None or wanted) and len(paths) > 1:
        raise Failure(
            Exit.USAGE, "--evidence, --sidecar and --passphrase go with one PATH", "EVIDENCE_OF_ONE"
        )
    if keys is None and (_KEYS.exists() or not any(_like_a_pack(one) for one in paths)):
        keys = _KEYS
    ask = (lambda: Secrets(fd).ask("Passphrase of the pack")) if wanted else None
    code = verify_all(paths, keys, evidence, as_json=json, sidecar=sidecar, passphrase=ask)
    raise typer.Exit(_EXITS[code])


def _like_a_pack(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".zip"


@app.command("save")
def save(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="RECORDING...", help="Names or ids.")],
    folder: Annotated[Path, typer.Option("--to", help="Directory to write into.")] = Path("."),
) -> None:
    """Write the evidence of recordings, to be laid beside their sealed files, and what was added to them, sealed."""
    with box(context) as services:
        for name in names:
            request = pb.GetEvidenceRequest(name=resource("recordings", name))
            answer = services.evidence.GetEvidence(request)
            _write(files.named(folder, answer.file_name), answer.evidence.encode())
            if answer.sidecar:
                _write(files.named(folder, answer.sidecar_file_name), answer.sidecar)


@app.command("keys")
def keys_(
    context: typer.Context,
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("box-keys.json"),
) -> None:
    """Write the box's public keys. Take them from the box itself, once, and keep them where you will verify."""
    with box(context) as services:
        _write(to, services.evidence.GetBoxKeys(pb.GetBoxKeysRequest()).keys.encode())


def _write(path: Path, data: bytes) -> None:
    files.write(path, data)
    output.console.print(str(path))
