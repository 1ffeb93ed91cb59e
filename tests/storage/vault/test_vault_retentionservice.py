"""RetentionService of the vault over its socket: what is asked, what is refused, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from conftest_process import refused
from conftest_vault import DAY_NS, House

from appliance.model import id_bytes, new_id
from appliance.process import rpc
from appliance.process.interceptors import ErrorInterceptor
from appliance.storage.retention.brake import Limits
from appliance.storage.vault.contract import BucketState
from appliance.storage.vault.retentionservice import RetentionServicer
from appliance.storage.vault.service import VaultServicer
from earwitness.internal.v1 import retention_pb2 as pb
from earwitness.internal.v1 import retention_pb2_grpc, vault_pb2, vault_pb2_grpc

WHO = "officer"
RETENTION, GRACE, COOLING = pb.POLICY_FIELD_RETENTION, pb.POLICY_FIELD_GRACE, pb.POLICY_FIELD_COOLING


class Service:
    """A house with its services, served."""

    def __init__(self, house: House) -> None:
        self.house = house
        house.open()
        self.server = grpc.server(ThreadPoolExecutor(8), interceptors=[ErrorInterceptor()])
        retention_pb2_grpc.add_RetentionServiceServicer_to_server(RetentionServicer(house.parts), self.server)
        vault_pb2_grpc.add_VaultServiceServicer_to_server(VaultServicer(house.parts, None), self.server)
        house.layout.socket("vault").parent.mkdir(parents=True, exist_ok=True)
        self.server.add_insecure_port(rpc.target(house.layout, "vault"))
        self.server.start()
        self.channel = rpc.channel(house.layout, "vault")
        self.stub = retention_pb2_grpc.RetentionServiceStub(self.channel)
        self.vault = vault_pb2_grpc.VaultServiceStub(self.channel)

    def close(self) -> None:
        self.channel.close()
        self.server.stop(0).wait()

    # Shorthand.

    def line(self) -> pb.PolicyScope:
        return pb.PolicyScope(tenant_id=self.house.tenant, line_id=self.house.line)

    def set(
        self, retention: str = "", scope: pb.PolicyScope | None = None, **how: object
    ) -> pb.SetPolicyResponse:
        request = {"fields": [RETENTION], "policy": pb.Policy(retention=retention), "who": WHO, **how}
        return self.stub.SetPolicy(pb.SetPolicyRequest(scope=scope or pb.PolicyScope(), **request))

    def policy(self, scope: pb.PolicyScope) -> pb.ScopedPolicy:
        return self.stub.GetPolicies(pb.GetPoliciesRequest(scopes=[scope])).policies[0]

    def quick(self, retention: str = "10d", grace_days: int = 5) -> None:
        """A policy of the box that holds, without a cooling-off."""
        self.set(fields=[COOLING], policy=pb.Policy(cooling_days=0))
        self.days(8)
        self.set(fields=[RETENTION, GRACE], policy=pb.Policy(retention=retention, grace_days=grace_days))

    def days(self, count: float) -> None:
        self.house.clocks.pass_(int(count * DAY_NS))
        self.house.parts.timekeeper.tick()

    def filed(self, count: int = 2) -> list[str]:
        names = [self.house.record(created_ns=self.house.clocks.wall_ns) for _ in range(count)]
        assert self.house.poll() == count
        return names

    def hold(self, *names: str, scopes: tuple[pb.HoldScope, ...] = (), tenant: str = "") -> str:
        case = new_id()
        request = pb.CreateHoldRequest(
            case_id=case,
            tenant_id=tenant or self.house.tenant,
            title="inquiry",
            reason="the coroner asked",
            owner="records office",
            scopes=scopes,
        )
        self.stub.CreateHold(request)
        if names:
            self.stub.AddToHold(pb.AddToHoldRequest(case_id=case, who=WHO, recording_ids=names))
        return case

    def keeping(self, *names: str) -> list[pb.Keeping]:
        return list(self.stub.GetKeeping(pb.GetKeepingRequest(recording_ids=names)).keeping)

    def plan(self, tenant_id: str = "") -> tuple[pb.PlanHeader, list[pb.PlanItem]]:
        first, *rest = self.stub.PlanRetention(pb.PlanRetentionRequest(tenant_id=tenant_id))
        return first.header, [one.plan_item for one in rest]

    def upcoming(self, **how: object) -> list[pb.Upcoming]:
        answers = self.stub.ListUpcoming(pb.ListUpcomingRequest(**how))
        return [one for answer in answers for one in answer.upcoming]

    def holds(self, **how: object) -> list[pb.Hold]:
        return [one.hold for one in self.stub.ListHolds(pb.ListHoldsRequest(**how))]

    def run(self, digest: str = "") -> pb.Run:
        self.house.parts.parker.poll()
        return list(self.stub.RunRetention(pb.RunRetentionRequest(who=WHO, digest=digest)))[-1].run

    def verify(self, **how: object) -> tuple[list[pb.VerifyFinding], pb.VerifyTotals]:
        found = list(self.stub.VerifyStored(pb.VerifyStoredRequest(**how)))
        assert found[0].HasField("progress") and found[-1].HasField("totals")
        return [one.finding for one in found if one.HasField("finding")], found[-1].totals


@pytest.fixture
def service(house: House) -> Iterator[Service]:
    made = Service(house)
    yield made
    made.close()


# Policies.


def test_what_holds_where_nobody_says_anything(service: Service) -> None:
    answer = service.stub.GetPolicies(pb.GetPoliciesRequest())
    (box,) = answer.policies
    assert box.effective.retention == "3 years" and box.effective.grace_days == 30
    assert box.effective.unit == pb.SLICE_UNIT_MONTH and not box.effective.HasField("unit_scope")
    assert not box.said.retention and box.said.cooling_days == answer.cooling_days == 7
    line = service.policy(service.line())
    assert line.effective == box.effective and not line.said.HasField("grace_days")


def test_lengthening_holds_at_once_and_shortening_waits_with_its_list(service: Service) -> None:
    longer = service.set("7y", service.line())
    assert longer.policy.effective.retention == "7 years" and not longer.policy.pending
    (part,) = longer.impact.differences
    assert (part.old, part.new, part.shortens) == ("", "7 years", False)
    names = service.filed(3)
    service.hold(names[0])
    service.days(40)
    before = service.stub.GetPolicies(pb.GetPoliciesRequest())
    shown = service.set("1d", service.line(), validate_only=True)
    assert service.stub.GetPolicies(pb.GetPoliciesRequest()) == before, "only shown"
    impact = shown.impact
    assert (impact.recordings, impact.held, impact.deleted) == (2, 1, 0)
    assert impact.bytes == sum(service.house.vault.holding(name).size for name in names[1:])
    (bucket,) = impact.buckets
    assert (bucket.recordings, bucket.held, impact.bucket_count) == (2, 1, 1)
    assert (impact.before.retention, impact.after.retention) == ("7 years", "1 day")
    made = service.set("1d", service.line(), version=before.version)
    (waits,) = made.policy.pending
    assert (waits.field, waits.old, waits.new, waits.who) == (RETENTION, "7 years", "1 day", WHO)
    assert waits.effective_ns == waits.made_ns + 7 * DAY_NS
    assert made.policy.effective.retention == "7 years" and made.impact == impact
    assert service.keeping(names[1])[0].expire_ns == waits.effective_ns, "what waits counts"
    request = pb.CancelPolicyChangeRequest(scope=service.line(), field=RETENTION, who=WHO)
    service.stub.CancelPolicyChange(request)
    assert refused(service.stub.CancelPolicyChange, request) == ("NOT_FOUND", "POLICY_NOT_PENDING")
    assert service.keeping(names[1])[0].expire_ns > waits.effective_ns + 5 * 365 * DAY_NS


def test_a_shorter_grace_names_the_deleted(service: Service) -> None:
    names = service.filed(3)
    for name in names[:2]:
        service.vault.DeleteRecording(vault_pb2.DeleteRecordingRequest(recording_id=name))
    service.house.poll()
    service.hold(names[1])
    shown = service.set(fields=[GRACE], policy=pb.Policy(grace_days=3), validate_only=True).impact
    assert (shown.recordings, shown.deleted, shown.held, shown.bucket_count) == (1, 1, 1, 0)


@pytest.mark.parametrize("text", ["0d", "-1y", "nonsense", "101y", "7", "1e3d"])
def test_no_retention(service: Service, text: str) -> None:
    assert refused(lambda: service.set(text)) == ("INVALID_ARGUMENT", "RETENTION_INVALID")


def test_what_is_refused_of_a_policy(service: Service) -> None:
    grace = pb.Policy(grace_days=-1)
    assert refused(lambda: service.set(fields=[GRACE], policy=grace))[1] == "POLICY_INVALID"
    assert refused(lambda: service.set(fields=[]))[1] == "POLICY_INVALID"
    assert refused(lambda: service.set(fields=[9]))[1] == "INVALID"
    cooling = pb.Policy(cooling_days=1)
    assert refused(lambda: service.set("", service.line(), fields=[COOLING], policy=cooling))[1] == (
        "POLICY_INVALID"
    )
    version = service.stub.GetPolicies(pb.GetPoliciesRequest()).version
    service.set("8y")
    assert refused(lambda: service.set("9y", version=version)) == ("ABORTED", "POLICY_CHANGED")


def test_a_version_that_was_read_after_a_change_took_effect_is_the_present_one(service: Service) -> None:
    service.set("1y")
    service.days(8)
    answer = service.stub.GetPolicies(pb.GetPoliciesRequest())
    assert answer.policies[0].said.retention == "1 year" and not answer.policies[0].pending
    service.set("2y", version=answer.version)
    assert service.stub.GetPolicies(pb.GetPoliciesRequest()).version > answer.version


def test_the_first_policy_of_a_line(service: Service) -> None:
    request = pb.BeginPolicyRequest(
        scope=service.line(), policy=pb.Policy(grace_days=0, unit=pb.SLICE_UNIT_WEEK), who=WHO
    )
    found = service.stub.BeginPolicy(request).policy
    assert found.effective.grace_days == 0 and not found.pending, "nothing was recorded, so nothing waits"
    assert found.effective.unit == pb.SLICE_UNIT_WEEK
    request.policy.grace_days = 9
    assert service.stub.BeginPolicy(request).policy == found, "it has one"
    (name,) = service.filed(1)
    assert "W" in service.house.vault.holding(name).slice
    # A line that has recordings waits as everybody does.
    service.house.line = new_id()
    service.filed(1)
    request.scope.CopyFrom(service.line())
    late = service.stub.BeginPolicy(request).policy
    assert late.effective.grace_days == 30 and [one.new for one in late.pending] == ["9 days"]


# Plans and runs.


def test_a_plan_is_shown_confirmed_and_carried_out(service: Service) -> None:
    service.quick()
    names = service.filed(3)
    service.hold(names[0])
    service.days(12)
    service.house.parts.expiry._limits = Limits(recordings=1)
    header, items = service.plan()
    assert header.brake.recordings == 2 and "confirm" in header.brake.message
    (item,) = [one for one in items if one.destroys]
    assert (item.kind, item.recordings, item.whole) == ("expire-bucket", 2, True)
    assert item.why.rule == "retention" and item.why.retention == "10 days" and item.why.sentence
    assert [list(one.recording_ids) for one in item.evacuations] == [[names[0]]]
    totals = {one.kind: one.recordings for one in header.totals}
    assert totals["expire-bucket"] == 2
    _, others = service.plan(new_id())
    assert others == [] and service.plan(new_id())[0].digest == header.digest
    assert service.run().outcome == "braked"
    call = service.stub.RunRetention(pb.RunRetentionRequest(who=WHO, digest="0" * 64))
    assert refused(list, call) == ("FAILED_PRECONDITION", "PLAN_CHANGED")
    done = service.run(header.digest)
    assert (done.outcome, done.destroyed_recordings, done.evacuated) == ("done", 2, 1)
    assert done.confirmed_by == WHO and done.digest == header.digest
    runs = service.stub.ListRuns(pb.ListRunsRequest(limit=1))
    assert runs.runs[0] == done and runs.more
    rest = service.stub.ListRuns(pb.ListRunsRequest(limit=10, before=done.run_id))
    assert [one.outcome for one in rest.runs] == ["braked"] and not rest.more
    assert service.vault.GetHolding(vault_pb2.GetHoldingRequest(recording_id=names[0])).holding.state == 1


def test_what_expires_soon_bucket_by_bucket_and_one_by_one(service: Service) -> None:
    service.quick()
    first = service.filed(3)
    service.days(1)
    second = service.filed(2)
    service.hold(first[0])
    upcoming = service.upcoming(days=30)
    assert [(one.recordings, one.held) for one in upcoming] == [(2, 1), (2, 0)]
    assert upcoming[1].when_ns - upcoming[0].when_ns == DAY_NS
    assert service.upcoming(days=30, after=upcoming[0]) == upcoming[1:]
    assert not service.upcoming(days=3)
    assert not service.upcoming(days=30, tenant_id=new_id())
    found: list[pb.Expiring] = []
    after = None
    while True:
        page = service.stub.ListExpiring(pb.ListExpiringRequest(days=30, limit=1, after=after))
        found += page.expiring
        if not page.more:
            break
        after = page.expiring[-1]
    assert [one.recording_id for one in found] == [
        *sorted(first[1:], key=id_bytes),
        *sorted(second, key=id_bytes),
    ]
    assert refused(lambda: service.upcoming(days=-1))[1] == "INVALID"


def test_why_a_recording_is_kept(service: Service) -> None:
    service.quick()
    names = service.filed(3)
    case = service.hold(names[0])
    service.vault.DeleteRecording(vault_pb2.DeleteRecordingRequest(recording_id=names[1]))

    def explain(name: str) -> pb.ExplainRecordingResponse:
        return service.stub.ExplainRecording(pb.ExplainRecordingRequest(recording_id=name))

    assert [one.rule for one in explain(names[0]).reasons] == ["legal-hold", "retention"]
    assert [one.rule for one in explain(names[1]).reasons] == ["grace"]
    held, deleted, filed = service.keeping(*names)
    assert list(held.cases) == [case] and not deleted.cases and not filed.cases
    assert deleted.purge_ns == service.house.parts.timekeeper.state.clock_ns + 5 * DAY_NS
    assert filed.purge_ns == 0 and filed.expire_ns == explain(names[2]).reasons[0].until_ns
    assert service.keeping(new_id()) == []
    assert refused(explain, new_id()) == ("NOT_FOUND", "RECORDING_NOT_FOUND")
    service.house.eraser.erase([names[2]], "")
    assert refused(explain, names[2]) == ("FAILED_PRECONDITION", "RECORDING_ERASED")
    assert service.keeping(names[2])[0].expire_ns == 0


# Deleting under grace and hold.


def test_undeleting_is_judged_by_the_retention_clock_and_the_effective_grace(service: Service) -> None:
    service.quick(grace_days=5)
    names = service.filed(3)

    def delete(name: str) -> None:
        service.vault.DeleteRecording(vault_pb2.DeleteRecordingRequest(recording_id=name))

    def undelete(name: str, **how: bool) -> int:
        request = vault_pb2.UndeleteRecordingRequest(recording_id=name, **how)
        return service.vault.UndeleteRecording(request).holding.state

    for name in names:
        delete(name)
    service.house.poll()
    service.hold(names[1])
    service.house.clocks.wall_ns += 100 * DAY_NS  # a wrong wall clock takes no grace from anybody
    service.house.parts.timekeeper.tick()
    assert undelete(names[0], validate_only=True) == 2 and undelete(names[0]) == 1
    service.house.clocks.wall_ns -= 100 * DAY_NS
    service.days(6)
    for how in ({}, {"validate_only": True}):
        assert refused(lambda how=how: undelete(names[2], **how)) == ("FAILED_PRECONDITION", "GRACE_OVER")
    assert undelete(names[1]) == 1, "what a case holds can be brought back to be heard"


def test_what_a_case_holds_is_neither_deleted_nor_erased(service: Service) -> None:
    names = service.filed(2)
    case = service.hold(names[0])
    for how in (False, True):
        delete = vault_pb2.DeleteRecordingRequest(recording_id=names[0], validate_only=how)
        erase = vault_pb2.EraseRecordingsRequest(recording_ids=names, validate_only=how)
        for call, request in (
            (service.vault.DeleteRecording, delete),
            (service.vault.EraseRecordings, erase),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(request)
            found = rpc.from_rpc_error(caught.value)
            assert found.reason == "RECORDING_HELD" and case in str(found.data["cases"])
    dry = vault_pb2.EraseRecordingsRequest(recording_ids=names[1:], validate_only=True)
    assert not service.vault.EraseRecordings(dry).certificates
    assert service.house.check_readable(names[1])


# Legal holds.


def test_a_case_from_its_opening_to_its_end(service: Service) -> None:
    names = service.filed(5)
    case = service.hold(*names[:3], scopes=(pb.HoldScope(line_id=service.house.line, to_ns=5),))
    hold = service.stub.GetHold(pb.GetHoldRequest(case_id=case)).hold
    assert (hold.title, hold.owner, hold.recordings) == ("inquiry", "records office", 3)
    assert [(one.from_ns, one.to_ns) for one in hold.scopes] == [(0, 5)]
    found, after = [], ""
    while True:
        page = service.stub.ListHoldRecordings(
            pb.ListHoldRecordingsRequest(case_id=case, limit=2, after=after)
        )
        found += page.recording_ids
        if not page.more:
            break
        after = page.recording_ids[-1]
    assert found == sorted(names[:3], key=id_bytes)
    assert service.holds() == [hold]
    assert not service.holds(tenant_id=new_id())
    release = pb.ReleaseHoldRequest(case_id=case, who=WHO, reason="closed", validate_only=True)
    assert service.stub.ReleaseHold(release).hold.released_ns == 0
    release.validate_only = False
    assert service.stub.ReleaseHold(release).hold.released_by == WHO
    assert refused(service.stub.ReleaseHold, release) == ("FAILED_PRECONDITION", "HOLD_RELEASED")
    assert not service.holds()
    assert len(service.holds(released=True)) == 1
    assert service.house.vault.keystore.pinned() == []


def test_what_is_not_filed_yet_is_added_to_a_case_and_listed_among_the_others(service: Service) -> None:
    house = service.house
    names = service.filed(3)
    unfiled = [house.record(ended=False, live=True), house.record(), house.record(deposited=False)]
    case = service.hold(*names)
    request = pb.AddToHoldRequest(case_id=case, who=WHO, recording_ids=unfiled, validate_only=True)
    assert service.stub.AddToHold(request).hold.recordings == 3
    request.validate_only = False
    assert service.stub.AddToHold(request).hold.recordings == 6

    def listed(limit: int) -> list[str]:
        found: list[str] = []
        asked = pb.ListHoldRecordingsRequest(case_id=case, limit=limit)
        while True:
            page = service.stub.ListHoldRecordings(asked)
            found += page.recording_ids
            assert len(page.recording_ids) == limit or not page.more
            if not page.more:
                return found
            asked.after = page.recording_ids[-1]

    everything = sorted(names + unfiled, key=id_bytes)
    for limit in (1, 2, 3, 6, 7):
        assert listed(limit) == everything
    house.let_go()
    assert house.poll() == 2
    assert listed(2) == everything
    house.vault.arriving[names[0]] = None  # as while it is filed: nothing is listed twice
    assert listed(2) == everything
    held = [name for name in everything if name != unfiled[2]]
    dry = vault_pb2.EraseRecordingsRequest(recording_ids=held, validate_only=True)
    assert refused(service.vault.EraseRecordings, dry)[1] == "RECORDING_HELD"
    explain = pb.ExplainRecordingRequest(recording_id=unfiled[0])
    assert service.stub.ExplainRecording(explain).reasons[0].rule == "legal-hold"
    explain.recording_id = unfiled[2]
    assert refused(service.stub.ExplainRecording, explain)[1] == "RECORDING_NOT_FILED"


def test_what_is_refused_of_a_case(service: Service) -> None:
    names = service.filed(2)
    service.house.eraser.erase(names[:1], "")
    own = service.house.tenant
    service.house.tenant = other = new_id()
    service.house.public = service.house.vault.keystore.create_tenant(other)
    (foreign,) = service.filed(1)
    case = service.hold(tenant=own)

    def add(*ids: str, case: str = case, **how: object) -> object:
        return service.stub.AddToHold(pb.AddToHoldRequest(case_id=case, who=WHO, recording_ids=ids, **how))

    for dry in (True, False):
        how = {"validate_only": dry}
        assert refused(lambda how=how: add(names[0], **how)) == ("FAILED_PRECONDITION", "RECORDING_ERASED")
        assert refused(lambda how=how: add(foreign, **how)) == ("INVALID_ARGUMENT", "HOLD_TENANT")
        assert refused(lambda how=how: add(new_id(), **how)) == ("NOT_FOUND", "RECORDING_NOT_FOUND")
        assert refused(lambda how=how: add("x", **how))[1] == "INVALID"
        unknown = new_id()
        assert refused(lambda how=how, case=unknown: add(case=case, **how)) == ("NOT_FOUND", "HOLD_NOT_FOUND")
    upside_down = [pb.HoldScope(from_ns=5, to_ns=4)]
    assert refused(lambda: add(scopes=upside_down))[1] == "HOLD_INVALID"
    nameless = pb.CreateHoldRequest(
        case_id=new_id(), tenant_id=own, reason="x", owner="y", validate_only=True
    )
    assert refused(service.stub.CreateHold, nameless)[1] == "HOLD_INVALID"
    again = pb.CreateHoldRequest(case_id=case, tenant_id=own, title="x", reason="x", owner="y")
    assert refused(service.stub.CreateHold, again) == ("ALREADY_EXISTS", "HOLD_EXISTS")
    assert service.house.vault.keystore.pinned() == []


# The clock.


def test_a_frozen_clock_is_told_and_accepted(service: Service) -> None:
    service.house.clocks.wall_ns += 30 * DAY_NS
    clock = service.stub.GetClock(pb.GetClockRequest()).clock
    assert clock.frozen.rule == "wall-ahead" and clock.wall_ns - clock.clock_ns == 30 * DAY_NS
    assert service.plan()[0].frozen.rule == "wall-ahead"
    accepted = service.stub.AcceptClock(pb.AcceptClockRequest(who=WHO)).clock
    assert not accepted.HasField("frozen") and accepted.clock_ns == accepted.wall_ns


# Buckets and what is in them.


def test_buckets_say_who_holds_their_snapshots(service: Service) -> None:
    service.quick()
    names = service.filed(3)
    service.vault.DeleteRecording(vault_pb2.DeleteRecordingRequest(recording_id=names[0]))
    service.house.poll()
    case = service.hold(names[1])
    bucket = service.house.vault.holding(names[0]).bucket
    service.house.ground.foreign_hold(
        next(one.id for one in service.house.vault.store.snapshots() if one.id.name == "guard"), "mine"
    )
    (found,) = (one.bucket for one in service.stub.ListBuckets(pb.ListBucketsRequest()))
    assert (found.state, found.recordings, found.deleted, found.held) == ("open", 2, 1, 1)
    assert found.bucket.slice == bucket.slice and found.expire_ns == service.keeping(names[2])[0].expire_ns
    holds = {one.name: {hold.tag: hold for hold in one.holds} for one in found.snapshots}
    parked = service.house.vault.holding(names[0]).parked
    assert holds["guard"]["ew.guard"].owner == "vault" and holds[parked]["ew.grace"].reason
    mine = holds[f"h-{case}-1"][f"ew.case.{case}"]
    assert (mine.owner, mine.reason, mine.case_id) == ("records office", "the coroner asked", case)
    assert holds["guard"]["mine"].owner == ""
    assert not list(service.stub.ListBuckets(pb.ListBucketsRequest(tenant_id=new_id())))


def test_everything_stored_is_checked_and_damage_is_named(service: Service) -> None:
    service.quick()
    names = service.filed(4)
    service.days(1)
    names += service.filed(2)
    service.vault.DeleteRecording(vault_pb2.DeleteRecordingRequest(recording_id=names[0]))
    service.house.poll()
    service.house.eraser.erase([names[1]], "")
    findings, totals = service.verify()
    assert not findings and (totals.checked, totals.recordings, totals.damaged) == (5, 5, 0)
    assert totals.bytes_checked == totals.bytes > 0
    store, bucket = service.house.vault.store, service.house.vault.holding(names[2]).bucket
    service.house.ground.damage(bucket, names[2])
    store.lock(bucket)
    findings, totals = service.verify()
    assert {one.recording_id for one in findings} == {names[2]} and totals.damaged == 1
    assert findings[0].code and findings[0].message and findings[0].bucket.slice == bucket.slice
    assert findings[0].offset >= 0
    assert store.state(bucket) is BucketState.LOCKED, "locked again"
    findings, totals = service.verify(sample=3)
    assert totals.checked == totals.recordings == 3
    _, totals = service.verify(tenant_id=new_id())
    assert totals.recordings == totals.checked == 0
    call = service.stub.VerifyStored(pb.VerifyStoredRequest(sample=-1))
    assert refused(list, call)[1] == "INVALID"


def test_what_goes_while_it_is_checked_is_no_finding(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = service.filed(3)
    vault, read = service.house.vault, service.house.vault.store.read

    def erased_meanwhile(*place: object, **how: object) -> object:
        if names[1] not in vault.erasing and names[1] in vault.keystore:
            service.house.eraser.erase([names[1]], "")
        return read(*place, **how)

    monkeypatch.setattr(vault.store, "read", erased_meanwhile)
    findings, totals = service.verify()
    assert not findings and (totals.checked, totals.gone) == (2, 1)


def test_a_medium_that_does_not_answer_is_no_finding(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.storage.vault.errors import StoreSuspendedError

    service.filed(2)

    def ill(*place: object, **how: object) -> None:
        raise StoreSuspendedError("the pool has stopped")

    monkeypatch.setattr(service.house.vault.store, "read", ill)
    call = service.stub.VerifyStored(pb.VerifyStoredRequest())
    assert refused(list, call) == ("UNAVAILABLE", "STORE_SUSPENDED")


# At a glance.


def test_the_overview(service: Service) -> None:
    service.quick()
    names = service.filed(4)
    case = service.hold(names[0])
    service.set("5d")
    service.run()
    found = service.stub.GetOverview(pb.GetOverviewRequest())
    assert found.backend == service.house.vault.store.backend and not found.ailments
    assert 0 < found.free_bytes <= found.total_bytes and found.filed == 4
    assert (found.buckets.open, found.buckets.locked, found.buckets.expiring) == (1, 0, 1)
    assert [one.case_id for one in found.holds] == [case] and found.holds[0].owner == "records office"
    assert found.forecast.days_measured == 1
    size = sum(service.house.vault.holding(name).size for name in names)
    assert found.forecast.daily_bytes == size and not found.forecast.HasField("days_until_full")
    assert len(found.copies) == 2 and all(one.present for one in found.copies)
    assert found.last_run.outcome == "nothing" and found.last_shred_ns == 0 and found.epoch
    assert not found.clock.HasField("frozen") and found.pending_changes == 0
    service.house.eraser.erase(names[3:], "")
    assert service.stub.GetOverview(pb.GetOverviewRequest()).last_shred_ns


def test_the_overview_of_a_store_that_is_ill(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.storage.vault.errors import StoreSuspendedError

    def ill(*place: object) -> None:
        raise StoreSuspendedError("the pool has stopped")

    monkeypatch.setattr(service.house.vault.store, "space", ill)
    found = service.stub.GetOverview(pb.GetOverviewRequest())
    assert not found.HasField("free_bytes") and not found.HasField("forecast")
    assert [(one.name, one.alarm) for one in found.ailments] == [("STORE_SUSPENDED", True)]
    assert len(found.copies) == 2 and found.clock.clock_ns
    status = service.vault.GetVaultStatus(vault_pb2.GetVaultStatusRequest())
    assert not status.store_answers and status.epoch


def test_copies_of_the_keystore(service: Service) -> None:
    copies = service.stub.ListCopies(pb.ListCopiesRequest()).copies
    assert [one.directory for one in copies] == ["a", "b"] and all(one.epoch for one in copies)
    for dry in (True, False):
        there = pb.ForgetCopyRequest(copy_id=copies[0].copy_id, validate_only=dry)
        assert refused(service.stub.ForgetCopy, there)[1] == "KEYSTORE_COPY_PRESENT"
        unknown = pb.ForgetCopyRequest(copy_id=new_id(), validate_only=dry)
        assert refused(service.stub.ForgetCopy, unknown) == ("NOT_FOUND", "KEYSTORE_COPY_UNKNOWN")


def test_quotas(service: Service) -> None:
    service.filed(2)
    asked = pb.GetUsageRequest(tenant_id=service.house.tenant)
    before = service.stub.GetUsage(asked)
    assert before.used_bytes > 0 and before.quota_bytes == 0
    service.stub.SetQuota(pb.SetQuotaRequest(tenant_id=service.house.tenant, quota_bytes=1 << 30))
    assert service.stub.GetUsage(asked).quota_bytes == 1 << 30
    below = pb.SetQuotaRequest(tenant_id=service.house.tenant, quota_bytes=-1)
    assert refused(service.stub.SetQuota, below)[1] == "INVALID"
    assert refused(service.stub.GetUsage, pb.GetUsageRequest(tenant_id="../x"))[0] == "INVALID_ARGUMENT"


def test_certificates_name_their_entry_in_the_deletion_log(service: Service) -> None:
    (name,) = service.filed(1)
    service.house.vault.replicas = ("north",)
    request = vault_pb2.EraseRecordingsRequest(recording_ids=[name], reason="asked")
    (made,) = service.vault.EraseRecordings(request).certificates
    assert (made.version, list(made.replicas)) == (2, ["north"]) and made.log_number > 0
    answer = service.stub.GetKeeping(pb.GetKeepingRequest(recording_ids=[name]))
    assert [(one.name, one.confirmed) for one in answer.replicas] == [("north", 0)]
    service.house.vault.confirmed["north"] = made.log_number
    answer = service.stub.GetKeeping(pb.GetKeepingRequest(recording_ids=[name]))
    assert answer.replicas[0].confirmed == made.log_number
