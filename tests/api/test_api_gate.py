"""Calls whose message does not come: they count from their headers on, and end."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import grpc
import pytest
from access_kit import Ground, refused

import earwitness
from appliance.access.identities import Role
from appliance.api import gate, uploads
from earwitness.v1 import access_pb2, box_pb2, tenants_pb2

STATUS = "/earwitness.v1.BoxService/GetBoxStatus"
TENANTS = "/earwitness.v1.TenantsService/ListTenants"
WATCH = "/earwitness.v1.EventsService/WatchEvents"
SIGN_IN = "/earwitness.v1.AccessService/SignIn"


@contextmanager
def silent(channel: grpc.Channel, method: str, many: int = 1):
    """So many calls of which there are but the headers."""
    over = threading.Event()

    def nothing():
        over.wait(30)
        yield from ()

    calls = [channel.stream_unary(method).future(nothing(), timeout=30) for _ in range(many)]
    try:
        yield calls
    finally:
        for one in calls:
            one.cancel()
        over.set()


def reason(call) -> str:
    """Why it is refused; empty: it is not."""
    try:
        call()
    except grpc.RpcError as error:
        return earwitness.details(error).reason
    return ""


def test_a_call_counts_from_its_headers_on(make_box, monkeypatch):
    monkeypatch.setattr("appliance.api.limits.OPEN", 5)
    box = make_box()
    client = box.enroll("ris", Role.INTEGRATION)

    def ask() -> str:
        return reason(lambda: client.tenants.ListTenants(tenants_pb2.ListTenantsRequest()))

    with silent(client.channel, TENANTS, 6) as calls:
        # One of them is one too many. Asked before that, the question could take the place of one of the five.
        box.wait(lambda: any(one.done() for one in calls))
        assert ask() == "RATE_LIMITED"
        assert box.client().box.GetBoxStatus(box_pb2.GetBoxStatusRequest()), "others have their own places"
    box.wait(lambda: not ask())
    ended = {one["outcome"] for one in box.audited() if one["who"] == "ris" and one["what"] == "done"}
    assert ended == {"OK", "RATE_LIMITED"}, "who goes before asking has asked nothing"


def test_a_message_that_does_not_come_ends_its_call(box, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_WAIT_S", 0.1)
    channel = box.client().channel
    for method in (STATUS, TENANTS, WATCH):
        with silent(channel, method) as (call,):
            found = refused(call.result)
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "UPLOAD_TOO_SLOW"), method
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        monkeypatch.setattr(uploads, "UPLOAD_WAIT_S", 20.0)
        channel.stream_unary(TENANTS)(_after(5), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - started < 4


def _after(seconds: float):
    time.sleep(seconds)
    yield b""


def test_no_message_two_and_one_that_is_too_large(box):
    channel = box.client().channel
    tenant = tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="A")).SerializeToString()
    create = channel.stream_unary("/earwitness.v1.TenantsService/CreateTenant")
    answers = channel.stream_stream(WATCH)
    for call in (lambda: create(iter(()), timeout=10), lambda: list(answers(iter(()), timeout=10))):
        assert refused(call).reason == "REQUEST_MALFORMED"
    large = refused(lambda: create(iter([bytes((1 << 20) + 1)]), timeout=10))
    assert large.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    create(iter([tenant, tenant]), timeout=10)
    made = box.client().tenants.ListTenants(tenants_pb2.ListTenantsRequest()).tenants
    assert [one.display_name for one in made].count("A") == 1, "the first message is the request"


def test_strangers_that_say_nothing_leave_room(make_box, monkeypatch):
    monkeypatch.setattr(gate, "NETWORK_SILENT", 2)
    ground = Ground(make_box())
    said = access_pb2.SignInRequest(name="identities/nobody", passphrase="wrong", code="000000")

    def sign_in() -> str:
        return reason(lambda: ground.stranger().SignIn(said))

    with silent(ground.by_token(None), SIGN_IN, 3) as calls:
        ground.box.wait(lambda: any(one.done() for one in calls))
        assert sign_in() == "RATE_LIMITED"
        assert ground.admin.GetCaller(access_pb2.GetCallerRequest()), "who is known has another place"
    ground.box.wait(lambda: sign_in() != "RATE_LIMITED")
    ground.close()
