"""Tokens of a real identity provider: discovered, verified, rotated, late, early, forged; and a box that takes them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from embedded_kit import started
from glewlwyd import CLIENT, Glewlwyd, signing_key

import earwitness
from appliance.access import oidc
from appliance.access.identities import Role
from appliance.access.keyring import FRESH_S, KNOCK_S
from appliance.access.provider import Provider
from appliance.access.refusals import ProviderUnavailableError, TokenExpiredError, TokenInvalidError
from appliance.config.settings import OidcSettings
from earwitness.v1 import access_pb2 as pb

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

GROUP = "recordings-desk"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Glewlwyd]:
    running = Glewlwyd(tmp_path_factory.mktemp("oidc") / "glewlwyd", GROUP)
    yield running
    running.stop()


class Clock:
    """Seconds that do not jump, moved by the test."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def settings(provider: Glewlwyd, **more: object) -> OidcSettings:
    return OidcSettings.model_validate(
        {
            "name": "trust",
            "issuer": provider.issuer,
            "audience": CLIENT,
            "ca": provider.ca,
            "grants": [{"group": GROUP, "roles": ["support"]}],
            **more,
        }
    )


class Side:
    """Our side of the provider, with a clock of its own."""

    def __init__(self, provider: Glewlwyd, **more: object) -> None:
        self.clock = Clock()
        self._loop = asyncio.new_event_loop()
        self._ours = Provider(settings(provider, **more), self.clock)

    def claims(self, token: str, ahead_s: float = 0.0) -> dict[str, object]:
        async def ask() -> dict[str, object]:
            found = await self._ours.claims(oidc.head(token), token, time.time() + ahead_s)
            if self._ours._fetching is not None:
                await self._ours._fetching
            return found

        return self._loop.run_until_complete(ask())

    def close(self) -> None:
        self._loop.run_until_complete(self._ours.close())
        self._loop.close()


@pytest.fixture
def side(provider: Glewlwyd) -> Iterator[Side]:
    made = Side(provider)
    yield made
    made.close()


def test_discovery_keys_and_both_kinds_of_token(provider: Glewlwyd, side: Side) -> None:
    identity_token, access_token = provider.tokens()
    claims = side.claims(identity_token)
    assert claims["iss"] == provider.issuer and claims["groups"] == GROUP
    assert oidc.identity(settings(provider), claims).roles == {Role.SUPPORT}
    audience = jwt.decode(access_token, options={"verify_signature": False})["aud"]
    other = Side(provider, audience=audience)
    assert other.claims(access_token)["scope"] == "openid desk"
    with pytest.raises(TokenInvalidError, match="another audience"):
        side.claims(access_token)
    with pytest.raises(TokenInvalidError, match="another audience"):
        other.claims(identity_token)
    other.close()


@pytest.mark.parametrize("kind", ["PS256", "ES256", "EdDSA", "RS256"])
def test_every_algorithm_and_rotation(provider: Glewlwyd, kind: str) -> None:
    side = Side(provider)
    before, _ = provider.tokens()
    side.claims(before)
    fresh = signing_key(kind, f"next-{kind}")
    provider.rotate(fresh)
    after, _ = provider.tokens()
    assert jwt.get_unverified_header(after)["alg"] == kind
    with pytest.raises(TokenInvalidError):
        side.claims(after)  # fetched a moment ago: no knocking
    side.clock.now_s += KNOCK_S
    assert side.claims(after)["groups"] == GROUP
    with pytest.raises(TokenInvalidError):
        side.claims(before)  # its key was withdrawn
    side.close()


def test_the_provider_is_stopped_and_comes_back(provider: Glewlwyd) -> None:
    side = Side(provider, usable_s=3600)
    token, _ = provider.tokens()
    side.claims(token)
    provider.stop()
    try:
        side.clock.now_s += FRESH_S + 1
        assert side.claims(token), "the last keys go on, and nobody waits"
        assert side._ours.silent_s == FRESH_S + 1
        side.clock.now_s += 3600
        with pytest.raises(ProviderUnavailableError) as caught:
            side.claims(token)
        assert caught.value.data["provider"] == "trust"
        never = Side(provider)
        with pytest.raises(ProviderUnavailableError):
            never.claims(token)
        never.close()
    finally:
        provider.start()
    side.clock.now_s += KNOCK_S
    assert side.claims(token) and side._ours.silent_s is None
    side.close()


def test_clocks(provider: Glewlwyd, side: Side) -> None:
    token, _ = provider.tokens()
    assert side.claims(token, -20) and side.claims(token, 3600 + 20)
    with pytest.raises(TokenExpiredError):
        side.claims(token, 3600 + 40)
    with pytest.raises(TokenInvalidError, match="of the future"):
        side.claims(token, -40)


def test_another_issuer_and_another_authority(provider: Glewlwyd, tmp_path: Path) -> None:
    token, _ = provider.tokens()
    for more in ({"issuer": provider.issuer + "/"}, {"ca": _other_authority(tmp_path)}):
        side = Side(provider, **more)
        with pytest.raises(ProviderUnavailableError):
            side.claims(token)
        side.close()


def test_forged_with_its_own_public_key(provider: Glewlwyd, side: Side) -> None:
    provider.rotate(signing_key("RS256", "last"))
    token, _ = provider.tokens()
    side.claims(token)
    public = jwt.PyJWK(provider.keys()[0]).key
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = token.split(".")[1]
    for algorithm in ("HS256", "none", "RS384"):
        head = (
            base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "last"}).encode())
            .decode()
            .rstrip("=")
        )
        signature = hmac.digest(pem, f"{head}.{claims}".encode(), hashlib.sha256)
        forged = f"{head}.{claims}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
        with pytest.raises(TokenInvalidError):
            side.claims(forged)


def test_a_box_that_takes_its_tokens(provider: Glewlwyd, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        f'[api]\ntoken_port = 0\n[[access.oidc]]\nname = "trust"\nissuer = "{provider.issuer}"\n'
        f'audience = "{CLIENT}"\nca = "{provider.ca}"\n'
        f'[[access.oidc.grants]]\ngroup = "{GROUP}"\nroles = ["support"]\n'
    )
    token, access_token = provider.tokens()
    with started(tmp_path / "data", "--config", str(site)) as box:
        ca = box.layout.pki / "ca.crt"
        with earwitness.connect(box.addresses["tokens"], ca, token=token) as client:
            who = client.access.GetCaller(pb.GetCallerRequest()).identity
            assert who.name.startswith("identities/trust:") and who.roles == [pb.IDENTITY_ROLE_SUPPORT]
            with pytest.raises(grpc.RpcError) as caught:
                client.access.ListIdentities(pb.ListIdentitiesRequest())
            assert earwitness.details(caught.value).reason == "METHOD_DENIED"
            folder = box.layout.pki / "clients"
            with earwitness.connect(
                box.addresses["api"], ca, folder / "admin.crt", folder / "admin.key"
            ) as admin:
                made = pb.Identity(name="identities/ada", roles=[pb.IDENTITY_ROLE_OPERATOR])
                admin.access.CreateIdentity(pb.CreateIdentityRequest(identity=made))
                subject = pb.ProviderSubject(
                    issuer=provider.issuer,
                    subject=jwt.decode(token, options={"verify_signature": False})["sub"],
                )
                admin.access.AddSubject(pb.AddSubjectRequest(name="identities/ada", subject=subject))
                assert client.access.ListIdentities(pb.ListIdentitiesRequest()).identities
                admin.access.DisableIdentity(pb.DisableIdentityRequest(name="identities/ada"))
            with pytest.raises(grpc.RpcError) as caught:
                client.access.GetCaller(pb.GetCallerRequest())
            assert earwitness.details(caught.value).reason == "IDENTITY_DISABLED"
        with earwitness.connect(box.addresses["tokens"], ca, token=access_token) as client:
            with pytest.raises(grpc.RpcError) as caught:
                client.access.GetCaller(pb.GetCallerRequest())
            assert earwitness.details(caught.value).reason == "TOKEN_INVALID"


def _other_authority(folder: Path) -> Path:
    from datetime import UTC, datetime

    from appliance.access import certificates

    path = folder / "other.crt"
    path.write_bytes(certificates.make_authority("other", datetime.now(UTC)).certificate_pem)
    return path
