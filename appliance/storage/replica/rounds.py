"""What a round with a replica came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.storage.vault.stored import Ailment


@dataclass(frozen=True, slots=True)
class Failure:
    """A bucket, or the log (no bucket), that could not be brought up to date."""

    bucket: str
    reason: str
    message: str


@dataclass(slots=True)
class Round:
    """What one round came to: entries told, buckets brought up to date, bytes sent; what is left and what failed."""

    entries: int = 0
    buckets: int = 0
    bytes: int = 0
    gave_way: int = 0
    left: int = 0
    left_bytes: int = 0
    left_since_ns: int = 0
    """Since when the oldest of what is left waits; 0: nothing is left."""
    stale: bool = False
    leftovers: int = 0
    """Copies of buckets that are not here and that no hold keeps."""
    ailments: list[Ailment] = field(default_factory=list)
    """Of the replica's medium."""
    failures: list[Failure] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the replica is as the box is."""
        return not self.failures and not self.left and not self.gave_way
