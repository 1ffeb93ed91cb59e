"""What policies, legal holds and the retention clock say together, as the vault asks it."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.storage.names import SliceUnit
from appliance.storage.vault.holding import Holding
from appliance.storage.vault.legal import LegalHolds
from appliance.storage.vault.policies import Policies
from appliance.storage.vault.timekeeper import Timekeeper


class Rulebook:
    """See core.Rules."""

    def __init__(self, timekeeper: Timekeeper, policies: Policies, legal: LegalHolds) -> None:
        self._timekeeper = timekeeper
        self._policies = policies
        self._legal = legal

    def cases_of(self, held: Holding) -> Sequence[str]:
        """See Rules."""
        return self._legal.cases_of(held)

    def kept_from(self, created_ns: int) -> int:
        """See Rules."""
        return self._timekeeper.kept_from(created_ns)

    def latest_ns(self) -> int:
        """See Rules."""
        return self._timekeeper.state.latest_ns

    def slice_unit(self, tenant_id: str, line_id: str) -> SliceUnit:
        """See Rules."""
        return self._policies.effective(tenant_id, line_id).unit

    def filed(self, held: Holding) -> None:
        """See Rules."""
        self._legal.filed(held)
