"""Settings of a box: a TOML site file under command-line options. Errors name the key."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from appliance.config.layout import Layout
from appliance.model import InvalidError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SipSettings(_Section):
    """Where signaling listens. Port 0: the system chooses (tests). `tls_port` -1: no TLS."""

    address: str = "127.0.0.1"
    udp_port: int = Field(5060, ge=0, le=65535)
    tcp_port: int = Field(5060, ge=0, le=65535)
    tls_port: int = Field(5061, ge=-1, le=65535)
    advertised_address: str = ""  # in Contact and SDP; empty: the address listened on


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


class Settings(_Section):
    """Everything a site may set."""

    data: Path
    sip: SipSettings = SipSettings()
    media: MediaSettings = MediaSettings()
    api: ApiSettings = ApiSettings()
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")

    @property
    def layout(self) -> Layout:
        return Layout(self.data)


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
