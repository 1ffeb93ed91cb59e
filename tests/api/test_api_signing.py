"""Signing in by passphrase and second factor, sessions, and the listener for tokens."""

from __future__ import annotations

import grpc
import pytest
from access_kit import PASSPHRASE, Ground, reason, refused
from grpc_health.v1 import health_pb2, health_pb2_grpc

from appliance.access import credentials, passphrases
from appliance.access.refusals import SignInSlowedError
from appliance.api.signing import SignIns
from earwitness.v1 import access_pb2 as pb
from earwitness.v1 import access_pb2_grpc, events_pb2, events_pb2_grpc, tenants_pb2, tenants_pb2_grpc

HOUR_NS = 3600 * 10**9
WHO = pb.GetCallerRequest()


@pytest.fixture
def ground(make_box):
    made = Ground(make_box())
    made.make("ada", "SUPPORT")
    yield made
    made.close()


def signed_in(ground, device, name="ada"):
    answer = ground.sign_in(name, device.later())
    return answer, ground.access(ground.by_token(answer.token))


def test_enrol_sign_in_sign_out(ground):
    device = ground.enrol("ada")
    assert device.uri.startswith("otpauth://totp/") and len(device.recovery_codes) == 10
    answer, stub = signed_in(ground, device)
    who = stub.GetCaller(WHO)
    assert who.identity.name == "identities/ada" and who.session.name == answer.session.name
    assert answer.session.expire_time.seconds - answer.session.create_time.seconds == 12 * 3600
    found = ground.admin.GetIdentity(pb.GetIdentityRequest(name="identities/ada")).identity
    assert found.passphrase_enrolled and found.recovery_codes_left == 10
    stub.SignOut(pb.SignOutRequest())
    assert reason(lambda: stub.GetCaller(WHO)) == "TOKEN_INVALID"


def test_neither_passphrase_nor_token_nor_secret_is_kept(ground):
    device = ground.enrol("ada")
    answer, _ = signed_in(ground, device)
    secret = device.uri.split("secret=")[1].split("&")[0]
    needles = [PASSPHRASE, answer.token, secret, *device.recovery_codes]
    ground.box.stop()
    for path in ground.box.layout.root.rglob("*"):
        if path.is_file() and not path.is_relative_to(ground.box.layout.prompts):
            raw = path.read_bytes()
            assert not [needle for needle in needles if needle.encode() in raw], path


def test_whatever_is_wrong_the_answer_is_one(ground, monkeypatch):
    device = ground.enrol("ada")
    ground.make("grace", "SUPPORT")  # no passphrase
    ground.make("eve", "SUPPORT")
    eve = ground.enrol("eve")
    ground.admin.DisableIdentity(pb.DisableIdentityRequest(name="identities/eve"))
    work = []
    verify = passphrases.verify
    monkeypatch.setattr(passphrases, "verify", lambda *args: work.append(1) or verify(*args))
    cases = [
        ("nobody", PASSPHRASE, device.later()),
        ("grace", PASSPHRASE, device.code()),
        ("eve", PASSPHRASE, eve.code()),
        ("ada", "wrong horse battery", device.code()),
        ("ada", PASSPHRASE, "000000"),
        ("ada", PASSPHRASE, ""),
        ("ada", PASSPHRASE, "aaaa-aaaa-aaaa-aaaa"),
        ("ada", "", device.code()),
    ]
    answers = [refused(lambda case=case: ground.sign_in(case[0], case[2], case[1])) for case in cases]
    assert {(one.code, one.reason, one.message, str(one.data), str(one.fields)) for one in answers} == {
        (
            grpc.StatusCode.UNAUTHENTICATED,
            "SIGN_IN_REFUSED",
            "name, passphrase or code is not right",
            "{}",
            "{}",
        )
    }
    assert len(work) == len(cases), "the slow part is done each time, once"


def test_a_code_is_used_once(ground):
    device = ground.enrol("ada")
    code = device.later()
    ground.sign_in("ada", code)
    assert reason(lambda: ground.sign_in("ada", code)) == "SIGN_IN_REFUSED"
    ground.sign_in("ada", device.later())


def test_a_recovery_code_is_used_once(ground):
    device = ground.enrol("ada")
    spare = device.recovery_codes[3]
    assert ground.sign_in("ada", spare.upper()).recovery_codes_left == 9
    assert reason(lambda: ground.sign_in("ada", spare)) == "SIGN_IN_REFUSED"


def test_a_session_does_not_outlive_what_it_was_begun_with(ground, monkeypatch):
    """Reset between the check and the session's beginning: the sessions that the reset ended are all there were."""
    device = ground.enrol("ada")
    check, parts = SignIns.check, ground.box.control.parts

    async def reset_meanwhile(self, name, *said):
        checked = await check(self, name, *said)
        await parts.store.write(
            lambda connection: credentials.reset(connection, name, "0" * 64, parts.clock_ns())
        )
        return checked

    monkeypatch.setattr(SignIns, "check", reset_meanwhile)
    assert reason(lambda: ground.sign_in("ada", device.later())) == "SIGN_IN_REFUSED"
    found = ground.admin.ListSessions(pb.ListSessionsRequest(parent="identities/ada"))
    assert not found.sessions


def test_a_recovery_code_does_not_go_with_a_passphrase_of_before(ground, monkeypatch):
    device = ground.enrol("ada")
    use, parts = SignIns._use, ground.box.control.parts

    async def changed_meanwhile(self, secrets, *how):
        now_ns = parts.clock_ns()
        await parts.store.write(
            lambda connection: credentials.set_hash(connection, secrets.name, "another", now_ns)
        )
        return await use(self, secrets, *how)

    monkeypatch.setattr(SignIns, "_use", changed_meanwhile)
    assert reason(lambda: ground.sign_in("ada", device.recovery_codes[0])) == "SIGN_IN_REFUSED"
    found = ground.admin.GetIdentity(pb.GetIdentityRequest(name="identities/ada")).identity
    assert found.recovery_codes_left == 10


def test_who_has_the_enrolment_code_is_not_kept_out_by_who_guesses(ground):
    code = ground.admin.ResetPassphrase(pb.ResetPassphraseRequest(name="identities/ada")).enrolment_code
    sign_ins = ground.box.control._entrance.sign_ins
    with pytest.raises(SignInSlowedError):  # from everywhere
        for number in range(100):
            sign_ins._lockout.admit("ada", f"{number}", False, sign_ins._clock_s())
    sign_ins._all._burst = sign_ins._all._per_second = 1e-6
    request = pb.EnrolPassphraseRequest(
        name="identities/ada", enrolment_code="aaaa-aaaa-aaaa-aaaa", passphrase=PASSPHRASE
    )
    assert reason(lambda: ground.stranger().EnrolPassphrase(request)) == "RATE_LIMITED"
    request.enrolment_code = code
    assert ground.stranger().EnrolPassphrase(request).totp_uri


def test_enrolment_codes(ground):
    reset = pb.ResetPassphraseRequest(name="identities/ada")
    first = ground.admin.ResetPassphrase(reset).enrolment_code
    second = ground.admin.ResetPassphrase(reset).enrolment_code
    stranger = ground.stranger()

    def enrol(code, name="ada", passphrase=PASSPHRASE):
        request = pb.EnrolPassphraseRequest(
            name=f"identities/{name}", enrolment_code=code, passphrase=passphrase
        )
        return stranger.EnrolPassphrase(request)

    for code, name in ((first, "ada"), (second, "nobody"), (second, "admin"), ("", "ada")):
        assert reason(lambda code=code, name=name: enrol(code, name)) == "SIGN_IN_REFUSED"
    for weak in ("short", "aaaaaaaaaaaaaa", "x" * 201):
        assert "passphrase" in refused(lambda weak=weak: enrol(second, passphrase=weak)).fields
    enrol(second)
    assert reason(lambda: enrol(second)) == "SIGN_IN_REFUSED", "once"
    third = ground.admin.ResetPassphrase(reset).enrolment_code
    ground.box.clock.ahead_ns += 73 * HOUR_NS
    assert reason(lambda: enrol(third)) == "SIGN_IN_REFUSED", "three days"


def test_changing_ones_own(ground):
    device = ground.enrol("ada")
    _, stub = signed_in(ground, device)
    change = pb.ChangePassphraseRequest(passphrase=PASSPHRASE, new_passphrase="another staple entirely")
    change.code = "000000"
    assert reason(lambda: stub.ChangePassphrase(change)) == "SIGN_IN_REFUSED"
    change.code = device.later()
    assert not stub.ChangePassphrase(change).totp_uri
    assert reason(lambda: stub.GetCaller(WHO)) == "TOKEN_INVALID", "sessions end"
    assert reason(lambda: ground.sign_in("ada", device.later())) == "SIGN_IN_REFUSED"
    answer = ground.sign_in("ada", device.later(), "another staple entirely")
    stub = ground.access(ground.by_token(answer.token))
    change = pb.ChangePassphraseRequest(
        passphrase="another staple entirely", code=device.later(), new_totp=True
    )
    fresh = stub.ChangePassphrase(change)
    assert fresh.totp_uri and len(fresh.recovery_codes) == 10
    assert (
        reason(lambda: ground.sign_in("ada", device.later(), "another staple entirely")) == "SIGN_IN_REFUSED"
    )
    assert reason(lambda: ground.sign_in("ada", device.recovery_codes[0], "another staple entirely")) == (
        "SIGN_IN_REFUSED"
    )
    ground.sign_in("ada", fresh.recovery_codes[0], "another staple entirely")


def test_a_session_ends_by_idleness_and_by_age(ground):
    device = ground.enrol("ada")
    _, stub = signed_in(ground, device)
    for _ in range(25):  # used every 28 minutes
        ground.box.clock.ahead_ns += 28 * 60 * 10**9
        stub.GetCaller(WHO)
    ground.box.clock.ahead_ns += 25 * 60 * 10**9
    assert reason(lambda: stub.GetCaller(WHO)) == "TOKEN_EXPIRED"
    _, stub = signed_in(ground, device)
    ground.box.clock.ahead_ns += 31 * 60 * 10**9
    assert reason(lambda: stub.GetCaller(WHO)) == "TOKEN_EXPIRED"


def test_sessions_are_listed_and_revoked(ground):
    device = ground.enrol("ada")
    (first, one), (second, two) = signed_in(ground, device), signed_in(ground, device)
    listed = one.ListSessions(pb.ListSessionsRequest(parent="identities/ada")).sessions
    assert [found.name for found in listed] == [first.session.name, second.session.name]
    page = one.ListSessions(pb.ListSessionsRequest(parent="identities/ada", page_size=1))
    again = pb.ListSessionsRequest(parent="identities/ada", page_size=1, page_token=page.next_page_token)
    assert [found.name for found in one.ListSessions(again).sessions] == [second.session.name]
    one.RevokeSession(pb.RevokeSessionRequest(name=second.session.name))
    assert reason(lambda: two.GetCaller(WHO)) == "TOKEN_INVALID"
    ground.admin.RevokeSession(pb.RevokeSessionRequest(name=first.session.name))
    assert reason(lambda: one.GetCaller(WHO)) == "TOKEN_INVALID"
    for name in (first.session.name, "identities/nobody/sessions/" + first.session.name[-26:]):
        request = pb.RevokeSessionRequest(name=name)
        assert (
            reason(lambda request=request: ground.admin.RevokeSession(request)) == "ACCESS_SESSION_NOT_FOUND"
        )


def test_an_open_stream_is_no_use_of_a_session(ground, monkeypatch):
    monkeypatch.setattr("appliance.api.gate.RECHECK_S", 0.05)
    answer, _ = signed_in(ground, ground.enrol("ada"))
    asked = []
    identify = ground.box.control._entrance.identify

    async def counted(*args, **more):
        found = await identify(*args, **more)
        asked.append(found)
        return found

    monkeypatch.setattr(ground.box.control._entrance, "identify", counted)
    stream = events_pb2_grpc.EventsServiceStub(ground.by_token(answer.token)).WatchEvents(
        events_pb2.WatchEventsRequest(parent="tenants/-"), timeout=20
    )
    ground.box.wait(lambda: asked)
    ground.box.clock.ahead_ns += 20 * 60 * 10**9
    before = len(asked)
    ground.box.wait(lambda: len(asked) > before + 1)
    ground.box.clock.ahead_ns += 11 * 60 * 10**9
    assert reason(lambda: list(stream)) == "TOKEN_EXPIRED"


def test_a_revoked_session_ends_its_streams(ground):
    device = ground.enrol("ada")
    answer, _ = signed_in(ground, device)
    stream = events_pb2_grpc.EventsServiceStub(ground.by_token(answer.token)).WatchEvents(
        events_pb2.WatchEventsRequest(parent="tenants/-")
    )
    next(stream)
    ground.admin.RevokeSession(pb.RevokeSessionRequest(name=answer.session.name))
    assert reason(lambda: list(stream)) == "TOKEN_INVALID"


def test_disabling_ends_sessions_at_once(ground):
    device = ground.enrol("ada")
    _, stub = signed_in(ground, device)
    ground.admin.DisableIdentity(pb.DisableIdentityRequest(name="identities/ada"))
    assert reason(lambda: stub.GetCaller(WHO)) == "IDENTITY_DISABLED"


def test_the_token_listener_refuses_all_but_signing_in_and_health(ground):
    channel = ground.by_token(None)
    tenants = tenants_pb2_grpc.TenantsServiceStub(channel)
    found = refused(lambda: tenants.ListTenants(tenants_pb2.ListTenantsRequest()))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    assert reason(lambda: ground.access(channel).GetCaller(WHO)) == "TOKEN_MISSING"
    assert reason(lambda: ground.sign_in("ada", "000000")) == "SIGN_IN_REFUSED"
    health = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Basic YWRhOnB3"),),
        (("authorization", "Bearer "),),
        (("authorization", "Bearer ews_" + "x" * 43),),
        (("authorization", "Bearer a.b.c"),),
        (("authorization", "Bearer ews_a"), ("authorization", "Bearer ews_b")),
        (("authorization", "Bearer " + "x" * 9000),),
    ],
)
def test_tokens_that_are_none(ground, metadata):
    stub = ground.stranger()
    assert reason(lambda: stub.GetCaller(WHO, metadata=metadata)) == "TOKEN_INVALID"


def test_a_token_does_not_open_the_listener_for_certificates(ground):
    device = ground.enrol("ada")
    answer, _ = signed_in(ground, device)
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(ground.ca), grpc.access_token_call_credentials(answer.token)
    )
    with grpc.secure_channel(f"127.0.0.1:{ground.box.port}", credentials) as channel:
        stub = access_pb2_grpc.AccessServiceStub(channel)
        assert refused(lambda: stub.GetCaller(WHO, timeout=10)).code is grpc.StatusCode.UNAVAILABLE


def test_guessing_is_slowed_and_the_owner_who_is_known_still_gets_in(ground):
    device = ground.enrol("ada")
    sign_ins = ground.box.control._entrance.sign_ins
    sign_ins._network._burst = sign_ins._all._burst = 1e9  # what is looked at here is the lockout
    sign_ins._network._per_second = sign_ins._all._per_second = 1e9
    ground.box.control._entrance._strangers._burst = 1e9
    ground.box.control._entrance._strangers._per_second = 1e9
    ground.sign_in("ada", device.later())  # from now on 127.0.0.1 is known to ada
    lockout, place = sign_ins._lockout, sign_ins._sealing.network("198.51.100.1")

    with pytest.raises(SignInSlowedError):  # somebody guesses from everywhere
        for number in range(100):
            lockout.admit("ada", f"{place}{number}", False, sign_ins._clock_s())
    ground.sign_in("ada", device.later())
    reasons = [reason(lambda: ground.sign_in("ada", "000000")) for _ in range(8)]  # and from here
    assert reasons[:5] == ["SIGN_IN_REFUSED"] * 5 and reasons[-1] == "SIGN_IN_SLOWED"
    found = refused(lambda: ground.sign_in("ada", device.later()))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SIGN_IN_SLOWED")
    assert found.retry_after_s >= 1
    unknown = [reason(lambda: ground.sign_in("nobody", "000000")) for _ in range(8)]
    assert unknown == reasons, "a name that nobody has is slowed alike"


def test_strangers_are_counted_by_their_network(ground):
    stub = ground.stranger()
    reasons = [reason(lambda: stub.GetCaller(WHO)) for _ in range(100)]
    assert reasons[0] == "TOKEN_MISSING" and reasons[-1] == "RATE_LIMITED"
    entrance = ground.box.control._entrance
    entrance._strangers._burst, entrance._strangers._per_second = 1e9, 1e9
    device = ground.enrol("ada")
    answer, good = signed_in(ground, device)
    entrance._strangers._burst, entrance._strangers._per_second = 0.0, 1e-6
    entrance._strangers._buckets.clear()
    assert reason(lambda: stub.GetCaller(WHO)) == "RATE_LIMITED"
    assert good.GetCaller(WHO).session.name == answer.session.name, "a good token passes all the same"


def test_streams_that_strangers_leave_open_are_few(ground):
    stub = health_pb2_grpc.HealthStub(ground.by_token(None))
    streams = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(10)]
    for one in streams:
        next(one)
    assert reason(lambda: next(stub.Watch(health_pb2.HealthCheckRequest()))) == "RATE_LIMITED"
    assert reason(lambda: ground.sign_in("ada", "000000")) == "SIGN_IN_REFUSED", "they still sign in"
    _, channel = ground.certify("ada")
    known = health_pb2_grpc.HealthStub(channel)
    next(known.Watch(health_pb2.HealthCheckRequest()))


def test_sign_ins_stand_in_the_audit_without_what_was_typed(ground):
    device = ground.enrol("ada")
    signed_in(ground, device)
    reason(lambda: ground.sign_in("correcthorse", "000000"))  # typed into the wrong field

    def text() -> str:
        return "".join(
            path.read_text() for path in ground.box.layout.control.rglob("*.jsonl") if "audit" in str(path)
        )

    ground.box.wait(lambda: "SIGN_IN_REFUSED" in text())
    assert "signed-in" in text() and "identities/ada" in text()
    assert "correcthorse" not in text()


def test_damaged_and_foreign_second_factors(ground):
    device = ground.enrol("ada")
    ground.box.stop()
    key = ground.box.layout.control / "identities.key"
    key.write_bytes(b"\0" * 32)
    ground.box.start()
    ground.admin = ground.access(ground.box.client().channel)
    assert reason(lambda: ground.sign_in("ada", device.later())) == "SIGN_IN_REFUSED"
    assert "SecondFactorsUnreadable" in {one.type for one in ground.box.status.conditions()}
    again = ground.enrol("ada")
    ground.sign_in("ada", again.later())
