"""Whom a call concerns: the tenant in whose audit it stands, whoever called."""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sa

from appliance.access import naming
from appliance.access.identities import Identity
from appliance.api import identitynames
from appliance.api.board import Board
from appliance.api.errors import CallNotFoundError, SignalingUnavailableError
from appliance.api.store import Store
from appliance.api.vaultretention import VaultRetention
from appliance.audit.entry import EVERY_TENANT
from appliance.catalog import (
    alarmtables,
    documenttables,
    granttables,
    noticetables,
    reviewtables,
    subjecttables,
    tables,
)
from appliance.model import EarwitnessError, Kind

_OF_TENANT = re.compile(r"tenants/([a-z2-7]{26}|-)(?:/([A-Za-z]+)/([a-z2-7]{26}))?(?:/.*)?")
_KEPT: Final = {
    "recordings": tables.recordings,
    "lines": tables.lines,
    "prompts": tables.prompts,
    "grants": granttables.grants,
    "subjectRequests": subjecttables.subject_requests,
    "subjectPacks": subjecttables.subject_packs,
    "restrictions": subjecttables.restrictions,
    "alarms": alarmtables.alarms,
    "documents": documenttables.documents,
    "alarmChannels": alarmtables.alarm_channels,
    "staffMembers": noticetables.staff,
    "notices": noticetables.notices,
    "acknowledgements": noticetables.acknowledgements,
    "scorecards": reviewtables.scorecards,
    "reviewRules": reviewtables.review_rules,
    "reviews": reviewtables.reviews,
}


class Concerns:
    """Finds the tenant of what is named with tenants/- by somebody of the box."""

    def __init__(self, store: Store, board: Board, retention: VaultRetention) -> None:
        self._store = store
        self._board = board
        self._retention = retention

    async def tenant_of(self, subject: str, identity: Identity | None) -> str:
        """A tenant's id; "-" for every tenant; empty for the box, or where it is not known.

        Whoever is of a tenant concerns that tenant alone, whatever is named: another tenant's audit does not show who
        knocked.
        """
        owner = identitynames.owner(subject)
        if owner is not None and identity is not None and not identity.tenant_id:
            return naming.parts(owner)[0]
        if owner is not None and identity is None:
            who = tables.identities  # what strangers say may name anything: only who is there counts
            return await self._look(sa.select(who.c.tenant_id).where(who.c.name == owner))
        if identity is None:
            return ""
        found = _OF_TENANT.fullmatch(subject)
        if identity.tenant_id or found is None:
            return identity.tenant_id
        tenant_id, collection, thing = found.groups()
        if tenant_id != EVERY_TENANT:
            return str(tenant_id)
        return await self._owner(collection, thing) if collection else EVERY_TENANT

    async def _owner(self, collection: str, thing: str) -> str:
        if collection == "legalHolds":
            return await self._of_hold(thing)
        if collection == "calls":
            return await self._of_call(thing)
        table = _KEPT.get(collection)
        return (
            "" if table is None else await self._look(sa.select(table.c.tenant_id).where(table.c.id == thing))
        )

    async def _look(self, query: sa.Select[tuple[str]]) -> str:
        found = await self._store.read(lambda connection: connection.execute(query.limit(1)).first())
        return "" if found is None else str(found[0])

    async def _of_call(self, call_id: str) -> str:
        try:
            return self._board.call(None, call_id).tenant_id
        except (CallNotFoundError, SignalingUnavailableError):
            recordings = tables.recordings
            return await self._look(sa.select(recordings.c.tenant_id).where(recordings.c.call_id == call_id))

    async def _of_hold(self, case_id: str) -> str:
        try:
            return (await self._retention.hold(case_id)).tenant_id
        except EarwitnessError as error:
            if error.kind not in (Kind.NOT_FOUND, Kind.UNAVAILABLE):
                raise
            return ""  # the handler says so
