"""The log as an export has it: entries as they are on disk, leaf hashes, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from appliance.api import convert, names
from appliance.audit import checkpoints
from appliance.audit.checkpoints import Signed
from appliance.audit.entry import EVERY_TENANT, Entry
from appliance.audit.errors import EntryDamagedError, NoteError
from appliance.audit.hashes import Hashes
from appliance.audit.log import Log
from appliance.audit.reader import Reader
from earwitness.v1 import audit_pb2 as pb

BATCH_BYTES: Final = 256 * 1024
BATCH: Final = 2000
_LEAVES: Final = 8192
_CHECKPOINTS: Final = 500
_FORGED: Final = 4096  # bytes of what is no checkpoint


def parts(log: Log, size: int, tenant_id: str | None, start: int) -> Iterator[pb.ExportAuditResponse]:
    """The first `size` entries. `tenant_id`: lines of others are withheld; `start`: those of entries before it, too."""
    yield pb.ExportAuditResponse(
        header=pb.AuditExportHeader(
            origin=log.verifier.name,
            verifier_key=str(log.verifier),
            tenant=names.tenant(tenant_id) if tenant_id else "",
            size=size,
            start_index=start,
        )
    )
    for first in range(0, start, _LEAVES):
        count = min(_LEAVES, start - first)
        yield pb.ExportAuditResponse(
            batch=pb.AuditExportBatch(
                first_index=first, leaf_hashes=log.hashes.span(0, first, count), lines=[b""] * count
            )
        )
    yield from _entries(log, size, tenant_id, start)
    for generation in range(1, log.generation):
        yield from _old_leaves(log, generation)
    yield from _checkpoints(log, size)


def _entries(log: Log, size: int, tenant_id: str | None, start: int) -> Iterator[pb.ExportAuditResponse]:
    reader = Reader(log, start)
    while reader.index < size:
        first = reader.index
        try:
            lines = [one.line for one in reader.take(BATCH_BYTES, min(BATCH, size - first))]
        except EntryDamagedError:
            lines = [b""]  # whoever verifies it sees what is not there
            reader.index += 1
        if tenant_id is not None:
            lines = [line if Entry.of(line).tenant in (tenant_id, EVERY_TENANT) else b"" for line in lines]
        leaves = log.hashes.span(0, first, len(lines))
        yield pb.ExportAuditResponse(
            batch=pb.AuditExportBatch(first_index=first, leaf_hashes=leaves, lines=lines)
        )


def _old_leaves(log: Log, generation: int) -> Iterator[pb.ExportAuditResponse]:
    kept = Hashes(log.folder, str(generation))
    try:
        for first in range(0, kept.leaves, _LEAVES):
            found = kept.span(0, first, min(_LEAVES, kept.leaves - first))
            yield pb.ExportAuditResponse(
                leaves=pb.AuditExportLeaves(generation=generation, first_index=first, leaf_hashes=found)
            )
    finally:
        kept.close()


def _checkpoints(log: Log, size: int) -> Iterator[pb.ExportAuditResponse]:
    """In the order in which they were signed; without those signed meanwhile, over entries that are not exported."""
    pages: list[int] = []
    end: int | None = None
    while end != 0:
        _, before = log.checkpoints.before(end, _CHECKPOINTS)
        pages.append(end if end is not None else log.checkpoints.size)
        end = before
    for page in reversed(pages):
        rows, _ = log.checkpoints.before(page, _CHECKPOINTS)
        origin = log.verifier.name  # what an earlier generation signed stays: that it is longer is evidence
        found = [one for one in map(kept, reversed(rows)) if one.size <= size or one.origin != origin]
        yield pb.ExportAuditResponse(checkpoints=pb.AuditExportCheckpoints(checkpoints=found))


def kept(row: bytes) -> pb.AuditCheckpoint:
    """A line among those that are kept. What is none goes as it is, so that whoever verifies it sees that."""
    try:
        return checkpoint(checkpoints.parse(row))
    except NoteError:
        return pb.AuditCheckpoint(note=row[:_FORGED].decode("utf-8", "replace"))


def checkpoint(signed: Signed) -> pb.AuditCheckpoint:
    """A checkpoint as the API has it."""
    return pb.AuditCheckpoint(
        size=signed.checkpoint.size,
        root_hash=signed.checkpoint.root,
        origin=signed.checkpoint.origin,
        time=convert.timestamp(signed.time_ns),
        note=signed.note,
    )
