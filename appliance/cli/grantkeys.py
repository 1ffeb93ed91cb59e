"""The holder's side of a support grant in attended mode: a key pair, and opening what was granted. Speaks to no box.

The box seals a recording's data key to the holder's public key. The holder downloads the sealed recording and opens it
here, so that the data key is never in the open on the box, and root there cannot listen with the holder.
"""

from __future__ import annotations

import base64
import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import files, output
from appliance.cli.connection import bare
from appliance.cli.context import JsonOption
from appliance.cli.exits import Exit, Failure
from appliance.model import id_bytes, is_id


def pair(
    file: Annotated[Path, typer.Argument(help="Where the private half is written; it stays with you.")],
    json: JsonOption = False,
) -> None:
    """Make the key pair of a support grant's holder. The public half, which is printed, goes into the request."""
    from appliance.cli import grantopening  # here, as it takes longer to load than most commands to run

    private, raw = grantopening.new_pair()
    public = base64.b64encode(raw).decode()
    content = {
        "kind": grantopening.KIND,
        "algorithm": "MLKEM768-X25519",
        "private": base64.b64encode(private).decode(),
    }
    files.write_new(file, (json_module.dumps(content | {"public": public}) + "\n").encode())
    if json:
        output.print_json({"publicKey": public})
    else:
        print(public)


def open_recording(
    recording: Annotated[Path, typer.Argument(help="A sealed recording, downloaded under the grant.")],
    sealed_key: Annotated[Path, typer.Argument(help="Its sealed key, as the grant has it: raw, or base64.")],
    grant: Annotated[str, typer.Option("--grant", help="The grant (name or id).")],
    holder: Annotated[Path, typer.Option("--pair", help="The file that `keys pair` wrote.")],
    result: Annotated[Path, typer.Option("--output", "-o", help="Audio file: .wav, .flac or .ogg.")],
) -> None:
    """Render a recording that a support grant opens: here, rather than on the box."""
    from appliance.cli import grantopening  # as above

    extension = result.suffix.lstrip(".").lower()
    grantopening.check_format(extension)
    if not is_id(bare(grant)):
        raise Failure(Exit.USAGE, f"--grant: {grant!r} is no grant", "NAME_INVALID")
    try:
        grantopening.render(
            recording,
            grantopening.sealed_key(sealed_key),
            id_bytes(bare(grant)),
            grantopening.private_half(holder),
            result,
            extension,
        )
    except OSError as error:
        raise Failure(Exit.USAGE, f"{error.filename}: {error.strerror}", "FILE_UNREADABLE") from error
    output.console.print(str(result), markup=False)
