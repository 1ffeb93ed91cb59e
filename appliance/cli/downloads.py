"""`earwitness recordings download`: resumable, checked, and never half a file under the final name."""

from __future__ import annotations

import hashlib
import json as json_module
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.connection import bare, resource
from appliance.cli.context import Box, JsonOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.progress import bar
from earwitness.v1 import recordings_pb2

FORMATS = {
    "wav": recordings_pb2.DOWNLOAD_FORMAT_WAV,
    "flac": recordings_pb2.DOWNLOAD_FORMAT_FLAC,
    "ogg": recordings_pb2.DOWNLOAD_FORMAT_OGG,
    "sealed": recordings_pb2.DOWNLOAD_FORMAT_SEALED,
}


@dataclass(frozen=True)
class Downloaded:
    """What was written."""

    path: Path
    size: int
    sha256: str
    resumed_at: int


@dataclass
class _Partial:
    """A download that may have been broken off: the bytes so far, and the etag they belong to."""

    path: Path

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def state(self, name: str) -> tuple[int, str]:
        """How many bytes are there and their etag; (0, '') to begin anew."""
        try:
            note = json_module.loads(self.note.read_text("utf-8"))
            size = self.path.stat().st_size
        except (OSError, ValueError):
            return 0, ""
        if not isinstance(note, dict) or note.get("name") != name or not size:
            return 0, ""
        return size, str(note.get("etag", ""))

    def begin(self, name: str, etag: str) -> None:
        self.note.write_text(json_module.dumps({"name": name, "etag": etag}), "utf-8")

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def fetch(
    services: Box,
    name: str,
    format_: str,
    target: Path | None,
    *,
    purpose: str = "",
    force: bool = False,
    quiet: bool = False,
) -> Downloaded:
    """Downloads into `target` (a file, a folder, or None for the name the box gives).

    Goes on where an earlier try broke off. Failure where the bytes are not what the box said they are.
    """
    folder = target if target is not None and target.is_dir() else Path() if target is None else target.parent
    named = target if target is not None and not target.is_dir() else None
    if named is not None and named.exists() and not force:
        raise _exists(named)
    partial = _Partial(folder / f".{bare(name)}.{format_}.part")
    offset, etag = partial.state(name)
    request = recordings_pb2.DownloadRecordingRequest(
        name=name, format=FORMATS[format_], offset=offset, etag=etag, purpose=purpose
    )
    header = None
    try:
        with bar("rendering", quiet=quiet) as rendering:
            stream = services.recordings.DownloadRecording(request)
            for item in stream:
                if item.HasField("header"):
                    header = item.header
                    break
                rendering(item.progress.fraction)
        if header is None:
            raise Failure(Exit.FAILED, "the box sent no header", "NO_HEADER")
        final = named or folder / Path(header.file_name).name
        if final.exists() and not force:
            stream.cancel()
            raise _exists(final)
        partial.begin(name, header.etag)
        with (
            partial.path.open("r+b" if header.offset else "wb") as file,
            bar("downloading", quiet=quiet) as advance,
        ):
            file.seek(header.offset)
            for item in stream:
                if not item.HasField("chunk"):
                    continue
                if item.chunk.offset != file.tell() or zlib.crc32(item.chunk.data) != item.chunk.crc32:
                    raise Failure(
                        Exit.FAILED, f"damaged on the way at byte {item.chunk.offset}", "CHUNK_DAMAGED"
                    )
                file.write(item.chunk.data)
                advance(file.tell() / max(header.size_bytes, 1))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot write in {folder}: {error.strerror}", "WRITE_FAILED") from error
    digest = _digest(partial.path)
    if header.sha256 and digest != header.sha256:
        partial.forget()
        raise Failure(
            Exit.FAILED, "the downloaded bytes have another checksum", "CHECKSUM_MISMATCH", "try again"
        )
    partial.path.replace(final)
    partial.forget()
    return Downloaded(final, final.stat().st_size, digest.hex(), header.offset)


def _exists(path: Path) -> Failure:
    return Failure(Exit.CONFLICT, f"{path} is there already", "FILE_EXISTS", "--force writes over it")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def download(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the recording.")],
    target: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder; else the box's name, here.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", "-f", help="wav, flac, ogg or sealed.")] = "wav",
    purpose: Annotated[str, typer.Option("--purpose", help="Why it is read; kept in the audit log.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Download a recording as sound, or sealed as it is kept. Goes on where it broke off."""
    if format_ not in FORMATS:
        raise Failure(Exit.USAGE, f"--format: {format_!r} is none of {', '.join(FORMATS)}", "FORMAT_UNKNOWN")
    with box(context) as services:
        done = fetch(
            services, resource("recordings", name), format_, target, purpose=purpose, force=force, quiet=json
        )
    if json:
        output.print_json(
            {
                "path": str(done.path),
                "sizeBytes": done.size,
                "sha256": done.sha256,
                "resumedAt": done.resumed_at,
            }
        )
    else:
        resumed = f", went on at {output.size(done.resumed_at)}" if done.resumed_at else ""
        output.console.print(
            f"{done.path}: {output.size(done.size)}, checksum right{resumed}", soft_wrap=True
        )
