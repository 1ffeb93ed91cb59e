"""What may not be read any more stops being read: asked while it is read, and here alone.

A stream of the API ends by `gate.ends_with(refused(...))`; long work asks what `meanwhile` gives between two pieces. Both
end within about a second of the decision: a restriction, a deletion, an erasure, whoever made it and by which way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import sqlalchemy as sa

from appliance.api.errors import NotReadableError
from appliance.api.store import ShuttingDownError, Store
from appliance.catalog import recordings, restrictions
from appliance.catalog.records import Recording, State
from appliance.model import EarwitnessError, ErasedError, Kind

LOOK_S: Final = 1.0
PAUSE_S: Final = 0.25  # between two looks, however much is written

Check = Callable[[sa.Connection], object]
"""Raises why something may not be read any more."""


def readable(row: Recording) -> None:
    """ErasedError, NotReadableError where it cannot be read in its state."""
    if row.state is State.ERASED:
        raise ErasedError("the recording is erased: its key is destroyed")
    if row.state is not State.FILED:
        raise NotReadableError("the recording cannot be read in this state", state=row.state.name)


def standing(recording_id: str, *, restricted: bool = False) -> Check:
    """That a recording may be read: RecordingNotFoundError, ErasedError, NotReadableError, RecordingRestrictedError.

    `restricted`: it is read although it is, or nothing is told of what was said.
    """

    def check(connection: sa.Connection) -> None:
        readable(recordings.get(connection, recording_id))
        if not restricted:
            restrictions.check(connection, recording_id)

    return check


async def refused(store: Store, check: Check) -> EarwitnessError:
    """Waits until it is not allowed any more, and gives why. While nobody can say, it is asked again."""
    while True:
        seen = store.events.number
        try:
            await store.read(check)
        except EarwitnessError as error:
            if error.kind is not Kind.UNAVAILABLE:
                return error
        await asyncio.sleep(PAUSE_S)
        try:
            await store.events.wait(seen, LOOK_S)
        except ShuttingDownError:
            await asyncio.sleep(LOOK_S)  # what is under way has a while yet


@asynccontextmanager
async def meanwhile(store: Store, check: Check) -> AsyncIterator[Callable[[], None]]:
    """Gives what raises, in any thread, why it is not allowed any more; looked at first, then again and again."""
    await store.read(check)
    found: list[EarwitnessError] = []

    async def watch() -> None:
        found.append(await refused(store, check))

    def still() -> None:
        if found:
            raise found[0]

    watcher = asyncio.create_task(watch())
    try:
        yield still
    finally:
        watcher.cancel()
