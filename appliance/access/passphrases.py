"""Passphrases: Argon2id (RFC 9106), as slow for a name that nobody has as for one that exists."""

from __future__ import annotations

import functools
import secrets
import unicodedata
from typing import Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from appliance.access.refusals import PassphraseError

LEAST: Final = 12  # characters
MOST: Final = 200
MEMORY_KIB: Final = 65536  # RFC 9106, section 4, second recommendation
PASSES: Final = 3
LANES: Final = 4
_HASHER: Final = argon2.PasswordHasher(
    time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, hash_len=32, salt_len=16, type=argon2.Type.ID
)


def check_form(passphrase: str, name: str, field: str = "passphrase") -> None:
    """PassphraseError where it is too short or long, has control characters, one letter only, or the name in it."""
    if not LEAST <= len(passphrase) <= MOST or any(ord(one) < 32 or ord(one) == 127 for one in passphrase):
        raise PassphraseError(
            f"should have {LEAST} to {MOST} characters, none of them control characters", field=field
        )
    if len(set(passphrase.casefold())) < 5 or (len(name) > 3 and name in passphrase.casefold()):
        raise PassphraseError(
            "is too easy to guess: at least five different characters, and not the name", field=field
        )


def hashed(passphrase: str) -> str:
    """The hash to keep, with its parameters and salt (PHC string). Takes 64 MiB and about a tenth of a second."""
    return _HASHER.hash(_normal(passphrase))


def verify(kept: str | None, passphrase: str) -> bool:
    """Whether it is the passphrase. Where none is kept the same work is done, for nothing."""
    # Longer than any may be: the same work again, on something bounded.
    text = _normal(passphrase[: MOST + 1])
    try:
        right = _HASHER.verify(kept or _nobody(), text)
    except (VerificationError, InvalidHashError):
        return False
    return right and kept is not None


@functools.cache
def _nobody() -> str:
    return _HASHER.hash(secrets.token_hex(32))


def _normal(passphrase: str) -> str:
    """One spelling for what looks alike (RFC 8265, OpaqueString: NFC, other spaces are spaces)."""
    spaced = "".join(" " if unicodedata.category(one) == "Zs" else one for one in passphrase)
    return unicodedata.normalize("NFC", spaced)
