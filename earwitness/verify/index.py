"""A list of recordings against the log: an older catalogue that was put back does not have what came after it.

The log is to be verified first (docs/audit.md): what it says counts here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from earwitness.verify.notes import UnreadableError
from earwitness.verify.sealed import Finding

MAX_LINE: Final = 65_536
MAX_INDEX: Final = 1 << 30  # bytes of a list
_STATES: Final = ("filed", "deleted", "erased", "quarantined")
_SEGMENT = re.compile(r"entries-\d{6}\.jsonl")
_NAME = re.compile(r"tenants/(?:[a-z2-7]{26}|-)/recordings/([a-z2-7]{26})")


class IndexUnreadableError(UnreadableError):
    """The list or the log cannot be read as one."""


@dataclass(frozen=True)
class Last:
    """What the log said last of a recording."""

    state: str
    number: int  # of the entry
    position: int  # of the vault's journal


def last_states(lines: Iterable[bytes]) -> dict[str, Last]:
    """What the log says of each recording, by id. Lines that are withheld or not ours say nothing."""
    found: dict[str, Last] = {}
    for number, line in enumerate(lines):
        if b'"recording"' not in line or len(line) > MAX_LINE:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(record, dict):
            continue
        recording = record.get("recording")
        position = record.get("position")
        if not (isinstance(recording, str) and isinstance(position, int) and record.get("what") in _STATES):
            continue
        # An entry may come late, when its gaps became known: what the vault said last counts.
        if recording not in found or position >= found[recording].position:
            found[recording] = Last(record["what"], number, position)
    return found


def check_index(recordings: Iterable[Any], log: dict[str, Last]) -> list[Finding]:
    """What a list of recordings (as `earwitness recordings list --json` gives it) and the log do not agree about."""
    findings = []
    seen: set[str] = set()
    for one in recordings:
        name, said = (one.get("name"), one.get("state", "")) if isinstance(one, dict) else (None, None)
        named = _NAME.fullmatch(name) if isinstance(name, str) else None
        if named is None or not isinstance(said, str):
            raise IndexUnreadableError("the list has something that is no recording")
        recording_id = named[1]
        seen.add(recording_id)
        state = said.removeprefix("RECORDING_STATE_").lower()
        last = log.get(recording_id)
        if last is None:
            findings.append(Finding("RECORDING_UNLOGGED", f"{recording_id}: the log has no entry of it"))
        elif last.state == "erased" and state != "erased":
            findings.append(
                Finding(
                    "RECORDING_RESURRECTED",
                    f"{recording_id}: erased, says entry {last.number}, listed as {state}",
                )
            )
        elif last.state != state:
            findings.append(
                Finding(
                    "RECORDING_STALE",
                    f"{recording_id}: {last.state}, says entry {last.number}, listed as {state}",
                )
            )
    for recording_id, last in log.items():
        if recording_id not in seen:
            findings.append(
                Finding(
                    "RECORDING_MISSING",
                    f"{recording_id}: {last.state}, says entry {last.number}, is not listed",
                )
            )
    return findings


def read_index(path: Path) -> list[Any]:
    """A JSON array, an object with `recordings`, or an object a line. IndexUnreadableError; OSError."""
    if path.stat().st_size > MAX_INDEX:
        raise IndexUnreadableError("too large for a list of recordings")
    text = path.read_text("utf-8")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            raise IndexUnreadableError("not JSON") from None
    found = whole.get("recordings", [whole]) if isinstance(whole, dict) else whole
    if not isinstance(found, list):
        raise IndexUnreadableError("not a list of recordings")
    return found


def read_log(path: Path) -> Iterator[bytes]:
    """Lines of an exported log (a directory), or of one file of entries. IndexUnreadableError; OSError."""
    files = [path]
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if _SEGMENT.fullmatch(one.name))
    if not files:
        raise IndexUnreadableError("no log is there")
    for one in files:
        with one.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                yield line.rstrip(b"\n")
