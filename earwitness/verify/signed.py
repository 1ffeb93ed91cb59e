"""Files that a box signed as they are: reports, documents, manifests. The signature lies beside the file, as FILE.note.

It is a signed note (C2SP signed-note) under the box's audit key, of two lines: earwitness.example/<kind>/v1, and the
SHA-256 of the file in lower-case hexadecimal.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from earwitness.verify.notes import MAX_NOTE, VerifierKey, open_note

SUFFIX: Final = ".note"
_BLOCK: Final = 1 << 20
_TEXT: Final = re.compile(r"earwitness\.example/([a-z][a-z0-9-]{0,59})/v1\n([0-9a-f]{64})\n")


@dataclass(frozen=True)
class Signed:
    """What is known of a signed file. `problem`: why it does not verify, as a sentence; empty where it does."""

    file: str
    kind: str = ""
    key: str = ""  # name of the key that signed
    sha256: str = ""
    problem: str = ""

    @property
    def good(self) -> bool:
        return not self.problem


def note_of(path: Path) -> Path:
    """Where the signature of a file lies."""
    return path.with_name(path.name + SUFFIX)


def verify_signed(path: Path, keys: Sequence[VerifierKey]) -> Signed:
    """Hold a file against the note beside it. OSError; UnreadableError where a note is no note at all."""
    with note_of(path).open("rb") as file:
        note = file.read(MAX_NOTE + 1).decode("utf-8", "replace")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return check(path.name, digest.hexdigest(), note, keys)


def check(name: str, sha256: str, note: str, keys: Sequence[VerifierKey]) -> Signed:
    """Hold a file's SHA-256 against a note. UnreadableError where it is no note at all."""
    # Signatures are under the log's own name: they outlive a break of the log, its checkpoints have another name then.
    text, key = open_note(note, [VerifierKey(one.log(), one.public) for one in keys])
    found = _TEXT.fullmatch(text)
    if found is None:
        return Signed(
            name, key=key or "", problem="the note is of no file: it has not the form of such a signature"
        )
    if key is None:
        return Signed(name, found[1], problem="no key among those given has signed it")
    if found[2] != sha256:
        return Signed(name, found[1], key, sha256, "the file is not what was signed")
    return Signed(name, found[1], key, sha256)
