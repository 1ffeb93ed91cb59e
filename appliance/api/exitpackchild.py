"""The process that puts recordings into an exit pack: `python -m appliance.api.exitpackchild`.

JSON lines in on standard input, one a recording; JSON lines out. It runs at the lowest priority there is, so that it takes
no turn from capture, and one recording at a time, so that its memory is bounded. It ends when its input does. Keys are in
its memory alone, and sound goes where the pack does.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from appliance.api.vault import SealedStream, VaultReader
from appliance.config.exits import ExitSettings
from appliance.config.layout import Layout
from appliance.media.audio.recording import load
from appliance.media.audio.render import Rendering, RenderOptions
from appliance.model import EarwitnessError, Kind
from appliance.packs import exittargets, vcon
from appliance.packs.exitrecord import folder
from appliance.packs.exittargets import FolderTarget, Target
from appliance.packs.manifest import Entry, Packed
from appliance.storage.sealed import SealedReader

MAX_VCON: Final = 64 << 20  # bytes of sound in one; a longer recording's has none
PIECE: Final = 1 << 20
LOCKED: Final = "TENANT_LOCKED"
# Of one recording alone: it is told, and the work goes on with the next.
_OF_RECORDING: Final = frozenset(
    {Kind.CORRUPT, Kind.PRECONDITION, Kind.NOT_FOUND, Kind.EXHAUSTED, Kind.INVALID}
)
_OF_TARGET: Final = frozenset({"EXIT_SPACE", "EXIT_TARGET_AWAY", "EXIT_TARGET_TAKEN", "EXIT_TARGET_INVALID"})


def target_of(spec: dict[str, Any], settings: ExitSettings) -> Target:
    """Where a pack goes, as its row says it; ExitTargetInvalidError where the site file does not allow that (any more)."""
    if spec["target"] == "folder":
        allowed, steps = exittargets.allowed(settings, spec["path"])
        return FolderTarget(allowed, steps, spec["name"])
    for bucket in settings.buckets:
        if bucket.name == spec["bucket"]:
            from appliance.packs.exitbucket import BucketTarget  # boto3: a quarter of a second, seldom wanted

            return BucketTarget(bucket, spec["prefix"], spec["name"])
    raise exittargets.ExitTargetInvalidError("is none of the buckets of the site file", field="bucket")


class Packer:
    """Puts one recording after the other into a pack."""

    def __init__(self, reader: VaultReader, target: Target, actor: str, purpose: str) -> None:
        self._reader = reader
        self._target = target
        self._actor = actor
        self._purpose = purpose

    def pack(self, job: dict[str, Any]) -> Packed:
        """All of one recording that can be had. Errors of the target, and UNAVAILABLE, are raised."""
        recording_id = str(job["recording"])
        self._base = f"{folder(recording_id)}/{recording_id}"
        self._recording = recording_id
        self._sealed_sha256 = str(job["sha256"])
        entries: list[Entry] = []
        problem, owed = str(job["problem"]), False
        try:
            if job["sealed"]:
                entries.append(self._sealed(bool(job["deleted"])))
                if notes := self._reader.sidecar(recording_id):  # what was added later, sealed as the file is
                    entries.append(self._put(".sealed.sidecar", "sidecar", [notes]))
                if self._sealed_sha256 not in ("", entries[0].sha256):
                    problem = (
                        "SEALED_FILE_CHANGED"  # whole by its own account, and not the one that was filed
                    )
            if job["sound"]:
                entries += self._sound(job)
        except EarwitnessError as error:
            if error.reason in _OF_TARGET or error.kind not in _OF_RECORDING:
                raise
            owed = error.reason == LOCKED
            problem = problem if owed else error.reason
        if job["document"] is not None:
            data = json.dumps(job["document"], ensure_ascii=False, indent=1).encode()
            entries.insert(0, self._put(".json", "record", [data]))
        if job["reviews"] is not None:
            data = json.dumps(job["reviews"], ensure_ascii=False, indent=1).encode()
            entries.append(self._put(".reviews.json", "reviews", [data]))
        return Packed(recording_id, tuple(entries), problem, owed)

    def _sealed(self, deleted: bool) -> Entry:
        with self._reader.open(self._recording, deleted=deleted) as stream:
            return self._put(".sealed", "sealed", _pieces(stream))

    def _sound(self, job: dict[str, Any]) -> list[Entry]:
        deleted = bool(job["deleted"])
        data_key = self._reader.lease(self._recording, self._actor, self._purpose, deleted=deleted)
        with self._reader.open(self._recording, deleted=deleted) as stream:
            recording = load(SealedReader(stream, data_key, tolerant=True))
        extension = str(job["sound"])
        rendering = Rendering(recording, RenderOptions(format=extension))
        length_ms = round(rendering.samples * 1000 / rendering.rate)
        entries = [self._put(f".{extension}", "sound", rendering.chunks(), length_ms)]
        if job["vcon"] is not None:
            wav = Rendering(recording, RenderOptions(format="wav"))
            if (wav.size or 0) <= MAX_VCON:
                sound = b"".join(wav.chunks())
                made = vcon.with_sound(job["vcon"], sound, f"{self._recording}.wav")
                entries.append(self._put(".vcon.json", "vcon", [made]))
        return entries

    def _put(self, ending: str, kind: str, pieces: Iterable[bytes], length_ms: int | None = None) -> Entry:
        try:
            written = self._target.put(self._base + ending, pieces)
        except EarwitnessError as error:
            if error.reason not in _OF_TARGET:
                self._target.drop(self._base + ending)  # what could not be read to its end
            raise
        return Entry(
            written.path,
            written.size,
            written.sha256,
            kind,
            self._recording,
            length_ms,
            self._sealed_sha256,
        )


def _pieces(stream: SealedStream) -> Iterator[bytes]:
    while piece := stream.read(PIECE):
        yield piece


def yield_to_others() -> None:
    """Run only where nobody else wants to; no dump of what is in memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(19)
    with contextlib.suppress(OSError):  # nice is enough where a sandbox forbids it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def answer(packer: Packer, line: bytes) -> dict[str, Any]:
    """What is told of one line."""
    try:
        return {"packed": base64.b64encode(packer.pack(json.loads(line)).line()).decode()}
    except EarwitnessError as error:
        plain = {name: value for name, value in error.data.items() if isinstance(value, (str, int))}
        return {"reason": error.reason, "kind": error.kind.value, "data": plain}


def main() -> None:
    """Until the input ends."""
    yield_to_others()
    begun = json.loads(sys.stdin.buffer.readline())
    lock = os.open(begun["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # one before us may still be at its last recording
    reader = VaultReader(Layout(Path(begun["data"])))
    settings = ExitSettings.model_validate(begun["settings"])
    target = target_of(begun["spec"], settings)
    try:
        target.open(begun=True)
        print(json.dumps({"ready": hashlib.sha256(begun["lock"].encode()).hexdigest()}), flush=True)  # noqa: T201
        packer = Packer(reader, target, begun["actor"], begun["purpose"])
        for line in sys.stdin.buffer:
            print(json.dumps(answer(packer, line)), flush=True)  # noqa: T201
    except EarwitnessError as error:
        print(json.dumps({"reason": error.reason, "kind": error.kind.value, "data": {}}), flush=True)  # noqa: T201
    finally:
        target.close()
        reader.close()


if __name__ == "__main__":
    main()
