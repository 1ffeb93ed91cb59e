"""Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint), with Ed25519 keys: read, never written."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_NOTE: Final = 65_536
_ED25519: Final = b"\1"
_DASH: Final = "\u2014 "


class NoteError(ValueError):
    """The text is no note, no checkpoint, or its signature does not hold."""


@dataclass(frozen=True)
class VerifierKey:
    """name+hash+base64, as a box gives it out."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        try:
            name, digest, encoded = text.strip().split("+", 2)
            raw = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise NoteError("a key has the form name+hash+base64") from None
        key = cls(name, raw[1:])
        if raw[:1] != _ED25519 or len(raw) != 33 or key.hash.hex() != digest.lower():
            raise NoteError("the key is not an Ed25519 key, or its hash is that of another")
        return key

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]


@dataclass(frozen=True)
class Checkpoint:
    """What a log was at one size."""

    origin: str
    size: int
    root: bytes


def open_checkpoint(note: str, key: VerifierKey) -> Checkpoint:
    """The checkpoint in a note that this key signed; NoteError."""
    if len(note) > MAX_NOTE:
        raise NoteError("too long for a note")
    text, blank, signatures = note.rpartition("\n\n")
    if not blank:
        raise NoteError("a note has an empty line before its signatures")
    text += "\n"
    if not any(_signs(line, text, key) for line in signatures.splitlines()):
        raise NoteError("the key did not sign this note")
    lines = text.split("\n")
    try:
        origin, size, encoded = lines[0], lines[1], lines[2]
        root = base64.b64decode(encoded, validate=True)
    except (IndexError, binascii.Error, ValueError):
        raise NoteError("the note is no checkpoint") from None
    if not origin or not size.isascii() or not size.isdigit() or len(size) > 19 or len(root) != 32:
        raise NoteError("the note is no checkpoint")
    return Checkpoint(origin, int(size), root)


def _signs(line: str, text: str, key: VerifierKey) -> bool:
    if not line.startswith(_DASH):
        return False
    name, _, encoded = line[len(_DASH) :].partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    if name != key.name or raw[:4] != key.hash:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(raw[4:], text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True
