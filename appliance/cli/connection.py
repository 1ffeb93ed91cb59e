"""Where the box is, and with which certificate to speak to it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from appliance.cli import logins
from appliance.cli.exits import Exit, Failure
from appliance.config.layout import Layout
from appliance.model import is_id


def default_data() -> Path:
    """The data directory where none is named: EARWITNESS_DATA, else below XDG_DATA_HOME."""
    if named := os.environ.get("EARWITNESS_DATA"):
        return Path(named)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "earwitness"


@dataclass(frozen=True)
class Connection:
    """What the options and the environment say; empty parts come from the local data directory."""

    data: Path
    server: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: Path | None = None

    def channel(self) -> grpc.Channel:
        """A channel with a certificate, or with a token. Failure where no box is here, or a file cannot be read (usage).

        What is named goes before a login that is kept for the box (`earwitness login`), and that before the certificate in
        the data directory.
        """
        if self.token is not None:
            text = _read(self.token, "--token-file").decode("utf-8", "replace").strip()
            return _by_token(self.token_server(), self.authority(), text)
        if self.certificate is None and self.key is None:
            kept = logins.find(self.server or self._local("tokens") or "")
            if kept is not None:
                return _by_token(kept.server, kept.ca, kept.token)
        server = self.server or self._local_server()
        client = Layout(self.data).pki / "clients" / "admin"
        ca = _read(self.ca or Layout(self.data).pki / "ca.crt", "--ca")
        certificate = _read(self.certificate or client.with_suffix(".crt"), "--cert")
        key = _read(self.key or client.with_suffix(".key"), "--key")
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        return grpc.secure_channel(server, credentials)

    def authority(self) -> bytes:
        """The authority of the box (PEM)."""
        return _read(self.ca or Layout(self.data).pki / "ca.crt", "--ca")

    def token_server(self) -> str:
        """Where the box takes tokens; Failure where it does nowhere."""
        server = self.server or self._local("tokens")
        if server:
            return server
        self._local_server()  # no box at all is told first
        raise Failure(
            Exit.CONFLICT,
            "the box takes no tokens",
            "NO_TOKEN_LISTENER",
            "set api.token_port in its site file; see docs/identities.md",
        )

    def bare_channel(self) -> grpc.Channel:
        """A channel to the listener for tokens, without any: for signing in."""
        return grpc.secure_channel(self.token_server(), grpc.ssl_channel_credentials(self.authority()))

    def _local(self, what: str) -> str | None:
        """An address that a box on this machine serves; None: it does not, or there is no box."""
        try:
            found = json.loads((Layout(self.data).run / "addresses.json").read_text("utf-8")).get(what)
        except (OSError, ValueError, AttributeError):
            return None
        return found if isinstance(found, str) else None

    def _local_server(self) -> str:
        path = Layout(self.data).run / "addresses.json"
        try:
            return str(json.loads(path.read_text("utf-8"))["api"])
        except (OSError, ValueError, KeyError) as error:
            raise Failure(
                Exit.UNAVAILABLE,
                f"no box is running on {self.data}",
                "NO_LOCAL_BOX",
                "start one with `earwitness serve`, or name one with --server, --ca, --cert and --key",
            ) from error


def _by_token(server: str, ca: bytes, token: str) -> grpc.Channel:
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(ca), grpc.access_token_call_credentials(token)
    )
    return grpc.secure_channel(server, credentials)


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(
            Exit.USAGE,
            f"cannot read {path}: {error.strerror}",
            "CREDENTIALS_MISSING",
            f"name the file with {option}",
        ) from error


def resource(kind: str, text: str) -> str:
    """The full name of a recording, call, … that was given as a name or as a bare id."""
    if text.startswith("tenants/"):
        return text
    if is_id(text):
        return f"tenants/{text}" if kind == "tenants" else f"tenants/-/{kind}/{text}"
    raise Failure(
        Exit.USAGE, f"{text!r} is neither a resource name nor an id of 26 characters", "NAME_INVALID"
    )


def identity(text: str) -> str:
    """The full name of an identity that was given so, as TENANT/NAME, or as NAME: of the box, or of one's own tenant."""
    if text.startswith(("identities/", "tenants/")):
        return text
    tenant_id, _, name = text.rpartition("/")
    return f"tenants/{tenant_id}/identities/{name}" if tenant_id else f"identities/{name}"


def typed_identity(name: str) -> str:
    """What people type for an identity wherever they are: NAME of the box, TENANT/NAME of a tenant."""
    return name.removeprefix("tenants/").replace("/identities/", "/").removeprefix("identities/")


def prompt(text: str) -> str:
    """The full name of a prompt, a tenant's or one of the box, that was given as a name or as a bare id."""
    return text if text.startswith("prompts/") else resource("prompts", text)


def tenant_parent(text: str) -> str:
    """The parent of a list: a tenant's name or id; nothing for all tenants."""
    if not text:
        return "tenants/-"
    return resource("tenants", text)


def bare(name: str) -> str:
    """The last segment of a resource name: what people type."""
    return name.rsplit("/", 1)[-1]
