"""Sidecars of recordings: what is added later, sealed, beside the recording in its bucket. docs/sealed-format.md, Sidecar.

The sidecar first, in the place of the one before it, then the journal, which says how far it goes. A crash between the
two leaves a sidecar that goes further than the journal says: the next adding, or `reconcile`, takes that up. One that
does not have what the journal says is damaged, and nothing is added to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from appliance.storage.sealed import Footer, Header
from appliance.storage.sealed.errors import Problem, SealedCorruptError
from appliance.storage.sealed.layout import FOOTER_BYTES, HEADER_BYTES
from appliance.storage.sealed.sidecar import (
    Head,
    SidecarFinding,
    append,
    check,
    new_header,
    pack_content,
    parse,
    read,
    unpack_content,
)
from appliance.storage.sealed.sidecaranew import Damaged, begin_anew, begun_with, first_entry
from appliance.storage.sealed.sidecarerrors import (
    SidecarCorruptError,
    SidecarEntryError,
    SidecarProblem,
    SidecarWholeError,
)
from appliance.storage.sealed.sidecarlayout import MAX_BYTES, SidecarHeader
from appliance.storage.vault.aside import aside
from appliance.storage.vault.contract import BucketId, BucketStore
from appliance.storage.vault.core import Vault
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketLockedError,
    StoredFileCorruptError,
    StoredFileMissingError,
)
from appliance.storage.vault.holding import Holding

MAX_AT_ONCE: Final = 2100  # entries: a recording with all the notes and tags it may have, taken over

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Annotated:
    """How far the sidecar goes now, and of each entry that was asked for where it stands and what is entered there."""

    head: Head
    places: tuple[int, ...]
    contents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Anew:
    """A sidecar that was begun anew: how far it goes (None: it would be begun), its first entry, what was wrong before."""

    head: Head | None
    first: bytes
    problem: SidecarProblem


class Sidecars:
    """See the module. Safe to use from any thread."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def annotate(self, recording_id: str, contents: Sequence[bytes]) -> Annotated:
        """Enters these, durably, under one seal; what has an `id` that is entered is left as it was entered then.

        Errors as Vault.readable and of the keystore (the tenant's keys are locked); SidecarEntryError, SidecarFullError,
        SidecarCorruptError; BucketBusyError while the bucket is being destroyed or brought back; of the store.
        """
        if not 0 < len(contents) <= MAX_AT_ONCE:
            raise SidecarEntryError(f"1 to {MAX_AT_ONCE} entries are entered at once", field="contents")
        wanted = [unpack_content(one) for one in contents]
        if len({one["id"] for one in wanted}) < len(wanted):
            raise SidecarEntryError("an id is entered once", field="id")
        vault = self._vault
        with vault.moving:
            held = vault.readable(recording_id)
            data_key = vault.data_key(recording_id)
            with self._taking(held):
                raw = self._raw(held)
                there = self._entered(held, raw, data_key)
                known = {one["id"]: place for place, one in enumerate(there)}
                fresh = [one for one in wanted if one["id"] not in known]
                if fresh:
                    header = parse(raw).header if raw else self._header(held)
                    packed = [pack_content(one) for one in fresh]
                    device = vault.keystore.device_key
                    raw = append(raw, header, data_key, packed, device, vault.clock())
                    self._write(held, raw)
                    vault.fault("sidecar filed")
                head = self._journal(recording_id, parse(raw).head)
        known |= {one["id"]: len(there) + place for place, one in enumerate(fresh)}
        there += fresh
        places = tuple(known[one["id"]] for one in wanted)
        return Annotated(head, places, tuple(pack_content(there[place]) for place in places))

    def begin_anew(
        self, recording_id: str, first: bytes, more: Sequence[bytes] = (), *, validate_only: bool = False
    ) -> Anew:
        """Sets a damaged sidecar aside, durably, and begins a new one in its place: `first`, `more`, what was set aside.

        Where the sidecar was begun with the `id` of `first` already, what was entered then stays, and is the answer.
        SidecarWholeError where the check finds nothing wrong; errors as of `annotate`.
        """
        if len(more) > MAX_AT_ONCE:
            raise SidecarEntryError(f"at most {MAX_AT_ONCE} entries are entered at once", field="contents")
        wanted, device = first_entry(first)["id"], self._vault.keystore.device_key
        vault = self._vault
        with vault.moving:
            held = vault.readable(recording_id)
            data_key = vault.data_key(recording_id)
            with self._taking(held):
                header = self._header(held)
                raw, wrong = self.look(held, data_key, header.root)
                said = begun_with(raw, vault.keystore.device_public_key, data_key, recording_id)
                if said.get("id") == wanted:
                    head = parse(raw).head  # a crash may have come before the journal
                elif wrong is None:
                    raise SidecarWholeError("the recording's sidecar is not damaged")
                elif validate_only:
                    return Anew(None, b"", wrong.problem)
                else:
                    damaged = Damaged(raw, wrong, held.sidecar)
                    made, entered = begin_anew(header, data_key, first, more, damaged, device, vault.clock())
                    said, head = unpack_content(entered), parse(made).head
                    self._write(held, made)
                    vault.fault("sidecar begun anew")
                    log.warning("sidecar begun anew", recording=recording_id, problem=said["problem"])
                head = replace(head, begun=said["begun"])
                self._journal(recording_id, head)
        return Anew(head, pack_content(said), SidecarProblem(said["problem"]))

    @contextmanager
    def _taking(self, held: Holding) -> Iterator[None]:
        """While something is put into its bucket, which is open. BucketBusyError."""
        with self._vault.filing_into(held.bucket) as takes:
            if not takes:
                raise BucketBusyError("the bucket takes nothing now: try again", bucket=held.bucket.path)
            self._vault.buckets.open(held.bucket)
            yield

    def read(self, recording_id: str) -> bytes:
        """The sidecar of a recording that is filed, or deleted and can be brought back; empty where it has none.

        Errors as Vault.readable; SidecarCorruptError where there should be one; of the store.
        """
        vault = self._vault
        held = vault.readable(recording_id, deleted=True)
        try:
            return self.opened(held)
        except SidecarCorruptError:
            again = vault.readable(recording_id, deleted=True)  # it may just have been parked, or moved
            if again == held:
                raise
            return self.opened(again)

    def opened(self, held: Holding) -> bytes:
        """The sidecar as it is held, its bucket unlocked; empty where there is none.

        SidecarCorruptError: it is missing, or the store does not have the bytes that it was given.
        """
        self._vault.buckets.open(held.bucket)
        try:
            return self._raw(held)
        except BucketLockedError:  # somebody locked it between the two
            self._vault.buckets.open(held.bucket)
            return self._raw(held)

    def look(
        self, held: Holding, data_key: bytes | None = None, root: bytes = b""
    ) -> tuple[bytes, SidecarFinding | None]:
        """The sidecar as it is held, empty where there is none or it cannot be read; and what is wrong with it.

        Nothing is wrong with one that goes further than the journal, nor where none is and none should be. Without
        `data_key` no entry is opened. SnapshotMissingError where what it is held in is not here; of the store.
        """
        try:
            raw = self.opened(held)
        except SidecarCorruptError as error:
            return b"", SidecarFinding(error.problem, error.offset, error.index)
        return raw, next(iter(self.findings(held, raw, data_key, root)), None)

    def findings(
        self, held: Holding, raw: bytes, data_key: bytes | None = None, root: bytes = b""
    ) -> list[SidecarFinding]:
        """What is wrong with these bytes as the sidecar of a recording; nothing where there are none."""
        if not raw:
            return []
        device, name = self._vault.keystore.device_public_key, held.recording_id
        return check(raw, device, data_key, recording_id=name, root=root, known=held.sidecar)

    def take_up(self, held: Holding) -> bool:
        """The journal says how far the sidecar of a filed recording goes; whether it did not before.

        SidecarCorruptError where it does not have what the journal says.
        """
        vault = self._vault
        with vault.moving:
            if not vault.unchanged([held]):
                return False
            raw = self._raw(held)
            self._check(held, raw)
            if raw:
                self._journal(held.recording_id, parse(raw).head)
            return vault.holding(held.recording_id).sidecar != held.sidecar

    def head_of(self, bucket: BucketId, recording_id: str, snapshot: str = "") -> Head | None:
        """How far a sidecar goes of a recording that no journal knows; None where it has none. SidecarCorruptError."""
        raw = read_raw(self._vault.store, bucket, recording_id, snapshot)
        if not raw:
            return None
        found = check(raw, self._vault.keystore.device_public_key, None, recording_id=recording_id)
        for one in found:
            raise SidecarCorruptError(one.problem, one.offset, one.index)
        return parse(raw).head

    def _journal(self, recording_id: str, head: Head) -> Head:
        """Writes down how far it goes, where that is not known; as it stands there."""
        vault = self._vault
        with vault.lock:
            current = vault.holding(recording_id)
            vault.refuse_erased(current)
            before = current.sidecar
            head = replace(head, begun=max(head.begun, before.begun if before else 0))
            if before == head:
                return head
            # As it is by now: it may have been deleted since, and waits to be parked until its files are let go.
            vault.holdings.append([replace(current, sidecar=head)])
        vault.fault("sidecar journalled")
        return head

    def _raw(self, held: Holding) -> bytes:
        """Empty where there is none, and none should be."""
        try:
            raw = read_raw(self._vault.store, held.bucket, held.recording_id, held.parked)
        except StoredFileCorruptError as error:
            offset = error.data.get("offset")
            at = offset if isinstance(offset, int) else -1
            raise SidecarCorruptError(SidecarProblem.CORRUPT, at, -1) from error
        if not raw and held.sidecar is not None:
            raise SidecarCorruptError(SidecarProblem.MISSING, -1, -1)
        return raw

    def _check(self, held: Holding, raw: bytes) -> None:
        for one in self.findings(held, raw):
            raise SidecarCorruptError(one.problem, one.offset, one.index)

    def _entered(self, held: Holding, raw: bytes, data_key: bytes) -> list[dict[str, Any]]:
        self._check(held, raw)
        return read(parse(raw), data_key) if raw else []

    def _header(self, held: Holding) -> SidecarHeader:
        """Of a sidecar that begins: bound to the recording's tree as its footer states it."""
        with self._vault.store.read(held.bucket, held.recording_id) as file:
            header = Header.parse(file.read(HEADER_BYTES))
            file.seek(held.size - FOOTER_BYTES)
            footer = Footer.parse(file.read(FOOTER_BYTES))
        if footer is None:
            raise SealedCorruptError(Problem.FOOTER_CORRUPT, held.size - FOOTER_BYTES, -1)
        return new_header(header.recording_id, header.tenant_id, header.line_id, footer.root)

    def _write(self, held: Holding, raw: bytes) -> None:
        put(self._vault, self._vault.store, held.bucket, held.recording_id, raw)


def put(vault: Vault, store: BucketStore, bucket: BucketId, recording_id: str, raw: bytes) -> None:
    """Puts a sidecar into a bucket, by way of a file of its own. Ciphertext: it says nothing on the way."""
    with aside(vault.layout, f"{recording_id}.sidecar") as path:
        path.write_bytes(raw)
        store.write_sidecar(bucket, recording_id, path)


def read_raw(store: BucketStore, bucket: BucketId, recording_id: str, snapshot: str = "") -> bytes:
    """A sidecar's bytes; empty where there is none. One that is longer than it may be is cut there, and so is damaged."""
    try:
        with store.read_sidecar(bucket, recording_id, snapshot=snapshot) as file:
            return file.read(MAX_BYTES + 1)
    except StoredFileMissingError:
        return b""
