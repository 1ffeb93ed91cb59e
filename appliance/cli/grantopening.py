"""What opens a recording under a support grant; apart from its command, as codecs and ciphers take long to load."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Final

from appliance.cli import files
from appliance.cli.exits import Exit, Failure
from appliance.media.audio.recording import load
from appliance.media.audio.render import FORMATS, Rendering, RenderOptions
from appliance.model import EarwitnessError, id_bytes
from appliance.storage.keystore import hpke, open_data_key
from appliance.storage.keystore.granted import SEALED_DATA_KEY_BYTES
from appliance.storage.sealed import SealedReader, inspect

KIND: Final = "earwitness grant key pair"
_MOST = 16_384  # bytes of a file with a key


def check_format(extension: str) -> None:
    """Failure where nothing is rendered as that."""
    if extension not in FORMATS:
        raise Failure(Exit.USAGE, f"--output: should end in {', '.join(FORMATS)}", "OPTION_INVALID")


def new_pair() -> tuple[bytes, bytes]:
    """Private and public half."""
    private = hpke.new_private_key()
    return private, hpke.public_key(private)


def render(
    recording: Path, sealed: bytes, grant: bytes, private: bytes, result: Path, extension: str
) -> None:
    """Into `result`. OSError."""
    with open(recording, "rb") as file:
        header = inspect(file).header
        tenant, name = id_bytes(header.tenant_id), id_bytes(header.recording_id)
        key = open_data_key(private, tenant, grant, name, sealed)
        file.seek(0)
        rendering = Rendering(load(SealedReader(file, key)), RenderOptions(format=extension))
        with files.written(result) as written:
            for piece in rendering.chunks():
                written.write(piece)


def private_half(file: Path) -> bytes:
    """From a file of `keys pair`. Failure, OSError."""
    try:
        content = json.loads(_small(file))
        private = base64.b64decode(content["private"], validate=True)
        if content["kind"] != KIND:
            raise ValueError
        hpke.public_key(private)
    except (ValueError, KeyError, TypeError, EarwitnessError):
        # Not chained: what was read may be in the cause.
        raise Failure(Exit.USAGE, f"{file} is no file of `keys pair`", "KEY_FORMAT") from None
    return private


def sealed_key(file: Path) -> bytes:
    """Raw, or as base64. Failure, OSError."""
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
