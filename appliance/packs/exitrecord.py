"""What an exit pack says of each recording, as JSON and as CSV. Pure: rows of the catalogue in, plain values out.

docs/schemas/exit-pack-recording.schema.json and exit-pack-index.schema.json say the same; they are in each pack.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from appliance.catalog.additions import Note
from appliance.catalog.reads import Read
from appliance.catalog.records import Certificate, MarkRow, Recording, State
from appliance.catalog.reviews import Review
from appliance.packs.manifest import Entry

SCHEMA: Final = "earwitness.example/exit-pack-recording/v1"
INDEX_SCHEMA: Final = "earwitness.example/exit-pack-index/v1"
COLUMNS: Final = (
    "recording", "state", "restricted", "line", "line_name", "call", "part", "start", "duration_s", "direction",
    "caller_number", "caller_name", "agent_number", "agent_name", "other_parties", "flags", "tags", "folder", "files",
    "problem",
)  # fmt: skip
# What a spreadsheet would take for a formula; a number with its plus is none.
_FORMULA: Final = ("=", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Whole:
    """All that is known of a recording."""

    row: Recording
    notes: Sequence[Note] = ()
    reads: Sequence[Read] = ()
    restrictions: Sequence[str] = ()
    line_name: str = ""
    reviews: Sequence[Review] = ()


def folder(recording_id: str) -> str:
    """Where a recording's files are in the pack: two letters of its id apart, so that no folder grows too large."""
    return f"recordings/{recording_id[:2]}/{recording_id}"


def moment(ns: int) -> str:
    """RFC 3339 in UTC, to the nanosecond."""
    seconds, rest = divmod(ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _moment(ns: int | None) -> str | None:
    return None if ns is None else moment(ns)


def document(whole: Whole) -> dict[str, Any]:
    """A recording's own JSON file."""
    row = whole.row
    return {
        "schema": SCHEMA,
        "recording": row.recording_id,
        "tenant": row.tenant_id,
        "line": row.line_id,
        "line_name": whole.line_name,
        "call": row.call_id,
        "part": row.part,
        "state": row.state.value,
        "state_time": moment(row.state_ns),
        "state_reason": row.state_reason,
        "restrictions": list(whole.restrictions),
        "described": row.described,
        "whole": row.whole,
        "start_time": moment(row.start_ns),
        "end_time": _moment(row.end_ns),
        "duration_ns": row.duration_ns,
        "direction": row.direction.value,
        "source": row.source,
        "sip_call_id": row.sip_call_id,
        "session_ids": list(row.identifiers),
        "parties": [
            {"address": one.aor, "number": one.number, "name": one.name, "role": one.role.value}
            for one in row.parties
        ],
        "tracks": [
            {
                "track": one.track,
                "label": one.label,
                "party": one.party if one.party >= 0 else None,
                "encodings": list(one.encodings),
            }
            for one in row.tracks
        ],
        "marks": [_mark(one, row.start_ns) for one in row.marks],
        "flags": list(row.flags),
        "tags": list(row.tags),
        "notes": [
            {
                "note": one.note_id,
                "text": one.text,
                "offset_ns": one.offset_ns,
                "author": one.author,
                "create_time": moment(one.create_ns),
                "editor": one.editor,
                "update_time": moment(one.update_ns),
            }
            for one in whole.notes
        ],
        "reads": [
            {
                "time": moment(one.at_ns),
                "kind": one.kind,
                "identity": one.identity,
                "roles": list(one.roles),
                "purpose": one.purpose,
                "told": one.source,
                "refused": one.refused,
                "override_reason": one.override_reason,
                "goes_on": one.resumed,
            }
            for one in whole.reads
        ],
        "sealed": {"size": row.size, "sha256": row.sha256},
    }


def _mark(one: MarkRow, start_ns: int) -> dict[str, Any]:
    return {
        "kind": one.kind.value,
        "time": moment(one.at_ns),
        "offset_ns": one.at_ns - start_ns,
        "until": _moment(one.until_ns),
        "actor": one.actor,
        "reason": one.reason,
        "track": one.track,
        "data": dict(one.data),
    }


def tombstone(row: Recording) -> dict[str, Any]:
    """An erased recording: that it was, when it went, and the box's word for it."""
    return {
        "recording": row.recording_id,
        "line": row.line_id,
        "state": State.ERASED.value,
        "erase_time": moment(row.state_ns),
        "reason": row.state_reason,
        "certificate": None if row.certificate is None else _certificate(row.certificate),
    }


def _certificate(proof: Certificate) -> dict[str, Any]:
    return {
        "version": proof.version,
        "epoch": proof.epoch,
        "erase_time_ns": proof.erased_ns,
        "reason": proof.reason,
        "log_number": proof.log_number,
        "replicas": list(proof.replicas),
        "signature": proof.signature.hex(),
        "device_public_key": proof.device_public_key.hex(),
    }


@dataclass(frozen=True)
class Row:
    """A recording in the index."""

    whole: Whole
    entries: Sequence[Entry] = ()
    problem: str = ""

    def document(self) -> dict[str, Any]:
        """As it stands in index.json."""
        row = self.whole.row
        return {
            "recording": row.recording_id,
            "state": row.state.value,
            "restricted": bool(self.whole.restrictions),
            "line": row.line_id,
            "line_name": self.whole.line_name,
            "call": row.call_id,
            "part": row.part,
            "start_time": moment(row.start_ns),
            "duration_ns": row.duration_ns,
            "direction": row.direction.value,
            "parties": [
                {"number": one.number, "name": one.name, "role": one.role.value} for one in row.parties
            ],
            "flags": list(row.flags),
            "tags": list(row.tags),
            "files": [one.path for one in self.entries],
            "problem": self.problem,
        }

    def cells(self) -> list[str]:
        """As it stands in index.csv, after COLUMNS."""
        row, sides = self.whole.row, {"caller": ("", ""), "agent": ("", "")}
        others = []
        for one in row.parties:
            if sides.get(one.role.value) == ("", ""):
                sides[one.role.value] = (one.number, one.name)
            else:
                others.append(" ".join(filter(None, (one.number, one.name))))
        values = [
            row.recording_id,
            row.state.value,
            "yes" if self.whole.restrictions else "no",
            row.line_id,
            self.whole.line_name,
            row.call_id,
            str(row.part),
            moment(row.start_ns),
            f"{row.duration_ns / 1e9:.3f}",
            row.direction.value,
            *sides["caller"],
            *sides["agent"],
            "; ".join(others),
            " ".join(row.flags),
            "; ".join(row.tags),
            folder(row.recording_id) if self.entries else "",
            " ".join(one.path.rsplit("/", 1)[-1] for one in self.entries),
            self.problem,
        ]
        return [_harmless(value) for value in values]


def _harmless(text: str) -> str:
    """What came from the network is text to a spreadsheet, never a formula: an apostrophe goes before it."""
    formula = text.startswith(_FORMULA) or (text.startswith("+") and not text[1:].isdigit())
    return f"'{text}" if formula else text


def csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    """RFC 4180."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
