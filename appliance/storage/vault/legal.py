"""Legal holds, made true: the event is durable first, then the keys are pinned, then snapshots are held.

What a case names can lie in a bucket, in a grace snapshot, or in a hold's own bucket. Files in buckets are kept by a
snapshot `h-<case>-<n>` that the case holds (`covering`); parked ones by the case's tag on the snapshot they are parked
in. What it names can be live or in the spool, too: then its key is pinned, and the rest follows when it is filed. `settle`
brings pins and holds up to the book, at the start and after each event, however often it broke off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import structlog
from pydantic import ValidationError

from appliance.model import EarwitnessError, new_id
from appliance.process.status import ALARM, WARNING
from appliance.storage.keystore.errors import KeyAbsentError
from appliance.storage.retention.holds import (
    HOLD_EVENT,
    HoldAdded,
    HoldBook,
    HoldCreated,
    HoldEvent,
    HoldReleased,
    HoldScope,
    LegalHold,
)
from appliance.storage.sealed import Header
from appliance.storage.vault.contract import BucketId
from appliance.storage.vault.core import Vault
from appliance.storage.vault.covering import Covering, is_of_case, tag_of
from appliance.storage.vault.deletionlog import DeletionKind
from appliance.storage.vault.errors import (
    JournalCorruptError,
    RecordingErasedError,
    StoreUnavailableError,
)
from appliance.storage.vault.holding import KEPT, Holding, HoldingState
from appliance.storage.vault.linefile import LineFile
from appliance.storage.vault.unfiled import header_of, look_up, unfiled

_MAX_LINE = 1 << 20
_AT_ONCE = 1000

log = structlog.get_logger()


class LegalHolds:
    """See the module. Safe to use from any thread."""

    def __init__(self, vault: Vault, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._vault = vault
        self.covering = Covering(vault, lambda case, held: case in self.cases_of(held), monotonic=monotonic)
        self._file = LineFile(path, max_line=_MAX_LINE)
        self._lock = threading.RLock()
        self._letting_go: set[str] = set()
        self._pinning = threading.Lock()
        """Covers asking the book and pinning or unpinning by it. The keystore's lock comes after it, the vault's never."""
        self.book = HoldBook()
        for body in self._file.bodies():
            try:
                self.book.apply(HOLD_EVENT.validate_json(body))
            except (ValidationError, EarwitnessError) as error:
                raise JournalCorruptError(
                    "the legal holds cannot be read", what=path.name, offset=0
                ) from error

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    # What is asked.

    def cases_of(self, held: Holding | Header) -> Sequence[str]:
        """Open cases that name a recording."""
        return self.book.cases_of(held.recording_id, held.tenant_id, held.line_id, *self._times(held))

    def _times(self, held: Holding | Header) -> tuple[int, int]:
        if isinstance(held, Header):
            return held.created_ns, self._vault.rules.kept_from(held.created_ns)
        return held.created_ns, held.kept_from_ns or held.created_ns

    def named(self, hold: LegalHold, after: bytes = b"") -> Iterator[Holding]:
        """What a case names and the vault still has, in the order of its ids; after that one."""
        # Of what went to quarantine with a header that cannot be read it may not be known whose it is.
        for held in self._vault.holdings.where(
            "tenant IN (?, '') AND recording > ? AND state IN ('filed', 'deleted', 'quarantined')",
            (hold.tenant_id, after),
        ):
            if hold.case_id in self.cases_of(held):
                yield held

    def awaited(self, hold: LegalHold) -> list[str]:
        """What a case names one by one and is not filed yet, in the order of its ids."""
        return [
            name
            for name in unfiled(self._vault)
            if hold.case_id in self.book.cases_of(name, hold.tenant_id, "")
            and self._vault.holdings.get(name) is None
        ]

    # What is done.

    def create(
        self,
        tenant_id: str,
        title: str,
        reason: str,
        owner: str,
        scopes: Sequence[HoldScope] = (),
        case_id: str = "",
    ) -> LegalHold:
        """Opens a case. HoldInvalidError, HoldTenantError, HoldLimitError, HoldExistsError."""
        event = HoldCreated(
            case_id or new_id(), tenant_id, title, reason, owner, self._vault.clock(), tuple(scopes)
        )
        return self._do(event)

    def add(
        self, case_id: str, who: str, recording_ids: Sequence[str] = (), scopes: Sequence[HoldScope] = ()
    ) -> LegalHold:
        """Names more, also what is live or not filed yet. An erased recording is told so (RecordingErasedError), and
        nothing is added then.

        RecordingNotFoundError, HoldNotFoundError, HoldReleasedError, HoldTenantError; RecordingLiveError or
        RecordingSpooledError where a file in the spool does not say whose it is.
        """
        with self._vault.lock:
            # Entered under the vault's lock: nothing named here can begin to be erased in between, and what is filed
            # is journalled before, or is asked about after it.
            self._enter(self.adding(case_id, who, recording_ids, scopes))
            stored = bool(scopes) or any(self._vault.holdings.get(name) is not None for name in recording_ids)
        if stored:
            self.settle_case(case_id)
        else:
            self._pin_unfiled()  # the store may be away, and has nothing of these
        return self.book.get(case_id)

    def adding(
        self, case_id: str, who: str, recording_ids: Sequence[str] = (), scopes: Sequence[HoldScope] = ()
    ) -> HoldAdded:
        """What `add` would enter, its recordings looked up. Errors as `add`'s, but for those that the book raises."""
        vault, hold = self._vault, self.book.get(case_id)
        found = [look_up(vault, name) for name in recording_ids]
        gone = [held.recording_id for held in found if self._is_gone(held)]
        if gone:
            raise RecordingErasedError("too late: a recording is erased", recording_ids=gone[:20])
        tenants = {held.tenant_id for held in found} or {hold.tenant_id}
        # A header is believed as far as the key of its recording does not say otherwise.
        by_key = (self._tenant_by_key(held.recording_id) for held in found if isinstance(held, Header))
        tenants.update(filter(None, by_key))
        tenant = hold.tenant_id if tenants == {hold.tenant_id} else next(iter(tenants - {hold.tenant_id}))
        return HoldAdded(case_id, tenant, vault.clock(), who, tuple(recording_ids), tuple(scopes))

    def _is_gone(self, held: Holding | Header) -> bool:
        erased = isinstance(held, Holding) and held.state is HoldingState.ERASED
        return erased or held.recording_id in self._vault.erasing

    def _tenant_by_key(self, recording_id: str) -> str:
        """Whose it is by its key; empty where the keystore has none."""
        try:
            return self._vault.keystore.tenant_of(recording_id)
        except KeyAbsentError:
            return ""

    def release(self, case_id: str, who: str, reason: str) -> LegalHold:
        """The case is over: what it held is kept no longer than anything else. HoldNotFoundError, HoldReleasedError."""
        return self._do(HoldReleased(case_id, self._vault.clock(), who, reason))

    def _do(self, event: HoldCreated | HoldAdded | HoldReleased) -> LegalHold:
        with self._vault.lock:
            self._enter(event)
        self.settle_case(event.case_id)
        return self.book.get(event.case_id)

    def _enter(self, event: HoldEvent) -> None:
        with self._lock:
            self.book.check(event)
            self._file.append([HOLD_EVENT.dump_json(event)])
            self.book.apply(event)
        self._vault.fault("hold journalled")

    # Made true.

    def settle(self) -> None:
        """Everything up to the book. A condition says where that cannot be done yet."""
        try:
            self._pin_unfiled()
            named = [(hold.case_id, self.named(hold)) for hold in self.book.all() if hold.open]
            claimed = {
                case: self._claim_all(case, some) for case, some in named
            }  # of all before the store is asked
            for case, buckets in claimed.items():
                self.covering.cover_these(case, buckets)
            released = [hold for hold in self.book.all() if not hold.open]
            here = self._vault.store.survey().snapshots().values() if released else ()
            tags = frozenset[str]().union(*here)
            for hold in released:
                if tag_of(hold.case_id) in tags or self._pinned_by(hold):
                    self._let_go(hold)
            self._pins_of_nobody()
        except (EarwitnessError, OSError) as error:
            log.error("legal holds not settled, tried again", error=type(error).__name__)
            self._vault.status.raise_condition(
                "HoldsUnsettled",
                ALARM,
                "Legal holds are in force by the keystore, but not all snapshots are held yet. Look at the store.",
            )
        else:
            self._vault.status.clear_condition("HoldsUnsettled")

    def settle_case(self, case_id: str) -> None:
        """Pins, snapshots and holds of one case, up to the book. What the store cannot do now is done later (`cover`): by
        the keys alone nothing that is held can be destroyed."""
        hold = self.book.get(case_id)
        if not hold.open:
            self._letting_go.add(case_id)
            self._let_go_late()
            return
        self._pin_unfiled()
        buckets = self._claim_all(case_id, self.named(hold))
        try:
            self.covering.cover_these(case_id, buckets)
        except StoreUnavailableError as error:
            log.warning("snapshots of a legal hold wait for the store", reason=error.reason)

    def _let_go_late(self) -> None:
        """Cases that were released while the store was away; errors but that it still is."""
        for case_id in sorted(self._letting_go):
            try:
                self._let_go(self.book.get(case_id))
            except StoreUnavailableError as error:
                log.warning("a released legal hold waits for the store", reason=error.reason)
                return
            self._letting_go.discard(case_id)

    def filed(self, held: Holding) -> None:
        """A recording was filed, or is in quarantine: cases that name it, or whose scope it is in, hold it from now on."""
        for case in self.cases_of(held):
            self._claim(case, [held])
            self.covering.filed(case, held)

    def cover(self) -> None:
        """Snapshots of what was filed since the last ones, where their time has come; and what waited for the store.
        Errors of the store."""
        self.covering.look()
        self._let_go_late()

    def hold_these(self, case: str, named: Iterator[Holding]) -> None:
        """Pins keys, tells copies elsewhere, holds snapshots, of recordings that a case names; they may be all that a
        tenant has. Errors of the store."""
        self.covering.cover_these(case, self._claim_all(case, named))

    def _claim_all(self, case: str, named: Iterator[Holding]) -> set[BucketId]:
        buckets: set[BucketId] = set()
        while some := list(islice(named, _AT_ONCE)):
            buckets |= self._claim(case, some)
        return buckets

    def _claim(self, case: str, named: Sequence[Holding]) -> set[BucketId]:
        """Pins keys and tells copies elsewhere; the buckets in which something of it lies."""
        vault = self._vault
        self._pin(named)
        vault.fault("keys pinned")
        lying = [held for held in named if held.state in KEPT]
        vault.deletions.hold(
            case,
            [held.recording_id for held in named],
            buckets={held.bucket.path for held in lying if not held.parked},
            snapshots={f"{held.bucket.path}@{held.parked}" for held in lying if held.parked},
        )
        return {held.bucket for held in lying}

    def _pin_unfiled(self) -> None:
        """Keys of all that is named one by one and not filed yet, as far as they are deposited; else at its filing."""
        names = unfiled(self._vault)
        with self._pinning:
            named = [name for name in names if self.book.cases_of(name, "", "")]
            owners = {name: self._tenant_by_key(name) for name in named}
            wanted = [name for name in named if owners[name] and self.book.cases_of(name, owners[name], "")]
            for first in range(0, len(wanted), 1000):
                self._pin_names(wanted[first : first + 1000])
        self._vault.fault("unfiled keys pinned")

    def _pin(self, named: Sequence[Holding]) -> None:
        with self._pinning:
            self._pin_names([held.recording_id for held in named])

    def _pin_names(self, names: Sequence[str]) -> None:
        """Those that went meanwhile are left out: who asked was told, or will find them erased."""
        keystore = self._vault.keystore
        fresh = [name for name in names if name in keystore and not keystore.is_pinned(name)]
        try:
            if fresh:
                keystore.pin(fresh)
        except KeyAbsentError:
            for name in fresh:
                if name in keystore:
                    keystore.pin([name])

    def _let_go(self, hold: LegalHold) -> None:
        """Of a released case: pins that no other case wants, tags, and its own snapshots."""
        vault, store, tag = self._vault, self._vault.store, tag_of(hold.case_id)
        with self._pinning:  # who saw this case open has pinned by then
            free = self._pinned_by(hold)
        vault.fault("pins found")
        for first in range(0, len(free), 1000):
            with self._pinning:
                # Asked again: another case may name some by now, and who entered it found them pinned, or waits here.
                still = [name for name in free[first : first + 1000] if self._is_free(name)]
                vault.keystore.unpin(still)
        vault.fault("keys unpinned")
        vault.deletions.append(DeletionKind.RELEASED, f"released {hold.case_id}", case=hold.case_id)
        with vault.moving:
            found = store.survey().snapshots()
            store.release([item for item, tags in found.items() if tag in tags], tag)
            vault.fault("holds released")
            own = [item for item in found if is_of_case(item, hold.case_id)]
            for first in range(0, len(own), 500):
                store.destroy_snapshots(own[first : first + 500])

    def _pinned_by(self, hold: LegalHold) -> list[str]:
        """Of what a released case named: pinned still, and named by no open case. Other pins are not this case's."""
        pinned = set(self._vault.keystore.pinned())
        if not pinned:
            return []
        named: set[str] = set()
        for body in self._file.bodies():
            event = HOLD_EVENT.validate_json(body)
            if isinstance(event, HoldAdded) and event.case_id == hold.case_id:
                named.update(event.recording_ids)
        found = []
        for name in pinned:
            held = self._known(name)
            if held is None or self.cases_of(held):
                continue
            times = self._times(held)
            if name in named or any(s.reaches(held.tenant_id, held.line_id, *times) for s in hold.scopes):
                found.append(name)
        return found

    def _known(self, recording_id: str) -> Holding | Header | None:
        """What a pin is on; None where nobody can say, and then the pin stays."""
        held = self._vault.holdings.get(recording_id)
        if held is not None:
            return held
        try:
            return header_of(self._vault, recording_id) or self._vault.holdings.get(recording_id)
        except EarwitnessError:
            return None

    def _is_free(self, recording_id: str) -> bool:
        held = self._known(recording_id)
        return held is not None and not self.cases_of(held)

    def _pins_of_nobody(self) -> None:
        """Keys that are pinned and that no case names: an older journal of holds was put back. They stay."""
        free = [name for name in self._vault.keystore.pinned() if self._is_free(name)]
        if free:
            self._vault.status.raise_condition(
                "PinsWithoutHold",
                WARNING,
                f"{len(free)} recordings are kept by a legal hold that is not in the book: was an older copy put back?",
            )
        else:
            self._vault.status.clear_condition("PinsWithoutHold")
