"""How long single recordings are kept, and why: what policies, legal holds and the retention clock say of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from appliance.storage.retention.facts import Facts
from appliance.storage.retention.items import Why
from appliance.storage.retention.outlook import RecordingFacts, why_kept
from appliance.storage.retention.rules import Rules
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.erasure import check_many
from appliance.storage.vault.errors import GraceOverError
from appliance.storage.vault.gather import deleted_facts
from appliance.storage.vault.holding import KEPT, Holding, HoldingState


@dataclass(frozen=True, slots=True)
class Kept:
    """`expire_ns`: when its retention is over; `purge_ns`: of a deleted one, when its grace is. 0: nothing says so.

    By the retention clock, nanoseconds since the Unix epoch, under the policies of now and those that wait.
    """

    recording_id: str
    expire_ns: int
    purge_ns: int
    cases: tuple[str, ...]


class Keeper:
    """See the module. Safe to use from any thread."""

    def __init__(self, parts: Assembly) -> None:
        self._parts = parts
        self._vault = parts.vault

    def rules(self) -> Rules:
        """The rules as they are now, without what lies where: for single recordings."""
        parts = self._parts
        return Rules(Facts(parts.timekeeper.state, parts.policies.book, parts.legal.book.all()))

    def of(self, recording_ids: Iterable[str]) -> Iterator[Kept]:
        """Of those that the vault holds."""
        rules = self.rules()
        for name in recording_ids:
            held = self._vault.holdings.get(name)
            if held is not None:
                yield self._kept(held, rules)

    def _kept(self, held: Holding, rules: Rules) -> Kept:
        if held.state is HoldingState.ERASED or held.recording_id in self._vault.erasing:
            return Kept(held.recording_id, 0, 0, ())
        cases = tuple(self._parts.legal.cases_of(held))
        expire = purge = 0
        if held.state in KEPT:
            expire = rules.due(held.tenant_id, held.line_id, held.slice)
        if held.state is HoldingState.DELETED:
            purge = rules.grace_over(deleted_facts(held, self._parts.legal))
        return Kept(held.recording_id, expire, purge, cases)

    def explain(self, recording_id: str) -> tuple[Holding, Kept, tuple[Why, ...]]:
        """Every reason that keeps a recording, the strongest first. Errors as Vault.holding, and of the store."""
        held = self._vault.holding(recording_id)
        self._vault.refuse_erased(held)
        expiry = self._parts.expiry
        facts = expiry.facts(only=held.bucket) if held.state in KEPT else expiry.facts(snapshots=False)
        about = RecordingFacts(
            held.recording_id,
            held.bucket if held.state in KEPT else None,
            tuple(self._parts.legal.cases_of(held)),
            held.line_id,
            held.slice,
            deleted_facts(held, self._parts.legal) if held.state is HoldingState.DELETED else None,
        )
        return held, self._kept(held, Rules(facts)), why_kept(about, facts)

    # What a change would be refused for.

    def check_delete(self, recording_id: str) -> Holding:
        """Raises what Vault.delete would."""
        found = self._vault.changeable(recording_id)
        if found.state is not HoldingState.DELETED:
            self._vault.refuse_held([found])
        return found

    def check_undelete(self, recording_id: str) -> Holding:
        """GraceOverError where the grace is over and nothing else keeps it; else what `parking.undelete` would raise."""
        found = self._vault.changeable(recording_id)
        if found.state is HoldingState.DELETED:
            now = self._parts.timekeeper.tick().clock_ns  # as it is now, not as of the last minute
            kept = self._kept(found, self.rules())
            if not kept.cases and kept.purge_ns <= now:
                raise GraceOverError("the time to bring it back is over", recording_id=recording_id)
        return found

    def check_erase(self, recording_ids: Sequence[str]) -> None:
        """Raises what Eraser.erase would, as far as it is known beforehand."""
        check_many(recording_ids)
        found = [self._vault.holding(name) for name in recording_ids]
        self._vault.refuse_held(held for held in found if held.certificate is None)
