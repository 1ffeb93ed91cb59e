"""Packs among the files that are to be checked: exit packs, as a folder or a zip file, and subject packs; in words."""

from __future__ import annotations

import base64
import enum
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from earwitness.verify import exitpack, subjectpack
from earwitness.verify.keys import BoxKeys
from earwitness.verify.notes import UnreadableError, VerifierKey

_ZIP: Final = (b"PK\3\4", b"PK\5\6")


class PackKind(enum.StrEnum):
    """What a path holds."""

    EXIT = "exit-pack"
    SUBJECT = "subject-pack"


@dataclass
class PackVerdict:
    """What can be said of one. `good` is None where it could not be looked into: neither whole nor damaged."""

    good: bool | None
    lines: list[str]  # for people; whoever made the pack chose some of the words
    content: dict[str, Any]  # for JSON


def kind_of(path: Path) -> PackKind | None:
    """None: it is no folder and no zip file. UnreadableError where it is, and no pack; OSError."""
    if path.is_dir():
        if (path / exitpack.PACK).is_file():
            return PackKind.EXIT
        if path.name.endswith(".partial"):
            raise UnreadableError("an exit pack that is still being written, or broke off")
        raise UnreadableError("a folder, and no exit pack")
    with path.open("rb") as file:
        if file.read(4) not in _ZIP:
            return None
        try:
            with zipfile.ZipFile(file) as opened:
                names = opened.namelist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error):
            raise UnreadableError("a zip file that was cut off, or is damaged") from None
    if {subjectpack.SUMS, subjectpack.SIGNATURE} <= set(names):
        return PackKind.SUBJECT
    if any(one.count("/") <= 1 and one.rsplit("/", 1)[-1] == exitpack.PACK for one in names):
        return PackKind.EXIT
    raise UnreadableError("a zip file, and neither an exit pack nor a subject pack")


def check(
    path: Path, kind: PackKind, keys: BoxKeys | None, ask: Callable[[], str] | None = None
) -> PackVerdict:
    """Of a path of that kind. `ask` gives the passphrase of a subject pack. OSError, UnreadableError."""
    if kind is PackKind.EXIT:
        return _exit_pack(path, keys)
    passphrase = None if ask is None else ask().encode("utf-8", "surrogateescape")
    found = subjectpack.check_subject_pack(path, passphrase, None if keys is None else keys.audit)
    lines = [
        f"{path.name}: {found.word}",
        f"  pack       subject pack, {found.members} members, {found.recordings} recordings",
        f"  signed     {found.signature}" if found.opened else _UNOPENED,
        *(f"  WRONG      {one.code}: {one.sentence}" for one in found.findings),
    ]
    good = False if found.findings else True if found.opened else None
    return PackVerdict(good, lines, found.as_dict())


_UNOPENED: Final = (
    "  not known  whether it holds what was put there: its form alone is seen from outside. --passphrase asks for its"
    " passphrase"
)


def _exit_pack(path: Path, keys: BoxKeys | None) -> PackVerdict:
    try:
        found = exitpack.check(path, *(map(_key, keys.audit) if keys is not None else ()))
    except ValueError as error:
        raise UnreadableError(str(error)) from error
    word = "DAMAGED" if found.wrong else "INTACT"
    whole = "complete" if found.complete else "a part: its making was ended before"
    lines = [
        f"{path.name}: {word}",
        f"  pack       exit pack, {whole}; {found.counts()}",
        f"  signed     {found.signed}",
        *(
            f"  WRONG      {code}: {text} ({where})"
            for where, code, text in found.wrong[: exitpack.MOST_SHOWN]
        ),
    ]
    if len(found.wrong) > exitpack.MOST_SHOWN:
        lines.append(f"  WRONG      {len(found.wrong) - exitpack.MOST_SHOWN} more")
    content = {"file": path.name, "kind": PackKind.EXIT.value, "verdict": word, **found.as_dict()}
    return PackVerdict(not found.wrong, lines, content)


def _key(key: VerifierKey) -> str:
    """As `exitpack` takes it. Signatures are under the log's own name: they outlive a break of the log."""
    name = key.log()
    return f"{name}+{key.id_under(name).hex()}+{base64.b64encode(bytes([1]) + key.public).decode()}"
