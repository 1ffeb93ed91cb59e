"""The checkout as the guest gets it: what git would commit, uncommitted changes and new files included."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from image.commands import run
from image.guest.root import CHECKOUT

MANIFEST = f"{CHECKOUT}/.manifest.json"
# Takes the archive and the directory; the names to drop come on standard input.
UNPACK = 'tar -xzf "$1" -C "$2" --no-same-owner; cd "$2"; xargs -0 -r rm -f --; sync -f "$2"'

Manifest = dict[str, str]


@dataclass(frozen=True)
class Difference:
    """What to send, and what to drop."""

    send: tuple[str, ...]
    drop: tuple[str, ...]


def files(root: Path) -> Manifest:
    """Each file's name and the hash of what it is: contents and whether it may be executed."""
    listed = run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    names = sorted({name for name in listed.split("\0") if name})
    found = {name: _hash(root / name) for name in names if (root / name).is_file()}
    return found | {name: hashlib.sha256(data).hexdigest() for name, data in _metadata(root).items()}


def difference(root: Path, wanted: Manifest, known: Manifest) -> Difference:
    """From what the guest has to what it shall have."""
    send = tuple(name for name, value in wanted.items() if known.get(name) != value)
    return Difference(send, tuple(name for name in known if name not in wanted))


def archive(root: Path, names: tuple[str, ...]) -> bytes:
    """A compressed tar of these files. Times stay, so that compiled Python stays good for what did not change."""
    buffer = io.BytesIO()
    made = _metadata(root)
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name in names:
            if name in made:
                info = tarfile.TarInfo(name)
                info.size = len(made[name])
                tar.addfile(info, io.BytesIO(made[name]))
            else:
                tar.add(root / name, name, recursive=False)
    return buffer.getvalue()


def render(manifest: Manifest) -> bytes:
    """As the guest keeps it."""
    return json.dumps(manifest).encode()


def parse(data: bytes) -> Manifest:
    """From `render`; nothing where the guest has none, or one that was cut."""
    try:
        found: Manifest = json.loads(data)
    except ValueError:
        return {}
    return found


def _hash(file: Path) -> str:
    executable = b"x" if os.access(file, os.X_OK) else b"-"
    return hashlib.sha256(executable + file.read_bytes()).hexdigest()


def _metadata(root: Path) -> dict[str, bytes]:
    """What pip would write down of an installed project: without it `importlib.metadata` knows no version."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {f"{name}-{version}.dist-info/METADATA": text.encode()}
