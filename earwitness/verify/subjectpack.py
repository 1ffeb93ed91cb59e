"""A subject pack: what can be told of it without its passphrase, and whether it is whole with it.

Written from docs/subject-access.md alone. Without the passphrase its form is all that can be seen: names of members, that
all are encrypted, and that nothing was cut off. With it each member's own code, SHA256SUMS over all of them, the index,
and the box's signature are checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from earwitness.verify import signed
from earwitness.verify.notes import MAX_NOTE, UnreadableError, VerifierKey
from earwitness.verify.sealed import Finding
from earwitness.verify.winzip import MemberDamagedError, NotSealedError, SealedZip, WrongPassphraseError

KIND: Final = "subject-pack"
FORMAT: Final = "earwitness subject pack v1"
SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SIGNATURE"
INDEX: Final = "index.json"
MEMBERS: Final = frozenset((SUMS, SIGNATURE, INDEX, "index.html", "README.txt", "subject-pack.schema.json"))
MAX_TEXT: Final = 16 << 20  # bytes of the index, or of the sums
_AUDIO: Final = re.compile(r"audio/[0-9]{4,}\.wav")
_SUM: Final = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass
class SubjectVerdict:
    """What can be said of one. `opened`: by its passphrase; only then is it known to be whole."""

    file: str
    opened: bool = False
    members: int = 0
    recordings: int = 0
    signature: str = "not checked"
    findings: list[Finding] = field(default_factory=list)

    @property
    def word(self) -> str:
        """INTACT; DAMAGED; or UNOPENED, which has the right form and may hold anything."""
        if self.findings:
            return "DAMAGED"
        return "INTACT" if self.opened else "UNOPENED"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "kind": KIND, "verdict": self.word}


def check_subject_pack(
    path: Path, passphrase: bytes | None = None, keys: Sequence[VerifierKey] | None = None
) -> SubjectVerdict:
    """OSError; UnreadableError where it is no pack at all, or the passphrase is another one's."""
    verdict = SubjectVerdict(path.name)
    with SealedZip(path) as opened:
        names = opened.names()
        verdict.members = len(names)
        verdict.recordings = sum(_AUDIO.fullmatch(one) is not None for one in names)
        for name in sorted(MEMBERS - set(names)):
            _wrong(verdict, "MEMBER_MISSING", f"{name} is not there")
        for name in names:
            if name not in MEMBERS and not _AUDIO.fullmatch(name):
                _wrong(verdict, "MEMBER_UNKNOWN", f"{name} is nothing of such a pack")
            try:
                opened.place(name)
            except NotSealedError as error:
                _wrong(verdict, "MEMBER_MALFORMED", str(error))
        if passphrase is not None:
            _open(opened, passphrase, keys, verdict)
    return verdict


def _wrong(verdict: SubjectVerdict, code: str, sentence: str) -> None:
    verdict.findings.append(Finding(code, sentence))


def _open(
    opened: SealedZip, passphrase: bytes, keys: Sequence[VerifierKey] | None, verdict: SubjectVerdict
) -> None:
    sums: dict[str, str] = {}
    texts: dict[str, bytes] = {}
    refused = 0
    for name in opened.names():
        digest, text = hashlib.sha256(), bytearray()
        try:
            for piece in opened.read(name, passphrase):
                digest.update(piece)
                if name in (SUMS, SIGNATURE, INDEX) and len(text) <= MAX_TEXT:
                    text += piece
        except WrongPassphraseError:
            refused += 1
            _wrong(verdict, "MEMBER_DAMAGED", f"{name} is not opened by the passphrase")
        except MemberDamagedError as error:
            _wrong(verdict, "MEMBER_DAMAGED", str(error))
        except NotSealedError:
            pass  # told already
        else:
            sums[name], texts[name] = digest.hexdigest(), bytes(text)
    if refused == len(opened.names()):
        raise WrongPassphraseError("the passphrase does not open it")
    verdict.opened = True
    if SUMS in sums:
        _hold(texts[SUMS], sums, verdict)
    if SUMS in sums and SIGNATURE in sums:
        _signature(texts[SIGNATURE], sums[SUMS], keys, verdict)
    if INDEX in sums:
        _index(texts[INDEX], sums, verdict)


def _hold(text: bytes, sums: dict[str, str], verdict: SubjectVerdict) -> None:
    """All members against SHA256SUMS."""
    said: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        if found := _SUM.fullmatch(line):
            said[found[2]] = found[1]
        else:
            _wrong(verdict, "SUMS_MALFORMED", "a line of SHA256SUMS is none of such a file")
    there = {name: digest for name, digest in sums.items() if name not in (SUMS, SIGNATURE)}
    for name in sorted(said.keys() | there.keys()):
        if name not in there:
            _wrong(verdict, "MEMBER_MISSING", f"{name} is in SHA256SUMS, and not there")
        elif said.get(name) != there[name]:
            _wrong(verdict, "MEMBER_CHANGED", f"{name} is not what SHA256SUMS says")


def _signature(text: bytes, sha256: str, keys: Sequence[VerifierKey] | None, verdict: SubjectVerdict) -> None:
    if keys is None:
        verdict.signature = "a signature is there; name the box's keys with --keys to check it"
        return
    try:
        found = signed.check(SIGNATURE, sha256, text[: MAX_NOTE + 1].decode("utf-8", "replace"), keys)
    except UnreadableError as error:
        _wrong(verdict, "SIGNATURE_MALFORMED", str(error))
        return
    if not found.good or found.kind != KIND:
        _wrong(verdict, "SIGNATURE_WRONG", found.problem or "it is over something else than such a pack")
        return
    verdict.signature = f"signed by {found.key}"


def _index(text: bytes, sums: dict[str, str], verdict: SubjectVerdict) -> None:
    """The index against the sound."""
    try:
        index = json.loads(text)
        if index["format"] != FORMAT:
            raise ValueError
        named = {str(one["file"]): one["sha256"] for one in index["recordings"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        _wrong(verdict, "INDEX_MALFORMED", "index.json is none of such a pack")
        return
    sound = {name: digest for name, digest in sums.items() if _AUDIO.fullmatch(name)}
    if named != sound:
        _wrong(verdict, "INDEX_DIFFERS", "index.json names other sound than there is")
