"""A bucket as a stream to another directory: ciphertext as it lies, so that who receives it cannot read it.

Frames: length of a JSON head (4, big-endian) ‖ head. First `begin` (the bucket's check, snapshot, base, the list of all its
files), then `file` for each that is new since the base, or another file by now (a sidecar that grew), followed by its bytes
and the SHA-256 of head and bytes, then `end` with the SHA-256 of all before. What is not whole, or not what was sent, is
never kept for going on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.storage.keystore.files import make_directory, remove_durably, sync_directory, write_durably
from appliance.storage.names import SnapshotNameError, check_snapshot_name
from appliance.storage.vault.directory.medium import Fault, dispose, sync_tree
from appliance.storage.vault.directory.place import (
    ABOUT,
    CHECK_BYTES,
    SIDECAR,
    Place,
    check_about,
    is_object,
    object_file,
    objects,
)
from appliance.storage.vault.errors import ReplicaDivergedError

PIECE: Final = 1 << 20
MAX_HEAD: Final = 64 << 20  # the list of a bucket's files
_INCOMING: Final = ".incoming"  # no snapshot has such a name
_TOKEN: Final = ".token"


def _frame(head: dict[str, Any]) -> bytes:
    raw = json.dumps(head, separators=(",", ":"), sort_keys=True).encode()
    return len(raw).to_bytes(4, "big") + raw


def send(place: Place, snapshot: str, base: str, resume: str) -> Iterator[bytes]:
    """The pieces. `resume` names files that the other side has already. ReplicaDivergedError: it is another stream's."""
    have = _had(place, snapshot, base, resume) if resume else set()
    folder = place.snapshot(snapshot)
    there = {name: path.stat().st_ino for name, path in objects(folder)}
    before = {name: path.stat().st_ino for name, path in objects(place.snapshot(base))} if base else {}
    fresh = sorted(name for name, inode in there.items() if before.get(name) != inode and name not in have)
    return _pieces(place, snapshot, base, sorted(there), fresh)


def _had(place: Place, snapshot: str, base: str, resume: str) -> set[str]:
    try:
        token = json.loads(base64.b64decode(resume, validate=True))
        if (token["snapshot"], token["base"]) == (snapshot, base):
            return {str(name) for name in token["have"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ReplicaDivergedError("the token is none", bucket=place.bucket.path) from error
    raise ReplicaDivergedError("the token is of another stream", bucket=place.bucket.path)


def _pieces(place: Place, snapshot: str, base: str, names: list[str], fresh: list[str]) -> Iterator[bytes]:
    whole = hashlib.sha256()
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
    whole.update(begin)
    yield begin
    for name in fresh:
        with open(folder / object_file(name), "rb") as file:
            head = _frame({"kind": "file", "name": name, "size": os.fstat(file.fileno()).st_size})
            own = hashlib.sha256(head)
            yield head
            while piece := file.read(PIECE):
                own.update(piece)
                yield piece
        yield own.digest()
        whole.update(own.digest())
    yield _frame({"kind": "end", "sha256": whole.hexdigest()})


class _Pull:
    """Exactly so many bytes out of pieces of any size."""

    def __init__(self, pieces: Iterator[bytes], place: Place) -> None:
        self._pieces, self._place = pieces, place
        self._held = b""
        self.whole = hashlib.sha256()

    def take(self, size: int) -> bytes:
        """ReplicaDivergedError where the stream ends before."""
        while len(self._held) < size:
            piece = next(self._pieces, None)
            if piece is None:
                raise self.diverged("the stream ends too early")
            self._held += piece
        found, self._held = self._held[:size], self._held[size:]
        return found

    def head(self) -> tuple[bytes, dict[str, Any]]:
        """A frame and what it says."""
        length = self.take(4)
        size = int.from_bytes(length, "big")
        if size > MAX_HEAD:
            raise self.diverged("a head is too long")
        raw = self.take(size)
        try:
            found = json.loads(raw)
        except ValueError as error:
            raise self.diverged("a head is not JSON") from error
        if not isinstance(found, dict):
            raise self.diverged("a head is no object")
        return length + raw, found

    def diverged(self, why: str) -> ReplicaDivergedError:
        return ReplicaDivergedError(f"what was received does not fit: {why}", bucket=self._place.bucket.path)


@dataclass(frozen=True, slots=True)
class _Begin:
    """What a stream says of itself."""

    check: bytes
    snapshot: str
    base: str
    about: str
    names: list[str]


def _begin(pull: _Pull) -> _Begin:
    raw, head = pull.head()
    pull.whole.update(raw)
    if head.get("kind") != "begin":
        raise pull.diverged("it does not begin as a stream does")
    try:
        found = _Begin(
            bytes.fromhex(head["check"]),
            str(head["snapshot"]),
            str(head["base"]),
            str(head["about"]),
            [str(name) for name in head["names"]],
        )
        check_about(found.about.encode())
        for name in filter(None, (found.snapshot, found.base)):
            check_snapshot_name(name)
    except (KeyError, ValueError, TypeError, SnapshotNameError) as error:
        raise pull.diverged("its beginning says too little") from error
    if len(found.check) != CHECK_BYTES or not found.snapshot or not all(map(is_object, found.names)):
        raise pull.diverged("its beginning says too little")
    return found


def receive(place: Place, pieces: Iterator[bytes], fault: Fault) -> None:
    """Takes a stream in; see BucketStore.receive."""
    pull = _Pull(pieces, place)
    begin = _begin(pull)
    if place.exists() and place.check.read_bytes() != begin.check:
        raise pull.diverged("another bucket of this name is here")
    if begin.base and not place.snapshot(begin.base).is_dir():
        raise pull.diverged("the snapshot it goes on from is not here")
    place.make()
    there = place.snapshot(begin.snapshot)
    if there.is_dir():
        if (there / ABOUT).read_bytes() != begin.about.encode():
            raise pull.diverged("another snapshot of this name is here")
        return
    incoming = place.snapshots / _INCOMING
    make_directory(incoming)
    _begin_token(incoming, begin.snapshot, begin.base)
    wanted = set(begin.names)
    while (frame := pull.head())[1].get("kind") == "file":
        _take_file(pull, frame, incoming, wanted)
        fault("file received")
    if frame[1] != {"kind": "end", "sha256": pull.whole.hexdigest()}:
        dispose(incoming, place.folder.parents[3] / "removed")
        raise pull.diverged("it does not end as it should")
    _complete(place, incoming, begin, fault)


def _begin_token(incoming: Path, snapshot: str, base: str) -> None:
    """Files of another stream that was broken off are of no use."""
    token = json.dumps({"snapshot": snapshot, "base": base}).encode()
    path = incoming / _TOKEN
    if not path.exists() or path.read_bytes() != token:
        for _, file in objects(incoming):
            file.unlink()
        write_durably(path, token)


def _take_file(pull: _Pull, frame: tuple[bytes, dict[str, Any]], incoming: Path, wanted: set[str]) -> None:
    raw, head = frame
    name, left = head.get("name"), head.get("size")
    if name not in wanted or not isinstance(left, int) or left < 0:
        raise pull.diverged("a file is not in the list")
    target = incoming / object_file(name)
    aside = target.with_name(f".{target.name}.tmp")
    own = hashlib.sha256(raw)
    with open(aside, "wb") as file:
        while left:
            piece = pull.take(min(PIECE, left))
            own.update(piece)
            file.write(piece)
            left -= len(piece)
        file.flush()
        os.fsync(file.fileno())
    if pull.take(len(own.digest())) != own.digest():
        raise pull.diverged("a file came out otherwise than it was sent")
    pull.whole.update(own.digest())
    os.rename(aside, target)


def _complete(place: Place, incoming: Path, begin: _Begin, fault: Fault) -> None:
    names = begin.names
    before = place.snapshot(begin.base) if begin.base else None
    for name in names:
        target = incoming / object_file(name)
        if not target.exists():
            source = before / target.name if before is not None else target
            if not source.exists():
                raise ReplicaDivergedError("a file of the list did not come", bucket=place.bucket.path)
            os.link(source, target)
    wanted = set(names)
    for name, path in list(objects(incoming)):
        if name not in wanted:
            path.unlink()
    for path in incoming.glob(".*.tmp"):
        path.unlink()  # of a file that a crash broke off
    write_durably(incoming / ABOUT, begin.about.encode())
    remove_durably(incoming / _TOKEN)
    sync_tree(incoming)
    fault("snapshot received")
    for name, path in list(objects(place.files)):
        if name not in wanted or (name.endswith(SIDECAR) and not path.samefile(incoming / path.name)):
            path.unlink()
    for name in names:
        target = place.files / object_file(name)
        if not target.exists():
            os.link(incoming / target.name, target)
    sync_directory(place.files)
    if not place.exists():
        write_durably(place.check, begin.check)
    os.rename(incoming, place.snapshots / begin.snapshot)
    sync_directory(place.snapshots)
    fault("received")


def resume_token(place: Place) -> str:
    """See BucketStore.resume_token."""
    incoming = place.snapshots / _INCOMING
    path = incoming / _TOKEN
    if not path.exists():
        return ""
    token = json.loads(path.read_bytes())
    token["have"] = sorted(name for name, _ in objects(incoming))
    return base64.b64encode(json.dumps(token).encode()).decode()
