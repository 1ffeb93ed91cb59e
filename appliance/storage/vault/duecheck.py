"""Whether what a plan destroys is still due, asked at the last moment: a retention that was made longer counts at once."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.storage.retention.facts import Facts
from appliance.storage.retention.items import ItemKind, PlanItem
from appliance.storage.retention.rules import Rules
from appliance.storage.vault.contract import BucketId
from appliance.storage.vault.errors import NotDueError
from appliance.storage.vault.gather import deleted_facts
from appliance.storage.vault.holding import Holding
from appliance.storage.vault.legal import LegalHolds
from appliance.storage.vault.policies import Policies
from appliance.storage.vault.timekeeper import Timekeeper


class DueCheck:
    """See the module."""

    def __init__(self, timekeeper: Timekeeper, policies: Policies, legal: LegalHolds) -> None:
        self._timekeeper = timekeeper
        self._policies = policies
        self._legal = legal

    def refuse_early(self, item: PlanItem, bucket: BucketId, doomed: Sequence[Holding]) -> None:
        """NotDueError where the clock is frozen now, or the time of something is not over. OSError."""
        rules = Rules(Facts(self._timekeeper.tick(), self._policies.book))
        if (frozen := rules.why_frozen()) is not None:
            raise NotDueError(frozen.sentence, bucket=bucket.path)
        for due_ns in self._times(item, bucket, doomed, rules):
            if due_ns > rules.now:
                raise NotDueError(
                    "its time is not over any more: the policy was changed since the plan was made",
                    bucket=bucket.path,
                )

    def _times(self, item: PlanItem, bucket: BucketId, doomed: Sequence[Holding], rules: Rules) -> list[int]:
        """When what goes is due, each time once."""
        match item.kind:
            case ItemKind.EXPIRE_BUCKET:
                return [rules.due(bucket.tenant_id, bucket.line_id, bucket.slice)]
            case ItemKind.ERASE_DELETED:
                return [rules.grace_over(deleted_facts(held, self._legal)) for held in doomed]
            case ItemKind.DROP_HOLD_RECORDINGS:
                return [rules.due(held.tenant_id, held.line_id, held.slice) for held in doomed]
        return []
