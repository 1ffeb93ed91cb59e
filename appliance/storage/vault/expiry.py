"""Retention, carried out: plan, brake, journal, steps; resumed after a crash at the first step that is not done."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import structlog

from appliance.model import EarwitnessError, new_id
from appliance.process.status import ALARM, WARNING
from appliance.storage.retention import brake, run
from appliance.storage.retention.facts import Facts
from appliance.storage.retention.items import ItemKind, Plan, PlanItem
from appliance.storage.retention.outlook import Upcoming, upcoming
from appliance.storage.retention.plan import make_plan
from appliance.storage.retention.run import Failure, Outcome, RunRecord, StepKind
from appliance.storage.vault.contract import BucketId
from appliance.storage.vault.core import Vault
from appliance.storage.vault.duecheck import DueCheck
from appliance.storage.vault.erasure import Eraser
from appliance.storage.vault.errors import PlanChangedError
from appliance.storage.vault.expirysteps import Steps
from appliance.storage.vault.gather import gather
from appliance.storage.vault.legal import LegalHolds
from appliance.storage.vault.policies import Policies
from appliance.storage.vault.reconcile import compare
from appliance.storage.vault.runs import Begun, Ended, OpenRun, Runs
from appliance.storage.vault.timekeeper import Timekeeper

MAX_FAILURES = 100  # told of one run

log = structlog.get_logger()


class Expiry:
    """See the module. One run at a time; a second one waits."""

    def __init__(
        self,
        vault: Vault,
        eraser: Eraser,
        timekeeper: Timekeeper,
        policies: Policies,
        legal: LegalHolds,
        runs: Runs,
        limits: brake.Limits = brake.Limits(),
    ) -> None:
        self._vault = vault
        self._timekeeper = timekeeper
        self._policies = policies
        self._legal = legal
        self._runs = runs
        self._limits = limits
        self._steps = Steps(vault, eraser, legal, DueCheck(timekeeper, policies, legal))
        self._lock = threading.Lock()

    def facts(self, *, snapshots: bool = True, only: BucketId | None = None) -> Facts:
        """What a plan is made from, now; see `gather`. Errors of the store."""
        parts = self._vault, self._timekeeper, self._policies, self._legal
        return gather(*parts, snapshots=snapshots, only=only)

    def plan(self) -> tuple[Plan, brake.Brake | None]:
        """What the next run would do, and whether it would stop it for being far more than forecast."""
        return self._judge(self.facts())

    def _judge(self, facts: Facts) -> tuple[Plan, brake.Brake | None]:
        plan = make_plan(facts)
        return plan, brake.check(plan, self._runs.forecast, facts.clock, self._limits)

    def upcoming(self, days: int) -> list[Upcoming]:
        """Buckets whose time comes within so many days."""
        return upcoming(self.facts(snapshots=False), days)

    def run(self, who: str = "", confirmed: str = "") -> RunRecord:
        """One run; what it came to. `confirmed`: the digest of the plan that somebody has looked at and wants done.

        PlanChangedError where what would be destroyed now is not what was confirmed; nothing is done then.
        """
        with self._lock:
            self._resume()
            self._compared()
            facts = self.facts()
            plan, stop = self._judge(facts)
            if confirmed and confirmed != plan.digest:
                raise PlanChangedError(
                    "what would be destroyed has changed: look at the plan again", digest=plan.digest
                )
            begun = Begun(
                new_id(), plan.digest, facts.clock.clock_ns, len(plan.destroying), who if confirmed else ""
            )
            self._lock_buckets(plan)
            if facts.clock.frozen is not None:
                return self._end(begun, Outcome.FROZEN, facts, message=facts.clock.frozen.message)
            if facts.book.version < self._runs.book_version:
                return self._end(
                    begun, Outcome.FROZEN, facts, message="older policies were put back: set them anew"
                )
            if stop is not None and not confirmed:
                return self._end(begun, Outcome.BRAKED, facts, message=stop.message)
            if not plan.destroying:
                return self._end(begun, Outcome.NOTHING, facts)
            return self._carry_out(self._runs.begin(begun, list(plan.destroying)))

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """While something goes on that no run may come into; a run waits."""
        with self._lock:
            yield

    def resume(self) -> RunRecord | None:
        """Carries a run that a crash broke off to its end; None where there is none."""
        with self._lock:
            return self._resume()

    def _resume(self) -> RunRecord | None:
        found = self._runs.open
        if found is None:
            return None
        if not found.whole:
            # Its plan was not written down to the end, so nothing of it was begun.
            return self._end(found.begun, Outcome.NOTHING, self.facts(), message="broken off before it began")
        self._compared()
        log.warning("a retention run that broke off is carried on")
        return self._carry_out(found)

    def _compared(self) -> None:
        """Nothing is destroyed before it is known, in this life of the process, what is unknown. Errors of the store."""
        if self._vault.unknown_files is None:
            compare(self._vault)

    def _lock_buckets(self, plan: Plan) -> None:
        """Locking takes nothing from anybody: it needs no journal, and a busy bucket is locked another time."""
        for item in plan.items:
            if item.kind is ItemKind.LOCK_BUCKET and item.bucket is not None:
                self._steps.lock(item.bucket)

    def _carry_out(self, current: OpenRun) -> RunRecord:
        failed: list[Failure] = []
        done: list[PlanItem] = []
        for item in current.items:
            failure = self._item(current, item)
            if failure is None:
                done.append(item)
            else:
                failed.append(failure)
                log.error(
                    "retention item failed", kind=item.kind.value, step=failure.step, reason=failure.reason
                )
        outcome = Outcome.PARTIAL if failed else Outcome.DONE
        erased = [item for item in done if item.kind is ItemKind.ERASE_DELETED]
        expired = [item for item in done if item.whole]
        record = RunRecord(
            current.begun.run_id,
            current.begun.digest,
            current.begun.clock_ns,
            current.begun.clock_ns,
            outcome,
            erased=sum(item.recordings for item in erased),
            expired_buckets=len(expired),
            destroyed_recordings=sum(item.recordings for item in done),
            destroyed_bytes=sum(item.bytes for item in done),
            evacuated=sum(item.evacuated for item in done),
            failed=tuple(failed[:MAX_FAILURES]),
            confirmed_by=current.begun.confirmed_by,
        )
        left = [item for item in current.items if item not in done]
        return self._finish(record, self.facts(), _size(left))

    def _item(self, current: OpenRun, item: PlanItem) -> Failure | None:
        steps = run.steps_of(item)
        run_id = current.begun.run_id
        late = run.committed(steps, current.started)
        rechecks = {step.key for step in steps if step.kind is StepKind.RECHECK}
        # What was looked at before a crash, days ago perhaps, is looked at again, unless it is too late for that.
        for step in run.remaining(steps, current.done if late else set(current.done) - rechecks):
            try:
                if step.kind is StepKind.RECHECK and late:
                    continue  # what cannot be taken back is begun: it is carried to its end
                if step.irreversible and step.key not in current.started:
                    self._runs.step(run_id, step.key, done=False)
                self._vault.fault(f"{step.kind.value} begun")
                self._steps.do(item, step)
                self._vault.fault(f"{step.kind.value} done")
                self._runs.step(run_id, step.key, done=True)
                late = late or step.irreversible
            except (EarwitnessError, OSError) as error:
                self._steps.leave(item)
                reason = error.reason if isinstance(error, EarwitnessError) else "IO"
                message = error.message if isinstance(error, EarwitnessError) else str(error.strerror)
                return Failure(item.key, step.kind.value, reason, message)
        self._steps.leave(item)
        return None

    def _end(self, begun: Begun, outcome: Outcome, facts: Facts, message: str = "") -> RunRecord:
        record = RunRecord(
            begun.run_id, begun.digest, begun.clock_ns, begun.clock_ns, outcome, message=message
        )
        return self._finish(record, facts, (0, 0))

    def _finish(self, record: RunRecord, facts: Facts, left: tuple[int, int]) -> RunRecord:
        record = replace(record, ended_ns=facts.clock.clock_ns)
        forecast = brake.renew(self._runs.forecast, record.outcome, facts, make_plan(facts), left)
        self._runs.end(Ended(record, facts.book.version, forecast))
        self._tell(record)
        return record

    def _tell(self, record: RunRecord) -> None:
        status = self._vault.status
        status.count("retention_runs")
        status.clear_condition("RetentionBraked")
        status.clear_condition("RetentionFailed")
        status.clear_condition("RetentionFrozen")
        match record.outcome:
            case Outcome.BRAKED:
                status.raise_condition(
                    "RetentionBraked",
                    ALARM,
                    f"Nothing expires: {record.message}. Look at `earwitness retention plan`, then confirm it.",
                )
            case Outcome.FROZEN:
                status.raise_condition("RetentionFrozen", WARNING, f"Nothing expires: {record.message}.")
            case Outcome.PARTIAL:
                status.raise_condition(
                    "RetentionFailed",
                    ALARM,
                    f"{len(record.failed)} parts of the last retention run failed and are tried again:"
                    f" {record.failed[0].message}.",
                )


def _size(items: Sequence[PlanItem]) -> tuple[int, int]:
    return sum(item.recordings for item in items), sum(item.bytes for item in items)
