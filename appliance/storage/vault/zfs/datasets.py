"""Datasets: names, what is there, and how buckets are made, opened, closed, destroyed. Each step can be done twice."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from appliance.storage.names import GUARD, BucketId, SnapshotId
from appliance.storage.vault.errors import (
    BucketKeyError,
    BucketMissingError,
    StoreRefusedError,
    StoreUnavailableError,
)
from appliance.storage.vault.stored import BucketState
from appliance.storage.vault.zfs.commands import Commands
from appliance.storage.vault.zfs.listing import by_command
from appliance.storage.vault.zfs.programs import (
    ADOPTED,
    FACTS,
    HELD,
    KIND,
    MARK,
    OPEN,
    ORIGIN,
    SET,
    WRITTEN,
    Facts,
    parse,
    parse_held,
)
from appliance.storage.vault.zfs.tree import Tree
from appliance.storage.vault.zfs.trouble import Trouble
from appliance.storage.vault.zfs.worker import Worker

Fault = Callable[[str], None]
T = TypeVar("T")
KEY_BYTES: Final = 32
CHUNK: Final = 100  # datasets in one program: it holds up whoever creates and destroys for as long as it runs
BUSY_S: Final = 3.0  # how long a key is in use after its dataset was unmounted
_LIMITS: Final = (errno.ENOMEM, errno.ENOSPC, errno.ETIME, errno.ECHRNG)
# As numbers, because that is how libzfs_core wants them: atime off, sa, off, off, noauto. The payload is ciphertext.
PROPERTIES: Final[dict[str, str | int]] = {
    "recordsize": 128 << 10,
    "atime": 0,
    "xattr": 2,
    "compression": 2,
    "dedup": 2,
    "mountpoint": "legacy",
    "devices": 0,
    "setuid": 0,
    "exec": 0,
}
_CANMOUNT_OFF, _CANMOUNT_NOAUTO = 0, 2
PARENT: Final[dict[str, str | int]] = {**PROPERTIES, "canmount": _CANMOUNT_OFF}
BUCKET: Final[dict[str, str | int]] = {**PROPERTIES, "canmount": _CANMOUNT_NOAUTO}
# The same in the words of `zfs set` and `zfs receive -o`.
BUCKET_WORDS: Final = (
    "recordsize=128K",
    "atime=off",
    "xattr=sa",
    "compression=off",
    "dedup=off",
    "mountpoint=legacy",
    "devices=off",
    "setuid=off",
    "exec=off",
    "canmount=noauto",
)


def state_of(facts: Facts | None) -> BucketState:
    """A dataset without our property, or into which a receive was broken off, is no bucket yet."""
    if facts is None or facts.kind != "bucket" or facts.unfinished:
        return BucketState.ABSENT
    return BucketState.OPEN if facts.key_loaded else BucketState.LOCKED


class Datasets:
    """See the module."""

    def __init__(self, tree: Tree, worker: Worker, commands: Commands, fault: Fault) -> None:
        self.tree = tree
        self._worker = worker
        self._commands = commands
        self._fault = fault

    # What is there.

    def facts(
        self,
        names: Sequence[str],
        *,
        snapshots: bool = False,
        children: bool = False,
        at: str = "",
        tags: bool = False,
        brief: bool = False,
    ) -> list[Facts]:
        """Of those that exist, in the order asked for. Without `children` one child is told at most: there may be
        thousands, and most want to know only whether there is any. `at`: of the snapshots, that of this name alone; `tags`:
        only names and holds. `brief`: only what a bucket's name, state and mark go by."""
        asked = {"snapshots": snapshots, "children": children, f"@{at}": at, "tags": tags, "brief": brief}
        words = [word for word, wanted in asked.items() if wanted]

        def read(some: Sequence[str]) -> list[Facts]:
            return parse(self._read(FACTS, [" ".join(words), *some]))

        def slowly(name: str) -> list[Facts]:
            found = by_command(self._commands, self._worker, name, snapshots or tags or bool(at))
            return [one.with_tags_alone() for one in found] if tags else found

        return _in_chunks(names, read, slowly)

    def held(self, snapshots: Sequence[SnapshotId]) -> dict[SnapshotId, frozenset[str]]:
        """Those of them that are there, in buckets of ours, and the tags that hold them."""
        wanted = {self.tree.snapshot(one): one for one in snapshots}

        def read(some: Sequence[str]) -> list[tuple[str, frozenset[str]]]:
            return list(parse_held(self._read(HELD, some)).items())

        def slowly(name: str) -> list[tuple[str, frozenset[str]]]:
            found = by_command(self._commands, self._worker, self.tree.dataset(wanted[name].bucket), True)
            there = [one.snapshot(wanted[name].name) for one in found if one.kind == "bucket"]
            return [(name, one.holds) for one in there if one]

        return {wanted[name]: tags for name, tags in _in_chunks(list(wanted), read, slowly)}

    def _read(self, program: str, arguments: Sequence[str]) -> str:
        answer = self._worker.call(
            "program", pool=self.tree.pool, text=program, arguments=list(arguments), writes=False
        )
        return answer.payload.decode()

    def bucket(
        self, bucket: BucketId, *, snapshots: bool = False, at: str = "", brief: bool = False
    ) -> Facts | None:
        """Of one bucket's dataset; None where there is none."""
        found = self.facts([self.tree.dataset(bucket)], snapshots=snapshots, at=at, brief=brief)
        return found[0] if found else None

    def require(
        self, bucket: BucketId, *, snapshots: bool = False, at: str = "", brief: bool = False
    ) -> Facts:
        """The same; BucketMissingError."""
        facts = self.bucket(bucket, snapshots=snapshots, at=at, brief=brief)
        if facts is None or state_of(facts) is BucketState.ABSENT:
            raise BucketMissingError("there is no such bucket", bucket=bucket.path)
        return facts

    def walk(self, *, snapshots: bool = False, tags: bool = False, brief: bool = False) -> Iterator[Facts]:
        """The root, tenants, lines, buckets and whatever else lies there down to below the buckets, level by level.

        Below a dataset that is not ours nothing is looked at.
        """
        names: list[str] = [self.tree.root]
        for depth in range(5):
            level = self.facts(names, snapshots=snapshots, tags=tags, children=True, brief=brief)
            yield from level
            names = [
                child
                for one in level
                if self.tree.expected(one.name, one.kind, depth)
                for child in one.children
            ]

    def buckets(self, *, snapshots: bool = False) -> Iterator[tuple[BucketId, Facts]]:
        """Every bucket, in order; of its own facts what its state and mark go by."""
        found = []
        for facts in self.walk(snapshots=snapshots, brief=True):
            bucket = self.tree.bucket(facts.name)
            if bucket and state_of(facts) is not BucketState.ABSENT:
                found.append((bucket, facts))
        yield from sorted(found, key=lambda one: one[0])

    # Parents.

    def make_parent(self, name: str, kind: str) -> None:
        """An unencrypted, empty dataset that is never mounted; success where it is there."""
        properties = {**PARENT, KIND: kind}
        try:
            self._worker.call("create", changes=[name], name=name, properties=properties)
        except Trouble as trouble:
            if trouble.number != errno.EEXIST:
                raise
            return
        self._fault(f"{kind} made")

    def _make_parents(self, bucket: BucketId) -> None:
        parents = {self.tree.tenant(bucket.tenant_id): "tenant", self.tree.line(bucket): "line"}
        there = {one.name: one for one in self.facts(list(parents))}
        for name, kind in parents.items():
            if name not in there:
                self.make_parent(name, kind)
            elif not there[name].kind:
                self._adopt_parent(there[name], kind)

    def _adopt_parent(self, facts: Facts, kind: str) -> None:
        """A crash left it without properties; where it is not empty it is somebody else's."""
        if facts.children or facts.key_loaded or facts.type != "filesystem":
            raise StoreRefusedError(
                "a dataset that is not ours is in the way", found=facts.name, wanted="none"
            )
        words = [word for word in BUCKET_WORDS if not word.startswith("canmount")]
        self._commands.run("zfs", "set", *words, "canmount=off", f"{KIND}={kind}", facts.name)

    def make_parents(self, bucket: BucketId) -> None:
        """Those of a bucket that is received."""
        self._make_parents(bucket)

    def make_tenant(self, tenant_id: str) -> str:
        """Its dataset's name."""
        name = self.tree.tenant(tenant_id)
        if not self.facts([name]):
            self.make_parent(name, "tenant")
        return name

    # Buckets.

    def make(self, bucket: BucketId, key: bytes) -> Facts:
        """The dataset under its key, which is loaded then; one that is there is opened with it. BucketKeyError.

        Its guard is told, and no other snapshot.
        """
        _check_key(bucket, key)
        name = self.tree.dataset(bucket)
        facts = self.bucket(bucket, at=GUARD)
        if facts is None:
            self._make_parents(bucket)
            # Marked as open from its birth: it is about to be written, and that spares a transaction group.
            properties = {**BUCKET, KIND: "bucket", OPEN: WRITTEN}
            try:
                self._worker.call("create", payload=key, changes=[name], name=name, properties=properties)
            except Trouble as trouble:
                if trouble.number != errno.EEXIST:
                    raise
            self._fault("bucket made")
            facts = self.bucket(bucket, at=GUARD)
            if facts is None:
                raise StoreUnavailableError("a bucket that was made is not there", errno=errno.ENOENT)
        if facts.unfinished:
            raise BucketKeyError("a copy is being received under this name", bucket=bucket.path)
        self.open_with(bucket, facts, key)
        if not facts.kind:
            self._finish(facts)
        return self.require(bucket, at=GUARD) if not (facts.kind and facts.key_loaded) else facts

    def _finish(self, facts: Facts) -> None:
        """A crash came between the dataset and its properties. That our key opens it shows that it is ours."""
        self._commands.run("zfs", "set", *BUCKET_WORDS, f"{KIND}=bucket", f"{OPEN}={WRITTEN}", facts.name)

    def open_with(self, bucket: BucketId, facts: Facts, key: bytes) -> None:
        """Loads the key, or compares it with the one that is loaded. BucketKeyError."""
        _check_key(bucket, key)
        if not facts.own_root:
            raise BucketKeyError("the dataset of this name has no key of its own", bucket=bucket.path)
        for check_only in (True, False):
            if check_only != facts.key_loaded:
                continue
            try:
                self._worker.call(
                    "load_key", payload=key, changes=[facts.name], name=facts.name, check_only=check_only
                )
            except Trouble as trouble:
                if trouble.kind == "EncryptionKeyAlreadyLoaded":
                    self.open_with(bucket, self.require(bucket), key)
                elif trouble.number == errno.EACCES:
                    raise BucketKeyError("this is not the bucket's key", bucket=bucket.path) from trouble
                else:
                    raise

    def unload(self, bucket: BucketId) -> None:
        """Forgets the key of a dataset that is not mounted; success where it is not loaded."""
        end = time.monotonic() + BUSY_S
        name = self.tree.dataset(bucket)
        while True:
            try:
                self._worker.call("unload_key", changes=[name], name=name)
            except Trouble as trouble:
                if trouble.number == errno.EACCES:  # it is not loaded
                    return
                if trouble.number != errno.EBUSY or time.monotonic() > end:
                    raise
                time.sleep(0.05)  # what was unmounted lets go of its key a moment later
            else:
                return

    def mark(self, bucket: BucketId, is_open: bool) -> None:
        """Notes in a property that the bucket may have been written and not unmounted, or that it has been."""
        self.note(bucket, OPEN, WRITTEN if is_open else "")

    def mark_compared(self, words: Mapping[BucketId, str]) -> None:
        """Notes a word on each that is locked and was closed in good order."""
        pairs = [(self.tree.dataset(bucket), word) for bucket, word in words.items()]
        for first in range(0, len(pairs), CHUNK):
            some = pairs[first : first + CHUNK]
            self._change(MARK, [name for name, _ in some], [each for pair in some for each in pair])

    def adopt(self, facts: Facts) -> None:
        """Makes a dataset that was received one that can be written."""
        self._commands.run("zfs", "set", *BUCKET_WORDS, "readonly=off", f"{ORIGIN}={ADOPTED}", facts.name)

    def note(self, bucket: BucketId, which: str, value: str) -> None:
        """Sets a property of ours, or takes it away (empty), in one transaction."""
        name = self.tree.dataset(bucket)
        self._change(SET, [name], [name, which, value])

    def _change(self, program: str, names: Sequence[str], arguments: Sequence[str]) -> None:
        answer = self._worker.call(
            "program",
            changes=names,
            pool=self.tree.pool,
            text=program,
            arguments=list(arguments),
            writes=True,
        )
        number = int(answer.payload or b"0")
        if number:
            raise Trouble(number, "SetProperty")

    def destroy(self, name: str) -> None:
        """A dataset without snapshots; success where it is absent."""
        try:
            self._worker.call("destroy", changes=[name], name=name)
        except Trouble as trouble:
            if trouble.number != errno.ENOENT:
                raise


def _in_chunks(
    names: Sequence[str], read: Callable[[Sequence[str]], list[T]], slowly: Callable[[str], list[T]]
) -> list[T]:
    """What a program reads of many, so many at once as it can; `slowly`, one by one, what no program can read."""
    if len(names) > CHUNK:
        parts = [names[first : first + CHUNK] for first in range(0, len(names), CHUNK)]
        return [one for part in parts for one in _in_chunks(part, read, slowly)]
    try:
        return read(names) if names else []
    except Trouble as trouble:
        if trouble.number not in _LIMITS:
            raise
    if len(names) == 1:
        return slowly(names[0])
    half = len(names) // 2  # too much for one program, or one dataset among them cannot be read
    return _in_chunks(names[:half], read, slowly) + _in_chunks(names[half:], read, slowly)


def _check_key(bucket: BucketId, key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise BucketKeyError(f"a bucket's key has {KEY_BYTES} bytes", bucket=bucket.path)
