"""Who gets in, what they may do, and what is written down of it."""

from __future__ import annotations

import json
import os
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import earwitness
from appliance.access import certificates, identities, pki
from appliance.access.errors import RateLimitError
from appliance.access.identities import Role
from appliance.api.limits import RateLimit
from appliance.audit.errors import AuditUnavailableError
from appliance.model import new_id
from earwitness.v1 import box_pb2, calls_pb2, events_pb2, recordings_pb2, tenants_pb2

LIST = tenants_pb2.ListTenantsRequest()


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def audit(box) -> list[dict]:
    return box.audited()


def test_a_certificate_of_another_authority_is_refused_by_tls(box, tmp_path):
    other = box.settings.model_copy(update={"data": tmp_path / "other"})
    pki.ensure(other.layout, other)
    client = earwitness.connect(
        f"127.0.0.1:{box.port}",
        box.layout.pki / "ca.crt",
        other.layout.pki / "clients/admin.crt",
        other.layout.pki / "clients/admin.key",
    )
    with client:
        assert (
            refused(lambda: client.tenants.ListTenants(LIST, timeout=10)).code is grpc.StatusCode.UNAVAILABLE
        )
    assert all(line["method"] != "/earwitness.v1.TenantsService/ListTenants" for line in audit(box))


def test_no_certificate_is_refused_by_tls(box):
    credentials = grpc.ssl_channel_credentials((box.layout.pki / "ca.crt").read_bytes())
    with earwitness.Client(grpc.secure_channel(f"127.0.0.1:{box.port}", credentials)) as client:
        assert (
            refused(lambda: client.tenants.ListTenants(LIST, timeout=10)).code is grpc.StatusCode.UNAVAILABLE
        )


def test_our_certificate_that_stands_for_nobody(box):
    pki.issue(box.layout, "stranger")
    found = refused(lambda: box.client("stranger").tenants.ListTenants(LIST))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_UNKNOWN")


def test_revocation_holds_at_once(box):
    client = box.enroll("ris", Role.INTEGRATION)
    client.tenants.ListTenants(LIST)
    box.write(lambda connection: identities.revoke(connection, "ris", time.time_ns()))
    found = refused(lambda: client.tenants.ListTenants(LIST))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REVOKED")


def test_revocation_ends_a_watch(box, monkeypatch):
    monkeypatch.setattr("appliance.api.gate.RECHECK_S", 0.1)
    client = box.enroll("ris", Role.INTEGRATION)
    stream = client.events.WatchEvents(events_pb2.WatchEventsRequest(parent="tenants/-"))
    next(stream)
    box.write(lambda connection: identities.revoke(connection, "ris", time.time_ns()))
    assert refused(lambda: list(stream)).reason == "CERTIFICATE_REVOKED"


def test_a_role_may_call_what_the_table_says(box):
    client = box.enroll("ris", Role.INTEGRATION)
    found = refused(
        lambda: client.recordings.EraseRecording(
            recordings_pb2.EraseRecordingRequest(
                name=f"tenants/-/recordings/{new_id()}", force=True, reason="x"
            )
        )
    )
    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "METHOD_DENIED")
    assert found.data["role"] == "integration"
    last = box.wait(lambda: audit(box) and audit(box)[-1])
    assert (last["outcome"], last["who"]) == ("METHOD_DENIED", "ris") and "/recordings/" in last["subject"]


def test_what_is_done_is_written_down_before_and_after(box):
    client = box.client()
    name = f"tenants/-/recordings/{new_id()}"
    request_id = "my-request-1"
    with pytest.raises(grpc.RpcError) as caught:
        client.recordings.GetRecording(
            recordings_pb2.GetRecordingRequest(name=name), metadata=(("x-request-id", request_id),)
        )
    assert earwitness.details(caught.value).request_id == request_id
    box.wait(lambda: audit(box)[-1]["what"] == "done")
    asked, done = [line for line in audit(box) if line["request"] == request_id]
    assert asked["subject"] == done["subject"] == name and asked["who"] == "admin"
    assert done["outcome"] == "RECORDING_NOT_FOUND"
    assert asked["certificate"] == certificates.fingerprint_of_pem(
        (box.layout.pki / "clients/admin.crt").read_bytes()
    )


def test_what_is_no_name_is_not_repeated_in_audit_or_errors(box):
    found = refused(
        lambda: box.client().recordings.GetRecording(
            recordings_pb2.GetRecordingRequest(name="Ada Lovelace\n{}")
        )
    )
    assert (found.reason, list(found.fields)) == ("NAME_INVALID", ["name"])
    refused(
        lambda: box.client().recordings.ListRecordings(
            recordings_pb2.ListRecordingsRequest(parent="tenants/-", filter="party.number = Ada Lovelace")
        )
    )
    assert "Lovelace" not in json.dumps(audit(box)) and "Lovelace" not in found.message


def test_without_audit_nothing_is_done(box):
    box.default_line()
    client = box.client()
    tenants = len(client.tenants.ListTenants(LIST).tenants)
    tail = box.control.trail.log._tail
    kept = tail._fd
    full = os.open("/dev/full", os.O_RDWR)
    tail._fd = full
    try:
        found = refused(
            lambda: client.tenants.CreateTenant(
                tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="x"))
            )
        )
        raised = [one.type for one in box.status.conditions() if one.type == "AuditUnwritable"]
    finally:
        tail._fd = kept
        os.close(full)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, AuditUnavailableError.reason)
    assert found.retry_after_s and raised
    assert len(client.tenants.ListTenants(LIST).tenants) == tenants
    assert not [one.type for one in box.status.conditions() if one.type == "AuditUnwritable"]


def test_rate_limit(make_box):
    box = make_box(rate=RateLimit(per_second=0.001, burst=5))
    client = box.client()
    for _ in range(5):
        client.tenants.ListTenants(LIST)
    found = refused(lambda: client.tenants.ListTenants(LIST))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert found.retry_after_s > 100


def test_the_bucket_fills_with_time():
    limit = RateLimit(per_second=2, burst=3)
    for _ in range(3):
        limit.take("a", 100)
    with pytest.raises(RateLimitError) as caught:
        limit.take("a", 100)
    assert caught.value.data["retry_after_s"] == 0.5
    limit.take("b", 100)
    limit.take("a", 100.5)
    for now in (1, 100.5):  # a clock that goes back gives nothing, now or when it comes forward again
        with pytest.raises(RateLimitError):
            limit.take("a", now)


def test_health_and_reflection(box):
    box.default_line()
    channel = box.client().channel
    health = health_pb2_grpc.HealthStub(channel)

    def state(service):
        return health.Check(health_pb2.HealthCheckRequest(service=service)).status

    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", "earwitness.v1.BoxService", "earwitness.v1.RecordingsService"):
        box.wait(lambda service=service: state(service) == serving)
    box.vault.stop()
    box.wait(lambda: state("earwitness.v1.RecordingsService") != serving)
    assert state("earwitness.v1.EventsService") == serving
    watch = health.Watch(health_pb2.HealthCheckRequest(service="earwitness.v1.RecordingsService"))
    assert next(watch).status != serving
    box.vault.start()
    assert next(watch).status == serving
    watch.cancel()
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {"earwitness.v1.CallsService", "grpc.health.v1.Health"} <= set(services)


def test_an_unknown_method_is_unimplemented(box):
    call = box.client().channel.unary_unary("/earwitness.v1.BoxService/Explode")
    assert refused(lambda: call(b"")).code is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_that_is_too_large_is_refused(box):
    request = recordings_pb2.ListRecordingsRequest(parent="tenants/-", filter="x" * (2 << 20))
    assert (
        refused(lambda: box.client().recordings.ListRecordings(request)).code
        is grpc.StatusCode.RESOURCE_EXHAUSTED
    )


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", os.urandom(200)])
def test_bytes_that_are_no_request_are_refused(box, raw):
    call = box.client().channel.unary_unary("/earwitness.v1.RecordingsService/GetRecording")
    found = refused(lambda: call(raw))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
    assert box.client().box.GetBoxStatus(box_pb2.GetBoxStatusRequest()).version


def test_watches_end_when_the_box_stops(box):
    client = box.client()
    box.wait(lambda: box.control.parts.board.in_sync)
    stream = client.calls.WatchCalls(calls_pb2.WatchCallsRequest(parent="tenants/-"))
    box.wait(lambda: next(stream).in_sync)
    before = time.monotonic()
    box.run(box.control.stop())
    assert refused(lambda: list(stream)).reason == "SHUTTING_DOWN"
    assert time.monotonic() - before < 10


def test_one_identity_leaves_room_for_the_others(make_box, monkeypatch):
    monkeypatch.setattr("appliance.api.limits.OPEN", 3)
    box = make_box()
    greedy, other = box.enroll("greedy", Role.INTEGRATION), box.enroll("other", Role.INTEGRATION)
    watch = events_pb2.WatchEventsRequest(parent="tenants/-")
    streams = [greedy.events.WatchEvents(watch) for _ in range(3)]
    for one in streams:
        next(one)
    with pytest.raises(grpc.RpcError) as caught:
        next(greedy.events.WatchEvents(watch))
    found = earwitness.details(caught.value)
    assert (found.reason, found.retry_after_s) == ("RATE_LIMITED", 1.0)
    next(other.events.WatchEvents(watch))
    streams[0].cancel()

    def again() -> bool:
        stream = greedy.events.WatchEvents(watch)
        try:
            next(stream)
        except grpc.RpcError:
            return False
        stream.cancel()
        return True

    box.wait(again)
