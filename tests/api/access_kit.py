"""What tests of identities and signing in share: keys that stay with their client, and channels that carry tokens."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import grpc
import pyotp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import earwitness
from earwitness.v1 import access_pb2 as pb
from earwitness.v1 import access_pb2_grpc

PASSPHRASE = "correct horse battery"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def reason(call) -> str:
    return refused(call).reason


def request_of(key, name: str = "whatever", algorithm=hashes.SHA256) -> bytes:
    """A certificate request (PEM)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm())
    return made.public_bytes(serialization.Encoding.PEM)


def pem_of(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def named(text: str) -> str:
    """A resource name: `ris` of the box, `{tenant id}/reception` of a tenant."""
    tenant_id, _, name = text.rpartition("/")
    return f"tenants/{tenant_id}/identities/{name}" if tenant_id else f"identities/{name}"


class Ground:
    """A box that also takes tokens, and whoever comes to it."""

    def __init__(self, box) -> None:
        self.box = box
        box.default_line()
        access_pb2_grpc.AccessServiceStub(box.client().channel).GetCaller(pb.GetCallerRequest())
        api = box.settings.api.model_copy(update={"token_port": 0})
        box.stop()
        box.settings = box.settings.model_copy(update={"api": api})
        box.start()
        self.ca = (box.layout.pki / "ca.crt").read_bytes()
        self.tenant_id, _ = box.default_line()
        self.admin = access_pb2_grpc.AccessServiceStub(box.client().channel)
        self._channels: list[grpc.Channel] = []
        self._made: dict[str, str] = {}

    def by_certificate(self, certificate: str, key) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(self.ca, pem_of(key), certificate.encode())
        return self._open(f"127.0.0.1:{self.box.port}", credentials)

    def by_token(self, token: str | None) -> grpc.Channel:
        """`None`: without any."""
        credentials = grpc.ssl_channel_credentials(self.ca)
        if token is not None:
            credentials = grpc.composite_channel_credentials(
                credentials, grpc.access_token_call_credentials(token)
            )
        return self._open(f"127.0.0.1:{self.box.control.token_port}", credentials)

    def access(self, channel: grpc.Channel) -> access_pb2_grpc.AccessServiceStub:
        return access_pb2_grpc.AccessServiceStub(channel)

    def stranger(self) -> access_pb2_grpc.AccessServiceStub:
        return self.access(self.by_token(None))

    def make(self, name: str, *roles: str, tenant_id: str = "", by=None, **more: str) -> pb.Identity:
        made = (
            (by or self.admin)
            .CreateIdentity(
                pb.CreateIdentityRequest(
                    identity=pb.Identity(
                        name=f"identities/{name}",
                        roles=[pb.IdentityRole.Value(f"IDENTITY_ROLE_{role}") for role in roles],
                        tenant=f"tenants/{tenant_id}" if tenant_id else "",
                        **more,
                    )
                )
            )
            .identity
        )
        self._made[name] = made.name
        return made

    def full(self, name: str) -> str:
        """The resource name: of what was made last by this name, or as `named` says."""
        return name if "identities/" in name else self._made.get(name) or named(name)

    def certify(self, name: str, by=None, **more: object) -> tuple[pb.ClientCertificate, grpc.Channel]:
        """A certificate for an identity, and a channel that uses it."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            (by or self.admin)
            .IssueCertificate(
                pb.IssueCertificateRequest(
                    parent=self.full(name), certificate_request=request_of(key), **more
                )
            )
            .certificate
        )
        return made, self.by_certificate(made.pem, key)

    def enrol(self, name: str, passphrase: str = PASSPHRASE, by=None) -> Authenticator:
        code = (
            (by or self.admin).ResetPassphrase(pb.ResetPassphraseRequest(name=self.full(name))).enrolment_code
        )
        answer = self.stranger().EnrolPassphrase(
            pb.EnrolPassphraseRequest(name=self.full(name), enrolment_code=code, passphrase=passphrase)
        )
        return Authenticator(self.box, answer.totp_uri, list(answer.recovery_codes))

    def sign_in(self, name: str, code: str, passphrase: str = PASSPHRASE, at=None) -> pb.SignInResponse:
        return (at or self.stranger()).SignIn(
            pb.SignInRequest(name=self.full(name), passphrase=passphrase, code=code)
        )

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def _open(self, target: str, credentials: grpc.ChannelCredentials) -> grpc.Channel:
        made = grpc.secure_channel(target, credentials, options=[("grpc.use_local_subchannel_pool", 1)])
        self._channels.append(made)
        return made


class Authenticator:
    """The device with the second factor. Each code it gives is of a later step than the one before."""

    def __init__(self, box, uri: str, recovery_codes: list[str]) -> None:
        self._box = box
        self._totp = pyotp.TOTP(parse_qs(urlsplit(uri).query)["secret"][0])
        self.uri = uri
        self.recovery_codes = recovery_codes

    def code(self) -> str:
        return self._totp.at(self._box.clock() // 10**9)

    def later(self) -> str:
        """Half a minute goes by."""
        self._box.clock.ahead_ns += 30 * 10**9
        return self.code()
