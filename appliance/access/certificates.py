"""Making and reading certificates: EC P-256, no personal data in them beyond the name an operator gives.

A client of a tenant has the tenant's id as organizational unit: for people who look at it. Whom a certificate stands for
says its fingerprint alone.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.access.errors import AuthorityError

# Clocks of new boxes are seldom exact.
BACKDATE: Final = timedelta(hours=1)
# An authority is never made again: it has to hold even where its first clock was years ahead.
CA_BACKDATE: Final = timedelta(days=10 * 365)
CA_LIFETIME: Final = timedelta(days=20 * 365)
SERVER_LIFETIME: Final = timedelta(days=397)
CLIENT_LIFETIME: Final = timedelta(days=825)
RENEW_BEFORE: Final = timedelta(days=30)


@dataclass(frozen=True)
class Pair:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the certificate (DER), lower-case hexadecimal."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def fingerprint_of_pem(pem: bytes) -> str:
    """As `fingerprint`; ValueError where it is no certificate."""
    return fingerprint(x509.load_pem_x509_certificate(pem))


def expire_ns(certificate: x509.Certificate) -> int:
    """Not good after, nanoseconds since the Unix epoch."""
    return int(certificate.not_valid_after_utc.timestamp()) * 10**9


def make_authority(name: str, now: datetime) -> Pair:
    """A certificate authority of our own, which signs end certificates only."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = (
        _builder(subject, subject, key.public_key(), now - CA_BACKDATE, now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def make_server(authority: Pair, name: str, alternatives: Sequence[str], now: datetime) -> Pair:
    """A certificate for a server that is reached by these names and addresses. AuthorityError where it has ended."""
    names = x509.SubjectAlternativeName([_general_name(text) for text in alternatives])
    # A SIP peer is now server, now client, on one certificate.
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _make_end(authority, name, usages, names, SERVER_LIFETIME, now)


def make_client(authority: Pair, name: str, now: datetime, lifetime: timedelta = CLIENT_LIFETIME) -> Pair:
    """A certificate for a client of the API. AuthorityError where the authority has ended."""
    return _make_end(authority, name, [ExtendedKeyUsageOID.CLIENT_AUTH], None, lifetime, now)


def certify(
    authority: Pair,
    name: str,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    now: datetime,
    lifetime: timedelta,
    unit: str = "",
) -> x509.Certificate:
    """A client certificate for a key whose private half is elsewhere. `unit`: a tenant's id. AuthorityError."""
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _end_builder(authority, _name(name, unit), key, usages, lifetime, now)
    return builder.sign(authority.key, hashes.SHA256())


def alternatives_of(certificate: x509.Certificate) -> set[str]:
    """The names and addresses a server certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in names}


def _make_end(
    authority: Pair,
    name: str,
    usages: list[x509.ObjectIdentifier],
    alternatives: x509.SubjectAlternativeName | None,
    lifetime: timedelta,
    now: datetime,
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _end_builder(authority, _name(name), key.public_key(), usages, lifetime, now)
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _end_builder(
    authority: Pair,
    name: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    usages: list[x509.ObjectIdentifier],
    lifetime: timedelta,
    now: datetime,
) -> x509.CertificateBuilder:
    # An end certificate that outlives its authority would fail all the same, only less clearly.
    until = min(now + lifetime, authority.certificate.not_valid_after_utc)
    if until <= now:
        raise AuthorityError("the certificate authority has ended: is the clock right?", file="ca.crt")
    return (
        _builder(name, authority.certificate.subject, key, now - BACKDATE, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    since: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since.astimezone(UTC))
        .not_valid_after(until.astimezone(UTC))
    )


def _name(common_name: str, unit: str = "") -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Earwitness"),
            *([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else []),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]),
        ]
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
