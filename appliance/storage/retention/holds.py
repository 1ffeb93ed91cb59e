"""Legal holds: cases that forbid the destruction of what they name, whatever retention or the tenant says.

A hold names recordings one by one, or by scope: a line or all lines of its tenant, in a span of time; a scope also holds
what is filed later. It belongs to one tenant, has an owner and a reason, and is released whole. The book is made by
applying events in order; whoever keeps them asks `check` first, writes the event down, then calls `apply`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from appliance.model import id_bytes, id_text, is_id
from appliance.storage.retention.errors import (
    HoldExistsError,
    HoldInvalidError,
    HoldLimitError,
    HoldNotFoundError,
    HoldReleasedError,
    HoldTenantError,
    RecordingHeldError,
)

MAX_TITLE: Final = 200
MAX_REASON: Final = 1_000
MAX_WHO: Final = 200
MAX_OPEN: Final = 1_000
MAX_RECORDINGS: Final = 1_000_000
MAX_SCOPES: Final = 1_000
MAX_IDS_PER_EVENT: Final = 10_000
FOREVER_NS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class HoldScope:
    """Recordings of a tenant's line (or all lines) created from `from_ns` to before `to_ns`."""

    tenant_id: str
    line_id: str = ""
    from_ns: int = 0
    to_ns: int = FOREVER_NS

    def __post_init__(self) -> None:
        if not is_id(self.tenant_id) or (self.line_id and not is_id(self.line_id)):
            raise HoldInvalidError("a scope names a tenant id, and a line id or none", field="scopes")
        if not 0 <= self.from_ns < self.to_ns <= FOREVER_NS:
            raise HoldInvalidError("a scope ends after it begins", field="scopes")

    def reaches(self, tenant_id: str, line_id: str, *times_ns: int) -> bool:
        """Whether it holds a recording of that line with any of these times."""
        mine = tenant_id == self.tenant_id and self.line_id in ("", line_id)
        return mine and any(self.from_ns <= at_ns < self.to_ns for at_ns in times_ns)


@dataclass(frozen=True, slots=True)
class HoldCreated:
    """A case is opened. Recordings that it names come with HoldAdded, so that no event is too long."""

    case_id: str
    tenant_id: str
    title: str
    reason: str
    owner: str
    at_ns: int
    scopes: tuple[HoldScope, ...] = ()
    kind: Literal["created"] = "created"


@dataclass(frozen=True, slots=True)
class HoldAdded:
    """A case names more. `tenant_id` is whose these recordings are, as the caller knows; at most 10,000 at once."""

    case_id: str
    tenant_id: str
    at_ns: int
    who: str
    recording_ids: tuple[str, ...] = ()
    scopes: tuple[HoldScope, ...] = ()
    kind: Literal["added"] = "added"


@dataclass(frozen=True, slots=True)
class HoldReleased:
    """A case is over."""

    case_id: str
    at_ns: int
    who: str
    reason: str
    kind: Literal["released"] = "released"


HoldEvent = Annotated[HoldCreated | HoldAdded | HoldReleased, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class LegalHold:
    """A case. Title and reasons are people's words: they never go into logs, names, or a plan.

    `recordings`: how many it names one by one; once released, how many it named.
    """

    case_id: str
    title: str
    reason: str
    owner: str
    tenant_id: str
    created_ns: int
    scopes: tuple[HoldScope, ...] = ()
    recordings: int = 0
    released_ns: int = 0
    released_by: str = ""
    release_reason: str = ""

    @property
    def open(self) -> bool:
        """Whether it holds."""
        return self.released_ns == 0


class HoldBook:
    """All cases. In memory only; not for several threads at once."""

    def __init__(self, events: Iterable[HoldCreated | HoldAdded | HoldReleased] = ()) -> None:
        self._holds: dict[str, LegalHold] = {}
        self._open = 0
        # By raw id; the tuples are shared, since most recordings are held by the same cases as their neighbours.
        self._named: dict[bytes, tuple[str, ...]] = {}
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._scopes: dict[str, list[tuple[HoldScope, str]]] = {}
        for event in events:
            self.apply(event)

    # Asking.

    def get(self, case_id: str) -> LegalHold:
        """A case, open or released; HoldNotFoundError."""
        try:
            return self._holds[case_id]
        except KeyError:
            raise HoldNotFoundError("there is no such legal hold", case_id=case_id) from None

    def all(self) -> tuple[LegalHold, ...]:
        """Every case, oldest first."""
        return tuple(self._holds.values())

    def recordings_of(self, case_id: str) -> Iterator[str]:
        """Recordings that an open case names one by one."""
        return (id_text(raw) for raw, cases in self._named.items() if case_id in cases)

    def reaches(self, tenant_id: str, line_id: str) -> bool:
        """Whether any open case has a scope on that line: then each of its recordings has to be asked about."""
        return any(scope.line_id in ("", line_id) for scope, _ in self._scopes.get(tenant_id, ()))

    def cases_of(self, recording_id: str, tenant_id: str, line_id: str, *times_ns: int) -> tuple[str, ...]:
        """Open cases that hold a recording, in order.

        `times_ns`: when it was created, and from when it is kept; a scope that has either holds it. An empty tenant id
        (a recording in quarantine whose header cannot be read) is held where it is named.
        """
        named = self._named.get(id_bytes(recording_id), ())
        found = {case for case in named if tenant_id in ("", self._holds[case].tenant_id)}
        scopes = self._scopes.get(tenant_id, ())
        found |= {case for scope, case in scopes if scope.reaches(tenant_id, line_id, *times_ns)}
        return tuple(sorted(found))

    def check_free(self, recording_id: str, tenant_id: str, line_id: str, *times_ns: int) -> None:
        """RecordingHeldError where an open case holds the recording."""
        if cases := self.cases_of(recording_id, tenant_id, line_id, *times_ns):
            raise RecordingHeldError("a legal hold forbids it", recording_id=recording_id, cases=cases)

    # Changing.

    def check(self, event: HoldCreated | HoldAdded | HoldReleased) -> None:
        """Raises what `apply` would, and changes nothing."""
        match event:
            case HoldCreated():
                self._check_created(event)
            case HoldAdded():
                self._check_added(event)
            case HoldReleased():
                self._opened(event.case_id)
                _bounded(event.who, MAX_WHO, "who")
                _bounded(event.reason, MAX_REASON, "reason")
                if event.at_ns <= 0:
                    raise HoldInvalidError("it is released at a time", field="at_ns")

    def apply(self, event: HoldCreated | HoldAdded | HoldReleased) -> LegalHold:
        """Takes an event in; the case as it then is. Nothing is changed where it raises.

        HoldInvalidError, HoldTenantError, HoldExistsError, HoldLimitError, HoldNotFoundError, HoldReleasedError.
        """
        self.check(event)
        match event:
            case HoldCreated():
                self._holds[event.case_id] = LegalHold(
                    event.case_id, event.title, event.reason, event.owner, event.tenant_id, event.at_ns
                )
                self._open += 1
                self._add_scopes(event.case_id, event.scopes)
            case HoldAdded():
                self._add_scopes(event.case_id, event.scopes)
                self._add_recordings(event.case_id, event.recording_ids)
            case HoldReleased():
                self._release(event)
        return self._holds[event.case_id]

    def _check_created(self, event: HoldCreated) -> None:
        if not is_id(event.case_id) or not is_id(event.tenant_id):
            raise HoldInvalidError("a case and its tenant are named by ids", field="case_id")
        if event.case_id in self._holds:
            raise HoldExistsError("there is a legal hold of this id", case_id=event.case_id)
        _bounded(event.title, MAX_TITLE, "title")
        _bounded(event.reason, MAX_REASON, "reason")
        _bounded(event.owner, MAX_WHO, "owner")
        if self._open >= MAX_OPEN:
            raise HoldLimitError("there are as many open legal holds as can be", limit=MAX_OPEN)
        self._check_scopes(event.tenant_id, event.scopes, ())

    def _check_added(self, event: HoldAdded) -> None:
        hold = self._opened(event.case_id)
        _bounded(event.who, MAX_WHO, "who")
        if event.tenant_id != hold.tenant_id:
            raise HoldTenantError("a legal hold holds what is its own tenant's", case_id=event.case_id)
        if len(event.recording_ids) > MAX_IDS_PER_EVENT:
            raise HoldInvalidError(f"at most {MAX_IDS_PER_EVENT} recordings at once", field="recording_ids")
        fresh = {
            raw for raw in map(_raw, event.recording_ids) if hold.case_id not in self._named.get(raw, ())
        }
        if sum(each.recordings for each in self._holds.values() if each.open) + len(fresh) > MAX_RECORDINGS:
            raise HoldLimitError("legal holds name as many recordings as they can", limit=MAX_RECORDINGS)
        self._check_scopes(hold.tenant_id, event.scopes, hold.scopes)

    def _check_scopes(
        self, tenant_id: str, scopes: tuple[HoldScope, ...], present: tuple[HoldScope, ...]
    ) -> None:
        if any(scope.tenant_id != tenant_id for scope in scopes):
            raise HoldTenantError("a legal hold's scopes are of its own tenant")
        fresh = len(set(scopes) - set(present))
        if sum(map(len, self._scopes.values())) + fresh > MAX_SCOPES:
            raise HoldLimitError("legal holds have as many scopes as they can", limit=MAX_SCOPES)

    def _opened(self, case_id: str) -> LegalHold:
        hold = self.get(case_id)
        if not hold.open:
            raise HoldReleasedError("the legal hold is released", case_id=case_id)
        return hold

    def _add_scopes(self, case_id: str, scopes: tuple[HoldScope, ...]) -> None:
        hold = self._holds[case_id]
        fresh = [scope for scope in dict.fromkeys(scopes) if scope not in hold.scopes]
        self._scopes.setdefault(hold.tenant_id, []).extend((scope, case_id) for scope in fresh)
        self._holds[case_id] = replace(hold, scopes=(*hold.scopes, *fresh))

    def _add_recordings(self, case_id: str, ids: Iterable[str]) -> None:
        fresh = 0
        for raw in map(_raw, ids):
            cases = self._named.get(raw, ())
            if case_id not in cases:
                self._name(raw, (*cases, case_id))
                fresh += 1
        hold = self._holds[case_id]
        self._holds[case_id] = replace(hold, recordings=hold.recordings + fresh)

    def _name(self, raw: bytes, cases: tuple[str, ...]) -> None:
        if cases:
            self._named[raw] = self._shared.setdefault(cases, cases)
        else:
            del self._named[raw]

    def _release(self, event: HoldReleased) -> None:
        case_id = event.case_id
        hold = self._holds[case_id]
        for raw in [raw for raw, cases in self._named.items() if case_id in cases]:
            self._name(raw, tuple(case for case in self._named[raw] if case != case_id))
        self._shared = {cases: cases for cases in self._shared if case_id not in cases}
        left = [pair for pair in self._scopes.get(hold.tenant_id, ()) if pair[1] != case_id]
        self._scopes[hold.tenant_id] = left
        self._open -= 1
        self._holds[case_id] = replace(
            hold, released_ns=event.at_ns, released_by=event.who, release_reason=event.reason
        )


def _raw(recording_id: str) -> bytes:
    if not is_id(recording_id):
        raise HoldInvalidError("a recording is named by its id", field="recording_ids")
    return id_bytes(recording_id)


def _bounded(text: str, most: int, field: str) -> None:
    if not text.strip() or len(text) > most:
        raise HoldInvalidError(f"should have 1 to {most} characters", field=field)


HOLD_EVENT: TypeAdapter[HoldCreated | HoldAdded | HoldReleased] = TypeAdapter(HoldEvent)
