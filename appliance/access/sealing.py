"""The key that secrets of identities are sealed under: `control/identities.key`, made at the first start, mode 0600.

Second factors lie in the catalogue sealed under it, so that a copy of the catalogue alone gives none away; networks that
somebody signed in from are kept as a keyed hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.access.refusals import IdentityKeyError
from appliance.process.wholefile import write_whole

SIZE: Final = 32
_NONCE: Final = 12


@dataclass(frozen=True, repr=False)
class Sealing:
    """The key at work."""

    key: bytes

    @classmethod
    def at(cls, path: Path) -> Self:
        """The key in a file, made where there is none; IdentityKeyError where it is damaged."""
        with contextlib.suppress(FileNotFoundError):
            key = path.read_bytes()
            if len(key) != SIZE:
                raise IdentityKeyError("the key of identities' secrets is damaged", file=path.name)
            return cls(key)
        key = secrets.token_bytes(SIZE)
        write_whole(path, key)
        return cls(key)

    def seal(self, secret: bytes, name: str) -> bytes:
        """AES-256-GCM, bound to the identity it belongs to (its key, `naming`)."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + AESGCM(self._derived(b"factor")).encrypt(nonce, secret, name.encode())

    def open(self, sealed: bytes, name: str) -> bytes:
        """IdentityKeyError where it was sealed under another key, or belongs to another identity."""
        try:
            return AESGCM(self._derived(b"factor")).decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
        except (InvalidTag, ValueError):
            raise IdentityKeyError("a second factor cannot be read: it is to be enrolled again") from None

    def resealed(self, sealed: bytes, name: str, bare: str) -> bytes | None:
        """What an older release sealed for a bare name, sealed for the identity's key; None: it needs or can not be."""
        try:
            self.open(sealed, name)
        except IdentityKeyError:
            pass
        else:
            return None
        try:
            secret = self.open(sealed, bare)
        except IdentityKeyError:
            return None  # under another key: said when somebody signs in with it
        return self.seal(secret, name)

    def network(self, network: str) -> str:
        """What is kept of a network: 128 bits of a keyed hash, hexadecimal."""
        return hmac.digest(self._derived(b"network"), network.encode(), hashlib.sha256).hex()[:32]

    def line(self, before: str, body: bytes) -> str:
        """What ties a line of the copy to the one before it, hexadecimal."""
        return hmac.digest(self._derived(b"copy"), before.encode() + b"\0" + body, hashlib.sha256).hex()

    def _derived(self, what: bytes) -> bytes:
        return hmac.digest(self.key, b"earwitness identities " + what, hashlib.sha256)
