"""Buckets, journal and keystore side by side, at the start and nightly. What is unknown is kept and told, never destroyed.

It may run while others read, file and erase: each step looks again under the vault's locks before it changes anything.

A bucket that was found in order is marked with the fingerprint of what the journal says of it. The store keeps the mark for
as long as no file of the bucket may have changed: where it is there and the journal says the same, the bucket is as it was,
and stays locked. So a comparison costs what has changed, not what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace
from functools import cache

import structlog

from appliance.model import is_id
from appliance.storage.keystore.errors import BucketKeyAbsentError
from appliance.storage.sealed import Footer, Header, HeaderError, SealedCorruptError
from appliance.storage.sealed.layout import FOOTER_BYTES, HEADER_BYTES
from appliance.storage.sealed.sidecarerrors import SidecarCorruptError
from appliance.storage.vault.contract import (
    GUARD,
    GUARD_TAG,
    BucketId,
    BucketState,
    SliceUnit,
    Snapshot,
    SnapshotId,
    Surveyed,
    slice_of,
    slice_start_ns,
)
from appliance.storage.vault.core import GRACE_TAG, Vault
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketKeyError,
    BucketMissingError,
    SnapshotMissingError,
)
from appliance.storage.vault.holding import KEPT, Holding, HoldingState
from appliance.storage.vault.inorder import InOrder
from appliance.storage.vault.parking import number_of
from appliance.storage.vault.reconciled import Reconciled, tell
from appliance.storage.vault.sidecars import Sidecars

log = structlog.get_logger()


def reconcile(vault: Vault) -> Reconciled:
    """See the module. Errors of the store."""
    result = compare(vault)
    tell(vault.status, result)
    _quarantined(vault)
    if result != Reconciled(files=result.files, unchanged=result.unchanged):
        log.warning("reconciled", **{name: getattr(result, name) for name in result.__slots__})
    return result


def compare(vault: Vault) -> Reconciled:
    """As `reconcile`, but no condition says what was found. One at a time; a second one waits. Errors of the store."""
    with vault.comparing:
        result = Reconciled()
        unknown: dict[BucketId, int] = {}
        survey = vault.store.survey()
        in_order = InOrder(vault)
        for bucket, found in survey.buckets.items():
            unknown[bucket] = _bucket(vault, bucket, found, in_order, result)
        in_order.mark()
        _absent_buckets(vault, survey.buckets.keys(), result)
        _keys(vault, unknown, result)
        result.strangers = len(survey.strangers)
        # All at once, at the end: a retention run meanwhile goes by what the comparison before this one found.
        vault.unknown_files = unknown
        vault.keys_absent = result.keys_absent
    return result


def _bucket(vault: Vault, bucket: BucketId, found: Surveyed, in_order: InOrder, result: Reconciled) -> int:
    """One bucket; how many of its files nobody knows."""
    # Before its files are looked at: what is journalled meanwhile makes it another.
    word = in_order.word(bucket, found)
    try:
        if found.mark == word:
            vault.keystore.bucket_key(bucket.tenant_id, bucket.line_id, bucket.slice)  # or it is told below
            result.unchanged += 1
            _hold_again(vault, bucket, found, result)
            return 0
        was_locked = vault.buckets.open(bucket)
    except BucketMissingError:
        return 0  # destroyed since it was listed
    except (BucketKeyAbsentError, BucketKeyError) as error:
        log.error("bucket without its key", reason=error.reason)
        result.keyless += 1
        return 0
    _hold_again(vault, bucket, found, result)
    times, before = vault.buckets.opened(bucket), replace(result)
    unknown = _look_into(vault, bucket, found, result)
    if was_locked:
        try:
            vault.buckets.lock(bucket)
        except BucketBusyError:
            return unknown  # somebody reads it by now; it is locked when it is quiet
        if result == replace(before, files=result.files):
            in_order.add(bucket, word, times)
    return unknown


def _look_into(vault: Vault, bucket: BucketId, found: Surveyed, result: Reconciled) -> int:
    """The files of an open bucket beside the journal; how many nobody knows."""
    present = {stored.recording_id: stored.size for stored in vault.store.files(bucket)}
    result.files += len(present)
    unknown_before = result.unknown
    for name, size in present.items():
        with vault.moving:
            _file(vault, bucket, name, size, result)
    _sidecars(vault, bucket, set(present), result)
    unknown = result.unknown - unknown_before
    grace = [name for name in found.tags if name.startswith("g-")]
    for name in sorted(grace, key=number_of, reverse=True):
        _parked(vault, SnapshotId(bucket, name), result)
    snapshots = cache(lambda: list(vault.store.snapshots(bucket)))  # only where something is missing
    for held in vault.holdings.in_bucket(bucket):
        if held.state in KEPT:
            with vault.moving:
                _file_of(vault, held, snapshots, result)
    return unknown


def _hold_again(vault: Vault, bucket: BucketId, found: Surveyed, result: Reconciled) -> None:
    """A snapshot of ours is held from its taking on; a crash in between is made good. Cases see to theirs."""
    for name, tags in found.tags.items():
        tag = GUARD_TAG if name == GUARD else GRACE_TAG if name.startswith("g-") else ""
        snapshot = SnapshotId(bucket, name)
        if tag and tag not in tags and _needed(vault, snapshot):
            try:
                vault.store.hold([snapshot], tag)
            except SnapshotMissingError:
                continue  # destroyed since it was listed
            result.held_again += 1


def _needed(vault: Vault, snapshot: SnapshotId) -> bool:
    if snapshot.name == GUARD:
        return True
    return any(held.parked == snapshot.name for held in vault.holdings.in_bucket(snapshot.bucket))


def _file(vault: Vault, bucket: BucketId, name: str, size: int, result: Reconciled) -> None:
    """A file in a bucket, and what the journal says of it."""
    if name in vault.erasing or vault.store.find(bucket, name) is None:
        return  # its erasure is completed by itself; or it went since it was listed
    held = vault.holdings.get(name)
    if held is None:
        found = _adopted(vault, bucket, name, size)
        if found is None:
            result.unknown += 1
            return
        with vault.lock:
            if vault.holdings.get(name) is None:
                vault.holdings.append([found])
                result.filed += 1
    elif held.state is HoldingState.ERASED:
        # Its key is gone and its certificate written: only the removal of the file had not happened.
        if held.certificate is not None and bucket in (held.bucket, held.home):
            vault.store.remove(bucket, [name])
            _moved(vault, bucket, result)
        else:
            result.unknown += 1
    elif held.state is HoldingState.QUARANTINED or held.bucket != bucket:
        # Evacuated under a legal hold, and its old bucket is not destroyed yet: that comes.
        result.unknown += bucket != held.home or held.state is HoldingState.QUARANTINED
    elif held.parked and vault.store.find(bucket, name, snapshot=held.parked) is not None:
        vault.store.remove(bucket, [name])  # a bringing back that broke off
        _moved(vault, bucket, result)


def _sidecars(vault: Vault, bucket: BucketId, present: set[str], result: Reconciled) -> None:
    """Sidecars of a bucket, and what the journal says of them."""
    sizes = {one.recording_id: one.size for one in vault.store.sidecars(bucket)}
    for held in vault.holdings.in_bucket(bucket):
        size = sizes.get(held.recording_id)
        if held.state is not HoldingState.FILED or size == (held.sidecar.size if held.sidecar else None):
            continue
        try:
            result.sidecars += Sidecars(vault).take_up(held)
        except SidecarCorruptError as error:
            log.error("sidecar damaged", recording=held.recording_id, problem=str(error.problem))
            result.sidecars_damaged += 1
    for name in sizes.keys() - present:
        with vault.moving:
            found = vault.holdings.get(name)
            if name in vault.erasing or vault.store.find(bucket, name) is not None:
                continue  # its erasure is completed by itself; or its recording has just come back
            # A removal that broke off: of what is erased, or is in its grace snapshot with its recording.
            gone = found is not None and (found.certificate is not None or bool(found.parked))
            if gone and found is not None and bucket in (found.bucket, found.home):
                vault.store.remove(bucket, [name])
                _moved(vault, bucket, result)
            elif found is None or bucket not in (found.bucket, found.home):
                result.unknown += 1


def _moved(vault: Vault, bucket: BucketId, result: Reconciled) -> None:
    """A bucket's files changed, and no entry in the journal tells copies elsewhere."""
    vault.rearranged[bucket] += 1
    result.moved += 1


def _parked(vault: Vault, snapshot: SnapshotId, result: Reconciled) -> None:
    """Files of a grace snapshot that the journal does not know: it was lost, and they were deleted."""
    try:
        files = list(vault.store.files(snapshot.bucket, snapshot=snapshot.name))
    except SnapshotMissingError:
        return  # destroyed since it was listed
    for stored in files:
        if vault.holdings.get(stored.recording_id) is not None:
            continue
        found = _adopted(vault, snapshot.bucket, stored.recording_id, stored.size, snapshot.name)
        if found is not None:
            since = vault.rules.latest_ns()
            gone = replace(found, state=HoldingState.DELETED, parked=snapshot.name, grace_from_ns=since)
            with vault.lock:
                vault.holdings.append([gone])
            result.filed += 1


def _adopted(vault: Vault, bucket: BucketId, name: str, size: int, snapshot: str = "") -> Holding | None:
    """The holding of a file that the journal does not know; None where it does not belong there."""
    found = _header(vault, bucket, name, size, snapshot)
    if found is None or bucket.of_hold or name not in vault.keystore:
        return None
    header, whole = found
    if (header.recording_id, header.tenant_id, header.line_id) != (name, bucket.tenant_id, bucket.line_id):
        return None
    try:
        sidecar = Sidecars(vault).head_of(bucket, name, snapshot)
    except SidecarCorruptError as error:
        log.error("sidecar damaged", recording=name, problem=str(error.problem))
        sidecar = None
    plausible = bucket.slice in (slice_of(header.created_ns, unit) for unit in SliceUnit)
    return Holding(
        name,
        header.tenant_id,
        header.line_id,
        bucket.slice,
        HoldingState.FILED,
        size,
        whole,
        "",
        vault.clock(),
        header.created_ns,
        kept_from_ns=header.created_ns if plausible else slice_start_ns(bucket.slice),
        sidecar=sidecar,
    )


def _header(
    vault: Vault, bucket: BucketId, name: str, size: int, snapshot: str
) -> tuple[Header, bool] | None:
    """The header of a stored file, and whether its writer ended it; None where it cannot be read."""
    if size < HEADER_BYTES + FOOTER_BYTES:
        return None
    with vault.store.read(bucket, name, snapshot=snapshot) as file:
        try:
            header = Header.parse(file.read(HEADER_BYTES))
        except (SealedCorruptError, HeaderError):
            return None
        file.seek(size - FOOTER_BYTES)
        footer = Footer.parse(file.read(FOOTER_BYTES))
    return None if footer is None else (header, footer.whole)


def _file_of(
    vault: Vault, held: Holding, snapshots: Callable[[], list[Snapshot]], result: Reconciled
) -> None:
    """A holding of this bucket, and whether its file is where the journal says."""
    if not vault.unchanged([held]):
        return  # it changed meanwhile
    try:
        if vault.store.find(held.bucket, held.recording_id, snapshot=held.parked) is not None:
            return
    except SnapshotMissingError:
        result.missing += 1
        return
    if held.state is HoldingState.FILED:
        for item in reversed(snapshots()):
            if vault.store.find(held.bucket, held.recording_id, snapshot=item.id.name) is not None:
                vault.store.restore(held.bucket, item.id.name, [held.recording_id])
                _moved(vault, held.bucket, result)
                return
    elif not held.parked and any(
        vault.store.find(held.bucket, held.recording_id, snapshot=item.id.name) for item in snapshots()
    ):
        return  # a parking that broke off: the next round completes it
    result.missing += 1


def _absent_buckets(vault: Vault, there: Set[BucketId], result: Reconciled) -> None:
    """What the journal has in buckets that are not there."""
    rows = vault.holdings.rows(
        "SELECT tenant, line, slice, held_in, COUNT(*) FROM holdings WHERE state IN ('filed', 'deleted')"
        " GROUP BY tenant, line, slice, held_in"
    )
    for tenant, line, slice_, case, count in rows:
        bucket = BucketId(tenant, "hold", case) if case else BucketId(tenant, line, slice_)
        if bucket not in there and vault.store.state(bucket) is BucketState.ABSENT:
            result.missing += count


def _keys(vault: Vault, unknown: dict[BucketId, int], result: Reconciled) -> None:
    """What has no key. Where the deletion log tells of its erasure the journal is an older one: it is erased.

    Else nobody erased it, and an older keystore was put back: it stays what it is, so that it is as before when the key
    is back, and its bucket is not destroyed meanwhile. The files stay.
    """
    without = [held for held in vault.holdings.where("state IN ('filed', 'deleted')") if vault.keyless(held)]
    erased = vault.deletions.erased_of([held.recording_id for held in without]) if without else set()
    for held in without:
        with vault.lock:
            if not vault.unchanged([held]):
                continue  # erased meanwhile
            if held.recording_id in erased:
                gone = replace(
                    held, state=HoldingState.ERASED, reason="no key in the keystore", since_ns=vault.clock()
                )
                vault.holdings.append([gone])
                result.erased += 1
                continue
        unknown[held.bucket] = unknown.get(held.bucket, 0) + 1
        result.keys_absent += 1


def _quarantined(vault: Vault) -> None:
    """Files in quarantine that the journal does not know."""
    for path in vault.quarantine.glob("*.sealed"):
        if is_id(path.stem) and vault.holdings.get(path.stem) is None:
            held = Holding(
                path.stem,
                "",
                "",
                "",
                HoldingState.QUARANTINED,
                path.stat().st_size,
                False,
                "found in quarantine",
                vault.clock(),
                0,
            )
            vault.holdings.append([held])
