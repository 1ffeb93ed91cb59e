"""Reads what a recording is of, out of its sealed file: parties, tracks, marks, times, and how it sounds.

Runs in worker threads.
"""

from __future__ import annotations

import hashlib
from typing import Final

from appliance.api.vault import VaultReader
from appliance.catalog.records import Description
from appliance.media.audio.quality import Quality
from appliance.model import Mark, RecordingInfo
from appliance.storage.sealed import EndBlock, InfoBlock, MarkBlock, PacketBlock, Problem, SealedReader

MAX_MARKS: Final = 5000
DAMAGED: Final = "content-damaged"
# What a recording that was cut short and recovered looks like; that is said by `whole`.
_HARMLESS: Final = frozenset({Problem.TORN, Problem.CUT})


class _Hashing:
    """A source whose bytes are hashed as they are read."""

    def __init__(self, source: object) -> None:
        self._read = source.read  # type: ignore[attr-defined]
        self.digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data: bytes = self._read(size)
        self.digest.update(data)
        return data


def describe(vault: VaultReader, recording_id: str) -> Description | None:
    """What the content says; None where no INFO block can be read. Raises what the vault raises."""
    data_key = vault.lease(recording_id, "control", "catalogue")
    info: RecordingInfo | None = None
    marks: list[Mark] = []
    last: dict[int, PacketBlock] = {}  # by track
    end: EndBlock | None = None
    quality = Quality()
    with vault.open(recording_id) as stream:
        source = _Hashing(stream)
        reader = SealedReader(source, data_key, tolerant=True)
        for block in reader:
            match block:
                case InfoBlock(found):
                    info = found
                    quality.told(found)
                case MarkBlock(mark) if len(marks) < MAX_MARKS:
                    marks.append(mark)
                case PacketBlock() if len(block):
                    quality.heard(block)
                    last[block.track] = block  # decoded only where nothing else says when the end was
                case EndBlock():
                    end = block
        while source.read(1 << 20):
            pass  # what stands after a damage belongs to the file's hash too
    if info is None or info.recording_id != recording_id:
        return None
    damaged = any(finding.problem not in _HARMLESS for finding in reader.findings)
    if end is not None:
        end_ns: int | None = end.ended_ns
    else:
        moments = [int(block.arrival_ns[-1]) for block in last.values()] + [mark.at_ns for mark in marks]
        end_ns = max(moments, default=None)
    return Description.of(
        info,
        marks,
        end_ns,
        source.digest.hexdigest(),
        # What is missing of a damaged file could not be judged.
        (DAMAGED,) if damaged else quality.flags(marks, info.started_ns, end_ns or 0),
    )


def digest(vault: VaultReader, recording_id: str) -> str:
    """SHA-256 of the sealed file, lower-case hexadecimal. Raises what the vault raises."""
    found = hashlib.sha256()
    with vault.open(recording_id) as stream:
        while data := stream.read(1 << 20):
            found.update(data)
    return found.hexdigest()
