"""Fetching a provider's keys from a server that means no good, or none at all."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import json
import ssl
import threading
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.access import certificates, oidc, provider
from appliance.access.keyring import KNOCK_S
from appliance.access.provider import Provider
from appliance.access.refusals import ProviderUnavailableError, TokenInvalidError
from appliance.config.settings import ConfigError, OidcSettings

NOW = 1_764_000_000
KEY = ec.generate_private_key(ec.SECP256R1())
JWK = {**json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(KEY.public_key())), "kid": "one"}
KEYS = "/keys"
CONFIGURATION = "/.well-known/openid-configuration"


class Server:
    """An HTTPS server whose answers a test writes: path by a function of the request's handler."""

    def __init__(self, folder) -> None:
        now = datetime.now(UTC)
        authority = certificates.make_authority("trust", now)
        pair = certificates.make_server(authority, "localhost", ["localhost", "127.0.0.1"], now)
        for name, content in (
            ("ca", authority.certificate_pem),
            ("crt", pair.certificate_pem),
            ("key", pair.key_pem),
        ):
            (folder / name).write_bytes(content)
        self.asked: list[str] = []
        self.answers = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                outer.answers[self.path](self)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "crt", folder / "key")
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.issuer = f"https://localhost:{self._server.server_port}"
        self.ca = folder / "ca"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.answers[CONFIGURATION] = body({"issuer": self.issuer, "jwks_uri": self.issuer + KEYS})
        self.answers[KEYS] = body({"keys": [JWK]})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def body(value, status: int = 200, **headers: str):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()

    def answer(handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(raw)))
        for name, text in headers.items():
            handler.send_header(name.replace("_", "-"), text)
        handler.end_headers()
        handler.wfile.write(raw)

    return answer


def drip(handler) -> None:
    """A byte now and then, without end: each is in time, the whole never is."""
    handler.send_response(200)
    handler.end_headers()
    stop = threading.Event()
    try:
        while not stop.wait(0.02):
            handler.wfile.write(b" ")
    except OSError:
        pass


def flood(handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(10_000):
            handler.wfile.write(b" " * 65536)
    except OSError:
        pass


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    yield made
    made.close()


def settings(server, **more) -> OidcSettings:
    return OidcSettings(name="trust", issuer=server.issuer, audience="box", ca=server.ca, **more)


def token(server, key_id: str = "one") -> str:
    claims = {"iss": server.issuer, "aud": "box", "sub": "1", "iat": NOW, "exp": NOW + 60}
    return jwt.encode(claims, KEY, algorithm="ES256", headers={"kid": key_id})


def ask(server, times: int = 1, key_id: str = "one", clock=lambda: 1000.0):
    text = token(server, key_id)

    async def run():
        ours = Provider(settings(server), clock)
        found = await asyncio.gather(
            *(ours.claims(oidc.head(text), text, NOW) for _ in range(times)), return_exceptions=True
        )
        await ours.close()
        return found

    return asyncio.run(run())


def test_keys_are_fetched_once_for_many_at_a_time(server):
    found = ask(server, 50)
    assert [one["sub"] for one in found] == ["1"] * 50
    assert server.asked == [CONFIGURATION, KEYS]


def test_made_up_keys_knock_once(server):
    found = ask(server, 50, key_id="made-up")
    assert all(isinstance(one, TokenInvalidError) for one in found)
    assert server.asked == [CONFIGURATION, KEYS] and KNOCK_S >= 10


@pytest.mark.parametrize("path", [CONFIGURATION, KEYS])
@pytest.mark.parametrize(
    "answer",
    [
        body(b"", 302, Location="https://localhost:1/elsewhere"),
        body(b"", 500),
        body(b"<html>sign in</html>"),
        body(gzip.compress(b'{"keys": []}' + b" " * 10_000_000), Content_Encoding="gzip"),
        body(b"x", X_Long="y" * 100_000),
        body({"issuer": "https://evil.example", "jwks_uri": "https://evil.example/keys"}),
        flood,
        drip,
    ],
)
def test_answers_that_are_none(server, monkeypatch, path, answer):
    monkeypatch.setattr(provider, "FETCH_S", 1.0)
    server.answers[path] = answer
    (found,) = ask(server)
    assert isinstance(found, ProviderUnavailableError) and found.data["provider"] == "trust"
    assert "/elsewhere" not in server.asked


def test_a_slow_provider_keeps_nobody_else_waiting(server, monkeypatch):
    monkeypatch.setattr(provider, "FETCH_S", 1.0)
    server.answers[KEYS] = drip
    text = token(server)

    async def run() -> int:
        ours = Provider(settings(server), lambda: 1000.0)
        waiting = asyncio.create_task(ours.claims(oidc.head(text), text, NOW))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
        with pytest.raises(ProviderUnavailableError):
            await waiting
        await ours.close()
        return turns

    assert asyncio.run(run()) > 10, "the loop went round all the while"


def test_a_caller_that_goes_away_does_not_end_the_fetch_of_others(server):
    text = token(server)

    async def run():
        ours = Provider(settings(server), lambda: 1000.0)
        first, second = (asyncio.create_task(ours.claims(oidc.head(text), text, NOW)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        found = await second
        await ours.close()
        return found

    assert asyncio.run(run())["sub"] == "1"


def test_an_authority_that_is_none(server, tmp_path):
    (tmp_path / "no.pem").write_text("nonsense")
    for path in (tmp_path / "no.pem", tmp_path / "absent.pem"):
        with pytest.raises(ConfigError) as caught:
            Provider(settings(server).model_copy(update={"ca": path}))
        assert caught.value.data["key"] == "access.oidc.ca"
