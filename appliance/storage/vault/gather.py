"""The facts that a plan is made from: sums out of the index, one survey of the store, and what is deleted or held."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from appliance.storage.retention.facts import (
    BucketFacts,
    BucketWord,
    DeletedFacts,
    Facts,
    HeldRecording,
    SnapshotFacts,
    UnknownFacts,
    UnknownKind,
)
from appliance.storage.vault.contract import GUARD, HOLD_LINE, BucketId, BucketState, Survey, Surveyed
from appliance.storage.vault.core import Vault
from appliance.storage.vault.errors import BucketMissingError
from appliance.storage.vault.holding import KEPT, Holding, HoldingState
from appliance.storage.vault.legal import LegalHolds
from appliance.storage.vault.policies import Policies
from appliance.storage.vault.timekeeper import Timekeeper

_SUMS = (
    "SELECT tenant, line, slice, held_in, state, COUNT(*), SUM(size), MAX(since) FROM holdings"
    " WHERE state IN ('filed', 'deleted') GROUP BY tenant, line, slice, held_in, state"
)


_ABSENT: Final = Surveyed(BucketState.ABSENT)


class _Sums:
    """What the index says of one bucket."""

    def __init__(self) -> None:
        self.filed = self.deleted = self.size = self.newest = 0


def gather(
    vault: Vault,
    timekeeper: Timekeeper,
    policies: Policies,
    legal: LegalHolds,
    *,
    snapshots: bool = True,
    only: BucketId | None = None,
) -> Facts:
    """See the module. Errors of the store.

    Without `snapshots` neither they nor strangers are looked for: enough for what falls due when, and for sums, and cheap.
    `only`: of the buckets this one alone, with everything.
    """
    clock = timekeeper.tick()
    sums = _sums(vault)
    deleted = list(vault.holdings.where("state = 'deleted'"))
    held = _held(vault, legal)
    found = vault.store.survey(snapshots=snapshots) if only is None else _one(vault, only)
    parked = Counter((item.bucket, item.parked) for item in deleted)
    buckets = sorted({*found.buckets, *sums}) if only is None else [only]
    return Facts(
        clock,
        policies.book,
        tuple(legal.book.all()),
        tuple(
            _bucket(
                vault, one, sums.get(one) or _Sums(), held[one], found.buckets.get(one) or _ABSENT, parked
            )
            for one in buckets
        ),
        tuple(deleted_facts(item, legal) for item in deleted if _may_go(vault, item)),
        tuple(_unknown(vault, deleted, found)),
    )


def _one(vault: Vault, bucket: BucketId) -> Survey:
    try:
        tags = {item.id.name: item.holds for item in vault.store.snapshots(bucket)}
        return Survey({bucket: Surveyed(vault.store.state(bucket), "", tags)})
    except BucketMissingError:
        return Survey({})


def _may_go(vault: Vault, held: Holding) -> bool:
    """Not what is being erased; nor what has no key and nobody erased: that stays until somebody clears it up."""
    return held.recording_id not in vault.erasing and not vault.keyless(held)


def _sums(vault: Vault) -> dict[BucketId, _Sums]:
    found: dict[BucketId, _Sums] = defaultdict(_Sums)
    for tenant, line, slice_, case, state, count, size, newest in vault.holdings.rows(_SUMS):
        sums = found[BucketId(tenant, HOLD_LINE, case) if case else BucketId(tenant, line, slice_)]
        if state == HoldingState.FILED:
            sums.filed += count
        else:
            sums.deleted += count
        sums.size += size
        sums.newest = max(sums.newest, newest)
    return dict(found)


def _held(vault: Vault, legal: LegalHolds) -> dict[BucketId, list[HeldRecording]]:
    """What cases hold, by bucket; of hold buckets, everything that has a key. Pinned keys are all that can be held."""
    found: dict[BucketId, list[HeldRecording]] = defaultdict(list)
    for name in vault.keystore.pinned():
        held = vault.holdings.get(name)
        if held is not None and not held.case and held.state in KEPT:
            found[held.bucket].append(_held_one(held, legal))
    for held in vault.holdings.where("held_in <> '' AND state IN ('filed', 'deleted')"):
        if not vault.keyless(held):
            found[held.bucket].append(_held_one(held, legal))
    return found


def _held_one(held: Holding, legal: LegalHolds) -> HeldRecording:
    return HeldRecording(held.recording_id, tuple(legal.cases_of(held)), held.size, held.line_id, held.slice)


def _bucket(
    vault: Vault,
    bucket: BucketId,
    sums: _Sums,
    held: list[HeldRecording],
    found: Surveyed,
    parked: Counter[tuple[BucketId, str]],
) -> BucketFacts:
    return BucketFacts(
        bucket,
        BucketWord(found.state.value),
        sums.filed,
        sums.deleted,
        sums.size,
        sums.newest,
        tuple(held),
        tuple(
            SnapshotFacts(name, tuple(sorted(tags)), parked[(bucket, name)])
            for name, tags in sorted(found.tags.items(), key=lambda one: _place(one[0]))
        ),
        (vault.unknown_files or {}).get(bucket, 0),
    )


def _place(name: str) -> tuple[bool, str, int]:
    """As people look for them: the guard, then each kind in the order of its numbers."""
    kind, _, number = name.rpartition("-")
    return name != GUARD, kind, int(number or 0) if number.isdecimal() else 0


def deleted_facts(held: Holding, legal: LegalHolds) -> DeletedFacts:
    """What a plan knows of a deleted recording."""
    return DeletedFacts(
        held.recording_id,
        held.bucket,
        held.grace_from_ns or held.since_ns,
        held.parked,
        tuple(legal.cases_of(held)),
        held.size,
        held.line_id,
    )


def _unknown(vault: Vault, deleted: list[Holding], found: Survey) -> Iterator[UnknownFacts]:
    for name in found.strangers:
        yield UnknownFacts(name, UnknownKind.STRANGER)
    for held in vault.holdings.where("state = 'quarantined'"):
        yield UnknownFacts(held.recording_id, UnknownKind.QUARANTINED, 1, held.size)
    for held in deleted:
        if vault.keyless(held):
            yield UnknownFacts(held.recording_id, UnknownKind.KEYLESS, 1, held.size)
