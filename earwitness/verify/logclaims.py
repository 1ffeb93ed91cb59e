"""What checkpoints claim, for the verifier: signed notes opened with verifier keys, as docs/audit.md has them.

Shares no code with what writes the log, by intent.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from earwitness.verify.notes import LOG_NAME, UnreadableError, VerifierKey

MAX_LINE: Final = 1 << 16
MAX_FINDINGS: Final = 1000
MAX_NOTE: Final = 1 << 16
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Finding:
    """Something that is wrong. `index` is the entry, or -1 where it is none."""

    kind: str
    message: str
    index: int = -1


@dataclass(frozen=True)
class Claim:
    """What a checkpoint says, once its signature was found to hold."""

    origin: str
    generation: int
    size: int
    root: bytes
    source: str


@dataclass
class Report:
    """What was found. Whole where there are no findings."""

    size: int = 0
    withheld: int = 0
    checkpoints: int = 0
    newest: int = -1  # entries that the newest checkpoint that holds covers
    findings: list[Finding] = field(default_factory=list)
    more: int = 0  # findings beyond those

    @property
    def uncovered(self) -> int:
        """The newest entries, which no checkpoint that holds is over: anybody may have written them."""
        return self.size - max(self.newest, 0)

    @property
    def whole(self) -> bool:
        return not self.findings

    def add(self, kind: str, message: str, index: int = -1) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(kind, message, index))
        else:
            self.more += 1


class Lines:
    """The lines of all files of entries, again as often as they are asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __iter__(self) -> Iterator[bytes]:
        for path in self._paths:
            held = b""
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    *whole, held = (held + block).split(b"\n")
                    yield from whole
                    if len(held) > MAX_LINE:
                        yield held
                        held = b""


def claims_of(path: Path, keys: Sequence[VerifierKey], report: Report) -> list[Claim]:
    """The log's own checkpoints."""
    found: list[Claim] = []
    for name in ("checkpoints.jsonl", "checkpoint"):
        file = path / name
        if path.is_dir() and file.exists():
            for number, line in enumerate(Lines([file]), 1):
                found += _claim(_note_of(line), f"{name}, line {number}", keys, report)
    return found


def kept_claims(path: Path, keys: Sequence[VerifierKey], report: Report) -> list[Claim]:
    """Checkpoints kept elsewhere: a note, or lines of the form of checkpoints.jsonl."""
    try:
        with path.open("rb") as file:
            start = file.read(1)
            data = start + (b"" if start == b"{" else file.read(MAX_NOTE))
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from error
    if start == b"{":
        found: list[Claim] = []
        for number, line in enumerate(Lines([path]), 1):
            found += _claim(_note_of(line), f"{path}, line {number}", keys, report)
        return found
    return _claim(data.decode("utf-8", "replace"), str(path), keys, report)


def _note_of(line: bytes) -> str:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    note = said.get("note") if isinstance(said, dict) else None
    return note if isinstance(note, str) else ""


def _claim(note: str, source: str, keys: Sequence[VerifierKey], report: Report) -> list[Claim]:
    """A checkpoint whose signature holds; else a finding."""
    text, gap, signatures = note.rpartition("\n\n")
    rows = text.split("\n")
    if not gap or len(rows) < 3 or not re.fullmatch(r"0|[1-9][0-9]{0,17}", rows[1]):
        report.add("checkpoint", f"{source} is not a checkpoint")
        return []
    try:
        root = base64.b64decode(rows[2], validate=True)
    except (binascii.Error, ValueError):
        root = b""
    origin = rows[0]
    named = LOG_NAME.fullmatch(origin)
    for key in keys:
        if len(root) == 32 and named and named[1] == key.log():
            if _signed(key, origin, text + "\n", signatures):
                return [Claim(origin, int(named[2] or 1), int(rows[1]), root, source)]
            report.add("forged", f"{source} is not signed by this log's key: it is forged, or was changed")
            return []
    report.add("foreign", f"{source} is of another log: the key given is not that of its origin")
    return []


def _signed(key: VerifierKey, origin: str, text: str, signatures: str) -> bool:
    public = Ed25519PublicKey.from_public_bytes(key.public)
    for row in signatures.split("\n")[:100]:
        name, _, code = row.removeprefix("\u2014 ").partition(" ")
        try:
            raw = base64.b64decode(code, validate=True)
        except (binascii.Error, ValueError):
            continue
        if row.startswith("\u2014 ") and name == origin and raw[:4] == key.id_under(origin):
            try:
                public.verify(raw[4:], text.encode())
            except (InvalidSignature, UnicodeEncodeError):  # what is no UTF-8 nobody signed
                return False
            return True
    return False
