"""How long recordings are kept: policies of the box, of tenants and of lines, and changes that wait to take effect.

Shortening takes effect after a cooling-off, lengthening at once. All times are the retention clock's (nanoseconds since
the Unix epoch), so that no change of the wall clock shortens a cooling-off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from pydantic import TypeAdapter

from appliance.storage.retention.errors import PolicyError, PolicyPendingError, PolicyVersionError
from appliance.storage.retention.period import DAY_NS, Period, PeriodUnit, unit_for
from appliance.storage.retention.terms import (
    DEFAULT_COOLING_DAYS,
    MAX_COOLING_DAYS,
    MAX_GRACE_DAYS,
    Change,
    ChangePart,
    Effective,
    PendingChange,
    Policy,
    PolicyChange,
    PolicyEvent,
    PolicyField,
    PolicyScope,
    ScopedPolicy,
)

__all__ = [
    "DEFAULT_COOLING_DAYS",
    "DEFAULT_GRACE_DAYS",
    "DEFAULT_RETENTION",
    "MAX_COOLING_DAYS",
    "MAX_GRACE_DAYS",
    "MAX_HISTORY",
    "MAX_SCOPES",
    "POLICY_BOOK",
    "POLICY_CHANGE",
    "Change",
    "ChangePart",
    "Effective",
    "PendingChange",
    "Policy",
    "PolicyBook",
    "PolicyChange",
    "PolicyEvent",
    "PolicyField",
    "PolicyScope",
    "ScopedPolicy",
    "preview",
]

DEFAULT_RETENTION: Final = Period(3, PeriodUnit.YEAR)
DEFAULT_GRACE_DAYS: Final = 30
MAX_SCOPES: Final = 20_000
MAX_HISTORY: Final = 1_000
MAX_WHO: Final = 200


@dataclass(frozen=True)
class PolicyBook:
    """All policies. Every change makes a new book with a higher `version`."""

    version: int = 0
    cooling_days: int = DEFAULT_COOLING_DAYS
    policies: tuple[ScopedPolicy, ...] = ()
    pending: tuple[PendingChange, ...] = ()
    history: tuple[PolicyEvent, ...] = ()

    @cached_property
    def _said(self) -> dict[PolicyScope, Policy]:
        return {row.scope: row.policy for row in self.policies}

    @cached_property
    def _waiting(self) -> dict[PolicyScope, tuple[PendingChange, ...]]:
        waiting: dict[PolicyScope, tuple[PendingChange, ...]] = {}
        for change in sorted(self.pending, key=lambda change: change.effective_ns):
            waiting[change.scope] = (*waiting.get(change.scope, ()), change)
        return waiting

    # Asking.

    def said(self, scope: PolicyScope, at_ns: int) -> Policy:
        """What this scope itself says at a time."""
        policy = self._said.get(scope, Policy())
        for change in self._waiting.get(scope, ()):
            if change.effective_ns <= at_ns:
                policy = _with(policy, change.field, change.policy)
        return policy

    def cooling(self, at_ns: int) -> int:
        """Days of cooling-off that a shortening made at that time would wait."""
        days = self.cooling_days
        for change in self._waiting.get(PolicyScope(), ()):
            if change.field is PolicyField.COOLING and change.effective_ns <= at_ns:
                days = change.cooling_days
        return days

    def effective(self, tenant_id: str, line_id: str, at_ns: int) -> Effective:
        """What holds for a line (or, with an empty line id, a tenant without its lines' own) at a time."""
        return self._effective(PolicyScope(tenant_id, line_id), at_ns)

    def _effective(self, scope: PolicyScope, at_ns: int) -> Effective:
        said = [(each, self.said(each, at_ns)) for each in scope.chain]
        box = PolicyScope()
        keep, keeper = next(
            ((policy.retention, each) for each, policy in said if policy.retention), (DEFAULT_RETENTION, box)
        )
        grace, gracer = next(
            ((policy.grace_days, each) for each, policy in said if policy.grace_days is not None),
            (DEFAULT_GRACE_DAYS, box),
        )
        unit = next(((policy.unit, each) for each, policy in said if policy.unit), None)
        return Effective(
            keep, grace, unit[0] if unit else unit_for(keep), keeper, gracer, unit[1] if unit else None
        )

    def moments(self, tenant_id: str, line_id: str, at_ns: int) -> tuple[int, ...]:
        """`at_ns`, and each later time at which a change that waits may alter what holds there, in order."""
        chain = PolicyScope(tenant_id, line_id).chain
        later = {change.effective_ns for each in chain for change in self._waiting.get(each, ())}
        return (at_ns, *sorted(when for when in later if when > at_ns))

    def until(self, tenant_id: str, line_id: str, at_ns: int, ends: Callable[[Effective], int]) -> int:
        """The first time from `at_ns` on at which `ends` of what then holds is reached, changes that wait included."""
        moments = self.moments(tenant_id, line_id, at_ns)
        for when, following in zip(moments, (*moments[1:], None), strict=True):
            reached = max(when, ends(self.effective(tenant_id, line_id, when)))
            if following is None or reached < following:
                return reached
        raise AssertionError("there is always a last moment")

    # Changing.

    def set(self, change: PolicyChange, at_ns: int, who: str, *, version: int | None = None) -> PolicyBook:
        """The book with that change, shortening parts of it pending; PolicyVersionError where `version` is another."""
        _check_who(who)
        if version is not None and version != self.version:
            raise PolicyVersionError("the policies changed since they were read", version=self.version)
        book = self.settled(at_ns)
        for part in preview(book, change, at_ns).parts:
            book = book._put(change, part, at_ns, who)
        if len(book.policies) > MAX_SCOPES:
            raise PolicyError(f"at most {MAX_SCOPES} scopes have a policy of their own", field="scope")
        return replace(book, version=self.version + 1)

    def remove(self, scope: PolicyScope, at_ns: int, who: str, *, version: int | None = None) -> PolicyBook:
        """The scope inherits again; that may be a shortening, which waits."""
        return self.set(PolicyChange(scope), at_ns, who, version=version)

    def cancel(self, scope: PolicyScope, field: PolicyField, at_ns: int, who: str) -> PolicyBook:
        """Takes back a change that has not taken effect; PolicyPendingError where there is none.

        The scope says again what it says now. Where that would shorten something (it would have inherited less than
        the change that waits), this waits in turn.
        """
        _check_who(who)
        book = self.settled(at_ns)
        if not book._pending_of(scope, field):
            raise PolicyPendingError("no change of this waits to take effect", field=field.value)
        back = PolicyChange(scope, _only(field, book.said(scope, at_ns)), (field,), book.cooling(at_ns))
        (part,) = preview(book, back, at_ns).parts
        return replace(book._put(back, part, at_ns, who, "cancelled"), version=self.version + 1)

    def settled(self, at_ns: int) -> PolicyBook:
        """The same with what has taken effect by then written as in force; itself where nothing has."""
        book = self
        for due in sorted(self.pending, key=lambda change: change.effective_ns):
            if due.effective_ns <= at_ns:
                wanted = PolicyChange(due.scope, due.policy, (due.field,), due.cooling_days)
                left = tuple(each for each in book.pending if each is not due)
                book = book._noting(due, "took-effect", at_ns, due.who)._saying(wanted, due.field)
                book = replace(book, pending=left)
        return book if book is self else replace(book, version=self.version + 1)

    def _put(
        self, change: PolicyChange, part: ChangePart, at_ns: int, who: str, replaced: str = "replaced"
    ) -> PolicyBook:
        """One part of a change in its place."""
        before = self._pending_of(change.scope, part.field)
        if part.effective_ns > at_ns:
            pending = PendingChange(
                change.scope,
                part.field,
                _only(part.field, change.policy),
                change.cooling_days,
                at_ns,
                part.effective_ns,
                who,
            )
            kept = self._still_waiting(change.scope, part.field, at_ns, part.effective_ns)
            book = self._without_pending(change.scope, part.field)
            book = replace(book, pending=(*book.pending, *kept, pending))
        else:
            kept, book = (), self._as_if(change, part.field)
        for each in before:
            book = book if each in kept else book._noting(each, replaced, at_ns, who)
        if part.old == part.new and part.effective_ns <= at_ns:
            return book
        what = "pending" if part.effective_ns > at_ns else "set"
        event = PolicyEvent(at_ns, who, what, change.scope, part.field, part.old, part.new, part.effective_ns)
        return replace(book, history=(*book.history, event)[-MAX_HISTORY:])

    def _still_waiting(
        self, scope: PolicyScope, field: PolicyField, at_ns: int, until_ns: int
    ) -> tuple[PendingChange, ...]:
        """What waits already and has to take effect before a new change does, at `until_ns`.

        Nothing, as a rule: the new takes its place. But where the scope would inherit less in between than what waits
        gives it, dropping that would be a shortening without its cooling-off.
        """
        without = self._without_pending(scope, field)
        between = [when for when in self.moments(scope.tenant_id, scope.line_id, at_ns) if when < until_ns]
        if not any(_shorter(field, without, self, scope, when) for when in between):
            return ()
        return tuple(each for each in self._pending_of(scope, field) if each.effective_ns < until_ns)

    def as_if(self, change: PolicyChange) -> PolicyBook:
        """The book as it would be with the change in force now: for a list of what it would destroy."""
        book = self
        for each in change.fields:
            book = book._as_if(change, each)
        return book

    def _as_if(self, change: PolicyChange, field: PolicyField) -> PolicyBook:
        return self._without_pending(change.scope, field)._saying(change, field)

    def _saying(self, change: PolicyChange, field: PolicyField) -> PolicyBook:
        if field is PolicyField.COOLING:
            return replace(self, cooling_days=change.cooling_days)
        policy = _with(self._said.get(change.scope, Policy()), field, change.policy)
        others = [row for row in self.policies if row.scope != change.scope]
        rows = others if policy == Policy() else [*others, ScopedPolicy(change.scope, policy)]
        return replace(self, policies=tuple(sorted(rows, key=lambda row: row.scope)))

    def _pending_of(self, scope: PolicyScope, field: PolicyField) -> tuple[PendingChange, ...]:
        return tuple(each for each in self.pending if each.scope == scope and each.field is field)

    def _without_pending(self, scope: PolicyScope, field: PolicyField) -> PolicyBook:
        left = tuple(each for each in self.pending if (each.scope, each.field) != (scope, field))
        return self if left == self.pending else replace(self, pending=left)

    def _noting(self, change: PendingChange, what: str, at_ns: int, who: str) -> PolicyBook:
        old = _text(change.field, self._said.get(change.scope, Policy()), self.cooling_days)
        new = _text(change.field, change.policy, change.cooling_days)
        event = PolicyEvent(at_ns, who, what, change.scope, change.field, old, new, change.effective_ns)
        return replace(self, history=(*self.history, event)[-MAX_HISTORY:])


def preview(book: PolicyBook, change: PolicyChange, at_ns: int) -> Change:
    """What the change would do if it were made now. Whether holds keep anything longer the caller has to say."""
    settled = book.settled(at_ns)
    parts = tuple(_parts(settled, change, at_ns))
    return Change(
        change.scope,
        parts,
        settled._effective(change.scope, at_ns),
        settled.as_if(change)._effective(change.scope, max(part.effective_ns for part in parts)),
    )


def _parts(book: PolicyBook, change: PolicyChange, at_ns: int) -> Iterator[ChangePart]:
    waits_ns = book.cooling(at_ns) * DAY_NS
    for field in change.fields:
        changed = book._as_if(change, field)
        # Also against what is pending elsewhere: who begins to inherit a shorter retention waits in full, too.
        moments = book.moments(change.scope.tenant_id, change.scope.line_id, at_ns)
        shortens = any(_shorter(field, changed, book, change.scope, when) for when in moments)
        effective_ns = at_ns + waits_ns if shortens else at_ns
        waiting = book._pending_of(change.scope, field)
        kept = book._still_waiting(change.scope, field, at_ns, effective_ns) if shortens else ()
        yield ChangePart(
            field,
            _text(field, book.said(change.scope, at_ns), book.cooling(at_ns)),
            _text(field, change.policy, change.cooling_days),
            shortens,
            effective_ns,
            tuple(each for each in waiting if each not in kept),
        )


def _shorter(field: PolicyField, new: PolicyBook, old: PolicyBook, scope: PolicyScope, at_ns: int) -> bool:
    match field:
        case PolicyField.RETENTION:
            kept = new._effective(scope, at_ns).retention
            return kept.ever_shorter_than(old._effective(scope, at_ns).retention, at_ns)
        case PolicyField.GRACE:
            return new._effective(scope, at_ns).grace_days < old._effective(scope, at_ns).grace_days
        case PolicyField.COOLING:
            return new.cooling(at_ns) < old.cooling(at_ns)
        case PolicyField.UNIT:
            return False  # a slice ends after what is in it began, whatever its length


def _with(policy: Policy, field: PolicyField, other: Policy) -> Policy:
    match field:
        case PolicyField.RETENTION:
            return replace(policy, retention=other.retention)
        case PolicyField.GRACE:
            return replace(policy, grace_days=other.grace_days)
        case PolicyField.UNIT:
            return replace(policy, unit=other.unit)
        case PolicyField.COOLING:
            return policy


def _only(field: PolicyField, policy: Policy) -> Policy:
    return _with(Policy(), field, policy)


def _text(field: PolicyField, policy: Policy, cooling_days: int) -> str:
    match field:
        case PolicyField.RETENTION:
            return str(policy.retention or "")
        case PolicyField.GRACE:
            return "" if policy.grace_days is None else f"{policy.grace_days} days"
        case PolicyField.UNIT:
            return str(policy.unit or "")
        case PolicyField.COOLING:
            return f"{cooling_days} days"


def _check_who(who: str) -> None:
    if not 1 <= len(who) <= MAX_WHO:
        raise PolicyError("it must be said who changes it", field="who")


POLICY_BOOK = TypeAdapter(PolicyBook)
POLICY_CHANGE = TypeAdapter(PolicyChange)
