"""SDES: the keys of SRTP in a session description (RFC 4568; suites also of RFC 6188 and 7714)."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from dataclasses import dataclass, field

from appliance.media.sip.grammar import parse_uint

# Octets of master key and of master salt.
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (16, 14),
    "AES_CM_128_HMAC_SHA1_32": (16, 14),
    "F8_128_HMAC_SHA1_80": (16, 14),
    "AES_192_CM_HMAC_SHA1_80": (24, 14),
    "AES_192_CM_HMAC_SHA1_32": (24, 14),
    "AES_256_CM_HMAC_SHA1_80": (32, 14),
    "AES_256_CM_HMAC_SHA1_32": (32, 14),
    "AEAD_AES_128_GCM": (16, 12),
    "AEAD_AES_256_GCM": (32, 12),
}

_CRYPTO = re.compile(r"([0-9]{1,9})[ \t]+([A-Za-z0-9_]+)[ \t]+(\S+)((?:[ \t]+\S+)*)[ \t]*")
_LIFETIME = re.compile(r"(2\^)?([0-9]{1,20})")
_MKI = re.compile(r"([0-9]{1,40}):([0-9]{1,3})")
# Session parameters that change how packets look; whoever does not know them must not take the line (section 6.3).
_HARMLESS = re.compile(r"FEC_ORDER=FEC_SRTP|WSH=[0-9]+|KDR=0|-.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InlineKey:
    """`inline:key|lifetime|mki:length`. `key_salt` is master key and salt, concatenated; it never shows in a repr."""

    key_salt: bytes = field(repr=False)
    lifetime: int | None = None  # packets
    mki: int | None = None
    mki_length: int | None = None  # octets

    @classmethod
    def parse(cls, text: str) -> InlineKey | None:
        method, colon, info = text.partition(":")
        if not colon or method.lower() != "inline":
            return None
        encoded, *rest = info.split("|")
        try:
            key_salt = base64.b64decode(
                encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True
            )
        except (binascii.Error, ValueError):
            return None
        lifetime = mki = mki_length = None
        for part in rest:
            if match := _LIFETIME.fullmatch(part):
                number = int(match[2])
                if match[1]:
                    number = 1 << number if number <= 64 else 0
                lifetime = number or None
            elif match := _MKI.fullmatch(part):
                mki, mki_length = int(match[1]), int(match[2])
            else:
                return None
        return cls(key_salt, lifetime, mki, mki_length)

    def __str__(self) -> str:
        parts = ["inline:" + base64.b64encode(self.key_salt).decode()]
        if self.lifetime is not None:
            power = self.lifetime.bit_length() - 1
            parts.append(f"2^{power}" if self.lifetime == 1 << power else str(self.lifetime))
        if self.mki is not None:
            parts.append(f"{self.mki}:{self.mki_length}")
        return "|".join(parts)


@dataclass(frozen=True, slots=True)
class Crypto:
    """One `a=crypto` line. `suite` is upper case; `params` are the session parameters."""

    tag: int
    suite: str
    keys: tuple[InlineKey, ...]
    params: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Crypto | None:
        """None where the line cannot be read or a key has not the length of its suite (of a known one)."""
        match = _CRYPTO.fullmatch(text.strip(" \t"))
        if match is None:
            return None
        tag, suite = parse_uint(match[1]), match[2].upper()
        keys = tuple(InlineKey.parse(part) for part in match[3].split(";"))
        wanted = sum(SUITES.get(suite, ()))
        good = tuple(key for key in keys if key is not None and (not wanted or len(key.key_salt) == wanted))
        if tag is None or not good or len(good) != len(keys):
            return None
        return cls(tag, suite, good, tuple(match[4].split()))

    @property
    def key_salt(self) -> bytes:
        """Master key and salt of the first key."""
        return self.keys[0].key_salt

    @property
    def plain_use(self) -> bool:
        """Whether it asks for nothing but the suite: one key without MKI, no parameter that changes the packets."""
        return (
            len(self.keys) == 1
            and self.keys[0].mki is None
            and all(_HARMLESS.fullmatch(param) for param in self.params)
        )

    def __str__(self) -> str:
        keys = ";".join(str(key) for key in self.keys)
        return " ".join((str(self.tag), self.suite, keys, *self.params))


def generate_key(suite: str) -> bytes:
    """A fresh master key and salt for a suite of `SUITES`."""
    return secrets.token_bytes(sum(SUITES[suite]))
