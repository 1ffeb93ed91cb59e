"""What goes into the catalogue and comes out of it. Times are nanoseconds since the Unix epoch."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from appliance.catalog import values
from appliance.model import Direction, Mark, MarkKind, RecordingInfo, Role

Item = TypeVar("Item")

# What one recording may add to the catalogue at most: its content comes from the network in the end.
MAX_PARTIES = 64
MAX_TRACKS = 256
MAX_MARKS = 4096
MAX_IDENTIFIERS = 32
MAX_FLAGS = 32
MAX_TEXT = 300

UNREADABLE = "info-unreadable"
TRUNCATED = "catalogue-truncated"


class State(enum.StrEnum):
    """Where a recording is in its life."""

    FILED = "filed"
    DELETED = "deleted"
    ERASED = "erased"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Certificate:
    """Proof of erasure, as the vault signed it."""

    epoch: int
    erased_ns: int
    reason: str
    signature: bytes
    device_public_key: bytes
    version: int = 1
    log_number: int = 0
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True)
class SidecarHead:
    """How far what was added to a recording later goes: entries, and SHA-256 (lower-case hexadecimal) of the last seal.

    `begun`: how often it was begun anew, because the one before was damaged.
    """

    entries: int
    sha256: str
    begun: int = 0


@dataclass(frozen=True)
class Held:
    """What the vault says of a recording."""

    recording_id: str
    tenant_id: str
    line_id: str
    slice: str
    state: State
    size: int
    whole: bool
    reason: str
    since_ns: int
    created_ns: int
    certificate: Certificate | None = None
    sidecar: SidecarHead | None = None


@dataclass(frozen=True)
class PartyRow:
    aor: str
    number: str
    name: str
    role: Role


@dataclass(frozen=True)
class TrackRow:
    track: int
    label: str
    party: int  # index into the parties; -1: not known
    encodings: tuple[str, ...]


@dataclass(frozen=True)
class MarkRow:
    kind: MarkKind
    at_ns: int
    until_ns: int | None
    actor: str
    reason: str
    track: int
    data: dict[str, str | int | float | bool]


@dataclass(frozen=True)
class Description:
    """What a recording's content says of it."""

    start_ns: int
    end_ns: int | None
    call_id: str = ""
    part: int = 1
    direction: Direction = Direction.UNKNOWN
    source: str = ""
    sip_call_id: str = ""
    parties: tuple[PartyRow, ...] = ()
    tracks: tuple[TrackRow, ...] = ()
    marks: tuple[MarkRow, ...] = ()
    identifiers: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    sha256: str = ""  # of the sealed file

    @property
    def duration_ns(self) -> int:
        return 0 if self.end_ns is None else max(0, self.end_ns - self.start_ns)

    @classmethod
    def of(
        cls,
        info: RecordingInfo,
        marks: Iterable[Mark],
        end_ns: int | None,
        sha256: str,
        more_flags: Iterable[str] = (),
    ) -> Description:
        """What is kept of a recording's INFO and marks. What is too much is cut, and flagged."""
        cut = _Cut()
        parties = cut.some(info.parties, MAX_PARTIES)
        return cls(
            start_ns=info.started_ns,
            end_ns=end_ns,
            call_id=cut.text(info.call_id, 64),
            part=max(1, min(info.part, 2**31 - 1)),
            direction=info.direction,
            source=cut.text(info.source, 16),
            sip_call_id=cut.text(info.sip_call_id),
            parties=tuple(
                PartyRow(cut.text(p.aor), values.number_of(p.aor), cut.text(p.name), p.role) for p in parties
            ),
            tracks=tuple(
                TrackRow(
                    t.track,
                    cut.text(t.label, 100),
                    t.party if 0 <= t.party < len(parties) else -1,
                    tuple(dict.fromkeys(cut.text(f.encoding, 40) for f in t.formats))[:32],
                )
                for t in {t.track: t for t in cut.some(info.tracks, MAX_TRACKS)}.values()
                if 0 <= t.track < 2**31
            ),
            marks=tuple(
                MarkRow(
                    m.kind,
                    m.at_ns,
                    _until(m),
                    cut.text(m.actor),
                    cut.text(m.reason),
                    m.track,
                    {cut.text(k, 64): cut.value(v) for k, v in list(m.data.items())[:32]},
                )
                for m in cut.some(sorted(marks, key=lambda mark: mark.at_ns), MAX_MARKS)
                if abs(m.at_ns) < 2**63 and -1 <= m.track < 2**31
            ),
            identifiers=tuple(
                dict.fromkeys(cut.text(s) for s in cut.some(info.session_ids, MAX_IDENTIFIERS))
            ),
            flags=tuple(
                sorted(
                    {cut.text(f, 64) for f in cut.some(info.flags, MAX_FLAGS)} | {*more_flags, *cut.flags()}
                )
            ),
        )

    @classmethod
    def unreadable(cls, held: Held) -> Description:
        """Of a recording whose content cannot be read: it can still be found by time, tenant and line."""
        return cls(start_ns=held.created_ns, end_ns=None, flags=(UNREADABLE,))


class _Cut:
    def __init__(self) -> None:
        self._any = False

    def text(self, text: str, limit: int = MAX_TEXT) -> str:
        clean = text.replace("\0", "")  # PostgreSQL keeps no NUL
        self._any |= len(clean) > limit
        return clean[:limit]

    def value(self, value: str | int | float | bool) -> str | int | float | bool:
        return self.text(value) if isinstance(value, str) else value

    def some(self, items: Iterable[Item], limit: int) -> list[Item]:
        all_items = list(items)
        self._any |= len(all_items) > limit
        return all_items[:limit]

    def flags(self) -> set[str]:
        return {TRUNCATED} if self._any else set()


def _until(mark: Mark) -> int | None:
    until = mark.data.get("until_ns")
    return int(until) if isinstance(until, int | float) and abs(until) < 2**63 else None


@dataclass(frozen=True)
class Recording:
    """A recording as the catalogue knows it."""

    recording_id: str
    tenant_id: str
    line_id: str
    slice: str
    state: State
    state_ns: int
    state_reason: str
    etag: str
    size: int
    whole: bool
    described: bool
    start_ns: int
    end_ns: int | None
    duration_ns: int
    call_id: str
    part: int
    direction: Direction
    source: str
    sip_call_id: str
    sha256: str
    parties: tuple[PartyRow, ...] = ()
    tracks: tuple[TrackRow, ...] = ()
    marks: tuple[MarkRow, ...] = ()
    identifiers: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    certificate: Certificate | None = None
    restricted: bool = False  # kept, and not read


def etag_of(*parts: object) -> str:
    """An etag that follows from what it stands for, so that a rebuilt catalogue gives the same."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:20]
