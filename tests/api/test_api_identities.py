"""Identities and certificates over the wire: who may make, change, disable and issue what."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from access_kit import Ground, named, reason, refused, request_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from appliance.access import issued, pki
from appliance.access.identities import Role
from appliance.access.journal import Journal
from appliance.access.sealing import Sealing
from earwitness.v1 import access_pb2 as pb
from earwitness.v1 import (
    calls_pb2,
    calls_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    recordings_pb2,
    recordings_pb2_grpc,
    tenants_pb2,
    tenants_pb2_grpc,
)

OPERATOR, AUDITOR = pb.IDENTITY_ROLE_OPERATOR, pb.IDENTITY_ROLE_AUDITOR
DAY_NS = 86400 * 10**9


@pytest.fixture
def ground(make_box):
    made = Ground(make_box())
    yield made
    made.close()


@pytest.fixture
def other(ground) -> str:
    """Another tenant's id."""
    tenant = tenants_pb2.Tenant(display_name="Other")
    made = ground.box.client().tenants.CreateTenant(tenants_pb2.CreateTenantRequest(tenant=tenant)).tenant
    return made.name.removeprefix("tenants/")


def as_(ground, name, role, tenant_id=""):
    """A stub that calls as a new identity."""
    return ground.access(ground.box.enroll(name, role, tenant_id=tenant_id).channel)


def one(name) -> pb.GetIdentityRequest:
    return pb.GetIdentityRequest(name=named(name))


def names(stub, parent) -> list[str]:
    found = stub.ListIdentities(pb.ListIdentitiesRequest(parent=parent, page_size=1000)).identities
    return [identity.name.rpartition("/")[2] for identity in found]


def test_an_identity_comes_in_once_it_has_a_certificate(ground):
    made = ground.make("ris", "INTEGRATION")
    assert made.creator == "identities/admin" and not made.tenant and made.create_time.seconds
    certificate, channel = ground.certify("ris")
    who = ground.access(channel).GetCaller(pb.GetCallerRequest())
    assert (who.identity.name, list(who.identity.roles)) == ("identities/ris", [pb.IDENTITY_ROLE_INTEGRATION])
    assert who.certificate == certificate.name and not who.HasField("session")
    assert certificate.expire_time.seconds - certificate.create_time.seconds in range(
        90 * 86400 - 5, 90 * 86400 + 5
    )
    subject = x509.load_pem_x509_certificate(certificate.pem.encode()).subject.rfc4514_string()
    assert "CN=ris" in subject and "whatever" not in subject


def test_the_private_key_never_reaches_the_box(ground):
    ground.make("ris", "INTEGRATION")
    ground.certify("ris")
    assert not list((ground.box.layout.pki / "clients").glob("ris*"))


@pytest.mark.parametrize(
    ("name", "roles", "tenant", "more"),
    [
        ("Ris", ["INTEGRATION"], False, {}),
        ("a" * 65, ["INTEGRATION"], False, {}),
        ("-a", ["INTEGRATION"], False, {}),
        ("a/b", ["INTEGRATION"], False, {}),
        ("trust:ada", ["INTEGRATION"], False, {}),
        ("x", [], False, {}),
        ("x", ["AUDITOR"], False, {}),
        ("x", ["OPERATOR"], True, {}),
        ("x", ["OPERATOR", "AUDITOR"], False, {}),
        ("x", ["AGENT"], True, {}),
        ("x", ["AUDITOR"], True, {"agent_number": "200"}),
        ("x", ["AGENT"], True, {"agent_number": "two hundred"}),
    ],
)
def test_forms(ground, name, roles, tenant, more):
    found = refused(lambda: ground.make(name, *roles, tenant_id=ground.tenant_id if tenant else "", **more))
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT and found.fields


def test_a_name_is_had_once(ground):
    ground.make("ris", "INTEGRATION")
    assert reason(lambda: ground.make("ris", "INTEGRATION")) == "IDENTITY_NAME_TAKEN"
    assert reason(lambda: ground.make("admin", "OPERATOR")) == "IDENTITY_NAME_TAKEN"


def test_two_tenants_have_people_of_one_name_who_are_never_mixed_up(ground, other):
    """Rights, credentials, signing in, request ids, and what is written down of them: each its own."""
    ids = (ground.tenant_id, other)
    made = [ground.make("reception", "TENANT_ADMINISTRATOR", tenant_id=one) for one in ids]
    made.append(ground.make("reception", "SUPPORT"))
    assert [one.name for one in made] == [named(f"{ids[0]}/reception"), named(f"{ids[1]}/reception")] + [
        "identities/reception"
    ]
    below = pb.Identity(name=named(f"{other}/reception"), roles=[AUDITOR])
    assert reason(lambda: ground.admin.CreateIdentity(pb.CreateIdentityRequest(identity=below))) == (
        "IDENTITY_NAME_TAKEN"
    )
    below.tenant = f"tenants/{ids[0]}"
    assert "identity.name" in (
        refused(lambda: ground.admin.CreateIdentity(pb.CreateIdentityRequest(identity=below))).fields
    )
    certificate, first_channel = ground.certify(f"{ids[0]}/reception")
    _, second_channel = ground.certify(f"{ids[1]}/reception")
    first, second = ground.access(first_channel), ground.access(second_channel)
    subject = x509.load_pem_x509_certificate(certificate.pem.encode()).subject.rfc4514_string()
    assert subject == f"CN=reception,OU={ids[0]},O=Earwitness"
    for stub, tenant_id in ((first, ids[0]), (second, ids[1])):
        who = stub.GetCaller(pb.GetCallerRequest()).identity
        assert (who.name, who.tenant) == (named(f"{tenant_id}/reception"), f"tenants/{tenant_id}")
        assert stub.GetIdentity(one("reception")).identity.name == who.name
        request = pb.CreateIdentityRequest(
            identity=pb.Identity(name="identities/ada", roles=[AUDITOR]), request_id="the-same"
        )
        ada = stub.CreateIdentity(request).identity
        assert (ada.name, ada.creator) == (named(f"{tenant_id}/ada"), who.name)
    device = ground.enrol(f"{ids[0]}/reception")
    assert reason(lambda: ground.sign_in(f"{ids[1]}/reception", device.later())) == "SIGN_IN_REFUSED"
    assert reason(lambda: ground.sign_in("identities/reception", device.code())) == "SIGN_IN_REFUSED"
    session = ground.sign_in(f"{ids[0]}/reception", device.code())
    assert session.session.name.startswith(made[0].name + "/sessions/")
    ground.admin.DisableIdentity(pb.DisableIdentityRequest(name=made[1].name))
    assert reason(lambda: second.GetCaller(pb.GetCallerRequest())) == "IDENTITY_DISABLED"
    assert first.GetCaller(pb.GetCallerRequest()).identity.name == made[0].name
    entries = [one for one in ground.box.audited() if one.get("method", "").endswith("CreateIdentity")]
    done = {one["who"]: one for one in entries if one["what"] == "done" and one["outcome"] == "OK"}
    for tenant_id in ids:
        entry = done[f"{tenant_id}/reception"]
        assert (entry["tenant"], entry["subject"]) == (tenant_id, named(f"{tenant_id}/ada"))


def test_a_tenants_administrator_manages_its_own_people_alone(ground, other):
    mine = as_(ground, "boss", Role.TENANT_ADMINISTRATOR, ground.tenant_id)
    ground.make("theirs", "AUDITOR", tenant_id=other)
    ground.make("ada", "AUDITOR", tenant_id=other)
    ground.make("op", "OPERATOR")
    made = ground.make("ada", "AGENT", tenant_id=ground.tenant_id, by=mine, agent_number="200")
    assert made.agent_number == "200" and made.creator == f"tenants/{ground.tenant_id}/identities/boss"
    assert names(mine, "tenants/-") == ["ada", "boss"] == names(mine, f"tenants/{ground.tenant_id}")
    assert names(mine, "") == [] == names(mine, f"tenants/{other}")
    # What is another's is as what is not there, in every word.
    for call in (
        lambda name: mine.GetIdentity(one(name)),
        lambda name: mine.DisableIdentity(pb.DisableIdentityRequest(name=f"identities/{name}")),
        lambda name: mine.ListCertificates(pb.ListCertificatesRequest(parent=f"identities/{name}")),
        lambda name: mine.ListSessions(pb.ListSessionsRequest(parent=f"identities/{name}")),
        lambda name: mine.ResetPassphrase(pb.ResetPassphraseRequest(name=f"identities/{name}")),
        lambda name: ground.certify(name, by=mine),
    ):
        answers = [
            refused(lambda name=name, call=call: call(name)) for name in ("theirs", "op", "admin", "nobody")
        ]
        assert {(found.code, found.reason, found.message) for found in answers} == {
            (grpc.StatusCode.NOT_FOUND, "IDENTITY_NOT_FOUND", "no such identity")
        }
    assert reason(lambda: ground.make("x", "OPERATOR", by=mine)) == "IDENTITY_INVALID", "of its own tenant"
    assert reason(lambda: ground.make("x", "AUDITOR", tenant_id=other, by=mine)) == "TENANT_NOT_FOUND"


def test_an_auditor_sees_and_changes_nothing(ground):
    auditor = as_(ground, "eve", Role.AUDITOR, ground.tenant_id)
    ground.make("ada", "SUPERVISOR", tenant_id=ground.tenant_id)
    assert names(auditor, "tenants/-") == ["ada", "eve"]
    assert auditor.GetIdentity(one("ada")).identity.roles == [pb.IDENTITY_ROLE_SUPERVISOR]
    assert (
        reason(lambda: ground.make("x", "AGENT", tenant_id=ground.tenant_id, by=auditor)) == "METHOD_DENIED"
    )


def test_an_agent_sees_itself_alone(ground):
    agent = as_(ground, "ada", Role.AGENT, ground.tenant_id)
    assert agent.GetIdentity(one("ada")).identity.name == f"tenants/{ground.tenant_id}/identities/ada"
    assert len(agent.ListCertificates(pb.ListCertificatesRequest(parent="identities/ada")).certificates) == 1
    assert reason(lambda: agent.GetIdentity(one("admin"))) == "IDENTITY_NOT_FOUND"


def test_an_operator_makes_the_first_administrator_of_a_tenant_and_then_sees_it_no_more(ground, other):
    op = as_(ground, "op", Role.OPERATOR)
    assert reason(lambda: ground.make("x", "AUDITOR", tenant_id=other, by=op)) == "MANAGE_DENIED"
    two = ("TENANT_ADMINISTRATOR", "RECORDS_OFFICER")
    assert reason(lambda: ground.make("x", *two, tenant_id=other, by=op)) == "MANAGE_DENIED"
    ground.make("first", "TENANT_ADMINISTRATOR", tenant_id=other, by=op)
    assert (
        reason(lambda: ground.make("second", "TENANT_ADMINISTRATOR", tenant_id=other, by=op))
        == "MANAGE_DENIED"
    )
    assert op.GetIdentity(one(f"{other}/first")).identity.tenant == f"tenants/{other}"
    _, channel = ground.certify("first", by=op)
    assert reason(lambda: op.GetIdentity(one(f"{other}/first"))) == "IDENTITY_NOT_FOUND"
    assert reason(lambda: ground.certify("first", by=op)) == "IDENTITY_NOT_FOUND", (
        "no second key to the tenant's door"
    )
    boss = ground.access(channel)
    assert names(boss, "tenants/-") == ["first"]
    entries = [
        json.loads(line)
        for path in ground.box.layout.control.rglob("*.jsonl")
        for line in path.read_text().splitlines()
        if "CreateIdentity" in line
    ]
    mine = [
        line
        for line in entries
        if line.get("subject") == f"tenants/{other}/identities/first" and line["what"] == "done"
    ]
    assert [line["tenant"] for line in mine if line["outcome"] == "OK"] == [other], (
        "stands in the tenant's audit"
    )


def test_what_is_said_beside_a_name_does_not_decide_whose_audit_a_change_stands_in(ground, other):
    op = as_(ground, "op", Role.OPERATOR)
    ground.make("ris", "INTEGRATION", by=op)
    wanted = pb.Identity(
        name="identities/ris", roles=[pb.IDENTITY_ROLE_INTEGRATION], tenant=f"tenants/{other}"
    )
    op.UpdateIdentity(pb.UpdateIdentityRequest(identity=wanted, update_mask=FieldMask(paths=["roles"])))
    entries = [
        json.loads(line)
        for path in ground.box.layout.control.rglob("*.jsonl")
        for line in path.read_text().splitlines()
        if "UpdateIdentity" in line
    ]
    assert {line["subject"] for line in entries} == {"identities/ris"}
    assert other not in {line["tenant"] for line in entries}


def test_a_provider_run_admin_is_an_operator_only(make_box):
    box = make_box()
    box.default_line()
    box.client().tenants.ListTenants(tenants_pb2.ListTenantsRequest())
    box.stop()
    access = box.settings.access.model_copy(update={"run_by": "provider"})
    box.settings = box.settings.model_copy(update={"access": access})
    box.start()
    ground = Ground(box)
    assert ground.admin.GetCaller(pb.GetCallerRequest()).identity.roles == [OPERATOR]
    ground.make("boss", "TENANT_ADMINISTRATOR", tenant_id=ground.tenant_id)
    assert reason(lambda: ground.make("x", "AUDITOR", tenant_id=ground.tenant_id)) == "MANAGE_DENIED"
    ground.close()


def test_what_a_provider_makes_reads_nothing_and_what_a_tenant_makes_its_own(make_box, sealing):
    box = make_box()
    access = box.settings.access.model_copy(update={"run_by": "provider"})
    box.settings = box.settings.model_copy(update={"access": access})
    ground = Ground(box)  # which starts it again
    recording = box.vault.file(sealing(*box.default_line()))

    def listed(channel) -> list[str]:
        stub = recordings_pb2_grpc.RecordingsServiceStub(channel)
        request = recordings_pb2.ListRecordingsRequest(parent="tenants/-")
        return [one.name[-26:] for one in stub.ListRecordings(request).recordings]

    ground.make("ris", "INTEGRATION", "SUPPORT")
    _, ris = ground.certify("ris")
    ground.make("bare", "INTEGRATION")
    _, bare = ground.certify("bare")
    assert reason(lambda: listed(bare)) == "METHOD_DENIED"
    live = calls_pb2.ListCallsRequest(parent="tenants/-")
    assert reason(lambda: calls_pb2_grpc.CallsServiceStub(bare).ListCalls(live)) == "METHOD_DENIED"
    assert tenants_pb2_grpc.TenantsServiceStub(bare).ListTenants(tenants_pb2.ListTenantsRequest()).tenants

    ground.make("boss", "TENANT_ADMINISTRATOR", tenant_id=ground.tenant_id)
    assert reason(lambda: ground.make("pacs", "INTEGRATION", tenant_id=ground.tenant_id)) == "MANAGE_DENIED"
    boss = ground.access(ground.certify("boss")[1])
    ground.make("pacs", "INTEGRATION", tenant_id=ground.tenant_id, by=boss)
    _, pacs = ground.certify("pacs", by=boss)
    box.wait(lambda: listed(pacs) == [recording])
    assert listed(ris) == [], "as support, under a grant alone"
    ground.close()


def test_an_altered_copy_is_kept_and_the_alarm_says_where(make_box):
    box = make_box()
    box.stop()
    copy = box.layout.control / "identities.jsonl"
    spoiled = copy.read_bytes().replace(b"admin", b"nimda", 1)
    copy.write_bytes(spoiled)
    box.start()
    (aside,) = box.layout.control.glob("identities.jsonl.damaged-*")
    assert aside.read_bytes() == spoiled != copy.read_bytes()
    said = {one.type: one.message for one in box.status.conditions()}
    assert aside.name in said["IdentitiesCopyAltered"]


def test_the_admins_roles_come_from_the_site_file(ground):
    request = pb.UpdateIdentityRequest(identity=pb.Identity(name="identities/admin", roles=[OPERATOR]))
    assert reason(lambda: ground.admin.UpdateIdentity(request)) == "IDENTITY_RESERVED"


def test_what_reaches_beyond_the_box_is_managed_by_its_like(ground):
    op = as_(ground, "op", Role.OPERATOR)
    request = pb.DisableIdentityRequest(name="identities/admin")
    assert reason(lambda: op.DisableIdentity(request)) == "MANAGE_DENIED"


def test_the_last_operator_stays(ground):
    ground.make("op", "OPERATOR")
    disable = pb.DisableIdentityRequest(name="identities/admin")
    assert reason(lambda: ground.admin.DisableIdentity(disable)) == "LAST_OPERATOR", "op cannot come in yet"
    _, channel = ground.certify("op")
    assert ground.admin.DisableIdentity(disable).identity.HasField("disable_time")
    op = ground.access(channel)
    assert (
        reason(lambda: op.DisableIdentity(pb.DisableIdentityRequest(name="identities/op"))) == "LAST_OPERATOR"
    )
    less = pb.UpdateIdentityRequest(
        identity=pb.Identity(name="identities/op", roles=[pb.IDENTITY_ROLE_SUPPORT])
    )
    assert reason(lambda: op.UpdateIdentity(less)) == "LAST_OPERATOR"


def test_the_last_administrator_of_a_tenant_stays(make_box):
    box = make_box()
    access = box.settings.access.model_copy(update={"run_by": "provider"})
    box.settings = box.settings.model_copy(update={"access": access})
    ground = Ground(box)  # which starts it again
    ground.make("boss", "TENANT_ADMINISTRATOR", tenant_id=ground.tenant_id)
    boss = ground.access(ground.certify("boss")[1])
    disable = pb.DisableIdentityRequest(name=ground.full("boss"))
    assert reason(lambda: boss.DisableIdentity(disable)) == "LAST_TENANT_ADMINISTRATOR"
    ground.make("deputy", "TENANT_ADMINISTRATOR", tenant_id=ground.tenant_id, by=boss)
    assert reason(lambda: boss.DisableIdentity(disable)) == "LAST_TENANT_ADMINISTRATOR", (
        "deputy cannot come in"
    )
    ground.certify("deputy", by=boss)
    assert boss.DisableIdentity(disable).identity.HasField("disable_time")
    ground.close()


def test_roles_change_at_once_and_etags_hold(ground):
    before = ground.make("ada", "SUPERVISOR", tenant_id=ground.tenant_id)
    same = one(f"{ground.tenant_id}/ada")
    _, channel = ground.certify("ada")
    ada = ground.access(channel)
    assert reason(lambda: ada.ListIdentities(pb.ListIdentitiesRequest(parent="tenants/-"))) == "METHOD_DENIED"
    wanted = pb.Identity(name=before.name, roles=[AUDITOR], etag=before.etag)
    request = pb.UpdateIdentityRequest(
        identity=wanted, update_mask=FieldMask(paths=["roles"]), validate_only=True
    )
    assert ground.admin.UpdateIdentity(request).identity.roles == [AUDITOR]
    assert ground.admin.GetIdentity(same).identity.etag == before.etag, "only tried"
    request.validate_only = False
    after = ground.admin.UpdateIdentity(request).identity
    assert after.etag != before.etag
    assert "ada" in names(ada, "tenants/-")
    assert reason(lambda: ground.admin.UpdateIdentity(request)) == "ETAG_MISMATCH"
    for path in ("tenant", "name", "etag", "*,roles"):
        wrong = pb.UpdateIdentityRequest(identity=wanted, update_mask=FieldMask(paths=path.split(",")))
        assert refused(lambda wrong=wrong: ground.admin.UpdateIdentity(wrong)).fields == {
            "update_mask": "should name roles and agent_number, no more"
        }


def test_nobody_gives_a_role_that_is_not_theirs_to_give(ground):
    mine = as_(ground, "boss", Role.TENANT_ADMINISTRATOR, ground.tenant_id)
    for role in (OPERATOR, pb.IDENTITY_ROLE_SUPPORT, pb.IDENTITY_ROLE_UNSPECIFIED, 99):
        request = pb.UpdateIdentityRequest(identity=pb.Identity(name="identities/boss", roles=[role]))
        assert (
            refused(lambda request=request: mine.UpdateIdentity(request)).code
            is grpc.StatusCode.INVALID_ARGUMENT
        )


def test_disabling_holds_at_once_and_ends_streams(ground):
    ground.make("ris", "INTEGRATION")
    _, channel = ground.certify("ris")
    stream = events_pb2_grpc.EventsServiceStub(channel).WatchEvents(
        events_pb2.WatchEventsRequest(parent="tenants/-")
    )
    next(stream)
    ground.admin.DisableIdentity(pb.DisableIdentityRequest(name="identities/ris"))
    assert reason(lambda: ground.access(channel).GetCaller(pb.GetCallerRequest())) == "IDENTITY_DISABLED"
    assert reason(lambda: list(stream)) == "IDENTITY_DISABLED"
    ground.admin.EnableIdentity(pb.EnableIdentityRequest(name="identities/ris"))
    assert ground.access(channel).GetCaller(pb.GetCallerRequest()).identity.name == "identities/ris"


def test_a_silent_stream_ends_too(ground, monkeypatch):
    """Nothing has to come over a stream for its end to come: it is not looked at only between two messages."""
    monkeypatch.setattr("appliance.api.gate.RECHECK_S", 3600.0)
    ground.box.control._heartbeat_s = 3600.0
    ground.make("ris", "INTEGRATION")
    certificate, channel = ground.certify("ris")
    stream = events_pb2_grpc.EventsServiceStub(channel).WatchEvents(
        events_pb2.WatchEventsRequest(parent="tenants/-", types=[events_pb2.EVENT_TYPE_RECORDING_ERASED])
    )
    next(stream)
    ground.admin.RevokeCertificate(pb.RevokeCertificateRequest(name=certificate.name))
    assert reason(lambda: list(stream)) == "CERTIFICATE_REVOKED"


def test_a_stream_that_shows_more_than_its_caller_may_see_by_now_ends(ground):
    """Its caller may still call the method, and would see less of it."""
    ground.make("ris", "INTEGRATION", "SUPPORT")
    _, channel = ground.certify("ris")
    stream = events_pb2_grpc.EventsServiceStub(channel).WatchEvents(
        events_pb2.WatchEventsRequest(parent="tenants/-"), timeout=20
    )
    next(stream)
    less = pb.Identity(name="identities/ris", roles=[pb.IDENTITY_ROLE_SUPPORT])
    ground.admin.UpdateIdentity(pb.UpdateIdentityRequest(identity=less))
    assert reason(lambda: list(stream)) == "RIGHTS_CHANGED"


def test_a_certificate_that_is_revoked_meanwhile_is_not_renewed(ground, monkeypatch):
    ground.make("ris", "INTEGRATION")
    first, channel = ground.certify("ris")
    key = ec.generate_private_key(ec.SECP256R1())
    certify = pki.certify

    def revoked(*args):
        with ground.box.control.parts.store.database.write() as connection:
            issued.revoke(connection, "ris", first.name.rpartition("/")[2], ground.box.clock())
        return certify(*args)

    monkeypatch.setattr(pki, "certify", revoked)
    renew = pb.RenewCertificateRequest(certificate_request=request_of(key))
    assert reason(lambda: ground.access(channel).RenewCertificate(renew)) == "CERTIFICATE_REVOKED"
    found = ground.admin.ListCertificates(pb.ListCertificatesRequest(parent="identities/ris")).certificates
    assert [one.name for one in found] == [first.name]


def test_renewing(ground):
    ground.make("ris", "INTEGRATION")
    first, channel = ground.certify("ris", lifetime=Duration(seconds=7 * 86400))
    key = ec.generate_private_key(ec.SECP384R1())
    renew = pb.RenewCertificateRequest(certificate_request=request_of(key), request_id="r1")
    second = ground.access(channel).RenewCertificate(renew).certificate
    assert second.renewed_from == first.name and second.name.startswith("identities/ris/")
    assert abs(second.expire_time.seconds - first.expire_time.seconds) < 60, "as long as the one before"
    assert ground.access(channel).RenewCertificate(renew).certificate == second, "once"
    newer = ground.access(ground.by_certificate(second.pem, key))
    assert newer.GetCaller(pb.GetCallerRequest()).certificate == second.name
    # Who stole the first key may have made the second: both go.
    revoked = ground.admin.RevokeCertificate(pb.RevokeCertificateRequest(name=first.name)).certificate
    assert revoked.HasField("revoke_time")
    for stub in (newer, ground.access(channel)):
        assert reason(lambda stub=stub: stub.GetCaller(pb.GetCallerRequest())) == "CERTIFICATE_REVOKED"
    found = ground.admin.ListCertificates(pb.ListCertificatesRequest(parent="identities/ris")).certificates
    assert [bool(one.revoke_time.seconds) for one in found] == [True, True]


def test_a_certificate_that_ends_while_the_connection_stands(ground):
    ground.make("ris", "INTEGRATION")
    _, channel = ground.certify("ris", lifetime=Duration(seconds=3600))
    stub = ground.access(channel)
    stub.GetCaller(pb.GetCallerRequest())
    ground.box.clock.ahead_ns += 3601 * 10**9
    assert reason(lambda: stub.GetCaller(pb.GetCallerRequest())) == "CERTIFICATE_EXPIRED"
    renew = pb.RenewCertificateRequest(
        certificate_request=request_of(ec.generate_private_key(ec.SECP256R1()))
    )
    assert reason(lambda: stub.RenewCertificate(renew)) == "CERTIFICATE_EXPIRED"


def test_requests_for_certificates_that_are_none(ground):
    ground.make("ris", "INTEGRATION")
    good = request_of(ec.generate_private_key(ec.SECP256R1()))
    forged = bytearray(x509.load_pem_x509_csr(good).public_bytes(Encoding.DER))
    forged[-5] ^= 1  # the signature: whoever asks does not have the key
    unproven = base64.encodebytes(bytes(forged)).join(
        (b"-----BEGIN CERTIFICATE REQUEST-----\n", b"-----END CERTIFICATE REQUEST-----\n")
    )
    for wrong in (
        b"",
        b"nonsense",
        b"x" * 20000,
        unproven,
        (ground.box.layout.pki / "ca.crt").read_bytes(),
        request_of(ec.generate_private_key(ec.SECP521R1())),
        request_of(rsa.generate_private_key(65537, 1024)),
        request_of(rsa.generate_private_key(3, 2048)),
        request_of(ed25519.Ed25519PrivateKey.generate(), algorithm=lambda: None),
    ):
        request = pb.IssueCertificateRequest(parent="identities/ris", certificate_request=wrong)
        found = refused(lambda request=request: ground.admin.IssueCertificate(request))
        assert found.reason == "CERTIFICATE_REQUEST_INVALID" and "certificate_request" in found.fields, wrong[
            :40
        ]
    for seconds in (1, 3599, 826 * 86400, -1):
        request = pb.IssueCertificateRequest(
            parent="identities/ris", certificate_request=good, lifetime=Duration(seconds=seconds)
        )
        assert "lifetime" in refused(lambda request=request: ground.admin.IssueCertificate(request)).fields
    assert (
        ground.admin.ListCertificates(pb.ListCertificatesRequest(parent="identities/ris")).certificates == []
    )


def test_only_so_many_certificates(ground):
    ground.make("ris", "INTEGRATION")
    issue = pb.IssueCertificateRequest(
        parent="identities/ris", certificate_request=request_of(ec.generate_private_key(ec.SECP256R1()))
    )
    for _ in range(20):
        last = ground.admin.IssueCertificate(issue).certificate
    assert reason(lambda: ground.admin.IssueCertificate(issue)) == "IDENTITY_LIMIT"
    ground.admin.RevokeCertificate(pb.RevokeCertificateRequest(name=last.name))
    ground.admin.IssueCertificate(issue)
    request = pb.ListCertificatesRequest(parent="identities/ris", page_size=8)
    seen = []
    while True:
        answer = ground.admin.ListCertificates(request)
        seen += [one.name for one in answer.certificates]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert len(seen) == len(set(seen)) == 21


def test_pages_of_identities_are_stable_under_inserts(ground):
    for number in range(0, 10, 2):
        ground.make(f"n{number}", "SUPPORT")
    request = pb.ListIdentitiesRequest(page_size=2)
    first = ground.admin.ListIdentities(request)
    ground.make("a-new-one", "SUPPORT")
    ground.make("n5", "SUPPORT")
    seen = [one.name for one in first.identities]
    request.page_token = first.next_page_token
    while request.page_token:
        answer = ground.admin.ListIdentities(request)
        seen += [one.name for one in answer.identities]
        request.page_token = answer.next_page_token
    assert seen == [f"identities/{name}" for name in ("admin", "n0", "n2", "n4", "n5", "n6", "n8")]
    request = pb.ListIdentitiesRequest(parent="tenants/-", page_size=2, page_token=first.next_page_token)
    assert reason(lambda: ground.admin.ListIdentities(request)) == "PAGE_TOKEN_INVALID"


def test_a_request_id_makes_one_identity(ground):
    request = pb.CreateIdentityRequest(
        identity=pb.Identity(name="identities/ris", roles=[pb.IDENTITY_ROLE_INTEGRATION]), request_id="once"
    )
    first = ground.admin.CreateIdentity(request).identity
    assert ground.admin.CreateIdentity(request).identity == first
    request.identity.roles[:] = [OPERATOR]
    assert reason(lambda: ground.admin.CreateIdentity(request)) == "REQUEST_ID_REUSED"
    issue = pb.IssueCertificateRequest(
        parent="identities/ris",
        certificate_request=request_of(ec.generate_private_key(ec.SECP256R1()), algorithm=hashes.SHA384),
        request_id="twice",
    )
    made = ground.admin.IssueCertificate(issue).certificate
    assert ground.admin.IssueCertificate(issue).certificate == made and made.pem


def test_identities_made_at_once_are_all_in_the_copy(ground):
    """Changes that wait for the copy go with one write; none is answered before it is there."""
    names = [f"n{number}" for number in range(24)]
    layout = ground.box.layout

    def made(name: str) -> set[str]:
        ground.make(name, "SUPPORT")
        copy = Journal(
            layout.control / "identities.jsonl",
            layout.pki / "identities.serial",
            Sealing.at(layout.control / "identities.key"),
        ).read()
        assert copy.whole and name in copy.records
        return set(copy.records)

    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(made, names))
    assert set().union(*seen) == {"admin", *names}


def test_warnings_before_a_certificate_ends(ground):
    ground.make("ris", "INTEGRATION")
    ground.certify("ris", lifetime=Duration(seconds=60 * 86400))

    def told() -> list[str]:
        ground.box.run(ground.box.control._entrance.look())
        stream = ground.box.client().events.WatchEvents(
            events_pb2.WatchEventsRequest(
                parent="tenants/-", from_oldest=True, types=[events_pb2.EVENT_TYPE_CERTIFICATE_EXPIRING]
            )
        )
        found = []
        for answer in stream:
            if not answer.HasField("event"):
                if found or len(states) == 0:
                    break
                continue
            assert answer.event.subject == "identities/ris"
            found.append(answer.event.state)
            if len(found) == len(states):
                break
        stream.cancel()
        return found

    states: list[str] = []
    assert told() == []

    def raised() -> bool:
        return "ClientCertificateExpiring" in {one.type for one in ground.box.status.conditions()}

    assert not raised()
    for days, state in ((29, "30d"), (13, "14d"), (2, "3d")):
        ground.box.clock.ahead_ns = (60 - days) * DAY_NS
        states.append(state)
        for _ in range(2):  # once each
            assert told() == states
        assert raised()
    ground.box.clock.ahead_ns = 0
    ground.certify("ris", lifetime=Duration(seconds=120 * 86400))
    ground.box.clock.ahead_ns = 58 * DAY_NS
    ground.box.run(ground.box.control._entrance.look())
    assert not raised(), "a younger one is there"
