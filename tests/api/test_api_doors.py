"""Certificates that must not pass, on a real socket; and identities over a lost catalogue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from access_kit import Ground, reason, refused
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import earwitness
from appliance.access import certificates, pki
from earwitness.v1 import access_pb2 as pb
from earwitness.v1 import access_pb2_grpc

WHO = pb.GetCallerRequest()
NOW = datetime.now(UTC)


@pytest.fixture
def ground(make_box):
    made = Ground(make_box())
    yield made
    made.close()


def knock(ground, pair) -> earwitness.Details:
    """What comes of a call with this certificate and key."""
    channel = ground.by_certificate(pair.certificate_pem.decode(), pair.key)
    return refused(lambda: ground.access(channel).GetCaller(WHO, timeout=10))


def authority(ground) -> certificates.Pair:
    return pki._load(ground.box.layout.pki, "ca")


def test_expired_and_not_yet_valid_certificates_do_not_get_past_tls(ground):
    for begin in (NOW - timedelta(days=30), NOW + timedelta(days=30)):
        pair = certificates.make_client(authority(ground), "admin", begin, timedelta(days=10))
        found = knock(ground, pair)
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "")


def test_a_certificate_of_another_box_or_self_made_does_not_get_past_tls(ground):
    mine = authority(ground).certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    stranger = certificates.make_authority(str(mine), NOW)  # of the same name
    for pair in (
        certificates.make_client(stranger, "admin", NOW),
        certificates.make_authority("admin", NOW),
    ):
        found = knock(ground, pair)
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "")


def test_a_clients_certificate_makes_no_others(ground):
    """A chain over a client's own certificate: it is no authority."""
    name = "identities/ris"
    ground.make("ris", "INTEGRATION")
    key = ec.generate_private_key(ec.SECP256R1())
    issued = x509.load_pem_x509_certificate(
        ground.admin.IssueCertificate(
            pb.IssueCertificateRequest(
                parent=name,
                certificate_request=x509.CertificateSigningRequestBuilder()
                .subject_name(x509.Name([]))
                .sign(key, hashes.SHA256())
                .public_bytes(certificates.serialization.Encoding.PEM),
            )
        ).certificate.pem.encode()
    )
    child = certificates.make_client(certificates.Pair(issued, key), "admin", NOW)
    chain = child.certificate_pem + issued.public_bytes(certificates.serialization.Encoding.PEM)
    channel = ground.by_certificate(chain.decode(), child.key)
    assert (
        refused(lambda: ground.access(channel).GetCaller(WHO, timeout=10)).code is grpc.StatusCode.UNAVAILABLE
    )


def test_the_servers_own_certificate_stands_for_nobody(ground):
    folder = ground.box.layout.pki
    credentials = grpc.ssl_channel_credentials(
        ground.ca, (folder / "server.key").read_bytes(), (folder / "server.crt").read_bytes()
    )
    with grpc.secure_channel(f"127.0.0.1:{ground.box.port}", credentials) as channel:
        stub = access_pb2_grpc.AccessServiceStub(channel)
        assert reason(lambda: stub.GetCaller(WHO)) == "CERTIFICATE_UNKNOWN"


def test_ours_that_nobody_was_given_or_that_was_revoked_or_whose_holder_is_disabled(ground):
    found = knock(ground, certificates.make_client(authority(ground), "admin", NOW))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_UNKNOWN"), (
        "a name is no proof"
    )
    other = knock(ground, certificates.make_client(authority(ground), "nobody", NOW))
    assert (other.code, other.reason, other.message) == (found.code, found.reason, found.message)
    ground.make("ris", "INTEGRATION")
    certificate, channel = ground.certify("ris")
    ground.admin.DisableIdentity(pb.DisableIdentityRequest(name="identities/ris"))
    assert reason(lambda: ground.access(channel).GetCaller(WHO)) == "IDENTITY_DISABLED"
    ground.admin.RevokeCertificate(pb.RevokeCertificateRequest(name=certificate.name))
    ground.admin.EnableIdentity(pb.EnableIdentityRequest(name="identities/ris"))
    assert reason(lambda: ground.access(channel).GetCaller(WHO)) == "CERTIFICATE_REVOKED"


def test_identities_outlive_a_damaged_catalogue(ground):
    ground.make("ris", "INTEGRATION")
    certificate, channel = ground.certify("ris")
    ground.make("eve", "SUPPORT")
    gone, _ = ground.certify("eve")
    ground.admin.RevokeCertificate(pb.RevokeCertificateRequest(name=gone.name))
    ground.box.fix_port()
    ground.box.stop()
    path = ground.box.layout.control / "catalogue.db"
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(b"no database" * 1000)
    ground.box.start()
    conditions = {one.type for one in ground.box.status.conditions()}
    assert {
        "CatalogueRebuilt",
        "IdentitiesRestored",
    } <= conditions and "IdentitiesRolledBack" not in conditions
    assert ground.access(channel).GetCaller(WHO).certificate == certificate.name
    admin = ground.access(ground.box.client().channel)
    listed = admin.ListCertificates(pb.ListCertificatesRequest(parent="identities/eve")).certificates
    assert [one.HasField("revoke_time") for one in listed] == [True]
    ground.admin = admin
    ground.make("more", "SUPPORT")  # changes go on, and go into the copy
    assert '"more"' in (ground.box.layout.control / "identities.jsonl").read_text()


def test_a_copy_that_cannot_be_written_is_told_and_caught_up(ground):
    copy = ground.box.layout.control / "identities.jsonl"
    kept = copy.read_bytes()
    copy.unlink()
    copy.mkdir()  # root writes anywhere else
    ground.make("ris", "INTEGRATION")

    def raised() -> bool:
        return "IdentitiesCopyUnwritable" in {one.type for one in ground.box.status.conditions()}

    assert raised() and ground.admin.GetIdentity(pb.GetIdentityRequest(name="identities/ris")).identity.name
    copy.rmdir()
    copy.write_bytes(kept)
    ground.box.run(ground.box.control._entrance.look())
    assert not raised() and '"ris"' in copy.read_text()


def test_the_boxs_own_admin_that_was_revoked_stays_out(ground):
    ground.make("op", "OPERATOR")
    op = ground.access(ground.certify("op")[1])
    mine = op.ListCertificates(pb.ListCertificatesRequest(parent="identities/admin"))
    assert mine.certificates, "an operator sees it"
    request = pb.RevokeCertificateRequest(name=mine.certificates[0].name)
    assert reason(lambda: op.RevokeCertificate(request)) == "MANAGE_DENIED"
    ground.admin.RevokeCertificate(request)
    ground.box.stop()
    ground.box.start()
    stub = ground.access(ground.box.client().channel)
    assert reason(lambda: stub.GetCaller(WHO)) == "CERTIFICATE_REVOKED"
