"""What lines are made with, on its way into the vault, whose the policies are.

It is noted in the transaction that makes the line and taken away when the vault has it, so that a crash in between, or a
vault that is away, delays it and loses nothing. The vault leaves a line alone that has a policy.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from typing import Final

from appliance.api.store import Store
from appliance.api.vaultretention import VaultRetention
from appliance.catalog import linepolicies
from appliance.catalog.linepolicies import LinePolicy
from appliance.model import EarwitnessError
from appliance.model.routing import Line
from appliance.process.status import WARNING, Status
from earwitness.internal.v1 import retention_pb2 as vault

WAITING: Final = "LinePolicyWaiting"
_UNITS: Final = {
    "": vault.SLICE_UNIT_UNSPECIFIED,
    "day": vault.SLICE_UNIT_DAY,
    "week": vault.SLICE_UNIT_WEEK,
    "month": vault.SLICE_UNIT_MONTH,
}


class LinePolicies:
    """See the module."""

    def __init__(self, store: Store, retention: VaultRetention, status: Status) -> None:
        self._store = store
        self._retention = retention
        self._status = status
        self._lock = asyncio.Lock()

    async def push(self, line_id: str = "") -> None:
        """Gives the vault what it has not taken yet, of one line or of all. Errors of the vault; it is tried again."""
        async with self._lock:
            for one in await self._store.read(linepolicies.waiting):
                if line_id not in ("", one.line_id):
                    continue
                await self._retention.begin_policy(_request(one))
                await self._store.write(functools.partial(linepolicies.done, line_id=one.line_id))

    async def try_push(self) -> None:
        """All of it; a condition says where it cannot be done."""
        try:
            await self.push()
            self._status.clear_condition(WAITING)
        except EarwitnessError as error:
            self._status.raise_condition(
                WAITING,
                WARNING,
                f"What lines were made with is not in force yet, and is tried again: {error.message}.",
            )

    async def of(self, lines: Iterable[Line]) -> dict[str, vault.EffectivePolicy]:
        """What holds for lines, by id; empty while the vault does not answer."""
        lines = list(lines)
        if not lines:
            return {}
        scopes = [vault.PolicyScope(tenant_id=line.tenant_id, line_id=line.line_id) for line in lines]
        try:
            found = (await self._retention.policies(scopes)).policies
        except EarwitnessError:  # absent says so, and the condition of the vault
            return {}
        return {one.scope.line_id: one.effective for one in found}


def _request(one: LinePolicy) -> vault.BeginPolicyRequest:
    return vault.BeginPolicyRequest(
        scope=vault.PolicyScope(tenant_id=one.tenant_id, line_id=one.line_id),
        policy=vault.Policy(grace_days=one.grace_days, unit=_UNITS[one.grain]),
        who=one.who,
    )
