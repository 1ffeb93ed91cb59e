"""How support looks at recordings in the call under way: under which grants, and whether its read is counted."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field

from appliance.api import gate
from appliance.api.granted import Granted, Read
from appliance.catalog.records import Recording


@dataclass
class View:
    """Of one call by support, which has no other right to it."""

    granted: Granted
    kind: str = ""  # of the read; empty: it looks, and reads nothing
    format: str = ""
    etag: str = ""
    purpose: str = ""
    read: Read | None = None
    open_ids: set[str] = field(default_factory=set)  # recordings whose parties are shown

    async def count(self, row: Recording) -> str:
        """Count the read under a grant, once in a call; the grant's id. RecordingNotFoundError, GrantPurposeError."""
        if self.read is None:
            self.read = await self.granted.begin(row, self.kind, self.format, self.etag, self.purpose)
            gate.allowed_by(self.read.grant_name)
        return self.read.grant.grant_id


_view: contextvars.ContextVar[View | None] = contextvars.ContextVar("view", default=None)


def enter(view: View | None) -> View | None:
    """From here on, in this call. None: by a right of the caller's own."""
    _view.set(view)
    return view


def current() -> View | None:
    """In the call under way."""
    return _view.get()


async def count(row: Recording) -> str:
    """Id of the support grant under which a recording is read, which counts it; empty: by a right of the caller's own."""
    view = current()
    return await view.count(row) if view is not None and view.kind else ""
