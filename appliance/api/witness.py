"""Writes into the audit log what the vault says of recordings, so that their order and their content can be proved.

Before the catalogue takes it up: what cannot be written down is not taken up, and is asked for again. A stop between the
two writes an entry a second time; entries carry the vault's position, so that a reader sees that.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any, Final

from appliance.api import names
from appliance.audit import entry
from appliance.audit.trail import Trail
from appliance.catalog.records import UNREADABLE, Description, Held, MarkRow, Recording, State
from appliance.catalog.witnessed import Witnessed
from appliance.model import MarkKind

_MS: Final = 1_000_000
# What takes time out of a recording, with what ends it again.
_ENDS: Final = {
    MarkKind.PAUSED: MarkKind.RESUMED,
    MarkKind.HELD: MarkKind.UNHELD,
}
_STRETCHES: Final = frozenset({MarkKind.GAP, MarkKind.NO_MEDIA, MarkKind.RESTARTED, MarkKind.STOPPED})


def gaps_of(description: Description | Recording) -> list[list[Any]]:
    """Stretches of which nothing, or not all, was kept: [kind, from, until or null, track], in ms from the beginning."""
    open_at: dict[tuple[MarkKind, int], int] = {}
    found: list[list[Any]] = []

    def offset(at_ns: int) -> int:
        return (at_ns - description.start_ns) // _MS

    for mark in sorted(description.marks, key=lambda one: one.at_ns):
        kind = mark.kind
        if kind in _ENDS:
            open_at.setdefault((kind, mark.track), mark.at_ns)
        elif kind in _ENDS.values():
            begun = next(one for one, end in _ENDS.items() if end is kind)
            if (began_ns := open_at.pop((begun, mark.track), None)) is not None:
                found.append([begun.value, offset(began_ns), offset(mark.at_ns), mark.track])
        elif kind in _STRETCHES:
            found.append([kind.value, offset(mark.at_ns), _until(mark, offset), mark.track])
    found += [[kind.value, offset(at_ns), None, track] for (kind, track), at_ns in open_at.items()]
    return sorted(found, key=lambda one: (one[1], one[0], one[3]))


def _until(mark: MarkRow, offset: Any) -> int | None:
    return None if mark.until_ns is None else int(offset(mark.until_ns))


def digest_of(gaps: list[list[Any]]) -> str:
    """SHA-256, lower-case hexadecimal, of the gaps as JSON without spaces."""
    return hashlib.sha256(json.dumps(gaps, separators=(",", ":")).encode()).hexdigest()


class Witness:
    """See the module."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    async def said(
        self, held: Held, position: int, content: Description | Recording | None, sha256: str
    ) -> Witnessed | None:
        """Write down what the vault says of a recording at a position of its journal. AuditUnavailableError.

        `content`: what is known of it, where something is; `sha256`: of the sealed file. Gives what evidence is made of,
        where the recording is filed.
        """
        record: dict[str, object] = {
            "time_ns": time.time_ns(),
            "what": held.state.value,
            "tenant": held.tenant_id,
            "subject": names.recording(held.tenant_id, held.recording_id),
            "recording": held.recording_id,
            "line": held.line_id,
            "position": position,
        }
        gaps: list[list[Any]] | None = None
        if held.state is State.FILED:
            record |= {"sha256": sha256, "size": held.size, "whole": held.whole}
            if held.sidecar is not None:
                # What was added to it is as much in evidence as it itself: a tail that is cut off later is found.
                record |= {"sidecar_entries": held.sidecar.entries, "sidecar_sha256": held.sidecar.sha256}
                if held.sidecar.begun:
                    record["sidecar_begun"] = held.sidecar.begun
            if content is not None and UNREADABLE not in content.flags:
                gaps = gaps_of(content)
                record |= {"gaps": len(gaps), "gaps_sha256": digest_of(gaps)}
        elif held.certificate is not None:
            record |= {"epoch": held.certificate.epoch, "log_number": held.certificate.log_number}
        number = await self._trail.append(record, durable=True)
        if held.state is not State.FILED:
            return None
        line = entry.pack(record).decode()
        return Witnessed(held.recording_id, number, line, gaps)
