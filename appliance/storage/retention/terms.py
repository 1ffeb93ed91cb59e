"""What a policy says, for whom, and how it may change: the words of policy.py."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from appliance.model import is_id
from appliance.storage.names import SliceUnit
from appliance.storage.retention.errors import PolicyError
from appliance.storage.retention.period import Period

DEFAULT_COOLING_DAYS: Final = 7
MAX_GRACE_DAYS: Final = 3650
MAX_COOLING_DAYS: Final = 365


class PolicyField(enum.StrEnum):
    """What a scope may say. COOLING is the box's alone."""

    RETENTION = "retention"
    GRACE = "grace"
    UNIT = "unit"
    COOLING = "cooling"


@dataclass(frozen=True, slots=True, order=True)
class PolicyScope:
    """Whom a policy is for: the box (both empty), a tenant, or one of its lines."""

    tenant_id: str = ""
    line_id: str = ""

    def __post_init__(self) -> None:
        known = is_id(self.tenant_id) if self.tenant_id else not self.line_id
        if not known or (self.line_id and not is_id(self.line_id)):
            raise PolicyError("a scope is the box, a tenant id, or a tenant and a line id", field="scope")

    def __str__(self) -> str:
        return (
            f"line {self.line_id}"
            if self.line_id
            else f"tenant {self.tenant_id}"
            if self.tenant_id
            else "box"
        )

    @property
    def chain(self) -> tuple[PolicyScope, ...]:
        """Itself, then what it inherits from."""
        tenant = (PolicyScope(self.tenant_id),) if self.line_id else ()
        return (self, *tenant, *((PolicyScope(),) if self.tenant_id else ()))


@dataclass(frozen=True, slots=True)
class Policy:
    """What one scope says; None inherits. `grace_days`: how long a deleted recording can be undeleted.

    `unit`: how long the slices of its buckets are; inherits too, and where nobody says follows from the retention.
    """

    retention: Period | None = None
    grace_days: int | None = None
    unit: SliceUnit | None = None

    def __post_init__(self) -> None:
        if self.grace_days is not None and not 0 <= self.grace_days <= MAX_GRACE_DAYS:
            raise PolicyError(f"should be 0 to {MAX_GRACE_DAYS} days", field="grace_days")


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds for a line at a time, and which scope said so (`unit_scope` None: follows from the retention)."""

    retention: Period
    grace_days: int
    unit: SliceUnit
    retention_scope: PolicyScope
    grace_scope: PolicyScope
    unit_scope: PolicyScope | None = None


@dataclass(frozen=True, slots=True)
class ScopedPolicy:
    """A row of the book."""

    scope: PolicyScope
    policy: Policy


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What somebody wants: these fields of this scope as in `policy` (None: inherit again), the others as they are.

    `cooling_days` counts where `fields` has COOLING, which is the box's alone.
    """

    scope: PolicyScope
    policy: Policy = Policy()
    fields: tuple[PolicyField, ...] = (PolicyField.RETENTION, PolicyField.GRACE, PolicyField.UNIT)
    cooling_days: int = DEFAULT_COOLING_DAYS

    def __post_init__(self) -> None:
        if not self.fields or len(set(self.fields)) != len(self.fields):
            raise PolicyError("a change names each field once, and at least one", field="fields")
        if PolicyField.COOLING in self.fields:
            if self.scope != PolicyScope():
                raise PolicyError("the cooling-off is the box's alone", field="cooling_days")
            if not 0 <= self.cooling_days <= MAX_COOLING_DAYS:
                raise PolicyError(f"should be 0 to {MAX_COOLING_DAYS} days", field="cooling_days")


@dataclass(frozen=True, slots=True)
class PendingChange:
    """One field of one scope, waiting to take effect."""

    scope: PolicyScope
    field: PolicyField
    policy: Policy
    cooling_days: int
    made_ns: int
    effective_ns: int
    who: str


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """What was done: set, pending, replaced, cancelled or took-effect. Values as text; "" inherits."""

    at_ns: int
    who: str
    what: str
    scope: PolicyScope
    field: PolicyField
    old: str
    new: str
    effective_ns: int


@dataclass(frozen=True, slots=True)
class ChangePart:
    """What would become of one field. `old` and `new` are what the scope says; `effective_ns` when.

    `replaces`: what waits now and will not take effect any more.
    """

    field: PolicyField
    old: str
    new: str
    shortens: bool
    effective_ns: int
    replaces: tuple[PendingChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What a change would do: `before` holds for the scope now, `after` when all of it has taken effect."""

    scope: PolicyScope
    parts: tuple[ChangePart, ...]
    before: Effective
    after: Effective

    @property
    def shortens(self) -> bool:
        """Whether any of it has to wait for the cooling-off."""
        return any(part.shortens for part in self.parts)
