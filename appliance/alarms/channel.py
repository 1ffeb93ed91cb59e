"""Channels that alarms go out by, and where they lead. Secrets are in none of them: they are handed over when needed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from appliance.alarms.severity import Severity


class Security(enum.StrEnum):
    """How a connection for mail is protected."""

    TLS = "tls"  # from the beginning (RFC 8314)
    STARTTLS = "starttls"  # RFC 3207, or nothing goes out
    NONE = "none"


PORTS: Final[Mapping[Security, int]] = {Security.TLS: 465, Security.STARTTLS: 587, Security.NONE: 25}
SYSLOG_PORT: Final = 6514


@dataclass(frozen=True)
class Smtp:
    """Mail. `port` 0: as the security says; `ca`: PEM, empty: the system's authorities."""

    host: str
    sender: str
    to: tuple[str, ...]
    port: int = 0
    security: Security = Security.STARTTLS
    username: str = ""
    ca: str = ""


@dataclass(frozen=True)
class Webhook:
    """A POST over HTTPS."""

    url: str
    ca: str = ""


@dataclass(frozen=True)
class Syslog:
    """RFC 5424 over TLS. `port` 0: 6514."""

    host: str
    port: int = 0
    ca: str = ""


Settings = Smtp | Webhook | Syslog
_KINDS: Final[Mapping[str, type[Smtp] | type[Webhook] | type[Syslog]]] = {
    "smtp": Smtp,
    "webhook": Webhook,
    "syslog": Syslog,
}


@dataclass(frozen=True)
class Fares:
    """How a channel fares. Times are nanoseconds since the Unix epoch."""

    failures: int = 0
    failure_ns: int | None = None
    failure: str = ""
    deliver_ns: int | None = None
    delivered: int = 0
    dropped: int = 0
    given_up: int = 0


@dataclass(frozen=True, repr=False)
class Channel:
    """A channel. `tenant_id`: empty for one of the box; `sealed`: its secret as it is kept; `digest_hour`: UTC, of mail."""

    id: str
    tenant_id: str
    display_name: str
    severity: Severity
    settings: Settings
    create_ns: int
    change_ns: int
    enabled: bool = True
    digest_hour: int | None = None
    sealed: bytes | None = None
    fares: Fares = Fares()

    @property
    def kind(self) -> str:
        """smtp, webhook or syslog."""
        return next(name for name, kind in _KINDS.items() if isinstance(self.settings, kind))


def as_json(settings: Settings) -> dict[str, Any]:
    """As it is kept."""
    return asdict(settings)


def from_json(kind: str, kept: Mapping[str, Any]) -> Settings:
    """What `as_json` gave."""
    said = dict(kept)
    if kind == "smtp":
        said.update(to=tuple(said["to"]), security=Security(said["security"]))
    return _KINDS[kind](**said)
