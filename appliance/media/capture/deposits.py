"""Key deposits in the spool: one file for all keys of a commit, sealed to the vault's deposit key.

The deposit key changes with every erasure, and what is sealed to the old one opens nothing any more. A file
the vault has not taken by then is deposited again under the new key, which is why data keys are kept here
until their file is gone.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from appliance.media.capture.disk import NotDepositedError, Ticket
from appliance.model import EarwitnessError
from appliance.storage.keystore import hpke
from appliance.storage.keystore.deposit import Depositor, DepositRequest

log = structlog.get_logger()


@dataclass(slots=True)
class _Spooled:
    """A deposit file that the vault has not taken yet."""

    path: Path
    requests: list[DepositRequest] = field(repr=False)
    public_key: bytes


class SpoolDeposits:
    """Writes deposits. For the disk's thread alone."""

    def __init__(
        self, folder: Path, public_key: Path, *, monotonic: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._folder = folder
        self._public_path = public_key
        self._monotonic = monotonic
        self._depositor = Depositor()
        self._public: bytes = b""
        self._seen: tuple[int, int] | None = None
        self._spooled: list[_Spooled] = []

    @property
    def waiting(self) -> int:
        """Deposit files the vault has not taken."""
        return len(self._spooled)

    def _refresh(self) -> bytes:
        """The vault's present deposit key; empty while there has never been one."""
        try:
            found = self._public_path.stat()
        except FileNotFoundError:
            return self._public
        # The vault renames a new file over the old one: another inode, another time.
        if (found.st_ino, found.st_mtime_ns) != self._seen:
            fresh = self._public_path.read_bytes()
            hpke.check_public_key(fresh)
            self._public = fresh
            self._seen = (found.st_ino, found.st_mtime_ns)
        return self._public

    def deposit(self, tickets: Sequence[Ticket]) -> None:
        """See Deposits. A key that cannot be deposited does not keep the others from it."""
        try:
            public = self._refresh()
        except (OSError, EarwitnessError) as error:
            for ticket in tickets:
                ticket.error = error
            return
        if not public:
            for ticket in tickets:
                ticket.error = NotDepositedError("the vault has no deposit key yet")
            return
        try:
            self._write(tickets, public)
        except EarwitnessError as error:
            if len(tickets) == 1:
                tickets[0].error = error
                return
            for ticket in tickets:
                self.deposit([ticket])
        except OSError as error:
            for ticket in tickets:
                ticket.error = error

    def _write(self, tickets: Sequence[Ticket], public: bytes) -> None:
        requests = [
            DepositRequest(ticket.recording_id, ticket.tenant_id, ticket.tenant_public_key, ticket.data_key)
            for ticket in tickets
        ]
        self._spool(requests, public)
        for ticket in tickets:
            ticket.deposited = True
            ticket.error = None

    def _spool(self, requests: list[DepositRequest], public: bytes) -> None:
        data = self._depositor.deposit_many(requests, public, self._monotonic())
        name = secrets.token_hex(16)
        path, new = self._folder / f"{name}.deposit", self._folder / f"{name}.new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                done = 0
                while done < len(data):
                    done += os.write(fd, memoryview(data)[done:])
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(new, path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        # From here on the vault may take the file, so it counts as spooled even if the folder's sync fails.
        self._spooled.append(_Spooled(path, requests, public))
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def renew(self) -> None:
        """Forgets what the vault has taken; deposits again what is sealed to an older deposit key."""
        self._depositor.forget(self._monotonic())
        self._spooled = [spooled for spooled in self._spooled if spooled.path.exists()]
        try:
            public = self._refresh()
            for spooled in [spooled for spooled in self._spooled if spooled.public_key != public]:
                self._spool(spooled.requests, public)
                spooled.path.unlink(missing_ok=True)
                self._spooled.remove(spooled)
        except (OSError, EarwitnessError) as error:
            # Tried again with the next commit: the keys are still held here.
            log.warning("deposits not renewed", error=type(error).__name__, waiting=len(self._spooled))
