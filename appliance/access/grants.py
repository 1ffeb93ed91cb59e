"""Support grants: what may be asked for, approved, and read. No I/O: rows and times in, rows and errors out.

A grant's own clock. What time ends must not begin again because somebody sets the wall clock back. So each grant keeps the
latest time that it was seen at, durably, and goes on from there with the clock of the machine's uptime; the wall counts
where it is ahead of that. Ends are latched: once over, a grant is over, whatever the clocks say later.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from appliance.access.errors import (
    GrantEmptyError,
    GrantStateError,
    GrantTermsError,
    GrantTooLargeError,
    GrantWidenedError,
    OwnGrantError,
)
from appliance.access.identities import Identity, Role
from appliance.catalog.grants import OPEN, Grant, Latched, Scope, Use

DAY_NS: Final = 86400 * 10**9
MAX_DAYS: Final = 14
MAX_READS: Final = 1000
MAX_RECORDINGS: Final = 200
MAX_IDENTITIES: Final = 10
MAX_AHEAD_NS: Final = 365 * DAY_NS  # how far ahead a grant may begin
FORGOTTEN_NS: Final = 14 * DAY_NS  # after which a request is forgotten
SAME_USE_NS: Final = 3600 * 10**9  # within which a download that goes on is the same read
LATE_NS: Final = 60 * 10**9  # a beginning so little in the past is now: clocks differ, and messages take time
PUBLIC_KEY_BYTES: Final = 1216  # MLKEM768-X25519


class Standing(enum.StrEnum):
    """Where a grant is in its life, at one time."""

    REQUESTED = "requested"
    DENIED = "denied"
    APPROVED = "approved"
    ACTIVE = "active"
    USED_UP = "used-up"
    EXPIRED = "expired"
    REVOKED = "revoked"


def standing(grant: Grant, now_ns: int) -> Standing:
    """At the grant's own time."""
    if grant.state is Latched.APPROVED:
        if now_ns >= grant.end_ns:
            return Standing.EXPIRED
        return Standing.ACTIVE if now_ns >= (grant.begin_ns or 0) else Standing.APPROVED
    if grant.state is Latched.REQUESTED and is_stale(grant, now_ns):
        return Standing.EXPIRED
    return Standing(grant.state.value)


def is_stale(grant: Grant, now_ns: int) -> bool:
    """Whether a request has waited so long that it is forgotten."""
    return grant.state is Latched.REQUESTED and now_ns >= min(grant.request_ns + FORGOTTEN_NS, grant.end_ns)


class Clocks:
    """The grants' own times. `boot_ns`: the clock of the uptime, which goes on in suspend (CLOCK_BOOTTIME)."""

    def __init__(self, wall_ns: Callable[[], int], boot_ns: Callable[[], int]) -> None:
        self._wall_ns = wall_ns
        self._boot_ns = boot_ns
        self._seen: dict[str, tuple[int, int]] = {}

    def now(self, grant: Grant) -> int:
        """Nanoseconds since the Unix epoch; never less than before, nor than what is written down."""
        boot_ns, at_ns = self._boot_ns(), max(self._wall_ns(), grant.seen_ns)
        if (seen := self._seen.get(grant.grant_id)) is not None:
            at_ns = max(at_ns, seen[0] + max(0, boot_ns - seen[1]))
        self._seen[grant.grant_id] = (at_ns, boot_ns)
        return at_ns

    def keep(self, grant_ids: Collection[str]) -> None:
        """Forget all others: they have ended."""
        self._seen = {key: value for key, value in self._seen.items() if key in grant_ids}


def check_terms(grant: Grant, now_ns: int, *, max_days: int = MAX_DAYS, necessity: bool = True) -> Grant:
    """What may be asked for; GrantTermsError names the field. Gives it with a beginning that is not in the past.

    `necessity`: whether it must be said why (by support).
    """
    if not 1 <= len(grant.identities) <= MAX_IDENTITIES or len(set(grant.identities)) < len(grant.identities):
        raise GrantTermsError(f"should name 1 to {MAX_IDENTITIES} identities, each once", field="identities")
    if not grant.scope:
        raise GrantTermsError("should say which recordings", field="scope")
    named = grant.scope.recordings
    if named and grant.scope != Scope(recordings=named):
        raise GrantTermsError("either names recordings, or says which match", field="scope.recordings")
    if len(named) > MAX_RECORDINGS or len(set(named)) < len(named):
        raise GrantTermsError(
            f"should name at most {MAX_RECORDINGS} recordings, each once", field="scope.recordings"
        )
    first_ns, last_ns = grant.scope.from_ns, grant.scope.to_ns
    if first_ns is not None and last_ns is not None and last_ns <= first_ns:
        raise GrantTermsError("should be after from_time", field="scope.to_time")
    least = 20 if necessity or grant.necessity else 0
    if not least <= len(grant.necessity) <= 1000:
        raise GrantTermsError("should have 20 to 1000 characters", field="necessity")
    if not grant.purpose:
        raise GrantTermsError("should name one of the tenant's purposes", field="purpose")
    if not 1 <= grant.max_reads <= MAX_READS:
        raise GrantTermsError(f"should be 1 to {MAX_READS}", field="max_reads")
    if grant.public_key and len(grant.public_key) != PUBLIC_KEY_BYTES:
        raise GrantTermsError(f"should have {PUBLIC_KEY_BYTES} bytes", field="public_key")
    return dataclasses.replace(grant, begin_ns=check_period(grant.begin_ns, grant.end_ns, now_ns, max_days))


def check_period(begin_ns: int | None, end_ns: int, now_ns: int, max_days: int = MAX_DAYS) -> int | None:
    """A period that begins now or later, and ends within `max_days` of its beginning. Gives its beginning.

    GrantTermsError. None stays None: it begins when it is approved.
    """
    if begin_ns is not None:
        if begin_ns < now_ns - LATE_NS:
            raise GrantTermsError("should not be in the past", field="begin_time")
        if begin_ns > now_ns + MAX_AHEAD_NS:
            raise GrantTermsError("should be within a year", field="begin_time")
        begin_ns = max(begin_ns, now_ns)
    start_ns = now_ns if begin_ns is None else begin_ns
    if end_ns <= start_ns:
        raise GrantTermsError("should be after the beginning, and not in the past", field="end_time")
    if end_ns - start_ns > max_days * DAY_NS:
        raise GrantTermsError(f"should be at most {max_days} days after the beginning", field="end_time")
    return begin_ns


def check_approver(grant: Grant, approver: Identity, *, unasked: bool = False) -> None:
    """OwnGrantError where who approves asked for it, would read under it, or is of the support."""
    asked = () if unasked else (grant.requester,)
    if approver.name in (*asked, *grant.identities) or Role.SUPPORT in approver.roles:
        raise OwnGrantError("who asks, reads, or is of the support does not approve", grant=grant.grant_id)


@dataclass(frozen=True)
class Narrowing:
    """What of a request is approved. None: as asked."""

    begin_ns: int | None = None
    end_ns: int | None = None
    max_reads: int | None = None
    exclude_parties: bool = False


def approve(
    grant: Grant,
    narrowing: Narrowing,
    approver: Identity,
    now_ns: int,
    *,
    max_days: int = MAX_DAYS,
    unasked: bool = False,
) -> Grant:
    """The grant that becomes of a request, never wider than it. `unasked`: the tenant gives it by itself.

    GrantStateError, OwnGrantError, GrantTermsError; GrantWidenedError names the field.
    """
    if standing(grant, now_ns) is not Standing.REQUESTED:
        raise GrantStateError("only a request can be approved", state=standing(grant, now_ns).value)
    check_approver(grant, approver, unasked=unasked)
    begin_ns, end_ns, max_reads = narrowing.begin_ns, narrowing.end_ns, narrowing.max_reads
    if grant.begin_ns is not None:
        if begin_ns is not None and begin_ns < grant.begin_ns:
            raise GrantWidenedError("begins before what was asked for", field="begin_time")
        if begin_ns is None:
            begin_ns = max(grant.begin_ns, now_ns)  # approved late: the rest of the time
    end_ns = grant.end_ns if end_ns is None else end_ns
    if end_ns > grant.end_ns:
        raise GrantWidenedError("ends after what was asked for", field="end_time")
    max_reads = grant.max_reads if max_reads is None else max_reads
    if max_reads > grant.max_reads:
        raise GrantWidenedError("more reads than were asked for", field="max_reads")
    if max_reads < 1:
        raise GrantTermsError("should be at least 1", field="max_reads")
    return dataclasses.replace(
        grant,
        state=Latched.APPROVED,
        begin_ns=check_period(now_ns if begin_ns is None else begin_ns, end_ns, now_ns, max_days),
        end_ns=end_ns,
        max_reads=max_reads,
        include_parties=grant.include_parties and not narrowing.exclude_parties,
        scope=dataclasses.replace(grant.scope, filter=""),
        approver=approver.name,
        approve_ns=now_ns,
        seen_ns=max(grant.seen_ns, now_ns),
    )


def covered(asked: Iterable[str], named: Collection[str] | None = None) -> frozenset[str]:
    """What a grant covers: what the request finds now, or of that what the approval names.

    GrantWidenedError where the approval names others; GrantEmptyError; GrantTooLargeError.
    """
    left = frozenset(asked)
    if named is not None:
        if not frozenset(named) <= left:
            raise GrantWidenedError("names recordings that were not asked for", field="scope.recordings")
        left = frozenset(named)
    if not left:
        raise GrantEmptyError("there is no such recording now")
    if len(left) > MAX_RECORDINGS:
        raise GrantTooLargeError("more recordings than a grant covers: narrow it", limit=MAX_RECORDINGS)
    return left


def end(grant: Grant, how: Latched, who: str, reason: str, now_ns: int) -> Grant:
    """Denied or revoked, for good. GrantStateError where it cannot be."""
    at = standing(grant, now_ns)
    if how is Latched.DENIED and at is not Standing.REQUESTED:
        raise GrantStateError("only a request can be denied", state=at.value)
    if grant.state not in OPEN:
        raise GrantStateError("it has ended", state=at.value)
    return _over(dataclasses.replace(grant, ender=who, end_reason=reason), how, now_ns)


def expire(grant: Grant, now_ns: int) -> Grant:
    """Latched as expired where its time is over; else as it is, with the time it was seen at.

    One that is used up stays so, and goes on to be looked at only until its time is over.
    """
    seen = dataclasses.replace(grant, seen_ns=max(grant.seen_ns, now_ns))
    if (grant.state is Latched.APPROVED and now_ns >= grant.end_ns) or is_stale(grant, now_ns):
        return _over(seen, Latched.EXPIRED, now_ns)
    return seen


def reads_for(grant: Grant, identity: Identity, now_ns: int) -> bool:
    """Whether the identity may begin a read under this grant now."""
    return (
        Role.SUPPORT in identity.roles
        and identity.name in grant.identities
        and standing(grant, now_ns) is Standing.ACTIVE
        and grant.reads < grant.max_reads
    )


def goes_on(grant: Grant, identity: Identity, now_ns: int) -> bool:
    """Whether a read that is counted may go on: also of the last one that was allowed."""
    return (
        Role.SUPPORT in identity.roles
        and identity.name in grant.identities
        and grant.state in (Latched.APPROVED, Latched.USED_UP)
        and (grant.begin_ns or 0) <= now_ns < grant.end_ns
    )


def is_same(use: Use, recording_id: str, kind: str, format_: str, etag: str, now_ns: int) -> bool:
    """Whether a read is an earlier one that goes on within an hour: nothing was given out yet, or it has its etag."""
    return (
        (use.recording_id, use.kind, use.format) == (recording_id, kind, format_)
        and now_ns - use.at_ns < SAME_USE_NS
        and (not use.etag or (bool(etag) and use.etag == etag))
    )


def count(grant: Grant, now_ns: int) -> Grant:
    """One read more; the last one latches it as used up."""
    reads = grant.reads + 1
    if reads > grant.max_reads:
        raise GrantStateError("it is used up", state=Standing.USED_UP.value)
    counted = dataclasses.replace(grant, reads=reads, last_use_ns=now_ns, seen_ns=max(grant.seen_ns, now_ns))
    return _over(counted, Latched.USED_UP, now_ns) if reads == grant.max_reads else counted


def _over(grant: Grant, how: Latched, now_ns: int) -> Grant:
    return dataclasses.replace(
        grant,
        state=how,
        ended_ns=now_ns,
        seen_ns=max(grant.seen_ns, now_ns),
        scope=dataclasses.replace(grant.scope, filter=""),
    )
