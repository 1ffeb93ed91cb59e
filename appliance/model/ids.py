"""Opaque identifiers: 128 random bits, written as 26 characters of lower-case base32 (RFC 4648 section 6, no padding)."""

from __future__ import annotations

import base64
import re
import secrets

from appliance.model.errors import InvalidError

ID_BYTES = 16
ID_LENGTH = 26
# 26 letters have two bits more than 16 bytes: they are 0, which leaves eight letters for the last.
_PATTERN = re.compile(r"[a-z2-7]{25}[aeimquy4]")


def new_id() -> str:
    """A fresh id. It says nothing of time, tenant or call."""
    return id_text(secrets.token_bytes(ID_BYTES))


def id_text(raw: bytes) -> str:
    """The written form of 16 raw bytes."""
    if len(raw) != ID_BYTES:
        raise InvalidError(f"an id has {ID_BYTES} bytes", field="id")
    return base64.b32encode(raw).decode().rstrip("=").lower()


def id_bytes(text: str) -> bytes:
    """The 16 raw bytes of a written id; InvalidError where it is not one."""
    if not _PATTERN.fullmatch(text):
        raise InvalidError("an id has 26 characters of a-z and 2-7", field="id")
    return base64.b32decode(text.upper() + "======")


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id."""
    return _PATTERN.fullmatch(text) is not None
