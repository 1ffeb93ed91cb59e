"""Support grants over real sockets: what support sees and reads, how often, until when, and what the tenant sees of it."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grants_kit import DAY, HOUR, SECOND, Ward, every_way, get, refused, stamp, stream, ward

import earwitness
from appliance.access.identities import Role
from appliance.access.policy import ALLOWED
from appliance.catalog import grants as rows
from appliance.model import new_id
from appliance.storage.keystore import hpke
from earwitness.v1 import alarms_pb2, events_pb2, tenants_pb2
from earwitness.v1 import grants_pb2 as pb
from earwitness.v1 import recordings_pb2 as rec

__all__ = ["ward"]  # a fixture


def test_without_a_grant_a_recording_is_as_if_it_were_not_there(ward):
    name = ward.file()
    nothing = f"{ward.tenant}/recordings/{new_id()}"
    told, told_of_nothing = every_way(ward.support, name), every_way(ward.support, nothing)
    for one, other in zip(told, told_of_nothing, strict=True):
        assert (one.code, one.reason) == (grpc.StatusCode.NOT_FOUND, "RECORDING_NOT_FOUND")
        assert (one.code, one.reason, one.message, sorted(one.data)) == (
            other.code,
            other.reason,
            other.message,
            sorted(other.data),
        )
    assert ward.listed() == []
    assert not [one for one in ward.box.vault.leases if one[1] == "support.ada"]


def test_what_support_may_call_at_all():
    """Who adds a method for support must say here how it keeps recordings, names and numbers from it."""
    of_support = {
        method.removeprefix("/earwitness.v1.")
        for method, roles in ALLOWED.items()
        if Role.SUPPORT in roles and method.startswith("/earwitness.")
    }
    under_a_grant = {
        "RecordingsService/ListRecordings",
        "RecordingsService/GetRecording",
        "RecordingsService/DownloadRecording",
        "RecordingsService/VerifyRecording",
        "RecordingsService/GetWaveform",
        "EventsService/WatchEvents",
        "GrantsService/RequestGrant",
        "GrantsService/RevokeGrant",
        "GrantsService/GetGrant",
        "GrantsService/ListGrants",
        "GrantsService/ListGrantUses",
        "GrantsService/ListGrantKeys",
    }
    says_nothing_of_calls = {
        "RetentionService/GetRetentionClock",
        "TenantsService/GetTenant",
        "TenantsService/ListTenants",
        "PurposesService/ListPurposes",
        "EvidenceService/GetBoxKeys",
        "BoxService/GetBoxStatus",
        "BoxService/GetVault",
        "BoxService/ListBuckets",
        "BoxService/GetTenantStorage",
        "AlarmsService/ListAlarms",  # those of the box
        "AlarmsService/GetAlarm",
        "AlarmsService/CountAlarms",
        "AlarmsService/ListAlarmKinds",
        "DocumentsService/ListPlannedWork",  # of the box
    }
    of_oneself = {method for method in of_support if method.startswith("AccessService/")}
    assert of_support - of_oneself == under_a_grant | says_nothing_of_calls


def test_asked_for_approved_read_counted_and_shown(ward):
    name, unnamed = ward.file(), ward.file()
    asked = ward.request(name)
    assert (asked.state, asked.requester, list(asked.identities)) == (
        pb.GRANT_STATE_REQUESTED,
        "support.ada",
        ["support.ada"],
    )
    assert ward.listed() == [], "a request is no grant"
    seen = ward.officer.grants.ApproveGrant(pb.ApproveGrantRequest(name=asked.name, validate_only=True))
    assert (seen.coverage.recording_count, seen.coverage.missing_count) == (1, 0)
    assert [one.line for one in seen.coverage.lines] == [f"{ward.tenant}/lines/{ward.line_id}"]
    assert ward.get(asked).state == pb.GRANT_STATE_REQUESTED
    grant = ward.approve(asked, etag=asked.etag)
    assert (grant.state, grant.approver, list(grant.recordings)) == (
        pb.GRANT_STATE_ACTIVE,
        f"{ward.tenant_id}/officer",
        [name],
    )
    assert [one.name for one in ward.listed()] == [name]
    assert get(ward.support, name).name == name
    assert ward.uses(grant) == [], "looking is not reading"
    etag, data = ward.read(name)
    assert len(data) == get(ward.officer, name).size_bytes
    ward.read(name, offset=10, etag=etag)
    assert len(ward.uses(grant)) == 1, "it goes on"
    list(ward.support.recordings.VerifyRecording(rec.VerifyRecordingRequest(name=name)))
    picture = rec.GetWaveformRequest(name=name, purpose="system-operation")
    assert ward.support.recordings.GetWaveform(picture).channels
    uses = ward.uses(grant)
    assert [(one.kind, one.format, one.identity, one.recording, one.served) for one in uses] == [
        (pb.GRANT_USE_KIND_WAVEFORM, "", "support.ada", name, True),
        (pb.GRANT_USE_KIND_VERIFY, "", "support.ada", name, True),
        (pb.GRANT_USE_KIND_DOWNLOAD, "sealed", "support.ada", name, True),
    ]
    now = ward.get(grant)
    assert (now.state, now.read_count, now.remaining_reads) == (pb.GRANT_STATE_USED_UP, 3, 0)
    assert refused(lambda: ward.read(name)).reason == "RECORDING_NOT_FOUND"
    assert ward.read(name, offset=5, etag=etag)[1] == data[5:], "the read that was counted goes on"
    assert ward.listed() == []
    assert refused(lambda: ward.read(unnamed)).reason == "RECORDING_NOT_FOUND"


def test_the_use_stands_in_the_tenants_audit_and_feed(ward):
    name = ward.file()
    of_grants = [number for word, number in events_pb2.EventType.items() if "_GRANT_" in word]
    stream = ward.officer.events.WatchEvents(
        events_pb2.WatchEventsRequest(parent=ward.tenant, types=of_grants)
    )
    next(stream)
    grant = ward.granted(name, max_reads=1)
    ward.read(name)
    kinds = []
    while len(kinds) < 4:
        message = next(stream)
        if message.HasField("event"):
            assert message.event.subject == grant.name
            kinds.append((events_pb2.EventType.Name(message.event.type)[17:], message.event.state))
            if kinds[-1][0] == "USED":
                assert name in message.event.message
    assert kinds == [
        ("REQUESTED", "REQUESTED"),
        ("APPROVED", "ACTIVE"),
        ("USED", "DOWNLOAD"),
        ("USED_UP", "USED_UP"),
    ]
    stream.cancel()

    def entries(what: str) -> list[dict]:
        found = [one for one in ward.box.audited() if one["what"] == what and one.get("grant")]
        return [one for one in found if one["tenant"] == ward.tenant_id]

    (use,) = entries("grant-use")
    assert (use["who"], use["grant"], use["subject"], use["kind"]) == (
        "support.ada",
        grant.name,
        name,
        "download",
    )
    (done,) = ward.box.wait(lambda: entries("done"))
    assert done["grant"] == grant.name and done["method"].endswith("/DownloadRecording")


def test_names_numbers_and_texts_are_left_out_unless_the_grant_says_otherwise(ward, pause_mark):
    fields = {"marks": (pause_mark,), "names": ("Ada Lovelace", "Dr. Grace Hopper")}
    hidden, shown = ward.file(**fields), ward.file(**fields)
    grant = ward.granted(hidden)
    ward.granted(shown, include_parties=True)
    said = {one.name: one for one in ward.listed()}
    assert set(said) == {hidden, shown}
    picture = rec.GetWaveformRequest(name=hidden, purpose="system-operation")
    for text in (
        str(said[hidden]),
        str(get(ward.support, hidden)),
        str(ward.support.recordings.GetWaveform(picture)),
    ):
        for personal in ("Lovelace", "Hopper", "441632960001", "card number", "ucid-1234", "abc@sbc.example"):
            assert personal not in text
    assert [one.kind for one in said[hidden].marks] == [rec.MARK_KIND_PAUSED]
    assert len(said[hidden].parties) == 2 and said[hidden].parties[0].role
    assert "Lovelace" in str(said[shown]) and "card number" in str(get(ward.support, shown))
    # What is not shown cannot be asked for, either.
    asked = rec.ListRecordingsRequest(parent="tenants/-", filter='party.name:"Ada"')
    assert refused(lambda: ward.support.recordings.ListRecordings(asked)).reason == "FILTER_INVALID"
    assert [one.name for one in ward.listed(filter="marks:PAUSED duration > 1s", page_size=1)]
    # The approver may leave them out.
    narrowed = ward.approve(ward.request(shown, include_parties=True), exclude_parties=True)
    assert not narrowed.include_parties
    assert ward.get(grant).include_parties is False


def test_another_person_of_the_support_sees_nothing_of_it(ward):
    name = ward.file()
    grant = ward.granted(name)
    assert {one.reason for one in every_way(ward.other, name)} == {"RECORDING_NOT_FOUND"}
    assert ward.listed(ward.other) == []
    for call in (
        lambda: ward.get(grant, ward.other),
        lambda: ward.other.grants.ListGrantUses(pb.ListGrantUsesRequest(parent=grant.name)),
        lambda: ward.other.grants.RevokeGrant(pb.RevokeGrantRequest(name=grant.name)),
    ):
        assert refused(call).reason == "GRANT_NOT_FOUND"
    assert not ward.other.grants.ListGrants(pb.ListGrantsRequest(parent="tenants/-")).grants
    both = ward.granted(name, identities=["support.bob", "support.ada"])
    assert ward.read(name, ward.other)[1]
    assert [one.identity for one in ward.uses(both)] == ["support.bob"]


def test_another_tenant_has_no_part_in_it(ward, sealing):
    tenants = ward.box.client().tenants
    made = tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Elsewhere"))
    ).tenant
    elsewhere = made.name.partition("/")[2]
    stranger = ward.box.enroll("stranger", Role.RECORDS_OFFICER, tenant_id=elsewhere)
    line = tenants.CreateLine(
        tenants_pb2.CreateLineRequest(
            parent=made.name, line=tenants_pb2.Line(display_name="x", numbers=["01632960999"])
        )
    ).line
    recording_id = ward.box.vault.file(sealing(elsewhere, line.name.rpartition("/")[2]))
    ward.box.filed(recording_id)
    theirs = f"{made.name}/recordings/{recording_id}"
    ours = ward.file()
    grant = ward.request(ours)
    for call in (
        lambda: ward.get(grant, stranger),
        lambda: stranger.grants.ApproveGrant(pb.ApproveGrantRequest(name=grant.name)),
        lambda: stranger.grants.DenyGrant(pb.DenyGrantRequest(name=grant.name, reason="no")),
        lambda: stranger.grants.RevokeGrant(pb.RevokeGrantRequest(name=grant.name)),
        lambda: stranger.grants.ListGrantUses(pb.ListGrantUsesRequest(parent=grant.name)),
    ):
        assert refused(call).reason == "GRANT_NOT_FOUND"
    assert not stranger.grants.ListGrants(pb.ListGrantsRequest(parent="tenants/-")).grants
    found = refused(lambda: ward.request(theirs))
    assert (found.reason, list(found.fields)) == ("FIELD_INVALID", ["grant.scope.recordings[0]"])
    # Named with "-": it is not said whether it is there, and it is not covered.
    asked = ward.request(f"tenants/-/recordings/{recording_id}")
    assert refused(lambda: ward.approve(asked)).reason == "GRANT_EMPTY"
    ward.approve(grant)
    assert {one.reason for one in every_way(ward.support, theirs)} == {"RECORDING_NOT_FOUND"}


def test_who_may_approve(ward):
    name = ward.file()
    asked = ward.request(name)
    for client in (
        ward.support,
        ward.box.enroll("operator", Role.OPERATOR),
        ward.box.enroll("supervisor", Role.SUPERVISOR, tenant_id=ward.tenant_id),
        ward.box.enroll("administrator", Role.TENANT_ADMINISTRATOR, tenant_id=ward.tenant_id),
    ):
        found = refused(
            lambda client=client: client.grants.ApproveGrant(pb.ApproveGrantRequest(name=asked.name))
        )
        assert found.reason == "METHOD_DENIED"
    both = ward.box.enroll("both", Role.SUPPORT, Role.RECORDS_OFFICER)
    for call in (
        lambda: both.grants.ApproveGrant(pb.ApproveGrantRequest(name=asked.name)),
        lambda: both.grants.CreateGrant(
            pb.CreateGrantRequest(parent=ward.tenant, grant=ward.terms(name, identities=["support.ada"]))
        ),
    ):
        assert refused(call).reason == "GRANT_OWN"
    # Of a box that its site runs, the administrator is records officer, too.
    admin = ward.box.client()
    assert admin.grants.ApproveGrant(pb.ApproveGrantRequest(name=asked.name)).grant.approver == "admin"


def test_a_tenant_asks_for_help(ward):
    name = ward.file()
    asked = pb.CreateGrantRequest(
        parent=ward.tenant, grant=ward.terms(name, identities=["support.bob"], necessity="")
    )
    made = ward.officer.grants.CreateGrant(asked)
    assert (made.grant.state, made.coverage.recording_count) == (pb.GRANT_STATE_ACTIVE, 1)
    assert ward.read(name, ward.other)[1]
    assert refused(lambda: ward.read(name)).reason == "RECORDING_NOT_FOUND"
    nobody = pb.CreateGrantRequest(parent=ward.tenant, grant=ward.terms(name))
    assert list(refused(lambda: ward.officer.grants.CreateGrant(nobody)).fields) == ["grant.identities"]


def test_deny_and_take_back(ward):
    name = ward.file()
    asked = ward.request(name)
    denied = ward.officer.grants.DenyGrant(pb.DenyGrantRequest(name=asked.name, reason="not needed")).grant
    who = f"{ward.tenant_id}/officer"
    assert (denied.state, denied.ender, denied.end_reason) == (pb.GRANT_STATE_DENIED, who, "not needed")
    assert ward.get(asked, ward.support).end_reason == "not needed"
    assert refused(lambda: ward.approve(asked)).data["state"] == "denied"
    assert (
        refused(
            lambda: ward.officer.grants.DenyGrant(pb.DenyGrantRequest(name=asked.name, reason="x"))
        ).reason
        == "GRANT_STATE"
    )
    taken = ward.request(name)
    back = ward.support.grants.RevokeGrant(pb.RevokeGrantRequest(name=taken.name)).grant
    assert (back.state, back.ender) == (pb.GRANT_STATE_REVOKED, "support.ada")
    assert refused(lambda: ward.approve(taken)).reason == "GRANT_STATE"


@pytest.fixture
def long(ward) -> str:
    return ward.file(seconds=400, noise=3)  # 13 MB


def test_revoked_it_ends_while_it_streams(ward, long):
    grant = ward.granted(long)
    made = stream(ward, long)
    ward.officer.grants.RevokeGrant(pb.RevokeGrantRequest(name=grant.name, reason="enough"))
    found = refused(lambda: list(made))
    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "GRANT_ENDED")
    assert {one.reason for one in every_way(ward.support, long)} == {"RECORDING_NOT_FOUND"}
    again = ward.officer.grants.RevokeGrant(pb.RevokeGrantRequest(name=grant.name)).grant
    assert (again.state, again.end_reason) == (pb.GRANT_STATE_REVOKED, "enough")


def test_revoked_by_somebody_who_goes_away_it_ends_all_the_same(ward, long, monkeypatch):
    grant = ward.granted(long)
    made = stream(ward, long)
    begun, go_on, update = threading.Event(), threading.Event(), rows.update

    def slow(connection, changed) -> None:
        begun.set()
        assert go_on.wait(20)
        update(connection, changed)

    monkeypatch.setattr(rows, "update", slow)
    asked = ward.officer.grants.RevokeGrant.future(pb.RevokeGrantRequest(name=grant.name))
    assert begun.wait(20)
    asked.cancel()

    def gone() -> bool:
        entries = [one for one in ward.box.audited() if one.get("method", "").endswith("/RevokeGrant")]
        return entries[-1].get("outcome") == "CANCELLED"

    ward.box.wait(gone)
    go_on.set()
    get = pb.GetGrantRequest(name=grant.name)
    ward.box.wait(lambda: ward.officer.grants.GetGrant(get).grant.state == pb.GRANT_STATE_REVOKED)
    assert refused(lambda: list(made)).reason == "GRANT_ENDED"
    assert ward.get(grant).state == pb.GRANT_STATE_REVOKED


def test_expired_it_ends_while_it_streams_and_never_begins_again(ward, long):
    grant = ward.granted(long)
    made = stream(ward, long)
    ward.box.clock.ahead_ns = (HOUR + 5) * SECOND
    assert refused(lambda: list(made)).reason == "GRANT_ENDED"
    assert ward.get(grant).state == pb.GRANT_STATE_EXPIRED
    ward.box.clock.ahead_ns = -DAY * SECOND
    assert ward.get(grant).state == pb.GRANT_STATE_EXPIRED
    assert refused(lambda: ward.read(long)).reason == "RECORDING_NOT_FOUND"
    ward.box.clock.ahead_ns = (HOUR + 5) * SECOND
    ward.box.run(ward.box.control.granted.look())
    events = ward.officer.events.WatchEvents(
        events_pb2.WatchEventsRequest(
            parent=ward.tenant, from_oldest=True, types=[events_pb2.EVENT_TYPE_GRANT_EXPIRED]
        )
    )
    while not (message := next(events)).HasField("event"):
        pass
    assert message.event.subject == grant.name
    events.cancel()
    # Written down: also a box that starts anew on a clock of yesterday holds to it.
    ward.box.stop()
    ward.box.clock.ahead_ns = -DAY * SECOND
    ward.box.start()
    ward.officer, ward.support = ward.box.client("officer"), ward.box.client("support.ada")
    assert ward.get(grant).state == pb.GRANT_STATE_EXPIRED
    assert refused(lambda: ward.read(long)).reason == "RECORDING_NOT_FOUND"


def test_a_grant_goes_on_from_the_time_it_was_seen_at(ward):
    name = ward.file()
    grant = ward.granted(name)
    ward.box.clock.ahead_ns = (HOUR - 300) * SECOND
    ward.box.run(ward.box.control.granted.look())
    ward.box.stop()
    ward.box.clock.ahead_ns = -HOUR * SECOND
    ward.box.start()
    ward.officer, ward.support = ward.box.client("officer"), ward.box.client("support.ada")
    assert ward.get(grant).state == pb.GRANT_STATE_ACTIVE
    seen = ward.box.run(
        ward.box.control.parts.store.read(lambda c: ward.box.control.granted.active(c, _ada()))
    )
    at = ward.box.control.granted.clocks.now(seen[0])
    assert at >= time.time_ns() + (HOUR - 600) * SECOND, "what it was seen at is not undone"


def _ada():
    from appliance.access.identities import Identity

    return Identity("support.ada", frozenset({Role.SUPPORT}))


def test_not_yet_begun(ward):
    name = ward.file()
    grant = ward.granted(
        name, begin_time=stamp(HOUR, ward.box.clock), end_time=stamp(2 * HOUR, ward.box.clock)
    )
    assert grant.state == pb.GRANT_STATE_APPROVED
    assert refused(lambda: ward.read(name)).reason == "RECORDING_NOT_FOUND"
    ward.box.clock.ahead_ns = (HOUR + 5) * SECOND
    assert ward.read(name)[1]


def test_by_filter_only_what_was_filed_before_the_approval(ward, sealing):
    start = 1_764_000_000
    first = ward.file(start_ns=start * SECOND)
    ward.file(start_ns=(start - 5 * DAY) * SECOND)
    scope = pb.GrantScope(
        line=f"tenants/-/lines/{ward.line_id}",
        from_time=Timestamp(seconds=start - HOUR),
        to_time=Timestamp(seconds=start + HOUR),
        filter="duration > 1s",
    )
    asked = ward.request(scope=scope)
    second = ward.file(start_ns=(start + 60) * SECOND)
    grant = ward.approve(asked)
    assert sorted(grant.recordings) == sorted([first, second])
    assert grant.scope.filter == "", "it is answered, and forgotten"
    later = ward.file(start_ns=(start + 120) * SECOND)
    assert refused(lambda: ward.read(later)).reason == "RECORDING_NOT_FOUND"
    assert sorted(one.name for one in ward.listed()) == sorted([first, second])


def test_narrowed_and_never_widened(ward):
    first, second, third = ward.file(), ward.file(), ward.file()
    asked = ward.request(
        first, second, begin_time=stamp(HOUR, ward.box.clock), end_time=stamp(3 * HOUR, ward.box.clock)
    )
    for fields, field in (
        ({"scope": pb.GrantScope(recordings=[first, third])}, "scope.recordings"),
        ({"max_reads": 4}, "max_reads"),
        ({"end_time": stamp(4 * HOUR, ward.box.clock)}, "end_time"),
        ({"begin_time": stamp(60, ward.box.clock)}, "begin_time"),
    ):
        found = refused(lambda fields=fields: ward.approve(asked, **fields))
        assert (found.reason, list(found.fields)) == ("GRANT_WIDENED", [field])
    grant = ward.approve(
        asked,
        scope=pb.GrantScope(recordings=[second]),
        max_reads=1,
        begin_time=stamp(2 * HOUR, ward.box.clock),
        end_time=stamp(2.5 * HOUR, ward.box.clock),
    )
    assert (list(grant.recordings), grant.max_reads) == ([second], 1)
    # A selection leaves what is in both.
    picked = ward.approve(
        ward.request(first, second),
        scope=pb.GrantScope(filter="duration > 100s or state=FILED".replace("or", "OR")),
    )
    assert sorted(picked.recordings) == sorted([first, second])
    empty = ward.request(first, second)
    assert (
        refused(lambda: ward.approve(empty, scope=pb.GrantScope(filter="duration > 100s"))).reason
        == "GRANT_EMPTY"
    )


def test_missing_ones_are_counted_for_the_approver(ward):
    name = ward.file()
    asked = ward.request(name, f"{ward.tenant}/recordings/{new_id()}")
    answer = ward.officer.grants.ApproveGrant(pb.ApproveGrantRequest(name=asked.name))
    assert (answer.coverage.recording_count, answer.coverage.missing_count) == (1, 1)


def test_nobody_answers_and_it_is_forgotten(ward):
    asked = ward.request(ward.file(), begin_time=stamp(20 * DAY), end_time=stamp(21 * DAY))
    ward.box.clock.ahead_ns = 14 * DAY * SECOND + SECOND
    assert refused(lambda: ward.approve(asked)).reason == "GRANT_STATE"
    ward.box.run(ward.box.control.granted.look())
    assert refused(lambda: ward.get(asked)).reason == "GRANT_NOT_FOUND"


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"purpose": ""}, "GRANT_TERMS_INVALID", "grant.purpose"),
        ({"purpose": "x" * 201}, "FIELD_INVALID", "grant.purpose"),
        ({"purpose": "gossip"}, "PURPOSE_UNKNOWN", "grant.purpose[0]"),
        ({"necessity": "because"}, "GRANT_TERMS_INVALID", "grant.necessity"),
        ({"necessity": "x" * 1001}, "FIELD_INVALID", "grant.necessity"),
        ({"necessity": "x" * 30 + "\n"}, "FIELD_INVALID", "grant.necessity"),
        ({"end_time": None}, "GRANT_TERMS_INVALID", "grant.end_time"),
        ({"end_time": Timestamp(seconds=2**40)}, "FIELD_INVALID", "grant.end_time"),
        ({"end_time": Timestamp(seconds=-1)}, "FIELD_INVALID", "grant.end_time"),
        ({"end_time": Timestamp(seconds=1, nanos=2 * 10**9)}, "FIELD_INVALID", "grant.end_time"),
        ({"end_time": stamp(-HOUR)}, "GRANT_TERMS_INVALID", "grant.end_time"),
        ({"end_time": stamp(15 * DAY)}, "GRANT_TERMS_INVALID", "grant.end_time"),
        ({"begin_time": stamp(-HOUR)}, "GRANT_TERMS_INVALID", "grant.begin_time"),
        (
            {"begin_time": stamp(400 * DAY), "end_time": stamp(401 * DAY)},
            "GRANT_TERMS_INVALID",
            "grant.begin_time",
        ),
        ({"begin_time": stamp(2 * HOUR)}, "GRANT_TERMS_INVALID", "grant.end_time"),
        ({"max_reads": 0}, "GRANT_TERMS_INVALID", "grant.max_reads"),
        ({"max_reads": -1}, "GRANT_TERMS_INVALID", "grant.max_reads"),
        ({"max_reads": 1001}, "GRANT_TERMS_INVALID", "grant.max_reads"),
        ({"public_key": b"short"}, "GRANT_TERMS_INVALID", "grant.public_key"),
        ({"identities": ["support.ada"] * 2}, "GRANT_TERMS_INVALID", "grant.identities"),
        ({"identities": [f"s{n}" for n in range(11)]}, "GRANT_TERMS_INVALID", "grant.identities"),
        ({"identities": [""]}, "FIELD_INVALID", "grant.identities"),
        ({"identities": ["x" * 65]}, "FIELD_INVALID", "grant.identities"),
        ({"identities": ["officer"]}, "GRANTEE_UNKNOWN", "grant.identities"),
        ({"identities": ["nobody"]}, "GRANTEE_UNKNOWN", "grant.identities"),
        ({"identities": ["trust:ada"]}, "GRANTEE_UNKNOWN", "grant.identities"),
        ({"scope": pb.GrantScope()}, "GRANT_TERMS_INVALID", "grant.scope"),
        ({"scope": pb.GrantScope(recordings=["Ada Lovelace"])}, "NAME_INVALID", "grant.scope.recordings[0]"),
        (
            {"scope": pb.GrantScope(recordings=[f"tenants/-/recordings/{new_id()}"] * 2)},
            "GRANT_TERMS_INVALID",
            "grant.scope.recordings",
        ),
        (
            {"scope": pb.GrantScope(recordings=[f"tenants/-/recordings/{new_id()}" for _ in range(201)])},
            "FIELD_INVALID",
            "grant.scope.recordings",
        ),
        (
            {"scope": pb.GrantScope(recordings=[f"tenants/-/recordings/{new_id()}"], filter="whole=true")},
            "GRANT_TERMS_INVALID",
            "grant.scope.recordings",
        ),
        ({"scope": pb.GrantScope(line="x")}, "NAME_INVALID", "grant.scope.line"),
        (
            {"scope": pb.GrantScope(line=f"tenants/{new_id()}/lines/{new_id()}")},
            "FIELD_INVALID",
            "grant.scope.line",
        ),
        ({"scope": pb.GrantScope(filter="party.number:441632960001")}, "FILTER_INVALID", "filter"),
        ({"scope": pb.GrantScope(filter="whole = maybe")}, "FILTER_INVALID", "whole"),
        (
            {"scope": pb.GrantScope(from_time=Timestamp(seconds=5), to_time=Timestamp(seconds=5))},
            "GRANT_TERMS_INVALID",
            "grant.scope.to_time",
        ),
        ({"scope": pb.GrantScope(from_time=Timestamp(seconds=-5))}, "FIELD_INVALID", "grant.scope.from_time"),
    ],
)
def test_bad_requests_name_field_and_reason_and_leave_nothing(ward, fields, reason, field):
    terms = {"scope": pb.GrantScope(filter="whole=true"), **fields}
    found = refused(lambda: ward.request(**terms))
    assert (found.reason, list(found.fields)) == (reason, [field])
    assert not ward.officer.grants.ListGrants(pb.ListGrantsRequest(parent="tenants/-")).grants


def test_bad_answers(ward):
    asked = ward.request(ward.file())
    approve, grants = ward.officer.grants.ApproveGrant, ward.officer.grants
    for call, reason in (
        (lambda: approve(pb.ApproveGrantRequest(name="x")), "NAME_INVALID"),
        (lambda: approve(pb.ApproveGrantRequest(name=f"tenants/-/grants/{new_id()}")), "GRANT_NOT_FOUND"),
        (lambda: approve(pb.ApproveGrantRequest(name=asked.name, etag="x")), "ETAG_MISMATCH"),
        (lambda: approve(pb.ApproveGrantRequest(name=asked.name, etag="x" * 101)), "FIELD_INVALID"),
        (lambda: approve(pb.ApproveGrantRequest(name=asked.name, max_reads=-1)), "FIELD_INVALID"),
        (lambda: approve(pb.ApproveGrantRequest(name=asked.name, request_id="?")), "INVALID"),
        (
            lambda: approve(pb.ApproveGrantRequest(name=asked.name, end_time=stamp(-HOUR))),
            "GRANT_TERMS_INVALID",
        ),
        (lambda: grants.DenyGrant(pb.DenyGrantRequest(name=asked.name)), "FIELD_INVALID"),
        (lambda: grants.DenyGrant(pb.DenyGrantRequest(name=asked.name, reason="x" * 201)), "FIELD_INVALID"),
        (lambda: grants.RevokeGrant(pb.RevokeGrantRequest(name=asked.name, reason="\x07")), "FIELD_INVALID"),
        (lambda: grants.ListGrants(pb.ListGrantsRequest(parent="x")), "NAME_INVALID"),
        (lambda: grants.ListGrants(pb.ListGrantsRequest(parent="tenants/-", page_size=-1)), "FIELD_INVALID"),
        (
            lambda: grants.ListGrants(pb.ListGrantsRequest(parent="tenants/-", page_token="x")),
            "PAGE_TOKEN_INVALID",
        ),
        (lambda: grants.ListGrants(pb.ListGrantsRequest(parent="tenants/-", states=[0])), "FIELD_INVALID"),
        (lambda: grants.ListGrantUses(pb.ListGrantUsesRequest(parent="x")), "NAME_INVALID"),
    ):
        assert refused(call).reason == reason
    assert ward.get(asked).state == pb.GRANT_STATE_REQUESTED


def test_a_request_id_makes_one_grant_and_one_approval(ward):
    name = ward.file()
    request = pb.RequestGrantRequest(parent=ward.tenant, grant=ward.terms(name), request_id="a")
    first = ward.support.grants.RequestGrant(request).grant
    assert ward.support.grants.RequestGrant(request).grant.name == first.name
    approval = pb.ApproveGrantRequest(name=first.name, request_id="b")
    assert ward.officer.grants.ApproveGrant(approval).grant.state == pb.GRANT_STATE_ACTIVE
    assert ward.officer.grants.ApproveGrant(approval).grant.state == pb.GRANT_STATE_ACTIVE
    assert len(ward.officer.grants.ListGrants(pb.ListGrantsRequest(parent="tenants/-")).grants) == 1
    dry = pb.RequestGrantRequest(parent=ward.tenant, grant=ward.terms(name), validate_only=True)
    assert not ward.support.grants.RequestGrant(dry).grant.name
    assert len(ward.officer.grants.ListGrants(pb.ListGrantsRequest(parent="tenants/-")).grants) == 1


def test_pages(ward):
    names = [ward.request(ward.file()).name for _ in range(5)]
    ward.approve(pb.SupportGrant(name=names[2]))
    request = pb.ListGrantsRequest(parent="tenants/-", page_size=2, states=[pb.GRANT_STATE_REQUESTED])
    found = []
    while True:
        answer = ward.officer.grants.ListGrants(request)
        found += [one.name for one in answer.grants]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
        ward.request(f"{ward.tenant}/recordings/{new_id()}")  # comes later, and is not in later pages
    assert found == [name for name in reversed(names) if name != names[2]]


def test_what_breaks_off_before_the_first_byte_is_not_counted_twice(ward):
    name = ward.file()
    grant = ward.granted(name, max_reads=1)
    ward.box.vault.stop()
    request = rec.DownloadRecordingRequest(
        name=name, format=rec.DOWNLOAD_FORMAT_WAV, purpose="system-operation"
    )
    found = refused(lambda: list(ward.support.recordings.DownloadRecording(request)))
    assert found.code is grpc.StatusCode.UNAVAILABLE
    assert [one.served for one in ward.uses(grant)] == [False]
    ward.box.vault.start()
    assert ward.box.wait(lambda: ward.read(name, format=rec.DOWNLOAD_FORMAT_WAV)[1])
    assert [one.served for one in ward.uses(grant)] == [True]
    assert refused(lambda: ward.read(name, format=rec.DOWNLOAD_FORMAT_FLAC)).reason == "RECORDING_NOT_FOUND"


def test_a_read_is_for_the_grants_purpose(ward):
    name = ward.file()
    grant = ward.granted(name)
    found = refused(lambda: ward.read(name, purpose="training"))
    assert found.code is grpc.StatusCode.PERMISSION_DENIED
    assert ward.uses(grant) == []


def test_the_feed_tells_support_of_the_box_and_of_its_own_grants(ward):
    request = events_pb2.WatchEventsRequest(parent="tenants/-")
    feed = ward.support.events.WatchEvents(request)
    next(feed)
    granted, hidden = ward.file(), ward.file()
    ward.granted(granted)
    theirs = pb.CreateGrantRequest(
        parent=ward.tenant, grant=ward.terms(hidden, identities=["support.bob"], necessity="")
    )
    ward.officer.grants.CreateGrant(theirs)
    ward.box.client().recordings.DeleteRecording(rec.DeleteRecordingRequest(name=hidden))
    ward.box.client().recordings.DeleteRecording(rec.DeleteRecordingRequest(name=granted))
    seen = []
    while not seen or seen[-1].type != events_pb2.EVENT_TYPE_RECORDING_DELETED or not seen[-1].subject:
        message = next(feed)
        if message.HasField("event"):
            seen.append(message.event)
    feed.cancel()
    text = str(seen)
    assert hidden.rpartition("/")[2] not in text
    assert [one.subject for one in seen if one.type == events_pb2.EVENT_TYPE_RECORDING_DELETED] == [
        "",
        granted,
    ]
    assert [bool(one.subject) for one in seen if one.type == events_pb2.EVENT_TYPE_GRANT_APPROVED] == [
        True,
        False,
    ]
    for one in seen:
        if not one.subject:
            assert not (one.line or one.message or one.state)


def attend(ward: Ward, *, unlocked: bool) -> None:
    keys = ward.box.vault.keys
    keys.passphrases[ward.tenant_id] = "correct horse battery"
    keys.until[ward.tenant_id] = time.time_ns() + HOUR * SECOND if unlocked else 0


def sealed_keys(client: earwitness.Client, grant: pb.SupportGrant, **how: Any) -> pb.ListGrantKeysResponse:
    return client.grants.ListGrantKeys(pb.ListGrantKeysRequest(parent=grant.name, **how))


def test_in_attended_mode_keys_are_sealed_to_who_reads_and_dropped_at_the_end(ward):
    first, second, third = ward.file(), ward.file(), ward.file()
    attend(ward, unlocked=True)
    public = hpke.public_key(hpke.new_private_key())
    grant = ward.granted(first, second, public_key=public)
    held = ward.box.vault.keys.granted
    answer = sealed_keys(ward.support, grant, page_size=1)
    more = sealed_keys(ward.support, grant, page_size=1, page_token=answer.next_page_token)
    found = [*answer.grant_keys, *more.grant_keys]
    assert sorted(one.recording for one in found) == sorted([first, second]) and not more.next_page_token
    assert all(len(one.sealed_key) == 1168 for one in found)
    assert refused(lambda: sealed_keys(ward.other, grant)).reason == "GRANT_NOT_FOUND"
    assert refused(lambda: sealed_keys(ward.officer, grant)).reason == "METHOD_DENIED"
    ward.officer.grants.RevokeGrant(pb.RevokeGrantRequest(name=grant.name))
    assert not held
    assert refused(lambda: sealed_keys(ward.support, grant)).reason == "GRANT_STATE"
    # The vault does not drop them now: then they are dropped later.
    ending = ward.granted(third, public_key=public)
    ward.box.vault.keys.stuck = True
    ward.box.clock.ahead_ns = 2 * HOUR * SECOND
    ward.box.run(ward.box.control.granted.look())
    assert ward.get(ending).state == pb.GRANT_STATE_EXPIRED and held
    assert refused(lambda: sealed_keys(ward.support, ending)).reason == "GRANT_STATE"
    ward.box.vault.keys.stuck = False
    ward.box.run(ward.box.control.granted.look())
    assert not held


def test_while_an_attended_tenant_is_locked_nothing_is_approved(ward):
    name = ward.file()
    attend(ward, unlocked=False)
    public = hpke.public_key(hpke.new_private_key())
    asked = ward.request(name, public_key=public)
    assert refused(lambda: ward.approve(asked)).reason == "TENANT_LOCKED"
    assert ward.get(asked).state == pb.GRANT_STATE_REQUESTED
    made = pb.CreateGrantRequest(
        parent=ward.tenant, grant=ward.terms(name, identities=["support.ada"], public_key=public)
    )
    assert refused(lambda: ward.officer.grants.CreateGrant(made)).reason == "TENANT_LOCKED"
    listed = ward.officer.grants.ListGrants(pb.ListGrantsRequest(parent="tenants/-")).grants
    assert [one.name for one in listed] == [asked.name], "what could not be made is not there"
    attend(ward, unlocked=True)
    assert ward.approve(asked).state == pb.GRANT_STATE_ACTIVE


def test_where_the_box_opens_the_keys_none_is_sealed(ward):
    grant = ward.granted(ward.file(), public_key=hpke.public_key(hpke.new_private_key()))
    assert not sealed_keys(ward.support, grant).grant_keys and not ward.box.vault.keys.granted


def test_a_request_is_a_reminder_until_it_is_answered(ward):
    name = ward.file()

    def reminders() -> list[alarms_pb2.Alarm]:
        asked = alarms_pb2.ListAlarmsRequest(parent=ward.tenant, filter="kind = GrantRequested")
        return list(ward.officer.alarms.ListAlarms(asked).alarms)

    grant = ward.request(name).name
    (one,) = reminders()
    assert one.subject == grant.rsplit("/", 1)[1] and one.severity == alarms_pb2.ALARM_SEVERITY_NOTICE
    assert one.state == alarms_pb2.ALARM_STATE_OPEN
    ward.officer.grants.DenyGrant(pb.DenyGrantRequest(name=grant, reason="No"))
    assert [one.state for one in reminders()] == [alarms_pb2.ALARM_STATE_CLEARED]
