"""Keeps the policies: how long recordings are kept, and deleted ones can be undeleted. One small file, replaced whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from appliance.storage.keystore.files import write_durably
from appliance.storage.retention.policy import MAX_HISTORY, POLICY_BOOK, PolicyBook, preview
from appliance.storage.retention.terms import (
    Change,
    Effective,
    PolicyChange,
    PolicyEvent,
    PolicyField,
    PolicyScope,
)
from appliance.storage.vault.errors import JournalCorruptError


class Policies:
    """See the module. Safe to use from any thread. `now`: the retention clock, nanoseconds.

    JournalCorruptError where the file is damaged: policies are never made up.
    """

    def __init__(self, path: Path, now: Callable[[], int]) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        try:
            self._book = POLICY_BOOK.validate_json(path.read_bytes())
        except FileNotFoundError:
            self._book = PolicyBook()
        except ValidationError as error:
            raise JournalCorruptError("the policies are damaged", what=path.name, offset=0) from error

    @property
    def book(self) -> PolicyBook:
        """All policies, with what has taken effect by now in force."""
        return self._book.settled(self._now())

    def effective(self, tenant_id: str, line_id: str) -> Effective:
        """What holds for a line now."""
        return self._book.effective(tenant_id, line_id, self._now())

    def preview(self, change: PolicyChange) -> Change:
        """What a change would do now."""
        return preview(self._book, change, self._now())

    def set(self, change: PolicyChange, who: str, version: int | None = None) -> Change:
        """Makes a change, durably; what it does. PolicyVersionError where `version` is not the present one."""
        with self._lock:
            now, book = self._now(), self.book  # what has taken effect counts as read
            found = preview(book, change, now)
            self._keep(book.set(change, now, who, version=version))
            return found

    def begin(self, change: PolicyChange, who: str, *, at_once: bool) -> None:
        """The first policy of a scope; nothing where it says or waits for something already.

        `at_once`: nothing has been recorded under it, so that nothing is shortened and no cooling-off is due.
        """
        with self._lock:
            now, book = self._now(), self.book
            said = {row.scope for row in book.policies} | {row.scope for row in book.pending}
            if change.scope in said:
                return
            made = book.set(change, now, who)
            self._keep(_in_force(book, made, change, now, who) if at_once else made)

    def cancel(self, scope: PolicyScope, field: PolicyField, who: str) -> None:
        """Takes back a change that waits. PolicyPendingError."""
        with self._lock:
            self._keep(self.book.cancel(scope, field, self._now(), who))

    def _keep(self, book: PolicyBook) -> None:
        if book != self._book:
            write_durably(self._path, POLICY_BOOK.dump_json(book))
            self._book = book


def _in_force(book: PolicyBook, made: PolicyBook, change: PolicyChange, now: int, who: str) -> PolicyBook:
    """What `made` will be when all of the change has taken effect, now."""
    events = (
        PolicyEvent(now, who, "set", change.scope, part.field, part.old, part.new, now)
        for part in preview(book, change, now).parts
    )
    history = (*book.history, *events)[-MAX_HISTORY:]
    return replace(book.as_if(change), version=made.version, history=history)
