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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import TypeAdapter, ValidationError

from appliance.storage.vault.errors import JournalCorruptError
from appliance.storage.vault.linefile import LineFile

CONTEXT = b"earwitness deletion log v1\0"
MAX_IN_ENTRY = 20_000  # recordings
_MAX_LINE = 1 << 20


class DeletionKind(enum.StrEnum):
    """What a copy must do."""

    HELD = "held"  # nothing of these may go: a legal hold
    RELEASED = "released"  # that hold is over
    ERASED = "erased"  # their keys are destroyed: forget them
    EXPIRED = "expired"  # these buckets are destroyed


@dataclass(frozen=True, slots=True)
class Deletion:
    """One entry. `key` makes appending it twice one entry; `buckets` are paths tenant/line/slice."""

    number: int
    previous: str
    at_ns: int
    kind: DeletionKind
    key: str
    recordings: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
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


class DeletionLog:
    """See the module. Safe to use from any thread."""

    def __init__(
        self, path: Path, key: Callable[[], Ed25519PrivateKey], clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._file = LineFile(path, max_line=_MAX_LINE)
        self._key = key
        self._clock = clock
        self._lock = threading.Lock()
        self._offsets: list[int] = []
        self._numbers: dict[str, int] = {}  # the last number of each key
        self._last = ""
        at = 0
        for body in self._file.bodies():
            entry = self._parse(body)
            if entry.number != len(self._offsets) + 1 or entry.previous != self._last:
                raise JournalCorruptError("the deletion log has a gap", what=path.name, offset=at)
            self._offsets.append(at)
            self._numbers[entry.key] = entry.number
            self._last = entry.digest()
            at += len(body) + 10

    @staticmethod
    def _parse(body: bytes) -> Deletion:
        try:
            return DELETION.validate_json(body)
        except ValidationError as error:
            raise JournalCorruptError(
                "an entry of the deletion log cannot be read", what="deletions"
            ) from error

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    @property
    def number(self) -> int:
        """The last entry's; 0: none."""
        with self._lock:
            return len(self._offsets)

    def append(
        self,
        kind: DeletionKind,
        key: str,
        *,
        recordings: Sequence[str] = (),
        buckets: Sequence[str] = (),
        case: str = "",
    ) -> int:
        """Durable when it returns; the number of its last entry. With the same key again nothing is added."""
        with self._lock:
            if key in self._numbers:
                return self._numbers[key]
            parts = [
                tuple(recordings[first : first + MAX_IN_ENTRY])
                for first in range(0, max(len(recordings), 1), MAX_IN_ENTRY)
            ]
            entries: list[Deletion] = []
            last = self._last
            for place, part in enumerate(parts):
                entry = Deletion(
                    len(self._offsets) + 1 + place,
                    last,
                    self._clock(),
                    kind,
                    key,
                    part,
                    tuple(buckets) if place == len(parts) - 1 else (),
                    case,
                )
                entry = replace(entry, signature=self._key().sign(entry.signed_bytes()).hex())
                entries.append(entry)
                last = entry.digest()
            self._offsets += self._file.append([DELETION.dump_json(entry) for entry in entries])
            self._numbers[key] = len(self._offsets)
            self._last = last
            return len(self._offsets)

    def since(self, number: int) -> Iterator[Deletion]:
        """Entries after a number, in order."""
        with self._lock:
            if number >= len(self._offsets):
                return
            start = self._offsets[number]
            lines = [line for _, line in self._file.lines(start)]
        for line in lines:
            yield self._parse(line[9:-1])
