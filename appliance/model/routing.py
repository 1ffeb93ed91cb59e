"""Tenants and lines, as signaling needs them: which call belongs to whom, and whether to record it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from appliance.model.recording import Direction


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Tenant(_Frozen):
    """The data controller whose calls these are."""

    tenant_id: str
    display_name: str
    public_key: bytes  # MLKEM768-X25519, raw; base64 in JSON
    create_ns: int = 0

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")


class Line(_Frozen):
    """What a tenant contracted."""

    line_id: str
    tenant_id: str
    display_name: str
    numbers: tuple[str, ...] = ()  # digits with an optional leading +; a trailing * matches any rest
    trunks: tuple[str, ...] = ()  # source addresses (IP or CIDR) or names in the peer's TLS certificate
    catch_all: bool = False  # takes what no other line takes; at most one in a box
    directions: tuple[Direction, ...] = (
        Direction.INBOUND,
        Direction.OUTBOUND,
        Direction.INTERNAL,
        Direction.UNKNOWN,
    )
    do_not_record: tuple[str, ...] = ()  # numbers whose calls are noted, not recorded
    create_ns: int = 0


class RoutingTable(_Frozen):
    """Everything signaling needs to decide line and tenant; written whole, atomically, by control."""

    version: int = 0  # grows with each change
    tenants: tuple[Tenant, ...] = ()
    lines: tuple[Line, ...] = ()
