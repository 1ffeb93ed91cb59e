"""The public keys of a box, as `earwitness box keys` gives them out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Self, TypeGuard

from earwitness.verify.notes import NoteError, UnreadableError, VerifierKey

FORMAT: Final = "earwitness box keys v1"
MAX_BYTES: Final = 65_536


class KeysError(UnreadableError):
    """The file of keys cannot be used."""


@dataclass(frozen=True)
class BoxKeys:
    """Whom to believe: the device that signs recordings, and the log."""

    device: tuple[bytes, ...] = ()  # raw Ed25519
    audit: tuple[VerifierKey, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """KeysError says what is wrong with it."""
        if len(text) > MAX_BYTES:
            raise KeysError("too long for a file of keys")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise KeysError("not a JSON file") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise KeysError(f'not a file of keys: "format" should be "{FORMAT}"')
        device, audit = found.get("device_keys"), found.get("audit_keys")
        if not (_are_texts(device) and _are_texts(audit)):
            raise KeysError("device_keys and audit_keys should be lists of texts")
        try:
            raw = tuple(bytes.fromhex(one) for one in device)
            keys = cls(raw, tuple(VerifierKey.parse(one) for one in audit))
        except NoteError as error:
            raise KeysError(f"audit_keys: {error}") from None
        except ValueError:
            raise KeysError("device_keys: should be hexadecimal") from None
        if any(len(one) != 32 for one in raw):
            raise KeysError("device_keys: should have 32 bytes each")
        return keys


def _are_texts(found: object) -> TypeGuard[list[str]]:
    return isinstance(found, list) and len(found) <= 100 and all(isinstance(one, str) for one in found)
