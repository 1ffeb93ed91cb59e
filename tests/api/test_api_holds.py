"""Legal holds from outside: opened, added to by name, filter and time, released; and what is refused."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.catalog import recordings as rows
from appliance.model import new_id
from earwitness.v1 import recordings_pb2, tenants_pb2
from earwitness.v1 import retention_pb2 as pb

START = 1_764_000_000


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def create(client, tenant, how=None, **fields) -> pb.LegalHold:
    hold = pb.LegalHold(**{"title": "inquiry", "reason": "the coroner asked", **fields})
    request = pb.CreateLegalHoldRequest(parent=f"tenants/{tenant}", legal_hold=hold, **(how or {}))
    return client.retention.CreateLegalHold(request).legal_hold


def add(client, name, **how) -> pb.AddToLegalHoldResponse:
    return client.retention.AddToLegalHold(pb.AddToLegalHoldRequest(name=name, **how))


def held(client, name, size=50) -> list[str]:
    request, found = pb.ListLegalHoldRecordingsRequest(parent=name, page_size=size), []
    while True:
        answer = client.retention.ListLegalHoldRecordings(request)
        found += answer.recordings
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


@pytest.fixture
def filed(box, sealing):
    """Names of four recordings, a minute after each other; the first two of another caller."""
    tenant, line = box.default_line()
    ids = [
        box.vault.file(
            sealing(
                tenant,
                line,
                seconds=0,
                start_ns=(START + 60 * n) * 10**9,
                numbers=("+441632960002" if n < 2 else "+441632960001", "200"),
            )
        )
        for n in range(4)
    ]
    for one in ids:
        box.filed(one)
    return [f"tenants/{tenant}/recordings/{one}" for one in ids]


def test_a_hold_from_its_opening_to_its_end(box, filed):
    tenant, line = box.default_line()
    client = box.client()
    checked = create(client, tenant, {"validate_only": True})
    assert checked.name == "" and checked.owner == "admin"
    assert not client.retention.ListLegalHolds(pb.ListLegalHoldsRequest(parent="tenants/-")).legal_holds
    scope = pb.LegalHoldScope(
        line=f"tenants/{tenant}/lines/{line}",
        from_time=Timestamp(seconds=START + 150),
        to_time=Timestamp(seconds=START + 600),
    )
    hold = create(client, tenant, {"request_id": "h"}, owner="records office", scopes=[scope])
    assert hold.name.startswith(f"tenants/{tenant}/legalHolds/") and list(hold.scopes) == [scope]
    assert create(client, tenant, {"request_id": "h"}, owner="records office", scopes=[scope]) == hold
    assert held(client, hold.name) == filed[3:], "by time"
    after = add(client, hold.name, recordings=[filed[0], filed[0]], request_id="a")
    assert after.legal_hold.named_recording_count == 1
    assert (
        add(client, hold.name, recordings=[filed[0], filed[0]], request_id="a").legal_hold == after.legal_hold
    )
    assert sorted(held(client, hold.name, size=1)) == sorted([filed[0], filed[3]])
    anyhow = f"tenants/-/legalHolds/{hold.name[-26:]}"
    found = client.retention.GetLegalHold(pb.GetLegalHoldRequest(name=anyhow)).legal_hold
    assert found == after.legal_hold
    release = pb.ReleaseLegalHoldRequest(name=hold.name, reason="closed", validate_only=True)
    assert not client.retention.ReleaseLegalHold(release).legal_hold.HasField("release_time")
    release.validate_only = False
    release.request_id = "r"
    over = client.retention.ReleaseLegalHold(release).legal_hold
    assert (over.releaser, over.release_reason) == ("admin", "closed") and over.HasField("release_time")
    assert client.retention.ReleaseLegalHold(release).legal_hold == over
    release.request_id = ""
    assert refused(lambda: client.retention.ReleaseLegalHold(release)).reason == "HOLD_RELEASED"
    assert refused(lambda: add(client, hold.name, recordings=filed[:1])).reason == "HOLD_RELEASED"
    everything = pb.ListLegalHoldsRequest(parent=f"tenants/{tenant}", show_released=True)
    assert [one.name for one in client.retention.ListLegalHolds(everything).legal_holds] == [hold.name]
    client.recordings.DeleteRecording(recordings_pb2.DeleteRecordingRequest(name=filed[0]))


def test_a_filter_names_what_it_finds_now_deleted_ones_too(box, filed, monkeypatch):
    tenant, _ = box.default_line()
    client = box.client()
    monkeypatch.setattr("appliance.api.holds.MAX_NAMED", 2)
    client.recordings.DeleteRecording(recordings_pb2.DeleteRecordingRequest(name=filed[1]))
    erase = recordings_pb2.EraseRecordingRequest(name=filed[3], force=True, reason="x")
    client.recordings.EraseRecording(erase)
    hold = create(client, tenant)
    dry = add(client, hold.name, filter='party.number:"01632 960002"', validate_only=True)
    assert dry.matched_count == 2 and held(client, hold.name) == []
    found = add(client, hold.name, filter='party.number:"01632 960002"')
    assert (found.matched_count, found.erased_count) == (2, 0)
    assert sorted(held(client, hold.name)) == sorted(filed[:2])
    found = add(client, hold.name, filter="part=1")
    assert found.matched_count == 3 and found.legal_hold.named_recording_count == 3, "page by page"
    assert add(client, hold.name, filter="part=9").matched_count == 0
    error = refused(lambda: add(client, hold.name, filter="colour=3"))
    assert (error.reason, list(error.fields)) == ("FILTER_INVALID", ["filter"])


def test_what_is_erased_behind_a_filter_is_counted_and_the_others_are_held(box, filed, monkeypatch):
    tenant, _ = box.default_line()
    client = box.client()
    hold = create(client, tenant)
    find = rows.matching

    def erased_meanwhile(connection, **how):
        found = find(connection, **how)
        if found and box.vault.erasures == 0:
            box.vault._erase(filed[2][-26:], "just now")
        return found

    monkeypatch.setattr(rows, "matching", erased_meanwhile)
    found = add(client, hold.name, filter="part=1")
    assert (found.matched_count, found.erased_count) == (3, 1)
    assert filed[2] not in held(client, hold.name) and len(held(client, hold.name)) == 3


def test_a_hold_on_what_is_erased_is_told_so(box, filed):
    tenant, _ = box.default_line()
    client = box.client()
    erase = recordings_pb2.EraseRecordingRequest(name=filed[0], force=True, reason="x")
    client.recordings.EraseRecording(erase)
    hold = create(client, tenant)
    for dry in (True, False):
        found = refused(lambda dry=dry: add(client, hold.name, recordings=filed[:2], validate_only=dry))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RECORDING_ERASED")
        assert filed[0][-26:] in found.data["recording_ids"]
    assert held(client, hold.name) == [], "all or none"


def test_what_is_another_tenants(box, filed):
    tenant, line = box.default_line()
    client = box.client()
    request = tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="other"))
    other = client.tenants.CreateTenant(request).tenant.name[-26:]
    hold = create(client, other)
    bare = f"tenants/-/recordings/{filed[0][-26:]}"
    for call in (
        lambda: add(client, hold.name, recordings=[filed[0]]),
        lambda: add(client, hold.name, recordings=[bare]),
        lambda: add(client, hold.name, scopes=[pb.LegalHoldScope(line=f"tenants/{tenant}/lines/{line}")]),
        lambda: create(client, other, scopes=[pb.LegalHoldScope(line=f"tenants/{tenant}/lines/{line}")]),
    ):
        found = refused(call)
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "HOLD_TENANT")
    assert add(client, hold.name, filter="part=1").matched_count == 0, "a filter looks among its own"
    unknown = pb.LegalHoldScope(line=f"tenants/-/lines/{line}")
    assert refused(lambda: add(client, hold.name, scopes=[unknown])).reason == "LINE_NOT_FOUND"
    not_mine = f"tenants/{tenant}/legalHolds/{hold.name[-26:]}"
    found = refused(lambda: client.retention.GetLegalHold(pb.GetLegalHoldRequest(name=not_mine)))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "HOLD_NOT_FOUND")


def test_bad_holds(box, filed):
    tenant, _ = box.default_line()
    client = box.client()
    unknown = f"tenants/{tenant}/legalHolds/{new_id()}"
    for call in (
        lambda: add(client, unknown, recordings=filed[:1]),
        lambda: held(client, unknown),
        lambda: client.retention.ReleaseLegalHold(pb.ReleaseLegalHoldRequest(name=unknown, reason="x")),
    ):
        found = refused(call)
        assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "HOLD_NOT_FOUND")
    name = create(client, tenant).name
    backwards = pb.LegalHoldScope(from_time=Timestamp(seconds=9), to_time=Timestamp(seconds=8))
    early = pb.LegalHoldScope(from_time=Timestamp(seconds=-9))
    for call, field in (
        (lambda: create(client, tenant, title=""), "legal_hold.title"),
        (lambda: create(client, tenant, title="x" * 201), "legal_hold.title"),
        (lambda: create(client, tenant, reason=""), "legal_hold.reason"),
        (lambda: create(client, tenant, reason="a\nb"), "legal_hold.reason"),
        (lambda: create(client, tenant, scopes=[backwards]), "legal_hold.scopes[0].to_time"),
        (lambda: add(client, name), "recordings"),
        (lambda: add(client, name, scopes=[early]), "scopes[0].from_time"),
        (lambda: add(client, name, recordings=[filed[0], "x"]), "recordings[1]"),
        (lambda: add(client, name, recordings=filed[:1] * 1001), "recordings"),
        (lambda: client.retention.ReleaseLegalHold(pb.ReleaseLegalHoldRequest(name=name)), "reason"),
    ):
        found = refused(call)
        assert (found.code, list(found.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    missing = [f"tenants/-/recordings/{new_id()}"]
    assert refused(lambda: add(client, name, recordings=missing)).code is grpc.StatusCode.NOT_FOUND
    assert refused(lambda: create(client, new_id())).reason == "TENANT_NOT_FOUND"
    assert refused(lambda: create(client, "-")).reason == "NAME_INVALID"


def test_a_hold_whose_making_was_not_noted_is_made_once(box, monkeypatch):
    tenant, _ = box.default_line()
    client = box.client()
    write = box.control.parts.store.write

    async def crashes(work):
        if work.__module__ != "appliance.api.holds":  # work in the background that comes in between
            return await write(work)
        monkeypatch.setattr(box.control.parts.store, "write", write)
        raise RuntimeError("as if the process had died here")

    monkeypatch.setattr(box.control.parts.store, "write", crashes)
    assert refused(lambda: create(client, tenant, {"request_id": "h"})).code is grpc.StatusCode.INTERNAL
    hold = create(client, tenant, {"request_id": "h"})
    found = client.retention.ListLegalHolds(pb.ListLegalHoldsRequest(parent="tenants/-")).legal_holds
    assert [one.name for one in found] == [hold.name]


def test_pages_of_holds(box):
    tenant, _ = box.default_line()
    client = box.client()
    made = [create(client, tenant).name for _ in range(3)]
    request, found = pb.ListLegalHoldsRequest(parent="tenants/-", page_size=2), []
    while True:
        answer = client.retention.ListLegalHolds(request)
        found += [one.name for one in answer.legal_holds]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert found == made
