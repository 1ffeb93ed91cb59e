#!/usr/bin/env python3
"""Check an exit pack: every file by its hash, every sound file by its length, and that nothing is missing.

    python3 verify.py [--key KEY] [--json] [FOLDER]

Needs Python 3.9 or newer and nothing else; no network. It stands in every pack as verify.py. Where the package
`cryptography` is installed and the box's key is named (`earwitness audit checkpoint --key` says it), the signature over the
pack is checked, too. Exit code: 0 all is there and as it was written, 1 something is not, 2 it could not be checked.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MANIFEST, PACK, NOTE = "manifest.jsonl", "pack.json", "pack.json.note"
MAX_LINE = 1 << 20  # bytes
MOST_SHOWN = 100
KIND = "earwitness.example/exit-pack/v1"
BLOCK = 1 << 20


class Findings:
    """What is wrong, as (path, word, text), and what was counted."""

    def __init__(self) -> None:
        self.wrong: list[tuple[str, str, str]] = []
        self.files = 0
        self.bytes = 0
        self.recordings: set[str] = set()
        self.sound_ms = 0
        self.signed = "not checked"

    def add(self, path: str, word: str, text: str) -> None:
        self.wrong.append((path, word, text))


def lines(path: Path, found: Findings) -> Iterator[dict[str, Any]]:
    """The manifest's lines; what is none is told."""
    with path.open("rb") as file:
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
            except ValueError:
                found.add(MANIFEST, "MANIFEST_LINE", f"line {number} is none of a manifest")
                continue
            yield said


def inside(root: Path, text: str) -> Path | None:
    """A path of the manifest within the pack; None where it leads elsewhere."""
    steps = text.split("/")
    if text.startswith("/") or "\\" in text or any(step in ("", ".", "..") for step in steps):
        return None
    at = root
    for step in steps:
        at = at / step
        if at.is_symlink():
            return None
    return at


def digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256."""
    made, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while True:
            block = file.read(BLOCK)
            if not block:
                return size, made.hexdigest()
            size += len(block)
            made.update(block)


def length_ms(path: Path, size: int) -> int | None:
    """How long a WAV (RIFF, RF64) or FLAC file plays, by its own header and its size; None where it is none."""
    with path.open("rb") as file:
        head = file.read(80)
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
    if head[at : at + 4] != b"fmt " or head[at + 24 : at + 28] != b"data":
        return None
    form, _, rate, _, block, bits = struct.unpack("<HHIIHH", head[at + 8 : at + 24])
    if form != 1 or not rate or not block or bits != 16:
        return None
    said = struct.unpack("<Q", head[28:36])[0] if wide else struct.unpack("<I", head[at + 28 : at + 32])[0]
    if said != size - at - 32:
        return None  # cut off, or longer than it says
    return round(said // block * 1000 / rate)


def check_signature(root: Path, found: Findings, key: str) -> None:
    """The note over pack.json (C2SP signed-note, Ed25519)."""
    try:
        text = (root / NOTE).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        found.add(NOTE, "SIGNATURE_MISSING", "there is no signature that can be read")
        return
    body, _, signatures = text.partition("\n\n")
    said = body.split("\n")
    if said != [KIND, hashlib.sha256((root / PACK).read_bytes()).hexdigest()]:
        found.add(NOTE, "SIGNATURE_OF_OTHER", "the signature is over something else")
        return
    if not key:
        found.signed = "a signature is there; name the box's key with --key to check it"
        return
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        found.signed = "a signature is there; install the Python package cryptography to check it"
        return
    try:
        name, _, encoded = key.strip().split("+", 2)
        raw = base64.b64decode(encoded, validate=True)[1:]
        public = Ed25519PublicKey.from_public_bytes(raw)
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


def check(root: Path, key: str = "") -> Findings:
    """Everything. OSError, ValueError where there is no pack."""
    found = Findings()
    pack = json.loads((root / PACK).read_text("utf-8"))
    if not isinstance(pack, dict) or pack.get("schema") != "earwitness.example/exit-pack/v1":
        raise ValueError("pack.json is none of an exit pack")
    if digest(root / MANIFEST)[1] != pack.get("manifest_sha256"):
        found.add(MANIFEST, "MANIFEST_CHANGED", "it is not the one that pack.json names")
    check_signature(root, found, key)
    known = {MANIFEST, PACK, NOTE}
    for said in lines(root / MANIFEST, found):
        check_file(root, said, known, found)
    for folder, names, files in os.walk(str(root)):
        names.sort()
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), str(root)).replace(os.sep, "/")
            if path not in known:
                found.add(path, "NOT_IN_MANIFEST", "nobody wrote it into the manifest")
    check_index(root, pack, found)
    for name, counted in (("files", found.files), ("bytes", found.bytes)):
        if pack.get(name) != counted:
            found.add(PACK, "COUNT", f"it says {pack.get(name)} {name}, there are {counted}")
    return found


def check_file(root: Path, said: dict[str, Any], known: set[str], found: Findings) -> None:
    """One line of the manifest against the file."""
    text = said["path"]
    path = inside(root, text)
    if path is None or text in known:
        found.add(text, "PATH_WRONG", "leads out of the pack, or stands there twice")
        return
    known.add(text)
    try:
        size, sha256 = digest(path)
    except OSError:
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
        plays = length_ms(path, size)
        if plays is None or plays != said.get("duration_ms"):
            found.add(text, "LENGTH", f"it plays {plays} ms, the manifest says {said.get('duration_ms')}")
        else:
            found.sound_ms += plays


def check_index(root: Path, pack: dict[str, Any], found: Findings) -> None:
    """The index against the manifest: the same recordings, and as many as the pack says."""
    try:
        index = json.loads((root / "index.json").read_text("utf-8"))
        named = {one["recording"] for one in index["recordings"]}
        gone = {one["recording"] for one in index["tombstones"]}
    except (OSError, ValueError, KeyError, TypeError):
        found.add("index.json", "INDEX_UNREADABLE", "it is no index")
        return
    for recording in sorted(found.recordings - named):
        found.add("index.json", "NOT_IN_INDEX", recording)
    for recording in sorted(named - found.recordings):
        found.add("index.json", "WITHOUT_FILES", recording)
    if (len(named), len(gone)) != (pack.get("recordings"), pack.get("tombstones")):
        found.add("index.json", "COUNT", "it has other numbers of recordings than pack.json")


def main(arguments: list[str] | None = None) -> int:
    """Check and print; gives the exit code."""
    parser = argparse.ArgumentParser(description="Check an exit pack of recordings.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--key", default="", help="the box's key: name+hash+base64")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    try:
        found = check(options.folder, options.key)
        pack = json.loads((options.folder / PACK).read_text("utf-8"))
    except (OSError, ValueError) as error:
        print(f"cannot be checked: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if options.json:
        said = {
            "whole": not found.wrong, "complete": bool(pack.get("complete")), "files": found.files, "bytes": found.bytes,
            "recordings": len(found.recordings), "sound_ms": found.sound_ms, "signature": found.signed,
            "wrong": [{"path": one[0], "code": one[1], "text": one[2]} for one in found.wrong[:MOST_SHOWN]],
            "wrong_count": len(found.wrong),
        }  # fmt: skip
        print(json.dumps(said, indent=2))  # noqa: T201
        return 1 if found.wrong else 0
    for path, word, text in found.wrong[:MOST_SHOWN]:
        print(f"{word}  {path}  {text}")  # noqa: T201
    if len(found.wrong) > MOST_SHOWN:
        print(f"... and {len(found.wrong) - MOST_SHOWN} more")  # noqa: T201
    part = "" if pack.get("complete") else " It is a part: its making was ended before."
    seconds = found.sound_ms // 1000
    length = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    verdict = "NOT as it was written:" if found.wrong else "Whole, and as it was written:"
    counts = f"{found.files} files, {len(found.recordings)} recordings, {length} of sound"
    print(f"{verdict} {counts}.{part} Signature: {found.signed}.")  # noqa: T201
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
