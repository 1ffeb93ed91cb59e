"""Very much, from outside: what a client gets is told whole, and no message is larger than it takes (4 MiB)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from test_api_retention import ALL, DAY_NS, pages, plan, refused, run

from appliance.model import new_id
from appliance.storage.names import BucketId
from appliance.storage.retention.clock import ClockState
from appliance.storage.retention.facts import BucketFacts, BucketWord, Facts, SnapshotFacts
from appliance.storage.retention.holds import HoldCreated, HoldReleased
from appliance.storage.retention.items import Evacuation, ItemKind, Plan, PlanItem, Rule, Why
from appliance.storage.retention.run import Failure, Outcome, RunRecord
from earwitness.v1 import box_pb2
from earwitness.v1 import retention_pb2 as pb

WHY = Why(Rule.GRACE, "its grace is over")


def many(count: int) -> tuple[str, ...]:
    return tuple(f"{number:026d}" for number in range(count))


def named(tenant: str, some: Iterable[str]) -> list[str]:
    return [f"tenants/{tenant}/recordings/{one}" for one in some]


def test_a_plan_that_names_very_many_is_shown_and_confirmed(box):
    tenant, line = box.default_line()
    client = box.client()
    bucket, case = BucketId(tenant, line, "2026-09"), new_id()
    erased = PlanItem(ItemKind.ERASE_DELETED, WHY, bucket, 200_000, 7, many(200_000))
    moved = (Evacuation(case, many(60_000)),)
    expired = PlanItem(ItemKind.EXPIRE_BUCKET, WHY, bucket, 1, 2, evacuate=moved, whole=True)
    found = Plan(1, 1, (erased, expired))
    box.vault.retention._plan = lambda: (found, None)
    header, items = plan(client)
    assert header.digest == found.digest
    assert [one.continuation for one in items] == [False, *[True] * 19, False, *[True] * 5]
    assert [one.recording_count for one in items if one.recording_count] == [200_000, 1]
    assert [one.evacuated_count for one in items if one.evacuated_count] == [60_000]
    assert len({one.key for one in items}) == 2
    assert all(one.destroys and one.bucket.endswith("2026-09") and one.reason.sentence for one in items)
    assert [name for one in items for name in one.recordings] == named(tenant, many(200_000))
    out = [each for one in items for each in one.evacuations]
    assert {each.legal_hold for each in out} == {f"tenants/{tenant}/legalHolds/{case}"}
    assert [name for each in out for name in each.recordings] == named(tenant, many(60_000))
    assert run(client, digest=header.digest).recording_count == 200_001
    assert refused(lambda: run(client, digest="0" * 64)).reason == "PLAN_CHANGED"


def test_runs_that_failed_in_many_parts(box):
    client, failure = box.client(), Failure("item", "shred", "IO", "x" * 4000)
    vault = box.vault.retention
    vault.runs += [
        RunRecord(new_id(), "digest", number, number, Outcome.PARTIAL, failed=(failure,) * 100)
        for number in range(45)
    ]
    last = run(client)
    assert last.outcome == pb.RUN_OUTCOME_NOTHING
    request = pb.ListRetentionRunsRequest(page_size=1000)
    listed = pages(client.retention.ListRetentionRuns, request, "retention_runs")
    assert [one.name.split("/")[1] for one in listed] == [one.run_id for one in vault.runs[::-1]]
    assert listed[0] == last and len(listed[1].failures) == 100


def test_a_run_is_found_among_others_that_came_meanwhile(box):
    client, vault = box.client(), box.vault.retention
    first = run(client, request_id="a")
    vault.runs += [RunRecord(new_id(), "digest", number, number, Outcome.NOTHING) for number in range(25)]
    assert run(client, request_id="a") == first
    vault.runs.pop(0)
    assert refused(lambda: run(client, request_id="a")).reason == "NOT_FOUND"


def test_cases_of_many_words(box):
    tenant, _ = box.default_line()
    book = box.vault.retention.holds
    for number in range(900):
        case = new_id()
        book.apply(HoldCreated(case, tenant, "ü" * 200, "拘" * 1000, "o", number + 1))
        book.apply(HoldReleased(case, number + 2, "w", "拘" * 1000))
    request = pb.ListLegalHoldsRequest(parent=ALL, show_released=True, page_size=1000)
    listed = pages(box.client().retention.ListLegalHolds, request, "legal_holds")
    assert len({one.name for one in listed}) == len(listed) == 900
    assert [one.create_time.nanos for one in listed] == list(range(1, 901))


def test_buckets_of_many_snapshots(box):
    tenant, line = box.default_line()
    vault = box.vault.retention
    case = new_id()
    vault.holds.apply(HoldCreated(case, tenant, "t", "r" * 1000, "office", 1))
    snapshots = tuple(SnapshotFacts(f"h-{case}-{number:04d}", (f"ew.case.{case}",)) for number in range(1000))
    buckets = tuple(
        BucketFacts(BucketId(tenant, line, f"2026-{month:02d}"), BucketWord.OPEN, 1, 0, 1, 1, (), snapshots)
        for month in range(1, 13)
    )
    vault.facts = lambda: Facts(
        ClockState(vault.now(), vault.now(), "boot", 1), vault.policies.book, vault.holds.all(), buckets
    )
    request = box_pb2.ListBucketsRequest(parent=ALL, page_size=1000)
    listed = pages(box.client().box.ListBuckets, request, "buckets")
    assert [one.name[-7:] for one in listed] == [one.bucket.slice for one in buckets]
    assert {(one.snapshot_count, len(one.snapshots)) for one in listed} == {(1000, 1000)}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_what_is_due_comes_page_by_page(box, size):
    tenant, line = box.default_line()
    vault = box.vault.retention
    buckets = tuple(
        BucketFacts(BucketId(tenant, line, f"2025-{month:02d}"), BucketWord.OPEN, 1, 0, 1, 1)
        for month in range(1, 8)
    )
    vault.ahead_ns = 2000 * DAY_NS
    vault.facts = lambda: Facts(
        ClockState(vault.now(), vault.now(), "boot", 1), vault.policies.book, (), buckets
    )
    request = pb.ListUpcomingExpirationsRequest(parent=ALL, days=1, page_size=size)
    answers = []
    while True:
        answers.append(box.client().retention.ListUpcomingExpirations(request))
        if not answers[-1].next_page_token:
            break
        request.page_token = answers[-1].next_page_token
    found = [one for answer in answers for one in answer.upcoming_expirations]
    assert [one.bucket[-7:] for one in found] == [one.bucket.slice for one in buckets]
    assert len(answers) == -(-7 // size)
