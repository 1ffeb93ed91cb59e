"""The deletion log: what copies of this box must forget or must not forget, numbered, chained and signed.

A replica follows it in order; a number it has confirmed is done there. Each line is JSON; `previous` is SHA-256 of the line
before, and the signature is Ed25519 by the device key over `earwitness deletion log v1`, a zero byte and the JSON without
the signature, keys sorted, no spaces. docs/replica.md has the bytes.
"""

from __future__ import annotations

import enum
import hashlib
import json
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import TypeAdapter, ValidationError

from appliance.storage.vault.errors import JournalCorruptError
from appliance.storage.vault.linefile import LineFile

CONTEXT = b"earwitness deletion log v1\0"
MAX_IN_ENTRY = 16_000  # recordings
MAX_PLACES = 2_500  # buckets, and as many snapshots
MAX_LINE = 1 << 20


class DeletionKind(enum.StrEnum):
    """What a copy must do."""

    HELD = "held"  # nothing of these may go: a legal hold
    RELEASED = "released"  # that hold is over
    ERASED = "erased"  # their keys are destroyed: forget them
    EXPIRED = "expired"  # these buckets are destroyed


@dataclass(frozen=True, slots=True)
class Deletion:
    """One entry. `key` makes appending it twice one entry.

    `buckets`, as tenant/line/slice: of HELD and ERASED, where the recordings lie; of EXPIRED, what is destroyed.
    `snapshots`, as bucket@name, of HELD: where the files of those lie that were deleted and are parked.
    """

    number: int
    previous: str
    at_ns: int
    kind: DeletionKind
    key: str
    recordings: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    case: str = ""
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        fields = asdict(self)
        del fields["signature"]
        return CONTEXT + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def holds(self, device_public_key: bytes) -> bool:
        """Whether that device signed it."""
        try:
            Ed25519PublicKey.from_public_bytes(device_public_key).verify(
                bytes.fromhex(self.signature), self.signed_bytes()
            )
        except (InvalidSignature, ValueError):
            return False
        return True

    def digest(self) -> str:
        """What the next entry chains to: SHA-256, hexadecimal."""
        return hashlib.sha256(DELETION.dump_json(self)).hexdigest()


DELETION = TypeAdapter(Deletion)


@dataclass(slots=True)
class _Told:
    """What a case is known to hold."""

    recordings: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)


class DeletionLog:
    """See the module. Safe to use from any thread. `woken` is called after each entry, and returns at once."""

    def __init__(
        self, path: Path, key: Callable[[], Ed25519PrivateKey], clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._file = LineFile(path, max_line=MAX_LINE)
        self._key = key
        self._clock = clock
        self._lock = threading.RLock()
        self._offsets: list[int] = []
        self._numbers: dict[str, tuple[int, int]] = {}  # the first and last number of each key
        self._held: dict[str, _Told] = {}
        self._last = ""
        self.woken: Callable[[], None] = lambda: None
        at = 0
        for body in self._file.bodies():
            entry = parse_entry(body)
            if entry.number != len(self._offsets) + 1 or entry.previous != self._last:
                raise JournalCorruptError("the deletion log has a gap", what=path.name, offset=at)
            self._take(entry, at)
            at += len(body) + 10

    def _take(self, entry: Deletion, offset: int) -> None:
        self._offsets.append(offset)
        first, _ = self._numbers.get(entry.key, (entry.number, 0))
        self._numbers[entry.key] = first, entry.number
        self._last = entry.digest()
        if entry.kind is DeletionKind.HELD:
            told = self._held.setdefault(entry.case, _Told())
            told.recordings.update(entry.recordings)
            told.places.update(entry.buckets, entry.snapshots)
        elif entry.kind is DeletionKind.RELEASED:
            self._held.pop(entry.case, None)

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    @property
    def number(self) -> int:
        """The last entry's; 0: none."""
        with self._lock:
            return len(self._offsets)

    def hold(
        self, case: str, recordings: Sequence[str], *, buckets: Collection[str], snapshots: Collection[str]
    ) -> int:
        """Tells what a case holds, and where, as far as it is not told yet; durable. The log's last number."""
        with self._lock:
            told = self._held.get(case, _Told())
            fresh = [name for name in recordings if name not in told.recordings]
            places = [sorted(set(some) - told.places) for some in (buckets, snapshots)]
            if not fresh and not any(places):
                return len(self._offsets)
            digest = hashlib.sha256("\n".join([*fresh, *places[0], *places[1]]).encode()).hexdigest()
            return self.append(
                DeletionKind.HELD,
                f"held {case} {digest}",
                recordings=fresh,
                buckets=places[0],
                snapshots=places[1],
                case=case,
            )

    def append(
        self,
        kind: DeletionKind,
        key: str,
        *,
        recordings: Sequence[str] = (),
        buckets: Sequence[str] = (),
        snapshots: Sequence[str] = (),
        case: str = "",
    ) -> int:
        """Durable when it returns; the number of its last entry. With the same key again what is not told yet is added.

        Of what takes several entries a crash may have left the first ones.
        """
        with self._lock:
            if key in self._numbers:
                told = self._under(key)
                recordings, buckets, snapshots = (
                    [name for name in some if name not in told] for some in (recordings, buckets, snapshots)
                )
                if not (recordings or buckets or snapshots):
                    return self._numbers[key][1]
            entries: list[Deletion] = []
            last = self._last
            for names, here, there in _parts(recordings, buckets, snapshots):
                number = len(self._offsets) + 1 + len(entries)
                entry = Deletion(number, last, self._clock(), kind, key, names, here, there, case)
                entry = replace(entry, signature=self._key().sign(entry.signed_bytes()).hex())
                entries.append(entry)
                last = entry.digest()
            offsets = self._file.append([DELETION.dump_json(entry) for entry in entries])
            for entry, offset in zip(entries, offsets, strict=True):
                self._take(entry, offset)
            number = len(self._offsets)
        self.woken()
        return number

    def _under(self, key: str) -> set[str]:
        """Recordings and places that the entries of a key name."""
        first, last = self._numbers[key]
        entries = [entry for entry in self.since(first - 1, last - first + 1) if entry.key == key]
        return {
            name for one in entries for some in (one.recordings, one.buckets, one.snapshots) for name in some
        }

    def since(self, number: int, limit: int = 64) -> list[Deletion]:
        """At most so many entries after a number, in order. JournalCorruptError."""
        with self._lock:
            if number >= len(self._offsets):
                return []
            lines = islice(self._file.lines(self._offsets[number]), limit)
            return [parse_entry(line[9:-1]) for _, line in lines]

    def erased_of(self, recordings: Collection[str]) -> set[str]:
        """Those whose keys are destroyed: an entry says so only after that. Reads all of the log. JournalCorruptError."""
        wanted, found, number = set(recordings), set[str](), 0
        while entries := self.since(number, 256):
            for entry in entries:
                if entry.kind in (DeletionKind.ERASED, DeletionKind.EXPIRED):
                    found |= wanted.intersection(entry.recordings)
            number = entries[-1].number
        return found

    def digest_at(self, number: int) -> str:
        """The digest of an entry that is there; of number 0: empty. JournalCorruptError."""
        if number == 0:
            return ""
        (entry,) = self.since(number - 1, 1)
        return entry.digest()


def parse_entry(body: bytes) -> Deletion:
    """An entry out of its JSON. JournalCorruptError."""
    try:
        return DELETION.validate_json(body)
    except ValidationError as error:
        raise JournalCorruptError("an entry of the deletion log cannot be read", what="deletions") from error


_Part = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def _parts(recordings: Sequence[str], buckets: Sequence[str], snapshots: Sequence[str]) -> list[_Part]:
    """So much for each entry that it is one line; places come with the last recordings, not before them."""
    sizes = ((recordings, MAX_IN_ENTRY), (buckets, MAX_PLACES), (snapshots, MAX_PLACES))
    pieces = [[tuple(all_[at : at + size]) for at in range(0, len(all_), size)] for all_, size in sizes]
    count = max(1, *(len(some) for some in pieces))
    padded = [[()] * (count - len(some)) + some for some in pieces]
    return list(zip(*padded, strict=True))
