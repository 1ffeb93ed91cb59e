"""Download, verification, picture."""

from __future__ import annotations

import hashlib
import io
import threading
import wave
import zlib

import grpc
import pytest

import earwitness
from appliance.api import renders as renders_module
from appliance.api.errors import RenderTooLargeError
from appliance.api.renders import MemoryFile, Renders
from earwitness.v1 import recordings_pb2 as pb

FORMATS = [earwitness.SEALED, earwitness.WAV, earwitness.FLAC, earwitness.OGG]


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def recording(box, sealing):
    """A noisy recording of some 400 kB, filed."""
    made = sealing(*box.default_line(), seconds=25, noise=7)
    box.filed(box.vault.file(made))
    return made


def name(recording) -> str:
    return f"tenants/-/recordings/{recording.info.recording_id}"


def read(client, recording, format_, **how) -> tuple[pb.DownloadHeader, bytes]:
    header, data = None, b""
    how = {"purpose": "evidence", **how}
    request = pb.DownloadRecordingRequest(name=name(recording), format=format_, **how)
    for message in client.recordings.DownloadRecording(request):
        kind = message.WhichOneof("item")
        if kind == "header":
            assert header is None and not data
            header = message.header
        elif kind == "chunk":
            assert message.chunk.offset == header.offset + len(data)
            assert zlib.crc32(message.chunk.data) == message.chunk.crc32
            data += message.chunk.data
    return header, data


@pytest.mark.parametrize("format_", FORMATS)
def test_a_download_is_whole_and_resumes_anywhere(box, recording, format_):
    client = box.client()
    header, data = read(client, recording, format_)
    assert header.size_bytes == len(data) and header.sha256 == hashlib.sha256(data).digest()
    assert recording.info.recording_id in header.file_name and "Ada" not in header.file_name
    for offset in (1, len(data) // 2, len(data) - 1, len(data)):
        again, rest = read(client, recording, format_, offset=offset, etag=header.etag)
        assert rest == data[offset:] and again.etag == header.etag and again.sha256 == header.sha256
    if format_ == earwitness.SEALED:
        assert data == recording.data
    if format_ == earwitness.WAV:
        with wave.open(io.BytesIO(data)) as sound:
            assert (sound.getnchannels(), sound.getframerate(), sound.getnframes()) == (2, 8000, 25 * 8000)


def test_bad_downloads(box, recording):
    client = box.client()
    header, data = read(client, recording, earwitness.WAV)
    for how, reason in (
        ({"format_": 0}, "FIELD_INVALID"),
        ({"format_": 99}, "FIELD_INVALID"),
        ({"format_": earwitness.WAV, "offset": -1}, "OFFSET_INVALID"),
        ({"format_": earwitness.WAV, "offset": 5}, "OFFSET_INVALID"),
        ({"format_": earwitness.WAV, "offset": len(data) + 1, "etag": header.etag}, "OFFSET_INVALID"),
        ({"format_": earwitness.FLAC, "offset": 5, "etag": header.etag}, "ETAG_MISMATCH"),
        ({"format_": earwitness.WAV, "purpose": "x" * 201}, "PURPOSE_UNKNOWN"),
        ({"format_": earwitness.WAV, "purpose": "a\nb"}, "PURPOSE_UNKNOWN"),
        ({"format_": earwitness.WAV, "override_reason": "x" * 201}, "FIELD_INVALID"),
        ({"format_": earwitness.WAV, "override_reason": "because \n it is so"}, "FIELD_INVALID"),
    ):
        assert refused(lambda how=how: read(client, recording, **how)).reason == reason, how


def test_the_purpose_reaches_the_vault_and_the_audit(box, recording):
    read(box.client(), recording, earwitness.WAV, purpose="complaints")
    assert (recording.info.recording_id, "admin", "complaints") in box.vault.leases
    assert "complaints" in {one.get("purpose") for one in box.audited()}


def test_rendered_audio_is_never_on_a_disk(box, recording, tmp_path):
    _, data = read(box.client(), recording, earwitness.WAV)
    needle = data[2000:2400]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if needle in path.read_bytes()]


def test_resuming_after_the_cache_forgot(box, recording):
    client = box.client()
    header, data = read(client, recording, earwitness.FLAC)

    async def forget() -> None:
        box.control.parts.renders.forget(recording.info.recording_id)

    box.run(forget())
    _, rest = read(client, recording, earwitness.FLAC, offset=100, etag=header.etag)
    assert rest == data[100:], "the same recording renders to the same bytes"


def test_many_downloads_share_one_rendering(box, recording):
    found = []

    def run() -> None:
        found.append(read(box.client(), recording, earwitness.OGG)[1])

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 5
    leases = [one for one in box.vault.leases if one[1] == "admin"]
    assert len(leases) == 1


def test_the_helper_downloads_resumes_and_checks(box, recording, tmp_path):
    target = tmp_path / "call.wav"
    seen = []
    done = earwitness.download(
        box.client(),
        name(recording),
        target,
        earwitness.WAV,
        progress=lambda what, much: seen.append((what, much)),
        purpose="evidence",
    )
    assert (
        hashlib.sha256(target.read_bytes()).hexdigest() == done.sha256 and done.size == target.stat().st_size
    )
    assert seen[-1] == ("downloading", 1.0) and list(tmp_path.glob(".*.part")) == []


class Breaking:
    """A stub whose streams break after so many chunks, and which may give damaged ones."""

    def __init__(self, inner, breaks: list[int]) -> None:
        self._inner = inner
        self.breaks = breaks
        self.offsets: list[int] = []

    def DownloadRecording(self, request):
        self.offsets.append(request.offset)
        return _Stream(self._inner.DownloadRecording(request), self.breaks.pop(0) if self.breaks else None)


class _Stream:
    def __init__(self, inner, left: int | None) -> None:
        self._inner, self._left = inner, left

    def __iter__(self):
        for message in self._inner:
            if self._left is not None and message.HasField("chunk"):
                if self._left == 0:
                    raise _Gone
                self._left -= 1
            yield message

    def cancel(self) -> None:
        self._inner.cancel()


class _Gone(grpc.RpcError):
    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return "gone"

    def trailing_metadata(self):
        return ()


def test_the_helper_goes_on_where_the_connection_broke(box, sealing, tmp_path):
    made = sealing(*box.default_line(), seconds=150, noise=9)  # some 5 MB of WAV
    box.filed(box.vault.file(made))
    client = box.client()
    client.recordings = Breaking(client.recordings, [2, 0, 3])
    done = earwitness.download(client, name(made), tmp_path / "x", earwitness.WAV, purpose="evidence")
    chunk = 512 * 1024
    assert client.recordings.offsets == [0, 2 * chunk, 2 * chunk, 5 * chunk]
    assert hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest() == done.sha256


def test_the_helper_gives_up_in_the_end(box, recording, tmp_path):
    client = box.client()
    client.recordings = Breaking(client.recordings, [0] * 10)
    with pytest.raises(grpc.RpcError):
        earwitness.download(
            client, name(recording), tmp_path / "x", earwitness.WAV, attempts=2, purpose="evidence"
        )
    assert len(client.recordings.offsets) == 2 and not (tmp_path / "x").exists()


def verify(box, recording) -> pb.VerificationReport:
    items = list(box.client().recordings.VerifyRecording(pb.VerifyRecordingRequest(name=name(recording))))
    assert [item.WhichOneof("item") for item in items][-1] == "report"
    return items[-1].report


def test_verification_of_what_is_intact(box, recording):
    report = verify(box, recording)
    assert (report.verdict, report.signature_valid, list(report.findings)) == (pb.VERDICT_INTACT, True, [])
    assert report.bytes_checked == len(recording.data)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 0.999])
def test_verification_says_where_a_byte_was_flipped(box, recording, place):
    at = int(place * len(recording.data))
    damaged = bytearray(recording.data)
    damaged[at] ^= 0x10
    recording.data = bytes(damaged)
    report = verify(box, recording)
    assert report.verdict == pb.VERDICT_DAMAGED and report.findings
    assert all(finding.code.isupper() and finding.message for finding in report.findings)
    if 0 < place < 0.9:
        assert any(abs(finding.offset - at) < 40_000 for finding in report.findings)


def test_a_file_that_the_store_itself_finds_damaged_is_a_finding(box, recording):
    box.vault.spoiled[recording.info.recording_id] = 65536
    report = verify(box, recording)
    assert report.verdict == pb.VERDICT_DAMAGED and not report.signature_valid
    assert [(one.code, one.offset) for one in report.findings] == [("FILE_CORRUPT", 65536)]


def test_verification_tells_another_recording(box, recording, sealing):
    other = sealing(recording.info.tenant_id, recording.info.line_id)
    recording.data, recording.key = other.data, other.key
    report = verify(box, recording)
    assert report.verdict == pb.VERDICT_DAMAGED
    assert "OTHER_RECORDING" in [finding.code for finding in report.findings]


def test_the_picture(box, sealing, pause_mark):
    made = sealing(*box.default_line(), seconds=4, noise=3, marks=(pause_mark,))
    box.filed(box.vault.file(made))
    client = box.client()
    answer = client.recordings.GetWaveform(
        pb.GetWaveformRequest(name=name(made), columns=50, purpose="evidence")
    )
    assert [len(channel.peaks) for channel in answer.channels] == [50, 50]
    assert max(max(channel.peaks) for channel in answer.channels) <= 32768
    assert answer.duration.ToNanoseconds() >= 4 * 10**9 and answer.marks[0].kind == pb.MARK_KIND_PAUSED
    for columns in (-1, 4097):
        request = pb.GetWaveformRequest(name=name(made), columns=columns)
        assert refused(lambda request=request: client.recordings.GetWaveform(request)).fields.keys() == {
            "columns"
        }


def test_memory_files_are_bounded_and_seekable():
    file = MemoryFile(limit=10)
    assert file.write(b"hello") == 5
    file.seek(0)
    file.write(b"J")
    file.seek(0, 2)
    file.write(memoryview(b"world"))
    with pytest.raises(RenderTooLargeError):
        file.write(b"!")
    rendered = file.done()
    assert rendered.read(0, 99) == b"Jelloworld" and rendered.sha256 == hashlib.sha256(b"Jelloworld").digest()
    with rendered.reading():
        rendered.drop()
        assert rendered.read(5, 5) == b"world", "who reads it keeps it"
    with pytest.raises(OSError):
        rendered.read(0, 1)


def test_the_cache_is_bounded_and_forgets_the_least_used(loop):
    import asyncio

    async def run() -> None:
        renders = Renders(total=10, age_s=1000)

        async def render(key: str, size: int):
            with renders.job((key, "wav"), lambda file, progress: file.write(b"x" * size) and None) as job:
                return await job.task

        first = await render("a", 4)
        await render("b", 4)
        assert renders.held(("a", "wav")) is first
        await render("c", 4)
        assert renders.held(("b", "wav")) is None and renders.held(("a", "wav")) is first
        big = await render("d", 50)
        assert renders.held(("d", "wav")) is big and renders.held(("a", "wav")) is None and first.dropped
        renders.close()
        assert big.dropped

    asyncio.run_coroutine_threadsafe(run(), loop).result(20)


def test_a_rendering_nobody_waits_for_is_ended(loop):
    import asyncio

    async def run() -> None:
        renders = Renders()
        begun, go_on = threading.Event(), threading.Event()
        ended = asyncio.Event()
        here = asyncio.get_running_loop()

        def work(file, progress) -> None:
            begun.set()
            assert go_on.wait(10)
            try:
                progress(0.5)
            finally:
                here.call_soon_threadsafe(ended.set)

        with renders.job(("a", "wav"), work) as job:
            await asyncio.to_thread(begun.wait, 10)
        go_on.set()
        await asyncio.wait_for(ended.wait(), 10)
        await asyncio.wait({job.task})
        assert isinstance(job.task.exception(), renders_module.RenderCancelled)
        assert renders.held(("a", "wav")) is None
        renders.close()

    asyncio.run_coroutine_threadsafe(run(), loop).result(20)
