"""From the spool into the buckets: orphans of a crash are recovered, then sealed files get their footer and are filed.

Nothing in the spool is ever dropped: it is filed, or it waits with a condition that says so, or it goes to quarantine
with a reason. Every step may be broken off anywhere and done again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import structlog

from appliance.model import EarwitnessError, is_id
from appliance.process.status import ALARM
from appliance.storage.keystore.errors import KeyRefusedError, TenantKeyMissingError, TenantLockedError
from appliance.storage.keystore.files import sync_directory
from appliance.storage.sealed import (
    Footer,
    HeaderError,
    Inspection,
    SealedCorruptError,
    inspect,
    recover,
    seal_footer,
)
from appliance.storage.vault.contract import BucketId, slice_of
from appliance.storage.vault.core import Vault
from appliance.storage.vault.errors import StoredFileExistsError
from appliance.storage.vault.holding import Holding, HoldingState
from appliance.storage.vault.spool import listing, move_to_quarantine

KEY_PATIENCE_S = 60.0  # until a missing key is told
RETRY_S = 5.0
ORPHAN_AGE_S = 2.0  # a live file is written every second, unless its call is silent

log = structlog.get_logger()


class _RefusedError(Exception):
    """The file cannot be filed, ever; the text says why."""


class Filer:
    """See the module. For one thread."""

    def __init__(
        self,
        vault: Vault,
        *,
        orphan_age_s: float = ORPHAN_AGE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vault = vault
        self._orphan_age_s = orphan_age_s
        self._monotonic = monotonic
        self._waiting: dict[str, float] = {}  # recordings without a key: since when
        self._unjournalled: dict[str, Holding] = {}
        self._unruled: set[str] = set()  # filed, and legal holds that name them do not hold them yet
        self._rule_not_before = 0.0
        self._not_before: dict[str, float] = {}  # files that failed: when to try again

    def poll(self) -> int:
        """One round over the spool; how many recordings were filed."""
        filed = 0
        try:
            self._adopt_orphans()
            filed = self._file_all()
        except OSError as error:
            self._failed(self._vault.layout.spool_recordings, error)
        self._rule()
        self._tell()
        return filed

    # Orphans.

    def _adopt_orphans(self) -> None:
        """Recovers `.part` files whose writer is dead: cut to the last whole frame, footer, `.sealed`."""
        for path in listing(self._vault.layout.spool_recordings, ".part"):
            try:
                age = time.time() - path.stat().st_mtime
                if 0 <= age < self._orphan_age_s or self._monotonic() < self._not_before.get(path.name, 0):
                    continue
                with open(path, "r+b") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    self._adopt(path, file)
            except FileNotFoundError:
                continue  # it has ended in the meantime
            except (OSError, EarwitnessError) as error:
                self._failed(path, error)

    def _adopt(self, path: Path, file: IO[bytes]) -> None:
        if not path.exists():
            return  # ended, renamed and let go between the opening and the lock
        recording_id = path.stem
        try:
            found, dropped = recover(file)
            if found.footer is None:
                self._append_footer(file, found, dropped)
        except (SealedCorruptError, HeaderError) as error:
            self._refuse(path, recording_id, _said(error))
            return
        os.fsync(file.fileno())
        os.rename(path, path.with_suffix(".sealed"))
        sync_directory(path.parent)
        log.warning("orphan recovered", recording=recording_id, frames=found.frames, dropped_bytes=dropped)
        self._vault.status.count("orphans_recovered")
        self._vault.fault("orphan recovered")

    def _append_footer(self, file: IO[bytes], found: Inspection, dropped: int) -> Footer:
        raw = seal_footer(found, self._vault.keystore.device_key, self._vault.clock(), dropped_bytes=dropped)
        try:
            file.seek(found.content_bytes)
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            file.truncate(found.content_bytes)
            raise
        footer = Footer.parse(raw)
        assert footer is not None
        return footer

    # Recordings.

    def _file_all(self) -> int:
        """Files what is whole and has its key; how many."""
        filed = 0
        present = set()
        if self._unjournalled:
            try:
                with self._vault.lock:
                    self._journal_filed()
            except (OSError, EarwitnessError) as error:
                log.warning(
                    "filed and not in the journal", error=type(error).__name__, count=len(self._unjournalled)
                )
        for path in listing(self._vault.layout.spool_recordings, ".sealed"):
            present.add(path.stem)
            if self._monotonic() < self._not_before.get(path.name, 0):
                continue
            try:
                try:
                    filed += self._file(path)
                except _RefusedError as error:
                    self._refuse(path, path.stem, str(error))
            except FileNotFoundError:
                continue
            except (OSError, EarwitnessError) as error:
                self._failed(path, error)
        self._waiting = {name: since for name, since in self._waiting.items() if name in present}
        self._vault.status.count("recordings_filed", filed)
        return filed

    def _file(self, path: Path) -> bool:
        recording_id = path.stem
        if not is_id(recording_id):
            raise _RefusedError("misnamed: not a recording id")
        held = self._vault.holdings.get(recording_id)
        if recording_id in self._vault.erasing or (held and held.state is HoldingState.ERASED):
            raise _RefusedError("erased before: its key is destroyed")
        if recording_id not in self._vault.keystore:
            # Perhaps the deposit is on its way; no other thing can be done with the file.
            self._waiting.setdefault(recording_id, self._monotonic())
            return False
        self._waiting.pop(recording_id, None)
        with open(path, "r+b") as file:
            found, footer = self._sealed(file)
        header = found.header
        if header.recording_id != recording_id:
            raise _RefusedError("misnamed: another recording id in the header")
        self._check_key(recording_id, header.tenant_id)
        kept_from = self._vault.rules.kept_from(header.created_ns)
        unit = self._vault.rules.slice_unit(header.tenant_id, header.line_id)
        bucket = BucketId(header.tenant_id, header.line_id, slice_of(kept_from, unit))
        with self._vault.filing_into(bucket) as takes:
            if not takes:
                return False
            self._vault.buckets.make(bucket)
            self._vault.fault("footer appended")
            self._vault.arriving[recording_id] = header
            try:
                # Outside the vault's lock: a recording that is not filed yet can neither be deleted nor erased.
                size = self._vault.store.write(bucket, recording_id, path)
            except StoredFileExistsError as error:
                raise _RefusedError("the bucket has another file of this recording") from error
            self._vault.fault("in its bucket")
            with self._vault.lock:
                if recording_id in self._vault.erasing:
                    return False
                held = self._vault.holdings.get(recording_id)
                if held is None or held.state is HoldingState.QUARANTINED:
                    holding = Holding(
                        recording_id,
                        header.tenant_id,
                        header.line_id,
                        bucket.slice,
                        HoldingState.FILED,
                        size,
                        footer.whole,
                        "",
                        self._vault.clock(),
                        header.created_ns,
                        kept_from_ns=kept_from,
                    )
                    # Its file is in the bucket from here on: where the journal takes no entry now, it is tried again.
                    self._unjournalled[recording_id] = holding
                    self._journal_filed()
                else:
                    self._known(recording_id)
        self._vault.fault("filed")
        self._rule()
        return True

    def _journal_filed(self) -> None:
        """Enters what is filed and not yet in the journal; the lock is held."""
        for recording_id, holding in list(self._unjournalled.items()):
            held = self._vault.holdings.get(recording_id)
            if held is None or held.state is HoldingState.QUARANTINED:
                self._vault.holdings.append([holding])
            self._known(recording_id)
            del self._unjournalled[recording_id]

    def _known(self, recording_id: str) -> None:
        """The journal tells of it: it is looked up there, and legal holds that name it are to take it."""
        self._unruled.add(recording_id)
        self._vault.arriving.pop(recording_id, None)

    def _rule(self) -> None:
        """Has legal holds take what was filed. It is in its bucket and the journal: what fails here is tried again."""
        if self._monotonic() < self._rule_not_before:
            return
        status = self._vault.status
        for recording_id in sorted(self._unruled):
            held = self._vault.holdings.get(recording_id)
            try:
                if held is not None and held.state is not HoldingState.ERASED:
                    self._vault.rules.filed(held)
            except (OSError, EarwitnessError) as error:
                self._rule_not_before = self._monotonic() + RETRY_S
                log.error("filed and not held yet", error=type(error).__name__, count=len(self._unruled))
                status.raise_condition(
                    "FiledNotHeld",
                    ALARM,
                    f"{len(self._unruled)} recordings were filed that legal holds do not hold yet. Look at the store.",
                )
                return
            self._unruled.discard(recording_id)
        status.clear_condition("FiledNotHeld")

    def _sealed(self, file: IO[bytes]) -> tuple[Inspection, Footer]:
        """Looks through a file and gives it its footer, if it has none yet."""
        try:
            found, dropped = inspect(file), 0
            if found.footer is None and found.findings:
                found, dropped = recover(file)  # what a crash left of a footer
            if found.footer is None:
                return found, self._append_footer(file, found, dropped)
        except (SealedCorruptError, HeaderError) as error:
            raise _RefusedError(_said(error)) from error
        if found.findings:
            raise _RefusedError(f"damaged: {found.findings[0]}")
        footer = found.footer
        if footer.device_key != self._vault.keystore.device_public_key or not footer.signature_holds():
            raise _RefusedError("its footer is not signed by this box")
        return found, footer

    def _check_key(self, recording_id: str, tenant_id: str) -> None:
        """What is filed can be read: the key opens, and is of the tenant that the header names.

        Whether it opens is seen later where the tenant's keys are locked: recording waits for nobody.
        """
        if self._vault.keystore.tenant_of(recording_id) != tenant_id:
            raise _RefusedError("its key belongs to another tenant")
        try:
            self._vault.keystore.data_key(recording_id)
        except TenantKeyMissingError as error:
            raise _RefusedError("the tenant is unknown: it has no key pair") from error
        except TenantLockedError:
            return
        except KeyRefusedError as error:
            raise _RefusedError("its key does not open with the tenant's key pair") from error

    # Quarantine.

    def _refuse(self, path: Path, recording_id: str, why: str) -> None:
        """Journal first, then move: a crash between leaves it in the spool, and it is looked at again."""
        log.error("recording in quarantine", recording=recording_id if is_id(recording_id) else "", why=why)
        self._vault.status.count("recordings_quarantined")
        if is_id(recording_id):
            with self._vault.lock:
                held = self._vault.holdings.get(recording_id)
                if held is None:
                    self._vault.holdings.append([self._quarantined(path, recording_id, why)])
                self._known(recording_id)
        self._vault.fault("quarantine journalled")
        move_to_quarantine(self._vault.quarantine, path)

    def _quarantined(self, path: Path, recording_id: str, why: str) -> Holding:
        tenant = line = slice_ = ""
        created = 0
        with suppress(SealedCorruptError, HeaderError), open(path, "rb") as file:
            header = inspect(file).header
            if header.recording_id == recording_id:
                tenant, line, created = header.tenant_id, header.line_id, header.created_ns
                slice_ = slice_of(created)
        if not tenant and recording_id in self._vault.keystore:
            tenant = self._vault.keystore.tenant_of(recording_id)
        size = path.stat().st_size
        return Holding(
            recording_id,
            tenant,
            line,
            slice_,
            HoldingState.QUARANTINED,
            size,
            False,
            why,
            self._vault.clock(),
            created,
        )

    # What is told.

    def _failed(self, path: Path, error: Exception) -> None:
        self._not_before[path.name] = self._monotonic() + RETRY_S
        why = error.message if isinstance(error, EarwitnessError) else getattr(error, "strerror", "")
        log.error("not filed, tried again", file=path.suffix, error=type(error).__name__, why=why)
        self._vault.status.raise_condition(
            "FilingFailed",
            ALARM,
            f"Recordings cannot be filed and wait in the spool: {why}. Look at the disk.",
        )

    def _tell(self) -> None:
        status, now = self._vault.status, self._monotonic()
        for name in [name for name, until in self._not_before.items() if until <= now]:
            del self._not_before[name]
        if not self._not_before:
            status.clear_condition("FilingFailed")
        late = sum(now - since >= KEY_PATIENCE_S for since in self._waiting.values())
        if late:
            status.raise_condition(
                "KeyMissing",
                ALARM,
                f"{late} recordings wait in the spool because their keys were never deposited. Keep the files.",
            )
        else:
            status.clear_condition("KeyMissing")
        status.gauge("spool_waiting_for_key", len(self._waiting))


def _said(error: SealedCorruptError | HeaderError) -> str:
    offset = error.data.get("offset")
    return f"damaged at byte {offset}: {error.message}" if offset is not None else error.message
