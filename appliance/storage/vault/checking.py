"""Reads stored recordings and checks them: every byte, the chain, the signature, and that each opens with its key, unless
the tenant's keys are locked.

Bucket by bucket, so that each is opened once; one that was locked is locked again. Recording goes on meanwhile, and what
is deleted, erased or moved while it is looked at is no finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

from appliance.model import EarwitnessError, Kind, id_text
from appliance.storage.keystore.errors import TenantLockedError
from appliance.storage.names import HOLD_LINE
from appliance.storage.sealed import Report, verify
from appliance.storage.sealed.sidecar import SidecarFinding, check
from appliance.storage.sealed.sidecarerrors import SidecarCorruptError
from appliance.storage.vault.contract import BucketId, BucketState
from appliance.storage.vault.core import Vault
from appliance.storage.vault.errors import BucketBusyError, BucketLockedError, BucketMissingError
from appliance.storage.vault.holding import KEPT, Holding
from appliance.storage.vault.sidecars import Sidecars

_WHERE = "state IN ('filed', 'deleted')"


@dataclass(frozen=True, slots=True)
class Totals:
    """How far it is. Of what was checked: `damaged` is not as it was written, or cannot be read; `recovered` was cut
    short once and is as it was then. `gone`: deleted, erased or moved since it was chosen."""

    recordings: int
    bytes: int
    checked: int = 0
    bytes_checked: int = 0
    damaged: int = 0
    recovered: int = 0
    gone: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """Something that is not as it should be. `offset` and `frame` -1: no one place."""

    recording_id: str
    bucket: BucketId
    code: str  # UPPER_SNAKE_CASE
    message: str
    offset: int = -1
    frame: int = -1


class Checker:
    """See the module. `sample`: so many, chosen at random; 0: all. `tenant_id` empty: of all tenants.

    StoreUnavailableError where the medium does not answer: then nothing can be said of anything.
    """

    def __init__(self, vault: Vault, *, sample: int = 0, tenant_id: str = "") -> None:
        self._vault = vault
        self._chosen: dict[BucketId, list[str]] | None = None
        where, values = (f"{_WHERE} AND tenant = ?", (tenant_id,)) if tenant_id else (_WHERE, ())
        if sample:
            rows = vault.holdings.rows(
                f"SELECT tenant, line, slice, held_in, size, recording FROM holdings WHERE {where}"
                " ORDER BY random() LIMIT ?",
                (*values, sample),
            )
            chosen: dict[BucketId, list[str]] = defaultdict(list)
            for *place, _, raw in rows:
                chosen[_bucket(*place)].append(id_text(raw))
            self._chosen = dict(sorted(chosen.items()))
            self.totals = Totals(len(rows), sum(row[4] for row in rows))
        else:
            rows = vault.holdings.rows(
                f"SELECT tenant, line, slice, held_in, COUNT(*), SUM(size) FROM holdings WHERE {where}"
                " GROUP BY tenant, line, slice, held_in",
                values,
            )
            self._buckets = sorted({_bucket(*row[:4]) for row in rows})
            self.totals = Totals(sum(row[4] for row in rows), sum(row[5] for row in rows))

    def run(self) -> Iterator[Found | Totals]:
        """Findings as they come, and after each recording how far it is; `totals` is what it came to."""
        for bucket, names in self._by_bucket():
            locked = self._vault.store.state(bucket) is BucketState.LOCKED
            try:
                for name in names:
                    yield from self._check(bucket, name)
                    yield self.totals
            finally:
                if locked:
                    with suppress(BucketBusyError, BucketMissingError):
                        self._vault.store.lock(bucket)

    def _by_bucket(self) -> Iterator[tuple[BucketId, Iterable[str]]]:
        if self._chosen is not None:
            yield from self._chosen.items()
            return
        for bucket in self._buckets:
            found = self._vault.holdings.in_bucket(bucket)
            yield bucket, (held.recording_id for held in found if held.state in KEPT)

    def _check(self, bucket: BucketId, name: str) -> Iterator[Found]:
        vault, totals = self._vault, self.totals
        held = vault.holdings.get(name)
        if held is None or held.state not in KEPT or held.bucket != bucket or name in vault.erasing:
            self.totals = replace(totals, gone=totals.gone + 1)
            return
        try:
            report = self._verify(held)
            sidecar = self._sidecar(held, report)
        except (EarwitnessError, OSError) as error:
            if isinstance(error, EarwitnessError) and error.kind is Kind.UNAVAILABLE:
                raise  # nothing can be said of anything
            if not vault.unchanged([held]):
                self.totals = replace(totals, gone=totals.gone + 1)
                return
            found = [_unread(held, error)]
        else:
            found = _findings(held, report) + sidecar
            self.totals = replace(totals, recovered=totals.recovered + (not found and not report.whole))
        self.totals = replace(
            self.totals,
            checked=totals.checked + 1,
            bytes_checked=totals.bytes_checked + held.size,
            damaged=totals.damaged + bool(found),
        )
        yield from found

    def _verify(self, held: Holding) -> Report:
        """A deleted recording that is parked is read in its snapshot. Of a locked tenant, everything but the opening."""
        with self._file(held) as file:
            return verify(file, self._vault.keystore.device_public_key, self._key(held))

    def _key(self, held: Holding) -> bytes | None:
        with suppress(TenantLockedError):
            return self._vault.data_key(held.recording_id)
        return None

    def _sidecar(self, held: Holding, report: Report) -> list[Found]:
        """What was added to it later. One that grew meanwhile is no finding."""
        if held.sidecar is None:
            return []
        vault = self._vault
        try:
            raw = Sidecars(vault).opened(held)
        except SidecarCorruptError as error:  # it is missing
            if not vault.unchanged([held]):
                raise  # parked or moved just now, and it with its recording: gone from here
            return [_beside(held, SidecarFinding(error.problem))]
        return [
            _beside(held, one)
            for one in check(
                raw,
                vault.keystore.device_public_key,
                self._key(held),
                recording_id=held.recording_id,
                root=report.root,
                known=held.sidecar,
            )
        ]

    def _file(self, held: Holding) -> BinaryIO:
        vault = self._vault
        vault.buckets.open(held.bucket)
        try:
            return vault.store.read(held.bucket, held.recording_id, snapshot=held.parked)
        except BucketLockedError:  # somebody locked it between the two
            vault.buckets.open(held.bucket)
            return vault.store.read(held.bucket, held.recording_id, snapshot=held.parked)


def _bucket(tenant: str, line: str, slice_: str, case: str) -> BucketId:
    return BucketId(tenant, HOLD_LINE, case) if case else BucketId(tenant, line, slice_)


def _beside(held: Holding, one: SidecarFinding) -> Found:
    code = one.problem.value.upper().replace("-", "_")
    return Found(held.recording_id, held.bucket, code, str(one), one.offset, one.index)


def _unread(held: Holding, error: EarwitnessError | OSError) -> Found:
    if isinstance(error, EarwitnessError):
        offset = error.data.get("offset")
        at = offset if isinstance(offset, int) else -1
        return Found(held.recording_id, held.bucket, error.reason, error.message, at)
    return Found(held.recording_id, held.bucket, "IO_ERROR", f"it cannot be read: {error.strerror}")


def _findings(held: Holding, report: Report) -> list[Found]:
    found = [
        Found(
            held.recording_id,
            held.bucket,
            each.problem.value.upper().replace("-", "_"),
            str(each),
            each.offset,
            each.frame,
        )
        for each in report.findings
    ]
    if report.recording_id and report.recording_id != held.recording_id:
        found.append(
            Found(held.recording_id, held.bucket, "OTHER_RECORDING", "the file is of another recording", 0)
        )
    if not found and not report.trusted:
        found.append(Found(held.recording_id, held.bucket, "SIGNATURE_INVALID", "this box has not signed it"))
    return found
