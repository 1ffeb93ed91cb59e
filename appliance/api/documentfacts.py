"""Facts that documents of configuration are made from: catalogue, settings, vault, log, each as it is when it is asked.

What the vault is asked for and does not answer is not known then, and the document says so.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter, defaultdict
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from appliance.access import grants as rules
from appliance.access import naming
from appliance.access.identities import BOX_ROLES, TENANT_ROLES, Role
from appliance.api.parts import Parts
from appliance.audit.trail import Trail
from appliance.catalog import (
    acknowledgements,
    alarmchannels,
    closing,
    grants,
    notices,
    purposes,
    restrictions,
    servicefigures,
    staff,
    tables,
    tenants,
)
from appliance.catalog.records import State
from appliance.documents import facts, words
from appliance.model import EarwitnessError, Kind
from appliance.model.routing import Line, PromptRef
from earwitness.internal.v1 import retention_pb2, tenantkeys_pb2

Answer = TypeVar("Answer")
_ALL: Final = 1_000_000
_FIELDS: Final = {
    retention_pb2.POLICY_FIELD_RETENTION: "retention",
    retention_pb2.POLICY_FIELD_GRACE: "grace",
    retention_pb2.POLICY_FIELD_UNIT: "grain",
    retention_pb2.POLICY_FIELD_COOLING: "cooling",
}
_OPEN: Final = frozenset({rules.Standing.REQUESTED, rules.Standing.APPROVED, rules.Standing.ACTIVE})
_RIGHTS: Final = {"none": "nothing", "pause": "pause", "end": "pause and end"}


class Gatherer:
    """See the module."""

    def __init__(self, parts: Parts, trail: Trail) -> None:
        self._parts = parts
        self._trail = trail

    async def box(self, *, tenants_too: bool) -> facts.Box:
        """What holds for everybody; with `tenants_too` whose data is processed."""
        settings = self._parts.settings
        overview = await if_told(self._parts.retention.overview())

        def work(
            connection: sa.Connection,
        ) -> tuple[
            tuple[tuple[str, tuple[str, ...]], ...],
            Counter[str],
            list[tuple[str, str, str, int, int]],
        ]:
            channels = Counter(
                type(one.settings).__name__.lower()
                for one in alarmchannels.listed(connection, "", _ALL)
                if one.enabled
            )
            served = _tenants(connection) if tenants_too else []
            return _roles(connection, "", BOX_ROLES), channels, served

        roles, channels, served = await self._parts.store.read(work)
        log = self._trail.log
        return facts.Box(
            version=importlib.metadata.version("earwitness"),
            vault=None if overview is None else _vault(overview),
            audit=facts.Audit(log.size, log.generation, log.verifier.name, self._trail.forwarder is not None),
            root_slot=settings.vault.root_slot,
            configured_backend=settings.vault.backend,
            replicas=tuple(facts.Replica(one.name, one.backend) for one in settings.vault.replicas),
            catalogue="PostgreSQL" if settings.catalogue.url else "SQLite, on the box",
            identity_providers=len(settings.access.oidc),
            alarm_channels=tuple(sorted(channels.items())),
            roles=roles,
            tenants=tuple(served),
        )

    async def tenant(self, tenant_id: str, now_ns: int) -> facts.Tenant:
        """What holds for one. TenantNotFoundError."""
        lines = await self._parts.store.read(
            lambda connection: (
                tenants.get_tenant(connection, tenant_id),
                tenants.list_lines(connection, tenant_id=tenant_id),
            )[1]
        )
        keys = await if_told(self._parts.vault_keys.of(tenant_id))
        held = await if_told(self._parts.retention.holds(tenant_id, released=False))
        kept = await self._kept(tenant_id, lines)

        def work(connection: sa.Connection) -> facts.Tenant:
            row = tenants.get_tenant(connection, tenant_id)
            in_force = [one for one in notices.in_force(connection, tenant_id, now_ns) if one.notice.required]
            behind = [
                member
                for member, wanted in acknowledgements.missing(connection, tenant_id, now_ns)
                if any(one.notice.required for one in wanted)
            ]
            return facts.Tenant(
                id=tenant_id,
                name=row.display_name,
                contact=row.contact,
                time_zone=row.time_zone,
                create_ns=row.create_ns,
                state=closing.state_of(connection, tenant_id).value,
                lines=tuple(_line(connection, one, kept.get(one.line_id)) for one in lines),
                purposes=tuple(
                    facts.Purpose(one.purpose_id, one.display_name, one.legal_basis)
                    for _, one in purposes.listed(connection, tenant_id, archived=False)
                ),
                roles=_roles(connection, tenant_id, TENANT_ROLES),
                grants=_grants(connection, tenant_id, now_ns),
                held=_held(connection, tenant_id),
                keys=None
                if keys is None
                else facts.Keys(keys.mode == tenantkeys_pb2.KEY_MODE_ATTENDED, keys.locked, keys.pairs),
                holds=None if held is None else len(held),
                restrictions=len(restrictions.some(connection, tenant_id, _ALL, None, ended=False)),
                notices=len(in_force),
                staff=len(staff.working(connection, tenant_id)),
                not_acknowledged=len(behind),
            )

        return await self._parts.store.read(work)

    async def _kept(self, tenant_id: str, lines: Sequence[Line]) -> dict[str, facts.Period]:
        if not lines:
            return {}
        scopes = [retention_pb2.PolicyScope(tenant_id=tenant_id, line_id=one.line_id) for one in lines]
        found = await if_told(self._parts.retention.policies(scopes))
        if found is None:
            return {}
        zone = ZoneInfo("UTC")
        return {
            one.scope.line_id: facts.Period(
                one.effective.retention,
                _scope(one.effective.retention_scope),
                one.effective.grace_days,
                tuple(
                    f"{_FIELDS[change.field]} becomes {change.new or 'as inherited'}"
                    f" on {words.day(change.effective_ns, zone)} (UTC)"
                    for change in one.pending
                ),
            )
            for one in found.policies
        }


async def if_told(asked: Awaitable[Answer]) -> Answer | None:
    """None where who is asked is away: what is not known is told as not known."""
    try:
        return await asked
    except EarwitnessError as error:
        if error.kind is not Kind.UNAVAILABLE:
            raise
        return None


def _scope(scope: retention_pb2.PolicyScope) -> str:
    return "the line" if scope.line_id else "the tenant" if scope.tenant_id else "the box"


def _vault(found: retention_pb2.GetOverviewResponse) -> facts.Vault:
    return facts.Vault(
        backend=found.backend,
        free_bytes=found.free_bytes if found.HasField("free_bytes") else None,
        total_bytes=found.total_bytes if found.HasField("total_bytes") else None,
        stored_bytes=found.stored_bytes,
        ailments=tuple(one.message for one in found.ailments),
        epoch=found.epoch,
        last_shred_ns=found.last_shred_ns or None,
        clock_frozen=found.clock.HasField("frozen"),
    )


def _roles(
    connection: sa.Connection, tenant_id: str, wanted: frozenset[Role]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Of identities that are not disabled, all roles of the kind, whether somebody has them or not."""
    c = tables.identities.c
    people: dict[str, list[str]] = defaultdict(list)
    query = sa.select(c.name, c.roles).where(c.tenant_id == tenant_id, c.disable_ns.is_(None))
    for row in connection.execute(query.order_by(c.name)):
        for role in row.roles:
            people[role].append(naming.parts(row.name)[1])
    named = [role for role in Role if role in wanted or people[role.value]]
    return tuple((role.value, tuple(people[role.value])) for role in named)


def _tenants(connection: sa.Connection) -> list[tuple[str, str, str, int, int]]:
    found = []
    for one in tenants.list_tenants(connection):
        lines = len(tenants.list_lines(connection, tenant_id=one.tenant_id))
        held = _held(connection, one.tenant_id)
        said = closing.state_of(connection, one.tenant_id).value
        found.append((one.display_name, said, one.contact, lines, held.filed))
    return found


def _held(connection: sa.Connection, tenant_id: str) -> facts.Held:
    found = servicefigures.held(connection, tenant_id)
    states = (State.FILED, State.DELETED, State.ERASED, State.QUARANTINED)
    filed, deleted, erased, quarantined = (found.by_state.get(one.value, 0) for one in states)
    return facts.Held(filed, deleted, erased, quarantined, found.bytes, found.oldest_ns, found.newest_ns)


def _grants(connection: sa.Connection, tenant_id: str, now_ns: int) -> tuple[facts.Grant, ...]:
    live = [
        one
        for one in grants.open_ones(connection)
        if one.tenant_id == tenant_id and rules.standing(one, now_ns) in _OPEN
    ]
    counts = grants.counts(connection, [one.grant_id for one in live])
    return tuple(
        facts.Grant(
            id=one.grant_id,
            state=rules.standing(one, now_ns).value,
            purpose=one.purpose,
            begin_ns=one.begin_ns,
            end_ns=one.end_ns,
            recordings=counts.get(one.grant_id, 0),
            max_reads=one.max_reads,
            reads=one.reads,
            include_parties=one.include_parties,
            people=one.identities,
        )
        for one in sorted(live, key=lambda one: (one.request_ns, one.grant_id))
    )


def _line(connection: sa.Connection, line: Line, kept: facts.Period | None) -> facts.Line:
    inline = line.inline
    announced = inline.announcement if inline else None
    targets = (*inline.inbound, *inline.outbound) if inline else ()
    return facts.Line(
        name=line.display_name,
        state=closing.state_of(connection, line.tenant_id, line.line_id).value,
        inline=inline is not None,
        directions=tuple(one.value for one in line.directions),
        numbers=len(line.numbers),
        trunks=len(line.trunks),
        catch_all=line.catch_all,
        do_not_record=len(line.do_not_record),
        announcement=tuple(_prompt(connection, one) for one in announced.prompts) if announced else (),
        announce_when=announced.when.value if announced else "",
        interruptible=announced.interruptible if announced else False,
        whisper=_prompt(connection, inline.whisper) if inline and inline.whisper else None,
        tone_s=inline.tone_s if inline else 0,
        purposes=line.purposes,
        rights=_RIGHTS[line.rights.value],
        agents_with_rights=len(line.agents),
        auto_resume_s=line.auto_resume_s,
        listening=line.listening.value,
        media_encrypted=all(one.srtp for one in targets) if targets else None,
        kept=kept,
    )


def _prompt(connection: sa.Connection, used: PromptRef) -> facts.Prompt:
    """Its words, where the prompt is still there: a line may use one that went with an older catalogue."""
    row = connection.execute(
        sa.select(tables.prompts.c.text).where(
            tables.prompts.c.id == used.prompt_id, tables.prompts.c.text_sha256 == used.text_sha256
        )
    ).first()
    return facts.Prompt(used.language, None if row is None else row.text, used.purposes)
