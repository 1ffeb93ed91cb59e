#!/usr/bin/env python3
"""Check an exit pack: every file by its hash, every sound file by its length, and that nothing is missing.

    python3 verify.py [--key KEY] [--json] [FOLDER or ZIP]

Needs Python 3.9 or newer and nothing else; no network. It stands in every pack as verify.py. Where the package
`cryptography` is installed and the box's key is named (`earwitness audit checkpoint --key` says it), the signature over the
pack is checked, too. Exit code: 0 all is there and as it was written, 1 something is not, 2 it could not be checked: also
where a key is named and the signature cannot be checked by it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Union

MANIFEST, PACK, NOTE, INDEX = "manifest.jsonl", "pack.json", "pack.json.note", "index.json"
MAX_LINE = 1 << 20  # bytes
MAX_PACK = 1 << 20
MAX_INDEX = 2 << 30  # a zip file of some megabytes may hold any number of zeros
MOST_SHOWN = 100
KIND = "earwitness.example/exit-pack/v1"
BLOCK = 1 << 20
HEAD = 80  # bytes of a sound file that say how long it plays
OUTSIDE = "/"  # what a name begins with that lies beside the pack


class Findings:
    """What is wrong, as (path, word, text), and what was counted."""

    def __init__(self) -> None:
        self.wrong: list[tuple[str, str, str]] = []
        self.complete = False
        self.files = 0
        self.bytes = 0
        self.recordings: set[str] = set()
        self.sound_ms = 0
        self.signed = "not checked"
        self.unchecked = False  # a key is named, and the signature could not be checked by it

    @property
    def code(self) -> int:
        """The exit code."""
        return 1 if self.wrong else 2 if self.unchecked else 0

    def add(self, path: str, word: str, text: str) -> None:
        self.wrong.append((path, word, text))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "whole": not self.wrong, "complete": self.complete, "files": self.files, "bytes": self.bytes,
            "unchecked": self.unchecked, "recordings": len(self.recordings), "sound_ms": self.sound_ms,
            "signature": self.signed,
            "wrong": [{"path": one[0], "code": one[1], "text": one[2]} for one in self.wrong[:MOST_SHOWN]],
            "wrong_count": len(self.wrong),
        }  # fmt: skip

    def counts(self) -> str:
        """What there is, in words."""
        seconds = self.sound_ms // 1000
        length = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{self.files} files, {len(self.recordings)} recordings, {length} of sound"


class Folder:
    """A pack as it was written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, path: str) -> BinaryIO:
        """A file of it; OSError. Follows no link out of it."""
        at = self.root
        for step in path.split("/"):
            at = at / step
            if at.is_symlink():
                raise OSError("it is a link")
        return at.open("rb")

    def close(self) -> None:
        """Nothing of it stays open."""

    def names(self) -> Iterator[str]:
        for folder, names, files in os.walk(str(self.root)):
            names.sort()
            # A link to a folder is walked by nobody, and is nothing of a pack.
            links = [name for name in names if os.path.islink(os.path.join(folder, name))]
            for name in files + links:
                yield os.path.relpath(os.path.join(folder, name), str(self.root)).replace(os.sep, "/")


class Zipped:
    """A pack that somebody put into a zip file: at its top, or in one folder of it."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(str(path))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
            raise ValueError("it is no zip file, or was cut off") from error
        members = [one for one in self._zip.infolist() if not one.is_dir()]
        tops = [one.filename[: -len(PACK)] for one in members if one.filename.split("/")[-1] == PACK]
        tops = sorted(top for top in tops if top.count("/") <= 1)
        if not tops:
            raise ValueError("there is no pack.json in it")
        self._top = tops[0]
        if any(one.flag_bits & 1 for one in members):
            raise ValueError("the zip file is encrypted: unpack it first")
        self._members = members

    def open(self, path: str) -> BinaryIO:
        """A file of it; OSError."""
        try:
            member = self._zip.getinfo(self._top + path)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise OSError("it is packed in a way that is not known here")
            return self._zip.open(member)  # type: ignore[return-value]
        except (KeyError, NotImplementedError, ValueError, zipfile.BadZipFile, struct.error) as error:
            raise OSError("it is not in the zip file, or cannot be read") from error

    def close(self) -> None:
        self._zip.close()

    def names(self) -> Iterator[str]:
        """Each member, as often as it is there."""
        for one in self._members:
            inside = one.filename.startswith(self._top)
            yield one.filename[len(self._top) :] if inside else OUTSIDE + one.filename


Files = Union[Folder, Zipped]  # noqa: UP007 - Python 3.9
UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, EOFError)


def files_of(path: Path) -> Files:
    """A pack's folder, or zip file. OSError, ValueError where it is neither."""
    return Folder(path) if path.is_dir() else Zipped(path)


def lines(files: Files, found: Findings) -> Iterator[dict[str, Any]]:
    """The manifest's lines; what is none is told."""
    with files.open(MANIFEST) as file:
        number = 0
        while True:
            raw = file.readline(MAX_LINE)
            if not raw:
                return
            number += 1
            try:
                said = json.loads(raw)
                if not isinstance(said, dict) or not isinstance(said.get("path"), str):
                    raise ValueError
                if not isinstance(said.get("size"), int) or not isinstance(said.get("sha256"), str):
                    raise ValueError
                if not isinstance(said.get("recording", ""), str):
                    raise ValueError
            except (ValueError, RecursionError):
                found.add(MANIFEST, "MANIFEST_LINE", f"line {number} is none of a manifest")
                continue
            yield said


def inside(text: str) -> bool:
    """Whether a path of the manifest is one within the pack."""
    return not ("\\" in text or "\0" in text or any(step in ("", ".", "..") for step in text.split("/")))


def digest(file: BinaryIO, most: int | None = None) -> tuple[int, str, bytes]:
    """Size, SHA-256 and the first bytes; of what is longer than `most` no more than that is read."""
    made, size, head = hashlib.sha256(), 0, b""
    with file:
        while True:
            block = file.read(BLOCK)
            if not block:
                return size, made.hexdigest(), head
            head = head or block[:HEAD]
            size += len(block)
            made.update(block)
            if most is not None and size > most:
                return size, "", head


def content(files: Files, path: str, most: int) -> bytes:
    """A whole file of the pack; ValueError where it is longer than that."""
    with files.open(path) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise ValueError(f"{path} is too long")
    return found


def length_ms(head: bytes, size: int) -> int | None:
    """How long a WAV (RIFF, RF64) or FLAC file plays, by its own header and its size; None where it is none."""
    if head[:4] == b"fLaC":
        if len(head) < 26 or head[4] & 0x7F:
            return None
        packed = int.from_bytes(head[18:26], "big")
        rate, samples = packed >> 44, packed & ((1 << 36) - 1)
        return round(samples * 1000 / rate) if rate else None
    wide = head[:4] == b"RF64"
    if head[8:12] != b"WAVE" or (not wide and head[:4] != b"RIFF"):
        return None
    at = 12 + (36 if wide else 0)
    if len(head) < at + 32:
        return None
    if head[at : at + 4] != b"fmt " or head[at + 24 : at + 28] != b"data":
        return None
    form, _, rate, _, block, bits = struct.unpack("<HHIIHH", head[at + 8 : at + 24])
    if form != 1 or not rate or not block or bits != 16:
        return None
    said = struct.unpack("<Q", head[28:36])[0] if wide else struct.unpack("<I", head[at + 28 : at + 32])[0]
    if said != size - at - 32:
        return None  # cut off, or longer than it says
    return round(said // block * 1000 / rate)


def check_signature(files: Files, raw: bytes, found: Findings, keys: tuple[str, ...]) -> None:
    """The note over pack.json (C2SP signed-note, Ed25519), by any of the keys."""
    try:
        text = content(files, NOTE, MAX_PACK).decode("utf-8")
    except (*UNREADABLE, ValueError):
        found.add(NOTE, "SIGNATURE_MISSING", "there is no signature that can be read")
        return
    body, _, signatures = text.partition("\n\n")
    said = body.split("\n")
    if said != [KIND, hashlib.sha256(raw).hexdigest()]:
        found.add(NOTE, "SIGNATURE_OF_OTHER", "the signature is over something else")
        return
    if not keys:
        found.signed = "a signature is there; name the box's key with --key to check it"
        return
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        found.unchecked = True
        found.signed = "not checked; install the Python package cryptography"
        return
    for key in keys:
        try:
            name, _, encoded = key.strip().split("+", 2)
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded, validate=True)[1:])
        except ValueError:
            found.add(NOTE, "KEY_MALFORMED", "--key is no verifier key")
            return
        for line in signatures.strip("\n").split("\n"):
            parts = line.split(" ")
            if len(parts) == 3 and parts[0] == "\u2014" and parts[1] == name:
                try:
                    public.verify(base64.b64decode(parts[2], validate=True)[4:], (body + "\n").encode())
                except (InvalidSignature, ValueError):
                    continue
                found.signed = "signed by " + name
                return
    found.add(NOTE, "SIGNATURE_WRONG", "no signature by this key holds")


def check(path: Path, *keys: str) -> Findings:
    """Everything; `keys` are the box's, as name+hash+base64. OSError, ValueError where there is no pack."""
    files = files_of(path)
    try:
        return _checked(files, keys)
    finally:
        files.close()


def _checked(files: Files, keys: tuple[str, ...]) -> Findings:
    found = Findings()
    try:
        raw = content(files, PACK, MAX_PACK)
        pack = json.loads(raw)
        if not isinstance(pack, dict) or pack.get("schema") != KIND:
            raise ValueError("pack.json is none of an exit pack")
        manifest = digest(files.open(MANIFEST))[1]
    except (zipfile.BadZipFile, zlib.error, EOFError, RecursionError) as error:
        raise ValueError("pack.json or the manifest cannot be read") from error
    found.complete = bool(pack.get("complete"))
    if manifest != pack.get("manifest_sha256"):
        found.add(MANIFEST, "MANIFEST_CHANGED", "it is not the one that pack.json names")
    check_signature(files, raw, found, keys)
    known = {MANIFEST, PACK, NOTE}
    for said in lines(files, found):
        check_file(files, said, known, found)
    seen: set[str] = set()
    for name in files.names():
        if name not in known:
            found.add(name, "NOT_IN_MANIFEST", "nobody wrote it into the manifest")
        elif name in seen:
            found.add(name, "TWICE", "it is there more than once")
        seen.add(name)
    check_index(files, pack, found)
    for name, counted in (("files", found.files), ("bytes", found.bytes)):
        if pack.get(name) != counted:
            found.add(PACK, "COUNT", f"of {name} it says {number(pack.get(name))}, there are {counted}")
    return found


def check_file(files: Files, said: dict[str, Any], known: set[str], found: Findings) -> None:
    """One line of the manifest against the file."""
    text = said["path"]
    if not inside(text) or text in known:
        found.add(text, "PATH_WRONG", "leads out of the pack, or stands there twice")
        return
    known.add(text)
    try:
        size, sha256, head = digest(files.open(text), said["size"])
    except (*UNREADABLE, ValueError):  # ValueError: of a name that no file can have
        found.add(text, "MISSING", "it is not there, or cannot be read")
        return
    found.files += 1
    found.bytes += size
    if said.get("recording"):
        found.recordings.add(said["recording"])
    if (size, sha256) != (said["size"], said["sha256"]):
        found.add(text, "CHANGED", "it is not what was written")
        return
    if said.get("kind") == "sound":
        plays = length_ms(head, size)
        if plays is None or plays != said.get("duration_ms"):
            found.add(
                text, "LENGTH", f"it plays {plays} ms, the manifest says {number(said.get('duration_ms'))}"
            )
        else:
            found.sound_ms += plays


def check_index(files: Files, pack: dict[str, Any], found: Findings) -> None:
    """The index against the manifest: the same recordings, and as many as the pack says."""
    try:
        index = json.loads(content(files, INDEX, MAX_INDEX))
        named = {one["recording"] for one in index["recordings"]}
        gone = {one["recording"] for one in index["tombstones"]}
        if not all(isinstance(one, str) for one in named | gone):
            raise ValueError
    except (*UNREADABLE, ValueError, KeyError, TypeError, RecursionError):
        found.add(INDEX, "INDEX_UNREADABLE", "it is no index")
        return
    for recording in sorted(found.recordings - named):
        found.add(INDEX, "NOT_IN_INDEX", recording)
    for recording in sorted(named - found.recordings):
        found.add(INDEX, "WITHOUT_FILES", recording)
    if (len(named), len(gone)) != (pack.get("recordings"), pack.get("tombstones")):
        found.add(INDEX, "COUNT", "it has other numbers of recordings than pack.json")


def main(arguments: list[str] | None = None) -> int:
    """Check and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Check an exit pack of recordings.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--key", help="the box's key: name+hash+base64")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    try:
        found = check(options.folder, *([] if options.key is None else [options.key]))
    except (OSError, ValueError) as error:
        print(f"cannot be checked: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if options.json:
        print(json.dumps(found.as_dict(), indent=2))  # noqa: T201
        return found.code
    for path, word, text in found.wrong[:MOST_SHOWN]:
        print(f"{word}  {shown(path)}  {shown(text)}")  # noqa: T201
    if len(found.wrong) > MOST_SHOWN:
        print(f"... and {len(found.wrong) - MOST_SHOWN} more")  # noqa: T201
    part = "" if found.complete else " It is a part: its making was ended before."
    verdict = (
        "Whole, and as it was written:",
        "NOT as it was written:",
        "Whole, but NOT KNOWN to be the box's:",
    )[found.code]
    print(f"{verdict} {found.counts()}.{part} Signature: {found.signed}.")  # noqa: T201
    return found.code


def number(said: Any) -> str:
    """What a pack says where a number should be; it may be anything."""
    return str(said) if isinstance(said, (int, float)) else "no number"


def shown(text: str) -> str:
    """In one line, whatever it holds: whoever made the pack chose it."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


if __name__ == "__main__":
    sys.exit(main())
