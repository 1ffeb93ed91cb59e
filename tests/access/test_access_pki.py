from __future__ import annotations

import os
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.access import certificates, pki
from appliance.access.errors import AuthorityError, IdentityError
from appliance.config.settings import ApiSettings, Settings, SipSettings

NOW = datetime.now(UTC)


@pytest.fixture
def settings(tmp_path):
    return Settings(
        data=tmp_path,
        api=ApiSettings(address="0.0.0.0"),
        sip=SipSettings(address="192.0.2.7", advertised_address="sbc.example"),
    )


@pytest.fixture
def layout(settings):
    return settings.layout


def contents(layout):
    return {path.name: path.read_bytes() for path in layout.pki.rglob("*") if path.is_file()}


def load(layout, name):
    return x509.load_pem_x509_certificate((layout.pki / name).read_bytes())


def test_the_first_start_makes_everything(layout, settings):
    admin = pki.ensure(layout, settings, NOW).admin
    assert set(contents(layout)) == {
        ".lock", "ca.crt", "ca.key", "server.crt", "server.key", "sip.crt", "sip.key", "admin.crt", "admin.key",
    }  # fmt: skip
    for path in layout.pki.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (layout.pki, layout.pki / "clients"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert admin.name == "admin" and admin.fingerprint == certificates.fingerprint(
        load(layout, "clients/admin.crt")
    )
    server = certificates.alternatives_of(load(layout, "server.crt"))
    assert {"localhost", "127.0.0.1", "::1"} <= server and "0.0.0.0" not in server
    assert {"192.0.2.7", "sbc.example"} <= certificates.alternatives_of(load(layout, "sip.crt"))


def test_doing_it_again_changes_nothing(layout, settings):
    pki.ensure(layout, settings, NOW)
    before = contents(layout)
    pki.ensure(layout, settings, NOW + timedelta(days=1))
    assert contents(layout) == before


def test_certificates_say_what_they_are_for(layout, settings):
    pki.ensure(layout, settings, NOW)
    ca = load(layout, "ca.crt")
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for name, usage in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH),
        ("clients/admin", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        certificate = load(layout, f"{name}.crt")
        certificate.verify_directly_issued_by(ca)
        assert isinstance(certificate.public_key().curve, ec.SECP256R1)
        assert usage in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert certificate.not_valid_after_utc <= ca.not_valid_after_utc
    client = load(layout, "clients/admin.crt").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH not in client, "a client's certificate must not pass for the box"


def test_what_ends_soon_is_renewed_under_the_same_authority(layout, settings):
    pki.ensure(layout, settings, NOW)
    before = contents(layout)
    pki.ensure(layout, settings, NOW + timedelta(days=380))
    after = contents(layout)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"server.crt", "server.key", "sip.crt", "sip.key"}
    pki.ensure(layout, settings, NOW + timedelta(days=810))
    assert (
        contents(layout)["admin.crt"] != before["admin.crt"]
        and contents(layout)["ca.crt"] == before["ca.crt"]
    )


@pytest.mark.parametrize(
    "first", [NOW, NOW + timedelta(days=6 * 365)], ids=["while-it-ran", "at-the-first-start"]
)
def test_what_was_made_while_the_clock_was_ahead_is_valid_once_it_is_right(layout, settings, first):
    pki.ensure(layout, settings, first)
    pki.ensure(layout, settings, NOW + timedelta(days=6 * 365))
    assert load(layout, "server.crt").not_valid_before_utc > NOW
    pki.ensure(layout, settings, NOW)
    for label, certificate in pki.present(layout).items():
        assert certificate.not_valid_before_utc <= NOW < certificate.not_valid_after_utc, label


def test_a_new_address_gets_a_new_certificate(layout, settings):
    pki.ensure(layout, settings, NOW)
    other = settings.model_copy(update={"api": ApiSettings(address="198.51.100.9")})
    pki.ensure(layout, other, NOW)
    assert "198.51.100.9" in certificates.alternatives_of(load(layout, "server.crt"))


def test_an_authority_without_its_key_is_not_made_anew(layout, settings):
    pki.ensure(layout, settings, NOW)
    (layout.pki / "ca.key").unlink()
    with pytest.raises(AuthorityError) as caught:
        pki.ensure(layout, settings, NOW)
    assert caught.value.data["file"] == "ca.key"
    (layout.pki / "ca.key").write_bytes((layout.pki / "server.key").read_bytes())
    with pytest.raises(AuthorityError):
        pki.ensure(layout, settings, NOW)


def test_a_stop_between_key_and_certificate_is_mended(layout, settings):
    pki.ensure(layout, settings, NOW)
    old = (layout.pki / "server.crt").read_bytes()
    (layout.pki / "server.key").write_bytes(
        (layout.pki / "sip.key").read_bytes()
    )  # renewed key, old certificate
    (layout.pki / "sip.crt").unlink()  # key alone
    pki.ensure(layout, settings, NOW)
    assert (layout.pki / "server.crt").read_bytes() != old
    for name in ("server", "sip"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(layout.pki / f"{name}.crt", layout.pki / f"{name}.key")


def test_a_pair_that_cannot_be_renewed_stays(layout, settings):
    pki.ensure(layout, settings, NOW)
    before, later = contents(layout), NOW + timedelta(days=380)
    (layout.pki / ".server.crt.new").mkdir()  # nothing can be written there
    assert pki.ensure(layout, settings, later).kept == ("server",)
    after = contents(layout)
    assert {name for name in before if after[name] != before[name]} == {"sip.crt", "sip.key"}
    (layout.pki / ".server.crt.new").rmdir()
    assert pki.ensure(layout, settings, later).kept == ()
    assert load(layout, "server.crt").not_valid_after_utc > later + timedelta(days=390)


def test_where_there_is_no_pair_yet_it_is_an_error_that_none_can_be_written(layout, settings):
    layout.pki.mkdir(parents=True)
    (layout.pki / ".server.crt.new").mkdir()
    with pytest.raises(OSError):
        pki.ensure(layout, settings, NOW)


def test_nothing_is_made_by_an_authority_that_has_ended(layout, settings):
    pki.ensure(layout, settings, NOW)
    before, later = contents(layout), NOW + timedelta(days=21 * 365)
    assert pki.ensure(layout, settings, later).kept == ("server", "sip", "admin")
    assert contents(layout) == before
    with pytest.raises(AuthorityError) as caught:
        pki.issue(layout, "ris", now=later)
    assert caught.value.data["file"] == "ca.crt"


def test_issuing(layout, settings):
    with pytest.raises(AuthorityError):
        pki.issue(layout, "ris")
    pki.ensure(layout, settings, NOW)
    issued = pki.issue(layout, "ris", timedelta(days=10), NOW)
    certificate = load(layout, "clients/ris.crt")
    assert issued.fingerprint == certificates.fingerprint(certificate)
    assert certificate.not_valid_after_utc - NOW <= timedelta(days=10)
    assert stat.S_IMODE(os.stat(issued.key).st_mode) == 0o600
    for wrong in ("ris", "", "A", "../x", "a/b", "-a", "a" * 65, "ä"):
        with pytest.raises(IdentityError):
            pki.issue(layout, wrong)


def test_only_our_clients_pass_a_handshake(layout, settings, tmp_path_factory):
    pki.ensure(layout, settings, NOW)
    stranger = settings.model_copy(update={"data": tmp_path_factory.mktemp("other")})
    pki.ensure(stranger.layout, stranger, NOW)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(layout.pki / "server.crt", layout.pki / "server.key")
    server.load_verify_locations(layout.pki / "ca.crt")
    server.verify_mode = ssl.CERT_REQUIRED

    def shake(client_pki) -> bool:
        client = ssl.create_default_context(cafile=layout.pki / "ca.crt")
        client.load_cert_chain(client_pki / "clients/admin.crt", client_pki / "clients/admin.key")
        near, far = socket.socketpair()
        outcome: list[bool] = []

        def serve() -> None:
            try:
                with server.wrap_socket(far, server_side=True) as stream:
                    outcome.append(stream.recv(2) == b"hi")
            except ssl.SSLError:
                outcome.append(False)
                far.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with client.wrap_socket(near, server_hostname="localhost") as stream:
                stream.sendall(b"hi")
                stream.recv(1)
        except (ssl.SSLError, OSError):
            near.close()
        thread.join()
        return outcome[0]

    assert shake(layout.pki)
    assert not shake(stranger.layout.pki)
