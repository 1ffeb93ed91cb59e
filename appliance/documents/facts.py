"""What documents are made from: how things were at one time. None: not known then, and told so.

Numbers of people are counted, never listed. Times are nanoseconds since the Unix epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prompt:
    """Words that are played."""

    language: str
    text: str | None
    purposes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Period:
    """How long recordings of a line are kept. `waiting`: changes that do not hold yet, as sentences."""

    retention: str
    from_whom: str
    grace_days: int
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A service. `source`: beside the path of calls, or in it."""

    name: str
    state: str
    inline: bool
    directions: tuple[str, ...]
    numbers: int
    trunks: int
    catch_all: bool
    do_not_record: int
    announcement: tuple[Prompt, ...]
    announce_when: str
    interruptible: bool
    whisper: Prompt | None
    tone_s: int
    purposes: tuple[str, ...]
    rights: str
    agents_with_rights: int
    auto_resume_s: int
    listening: str
    media_encrypted: bool | None
    kept: Period | None


@dataclass(frozen=True)
class Purpose:
    """What recordings may be used for."""

    id: str
    name: str
    basis: str


@dataclass(frozen=True)
class Grant:
    """A support grant that is open."""

    id: str
    state: str
    purpose: str
    begin_ns: int | None
    end_ns: int
    recordings: int
    max_reads: int
    reads: int
    include_parties: bool
    people: tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """What is held of recordings, as the catalogue knows it."""

    filed: int
    deleted: int
    erased: int
    quarantined: int
    bytes: int
    oldest_ns: int | None
    newest_ns: int | None


@dataclass(frozen=True)
class Keys:
    """Who can open recordings."""

    attended: bool
    locked: bool
    pairs: int


@dataclass(frozen=True)
class Tenant:
    """A controller."""

    id: str
    name: str
    contact: str
    time_zone: str
    create_ns: int
    state: str
    lines: tuple[Line, ...]
    purposes: tuple[Purpose, ...]
    roles: tuple[tuple[str, tuple[str, ...]], ...]
    """Roles of the tenant, and names of those who have them and are not disabled."""
    grants: tuple[Grant, ...]
    held: Held
    keys: Keys | None
    holds: int | None
    restrictions: int
    notices: int
    staff: int
    not_acknowledged: int


@dataclass(frozen=True)
class Replica:
    """A copy of the vault elsewhere."""

    name: str
    backend: str


@dataclass(frozen=True)
class Vault:
    """What the vault says of itself."""

    backend: str
    free_bytes: int | None
    total_bytes: int | None
    stored_bytes: int
    ailments: tuple[str, ...]
    epoch: int
    last_shred_ns: int | None
    clock_frozen: bool


@dataclass(frozen=True)
class Audit:
    """How the log of who did what is."""

    entries: int
    generation: int
    origin: str
    forwarded: bool


@dataclass(frozen=True)
class Box:
    """What holds for every tenant."""

    version: str
    vault: Vault | None
    audit: Audit
    root_slot: str
    configured_backend: str
    replicas: tuple[Replica, ...]
    catalogue: str
    identity_providers: int
    alarm_channels: tuple[tuple[str, int], ...]
    roles: tuple[tuple[str, tuple[str, ...]], ...]
    tenants: tuple[tuple[str, str, str, int, int], ...] = ()
    """Name, state, contact, lines, recordings of each tenant, for documents of the box."""


@dataclass(frozen=True)
class AlarmKind:
    """Alarms of one kind in a span."""

    kind: str
    title: str
    severity: str
    count: int
    stood_ns: int
    unacknowledged: int
    open: int


@dataclass(frozen=True)
class Calls:
    """Calls recorded in a span."""

    recordings: int = 0
    duration_ns: int = 0
    gap_recordings: int = 0
    gaps: int = 0
    lost_ns: int = 0
    recovered: int = 0
    median_delay_ns: int | None = None
    high_delay_ns: int | None = None
    longest_delay_ns: int | None = None


@dataclass(frozen=True)
class Complete:
    """Whether what was contracted was recorded."""

    days: int
    silent: int
    expected: int
    missing: int
    faults: int

    @property
    def ratio(self) -> float | None:
        """None where no call was contracted."""
        return (self.expected - self.missing) / self.expected if self.expected else None


@dataclass(frozen=True)
class Span:
    """From when to when (exclusive), and how it is called. `until_ns` may be later than now."""

    from_ns: int
    until_ns: int
    label: str


@dataclass(frozen=True)
class ReadCounts:
    """How many reads."""

    reads: int = 0
    overrides: int = 0
    not_announced: int = 0
    granted: int = 0
    refusals: int = 0
    recordings: int = 0


@dataclass(frozen=True)
class Override:
    """A read for what was not announced. `told`: why can be read in the box; else its recording was erased."""

    at_ns: int
    who: str
    purpose: str
    recording: str
    told: bool


@dataclass(frozen=True)
class GrantUse:
    """How often a grant was used in a span."""

    id: str
    purpose: str
    people: tuple[str, ...]
    uses: int


@dataclass(frozen=True)
class Access:
    """Reads of a tenant's recordings in a span."""

    total: ReadCounts
    by_purpose: tuple[tuple[str, ReadCounts], ...] = ()
    by_role: tuple[tuple[str, ReadCounts], ...] = ()
    by_person: tuple[tuple[str, ReadCounts], ...] = ()
    overrides: tuple[Override, ...] = ()
    refusals: tuple[tuple[str, int], ...] = ()
    grants: tuple[GrantUse, ...] = field(default=())
