"""Glewlwyd, an identity provider from Debian (OpenID Connect), on loopback over HTTPS, with a database of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import sqlite3
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from appliance.access import certificates

TABLES = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
CLIENT, SECRET = "earwitness", "a secret of the client"  # the client's name is the audience of ID tokens
PASSWORD = "a password of ada"
START_S = 10.0


def signing_key(kind: str, key_id: str) -> dict[str, Any]:
    """A private key (JWK) to sign with RS256, PS256, ES256 or EdDSA."""
    made = {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "PS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[kind]()
    jwk: dict[str, Any] = json.loads(jwt.get_algorithm_by_name(kind).to_jwk(made))  # type: ignore[arg-type]
    jwk.pop("key_ops", None)
    return {**jwk, "kid": key_id, "alg": kind, "use": "sig"}


class Glewlwyd:
    """The provider. `group` is what the groups claim of ada's ID tokens says."""

    def __init__(self, folder: Path, group: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._group = group
        now = datetime.now(UTC)
        authority = certificates.make_authority("trust", now)
        server = certificates.make_server(authority, "localhost", ["localhost", "127.0.0.1"], now)
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(authority.certificate_pem)
        (folder / "server.key").write_bytes(server.key_pem)
        (folder / "server.crt").write_bytes(server.certificate_pem)
        with contextlib.closing(sqlite3.connect(folder / "glewlwyd.db")) as database:
            database.executescript(TABLES.read_text("utf-8"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.issuer = f"https://localhost:{self.port}/api/oidc"
        self._process: subprocess.Popen[bytes] | None = None
        self._configure()
        self.start()
        self._fill()

    def start(self) -> None:
        """Until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["glewlwyd", "-c", str(self._folder / "glewlwyd.conf")], stdout=log, stderr=log
            )
        tls = ssl.create_default_context(cafile=self.ca)
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=tls), urllib.request.HTTPCookieProcessor()
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._call("POST", "/auth/", {"username": "admin", "password": "password"})
                return
            except OSError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < deadline, "glewlwyd does not answer"
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def rotate(self, *keys: dict[str, Any]) -> None:
        """Sign with the first of these from now on; all are published."""
        with contextlib.suppress(AssertionError):  # the first time there is none
            self._call("DELETE", "/mod/plugin/oidc")
        self._call(
            "POST",
            "/mod/plugin/",
            {
                "module": "oidc",
                "name": "oidc",
                "display_name": "oidc",
                "parameters": {
                    "iss": self.issuer,
                    "jwks-private": json.dumps({"keys": list(keys)}),
                    "default-kid": keys[0]["kid"],
                    "jwks-show": True,
                    "access-token-duration": 3600,
                    "refresh-token-duration": 86400,
                    "code-duration": 600,
                    "allow-non-oidc": True,
                    "auth-type-code-enabled": True,
                    "auth-type-password-enabled": True,
                    "auth-type-client-enabled": True,
                    "claims": [
                        {"name": "groups", "user-property": "name", "type": "string",
                         "mandatory": True, "scope": []},
                    ],
                },
            },
        )  # fmt: skip

    def tokens(self) -> tuple[str, str]:
        """An ID token and an access token of ada."""
        form = {"grant_type": "password", "username": "ada", "password": PASSWORD, "scope": "openid desk"}
        answer = json.loads(self._call("POST", "/oidc/token", form=form))
        return answer["id_token"], answer["access_token"]

    def keys(self) -> list[dict[str, Any]]:
        """What it publishes."""
        found: list[dict[str, Any]] = json.loads(self._call("GET", "/oidc/jwks"))["keys"]
        return found

    def _fill(self) -> None:
        self.rotate(signing_key("RS256", "first"))
        self._call(
            "POST", "/scope/", {"name": "desk", "display_name": "d", "password_required": True, "scheme": {}}
        )
        self._call(
            "POST",
            "/user/",
            {"username": "ada", "name": self._group, "password": PASSWORD, "enabled": True,
             "scope": ["openid", "desk"]},
        )  # fmt: skip
        self._call(
            "POST",
            "/client/",
            {"client_id": CLIENT, "name": "box", "confidential": True, "client_secret": SECRET,
             "password": SECRET, "enabled": True, "authorization_type": ["password"], "scope": ["desk"],
             "token_endpoint_auth_method": ["client_secret_basic"]},
        )  # fmt: skip

    def _call(self, method: str, path: str, body: object = None, form: dict[str, str] | None = None) -> bytes:
        data, headers = None, {}
        if body is not None:
            data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        if form is not None:
            data = urllib.parse.urlencode(form).encode()
            headers = {"Authorization": "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()}
        request = urllib.request.Request(
            f"https://localhost:{self.port}/api{path}", data, headers, method=method
        )
        try:
            with self._opener.open(request, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}") from None

    def _configure(self) -> None:
        folder = self._folder
        (folder / "glewlwyd.conf").write_text(
            f'port={self.port}\nbind_address="127.0.0.1"\nexternal_url="https://localhost:{self.port}"\n'
            'login_url="login.html"\napi_prefix="api"\nlog_mode="console"\nlog_level="INFO"\n'
            'cookie_secure=0\nsession_key="GLEWLWYD"\n'
            'user_module_path="/usr/lib/glewlwyd/user"\nclient_module_path="/usr/lib/glewlwyd/client"\n'
            'user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"\n'
            'plugin_module_path="/usr/lib/glewlwyd/plugin"\nuse_secure_connection=true\n'
            f'secure_connection_key_file="{folder}/server.key"\n'
            f'secure_connection_pem_file="{folder}/server.crt"\nhash_algorithm = "SHA512"\n'
            f'database = {{ type="sqlite3" path="{folder}/glewlwyd.db" }}\n'
        )
