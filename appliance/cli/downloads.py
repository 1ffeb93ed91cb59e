"""`earwitness recordings download`: resumable, checked, and never half a file under the final name."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json as json_module
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from appliance.cli import files, output
from appliance.cli.connection import bare, resource
from appliance.cli.context import Box, JsonOption, box
from appliance.cli.exits import Exit, Failure, from_rpc
from appliance.cli.progress import bar
from appliance.cli.readingoptions import OverrideOption, PurposeOption
from earwitness.v1 import recordings_pb2

FORMATS = {
    "wav": recordings_pb2.DOWNLOAD_FORMAT_WAV,
    "flac": recordings_pb2.DOWNLOAD_FORMAT_FLAC,
    "ogg": recordings_pb2.DOWNLOAD_FORMAT_OGG,
    "sealed": recordings_pb2.DOWNLOAD_FORMAT_SEALED,
}
Begin = Callable[[int, str], Any]
"""Asks the box for a file, from an offset of the bytes with an etag (0, "": from the beginning); gives the stream."""
_STALE = ("ETAG_MISMATCH", "OFFSET_INVALID")  # what was begun are other bytes by now


_DESTROYED = "SUBJECT_PACK_STATE"


@dataclass(frozen=True)
class Downloaded:
    """What was written."""

    path: Path
    size: int
    sha256: str
    resumed_at: int


@dataclass(frozen=True)
class _Partial:
    """A download that may have been broken off: the bytes so far, and a note of the etag they belong to."""

    folder: Path
    name: str
    ending: str

    @property
    def path(self) -> Path:
        return self.folder / f".{bare(self.name)}.{self.ending}.part"

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @contextlib.contextmanager
    def opened(self) -> Iterator[io.BufferedRandom]:
        """The file, for this process alone; only its owner may read it, since it is what patients said."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "r+b") as file:
                self._lock(fd)
                yield file
        except OSError as error:
            raise Failure(
                Exit.FAILED, f"cannot write in {self.folder}: {error.strerror}", "WRITE_FAILED"
            ) from error
        except grpc.RpcError as error:
            failure = from_rpc(error)
            if failure.code in (Exit.ERASED, Exit.NOT_FOUND) or failure.reason == _DESTROYED:
                self.forget()  # what is erased does not stay here in part
            raise
        finally:
            self._tidy()

    def _lock(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                return
        raise Failure(
            Exit.CONFLICT, f"another download writes {self.path}", "DOWNLOAD_RUNNING", "wait until it is done"
        )

    def _tidy(self) -> None:
        """Nothing stays of a download that never began."""
        with contextlib.suppress(OSError):
            if not self.note.exists() and not self.path.stat().st_size:
                self.path.unlink()

    def state(self) -> tuple[int, str]:
        """How many bytes are there and their etag; (0, '') to begin anew."""
        try:
            note = json_module.loads(self.note.read_text("utf-8"))
            size = self.path.stat().st_size
        except (OSError, ValueError):
            return 0, ""
        if not isinstance(note, dict) or note.get("name") != self.name or not size:
            return 0, ""
        return size, str(note.get("etag", ""))

    def begin(self, etag: str) -> None:
        self.note.write_text(json_module.dumps({"name": self.name, "etag": etag}), "utf-8")

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def fetch(
    services: Box,
    name: str,
    format_: str,
    target: Path | None,
    *,
    purpose: str,
    override: str = "",
    force: bool = False,
    quiet: bool = False,
) -> Downloaded:
    """Downloads a recording; see `take`."""

    def begin(offset: int, etag: str) -> Any:
        request = recordings_pb2.DownloadRecordingRequest(
            name=name,
            format=FORMATS[format_],
            offset=offset,
            etag=etag,
            purpose=purpose,
            override_reason=override,
        )
        return services.recordings.DownloadRecording(request)

    return take(name, format_, target, begin, force=force, quiet=quiet)


def take(
    name: str, ending: str, target: Path | None, begin: Begin, *, force: bool = False, quiet: bool = False
) -> Downloaded:
    """Downloads what is called `name` into `target` (a file, a folder, or None for the name the box gives).

    Goes on where an earlier try broke off. Failure where the bytes are not what the box said they are.
    """
    folder = target if target is not None and target.is_dir() else Path() if target is None else target.parent
    named = target if target is not None and not target.is_dir() else None
    if named is not None and named.exists() and not force:
        raise _exists(named)
    partial = _Partial(folder, name, ending)
    with partial.opened() as file:
        stream, header = _begin(partial, begin, quiet)
        final = named or files.named(folder, header.file_name)
        if final.exists() and not force:
            stream.cancel()
            raise _exists(final)
        partial.begin(header.etag)
        digest = _receive(stream, header, file, quiet)
        if digest != header.sha256:
            partial.forget()
            raise Failure(
                Exit.FAILED, "the downloaded bytes have another checksum", "CHECKSUM_MISMATCH", "try again"
            )
        partial.path.replace(final)
        partial.forget()
    return Downloaded(final, header.size_bytes, digest.hex(), header.offset)


def _begin(partial: _Partial, begin: Begin, quiet: bool) -> tuple[Any, recordings_pb2.DownloadHeader]:
    """Opens the stream where an earlier try broke off, or from the beginning where the bytes would be others."""
    offset, etag = partial.state()
    while True:
        stream = begin(offset, etag)
        try:
            with bar("rendering", quiet=quiet) as rendering:
                for item in stream:
                    if item.HasField("header"):
                        return stream, item.header
                    rendering(item.progress.fraction)
        except grpc.RpcError as error:
            if not offset or from_rpc(error).reason not in _STALE:
                raise
            offset, etag = 0, ""
            continue
        raise Failure(Exit.FAILED, "the box sent no header", "NO_HEADER")


def _receive(
    stream: Any, header: recordings_pb2.DownloadHeader, file: io.BufferedRandom, quiet: bool
) -> bytes:
    """Writes the chunks, each checked; gives the checksum of the whole file."""
    file.seek(header.offset)
    file.truncate()
    with bar("downloading", quiet=quiet) as advance:
        for item in stream:
            if not item.HasField("chunk"):
                continue
            if item.chunk.offset != file.tell() or zlib.crc32(item.chunk.data) != item.chunk.crc32:
                raise Failure(
                    Exit.FAILED,
                    f"damaged on the way at byte {item.chunk.offset}",
                    "CHUNK_DAMAGED",
                    "try again",
                )
            file.write(item.chunk.data)
            advance(file.tell() / max(header.size_bytes, 1))
    file.flush()
    os.fsync(file.fileno())
    file.seek(0)
    return hashlib.file_digest(file, "sha256").digest()


def _exists(path: Path) -> Failure:
    return Failure(Exit.CONFLICT, f"{path} is there already", "FILE_EXISTS", "--force writes over it")


def download(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the recording.")],
    target: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder; else the box's name, here.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", "-f", help="wav, flac, ogg or sealed.")] = "wav",
    purpose: PurposeOption = "",
    override: OverrideOption = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Download a recording as sound, or sealed as it is kept. Goes on where it broke off."""
    if format_ not in FORMATS:
        raise Failure(Exit.USAGE, f"--format: {format_!r} is none of {', '.join(FORMATS)}", "FORMAT_UNKNOWN")
    with box(context) as services:
        done = fetch(
            services,
            resource("recordings", name),
            format_,
            target,
            purpose=purpose,
            override=override,
            force=force,
            quiet=json,
        )
    tell(done, json)


def tell(done: Downloaded, json: bool) -> None:
    """Says what was written."""
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
