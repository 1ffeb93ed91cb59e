"""Settings of a box: a TOML site file under command-line options. Errors name the key."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from appliance.config.catalogue import CatalogueSettings
from appliance.config.completeness import CompletenessSettings
from appliance.config.exits import ClosingSettings, ExitSettings
from appliance.config.layout import Layout
from appliance.config.notices import NoticeSettings
from appliance.model import InvalidError

_DATASET: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*(?:/[A-Za-z0-9_.:-]+)+")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SipAccount(_Section):
    """How the box proves itself to a provider or a switchboard (digest), and whether it registers there."""

    domain: str = Field(min_length=1, max_length=255)  # of the targets it is for, as in their URIs
    username: str = Field(min_length=1, max_length=255)
    password_file: Path  # one line; read at start and when it is asked for
    realm: str = ""  # empty: any
    register_uri: str = ""  # such as sip:provider.example;transport=tls; empty: no registration
    expires_s: int = Field(600, ge=60, le=86400)


class SipSettings(_Section):
    """Where signaling listens. Port 0: the system chooses (tests). `tls_port` -1: no TLS."""

    address: str = "127.0.0.1"
    udp_port: int = Field(5060, ge=0, le=65535)
    tcp_port: int = Field(5060, ge=0, le=65535)
    tls_port: int = Field(5061, ge=-1, le=65535)
    advertised_address: str = ""  # in Contact and SDP; empty: the address listened on
    # Numbers of inline calls that go straight through: no announcement, no delay.
    emergency: tuple[Annotated[str, Field(pattern=r"^\+?[0-9*#]{2,32}$")], ...] = ("999", "112")
    accounts: tuple[SipAccount, ...] = ()
    trust: Path | None = None  # certificates of those we call over TLS (PEM); absent: the box's own authority


class MediaSettings(_Section):
    """Where capture listens, and how many workers there are."""

    address: str = "127.0.0.1"
    advertised_address: str = ""  # in SDP answers; empty: the address listened on
    port_min: int = Field(16384, ge=1024, le=65534)
    port_max: int = Field(32767, ge=1025, le=65535)
    workers: int = Field(0, ge=0, le=64)  # 0: one a core
    cool_down_s: float = Field(30.0, ge=0, le=3600)
    no_media_alarm_s: float = Field(30.0, ge=1, le=60)

    @property
    def worker_count(self) -> int:
        return self.workers or len(os.sched_getaffinity(0))

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.port_max - self.port_min < 4 * self.worker_count:
            raise ValueError("port_min to port_max holds too few ports for the workers")
        return self

    def worker_ports(self, worker: int) -> tuple[int, int]:
        """The half-open range of ports of one worker, beginning with an even port."""
        pairs = (self.port_max + 1 - self.port_min - self.port_min % 2) // 2
        first = self.port_min + self.port_min % 2
        share = pairs // self.worker_count
        return first + 2 * share * worker, first + 2 * share * (worker + 1)


class ApiSettings(_Section):
    """Where the gRPC API listens (mutual TLS)."""

    address: str = "127.0.0.1"
    port: int = Field(7443, ge=0, le=65535)
    token_port: int = Field(-1, ge=-1, le=65535)  # TLS, for tokens instead of certificates; -1: none, 0: any


_TENANT_ROLE: Final = (
    "tenant-administrator",
    "records-officer",
    "supervisor",
    "agent",
    "auditor",
    "integration",
)
_BOX_ROLE: Final = ("operator", "support", "integration")


class OidcGrant(_Section):
    """What a group of the identity provider stands for: roles of one tenant, or of the box."""

    group: str = Field(min_length=1, max_length=200)
    tenant: str = Field("", pattern="^([a-z2-7]{26})?$")  # a tenant's id; empty: roles of the box
    roles: tuple[str, ...] = Field(min_length=1, max_length=8)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        known = _TENANT_ROLE if self.tenant else _BOX_ROLE
        for role in self.roles:
            if role not in known:
                whose = "a tenant" if self.tenant else "the box"
                raise ValueError(f"{role} is no role of {whose}: {', '.join(known)}")
        return self


class OidcSettings(_Section):
    """An identity provider whose tokens are accepted (OpenID Connect)."""

    name: str = Field(pattern="^[a-z0-9-]{1,20}$")  # stands before the names of its people, as in trust:ada
    issuer: str = Field(pattern=r"^https://[^\s?#@]+$", max_length=500)  # exactly as its tokens say it
    audience: str = Field(min_length=1, max_length=500)  # what its tokens for this box are meant for
    ca: Path | None = None  # authorities of its HTTPS (PEM); absent: those of the system
    name_claim: str = Field("sub", min_length=1, max_length=100)
    groups_claim: str = Field("groups", min_length=1, max_length=100)  # dots go into objects
    grants: tuple[OidcGrant, ...] = Field((), max_length=1000)
    algorithms: tuple[Literal["RS256", "PS256", "ES256", "EdDSA"], ...] = ("RS256", "PS256", "ES256", "EdDSA")
    leeway_s: float = Field(30.0, ge=0, le=300)  # clocks may differ by this
    max_age_s: float = Field(86400.0, ge=60, le=7 * 86400)  # since a token was issued
    usable_s: float = Field(
        86400.0, ge=300, le=7 * 86400
    )  # its keys go on for so long while it does not answer


class AccessSettings(_Section):
    """Who runs the box. `site`: the hospital itself, whose admin certificate may do everything. `provider`: its admin
    certificate runs the box and reads nothing; the tenants' own people hold the tenants' roles."""

    run_by: Literal["site", "provider"] = "site"
    oidc: tuple[OidcSettings, ...] = Field((), max_length=8)
    grant_days: int = Field(14, ge=1, le=90)  # how long a support grant may be in force

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what in ("name", "issuer"):
            if len({getattr(one, what) for one in self.oidc}) < len(self.oidc):
                raise ValueError(f"two identity providers have the same {what}")
        return self


class SyslogSettings(_Section):
    """The collector that the audit log is forwarded to (RFC 5425: syslog over TLS)."""

    host: str = Field(min_length=1, max_length=255)
    port: int = Field(6514, ge=1, le=65535)
    ca: Path  # certificates that the collector's is checked against (PEM)
    certificate: Path | None = None  # of this box, where the collector wants one
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class AuditSettings(_Section):
    """Where the audit log goes besides the box's own disk."""

    syslog: SyslogSettings | None = None


class StoreSettings(_Section):
    """Where buckets are kept: in a directory, or in a dataset of a ZFS pool."""

    backend: Literal["directory", "zfs"] = "directory"
    root: str = ""  # zfs: a dataset such as tank/rec; directory: an absolute path
    mounts: Path | None = None  # zfs: a private directory, not on the pool; absent: in the data directory

    @model_validator(mode="after")
    def _root(self) -> Self:
        if self.backend == "zfs" and not _DATASET.fullmatch(self.root):
            raise ValueError("root must name a dataset within a pool, such as tank/rec")
        if self.backend == "directory" and self.root and not Path(self.root).is_absolute():
            raise ValueError("root must be an absolute path")
        if self.mounts is not None and not self.mounts.is_absolute():
            raise ValueError("mounts must be an absolute path")
        return self

    def meets(self, other: StoreSettings) -> bool:
        """Whether one lies within the other."""
        mine, its = f"{self.root.rstrip('/')}/", f"{other.root.rstrip('/')}/"
        return self.backend == other.backend and (mine.startswith(its) or its.startswith(mine))


class ReplicaSettings(StoreSettings):
    """A copy of the vault in another store."""

    name: str = Field(pattern="^[a-z0-9]{1,32}$")
    state: Path | None = (
        None  # what the replica keeps of itself; absent: in its root, or in the data directory (zfs)
    )

    @model_validator(mode="after")
    def _own_place(self) -> Self:
        if not self.root:
            raise ValueError("a replica has a root of its own")
        if self.state is not None and not self.state.is_absolute():
            raise ValueError("state must be an absolute path")
        return self


class VaultSettings(StoreSettings):
    """Where recordings, root keys and copies are. An empty root: the data directory."""

    deadline_s: float = Field(20.0, ge=1, le=600)  # how long the pool may take to answer
    root_slot: Literal["file", "tpm"] = "file"
    tpm: str = "device:/dev/tpmrm0"  # TCTI
    tpm_pcrs: tuple[Annotated[int, Field(ge=0, le=23)], ...] = ()
    replicas: tuple[ReplicaSettings, ...] = ()

    @model_validator(mode="after")
    def _places(self) -> Self:
        names = [one.name for one in self.replicas]
        places: tuple[StoreSettings, ...] = (self, *self.replicas)
        for one in self.replicas:
            if names.count(one.name) > 1:
                raise ValueError(f"two replicas are named {one.name}")
            for other in places:
                if other is not one and other.root and one.meets(other):
                    raise ValueError(f"the replica {one.name} lies where something else does")
        return self


class Settings(_Section):
    """Everything a site may set."""

    data: Path
    sip: SipSettings = SipSettings()
    media: MediaSettings = MediaSettings()
    api: ApiSettings = ApiSettings()
    access: AccessSettings = AccessSettings()
    audit: AuditSettings = AuditSettings()
    vault: VaultSettings = VaultSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    completeness: CompletenessSettings = CompletenessSettings()
    closing: ClosingSettings = ClosingSettings()
    exit: ExitSettings = ExitSettings()
    notices: NoticeSettings = NoticeSettings()
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    start_timeout_s: float = Field(60.0, ge=1, le=3600)  # how long a process may take to be ready

    @property
    def layout(self) -> Layout:
        return Layout(self.data)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        own = StoreSettings(root=str(self.layout.vault.absolute()))
        for one in self.vault.replicas:
            if one.meets(own):
                raise ValueError(f"the replica {one.name} lies where the data directory keeps its own")
        return self


class ConfigError(InvalidError):
    """A setting is wrong; `data['key']` names it."""

    reason = "CONFIG_INVALID"


def load(
    site_file: Path | None = None,
    overrides: dict[str, Any] | None = None,
    *,
    default_data: Path | None = None,
) -> Settings:
    """Settings from a site file with overrides (nested dicts; None: not given) on top.

    `default_data` is the data directory where neither names one. ConfigError names the first wrong key.
    """
    values: dict[str, Any] = {}
    if site_file is not None:
        try:
            values = tomllib.loads(site_file.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read the site file: {error.strerror}", key="site_file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"the site file is not TOML: {error}", key="site_file") from error
    for key, value in (overrides or {}).items():
        if isinstance(value, dict):
            section = values.setdefault(key, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{key}: must be a table", key=key)
            section.update({name: item for name, item in value.items() if item is not None})
        elif value is not None:
            values[key] = value
    if default_data is not None:
        values.setdefault("data", default_data)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ConfigError(f"{key}: {first['msg']}", key=key) from error
