"""Writes an export of the audit log as files, as docs/audit.md has them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

from appliance.cli.exits import Exit, Failure
from earwitness.v1 import audit_pb2 as pb

SEGMENT: Final = 64 << 20  # bytes


class _Files:
    """The files of an export, readable by their owner alone; each is opened when it is first written."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._open: dict[str, IO[bytes]] = {}
        self._serial = 1

    def write(self, name: str, data: bytes) -> None:
        file = self._open.get(name)
        if file is None:
            fd = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            file = self._open[name] = self._stack.enter_context(os.fdopen(fd, "wb"))
        file.write(data)

    def lines(self, lines: Iterable[bytes]) -> None:
        name = f"entries-{self._serial:06}.jsonl"
        self.write(name, b"".join(line + b"\n" for line in lines))
        if self._open[name].tell() >= SEGMENT:
            self._serial += 1

    def sync(self) -> None:
        for file in self._open.values():
            file.flush()
            os.fsync(file.fileno())


def write(parts: Iterable[pb.ExportAuditResponse], folder: Path) -> pb.AuditExportHeader:
    """Everything that comes, into a new directory; Failure where it cannot be written, or the stream is not whole."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise Failure(Exit.USAGE, f"{folder} exists already", "FILE_EXISTS", "name a new directory") from None
    except OSError as error:
        raise Failure(Exit.FAILED, f"{folder} cannot be made: {error.strerror}", "FILE_UNWRITTEN") from error
    try:
        with ExitStack() as stack:
            return _write(parts, _Files(folder, stack))
    except OSError as error:
        raise Failure(
            Exit.FAILED, f"{folder} cannot be written: {error.strerror}", "FILE_UNWRITTEN"
        ) from error


def _write(parts: Iterable[pb.ExportAuditResponse], files: _Files) -> pb.AuditExportHeader:
    header = pb.AuditExportHeader()
    count, generation = 0, 1
    rows: list[bytes] = []
    for part in parts:
        match part.WhichOneof("part"):
            case "header":
                header = part.header
                files.write("verifier.key", f"{header.verifier_key}\n".encode())
                generation = _generation(header.origin)
            case "batch":
                if part.batch.first_index != count or len(part.batch.leaf_hashes) != 32 * len(
                    part.batch.lines
                ):
                    raise Failure(Exit.FAILED, "the export is not whole", "EXPORT_BROKEN", "try again")
                files.lines(part.batch.lines)
                files.write(f"leaves-{generation}", part.batch.leaf_hashes)
                count += len(part.batch.lines)
            case "leaves":
                files.write(f"leaves-{part.leaves.generation}", part.leaves.leaf_hashes)
            case "checkpoints":
                for one in part.checkpoints.checkpoints:
                    row = {"time_ns": one.time.ToNanoseconds(), "note": one.note}
                    rows.append(json.dumps(row).encode())
    if not header.origin or count != header.size:
        raise Failure(Exit.FAILED, "the export is not whole", "EXPORT_BROKEN", "try again")
    files.write("checkpoints.jsonl", b"".join(row + b"\n" for row in rows))
    about = {
        "origin": header.origin, "tenant": header.tenant, "size": header.size, "start_index": header.start_index,
    }  # fmt: skip
    files.write("export.json", json.dumps(about).encode())
    files.sync()
    return header


def _generation(origin: str) -> int:
    last = origin.rpartition("/")[2]
    return int(last) if last.isdigit() else 1
