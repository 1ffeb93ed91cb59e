"""Identities and their credentials as messages, and what is read from messages of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.protobuf.duration_pb2 import Duration

from appliance.access import credentials
from appliance.access.certificates import CLIENT_LIFETIME
from appliance.access.identities import Identity, Role
from appliance.access.issued import Certificate
from appliance.access.register import Entry
from appliance.access.sessions import Session
from appliance.api import convert, identitynames, names
from appliance.api.errors import FieldInvalidError
from earwitness.v1 import access_pb2 as pb

DEFAULT_LIFETIME: Final = timedelta(days=90)
LEAST_LIFETIME: Final = timedelta(hours=1)
_ROLES: Final = {role: pb.IdentityRole.Value(f"IDENTITY_ROLE_{role.name}") for role in Role}
_READ: Final = {value: role for role, value in _ROLES.items()}


def entry(row: Entry) -> pb.Identity:
    """As it stands in lists."""
    made = pb.Identity(
        name=identitynames.identity(row.name),
        roles=_values(row.roles),
        tenant=names.tenant(row.tenant_id) if row.tenant_id else "",
        agent_number=row.agent,
        creator=identitynames.identity(row.creator) if row.creator else "",
        etag=row.etag,
    )
    if row.create_ns:
        made.create_time.CopyFrom(convert.timestamp(row.create_ns))
    if row.disable_ns is not None:
        made.disable_time.CopyFrom(convert.timestamp(row.disable_ns))
    return made


def whole(connection: sa.Connection, row: Entry) -> pb.Identity:
    """With what it may come in by."""
    made = entry(row)
    made.subjects.extend(
        pb.ProviderSubject(issuer=issuer, subject=subject)
        for issuer, subject in credentials.subjects_of(connection, row.name)
    )
    made.passphrase_enrolled = credentials.secrets_of(connection, row.name).hash is not None
    made.recovery_codes_left = credentials.recovery_left(connection, row.name)
    return made


def caller(identity: Identity) -> pb.Identity:
    """Also of somebody whom the identity provider alone knows."""
    return pb.Identity(
        name=identitynames.identity(identity.name),
        roles=_values(identity.roles),
        tenant=names.tenant(identity.tenant_id) if identity.tenant_id else "",
        agent_number=identity.agent,
    )


def certificate(row: Certificate) -> pb.ClientCertificate:
    made = pb.ClientCertificate(
        name=identitynames.certificate(row.name, row.fingerprint),
        create_time=convert.timestamp(row.create_ns),
        expire_time=convert.timestamp(row.expire_ns),
        renewed_from=identitynames.certificate(row.name, row.renewed_from) if row.renewed_from else "",
    )
    if row.revoke_ns is not None:
        made.revoke_time.CopyFrom(convert.timestamp(row.revoke_ns))
    if row.der:
        pem = x509.load_der_x509_certificate(row.der).public_bytes(serialization.Encoding.PEM)
        made.pem = pem.decode("ascii")
    return made


def session(row: Session) -> pb.Session:
    return pb.Session(
        name=identitynames.session(row.name, row.id),
        create_time=convert.timestamp(row.create_ns),
        use_time=convert.timestamp(row.seen_ns),
        expire_time=convert.timestamp(row.expire_ns),
    )


def roles(values: Sequence[int]) -> frozenset[Role]:
    """FieldInvalidError where one is none."""
    if not set(values) <= set(_READ):
        raise FieldInvalidError("should be roles", field="identity.roles")
    return frozenset(_READ[value] for value in values)  # type: ignore[index]


def lifetime(asked: Duration, absent: timedelta) -> timedelta:
    """How long a certificate shall hold; FieldInvalidError."""
    if asked == Duration():
        return min(absent, CLIENT_LIFETIME)
    seconds = asked.seconds + asked.nanos / 1e9
    if not LEAST_LIFETIME.total_seconds() <= seconds <= CLIENT_LIFETIME.total_seconds():
        raise FieldInvalidError(f"should be one hour to {CLIENT_LIFETIME.days} days", field="lifetime")
    return timedelta(seconds=seconds)


def merged(request: pb.UpdateIdentityRequest, before: Entry) -> Entry:
    """The identity with what was asked for in the place of what the mask names; FieldInvalidError."""
    paths = list(dict.fromkeys(request.update_mask.paths))
    fields = ("roles", "agent_number")
    if not paths:
        paths = [field.name for field, _ in request.identity.ListFields() if field.name in fields]
    elif paths == ["*"]:
        paths = list(fields)
    elif not set(paths) <= set(fields):
        raise FieldInvalidError("should name roles and agent_number, no more", field="update_mask")
    return replace(
        before,
        roles=roles(request.identity.roles) if "roles" in paths else before.roles,
        agent=request.identity.agent_number if "agent_number" in paths else before.agent,
    )


def _values(held: frozenset[Role]) -> list[pb.IdentityRole.ValueType]:
    return sorted(_ROLES[role] for role in held)
