"""What support reads, under grants alone: found, counted before the first byte, ended while it streams.

The core is `access.grants`; here it meets catalogue, audit and streams.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa
import structlog

from appliance.access import grants as rules
from appliance.access import policy
from appliance.access.errors import GrantEndedError, GrantPurposeError
from appliance.access.grants import Clocks, Standing
from appliance.access.identities import Identity, Role
from appliance.api import names
from appliance.api.grantkeys import GrantKeys
from appliance.api.scope import caller
from appliance.api.store import Store
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.trail import Trail
from appliance.catalog import alarms, events
from appliance.catalog import grants as rows
from appliance.catalog.errors import CatalogueUnavailableError, RecordingNotFoundError
from appliance.catalog.events import Event, EventType
from appliance.catalog.grants import Grant, Latched, Use
from appliance.catalog.records import Recording
from appliance.model import new_id

log = structlog.get_logger()

LOOK_S: Final = 5.0  # how often what has ended is looked for
SEEN_NS: Final = 60 * 10**9  # how often it is written down how late it is
GRANTS: Final = (
    EventType.GRANT_REQUESTED,
    EventType.GRANT_APPROVED,
    EventType.GRANT_DENIED,
    EventType.GRANT_USED,
    EventType.GRANT_USED_UP,
    EventType.GRANT_REVOKED,
    EventType.GRANT_EXPIRED,
)
_OF_THE_BOX: Final = (
    EventType.CONDITION_RAISED,
    EventType.CONDITION_CLEARED,
    EventType.ALARM_RAISED,
    EventType.ALARM_ACKNOWLEDGED,
    EventType.ALARM_CLEARED,
)
_ANSWERED: Final = (
    EventType.GRANT_APPROVED,
    EventType.GRANT_DENIED,
    EventType.GRANT_REVOKED,
    EventType.GRANT_EXPIRED,
)


def boot_ns() -> int:
    """The uptime, suspended or not."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def by_grant_alone(method: str) -> bool:
    """Whether the caller may call this method of RecordingsService, or `/…` in full, as support and as nothing else."""
    full = method if method.startswith("/") else f"/earwitness.v1.RecordingsService/{method}"
    return policy.only_as(Role.SUPPORT, caller(), full)


@dataclass
class Read:
    """One read on its way."""

    grant: Grant
    use: Use
    ended: bool = False

    @property
    def grant_name(self) -> str:
        return names.grant(self.grant.tenant_id, self.grant.grant_id)


class Granted:
    """Every grant's enforcement. `run` ends what time ends."""

    def __init__(
        self,
        store: Store,
        trail: Trail,
        wall_ns: Callable[[], int],
        keys: GrantKeys,
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self._store = store
        self.keys = keys
        self._trail = trail
        self._look_s = look_s
        self.clocks = Clocks(wall_ns, boot_ns)
        self._running: dict[str, list[Read]] = defaultdict(list)
        self._stopped: set[str] = set()  # ended since the process began

    # What is seen.

    def active(self, connection: sa.Connection, identity: Identity) -> list[Grant]:
        """Grants under which the identity may read now."""
        found = rows.open_ones(connection)
        return [one for one in found if rules.reads_for(one, identity, self.clocks.now(one))]

    def sees(
        self, connection: sa.Connection, row: Recording, identity: Identity, *, reading: bool
    ) -> list[Grant]:
        """Grants by which the identity sees a recording now; `reading`: also to go on with a read that is counted."""
        seen = []
        for grant in rows.covering(connection, row.recording_id):
            now_ns = self.clocks.now(grant)
            if grant.tenant_id == row.tenant_id and (
                rules.reads_for(grant, identity, now_ns)
                or (
                    reading
                    and rules.goes_on(grant, identity, now_ns)
                    and self._uses(connection, grant, identity, row.recording_id, now_ns)
                )
            ):
                seen.append(grant)
        return seen

    async def visible(self, row: Recording, *, reading: bool = False) -> list[Grant]:
        """The same for the caller."""
        identity = caller()
        return await self._store.read(
            lambda connection: self.sees(connection, row, identity, reading=reading)
        )

    async def veil(self, found: list[Event]) -> list[Event]:
        """Events as support sees them: of the box, and of its own grants; of all else that something was, and no more."""
        identity = caller()

        def work(connection: sa.Connection) -> tuple[set[str], set[str]]:
            mine = {one.grant_id for one in self.active(connection, identity)}
            asked = {one.subject for one in found if one.type in GRANTS}
            own = {one for one in asked if self._own(connection, one, identity)}
            return own, set(rows.covers(connection, mine))

        own, covered = await self._store.read(work)
        return [
            one
            if _of_the_box(one) or one.subject in (own if one.type in GRANTS else covered)
            else replace(one, subject="", line_id="", state="", message="")
            for one in found
        ]

    def _own(self, connection: sa.Connection, grant_id: str, identity: Identity) -> bool:
        grant = rows.find(connection, grant_id)
        return grant is not None and is_own(grant, identity)

    # What is read.

    async def begin(self, row: Recording, kind: str, format_: str, etag: str, purpose: str) -> Read:
        """Count a read by the caller, durably, in catalogue and audit; one that goes on is not counted again.

        RecordingNotFoundError where no grant of theirs covers it now; GrantPurposeError.
        """
        identity = caller()

        def work(connection: sa.Connection) -> tuple[Read, bool]:
            seen = self.sees(connection, row, identity, reading=True)
            if not seen:
                raise RecordingNotFoundError("no such recording", recording=row.recording_id)
            fitting = [one for one in seen if purpose in ("", one.purpose)]
            if not fitting:
                raise GrantPurposeError("the grant is for another purpose", purpose=seen[0].purpose)
            for grant in fitting:
                now_ns = self.clocks.now(grant)
                for use in self._uses(connection, grant, identity, row.recording_id, now_ns):
                    if rules.is_same(use, row.recording_id, kind, format_, etag, now_ns):
                        return Read(grant, use), False
            for grant in fitting:
                now_ns = self.clocks.now(grant)
                if rules.reads_for(grant, identity, now_ns):
                    use = Use(
                        new_id(), grant.grant_id, identity.name, row.recording_id, kind, format_, now_ns
                    )
                    return Read(self._count(connection, grant, use, now_ns), use), True
            raise RecordingNotFoundError("no such recording", recording=row.recording_id)

        read, fresh = await self._store.write(work)
        grant_id = read.grant.grant_id
        self._running[grant_id].append(read)
        read.ended = grant_id in self._stopped  # since the transaction
        try:
            await self._audit(
                "grant-use" if fresh else "grant-use-goes-on",
                read.grant,
                identity.name,
                identity=identity,
                subject=names.recording(read.grant.tenant_id, row.recording_id),
                kind=kind,
                format=format_,
            )
        except BaseException:
            self.done(read)
            raise
        return read

    def _count(self, connection: sa.Connection, grant: Grant, use: Use, now_ns: int) -> Grant:
        counted = rules.count(grant, now_ns)
        rows.update(connection, counted)
        rows.note_use(connection, use)
        recording = names.recording(grant.tenant_id, use.recording_id)
        kind = use.kind.upper()
        tell(connection, EventType.GRANT_USED, counted, now_ns, kind, f"{kind.capitalize()} of {recording}.")
        if counted.state is Latched.USED_UP:
            tell(connection, EventType.GRANT_USED_UP, counted, now_ns)
        return counted

    async def serve(self, read: Read, etag: str) -> None:
        """Before the first byte: what it is that is given out, so that the same can go on."""
        if read.use.etag != etag:
            await self._store.write(lambda connection: rows.serve(connection, read.use.use_id, etag))
            read.use = replace(read.use, etag=etag)

    def check(self, read: Read) -> None:
        """Before each message: GrantEndedError where the grant has ended meanwhile."""
        if read.ended or self.clocks.now(read.grant) >= read.grant.end_ns:
            raise GrantEndedError("the grant has ended", grant=read.grant_name)

    def done(self, read: Read) -> None:
        """It is over, one way or the other."""
        running = self._running[read.grant.grant_id]
        if read in running:
            running.remove(read)
        if not running:
            del self._running[read.grant.grant_id]

    def _uses(
        self, connection: sa.Connection, grant: Grant, identity: Identity, recording_id: str, now_ns: int
    ) -> list[Use]:
        since_ns = now_ns - rules.SAME_USE_NS
        found = rows.uses_since(connection, grant.grant_id, identity.name, since_ns)
        return [one for one in found if one.recording_id == recording_id]

    # What ends.

    def stop(self, grant_id: str) -> None:
        """What is being read under a grant breaks off."""
        self._stopped.add(grant_id)
        for read in self._running.get(grant_id, ()):
            read.ended = True

    async def run(self) -> None:
        """Until cancelled: latch what time has ended, forget requests that nobody answered."""
        while True:
            try:
                await self.look()
            except (CatalogueUnavailableError, AuditUnavailableError) as error:
                # The condition is raised; what has ended is not read all the same, as each read looks at the time.
                log.warning("ends of grants not written down", reason=error.reason)
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """One round of it."""
        await self.keys.sweep()
        found = await self._store.read(rows.open_ones)
        now = {one.grant_id: self.clocks.now(one) for one in found}
        if not any(_is_due(one, now[one.grant_id]) for one in found):
            return
        ended = await self._store.write(lambda connection: self._end(connection, now))
        for grant in ended:
            self.stop(grant.grant_id)
            await self._audit("grant-expired", grant, "")
            await self.keys.drop(grant)
        self.clocks.keep({one.grant_id for one in await self._store.read(rows.open_ones)})

    def _end(self, connection: sa.Connection, now: dict[str, int]) -> list[Grant]:
        ended = []
        for grant in rows.open_ones(connection):
            now_ns = now.get(grant.grant_id, self.clocks.now(grant))
            if rules.is_stale(grant, now_ns) and not grant.keys_sealed:
                rows.forget(connection, grant.grant_id)
            else:
                rows.update(connection, rules.expire(grant, now_ns))
            if rules.standing(grant, now_ns) is Standing.EXPIRED:
                tell(connection, EventType.GRANT_EXPIRED, grant, now_ns)
                ended.append(grant)
        return ended

    async def _audit(
        self, what: str, grant: Grant, who: str, *, identity: Identity | None = None, **more: str
    ) -> None:
        name = names.grant(grant.tenant_id, grant.grant_id)
        await self._trail.append(
            {
                "time_ns": time.time_ns(),
                "what": what,
                "who": who,
                "roles": sorted(identity.roles) if identity else [],
                "tenant": grant.tenant_id,
                "certificate": identity.fingerprint if identity else "",
                "subject": name,
                "purpose": grant.purpose,
                "grant": name,
                **more,
            },
            durable=True,
        )


def is_own(grant: Grant, identity: Identity) -> bool:
    """Whether a grant is of this support person: asked for, or to read."""
    return identity.name in (grant.requester, *grant.identities)


def tell(
    connection: sa.Connection, kind: EventType, grant: Grant, at_ns: int, state: str = "", message: str = ""
) -> None:
    """An event of a grant, in the feed of its tenant."""
    word = state or rules.standing(grant, at_ns).name
    events.append(
        connection,
        Event(kind, at_ns, grant.grant_id, tenant_id=grant.tenant_id, state=word, message=message),
    )
    if kind in _ANSWERED:
        alarms.clear_alarm(connection, "GrantRequested", grant.grant_id, at_ns)


def _of_the_box(event: Event) -> bool:
    return event.type in _OF_THE_BOX and not event.tenant_id


def _is_due(grant: Grant, now_ns: int) -> bool:
    """Whether something is to be written down: an end, or after a while how late it is."""
    over = now_ns >= grant.end_ns or rules.is_stale(grant, now_ns)
    return over or now_ns - grant.seen_ns > SEEN_NS
