"""Tokens of the hospital's identity provider: read, verified, mapped to an identity. Sans-IO: keys and time come in.

JSON Web Tokens (RFC 7519) signed by the provider (RFC 7515), as ID tokens of OpenID Connect or access tokens (RFC 9068).
What is said of a token before its signature holds is one sentence; after it, what is wrong is said.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from appliance.access.identities import BOX_ROLES, TENANT_ROLES, Identity, Role
from appliance.access.refusals import (
    ProviderUnavailableError,
    TokenExpiredError,
    TokenInvalidError,
    TokenUnmappedError,
)
from appliance.config.settings import OidcSettings

MAX_TOKEN: Final = 8192  # bytes
MAX_HEADER: Final = 1024
MAX_KEYS: Final = 64
MAX_GROUPS: Final = 1000
RSA_BITS: Final = range(2048, 8193)
RSA_EXPONENT_BITS: Final = 33  # a large exponent makes verifying slow
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_NAME = re.compile(r"[A-Za-z0-9@._+-]{1,40}")
_KEY_TYPES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


@dataclass(frozen=True)
class Head:
    """What a token says of itself before anything is verified: whom to ask for its key, no more."""

    issuer: str
    algorithm: str
    key_id: str


@dataclass(frozen=True)
class Key:
    """A public key of a provider, for one algorithm or any of its kind."""

    key_id: str
    kind: str
    algorithm: str
    jwk: Mapping[str, Any]


def head(token: str) -> Head:
    """TokenInvalidError where it is no signed token with an issuer."""
    wrong = TokenInvalidError("the token is not accepted")
    parts = token.split(".")
    if len(token) > MAX_TOKEN or len(parts) != 3 or len(parts[0]) > MAX_HEADER:
        raise wrong
    said, claims = _object(parts[0]), _object(parts[1])
    algorithm, key_id, kind = said.get("alg"), said.get("kid", ""), said.get("typ", "JWT")
    issuer = claims.get("iss")
    texts = (algorithm, key_id, kind, issuer)
    # crit (RFC 7515, 4.1.11): extensions that must be understood, and none is.
    if not all(isinstance(one, str) for one in texts) or "crit" in said or str(kind).lower() not in _TYPES:
        raise wrong
    return Head(str(issuer), str(algorithm), str(key_id))


def read_keys(document: bytes, provider: OidcSettings) -> tuple[Key, ...]:
    """The keys of a JWK set (RFC 7517) that may verify tokens here; those of other kinds and too weak ones are left out.

    ProviderUnavailableError where it is no set, or has no such key.
    """
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        raise unavailable(provider, "keys-malformed") from None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise unavailable(provider, "keys-malformed")
    keys = tuple(key for entry in entries if (key := _key(entry)) is not None)
    if not keys:
        raise unavailable(provider, "no-usable-key")
    return keys


def read_discovery(document: bytes, provider: OidcSettings) -> str:
    """Where the keys are, from the provider's configuration (OpenID Connect Discovery 1.0, section 4.3)."""
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        raise unavailable(provider, "configuration-malformed") from None
    if not isinstance(found, dict) or found.get("issuer") != provider.issuer:
        raise unavailable(provider, "other-issuer")
    where = found.get("jwks_uri")
    if not isinstance(where, str) or not where.startswith("https://") or len(where) > 2000:
        raise unavailable(provider, "keys-not-https")
    return where


def choose(keys: tuple[Key, ...], said: Head) -> Key | None:
    """The key a token names; without a name, the only one of its kind."""
    kind = _KEY_TYPES.get(said.algorithm[:2])
    fit = [key for key in keys if key.kind == kind and key.algorithm in ("", said.algorithm)]
    if said.key_id:
        fit = [key for key in fit if key.key_id == said.key_id]
    return fit[0] if len(fit) == 1 else None


def verify(provider: OidcSettings, key: Key, said: Head, token: str, now_s: float) -> dict[str, Any]:
    """The claims of a token that holds; TokenInvalidError, TokenExpiredError."""
    if said.algorithm not in provider.algorithms:
        raise TokenInvalidError("the token is not accepted")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            # Bound to the one algorithm: a public key is never taken for a secret.
            jwt.PyJWK(dict(key.jwk), algorithm=said.algorithm),
            algorithms=[said.algorithm],
            audience=provider.audience,
            issuer=provider.issuer,
            # Times are looked at below, by the clock that is given.
            options={
                "require": ["exp", "iat", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except jwt.InvalidAudienceError:
        raise TokenInvalidError("the token is meant for another audience", cause="audience") from None
    except (jwt.PyJWTError, ValueError, TypeError):
        raise TokenInvalidError("the token is not accepted") from None
    _check_times(provider, claims, now_s)
    return claims


def identity(provider: OidcSettings, claims: Mapping[str, Any]) -> Identity:
    """Who the groups in a token stand for here; TokenUnmappedError.

    The name is the provider's and that of the claim, with a colon, which no name of the box's own has; what has letters
    that names have not is known by a hash of the subject.
    """
    groups = _groups(claims, provider.groups_claim)
    grants = [one for one in provider.grants if one.group in groups]
    tenants = {one.tenant for one in grants}
    if not grants:
        raise TokenUnmappedError("the groups in the token give no role here")
    if len(tenants) > 1:
        raise TokenUnmappedError("the groups in the token give roles of more than one tenant")
    tenant_id = tenants.pop()
    roles = frozenset(Role(role) for one in grants for role in one.roles)
    if not roles <= (TENANT_ROLES if tenant_id else BOX_ROLES):
        raise AssertionError("the settings keep roles of tenants and of the box apart")
    said = claims.get(provider.name_claim)
    if not isinstance(said, str) or not _NAME.fullmatch(said):
        said = hashlib.sha256(str(claims["sub"]).encode()).hexdigest()[:32]
    return Identity(f"{provider.name}:{said}", roles, tenant_id)


def unavailable(provider: OidcSettings, cause: str) -> ProviderUnavailableError:
    return ProviderUnavailableError(
        "the identity provider's keys cannot be had", provider=provider.name, cause=cause
    )


def _check_times(provider: OidcSettings, claims: Mapping[str, Any], now_s: float) -> None:
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if value is None and name == "nbf":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
            raise TokenInvalidError("a time in the token is none", cause=name)
    expires, begins, issued = claims["exp"], claims.get("nbf"), claims["iat"]
    leeway = provider.leeway_s
    if now_s >= expires + leeway:
        raise TokenExpiredError("the token is over", cause="exp")
    if begins is not None and now_s < begins - leeway:
        raise TokenInvalidError("the token is not valid yet: do the clocks differ?", cause="nbf")
    if now_s < issued - leeway:
        raise TokenInvalidError("the token is of the future: do the clocks differ?", cause="iat")
    if now_s > issued + provider.max_age_s + leeway:
        raise TokenExpiredError("the token was issued too long ago", cause="iat")


def _key(entry: object) -> Key | None:
    if not isinstance(entry, dict) or "d" in entry or "k" in entry:
        return None  # a private key or a shared secret is no business of ours
    kind, key_id, algorithm = entry.get("kty"), entry.get("kid", ""), entry.get("alg", "")
    texts = (kind, key_id, algorithm)
    if not all(isinstance(one, str) for one in texts) or kind not in _KEY_TYPES.values():
        return None
    if entry.get("use", "sig") != "sig" or len(str(key_id)) > 300:
        return None
    guess = algorithm or {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}[str(kind)]
    try:
        public = jwt.PyJWK(entry, algorithm=guess).key
    except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
        return None
    if isinstance(public, RSAPublicKey) and (
        public.key_size not in RSA_BITS or public.public_numbers().e.bit_length() > RSA_EXPONENT_BITS
    ):
        return None
    return Key(str(key_id), str(kind), str(algorithm), entry)


def _groups(claims: Mapping[str, Any], path: str) -> set[str]:
    """The groups at a path of claims with dots between them; one text counts as its words."""
    found: Any = claims
    for name in [path] if path in claims else path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, str):
        found = found.split()
    if not isinstance(found, list) or len(found) > MAX_GROUPS:
        return set()
    return {one for one in found if isinstance(one, str)}


def _object(part: str) -> dict[str, Any]:
    wrong = TokenInvalidError("the token is not accepted")
    try:
        raw = base64.b64decode(part.encode("ascii") + b"=" * (-len(part) % 4), b"-_", validate=True)
        found = json.loads(raw)
    except (binascii.Error, UnicodeError, ValueError, RecursionError):
        raise wrong from None
    if not isinstance(found, dict):
        raise wrong
    return found
