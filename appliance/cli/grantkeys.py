"""The holder's side of a support grant in attended mode: a key pair, and opening what was granted. Speaks to no box.

The box seals a recording's data key to the holder's public key. The holder downloads the sealed recording and opens it
here, so that the data key is never in the open on the box, and root there cannot listen with the holder.
"""

from __future__ import annotations

import base64
import json as json_module
from pathlib import Path
from typing import Annotated, Final

import typer

from appliance.cli import files, output
from appliance.cli.connection import bare
from appliance.cli.context import JsonOption
from appliance.cli.exits import Exit, Failure
from appliance.media.audio.recording import load
from appliance.media.audio.render import FORMATS, Rendering, RenderOptions
from appliance.model import EarwitnessError, id_bytes, is_id
from appliance.storage.keystore import hpke, open_data_key
from appliance.storage.keystore.granted import SEALED_DATA_KEY_BYTES
from appliance.storage.sealed import SealedReader, inspect

_KIND: Final = "earwitness grant key pair"
_MOST = 16_384  # bytes of a file with a key


def pair(
    file: Annotated[Path, typer.Argument(help="Where the private half is written; it stays with you.")],
    json: JsonOption = False,
) -> None:
    """Make the key pair of a support grant's holder. The public half, which is printed, goes into the request."""
    private = hpke.new_private_key()
    public = base64.b64encode(hpke.public_key(private)).decode()
    content = {"kind": _KIND, "algorithm": "MLKEM768-X25519", "private": base64.b64encode(private).decode()}
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
    extension = result.suffix.lstrip(".").lower()
    if extension not in FORMATS:
        raise Failure(Exit.USAGE, f"--output: should end in {', '.join(FORMATS)}", "OPTION_INVALID")
    if not is_id(bare(grant)):
        raise Failure(Exit.USAGE, f"--grant: {grant!r} is no grant", "NAME_INVALID")
    try:
        _render(recording, _sealed(sealed_key), id_bytes(bare(grant)), _private(holder), result, extension)
    except OSError as error:
        raise Failure(Exit.USAGE, f"{error.filename}: {error.strerror}", "FILE_UNREADABLE") from error
    output.console.print(str(result), markup=False)


def _render(
    recording: Path, sealed: bytes, grant: bytes, private: bytes, result: Path, extension: str
) -> None:
    with open(recording, "rb") as file:
        header = inspect(file).header
        tenant, name = id_bytes(header.tenant_id), id_bytes(header.recording_id)
        key = open_data_key(private, tenant, grant, name, sealed)
        file.seek(0)
        rendering = Rendering(load(SealedReader(file, key)), RenderOptions(format=extension))
        with files.written(result) as written:
            for piece in rendering.chunks():
                written.write(piece)


def _private(file: Path) -> bytes:
    try:
        content = json_module.loads(_small(file))
        private = base64.b64decode(content["private"], validate=True)
        if content["kind"] != _KIND:
            raise ValueError
        hpke.public_key(private)
    except (ValueError, KeyError, TypeError, EarwitnessError):
        # Not chained: what was read may be in the cause.
        raise Failure(Exit.USAGE, f"{file} is no file of `keys pair`", "KEY_FORMAT") from None
    return private


def _sealed(file: Path) -> bytes:
    raw = _small(file)
    if len(raw) != SEALED_DATA_KEY_BYTES:
        try:
            raw = base64.b64decode(raw.strip(), validate=True)
        except ValueError:
            raw = b""
    if len(raw) != SEALED_DATA_KEY_BYTES:
        raise Failure(Exit.USAGE, f"{file} is no sealed key of a grant", "KEY_FORMAT")
    return raw


def _small(file: Path) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(_MOST)
