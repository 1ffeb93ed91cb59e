"""A bucket as a stream to another directory: ciphertext as it lies, so that who receives it cannot read it.

Frames: length of a JSON head (4, big-endian) ‖ head ‖ for a file its bytes. First `begin` (the bucket's check, snapshot,
base, the list of all its files), then `file` for each that is new since the base, then `end` with SHA-256 over all before.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from appliance.model import is_id
from appliance.storage.keystore.files import make_directory, remove_durably, sync_directory, write_durably
from appliance.storage.names import check_snapshot_name
from appliance.storage.vault.directory.medium import Fault, sync_tree
from appliance.storage.vault.directory.place import ABOUT, SUFFIX, Place, listing
from appliance.storage.vault.errors import ReplicaDivergedError

PIECE: Final = 1 << 20
MAX_HEAD: Final = 64 << 20  # the list of a bucket's files
_INCOMING: Final = ".incoming"  # no snapshot has such a name
_TOKEN: Final = ".token"


def _frame(head: dict[str, Any]) -> bytes:
    raw = json.dumps(head, separators=(",", ":"), sort_keys=True).encode()
    return len(raw).to_bytes(4, "big") + raw


def send(place: Place, snapshot: str, base: str, resume: str) -> Iterator[bytes]:
    """The pieces. `resume` names files that the other side has already."""
    have: set[str] = set()
    if resume:
        token = json.loads(base64.b64decode(resume, validate=True))
        if (token["snapshot"], token["base"]) != (snapshot, base):
            raise ReplicaDivergedError("the token is of another stream", bucket=place.bucket.path)
        have = set(token["have"])
    folder = place.snapshot(snapshot)
    names = sorted(name for name, _ in listing(folder))
    before = {name for name, _ in listing(place.snapshot(base))} if base else set()
    return _pieces(place, snapshot, base, names, sorted(set(names) - before - have))


def _pieces(place: Place, snapshot: str, base: str, names: list[str], fresh: list[str]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    folder = place.snapshot(snapshot)
    begin = _frame(
        {
            "kind": "begin",
            "check": place.check.read_bytes().hex(),
            "snapshot": snapshot,
            "base": base,
            "about": (folder / ABOUT).read_text("utf-8"),
            "names": names,
        }
    )
    digest.update(begin)
    yield begin
    for name in fresh:
        with open(folder / f"{name}{SUFFIX}", "rb") as file:
            head = _frame({"kind": "file", "name": name, "size": os.fstat(file.fileno()).st_size})
            digest.update(head)
            yield head
            while piece := file.read(PIECE):
                digest.update(piece)
                yield piece
    yield _frame({"kind": "end", "sha256": digest.hexdigest()})


class _Pull:
    """Exactly so many bytes out of pieces of any size."""

    def __init__(self, pieces: Iterator[bytes], place: Place) -> None:
        self._pieces, self._place = pieces, place
        self._held = b""
        self.digest = hashlib.sha256()

    def take(self, size: int, *, counted: bool = True) -> bytes:
        while len(self._held) < size:
            piece = next(self._pieces, None)
            if piece is None:
                raise self.diverged("the stream ends too early")
            self._held += piece
        found, self._held = self._held[:size], self._held[size:]
        if counted:
            self.digest.update(found)
        return found

    def head(self) -> dict[str, Any]:
        before = self.digest.copy()
        size = int.from_bytes(self.take(4), "big")
        if size > MAX_HEAD:
            raise self.diverged("a head is too long")
        try:
            found = json.loads(self.take(size))
        except ValueError as error:
            raise self.diverged("a head is not JSON") from error
        if found.get("kind") == "end":
            self.digest = before
        return dict(found)

    def diverged(self, why: str) -> ReplicaDivergedError:
        return ReplicaDivergedError(f"what was received does not fit: {why}", bucket=self._place.bucket.path)


def receive(place: Place, pieces: Iterator[bytes], fault: Fault) -> None:
    """Takes a stream in; see BucketStore.receive."""
    pull = _Pull(pieces, place)
    begin = pull.head()
    if begin.get("kind") != "begin":
        raise pull.diverged("it does not begin as a stream does")
    snapshot, base, names = str(begin["snapshot"]), str(begin["base"]), [str(name) for name in begin["names"]]
    check_snapshot_name(snapshot)
    if not all(is_id(name) for name in names):
        raise pull.diverged("a file has no name of ours")
    _check_fits(place, pull, bytes.fromhex(begin["check"]), base)
    place.make()
    if place.snapshot(snapshot).is_dir():
        return  # it is here already
    incoming = place.snapshots / _INCOMING
    make_directory(incoming)
    _begin_token(incoming, snapshot, base)
    while (head := pull.head()).get("kind") == "file":
        name = str(head["name"])
        if name not in names:
            raise pull.diverged("a file is not in the list")
        _take_file(pull, incoming / f"{name}{SUFFIX}", int(head["size"]))
        fault("file received")
    if head.get("kind") != "end" or head.get("sha256") != pull.digest.hexdigest():
        raise pull.diverged("it does not end as it should")
    _complete(
        place, incoming, snapshot, base, names, str(begin["about"]), bytes.fromhex(begin["check"]), fault
    )


def _check_fits(place: Place, pull: _Pull, check: bytes, base: str) -> None:
    if place.exists() and place.check.read_bytes() != check:
        raise pull.diverged("another bucket of this name is here")
    if base and not place.snapshot(base).is_dir():
        raise pull.diverged("the snapshot it goes on from is not here")


def _begin_token(incoming: Path, snapshot: str, base: str) -> None:
    """Files of another stream that was broken off are of no use."""
    token = json.dumps({"snapshot": snapshot, "base": base}).encode()
    path = incoming / _TOKEN
    if not path.exists() or path.read_bytes() != token:
        for _, file in listing(incoming):
            file.unlink()
        write_durably(path, token)


def _take_file(pull: _Pull, target: Path, size: int) -> None:
    aside = target.with_name(f".{target.name}.tmp")
    with open(aside, "wb") as file:
        left = size
        while left:
            piece = pull.take(min(PIECE, left))
            file.write(piece)
            left -= len(piece)
        file.flush()
        os.fsync(file.fileno())
    os.rename(aside, target)


def _complete(
    place: Place,
    incoming: Path,
    snapshot: str,
    base: str,
    names: list[str],
    about: str,
    check: bytes,
    fault: Fault,
) -> None:
    before = place.snapshot(base) if base else None
    for name in names:
        target = incoming / f"{name}{SUFFIX}"
        if not target.exists():
            source = before / target.name if before is not None else target
            if not source.exists():
                raise ReplicaDivergedError("a file of the list did not come", bucket=place.bucket.path)
            os.link(source, target)
    for name, path in list(listing(incoming)):
        if name not in names:
            path.unlink()
    write_durably(incoming / ABOUT, about.encode())
    remove_durably(incoming / _TOKEN)
    sync_tree(incoming)
    fault("snapshot received")
    wanted = set(names)
    for name, path in list(listing(place.files)):
        if name not in wanted:
            path.unlink()
    for name in names:
        target = place.files / f"{name}{SUFFIX}"
        if not target.exists():
            os.link(incoming / target.name, target)
    sync_directory(place.files)
    if not place.exists():
        write_durably(place.check, check)
    os.rename(incoming, place.snapshots / snapshot)
    sync_directory(place.snapshots)
    fault("received")


def resume_token(place: Place) -> str:
    """See BucketStore.resume_token."""
    incoming = place.snapshots / _INCOMING
    path = incoming / _TOKEN
    if not path.exists():
        return ""
    token = json.loads(path.read_bytes())
    token["have"] = sorted(name for name, _ in listing(incoming))
    return base64.b64encode(json.dumps(token).encode()).decode()
