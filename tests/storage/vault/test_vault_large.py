"""What the vault tells of very much: a plan, runs, buckets, cases, snapshots. No answer is larger than a message may be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import grpc
import pytest
from conftest_process import refused
from conftest_vault import House
from test_vault_retentionservice import Service

from appliance.model import new_id
from appliance.process import rpc
from appliance.storage.names import BucketId
from appliance.storage.retention.facts import BucketFacts, BucketWord, SnapshotFacts
from appliance.storage.retention.holds import FOREVER_NS, HoldCreated, HoldReleased, HoldScope
from appliance.storage.retention.items import Evacuation, ItemKind, Plan, PlanItem, Rule, Why
from appliance.storage.retention.outlook import Upcoming
from appliance.storage.retention.run import Failure, Outcome, RunRecord
from appliance.storage.vault import expiry
from appliance.storage.vault.planmessages import MAX_NAMED, item_messages
from appliance.storage.vault.retentionmessages import bucket_details
from earwitness.internal.v1 import retention_pb2 as pb
from earwitness.internal.v1 import vault_pb2

WHY = Why(Rule.RETENTION, "its retention is over")
BUCKET = BucketId(new_id(), new_id(), "2026-09")


def many(count: int) -> tuple[str, ...]:
    return tuple(f"{number:026d}" for number in range(count))


@pytest.fixture
def service(house: House) -> Iterator[Service]:
    made = Service(house)
    yield made
    made.close()


def joined(messages: Sequence[pb.PlanItem]) -> PlanItem:
    """The item that one message and those that go on from it tell of."""
    first, *rest = messages
    assert not first.continuation and all(one.continuation for one in rest)
    cases: dict[str, list[str]] = {}
    for one in messages:
        for each in one.evacuations:
            cases.setdefault(each.case_id, []).extend(each.recording_ids)
    at = first.bucket
    return PlanItem(
        ItemKind(first.kind),
        Why(Rule(first.why.rule), first.why.sentence),
        BucketId(at.tenant_id, at.line_id, at.slice),
        first.recordings,
        first.bytes,
        tuple(name for one in messages for name in one.recording_ids),
        tuple(Evacuation(case, tuple(ids)) for case, ids in cases.items()),
        tuple(name for one in messages for name in one.snapshots),
        first.whole,
    )


def named(message: pb.PlanItem) -> int:
    moved = sum(len(one.recording_ids) for one in message.evacuations)
    return len(message.recording_ids) + moved + len(message.snapshots)


LARGE = (
    PlanItem(ItemKind.ERASE_DELETED, WHY, BUCKET, 700_000, 7, many(700_000)),
    PlanItem(
        ItemKind.EXPIRE_BUCKET,
        WHY,
        BUCKET,
        1,
        2,
        evacuate=(
            Evacuation(new_id(), many(9_000)),
            Evacuation(new_id(), many(200_000)),
            Evacuation(new_id(), many(3)),
        ),
        snapshots=many(MAX_NAMED + 1),
        whole=True,
    ),
    PlanItem(ItemKind.DROP_SNAPSHOT, WHY, BUCKET, snapshots=many(MAX_NAMED)),
    PlanItem(ItemKind.LOCK_BUCKET, WHY, BUCKET, 3, 4),
)


@pytest.mark.parametrize(
    ("item", "count"),
    [(LARGE[0], 70), (LARGE[1], 23), (LARGE[2], 1), (LARGE[3], 1)],
    ids=[item.kind.value for item in LARGE],
)
def test_an_item_comes_in_as_many_messages_as_it_takes(item: PlanItem, count: int) -> None:
    messages = list(item_messages(item))
    assert len(messages) == count and joined(messages) == item
    assert max(map(named, messages)) <= MAX_NAMED
    first, *rest = messages
    assert (first.evacuated, first.destroys) == (item.evacuated, item.kind.destroys)
    for one in rest:
        again = (one.key, one.kind, one.destroys, one.why, one.bucket)
        assert again == (first.key, first.kind, first.destroys, first.why, first.bucket)
        assert (one.recordings, one.bytes, one.whole, one.evacuated) == (0, 0, False, 0), "told once"


def test_a_plan_that_names_very_many_is_told_whole(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(1, 1, LARGE)
    monkeypatch.setattr(service.house.parts.expiry, "plan", lambda: (plan, None))
    header, messages = service.plan()
    items: list[list[pb.PlanItem]] = []
    for one in messages:
        if one.continuation:
            items[-1].append(one)
        else:
            items.append([one])
    told = Plan(1, 1, tuple(map(joined, items)))
    assert told.items == LARGE
    assert header.digest == told.digest == plan.digest, "what a confirmation names"
    assert header.totals[0].items == 1 and header.totals[0].recordings == 700_000


def test_runs_that_failed_in_many_parts_are_listed_page_by_page(service: Service) -> None:
    failure = Failure("item", "shred", "IO", "x" * 4000)
    records = [
        RunRecord(new_id(), "digest", number, number, Outcome.PARTIAL, failed=(failure,) * 100)
        for number in range(50)
    ]
    service.house.parts.runs.records.extend(records)
    found: list[str] = []
    while True:
        request = pb.ListRunsRequest(limit=1000, before=found[-1] if found else "")
        answer = service.stub.ListRuns(request)
        assert answer.ByteSize() <= rpc.ANSWER_LIMIT + 1024
        found += [one.run_id for one in answer.runs]
        if not answer.more:
            break
    assert found == [one.run_id for one in records[::-1]]


def test_one_message_is_told_however_large(service: Service) -> None:
    failure = Failure("item", "shred", "IO", "x" * 40_000)
    record = RunRecord(new_id(), "digest", 1, 1, Outcome.PARTIAL, failed=(failure,) * 100)
    service.house.parts.runs.records.extend([record, replace(record, run_id=new_id())])
    answer = service.stub.ListRuns(pb.ListRunsRequest(limit=1000))
    assert len(answer.runs) == 1 and answer.more


def test_very_many_buckets_whose_time_comes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    due = [Upcoming(number, BUCKET, 1 << 40, 1 << 40, 1 << 40) for number in range(200_000)]
    monkeypatch.setattr(expiry, "upcoming", lambda facts, days: due)
    found = service.upcoming(days=36_525)
    assert [one.when_ns for one in found] == list(range(200_000))
    assert sum(one.ByteSize() for one in found) > rpc.MESSAGE_LIMIT, "more than one message holds"


def test_very_many_cases(service: Service) -> None:
    book, words = service.house.parts.legal.book, ("t" * 200, "r" * 1000, "o" * 200)
    for number in range(8000):
        case = new_id()
        book.apply(HoldCreated(case, service.house.tenant, *words, number))
        if number >= 900:
            book.apply(HoldReleased(case, number, "w" * 200, "r" * 1000))
    found = service.holds(released=True)
    assert [one.created_ns for one in found] == list(range(8000))
    assert sum(one.ByteSize() for one in found) > rpc.MESSAGE_LIMIT, "more than one message holds"


def test_the_first_of_very_many_open_cases_are_in_the_overview(service: Service) -> None:
    book = service.house.parts.legal.book
    for number in range(900):
        book.apply(HoldCreated(new_id(), service.house.tenant, "ü" * 200, "拘" * 1000, "o", number))
    answer = service.stub.GetOverview(pb.GetOverviewRequest())
    assert answer.hold_count == 900 and 0 < len(answer.holds) < 900
    assert [one.created_ns for one in answer.holds] == list(range(len(answer.holds)))
    assert sum(one.ByteSize() for one in answer.holds) <= rpc.ANSWER_LIMIT


def test_the_first_of_very_many_snapshots_are_told() -> None:
    snapshots = tuple(SnapshotFacts(f"s{number:06d}", ("tag",)) for number in range(100_000))
    facts = BucketFacts(BUCKET, BucketWord.OPEN, 1, 0, 1, 1, snapshots=snapshots)
    found = bucket_details(facts, 0, {})
    assert found.snapshot_count == 100_000 and 1 << 20 < found.ByteSize() < 3 << 20
    assert [one.name for one in found.snapshots] == [one.name for one in snapshots[: len(found.snapshots)]]


@pytest.mark.parametrize("check", [True, False])
def test_more_than_are_erased_at_once(service: Service, check: bool) -> None:
    request = vault_pb2.EraseRecordingsRequest(
        recording_ids=[new_id() for _ in range(1001)], reason="asked", validate_only=check
    )
    assert refused(service.vault.EraseRecordings, request) == ("INVALID_ARGUMENT", "INVALID")
    with pytest.raises(Exception, match="1 to 1000 recordings are erased at once"):
        service.vault.EraseRecordings(request)


def test_what_is_held_by_very_many_cases_is_refused_as_by_one(service: Service) -> None:
    (name,) = service.filed(1)
    book, whole = service.house.parts.legal.book, (HoldScope(service.house.tenant, "", 0, FOREVER_NS),)
    cases = sorted(new_id() for _ in range(900))
    for case in cases:
        book.apply(HoldCreated(case, service.house.tenant, "t", "r", "o", 1, whole))
    with pytest.raises(grpc.RpcError) as caught:
        service.vault.DeleteRecording(vault_pb2.DeleteRecordingRequest(recording_id=name, reason="asked"))
    error = rpc.from_rpc_error(caught.value)
    assert error.reason == "RECORDING_HELD" and error.data["case_count"] == "900"
    assert json.loads(error.data["cases"]) == cases[:20]
