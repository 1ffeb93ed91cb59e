"""Signaling's state of one recording session, kept for it in capture's memory (never on disk: it holds SRTP keys)."""

from __future__ import annotations

import zlib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from appliance.media.signaling.errors import ContextError
from appliance.media.siprec.state import SessionState

MAX_CONTEXT = 1 << 20
MAX_PLAIN = 16 << 20
_VERSION = b"1"


class CallContext(BaseModel):
    """The call a session belongs to, as every one of its sessions remembers it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    call_id: str
    tenant_id: str
    line_id: str
    started_ns: int
    paused: bool = False
    paused_by: str = ""
    resume_at: float = 0.0  # on the monotonic clock of this boot, as is the memory it lies in
    stopped: bool = False
    stopped_by: str = ""
    state_since_ns: int = 0


class SessionContext(BaseModel):
    """One recording session: its dialog (a snapshot of `SipEndpoint`), its state, and where it is recorded."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    call: CallContext
    recordings: tuple[str, ...]
    started_ns: int
    sip: dict[str, Any] | None = None
    srs: SessionState
    sip_call_id: str = ""
    withheld: str = ""
    flags: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"SessionContext({self.call.call_id}, {len(self.recordings)} recordings)"


def pack(context: SessionContext) -> bytes:
    """As bytes, compressed. What cannot fit goes without the metadata's history, then without the descriptions."""
    lean = context.srs
    data = b""
    for drop in ({}, {"metadata": None}, {"metadata": None, "theirs": b"", "sdp": b""}):
        lean = context.srs.model_copy(update=drop)
        plain = context.model_copy(update={"srs": lean}).model_dump_json().encode()
        data = _VERSION + zlib.compress(plain, 1)
        if len(data) <= MAX_CONTEXT and len(plain) <= MAX_PLAIN:
            break
    return data


def unpack(data: bytes) -> SessionContext:
    """Reads it back; ContextError where it is none."""
    if data[:1] != _VERSION:
        raise ContextError("a context of another version")
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data[1:], MAX_PLAIN)
        return SessionContext.model_validate_json(plain)
    except (zlib.error, ValidationError):
        # Not chained: what stands in it is personal data.
        raise ContextError("a context that cannot be read") from None
