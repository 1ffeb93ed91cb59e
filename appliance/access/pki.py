"""The box's own certificate authority, in `pki/` of the data directory: made at the first start, renewed in time.

    ca.crt, ca.key              the authority; what clients and peers are given to trust is ca.crt
    server.crt, server.key      the gRPC API
    sip.crt, sip.key            SIP over TLS
    clients/<name>.crt, .key    client certificates issued here; admin is made at the first start

Keys have mode 0600. A pair is written key first, certificate last, each atomically: a certificate that is there has its
key, and whoever waits for a certificate may read both. Neither takes its place before both are on disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.access import certificates, naming
from appliance.access.certificates import Pair
from appliance.access.errors import AuthorityError, IdentityError
from appliance.access.requested import PublicKey
from appliance.config.layout import Layout
from appliance.config.settings import Settings
from appliance.process.wholefile import write_together

log = structlog.get_logger()

ADMIN: Final = "admin"
_CLIENT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_DNS_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


@dataclass(frozen=True)
class Issued:
    """A client certificate that was issued."""

    name: str
    fingerprint: str
    expire_ns: int
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Ensured:
    """What `ensure` left: the client certificate `admin`, and the names of pairs that were due and stay as they were."""

    admin: Issued
    kept: tuple[str, ...]


def ensure(layout: Layout, settings: Settings, now: datetime | None = None) -> Ensured:
    """Make what is missing, renew what ends within 30 days, is not valid yet, or no longer names the box's addresses; gives
    `admin`.

    Doing it again changes nothing. A pair that is there and cannot be renewed now stays. AuthorityError where the authority
    lost its key: nothing is made anew then, since every client trusts the old one. OSError where there is no pair yet.
    """
    now = now or datetime.now(UTC)
    kept: list[str] = []

    def hold(folder: Path, name: str, names: list[str], make: Callable[[], Pair]) -> Pair:
        before = _load(folder, name)
        if before is not None and not _is_due(before.certificate, names, now):
            return before
        try:
            made = make()
            _store(folder, name, made)
        except (AuthorityError, OSError) as error:
            if before is None:
                raise
            log.error("certificate not renewed", name=name, error=type(error).__name__)
            kept.append(name)
            return before
        return made

    with _locked(layout.pki):
        authority = _authority(layout.pki, now)
        for name, configured in (
            ("server", [settings.api.address]),
            ("sip", [settings.sip.address, settings.sip.advertised_address]),
        ):
            names = _alternatives(configured)
            hold(layout.pki, name, names, partial(certificates.make_server, authority, names[0], names, now))
        clients = layout.pki / "clients"
        clients.mkdir(mode=0o700, exist_ok=True)
        admin = hold(clients, ADMIN, [], partial(certificates.make_client, authority, ADMIN, now))
        return Ensured(_issued(clients, ADMIN, admin.certificate), tuple(kept))


def issue(
    layout: Layout,
    name: str,
    lifetime: timedelta = certificates.CLIENT_LIFETIME,
    now: datetime | None = None,
) -> Issued:
    """Issue a client certificate, into `pki/clients`. It is good for nothing until it is enrolled (`identities.enroll`).

    IdentityError where the name has not the form a-z, 0-9, dot, dash, underscore, or is taken.
    """
    if not _CLIENT_NAME.fullmatch(name):
        raise IdentityError("a client's name has 1 to 64 of a-z, 0-9, dot, dash, underscore", field="name")
    now = now or datetime.now(UTC)
    with _locked(layout.pki):
        authority = _load(layout.pki, "ca")
        if authority is None:
            raise AuthorityError("the certificate authority is not there yet: start the box once")
        clients = layout.pki / "clients"
        clients.mkdir(mode=0o700, exist_ok=True)
        if (clients / f"{name}.crt").exists():
            raise IdentityError("a client of this name has a certificate", field="name")
        pair = certificates.make_client(authority, name, now, lifetime)
        _store(clients, name, pair)
        return _issued(clients, name, pair.certificate)


def certify(
    layout: Layout, identity: str, key: PublicKey, lifetime: timedelta, now: datetime
) -> x509.Certificate:
    """A client certificate for a key that stays with its client. `identity`: the key of whose it is. AuthorityError."""
    tenant_id, name = naming.parts(identity)
    with _locked(layout.pki):
        authority = _load(layout.pki, "ca")
    if authority is None:
        raise AuthorityError("the certificate authority is not there yet: start the box once")
    return certificates.certify(authority, name, key, now, lifetime, tenant_id)


def present(layout: Layout) -> dict[str, x509.Certificate]:
    """The certificates in the directory: ca, server, sip, clients/<name>. AuthorityError where one cannot be read."""
    found = {}
    for path in sorted([*layout.pki.glob("*.crt"), *(layout.pki / "clients").glob("*.crt")]):
        label = str(path.relative_to(layout.pki).with_suffix(""))
        try:
            found[label] = x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError as error:
            raise AuthorityError("a certificate cannot be read", file=f"{label}.crt") from error
    return found


def _authority(folder: Path, now: datetime) -> Pair:
    authority = _load(folder, "ca")
    if authority is None:
        authority = certificates.make_authority(f"{socket.gethostname()} {secrets.token_hex(4)}", now)
        _store(folder, "ca", authority)
    return authority


def _is_due(certificate: x509.Certificate, names: list[str], now: datetime) -> bool:
    """Ends soon, is for too few names, or is not valid yet: made while the clock was ahead."""
    return (
        certificate.not_valid_after_utc - now < certificates.RENEW_BEFORE
        or certificate.not_valid_before_utc > now
        or not certificates.alternatives_of(certificate) >= set(names)
    )


def _alternatives(configured: list[str]) -> list[str]:
    """What a server is reached by: this host's name, loopback, and the configured addresses."""
    names = [socket.gethostname(), "localhost", "127.0.0.1", "::1", *configured]
    found = []
    for name in dict.fromkeys(name.strip("[]") for name in names if name):
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            if _DNS_NAME.fullmatch(name):
                found.append(name)
        else:
            if not address.is_unspecified:  # 0.0.0.0 is listened on, never reached
                found.append(str(address))
    return list(dict.fromkeys(found))


def _load(folder: Path, name: str) -> Pair | None:
    certificate_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
    if not certificate_path.exists():
        # A key alone is what a stop between the two writes leaves; nobody has seen a certificate of it.
        return None
    if not key_path.exists():
        if name == "ca":
            raise AuthorityError(
                "ca.crt is there, but ca.key is not: put it back from where it is kept", file="ca.key"
            )
        return None
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except ValueError as error:
        raise AuthorityError("a certificate or key cannot be read", file=f"{name}.crt") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        if name == "ca":
            raise AuthorityError("ca.key does not belong to ca.crt", file="ca.key")
        return None  # a stop between the two writes of a renewal; made again
    return Pair(certificate, key)


def _store(folder: Path, name: str, pair: Pair) -> None:
    write_together(
        (folder / f"{name}.key", pair.key_pem, 0o600), (folder / f"{name}.crt", pair.certificate_pem, 0o644)
    )


def _issued(clients: Path, name: str, certificate: x509.Certificate) -> Issued:
    return Issued(
        name,
        certificates.fingerprint(certificate),
        certificates.expire_ns(certificate),
        clients / f"{name}.crt",
        clients / f"{name}.key",
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time, over all processes: control renews while somebody issues."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
