"""Policies, plans, runs, what expires soon, the retention clock: from outside."""

from __future__ import annotations

import grpc
import pytest

import earwitness
from appliance.access.identities import Role
from appliance.model import new_id
from appliance.storage.retention.brake import Limits
from appliance.storage.retention.terms import PolicyChange, PolicyField, PolicyScope
from earwitness.v1 import recordings_pb2, tenants_pb2
from earwitness.v1 import retention_pb2 as pb

DAY_NS = 86_400 * 10**9
ALL = "tenants/-"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def get(client, name="retentionPolicy") -> pb.RetentionPolicy:
    return client.retention.GetRetentionPolicy(pb.GetRetentionPolicyRequest(name=name)).retention_policy


def update(client, name="retentionPolicy", mask=(), how=None, **said) -> pb.UpdateRetentionPolicyResponse:
    request = pb.UpdateRetentionPolicyRequest(
        retention_policy=pb.RetentionPolicy(name=name, **said), **(how or {})
    )
    request.update_mask.paths.extend(mask)
    return client.retention.UpdateRetentionPolicy(request)


def plan(client, parent=ALL) -> tuple[pb.PlanHeader, list[pb.PlanItem]]:
    first, *rest = client.retention.PlanRetention(pb.PlanRetentionRequest(parent=parent))
    return first.header, [one.plan_item for one in rest]


def run(client, **how) -> pb.RetentionRun:
    *progress, last = client.retention.RunRetention(pb.RunRetentionRequest(**how))
    assert all(one.HasField("progress") and 0 <= one.progress.fraction <= 1 for one in progress)
    return last.run


def pages(method, request, field) -> list:
    found = []
    while True:
        answer = method(request)
        found += getattr(answer, field)
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


@pytest.fixture
def names(box, sealing):
    """Names of three recordings of the default line, two in a slice and one in the next."""
    tenant, line = box.default_line()
    ids = [
        box.vault.file(sealing(tenant, line, seconds=0), slice=slice_)
        for slice_ in ("2025-11-24", "2025-11-24", "2025-11-25")
    ]
    for one in ids:
        box.filed(one)
    return [f"tenants/{tenant}/recordings/{one}" for one in ids]


# Policies.


def test_a_policy_says_what_holds_and_who_says_so(box):
    tenant, line = box.default_line()
    client = box.client()
    name = f"tenants/{tenant}/lines/{line}/retentionPolicy"
    found = get(client, name)
    assert found.name == name and not found.retention and not found.HasField("grace_days")
    assert (found.effective.retention, found.effective.retention_policy) == ("3 years", "retentionPolicy")
    assert found.effective.grain == tenants_pb2.GRAIN_MONTH and not found.effective.grain_policy
    assert get(client, f"tenants/-/lines/{line}/retentionPolicy") == found
    done = update(client, f"tenants/{tenant}/retentionPolicy", retention="7y").retention_policy
    assert done.retention == "7 years" and not done.pending_changes and done.etag != get(client).etag
    after = get(client, name)
    assert after.effective.retention_policy == f"tenants/{tenant}/retentionPolicy"
    assert after.etag != found.etag, "what holds changed"
    update(client, name, grace_days=90, grain=tenants_pb2.GRAIN_WEEK)
    listed = pages(
        client.retention.ListRetentionPolicies,
        pb.ListRetentionPoliciesRequest(parent=ALL, page_size=1),
        "retention_policies",
    )
    assert [one.name for one in listed] == ["retentionPolicy", f"tenants/{tenant}/retentionPolicy", name]
    mine = client.retention.ListRetentionPolicies(
        pb.ListRetentionPoliciesRequest(parent=f"tenants/{tenant}")
    ).retention_policies
    assert [one.name for one in mine] == [one.name for one in listed[1:]]
    cleared = update(client, name, ["*"]).retention_policy
    assert cleared.grain == 0 and [one.field for one in cleared.pending_changes] == ["grace_days"]
    assert cleared.effective.grace_days == 90, "less grace waits"


def test_a_shortening_is_shown_and_waits(box, names):
    client = box.client()
    before = get(client)
    shown = update(client, how={"validate_only": True}, retention="30d")
    assert get(client) == before == shown.retention_policy
    (part,) = shown.impact.differences
    assert (part.field, part.old_value, part.new_value, part.shortens) == ("retention", "", "30 days", True)
    assert (shown.impact.recording_count, shown.impact.bucket_count) == (3, 2)
    assert [one.recording_count for one in shown.impact.expirations] == [2, 1]
    assert shown.impact.expirations[0].bucket.endswith("/buckets/2025-11-24")
    assert (shown.impact.before.retention, shown.impact.after.retention) == ("3 years", "30 days")
    made = update(client, how={"request_id": "r"}, retention="30d", etag=before.etag)
    (waits,) = made.retention_policy.pending_changes
    assert (waits.field, waits.new_value, waits.actor) == ("retention", "30 days", "admin")
    assert waits.effective_time.ToNanoseconds() - waits.make_time.ToNanoseconds() == 7 * DAY_NS
    assert get(client).effective.retention == "3 years"
    again = update(client, how={"request_id": "r"}, retention="30d", etag=before.etag)
    assert again.retention_policy == made.retention_policy and not again.HasField("impact")
    assert refused(lambda: update(client, retention="4y", etag=before.etag)).reason == "ETAG_MISMATCH"
    cancel = pb.CancelPendingChangeRequest(name="retentionPolicy", field="retention", validate_only=True)
    assert not client.retention.CancelPendingChange(cancel).retention_policy.pending_changes
    assert get(client) == made.retention_policy
    cancel.validate_only = False
    cancel.request_id = "c"
    assert client.retention.CancelPendingChange(cancel).retention_policy == get(client)
    assert not get(client).pending_changes
    client.retention.CancelPendingChange(cancel)  # done before
    cancel.request_id = ""
    found = refused(lambda: client.retention.CancelPendingChange(cancel))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "POLICY_NOT_PENDING")
    cancel.field = "colour"
    assert refused(lambda: client.retention.CancelPendingChange(cancel)).fields.keys() == {"field"}


def test_an_etag_is_of_one_policy_whatever_happens_to_others(box, monkeypatch):
    tenant, line = box.default_line()
    client = box.client()
    mine, other = f"tenants/{tenant}/lines/{line}/retentionPolicy", f"tenants/{tenant}/retentionPolicy"
    etag = get(client, mine).etag
    policies, calls = box.control.parts.retention.policies, []

    async def changed_in_between(scopes=()):
        found = await policies(scopes)
        if not calls:
            calls.append(1)
            cooling = PolicyChange(PolicyScope(), fields=(PolicyField.COOLING,), cooling_days=9)
            box.vault.retention.policies.set(cooling, "somebody")
        return found

    monkeypatch.setattr(box.control.parts.retention, "policies", changed_in_between)
    assert update(client, mine, retention="9y", etag=etag).retention_policy.retention == "9 years"
    assert get(client).cooling_days == 9 and get(client, other).effective.retention == "3 years"


@pytest.mark.refusals
@pytest.mark.parametrize("text", ["0d", "0 years", "-7y", "nonsense", "seven years", "101y", "7", " "])
def test_a_retention_that_is_none(box, text):
    found = refused(lambda: update(box.client(), retention=text))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RETENTION_INVALID")
    assert list(found.fields) == ["retention_policy.retention"]


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("name", "mask", "said", "reason", "field"),
    [
        ("retentionPolicy", (), {}, "FIELD_INVALID", "update_mask"),
        ("retentionPolicy", ("colour",), {}, "FIELD_INVALID", "update_mask"),
        ("retentionPolicy", ("name",), {}, "FIELD_INVALID", "update_mask"),
        ("retentionPolicy", (), {"grace_days": -1}, "POLICY_INVALID", "retention_policy.grace_days"),
        ("retentionPolicy", (), {"grace_days": 3651}, "POLICY_INVALID", "retention_policy.grace_days"),
        ("retentionPolicy", (), {"cooling_days": 366}, "POLICY_INVALID", "retention_policy.cooling_days"),
        ("retentionPolicy", (), {"grain": 9}, "FIELD_INVALID", "retention_policy.grain"),
        ("tenants/-/retentionPolicy", (), {"grace_days": 1}, "NAME_INVALID", "retention_policy.name"),
        ("tenants/x/retentionPolicy", (), {"grace_days": 1}, "NAME_INVALID", "retention_policy.name"),
        ("policy", (), {"grace_days": 1}, "NAME_INVALID", "retention_policy.name"),
    ],
)
def test_bad_policies_name_the_field(box, name, mask, said, reason, field):
    found = refused(lambda: update(box.client(), name, mask, **said))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert list(found.fields) == [field]


def test_policies_of_what_is_not_there(box):
    tenant, _ = box.default_line()
    client = box.client()
    cooling = refused(lambda: update(client, f"tenants/{tenant}/retentionPolicy", cooling_days=1))
    assert cooling.reason == "POLICY_INVALID"
    for name, reason in (
        (f"tenants/{new_id()}/retentionPolicy", "TENANT_NOT_FOUND"),
        (f"tenants/{tenant}/lines/{new_id()}/retentionPolicy", "LINE_NOT_FOUND"),
    ):
        assert refused(lambda name=name: get(client, name)).reason == reason
    box.vault.stop()
    found = refused(lambda: client.retention.PlanRetention(pb.PlanRetentionRequest(parent=ALL)).__next__())
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "VAULT_UNAVAILABLE")


# Plans and runs.


def test_a_plan_its_confirmation_and_its_run(box, names):
    client = box.client()
    tenant = names[0].split("/")[1]
    header, items = plan(client)
    assert header.digest and not header.HasField("brake") and not header.HasField("freeze")
    assert {one.kind for one in items} <= {pb.PLAN_ITEM_KIND_KEEP_BUCKET, pb.PLAN_ITEM_KIND_LOCK_BUCKET}
    assert all(one.reason.sentence and one.reason.until_time.seconds for one in items)
    assert run(client).outcome == pb.RUN_OUTCOME_NOTHING
    box.vault.retention.ahead_ns = 1200 * DAY_NS
    box.vault.retention.limits = Limits(recordings=1)
    header, items = plan(client)
    assert (header.brake.recording_count, header.brake.allowed_recording_count) == (3, 1)
    doomed = [one for one in items if one.destroys]
    assert [one.kind for one in doomed] == [pb.PLAN_ITEM_KIND_EXPIRE_BUCKET] * 2
    assert doomed[0].reason.rule == pb.RETENTION_RULE_RETENTION and doomed[0].whole
    assert doomed[0].bucket.startswith(f"tenants/{tenant}/lines/") and doomed[0].recording_count == 2
    assert doomed[0].reason.policy == "retentionPolicy" and doomed[0].reason.retention == "3 years"
    assert sum(one.recording_count for one in header.totals) == 3
    assert plan(client, f"tenants/{new_id()}")[1] == []
    braked = run(client, request_id="one")
    assert braked.outcome == pb.RUN_OUTCOME_BRAKED and "confirm" in braked.message
    found = refused(lambda: run(client, digest="0" * 64))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PLAN_CHANGED")
    assert found.data["digest"] == header.digest
    assert box.vault.erasures == 0
    done = run(client, digest=header.digest, request_id="two")
    assert (done.outcome, done.recording_count, done.bucket_count) == (pb.RUN_OUTCOME_DONE, 3, 2)
    assert done.confirmer == "admin" and box.vault.erasures == 3
    assert run(client, digest=header.digest, request_id="two") == done, "once"
    assert refused(lambda: run(client, digest=header.digest)).reason == "PLAN_CHANGED"
    listed = pages(
        client.retention.ListRetentionRuns, pb.ListRetentionRunsRequest(page_size=1), "retention_runs"
    )
    assert [one.outcome for one in listed] == [
        pb.RUN_OUTCOME_DONE,
        pb.RUN_OUTCOME_BRAKED,
        pb.RUN_OUTCOME_NOTHING,
    ]
    erased = box.wait(
        lambda: (
            client.recordings.GetRecording(
                recordings_pb2.GetRecordingRequest(name=names[0])
            ).recording.certificate.epoch
        )
    )
    assert erased


def test_what_expires_soon(box, names):
    client = box.client()
    tenant, line = names[0].split("/")[1], box.default_line()[1]
    box.vault.retention.ahead_ns = 700 * DAY_NS

    def soon(**how) -> list[pb.UpcomingExpiration]:
        request = pb.ListUpcomingExpirationsRequest(**{"parent": ALL, "page_size": 1, "days": 60, **how})
        return pages(client.retention.ListUpcomingExpirations, request, "upcoming_expirations")

    assert [one.recording_count for one in soon()] == [2, 1]
    assert soon()[0].line == f"tenants/{tenant}/lines/{line}" and soon()[0].size_bytes
    assert soon(days=1) == [] and soon(parent=f"tenants/{new_id()}") == []
    assert soon(parent=f"tenants/{tenant}/lines/{line}") == soon()
    request = pb.ListExpiringRecordingsRequest(parent=ALL, days=60, page_size=1)
    found = pages(client.retention.ListExpiringRecordings, request, "expiring_recordings")
    assert sorted(one.recording for one in found[:2]) == sorted(names[:2]) and found[2].recording == names[2]
    assert [one.recording for one in earwitness.expiring(client, 60, page_size=2)] == [
        one.recording for one in found
    ]
    for days in (-1, 36_526):
        bad = refused(lambda days=days: soon(days=days))
        assert (bad.reason, list(bad.fields)) == ("FIELD_INVALID", ["days"])
    assert refused(lambda: soon(parent="tenants")).reason == "NAME_INVALID"
    assert refused(lambda: soon(page_token="x")).reason == "PAGE_TOKEN_INVALID"


def test_why_one_recording_is_kept(box, names):
    client = box.client()

    def explain(name) -> pb.ExplainRetentionResponse:
        return client.retention.ExplainRetention(pb.ExplainRetentionRequest(name=name))

    bare = f"tenants/-/recordings/{names[0][-26:]}"
    found = explain(bare)
    assert found.recording == names[0] and [one.rule for one in found.reasons] == [
        pb.RETENTION_RULE_RETENTION
    ]
    assert found.bucket.endswith("2025-11-24") and found.expire_time == found.reasons[0].until_time
    client.recordings.DeleteRecording(recordings_pb2.DeleteRecordingRequest(name=names[0]))
    assert explain(bare).purge_time.seconds and explain(bare).reasons[0].grace_days == 30
    request = recordings_pb2.EraseRecordingRequest(name=names[0], force=True, reason="x")
    client.recordings.EraseRecording(request)
    assert refused(lambda: explain(bare)).reason == "ERASED"
    assert refused(lambda: explain(f"tenants/-/recordings/{new_id()}")).reason == "RECORDING_NOT_FOUND"


def test_the_clock_is_shown_and_accepted(box):
    client = box.client()

    def clock() -> pb.RetentionClock:
        return client.retention.GetRetentionClock(pb.GetRetentionClockRequest()).retention_clock

    assert clock().time.seconds and not clock().HasField("freeze")
    box.vault.retention.freeze()
    assert clock().freeze.rule == "wall-ahead" and clock().freeze.message
    assert plan(client)[0].freeze.rule == "wall-ahead"
    assert run(client).outcome == pb.RUN_OUTCOME_FROZEN
    request = pb.AcceptRetentionClockRequest(request_id="a")
    accepted = client.retention.AcceptRetentionClock(request).retention_clock
    assert not accepted.HasField("freeze")
    box.vault.retention.freeze()
    assert client.retention.AcceptRetentionClock(request).retention_clock.HasField("freeze"), "done before"


# Who may.


def test_staff_look_and_administrators_change(box, names):
    box.default_line()
    client = box.enroll("desk", Role.SUPERVISOR)
    assert plan(client)[0].digest and get(client).effective.retention
    assert list(earwitness.expiring(client, 1)) == []
    for call in (
        lambda: update(client, retention="7y"),
        lambda: run(client),
        lambda: client.retention.AcceptRetentionClock(pb.AcceptRetentionClockRequest()),
        lambda: client.retention.CreateLegalHold(pb.CreateLegalHoldRequest()),
        lambda: client.retention.ReleaseLegalHold(pb.ReleaseLegalHoldRequest()),
    ):
        found = refused(call)
        assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "METHOD_DENIED")
    assert refused(lambda: get(box.enroll("ris", Role.INTEGRATION))).reason == "METHOD_DENIED"


def test_changes_are_in_the_audit_by_their_names(box):
    tenant, _ = box.default_line()
    name = f"tenants/{tenant}/retentionPolicy"
    update(box.client(), name, retention="8y")
    asked = [
        one
        for one in box.audited()
        if one["method"].endswith("UpdateRetentionPolicy") and one["what"] == "asked"
    ]
    assert [one["subject"] for one in asked] == [name]
