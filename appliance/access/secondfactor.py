"""The second factor: codes of six digits by time (RFC 6238), and recovery codes for who lost the device. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

import pyotp

STEP_S: Final = 30
DRIFT: Final = 1  # steps that a device's clock may be off, either way
SECRET_BYTES: Final = 20
RECOVERY_CODES: Final = 10
_RECOVERY_BYTES: Final = 10


def make_secret() -> bytes:
    """160 random bits (RFC 4226, section 4, R6)."""
    return secrets.token_bytes(SECRET_BYTES)


def uri(secret: bytes, name: str, box: str) -> str:
    """The otpauth URI that devices read, as text or QR code."""
    return pyotp.TOTP(_text(secret)).provisioning_uri(name=name, issuer_name=box)


def code(secret: bytes, step: int) -> str:
    """The code of a step: whole 30 seconds since the Unix epoch."""
    return pyotp.TOTP(_text(secret)).at(step * STEP_S)


def matching_step(secret: bytes, said: str, now_s: float, used: int) -> int | None:
    """The step whose code was said, within the drift and after `used` (a code counts once); None: wrong.

    All candidates are always compared, so that the time tells nothing.
    """
    digits = said.replace(" ", "")
    now, found = int(now_s // STEP_S), None
    for step in range(now - DRIFT, now + DRIFT + 1):
        same = hmac.compare_digest(code(secret, step).encode(), digits.encode("utf-8", "replace"))
        if same and step > used:
            found = step
    return found


def recovery_codes() -> list[str]:
    """Ten codes of 80 random bits, each good once, in groups of four letters and digits."""
    return [_grouped(secrets.token_bytes(_RECOVERY_BYTES)) for _ in range(RECOVERY_CODES)]


def recovery_hash(said: str) -> str:
    """What is kept of a recovery or enrolment code. It is random and long, so no slow hash is needed."""
    plain = "".join(one for one in said.casefold() if one.isalnum())
    return hashlib.sha256(plain.encode()).hexdigest()


def is_recovery(said: str) -> bool:
    """Whether this has the form of a recovery code rather than of six digits."""
    return len("".join(one for one in said if one.isalnum())) == 16


def _grouped(raw: bytes) -> str:
    text = base64.b32encode(raw).decode().lower()
    return "-".join(text[place : place + 4] for place in range(0, len(text), 4))


def _text(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")
