"""The manifest of a pack, and the journal it is made from: JSON lines. Pure.

A line of the journal says what is whole of one recording; it is written after the files are durable, so that work that
breaks off goes on behind it and no whole file is written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

MANIFEST: Final = "manifest.jsonl"
PACK: Final = "pack.json"
NOTE: Final = "pack.json.note"
KINDS: Final = ("record", "sealed", "sidecar", "sound", "vcon", "index", "help", "schema")


@dataclass(frozen=True)
class Entry:
    """One file of a pack. `sha256`: lower-case hexadecimal. `duration_ms` of a sound file, to the nearest one."""

    path: str
    size: int
    sha256: str
    kind: str
    recording: str = ""
    duration_ms: int | None = None
    sealed_sha256: str = ""  # of the recording's sealed file, whether it is in the pack or not

    def line(self) -> bytes:
        """As it stands in the manifest; what is not said is left out."""
        said = {name: value for name, value in asdict(self).items() if value not in ("", None)}
        return json.dumps(said, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


@dataclass(frozen=True)
class Packed:
    """A line of the journal: one recording. `problem`: why not all of it is there; `owed`: its sound comes later."""

    recording: str
    entries: tuple[Entry, ...]
    problem: str = ""
    owed: bool = False

    def line(self) -> bytes:
        """As it stands in the journal."""
        said = {**asdict(self), "entries": [asdict(one) for one in self.entries]}
        return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def packed(line: bytes) -> Packed | None:
    """A line of the journal; None where it is not whole, as the last one may be after a power cut."""
    try:
        said: dict[str, Any] = json.loads(line)
        entries = tuple(Entry(**one) for one in said.pop("entries"))
        return Packed(entries=entries, **said)
    except (ValueError, TypeError, KeyError):
        return None


def whole_lines(lines: Iterable[bytes]) -> Iterator[tuple[Packed, int]]:
    """Lines of a journal up to the first that is not whole, each with where it ends (bytes)."""
    end = 0
    for line in lines:
        found = packed(line) if line.endswith(b"\n") else None
        if found is None:
            return
        end += len(line)
        yield found, end
