"""Tokens of an identity provider: keys made here, every way in which one may be wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from appliance.access import oidc
from appliance.access.identities import Role
from appliance.access.keyring import FRESH_S, KNOCK_S, Keyring, Step
from appliance.access.refusals import (
    ProviderUnavailableError,
    TokenExpiredError,
    TokenInvalidError,
    TokenUnmappedError,
)
from appliance.config.settings import ConfigError, OidcSettings, load

NOW = 1_764_000_000
TENANT = "a" * 25 + "b"
KEYS = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
KEYS["PS256"] = KEYS["RS256"]
PROVIDER = OidcSettings(
    name="trust",
    issuer="https://id.trust.example/realm",
    audience="earwitness",
    name_claim="preferred_username",
    grants=[
        {"group": "recordings", "tenant": TENANT, "roles": ["records-officer"]},
        {"group": "desk", "tenant": TENANT, "roles": ["supervisor", "agent"]},
        {"group": "other", "tenant": "b" * 26, "roles": ["auditor"]},
        {"group": "estate", "roles": ["operator"]},
    ],
)


def jwk(algorithm: str, **more: object) -> dict:
    made = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(KEYS[algorithm].public_key()))
    made.pop("key_ops", None)
    return {**made, "kid": algorithm, "use": "sig", "alg": algorithm, **more}


def document(*keys: dict) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


ALL = oidc.read_keys(document(*map(jwk, KEYS)), PROVIDER)


def claims(**more: object) -> dict:
    made = {
        "iss": PROVIDER.issuer,
        "aud": "earwitness",
        "sub": "248289761001",
        "preferred_username": "ada",
        "groups": ["recordings"],
        "iat": NOW,
        "exp": NOW + 300,
        **more,
    }
    return {name: value for name, value in made.items() if value is not None}


def token(algorithm: str = "ES256", headers: dict | None = None, **more: object) -> str:
    said = {"kid": algorithm, **(headers or {})}
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(claims(**more), KEYS[algorithm], algorithm=algorithm, headers=said)


def accept(text: str, keys: tuple = ALL, provider: OidcSettings = PROVIDER, now_s: float = NOW) -> dict:
    said = oidc.head(text)
    key = oidc.choose(keys, said)
    if key is None:
        raise TokenInvalidError("no key")
    return oidc.verify(provider, key, said, text, now_s)


@pytest.mark.parametrize("algorithm", KEYS)
def test_what_holds(algorithm):
    assert accept(token(algorithm))["sub"] == "248289761001"
    assert accept(token(algorithm, headers={"typ": "at+jwt"}))
    assert accept(token(algorithm, aud=["another", "earwitness"]))


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"exp": NOW - 31}, TokenExpiredError),
        ({"exp": None}, TokenInvalidError),
        ({"exp": "soon"}, TokenInvalidError),
        ({"exp": True}, TokenInvalidError),
        ({"exp": 1e300}, TokenInvalidError),
        ({"exp": float("nan")}, TokenInvalidError),
        ({"nbf": NOW + 31}, TokenInvalidError),
        ({"iat": NOW + 31}, TokenInvalidError),
        ({"iat": NOW - 86400 - 31}, TokenExpiredError),
        ({"iat": None}, TokenInvalidError),
        ({"aud": "another"}, TokenInvalidError),
        ({"aud": []}, TokenInvalidError),
        ({"aud": None}, TokenInvalidError),
        ({"iss": "https://id.trust.example/realm/"}, TokenInvalidError),
        ({"iss": "https://evil.example"}, TokenInvalidError),
        ({"sub": None}, TokenInvalidError),
    ],
)
def test_what_does_not_hold(more, error):
    with pytest.raises(error):
        accept(token(**more))


def test_clocks_may_differ_by_the_leeway():
    assert accept(token(exp=NOW - 29, iat=NOW - 300))
    assert accept(token(nbf=NOW + 29, iat=NOW + 29))


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "JOSE", 7])
def test_tokens_of_another_type(kind):
    with pytest.raises(TokenInvalidError):
        accept(token(headers={"typ": kind}))


def test_an_extension_that_must_be_understood():
    with pytest.raises(TokenInvalidError):
        oidc.head(raw({"alg": "ES256", "crit": ["exp"]}, claims(), b"x"))


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def raw(header: dict, body: dict, signature: bytes) -> str:
    return f"{part(header)}.{part(body)}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
def test_no_algorithm(name):
    for signature in (b"", b"x"):
        with pytest.raises(TokenInvalidError):
            accept(raw({"alg": name, "kid": "ES256"}, claims(), signature))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret(algorithm):
    """The confusion of algorithms: HS256 with the public key, in every spelling of it, as the secret."""
    public = KEYS[algorithm].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), json.dumps(jwk(algorithm)).encode()):
        head = {"alg": "HS256", "kid": algorithm}
        body = f"{part(head)}.{part(claims())}"
        forged = raw(head, claims(), hmac.digest(secret, body.encode(), hashlib.sha256))
        with pytest.raises(TokenInvalidError):
            accept(forged)
        with pytest.raises(TokenInvalidError):  # even where somebody would choose the key by its name alone
            oidc.verify(
                PROVIDER, next(k for k in ALL if k.key_id == algorithm), oidc.head(forged), forged, NOW
            )


def test_a_key_in_the_token_is_not_believed():
    mine = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(mine.public_key()))
    for headers in (
        {"jwk": public, "kid": "ES256"},
        {"jku": "https://evil.example", "kid": "ES256"},
        {"x5u": "https://e"},
    ):
        forged = jwt.encode(claims(), mine, algorithm="ES256", headers=headers)
        with pytest.raises(TokenInvalidError):
            accept(forged)


def test_an_algorithm_that_the_site_does_not_allow():
    provider = PROVIDER.model_copy(update={"algorithms": ("ES256",)})
    assert accept(token("ES256"), provider=provider)
    with pytest.raises(TokenInvalidError):
        accept(token("RS256"), provider=provider)


def test_one_flipped_bit_anywhere_in_claims_or_signature():
    good = token("EdDSA")
    head, body, signature = good.split(".")
    for place in range(0, len(body), 7):
        other = "B" if body[place] == "A" else "A"
        with pytest.raises(TokenInvalidError):
            accept(f"{head}.{body[:place]}{other}{body[place + 1 :]}.{signature}")
    with pytest.raises(TokenInvalidError):
        accept(f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}")


@pytest.mark.parametrize(
    "text",
    ["", "a", "a.b", "a.b.c", "....", "a.b.c.d", "ä.b.c", "e30.e30.", "W10.e30.x", "x" * 9000, part({"a": 1}) * 3,
     f"{base64.urlsafe_b64encode(b'[' * 700).decode()}.e30.x"],
)  # fmt: skip
def test_what_is_no_token(text):
    with pytest.raises(TokenInvalidError):
        oidc.head(text)


def test_keys_that_are_left_out():
    weak = rsa.generate_private_key(65537, 1024).public_key()
    entries = [
        json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(weak)) | {"kid": "weak"},
        jwk("ES256", use="enc", kid="enc"),
        jwk("ES256", d="AAAA", kid="private"),
        {"kty": "oct", "k": "AAAA", "kid": "secret"},
        {"kty": "EC", "crv": "P-256", "x": "!", "y": "!", "kid": "broken"},
        {"kty": 7},
        "nonsense",
    ]
    kept = oidc.read_keys(document(*entries, jwk("EdDSA")), PROVIDER)
    assert [key.key_id for key in kept] == ["EdDSA"]
    with pytest.raises(ProviderUnavailableError) as caught:
        oidc.read_keys(document(*entries), PROVIDER)
    assert caught.value.data == {"provider": "trust", "cause": "no-usable-key"}


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b'{"keys": 7}', b"\xff", b"[" * 200_000, b'{"keys": [' + b"{}," * 99 + b"{}]}"]
)
def test_what_is_no_key_set(raw):
    with pytest.raises(ProviderUnavailableError):
        oidc.read_keys(raw, PROVIDER)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"issuer": "https://evil.example", "jwks_uri": "https://id.trust.example/keys"}, "other-issuer"),
        ({"issuer": PROVIDER.issuer, "jwks_uri": "http://id.trust.example/keys"}, "keys-not-https"),
        ({"issuer": PROVIDER.issuer}, "keys-not-https"),
        ([], "other-issuer"),
    ],
)
def test_a_configuration_that_is_not_believed(said, cause):
    with pytest.raises(ProviderUnavailableError) as caught:
        oidc.read_discovery(json.dumps(said).encode(), PROVIDER)
    assert caught.value.data["cause"] == cause


def test_without_a_key_id_the_only_key_of_its_kind_is_taken():
    assert accept(token("EdDSA", headers={"kid": None}))
    twice = (*ALL, *oidc.read_keys(document(jwk("EdDSA", kid="second")), PROVIDER))
    with pytest.raises(TokenInvalidError):
        accept(token("EdDSA", headers={"kid": None}), keys=twice)


def test_groups_become_roles_of_one_tenant():
    found = oidc.identity(PROVIDER, claims(groups=["recordings", "desk", "unknown"]))
    assert (found.name, found.tenant_id) == ("trust:ada", TENANT)
    assert found.roles == {Role.RECORDS_OFFICER, Role.SUPERVISOR, Role.AGENT}
    assert oidc.identity(PROVIDER, claims(groups="estate x")).roles == {Role.OPERATOR}
    for groups in (
        [],
        None,
        ["unknown"],
        7,
        ["recordings", "other"],
        ["recordings", "estate"],
        ["desk"] * 1001,
    ):
        with pytest.raises(TokenUnmappedError):
            oidc.identity(PROVIDER, claims(groups=groups))


def test_groups_in_an_object():
    provider = PROVIDER.model_copy(update={"groups_claim": "realm_access.roles"})
    assert oidc.identity(provider, claims(realm_access={"roles": ["desk"]})).tenant_id == TENANT


@pytest.mark.parametrize("name", ["Ada Lovelace", "a" * 41, "", None, 7, "ada\n", "x:y"])
def test_a_name_with_other_letters_is_a_hash_of_the_subject(name):
    found = oidc.identity(PROVIDER, claims(preferred_username=name)).name
    assert found == "trust:" + hashlib.sha256(b"248289761001").hexdigest()[:32] and len(found) <= 64


def test_roles_of_tenants_and_of_the_box_are_apart_in_the_site_file(tmp_path):
    site = tmp_path / "site.toml"
    for tenant, role in ((TENANT, "operator"), ("", "auditor")):
        site.write_text(
            f'[[access.oidc]]\nname="t"\nissuer="https://a.example"\naudience="x"\n'
            f'grants=[{{group="g", tenant="{tenant}", roles=["{role}"]}}]\n'
        )
        with pytest.raises(ConfigError, match="no role of"):
            load(site, default_data=tmp_path)


class TestKeyring:
    said = oidc.head(token("ES256"))
    other = oidc.head(token("ES256", headers={"kid": "rotated"}))

    def ring(self) -> Keyring:
        ring = Keyring(3600.0)
        ring.trying(0.0)
        ring.fetched(ALL, 0.0)
        return ring

    def test_first_token_fetches(self):
        assert Keyring(3600.0).decide(self.said, 5.0).step is Step.FETCH

    def test_a_known_key_is_used_and_refreshed_in_the_background(self):
        ring = self.ring()
        assert ring.decide(self.said, FRESH_S).step is Step.USE
        found = ring.decide(self.said, FRESH_S + 1)
        assert found.step is Step.REFRESH and found.key is not None
        ring.trying(FRESH_S + 1)
        assert ring.decide(self.said, FRESH_S + 2).step is Step.USE, "not again at once"

    def test_an_unknown_key_knocks_seldom(self):
        ring, knocks = self.ring(), 0
        for second in range(1, 601):
            if ring.decide(self.other, float(second)).step is Step.FETCH:
                knocks += 1
                ring.trying(float(second))
                ring.fetched(ALL, float(second))
            else:
                assert ring.decide(self.other, float(second)).step is Step.UNKNOWN
        assert knocks == 600 / KNOCK_S

    def test_a_provider_that_is_down(self):
        ring = self.ring()
        ring.trying(1000.0)
        ring.failed()
        assert ring.decide(self.said, 1001.0).step is Step.USE and ring.stale_since_s == 0.0
        assert ring.decide(self.other, 1001.0).step is Step.UNAVAILABLE
        assert ring.decide(self.said, 3601.0).step is Step.FETCH, "too old to be used"
        ring.trying(3601.0)
        ring.failed()
        found = ring.decide(self.said, 3602.0)
        assert (found.step, found.retry_s) == (Step.UNAVAILABLE, KNOCK_S - 1)
        ring.trying(3700.0)
        ring.fetched(ALL, 3700.0)
        assert ring.decide(self.said, 3701.0).step is Step.USE and ring.stale_since_s is None

    def test_a_withdrawn_key_counts_no_more(self):
        ring = self.ring()
        ring.trying(400.0)
        ring.fetched(tuple(key for key in ALL if key.key_id != "ES256"), 400.0)
        assert ring.decide(self.said, 401.0).step is Step.UNKNOWN
