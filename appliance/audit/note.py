"""Signed notes (C2SP signed-note) and checkpoints in them (C2SP tlog-checkpoint), with Ed25519 keys.

A note is a text that ends in a line feed, an empty line, and signature lines: em dash, key name, base64 of four bytes key
id and the signature over the text. Sans-IO.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.audit.errors import NoteError, NoteUnverifiedError
from appliance.audit.tree import HASH, MAX_SIZE

MAX_NOTE: Final = 64 * 1024  # bytes
MAX_SIGNATURES: Final = 100
MAX_NAME: Final = 200  # bytes of a key's name
_ED25519: Final = b"\x01"
_PRIVATE: Final = "PRIVATE+KEY"
_DASH: Final = "\u2014 "


def key_id(name: str, public: bytes) -> bytes:
    """Four bytes of SHA-256 over name, line feed, type and the key's 32 bytes (signed-note, Ed25519 signatures)."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


@dataclass(frozen=True)
class Verifier:
    """A name and the public key that signs under it. Written as name+hash+base64."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """NoteError where it is no verifier key of ours."""
        name, digest, raw = _split_key(text.strip("\n"))
        made = cls(name, raw)
        if key_id(name, raw).hex() != digest:
            raise NoteError("the hash in the key is not that of the key", field="key")
        return made

    @property
    def id(self) -> bytes:
        return key_id(self.name, self.public)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_encode(_ED25519 + self.public)}"

    def holds(self, text: str, signature: bytes) -> bool:
        """Whether this key signed the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """A name and the private key that signs under it."""

    name: str
    _private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str) -> Signer:
        _check_name(name)
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> Signer:
        """From PRIVATE+KEY+name+hash+base64; NoteError."""
        line = text.removesuffix("\n")
        if not line.startswith(_PRIVATE + "+"):
            raise NoteError("not a private key for notes", field="key")
        name, digest, raw = _split_key(line[len(_PRIVATE) + 1 :])
        made = cls(name, Ed25519PrivateKey.from_private_bytes(raw))
        if made.verifier.id.hex() != digest:
            raise NoteError("the hash in the key is not that of the key", field="key")
        return made

    def named(self, name: str) -> Signer:
        """The same key under another name."""
        _check_name(name)
        return Signer(name, self._private)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self._private.public_key().public_bytes_raw())

    def private_text(self) -> str:
        """What `parse` reads. Secret."""
        raw = _encode(_ED25519 + self._private.private_bytes_raw())
        return f"{_PRIVATE}+{self.name}+{self.verifier.id.hex()}+{raw}"

    def sign(self, text: str) -> str:
        """The signed note over a text that ends in a line feed."""
        _check_text(text)
        raw = self.verifier.id + self._private.sign(text.encode())
        return f"{text}\n{_DASH}{self.name} {_encode(raw)}\n"


def open_note(note: str | bytes, verifiers: Sequence[Verifier]) -> tuple[str, list[Verifier]]:
    """The text of a note and which of the keys signed it.

    NoteError where it is no note; NoteUnverifiedError where a known key's signature does not hold, or none is there.
    """
    text, lines = _parted(note)
    signers: list[Verifier] = []
    for name, raw in lines:
        for one in verifiers:
            if one.name == name and one.id == raw[:4] and one not in signers:
                if not one.holds(text, raw[4:]):
                    raise NoteUnverifiedError("the signature of a known key does not hold", name=name)
                signers.append(one)
    if not signers:
        raise NoteUnverifiedError("no known key has signed this note")
    return text, signers


@dataclass(frozen=True)
class Checkpoint:
    """What a log was: its origin, its size, the root hash (32 bytes) of the tree over it."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text: three lines."""
        return f"{self.origin}\n{self.size}\n{_encode(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """From a note's text; further lines are not looked at. NoteError."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise NoteError("a checkpoint has three lines or more, none empty")
        origin, size, root = lines[:3]
        number = int(size) if size.isascii() and size.isdigit() and len(size) < 20 else -1
        raw = _decode(root)
        if str(number) != size or not 0 <= number <= MAX_SIZE or len(raw) != HASH:
            raise NoteError("not a checkpoint: size or root hash have the wrong form")
        return cls(origin, number, raw)


def _parted(note: str | bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Text and signature lines (key name, id and signature)."""
    try:
        whole = note.decode() if isinstance(note, bytes) else note
        size = len(whole.encode())
    except UnicodeError:
        raise NoteError("a note is UTF-8") from None
    if size > MAX_NOTE or any(letter < " " and letter != "\n" for letter in whole):
        raise NoteError("a note has at most 64 KiB, and no control characters")
    text, gap, signatures = whole.rpartition("\n\n")
    text += "\n"
    if not gap or not signatures.endswith("\n") or text == "\n":
        raise NoteError("a note has a text, an empty line and signatures")
    lines = signatures.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError("a note has at most 100 signatures")
    found = []
    for line in lines:
        name, space, code = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space:
            raise NoteError("not a signature line")
        _check_name(name)
        raw = _decode(code)
        if len(raw) < 5:
            raise NoteError("a signature is too short")
        found.append((name, raw))
    return text, found


def _split_key(text: str) -> tuple[str, str, bytes]:
    name, _, rest = text.partition("+")
    digest, _, code = rest.partition("+")
    _check_name(name)
    raw = _decode(code)
    if len(digest) != 8 or raw[:1] != _ED25519 or len(raw) != 33:
        raise NoteError("not an Ed25519 key for notes: should be name+hash+base64", field="key")
    return name, digest, raw[1:]


def _check_name(name: str) -> None:
    plain = name.isprintable() and not any(letter.isspace() or letter == "+" for letter in name)
    if not name or not plain or len(name.encode("utf-8", "replace")) > MAX_NAME:
        raise NoteError("a key's name has no spaces and no plus, and at most 200 bytes", field="name")


def _check_text(text: str) -> None:
    if not text.endswith("\n") or text == "\n" or any(one < " " and one != "\n" for one in text):
        raise NoteError("a note's text ends in a line feed, and has no control characters")


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decode(code: str) -> bytes:
    """Canonical base64 only, so that one signature is written in one way."""
    try:
        raw = base64.b64decode(code.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise NoteError("not base64") from None
    if _encode(raw) != code:
        raise NoteError("not base64 as it is written")
    return raw
