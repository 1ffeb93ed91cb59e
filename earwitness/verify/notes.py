"""Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint), with Ed25519 keys: read, never written."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_NOTE: Final = 65_536
MAX_NAME: Final = 200  # characters of a key's name
LOG_NAME: Final = re.compile(r"(.+?/audit)(?:/([1-9][0-9]{0,8}))?")
"""Name of a log, and its generation from the second on."""
_ED25519: Final = b"\1"
_DASH: Final = "\u2014 "


class UnreadableError(ValueError):
    """What should be verified, or verified with, cannot be read as that. The message says what and why."""


class NoteError(UnreadableError):
    """The text is no note, no checkpoint, or its signature does not hold."""


@dataclass(frozen=True)
class VerifierKey:
    """name+hash+base64, as a box gives it out."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """NoteError says what is wrong with it."""
        parts = text.strip().split("+", 2)
        try:
            raw = base64.b64decode(parts[2], validate=True) if len(parts) == 3 else b""
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 33 or raw[:1] != _ED25519 or not 0 < len(parts[0]) <= MAX_NAME:
            raise NoteError("not a verifier key: should be name+hash+base64 of an Ed25519 key")
        key = cls(parts[0], raw[1:])
        if key.id_under(key.name).hex() != parts[1].lower():
            raise NoteError("the hash in the verifier key is not that of the key")
        return key

    def id_under(self, name: str) -> bytes:
        """What names this key in a signature, under that name."""
        return hashlib.sha256(name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def log(self) -> str:
        """The name without its generation."""
        found = LOG_NAME.fullmatch(self.name)
        return found[1] if found else self.name


@dataclass(frozen=True)
class Checkpoint:
    """What a log was at one size."""

    origin: str
    size: int
    root: bytes


def _parted(note: str) -> tuple[str, str]:
    """Text and signature lines of a note; NoteError."""
    if len(note) > MAX_NOTE:
        raise NoteError("too long for a note")
    text, blank, signatures = note.rpartition("\n\n")
    if not blank:
        raise NoteError("a note has an empty line before its signatures")
    return text + "\n", signatures


def open_note(note: str, keys: Sequence[VerifierKey]) -> tuple[str, str | None]:
    """The text of a note, and the name of the key among these that signed it; None: none did. NoteError."""
    text, signatures = _parted(note)
    for key in keys:
        if any(_signs(line, text, key) for line in signatures.splitlines()):
            return text, key.name
    return text, None


def open_checkpoint(note: str, key: VerifierKey) -> Checkpoint:
    """The checkpoint in a note that this key signed; NoteError."""
    text, signatures = _parted(note)
    if not any(_signs(line, text, key) for line in signatures.splitlines()):
        raise NoteError("the key did not sign this note")
    lines = text.split("\n")
    try:
        origin, size, encoded = lines[0], lines[1], lines[2]
        root = base64.b64decode(encoded, validate=True)
    except (IndexError, binascii.Error, ValueError):
        raise NoteError("the note is no checkpoint") from None
    if origin != key.name:
        # One key signs for all generations of a log: a signature moved under another name holds all the same.
        raise NoteError("the note is of another log than the key, or of another generation of it")
    if not size.isascii() or not size.isdigit() or len(size) > 19 or len(root) != 32:
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
    if name != key.name or raw[:4] != key.id_under(name):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(raw[4:], text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True
