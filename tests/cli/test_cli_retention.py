"""Retention, holds and the vault on the command line, against a box of canned answers: what is said, asked and refused."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import bulk, main, output
from appliance.cli.connection import Connection
from appliance.cli.exits import Exit
from appliance.cli.vault import bytes_of
from appliance.model import EarwitnessError, ErasedError, UnavailableError, new_id
from appliance.process.interceptors import ErrorInterceptor
from appliance.storage.keystore.errors import KeystoreCopyPresentError
from appliance.storage.retention.errors import (
    HoldNotFoundError,
    PeriodError,
    PolicyPendingError,
    RecordingHeldError,
)
from appliance.storage.vault.errors import RecordingErasedError
from earwitness.v1 import (
    box_pb2,
    box_pb2_grpc,
    recordings_pb2,
    recordings_pb2_grpc,
    retention_pb2,
    retention_pb2_grpc,
    tenants_pb2,
    tenants_pb2_grpc,
)

TENANT, LINE, CASE = new_id(), new_id(), new_id()
LINE_NAME = f"tenants/{TENANT}/lines/{LINE}"
HOLD_NAME = f"tenants/{TENANT}/legalHolds/{CASE}"
DIGEST = hashlib.sha256(b"plan").hexdigest()
DAY = 86_400


def at(day: int) -> Timestamp:
    """Noon of a day from 2026-11-01 on."""
    return Timestamp(seconds=1_793_491_200 + day * DAY + DAY // 2)


@dataclass
class Answers(
    retention_pb2_grpc.RetentionServiceServicer,
    box_pb2_grpc.BoxServiceServicer,
    recordings_pb2_grpc.RecordingsServiceServicer,
    tenants_pb2_grpc.TenantsServiceServicer,
):
    """What the box says, and what it was asked."""

    asked: list[Any] = field(default_factory=list)
    error: EarwitnessError | None = None
    add_error: EarwitnessError | None = None
    impact: retention_pb2.PolicyImpact = field(default_factory=retention_pb2.PolicyImpact)
    policy: retention_pb2.RetentionPolicy = field(default_factory=retention_pb2.RetentionPolicy)
    header: retention_pb2.PlanHeader = field(
        default_factory=lambda: retention_pb2.PlanHeader(make_time=at(1), digest=DIGEST)
    )
    items: list[retention_pb2.PlanItem] = field(default_factory=list)
    outcome: retention_pb2.RunOutcome.ValueType = retention_pb2.RUN_OUTCOME_DONE
    expiring: list[retention_pb2.ExpiringRecording] = field(default_factory=list)
    sound: dict[str, bytes | EarwitnessError] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    vault: box_pb2.Vault = field(default_factory=box_pb2.Vault)
    findings: list[box_pb2.VaultFinding] = field(default_factory=list)
    restoration: box_pb2.Restoration = field(default_factory=box_pb2.Restoration)

    def take(self, request: Any) -> None:
        self.asked.append(request)
        if self.error is not None:
            raise self.error

    def of(self, kind: type) -> list[Any]:
        return [one for one in self.asked if isinstance(one, kind)]

    def ListLines(self, request, context):
        line = tenants_pb2.Line(name=LINE_NAME, display_name="Reception")
        return tenants_pb2.ListLinesResponse(lines=[line])

    def GetLine(self, request, context):
        return tenants_pb2.GetLineResponse(line=tenants_pb2.Line(name=LINE_NAME))

    def GetRetentionPolicy(self, request, context):
        self.take(request)
        return retention_pb2.GetRetentionPolicyResponse(retention_policy=self.policy)

    def ListRetentionPolicies(self, request, context):
        self.take(request)
        return retention_pb2.ListRetentionPoliciesResponse(retention_policies=[self.policy])

    def UpdateRetentionPolicy(self, request, context):
        self.take(request)
        return retention_pb2.UpdateRetentionPolicyResponse(retention_policy=self.policy, impact=self.impact)

    def CancelPendingChange(self, request, context):
        self.take(request)
        return retention_pb2.CancelPendingChangeResponse(retention_policy=self.policy)

    def PlanRetention(self, request, context):
        self.take(request)
        yield retention_pb2.PlanRetentionResponse(header=self.header)
        for item in self.items:
            yield retention_pb2.PlanRetentionResponse(plan_item=item)

    def RunRetention(self, request, context):
        self.take(request)
        yield retention_pb2.RunRetentionResponse(progress=retention_pb2.RunProgress(fraction=0.5))
        run = retention_pb2.RetentionRun(
            name=f"retentionRuns/{new_id()}", outcome=self.outcome, recording_count=3, message="far more"
        )
        yield retention_pb2.RunRetentionResponse(run=run)

    def ListRetentionRuns(self, request, context):
        self.take(request)
        run = retention_pb2.RetentionRun(name=f"retentionRuns/{new_id()}", outcome=self.outcome)
        return retention_pb2.ListRetentionRunsResponse(
            retention_runs=[run] * request.page_size, next_page_token="more"
        )

    def ListUpcomingExpirations(self, request, context):
        self.take(request)
        one = retention_pb2.UpcomingExpiration(
            bucket=f"{LINE_NAME}/buckets/2026-11", expire_time=at(9), recording_count=4, size_bytes=2048
        )
        return retention_pb2.ListUpcomingExpirationsResponse(upcoming_expirations=[one])

    def ListExpiringRecordings(self, request, context):
        self.take(request)
        first = int(request.page_token or 0)
        more = first + 2 < len(self.expiring)
        return retention_pb2.ListExpiringRecordingsResponse(
            expiring_recordings=self.expiring[first : first + 2],
            next_page_token=str(first + 2) if more else "",
        )

    def DownloadRecording(self, request, context):
        self.take(request)
        found = self.sound[request.name]
        if isinstance(found, EarwitnessError):
            raise found
        header = recordings_pb2.DownloadHeader(
            size_bytes=len(found),
            file_name=f"{request.name[-26:]}.wav",
            etag="e",
            sha256=hashlib.sha256(found).digest(),
            offset=request.offset,
        )
        yield recordings_pb2.DownloadRecordingResponse(header=header)
        half = max(request.offset, len(found) // 2)
        for data in (found[request.offset : half], found[half:]):
            offset = half if data == found[half:] else request.offset
            yield recordings_pb2.DownloadRecordingResponse(
                chunk=recordings_pb2.DownloadChunk(offset=offset, data=data, crc32=zlib.crc32(data))
            )
            if request.name in self.broken:
                self.broken.remove(request.name)
                raise UnavailableError("the line broke")

    def ExplainRetention(self, request, context):
        self.take(request)
        return retention_pb2.ExplainRetentionResponse(recording=request.name)

    def GetRetentionClock(self, request, context):
        clock = retention_pb2.RetentionClock(time=at(1), wall_time=at(4))
        clock.freeze.CopyFrom(retention_pb2.ClockFreeze(rule="wall-ahead", message="3 days ahead"))
        return retention_pb2.GetRetentionClockResponse(retention_clock=clock)

    def AcceptRetentionClock(self, request, context):
        self.take(request)
        clock = retention_pb2.RetentionClock(time=at(4), wall_time=at(4))
        return retention_pb2.AcceptRetentionClockResponse(retention_clock=clock)

    def hold(self) -> retention_pb2.LegalHold:
        return retention_pb2.LegalHold(
            name=HOLD_NAME, title="Inquest", reason="asked", owner="office", create_time=at(1)
        )

    def CreateLegalHold(self, request, context):
        self.take(request)
        return retention_pb2.CreateLegalHoldResponse(legal_hold=self.hold())

    def AddToLegalHold(self, request, context):
        self.take(request)
        if self.add_error is not None:
            raise self.add_error
        return retention_pb2.AddToLegalHoldResponse(legal_hold=self.hold(), matched_count=7, erased_count=1)

    def ReleaseLegalHold(self, request, context):
        self.take(request)
        return retention_pb2.ReleaseLegalHoldResponse(legal_hold=self.hold())

    def GetLegalHold(self, request, context):
        return retention_pb2.GetLegalHoldResponse(legal_hold=self.hold())

    def ListLegalHolds(self, request, context):
        self.take(request)
        return retention_pb2.ListLegalHoldsResponse(legal_holds=[self.hold()])

    def ListLegalHoldRecordings(self, request, context):
        name = f"tenants/{TENANT}/recordings/{new_id()}"
        more = "" if request.page_token else "more"
        return retention_pb2.ListLegalHoldRecordingsResponse(recordings=[name], next_page_token=more)

    def GetVault(self, request, context):
        self.take(request)
        return box_pb2.GetVaultResponse(vault=self.vault)

    def ListBuckets(self, request, context):
        snapshot = box_pb2.BucketSnapshot(
            snapshot=f"h-{CASE}-1",
            holds=[
                box_pb2.SnapshotHold(
                    tag=f"ew.case.{CASE}", owner="office", reason="asked", legal_hold=HOLD_NAME
                )
            ],
        )
        bucket = box_pb2.Bucket(
            name=f"{LINE_NAME}/buckets/2026-11",
            state=box_pb2.BUCKET_STATE_LOCKED,
            filed_count=4,
            expire_time=at(9),
            snapshots=[snapshot],
            snapshot_count=4711,
        )
        return box_pb2.ListBucketsResponse(buckets=[bucket])

    def VerifyVault(self, request, context):
        self.take(request)
        totals = box_pb2.VaultVerification(
            checked_count=4, recording_count=4, damaged_count=len(self.findings)
        )
        yield box_pb2.VerifyVaultResponse(progress=totals)
        for one in self.findings:
            yield box_pb2.VerifyVaultResponse(finding=one)
        yield box_pb2.VerifyVaultResponse(totals=totals)

    def RestoreFromReplica(self, request, context):
        self.take(request)
        progress = box_pb2.RestorationProgress(done_count=1, bucket_count=2)
        yield box_pb2.RestoreFromReplicaResponse(progress=progress)
        found = box_pb2.Restoration()
        found.CopyFrom(self.restoration)
        if request.validate_only:
            found.missing_count = 0
        yield box_pb2.RestoreFromReplicaResponse(totals=found)

    def ForgetKeystoreCopy(self, request, context):
        self.take(request)
        return box_pb2.ForgetKeystoreCopyResponse()

    def GetTenantStorage(self, request, context):
        self.take(request)
        return box_pb2.GetTenantStorageResponse(storage=box_pb2.TenantStorage(used_bytes=2048))

    def SetTenantQuota(self, request, context):
        self.take(request)
        storage = box_pb2.TenantStorage(used_bytes=2048, quota_bytes=request.quota_bytes)
        return box_pb2.SetTenantQuotaResponse(storage=storage)

    def DeleteRecording(self, request, context):
        self.take(request)
        raise AssertionError


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == Exit.OK, self.err
        return json.loads(self.out)


class Earwitness:
    """The command line on those answers."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def __call__(self, *words: str, typed: str = "") -> Done:
        out, err = io.StringIO(), io.StringIO()
        before, sys.stdin = sys.stdin, io.StringIO(typed)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main.run(list(words))
        finally:
            sys.stdin = before
        return Done(code, out.getvalue(), err.getvalue())

    def refused(self, code: Exit, reason: str, *words: str, typed: str = "") -> str:
        done = self(*words, typed=typed)
        assert (done.code, f"[{reason}]" in done.err) == (code, True), done.err
        return done.err.splitlines()[-1]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    made = Answers()
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[ErrorInterceptor()])
    for add in (
        retention_pb2_grpc.add_RetentionServiceServicer_to_server,
        box_pb2_grpc.add_BoxServiceServicer_to_server,
        recordings_pb2_grpc.add_RecordingsServiceServicer_to_server,
        tenants_pb2_grpc.add_TenantsServiceServicer_to_server,
    ):
        add(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setattr(Connection, "channel", lambda self: grpc.insecure_channel(f"127.0.0.1:{port}"))
    monkeypatch.setattr(output.console, "_width", 200, raising=False)
    yield made
    server.stop(0).wait()


@pytest.fixture
def earwitness(answers: Answers) -> Earwitness:
    return Earwitness(answers)


# Policies.


def effective(retention: str) -> retention_pb2.EffectiveRetention:
    return retention_pb2.EffectiveRetention(
        retention=retention,
        retention_policy="retentionPolicy",
        grace_days=30,
        grace_policy=f"tenants/{TENANT}/retentionPolicy",
        grain=tenants_pb2.GRAIN_MONTH,
    )


@pytest.fixture
def shortening(answers: Answers) -> Answers:
    """A change to 90 days, by which three recordings in two buckets go."""
    expirations = [
        retention_pb2.UpcomingExpiration(
            bucket=f"{LINE_NAME}/buckets/2026-0{month}",
            expire_time=at(9),
            recording_count=month,
            held_count=1,
        )
        for month in (1, 2)
    ]
    answers.impact.CopyFrom(
        retention_pb2.PolicyImpact(
            differences=[
                retention_pb2.PolicyDifference(
                    field="retention", new_value="90 days", shortens=True, effective_time=at(8)
                )
            ],
            before=effective("3 years"),
            after=effective("90 days"),
            recording_count=3,
            held_count=2,
            size_bytes=4096,
            expirations=expirations,
            bucket_count=22,
        )
    )
    pending = retention_pb2.PendingPolicyChange(
        field="retention", new_value="90 days", effective_time=at(8), actor="admin"
    )
    answers.policy.CopyFrom(
        retention_pb2.RetentionPolicy(
            name=f"{LINE_NAME}/retentionPolicy",
            effective=effective("3 years"),
            pending_changes=[pending],
            etag="tag",
        )
    )
    return answers


def test_a_shortening_is_shown_first_and_wants_the_lines_name(
    earwitness: Earwitness, shortening: Answers
) -> None:
    words = ("retention", "set", "--line", LINE, "--retention", "90d")
    for typed in ("", "yes\n", "box\n"):
        earwitness.refused(Exit.FAILED, "NOT_CONFIRMED", *words, typed=typed)
    assert all(one.validate_only for one in shortening.asked), "only shown"
    done = earwitness(*words, typed=f"{LINE}\n")
    assert done.code == 0
    for part in (
        "3 years",
        "90 days",
        "after the cooling-off",
        "3 recordings",
        "2 more under legal hold",
    ):
        assert part in done.out, part
    assert "Reception 2026-01" in done.out and "(and 20 more buckets; --all lists them)" in done.out
    assert "takes it back" in done.out and "2026-11-09" in done.out
    made = shortening.asked[-1]
    assert not made.validate_only and made.retention_policy.etag == "tag", "what was shown is what is set"
    assert list(made.update_mask.paths) == ["retention"]
    assert made.retention_policy.name == f"tenants/-/lines/{LINE}/retentionPolicy"
    shortening.asked.clear()
    assert earwitness(*words, "--validate-only").code == 0 and len(shortening.asked) == 1
    assert earwitness(*words, "--yes", "--json").json["impact"]["recordingCount"] == "3"


def test_what_is_typed_is_what_is_asked_for(earwitness: Earwitness, answers: Answers) -> None:
    words = ("--grace", "0", "--bucket", "week", "--cooling", "0", "--inherit", "retention")
    assert earwitness("retention", "set", *words, "--json").code == 0
    request = answers.asked[-1]
    assert list(request.update_mask.paths) == ["grace_days", "grain", "cooling_days", "retention"]
    said = request.retention_policy
    assert (said.name, said.grace_days, said.grain, said.cooling_days) == (
        "retentionPolicy",
        0,
        tenants_pb2.GRAIN_WEEK,
        0,
    )
    for bad, reason in (
        ((), "OPTION_MISSING"),
        (("--bucket", "year"), "OPTION_INVALID"),
        (("--inherit", "colour"), "OPTION_INVALID"),
        (("--grace", "3", "--inherit", "grace"), "OPTION_INVALID"),
        (("--grace", "3", "--tenant", TENANT, "--line", LINE), "OPTION_INVALID"),
        (("--grace", "3", "--tenant", "x"), "NAME_INVALID"),
    ):
        earwitness.refused(Exit.USAGE, reason, "retention", "set", *bad)
    assert earwitness("retention", "set", "--grace", "three").code == Exit.USAGE


def test_a_retention_that_is_none_is_said_with_its_field(earwitness: Earwitness, answers: Answers) -> None:
    answers.error = PeriodError("a period is at least a day", field="retention_policy.retention")
    line = earwitness.refused(Exit.USAGE, "RETENTION_INVALID", "retention", "set", "--retention", "0d")
    assert "retention_policy.retention" in line and "7y" in line


def test_policies_are_shown(earwitness: Earwitness, shortening: Answers) -> None:
    shown = earwitness("retention", "show").out
    assert "line Reception" in shown and "retention 90 days from 2026-11-09" in shown
    one = earwitness("retention", "show", "--line", LINE).out
    assert "3 years, as the box says" in one and f"as tenant {TENANT} says" in one and "by" not in one[:3]
    assert "which follows from the retention" in one and "admin" in one
    assert earwitness("retention", "show", "--json").json["retentionPolicies"][0]["etag"] == "tag"
    assert earwitness("retention", "show", "--tenant", TENANT, "--json").json["etag"] == "tag"
    assert earwitness("retention", "cancel", "retention", "--line", LINE, "--json").json["etag"] == "tag"
    earwitness.refused(Exit.USAGE, "OPTION_INVALID", "retention", "cancel", "colour")
    shortening.error = PolicyPendingError("no change of this waits", field="grace")
    earwitness.refused(Exit.NOT_FOUND, "POLICY_NOT_PENDING", "retention", "cancel", "grace")


# Plans and runs.


def kept(number: int, policy: str = "retentionPolicy") -> retention_pb2.PlanItem:
    return retention_pb2.PlanItem(
        kind=retention_pb2.PLAN_ITEM_KIND_KEEP_BUCKET,
        bucket=f"{LINE_NAME}/buckets/2026-{number:02}",
        recording_count=10,
        size_bytes=1024,
        reason=retention_pb2.RetentionReason(
            rule=retention_pb2.RETENTION_RULE_RETENTION,
            sentence=f"3 years from the end of 2026-{number:02}, as the box says: until then",
            policy=policy,
            retention="3 years",
            until_time=at(number),
        ),
    )


@pytest.fixture
def planned(answers: Answers) -> Answers:
    """One bucket goes, four are kept by the box's policy, one by a hold, and a thing is unknown."""
    doomed = kept(1)
    doomed.kind = retention_pb2.PLAN_ITEM_KIND_EXPIRE_BUCKET
    doomed.destroys = True
    doomed.evacuations.add(legal_hold=HOLD_NAME, recordings=["tenants/x/recordings/y"])
    held = retention_pb2.PlanItem(
        kind=retention_pb2.PLAN_ITEM_KIND_KEEP_HELD,
        bucket=f"{HOLD_NAME}/bucket",
        recording_count=2,
        reason=retention_pb2.RetentionReason(
            rule=retention_pb2.RETENTION_RULE_LEGAL_HOLD,
            sentence="held until released",
            legal_holds=[HOLD_NAME],
        ),
    )
    unknown = retention_pb2.PlanItem(
        kind=retention_pb2.PLAN_ITEM_KIND_KEEP_UNKNOWN,
        unknown_name="backup of last week",
        reason=retention_pb2.RetentionReason(
            rule=retention_pb2.RETENTION_RULE_STRANGER, sentence="not the vault's: left alone"
        ),
    )
    answers.items = [doomed, *(kept(number) for number in range(2, 6)), held, unknown]
    return answers


def test_a_plan_is_grouped_for_people_and_whole_for_programs(
    earwitness: Earwitness, planned: Answers
) -> None:
    shown = earwitness("retention", "plan").out
    assert DIGEST in shown and "Reception 2026-01" in shown and "1 held recording to the hold's" in shown
    (row,) = [line for line in shown.splitlines() if "kept for 3 years, as the box says" in line]
    assert row.split()[2:4] == ["4", "40"] and "2026-11-03 to 2026-11-06" in row
    assert f"held by {CASE}" in shown and "not the vault's: left alone" in shown
    assert "Reception 2026-03" not in shown
    everything = earwitness("retention", "plan", "--all").out
    assert "Reception 2026-03" in everything and "backup of last week" in everything
    assert f"hold {CASE}" in everything and "BRAKED" not in everything
    found = earwitness("retention", "plan", "--json").json
    assert found["header"]["digest"] == DIGEST and len(found["items"]) == 7
    earwitness("retention", "plan", "--tenant", TENANT)
    assert planned.asked[-1].parent == f"tenants/{TENANT}"


def test_an_item_of_several_messages_is_one(earwitness: Earwitness, planned: Answers) -> None:
    doomed, *rest = planned.items
    doomed.recording_count = 7
    other = f"tenants/{TENANT}/legalHolds/{new_id()}"
    more = []
    for number, hold in enumerate((HOLD_NAME, other, other)):
        part = retention_pb2.PlanItem(key=doomed.key, kind=doomed.kind, destroys=True, continuation=True)
        part.evacuations.add(legal_hold=hold, recordings=[f"tenants/x/recordings/{number}"])
        part.recordings.append(f"tenants/x/recordings/r{number}")
        part.snapshots.append(f"s{number}")
        more.append(part)
    planned.items = [doomed, *more, *rest]
    shown = earwitness("retention", "plan", "--all").out
    assert shown.count("bucket expires") == 1 and "4 held recordings to the hold's" in shown
    found = earwitness("retention", "plan", "--json").json["items"]
    assert len(found) == 7 and not any(one["continuation"] for one in found)
    assert [(one["legalHold"], len(one["recordings"])) for one in found[0]["evacuations"]] == [
        (HOLD_NAME, 2),
        (other, 2),
    ]
    assert found[0]["snapshots"] == ["s0", "s1", "s2"] and len(found[0]["recordings"]) == 3
    asked = earwitness("retention", "run", typed="no\n")
    assert "7 recordings will be destroyed" in asked.out + asked.err


def test_a_braked_plan_says_how_to_confirm_it(earwitness: Earwitness, planned: Answers) -> None:
    planned.header.brake.CopyFrom(retention_pb2.VolumeBrake(message="10 where 1 was expected"))
    planned.header.freeze.CopyFrom(retention_pb2.ClockFreeze(message="the wall is ahead"))
    shown = earwitness("retention", "plan").out
    assert "10 where 1 was expected" in shown and "the wall is ahead" in shown
    assert f"earwitness retention run --confirm {DIGEST}" in shown


def test_a_run_wants_the_digest(earwitness: Earwitness, planned: Answers) -> None:
    runs = retention_pb2.RunRetentionRequest
    for typed in ("", "yes\n", DIGEST[:7] + "\n", DIGEST[:8][::-1] + "\n", "0" * 64 + "\n"):
        line = earwitness.refused(Exit.FAILED, "NOT_CONFIRMED", "retention", "run", typed=typed)
        assert "nothing was destroyed" in line
    assert planned.of(runs) == []
    done = earwitness("retention", "run", typed=DIGEST[:8] + "\n")
    assert done.code == 0 and "done" in done.out and "3 recordings" in done.out
    assert planned.of(runs)[-1].digest == DIGEST
    assert earwitness("retention", "run", "--confirm", DIGEST[:8], "--json").json["recordingCount"] == "3"
    assert planned.of(runs)[-1].digest == DIGEST
    assert earwitness("retention", "run", "--yes").code == 0
    assert planned.of(runs)[-1].digest == "", "as at night: the brake decides"
    count = len(planned.of(runs))
    for digest in (DIGEST[:7], "0" * 8, "0" * 64):
        earwitness.refused(Exit.CONFLICT, "PLAN_CHANGED", "retention", "run", "--confirm", digest)
    assert len(planned.of(runs)) == count
    planned.items = []
    assert earwitness("retention", "run").code == 0, "nothing to ask about"


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (retention_pb2.RUN_OUTCOME_NOTHING, Exit.OK),
        (retention_pb2.RUN_OUTCOME_PARTIAL, Exit.FAILED),
        (retention_pb2.RUN_OUTCOME_BRAKED, Exit.CONFLICT),
        (retention_pb2.RUN_OUTCOME_FROZEN, Exit.CONFLICT),
    ],
)
def test_exit_codes_of_a_run(
    earwitness: Earwitness, planned: Answers, outcome: retention_pb2.RunOutcome.ValueType, code: Exit
) -> None:
    planned.outcome = outcome
    done = earwitness("retention", "run", "--yes", "--json")
    assert done.code == code and json.loads(done.out)["message"] == "far more"
    assert "far more" in earwitness("retention", "run", "--yes").out


def test_runs_are_listed_up_to_the_limit(earwitness: Earwitness, answers: Answers) -> None:
    assert len(earwitness("retention", "runs", "--limit", "7", "--json").json["retentionRuns"]) == 7
    assert "done" in earwitness("retention", "runs", "--limit", "1").out


# What expires soon.


@pytest.fixture
def expiring(answers: Answers) -> Answers:
    """Five recordings that expire."""
    for number in range(5):
        name = f"tenants/{TENANT}/recordings/{new_id()}"
        answers.sound[name] = os.urandom(1000 + number)
        answers.expiring.append(
            retention_pb2.ExpiringRecording(recording=name, expire_time=at(9), size_bytes=100)
        )
    return answers


def test_upcoming(earwitness: Earwitness, expiring: Answers) -> None:
    shown = earwitness("retention", "upcoming", "--days", "60").out
    assert "Reception 2026-11" in shown and "4 recordings, 2.0 KiB, within 60 days" in shown
    assert (
        earwitness("retention", "upcoming", "--json").json["upcomingExpirations"][0]["recordingCount"] == "4"
    )
    earwitness("retention", "upcoming", "--line", LINE)
    assert expiring.asked[-1].parent == f"tenants/-/lines/{LINE}"
    assert earwitness("retention", "upcoming", "--days", "-1").code == Exit.USAGE
    earwitness.refused(Exit.USAGE, "FORMAT_UNKNOWN", "retention", "upcoming", "--format", "mp3")


def test_a_bulk_download_goes_on_where_it_broke_off(
    earwitness: Earwitness, expiring: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk.time, "sleep", lambda seconds: None)
    names = [one.recording for one in expiring.expiring]
    folder = tmp_path / "exit" / "pack"
    words = ("retention", "upcoming", "--days", "9", "--download", str(folder), "--purpose", "exit", "--json")
    # A break in the middle of a file is taken up at its byte; a box that stays away ends it, with what is there kept.
    expiring.broken = [names[1]]
    expiring.sound[names[3]] = UnavailableError("the box is away")
    done = earwitness(*words)
    assert done.code == Exit.UNAVAILABLE, done.err
    for name in names[:3]:
        assert (folder / f"{name[-26:]}.wav").read_bytes() == expiring.sound[name]
    resumed = [one for one in expiring.of(recordings_pb2.DownloadRecordingRequest) if one.offset]
    assert [one.name for one in resumed] == [names[1]] and resumed[0].etag == "e"
    assert all(one.purpose == "exit" for one in expiring.of(recordings_pb2.DownloadRecordingRequest))
    expiring.sound[names[3]] = os.urandom(500)
    expiring.asked.clear()
    found = earwitness(*words).json
    assert (found["downloaded"], found["present"], found["gone"], found["failed"]) == (2, 3, 0, [])
    assert [one.name for one in expiring.of(recordings_pb2.DownloadRecordingRequest)] == names[3:]
    index = [json.loads(line) for line in (folder / bulk.INDEX).read_text().splitlines()]
    assert [one["recording"] for one in index] == names
    assert all(hashlib.sha256(expiring.sound[one["recording"]]).hexdigest() == one["sha256"] for one in index)
    assert sorted(os.listdir(folder)) == sorted([bulk.INDEX, *(f"{name[-26:]}.wav" for name in names)])


def test_what_goes_while_it_is_downloaded_is_told_and_the_rest_comes(
    earwitness: Earwitness, expiring: Answers, tmp_path: Path
) -> None:
    names = [one.recording for one in expiring.expiring]
    expiring.sound[names[0]] = ErasedError("erased")
    expiring.sound[names[1]] = EarwitnessError("a fault")
    done = earwitness("retention", "upcoming", "--download", str(tmp_path), "--format", "flac")
    assert done.code == Exit.FAILED and "1 gone meanwhile, 1 failed" in done.out
    assert names[1] in done.err and names[0] not in done.err
    assert "3 downloaded" in done.out


def test_explain_and_clock(earwitness: Earwitness, answers: Answers) -> None:
    recording = new_id()
    assert "the next run destroys it" in earwitness("retention", "explain", recording).out
    answers.error = ErasedError("erased")
    earwitness.refused(Exit.ERASED, "ERASED", "retention", "explain", recording)
    answers.error = None
    assert "3 days ahead" in earwitness("retention", "clock").out
    earwitness.refused(Exit.FAILED, "NOT_CONFIRMED", "retention", "clock", "--accept", typed="yes\n")
    assert answers.of(retention_pb2.AcceptRetentionClockRequest) == []
    assert "in step" in earwitness("retention", "clock", "--accept", typed="accept\n").out
    assert "freeze" not in earwitness("retention", "clock", "--accept", "--yes", "--json").json


# Legal holds.


def test_a_hold_is_opened_with_what_it_names(earwitness: Earwitness, answers: Answers) -> None:
    recordings = [new_id() for _ in range(1001)]
    options = [word for one in recordings for word in ("--recording", one)]
    words = ("holds", "create", TENANT, "--title", "Inquest", "--reason", "asked", "--line", LINE)
    made = earwitness(*words, "--from", "2026-11-01", "--to", "2026-12-01T12:00:00Z", *options, "--json").json
    assert made["name"] == HOLD_NAME
    (create,) = answers.of(retention_pb2.CreateLegalHoldRequest)
    (scope,) = create.legal_hold.scopes
    assert scope.line == LINE_NAME and scope.from_time.ToJsonString() == "2026-11-01T00:00:00Z"
    assert scope.to_time.ToJsonString() == "2026-12-01T12:00:00Z"
    assert [len(one.recordings) for one in answers.of(retention_pb2.AddToLegalHoldRequest)] == [1000, 1]
    shown = earwitness("holds", "add", CASE, "--filter", "part=1", "--everything")
    assert "Match the filter: 7 recordings; 1 erased before" in shown.out and "Inquest" in shown.out
    last = answers.asked[-1]
    assert last.filter == "part=1" and len(last.scopes) == 1 and last.name == f"tenants/-/legalHolds/{CASE}"
    earwitness.refused(Exit.USAGE, "OPTION_INVALID", "holds", "add", CASE, "--from", "yesterday")
    assert earwitness("holds", "create", TENANT, "--title", "x").code == Exit.USAGE, "it wants a reason"


def test_a_hold_that_is_open_and_could_not_name_everything_says_so(
    earwitness: Earwitness, answers: Answers
) -> None:
    answers.add_error = RecordingErasedError("too late: a recording is erased", recording_ids=["x"])
    words = ("holds", "create", TENANT, "--title", "x", "--reason", "x", "--recording", new_id())
    done = earwitness(*words)
    assert done.code == Exit.ERASED and "RECORDING_ERASED" in done.err
    assert f"the hold {CASE} is open and holds nothing yet" in done.err


def test_a_release_wants_the_holds_id(earwitness: Earwitness, answers: Answers) -> None:
    words = ("holds", "release", CASE, "--reason", "closed")
    for typed in ("", "yes\n", CASE[:25] + "\n"):
        earwitness.refused(Exit.FAILED, "NOT_CONFIRMED", *words, typed=typed)
    assert answers.of(retention_pb2.ReleaseLegalHoldRequest) == []
    assert earwitness(*words, typed=CASE + "\n").code == 0
    assert answers.asked[-1].name == HOLD_NAME and answers.asked[-1].reason == "closed"
    assert earwitness("holds", "release", CASE).code == Exit.USAGE
    answers.error = HoldNotFoundError("there is no such legal hold", case_id=CASE)
    earwitness.refused(Exit.NOT_FOUND, "HOLD_NOT_FOUND", *words, "--yes")


def test_holds_are_listed_and_shown(earwitness: Earwitness, answers: Answers) -> None:
    listed = earwitness("holds", "list", "--released").out
    assert CASE in listed and "office" in listed and answers.asked[-1].show_released
    found = earwitness("holds", "show", CASE, "--recordings", "--json").json
    assert found["legalHold"]["name"] == HOLD_NAME and len(found["recordings"]) == 2
    assert "2 recordings" in earwitness("holds", "show", HOLD_NAME, "--recordings").out


def test_what_is_held_names_its_cases(earwitness: Earwitness, answers: Answers) -> None:
    answers.error = RecordingHeldError("a legal hold forbids it", cases=[CASE])
    line = earwitness.refused(Exit.CONFLICT, "RECORDING_HELD", "recordings", "delete", new_id())
    assert CASE in line and "holds show" in line and "more" not in line
    answers.error = RecordingHeldError("a legal hold forbids it", cases=[new_id() for _ in range(23)])
    line = earwitness.refused(Exit.CONFLICT, "RECORDING_HELD", "recordings", "delete", new_id())
    assert " and 3 more; see" in line


# The vault.


def test_the_vault_at_a_glance(earwitness: Earwitness, answers: Answers) -> None:
    copy = box_pb2.KeystoreCopy
    answers.vault.CopyFrom(
        box_pb2.Vault(
            backend="zfs",
            free_bytes=250 << 30,
            total_bytes=1000 << 30,
            stored_bytes=700 << 30,
            filed_count=12,
            forecast=box_pb2.SpaceForecast(
                daily_bytes=2 << 30, measured_days=30, expiring_bytes=10 << 30, days_until_full=200
            ),
            buckets=box_pb2.BucketCounts(open_count=2, locked_count=98, hold_count=1, expiring_count=3),
            legal_holds=[answers.hold()],
            epoch=9,
            keystore_copies=[
                copy(copy_id=new_id(), directory="a", present=True, epoch=9),
                copy(copy_id=CASE, directory="b", epoch=7),
            ],
            retention_clock=retention_pb2.RetentionClock(time=at(1), wall_time=at(1)),
            last_run=retention_pb2.RetentionRun(
                outcome=retention_pb2.RUN_OUTCOME_DONE, recording_count=4, end_time=at(1)
            ),
            last_shred_time=at(1),
        )
    )
    done = earwitness("vault", "status")
    assert done.code == 0
    bar = next(line for line in done.out.splitlines() if line.startswith("Space"))
    assert len(bar) == 9 + 50 and bar.count("█") == 38
    for part in (
        "75% used, 250.0 GiB free of 1000.0 GiB (zfs)",
        "full in 200 days",
        "98 locked, 2 open; 1 of legal holds; 3 due within 30 days",
        "in step with the wall clock",
        "4 recordings destroyed",
        f"b: MISSING since epoch 7, copy {CASE}",
        "Inquest",
        "office",
    ):
        assert part in done.out, part
    assert earwitness("vault", "status", "--json").json["backend"] == "zfs"
    assert CASE in earwitness("vault", "copies").out
    assert len(earwitness("vault", "copies", "--json").json["keystoreCopies"]) == 2


def test_a_vault_that_is_ill(earwitness: Earwitness, answers: Answers) -> None:
    answers.vault.ailments.add(
        type="PoolSuspended", severity=box_pb2.SEVERITY_ALARM, message="The pool has stopped."
    )
    done = earwitness("vault", "status")
    assert done.code == Exit.FAILED
    assert "ALARM PoolSuspended: The pool has stopped." in done.out and "does not answer" in done.out


def test_of_very_many_cases_the_first_are_shown(earwitness: Earwitness, answers: Answers) -> None:
    answers.vault.legal_holds.append(answers.hold())
    answers.vault.legal_hold_count = 1
    assert "more; " not in earwitness("vault", "status").out
    answers.vault.legal_hold_count = 12
    assert "(and 11 more; `earwitness holds list` shows them all)" in earwitness("vault", "status").out


def test_buckets_and_who_holds_them(earwitness: Earwitness, answers: Answers) -> None:
    shown = earwitness("vault", "buckets").out
    assert "Reception 2026-11" in shown and "locked" in shown and "4711, held by office" in shown
    assert f"asked ({CASE})" in earwitness("vault", "buckets", "--holds").out
    assert earwitness("vault", "buckets", "--json").json["buckets"][0]["filedCount"] == "4"


def test_verify(earwitness: Earwitness, answers: Answers) -> None:
    done = earwitness("vault", "verify", "--sample", "4", "--tenant", TENANT)
    assert done.code == 0 and "intact" in done.out
    assert answers.asked[-1].sample_size == 4 and answers.asked[-1].parent == f"tenants/{TENANT}"
    recording = f"tenants/{TENANT}/recordings/{new_id()}"
    answers.findings = [
        box_pb2.VaultFinding(recording=recording, code="FRAME_DAMAGED", message="frame 3", offset=4711)
    ]
    done = earwitness("vault", "verify")
    assert done.code == Exit.NOT_INTACT and "NOT intact" in done.out
    assert f"{recording[-26:]}: FRAME_DAMAGED at byte 4711" in done.out
    found = json.loads(earwitness("vault", "verify", "--json").out)
    assert found["totals"]["damagedCount"] == "1" and found["findings"][0]["recording"] == recording
    assert earwitness("vault", "verify", "--sample", "-1").code == Exit.USAGE


def test_forgetting_a_copy_wants_its_id(earwitness: Earwitness, answers: Answers) -> None:
    earwitness.refused(Exit.FAILED, "NOT_CONFIRMED", "vault", "copies", "forget", CASE, typed="yes\n")
    assert [one.validate_only for one in answers.asked] == [True]
    assert earwitness("vault", "copies", "forget", CASE, typed=CASE + "\n").code == 0
    assert [one.validate_only for one in answers.asked[1:]] == [True, False]
    answers.error = KeystoreCopyPresentError("this copy is there", copy=CASE)
    earwitness.refused(Exit.CONFLICT, "KEYSTORE_COPY_PRESENT", "vault", "copies", "forget", CASE, "--yes")


def test_replicas_and_how_far_they_are(earwitness: Earwitness, answers: Answers) -> None:
    assert "No replica." in earwitness("vault", "replicas").out
    answers.vault.replicas.add(replica="north", confirmed_number=812)
    assert "north" in (done := earwitness("vault", "replicas")).out and "812" in done.out
    found = json.loads(earwitness("vault", "replicas", "--json").out)
    assert found == {"replicas": [{"replica": "north", "confirmedNumber": "812"}]}


def test_bringing_back_says_what_would_come_and_wants_the_copys_name(
    earwitness: Earwitness, answers: Answers
) -> None:
    answers.restoration = box_pb2.Restoration(
        whole_count=1, recording_count=3, sidecar_count=1, erased_count=2
    )
    done = earwitness("vault", "replicas", "restore", "north", "--validate-only")
    assert done.code == 0 and "3 recordings, 1 sidecar" in done.out and "2 do not come" in done.out
    assert [one.validate_only for one in answers.asked] == [True]
    earwitness.refused(Exit.FAILED, "NOT_CONFIRMED", "vault", "replicas", "restore", "north", typed="yes\n")
    assert [one.validate_only for one in answers.asked] == [True, True]
    bucket = f"{LINE_NAME}/buckets/2026-11"
    done = earwitness("vault", "replicas", "restore", "north", "--bucket", bucket, typed="north\n")
    assert done.code == 0 and "Came" in done.out
    assert [one.validate_only for one in answers.asked[2:]] == [True, False]
    assert list(answers.asked[-1].buckets) == [bucket] and answers.asked[-1].replica == "north"
    answers.restoration.missing_count = 4
    done = earwitness("vault", "replicas", "restore", "north", "--yes")
    assert done.code == Exit.FAILED and "4 recordings have no file" in done.out
    answers.restoration.failures.add(bucket=bucket, code="REPLICA_DIVERGED", message="it is another")
    answers.restoration.failure_count = 1
    done = earwitness("vault", "replicas", "restore", "north", "--yes")
    assert done.code == Exit.FAILED and f"{bucket}: REPLICA_DIVERGED: it is another" in done.out
    found = json.loads(earwitness("vault", "replicas", "restore", "north", "--yes", "--json").out)
    assert found["recordingCount"] == "3" and found["failures"][0]["code"] == "REPLICA_DIVERGED"


def test_quotas(earwitness: Earwitness, answers: Answers) -> None:
    assert "2.0 KiB used of no limit" in earwitness("vault", "quota", TENANT).out
    assert "of 1.5 GiB" in earwitness("vault", "quota", TENANT, "--set", "1.5GiB").out
    earwitness.refused(Exit.USAGE, "OPTION_INVALID", "vault", "quota", TENANT, "--set", "much")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("5", 5),
        ("5 B", 5),
        ("1k", 1024),
        ("500MB", 500 << 20),
        ("2 TiB", 2 << 40),
        ("1.5g", 3 << 29),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text) == size
