"""What a replica is to who drives it: it follows a log, takes streams in, and says with its signature how far it is.

A replica has no key of a bucket and no key of a recording: what it keeps it cannot read. It destroys and lets go only what
the box that it is pinned to has signed. Doing a thing twice is success; a crash leaves the state before or after.
Errors: those of `replica.errors`, and of the store beneath.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from appliance.storage.names import BucketId
from appliance.storage.replica.papers import Mark, Notice, Receipt
from appliance.storage.vault.contract import Ailment, Stream
from appliance.storage.vault.deletionlog import Deletion


@dataclass(frozen=True, slots=True)
class Copy:
    """A bucket at a replica: its snapshots, oldest first; where a broken receive goes on; whether a hold alone keeps it."""

    snapshots: tuple[Mark, ...] = ()
    resume: str = ""
    kept: bool = False


class ReplicaTarget(ABC):
    """See the module."""

    name: str

    @abstractmethod
    def greet(self, device_public_key: str) -> Receipt:
        """Pins the box (by the first greeting), and says how far it was followed. ReplicaForeignError: it is another's."""

    @abstractmethod
    def apply(self, entries: Sequence[Deletion]) -> Receipt:
        """Follows entries in their order; each is noted as followed when its effects are durable.

        DeletionLogGapError, DeletionLogForkError, ReplicaSignatureError: this entry changed nothing, those before it are
        followed. SnapshotHeldError where a hold that nobody can explain stands against an expiry.
        """

    @abstractmethod
    def copies(self) -> Mapping[BucketId, Copy]:
        """Every bucket that is there as a whole; without tokens."""

    @abstractmethod
    def copy(self, bucket: BucketId) -> Copy:
        """One bucket; without snapshots where there is none."""

    @abstractmethod
    def receive(self, stream: Stream, notice: Notice) -> None:
        """Takes a stream in, as BucketStore.receive.

        ReplicaSignatureError, ReplicaLogFirstError, ReplicaExpiredError before a byte is taken; ReplicaDivergedError where
        it does not fit what is there.
        """

    @abstractmethod
    def arrange(self, notice: Notice) -> None:
        """Brings holds up to the log, and lets go what the box has no more, where the copy is as new as the notice.

        Where it is older, only a snapshot that is in the way of another of its name.
        """

    @abstractmethod
    def discard(self, notice: Notice) -> None:
        """Destroys a copy, held or not, because the box has the bucket and sends it anew: `notice.anew`."""

    @abstractmethod
    def send(self, bucket: BucketId, snapshot: str, *, base: str = "", resume: str = "") -> Stream:
        """A copy on its way back, as BucketStore.send."""

    @abstractmethod
    def erased(self, recording_ids: Collection[str]) -> set[str]:
        """Which of these the log has called erased or expired: whoever brings copies back must not bring these."""

    @abstractmethod
    def health(self) -> list[Ailment]:
        """What is wrong with its medium."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of everything."""
