"""A recording into a file: resumed where the connection breaks, checked, and whole or not there."""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

import grpc

from earwitness.client import Client
from earwitness.errors import details
from earwitness.v1 import recordings_pb2 as pb

SEALED: Final = pb.DOWNLOAD_FORMAT_SEALED
WAV: Final = pb.DOWNLOAD_FORMAT_WAV
FLAC: Final = pb.DOWNLOAD_FORMAT_FLAC
OGG: Final = pb.DOWNLOAD_FORMAT_OGG

_AGAIN: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
Progress = Callable[[str, float], None]
"""Called with "rendering" or "downloading", and how much of that is done, 0 to 1."""


class DamagedError(Exception):
    """What arrived is not what the box has, again and again."""


@dataclass(frozen=True)
class Download:
    """What was downloaded."""

    path: Path
    size: int
    sha256: str
    media_type: str
    etag: str


@dataclass(frozen=True)
class _At:
    """How far it is: bytes on disk, of what."""

    offset: int = 0
    etag: str = ""


class _Changed(Exception):
    pass


def download(
    client: Client,
    name: str,
    path: str | os.PathLike[str],
    format_: pb.DownloadFormat.ValueType = WAV,
    *,
    purpose: str,
    override_reason: str = "",
    progress: Progress | None = None,
    attempts: int = 8,
) -> Download:
    """Download a recording to `path`, which is written over, and only once everything is there and right.

    `purpose`: what it is read for, the id of one of `Recording.purposes`; a records officer may name another purpose of
    the tenant with an `override_reason` of 10 to 200 characters.

    Where the connection breaks, it goes on at the byte it had come to; after `attempts` breaks in a row without a byte
    the last error is raised. DamagedError where the checksum of the whole is not what the box said, twice.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    at = _At()
    failures = damages = 0
    with part.open("w+b") as file:
        while True:
            request = pb.DownloadRecordingRequest(
                name=name,
                format=format_,
                offset=at.offset,
                etag=at.etag,
                purpose=purpose,
                override_reason=override_reason,
            )
            before = at
            try:
                header, at = _attempt(client, request, file, progress)
            except _Changed:
                at = _At()
                continue
            except _Broken as broken:
                at = broken.at
                failures = 0 if at.offset > before.offset else failures + 1
                found = details(broken.error)
                if found.code not in _AGAIN or failures >= attempts:
                    raise broken.error from None
                time.sleep(found.retry_after_s or min(0.2 * 2**failures, 10.0))
                continue
            file.flush()
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
            if digest.digest() == header.sha256 and at.offset == header.size_bytes:
                break
            damages += 1
            if damages > 1:
                raise DamagedError("the bytes that arrived do not have the checksum the box named")
            at = _At()
        os.fsync(file.fileno())
    part.replace(target)
    return Download(target, header.size_bytes, header.sha256.hex(), header.media_type, header.etag)


class _Broken(Exception):
    def __init__(self, error: grpc.RpcError, at: _At) -> None:
        self.error = error
        self.at = at


def _attempt(
    client: Client, request: pb.DownloadRecordingRequest, file: IO[bytes], progress: Progress | None
) -> tuple[pb.DownloadHeader, _At]:
    """One stream; gives the header and how far it came. _Broken where it broke, _Changed where the bytes are others."""
    at = _At(request.offset, request.etag)
    header: pb.DownloadHeader | None = None
    file.seek(at.offset)
    file.truncate()
    stream = client.recordings.DownloadRecording(request)
    try:
        for message in stream:
            match message.WhichOneof("item"):
                case "progress":
                    if progress is not None:
                        progress("rendering", message.progress.fraction)
                case "header":
                    header = message.header
                    at = replace(at, etag=header.etag)
                case "chunk" if header is not None:
                    chunk = message.chunk
                    if chunk.offset != at.offset or zlib.crc32(chunk.data) != chunk.crc32:
                        raise DamagedError("a chunk arrived damaged")  # TLS should have seen it
                    file.write(chunk.data)
                    at = replace(at, offset=at.offset + len(chunk.data))
                    if progress is not None:
                        progress("downloading", at.offset / max(1, header.size_bytes))
    except grpc.RpcError as error:
        if details(error).reason == "ETAG_MISMATCH":
            raise _Changed from None
        raise _Broken(error, at) from None
    finally:
        stream.cancel()
    if header is None:
        raise DamagedError("the box sent no header")
    return header, at
