"""Where the box is, and with which certificate to speak to it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import grpc

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

    def channel(self) -> grpc.Channel:
        """A channel with mutual TLS. Failure where no box is here, or a file cannot be read (usage)."""
        server = self.server or self._local_server()
        client = Layout(self.data).pki / "clients" / "admin"
        ca = _read(self.ca or Layout(self.data).pki / "ca.crt", "--ca")
        certificate = _read(self.certificate or client.with_suffix(".crt"), "--cert")
        key = _read(self.key or client.with_suffix(".key"), "--key")
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        return grpc.secure_channel(server, credentials)

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
