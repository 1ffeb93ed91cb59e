"""Reading a recording: download, verification, picture. The work is done in threads; what comes of it streams from here."""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from appliance.api import convert, gate, names, recheck, sealednotes, sound
from appliance.api.admission import Admitted, admit
from appliance.api.errors import FieldInvalidError, NotReadableError, OffsetError
from appliance.api.parts import Parts
from appliance.api.renders import MemoryFile, Progress, RenderCancelled, Rendered
from appliance.api.scope import caller
from appliance.catalog import recordings
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.records import Recording
from appliance.model import EarwitnessError, Kind
from appliance.storage.sealed import Report, verify
from appliance.storage.sealed.sidecar import SidecarFinding
from earwitness.v1 import recordings_pb2 as pb

CHUNK: Final = 512 * 1024
PROGRESS_EVERY_S: Final = 0.5
DEFAULT_COLUMNS: Final = 200
MAX_COLUMNS: Final = 4096
_FORMATS: Final = {
    pb.DOWNLOAD_FORMAT_SEALED: ("sealed", "application/vnd.earwitness.sealed"),
    pb.DOWNLOAD_FORMAT_WAV: ("wav", "audio/wav"),
    pb.DOWNLOAD_FORMAT_FLAC: ("flac", "audio/flac"),
    pb.DOWNLOAD_FORMAT_OGG: ("ogg", "audio/ogg"),
}


class Reading:
    """The reading half of RecordingsService."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def find(self, tenant_id: str | None, recording_id: str) -> Recording:
        """RecordingNotFoundError."""
        return await self.parts.store.read(
            lambda connection: recordings.get(connection, recording_id, tenant_id)
        )

    async def _readable(self, name: str) -> Recording:
        row = await self.find(*names.child(name, "recordings"))
        recheck.readable(row)
        return row

    async def DownloadRecording(
        self, request: pb.DownloadRecordingRequest, context: Any
    ) -> AsyncIterator[pb.DownloadRecordingResponse]:
        if request.format not in _FORMATS:
            raise FieldInvalidError("should be one of SEALED, WAV, FLAC, OGG", field="format")
        if request.offset < 0 or (request.offset and not request.etag):
            raise OffsetError("an offset is not negative, and comes with an etag", field="offset")
        row = await self._readable(request.name)
        admitted = await admit(self.parts, row, request)
        gate.ends_with(recheck.refused(self.parts.store, recheck.standing(row.recording_id)))
        if request.format == pb.DOWNLOAD_FORMAT_SEALED:
            digest = bytes.fromhex(row.sha256) if row.sha256 else await self._hash(row)
            yield self._header(request, row, admitted, row.size, digest)
            async with aclosing(self.parts.vault.sealed(row.recording_id, request.offset)) as pieces:
                async for answer in _chunks(pieces, request.offset):
                    yield answer
            return
        # What is rendered already asks for no key any more.
        self.parts.key_states.refuse_locked(row.tenant_id)
        key = (row.recording_id, _FORMATS[request.format][0])
        rendered = self.parts.renders.held(key)
        if rendered is None:
            with self.parts.renders.job(key, self._work(request, row)) as job:
                while not (await asyncio.wait({job.task}, timeout=PROGRESS_EVERY_S))[0]:
                    progress = pb.DownloadProgress(fraction=min(1.0, job.fraction[0]))
                    yield pb.DownloadRecordingResponse(progress=progress)
                try:
                    rendered = await job.task
                except RenderCancelled:
                    await self.parts.store.read(recheck.standing(row.recording_id))
                    self.parts.key_states.refuse_locked(row.tenant_id)
                    raise NotReadableError("the recording could not be read for a while: ask again") from None
        with rendered.reading():
            yield self._header(request, row, admitted, rendered.size, rendered.sha256)
            async for answer in _chunks(
                self._pieces(row.recording_id, rendered, request.offset), request.offset
            ):
                yield answer

    def _header(
        self,
        request: pb.DownloadRecordingRequest,
        row: Recording,
        admitted: Admitted,
        size: int,
        digest: bytes,
    ) -> pb.DownloadRecordingResponse:
        extension, media_type = _FORMATS[request.format]
        etag = f"{extension}-{digest.hex()[:32]}"
        if request.etag and request.etag != etag:
            raise EtagMismatchError("these would be other bytes: begin anew", field="etag")
        if request.offset > size:
            raise OffsetError("the offset is behind the end", field="offset", size=size)
        return pb.DownloadRecordingResponse(
            header=pb.DownloadHeader(
                size_bytes=size,
                media_type=media_type,
                file_name=f"{row.recording_id}.{extension}",
                etag=etag,
                sha256=digest,
                offset=request.offset,
                purpose_source=admitted.source,
            )
        )

    async def _hash(self, row: Recording) -> bytes:
        """Of a file whose content could not be read when it was filed."""
        digest = hashlib.sha256()
        async with aclosing(self.parts.vault.sealed(row.recording_id, 0)) as pieces:
            async for piece in pieces:
                digest.update(piece)
        return digest.digest()

    def _work(self, request: pb.DownloadRecordingRequest, row: Recording) -> Any:
        actor, purpose = caller().name, request.purpose
        extension = _FORMATS[request.format][0]

        def work(file: MemoryFile, progress: Progress) -> None:
            data_key = self.parts.reader.lease(row.recording_id, actor, purpose)
            with self.parts.reader.open(row.recording_id) as stream:
                sound.render(stream, row.size, data_key, extension, file, progress)

        return work

    async def _pieces(self, recording_id: str, rendered: Rendered, offset: int) -> AsyncIterator[bytes]:
        while offset < rendered.size:
            if rendered.dropped:
                await self._still_unlocked(recording_id)
            piece = await asyncio.to_thread(rendered.read, offset, CHUNK)
            yield piece
            offset += len(piece)

    async def _still_unlocked(self, recording_id: str) -> None:
        row = await self.find(None, recording_id)
        self.parts.key_states.refuse_locked(row.tenant_id)
        await self.parts.store.read(recheck.standing(recording_id))

    async def VerifyRecording(
        self, request: pb.VerifyRecordingRequest, context: Any
    ) -> AsyncIterator[pb.VerifyRecordingResponse]:
        row = await self._readable(request.name)
        # Of a restricted one, too: it says nothing of what was said.
        standing = recheck.standing(row.recording_id, restricted=True)
        gate.ends_with(recheck.refused(self.parts.store, standing))
        actor = caller().name
        reader = self.parts.reader
        stream = reader.open(row.recording_id)

        def work() -> tuple[Report, int, list[SidecarFinding]]:
            data_key = reader.lease_if_unlocked(row.recording_id, actor, "verification")
            found = verify(stream, reader.device_key(), data_key)
            return found, *sealednotes.findings(reader, row.recording_id, found.root, data_key)

        task = asyncio.get_running_loop().run_in_executor(self.parts.readers, work)
        try:
            while not (await asyncio.wait({task}, timeout=PROGRESS_EVERY_S))[0]:
                fraction = min(1.0, stream.bytes_read / max(1, row.size))
                yield pb.VerifyRecordingResponse(progress=pb.VerifyProgress(fraction=fraction))
            found, entries, beside = await task
            report = _report(found, stream.bytes_read, row.recording_id)
            _add_sidecar(report, entries, beside)
        except EarwitnessError as error:
            if error.kind is not Kind.CORRUPT:
                raise
            report = _unread(error, stream.bytes_read)
        finally:
            stream.cancel()  # a caller that goes away ends the work in the thread, too
            if not task.done():
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
        yield pb.VerifyRecordingResponse(report=report)

    async def GetWaveform(self, request: pb.GetWaveformRequest, context: Any) -> pb.GetWaveformResponse:
        if not 0 <= request.columns <= MAX_COLUMNS:
            raise FieldInvalidError(f"should be 1 to {MAX_COLUMNS}, or 0", field="columns")
        row = await self._readable(request.name)
        admitted = await admit(self.parts, row, request)
        columns = request.columns or DEFAULT_COLUMNS
        reader, actor, purpose = self.parts.reader, caller().name, request.purpose
        stream = reader.open(row.recording_id)

        def work() -> sound.Picture:
            data_key = reader.lease(row.recording_id, actor, purpose)
            return sound.picture(stream, data_key, columns)

        try:
            picture = await asyncio.get_running_loop().run_in_executor(self.parts.readers, work)
        finally:
            stream.cancel()
        await self.parts.store.read(recheck.standing(row.recording_id))  # since it was begun
        return pb.GetWaveformResponse(
            column_duration=convert.duration(picture.column_ns),
            duration=convert.duration(picture.duration_ns),
            channels=[
                pb.WaveformChannel(role=convert.role(role), peaks=peaks) for role, peaks in picture.channels
            ],
            marks=[convert.mark(mark, row.start_ns) for mark in row.marks],
            purpose_source=admitted.source,
        )


async def _chunks(pieces: AsyncIterator[bytes], offset: int) -> AsyncIterator[pb.DownloadRecordingResponse]:
    """Pieces of any size as chunks of 512 KiB."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) >= CHUNK:
            yield _chunk(bytes(waiting[:CHUNK]), offset)
            offset += CHUNK
            del waiting[:CHUNK]
    if waiting:
        yield _chunk(bytes(waiting), offset)


def _chunk(data: bytes, offset: int) -> pb.DownloadRecordingResponse:
    return pb.DownloadRecordingResponse(
        chunk=pb.DownloadChunk(offset=offset, data=data, crc32=zlib.crc32(data))
    )


def _unread(error: EarwitnessError, bytes_checked: int) -> pb.VerificationReport:
    """Of a file that the store itself finds damaged, and does not give out."""
    offset = error.data.get("offset", -1)
    found = pb.Finding(code=error.reason, message=error.message, offset=int(str(offset)), frame=-1)
    return pb.VerificationReport(
        verdict=pb.VERDICT_DAMAGED,
        bytes_checked=bytes_checked,
        findings=[found],
        time=convert.timestamp(time.time_ns()),
    )


def _add_sidecar(report: pb.VerificationReport, entries: int, found: list[SidecarFinding]) -> None:
    report.sidecar_entries = entries
    for one in found:
        code = str(one.problem).upper().replace("-", "_")
        report.findings.append(pb.Finding(code=code, message=str(one), offset=one.offset, frame=one.index))
        report.verdict = pb.VERDICT_DAMAGED


def _report(report: Report, bytes_checked: int, recording_id: str) -> pb.VerificationReport:
    named = report.recording_id == recording_id
    findings = [
        pb.Finding(
            code=str(finding.problem).upper().replace("-", "_"),
            message=str(finding),
            offset=finding.offset,
            frame=finding.frame,
        )
        for finding in report.findings
    ]
    if report.recording_id and not named:
        findings.append(
            pb.Finding(code="OTHER_RECORDING", message="the file is of another recording", offset=0, frame=-1)
        )
    if not (report.intact and report.trusted and named):
        verdict = pb.VERDICT_DAMAGED
    else:
        verdict = pb.VERDICT_INTACT if report.whole else pb.VERDICT_RECOVERED
    return pb.VerificationReport(
        verdict=verdict,
        frames=report.frames,
        bytes_checked=bytes_checked,
        signature_valid=report.trusted,
        device_public_key=report.device_key,
        tree_root=report.root,
        findings=findings,
        time=convert.timestamp(time.time_ns()),
    )
