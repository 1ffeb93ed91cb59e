"""TLS for SIP: our certificate, and the names in that of a peer."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from appliance.media.signaling.errors import CertificateMissingError

log = structlog.get_logger()


@lru_cache(maxsize=256)
def certificate_names(der: bytes | None) -> tuple[str, ...]:
    """Host names, addresses and SIP domains a certificate speaks for, lower case (RFC 5922, section 7.1)."""
    if der is None:
        return ()
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        return ()
    names: list[str] = []
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += alternatives.get_values_for_type(x509.DNSName)
        names += [
            uri.partition(":")[2] for uri in alternatives.get_values_for_type(x509.UniformResourceIdentifier)
        ]
        names += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    except (x509.ExtensionNotFound, ValueError):
        pass  # an old certificate: the common name has to do
    if not names:
        found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names += [str(attribute.value) for attribute in found]
    return tuple(dict.fromkeys(name.lower().rstrip(".") for name in names if name))


def server_context(pki: Path) -> ssl.SSLContext:
    """Our side of SIP over TLS. CertificateMissingError while the certificate is not there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, pki)
    return context


def load_certificate(context: ssl.SSLContext, pki: Path) -> None:
    """Takes up `sip.crt` and `sip.key`. CertificateMissingError where they are not there or do not belong together."""
    certificate, key = pki / "sip.crt", pki / "sip.key"
    if not certificate.exists() or not key.exists():
        raise CertificateMissingError("the certificate for SIP over TLS is not there yet")
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise CertificateMissingError("the certificate for SIP over TLS cannot be used") from error


def client_context(pki: Path, trust: Path | None) -> ssl.SSLContext:
    """Our side of calls over TLS that we begin: the peer must show a certificate of an authority that we know.

    Known are the box's own, those in `sip-ca.crt`, and those in `trust`. We show our own certificate where asked.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in (pki / "ca.crt", pki / "sip-ca.crt", *([trust] if trust is not None else [])):
        try:
            if path.exists():
                context.load_verify_locations(path)
        except (ssl.SSLError, OSError):
            log.error("authority unusable", file=path.name)
    try:
        load_certificate(context, pki)
    except CertificateMissingError as error:
        log.warning("calls over TLS go without a certificate of ours", reason=error.reason)
    return context


def certificate_stamp(pki: Path) -> tuple[int, ...]:
    """Changes when the certificate does."""
    found = [path.stat() for path in (pki / "sip.crt", pki / "sip.key") if path.exists()]
    return tuple(value for stat in found for value in (stat.st_ino, stat.st_mtime_ns))


def ask_for_names(context: ssl.SSLContext, pki: Path, wanted: bool) -> None:
    """Whether peers are asked for a certificate: only where a line is recognised by one.

    A peer that shows one of an authority we do not know is refused by TLS, so nobody is asked without need. Trusted are
    the box's own authority and those in `sip-ca.crt`. Holds for connections made from now on.
    """
    if not wanted:
        context.verify_mode = ssl.CERT_NONE
        return
    for name in ("ca.crt", "sip-ca.crt"):
        if (pki / name).exists():
            try:
                context.load_verify_locations(pki / name)
            except ssl.SSLError:
                log.error("authority unusable", file=name)
    context.verify_mode = ssl.CERT_OPTIONAL
