"""What lies in an exit pack and is not to: files that broke off, and those of recordings that are erased since."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.api.errors import ExitPackWaitsError
from appliance.api.exitpackwriter import Journal
from appliance.api.store import Store
from appliance.api.taking import CURSOR
from appliance.catalog import exitpacks, state
from appliance.catalog.database import Database
from appliance.catalog.exitpacks import ExitPack
from appliance.packs.exitrecord import folder
from appliance.packs.exittargets import Target

PAGE: Final = 500


def check_alone(lock: Path) -> None:
    """ExitPackWaitsError where a process that fills this pack is there still: it is at its last recording."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ExitPackWaitsError("the exit pack's process is at work still", why="PROCESS_BUSY") from error
    finally:
        os.close(fd)


async def clear(store: Store, pack: ExitPack, target: Target, journal: Journal, at: Path) -> None:
    """Take away what was put there and is in no line of the journal. Nobody else may be at work."""
    begun: set[str] = set()
    with suppress(FileNotFoundError):
        begun.add(at.read_text("ascii").strip())
    # A power cut takes the last lines of the journal; who was let in is known all the same.
    until = str(pack.spec.get("admitted", ""))
    last = journal.last
    begun |= await store.read(lambda connection: exitpacks.within(connection, pack.tenant_id, last, until))
    paths = [folder(one) for one in sorted(begun) if one > last]
    for one in journal.owed[:1]:  # one after the other: sound of the first alone can have been begun
        paths += [f"{folder(one)}/{one}.{ending}" for ending in (pack.spec["sound"], "vcon.json")]
    for path in paths:
        await asyncio.to_thread(target.drop, path)


def take_out(database: Database, target: Target, journal: Journal) -> frozenset[str]:
    """Drop files of recordings that are erased by now; gives the ids. In a thread.

    ExitPackWaitsError while the catalogue is made anew: of recordings that it does not know yet nobody can tell.
    """
    with database.read() as connection:
        if state.get(connection, CURSOR) is None:
            raise ExitPackWaitsError("the catalogue is built anew", why="CATALOGUE_REBUILDING")
    erased: set[str] = set()
    page: set[str] = set()
    for one in journal.read():
        page.add(one.recording)
        if len(page) >= PAGE:
            erased |= _erased(database, page)
            page.clear()
    erased |= _erased(database, page)
    for recording_id in sorted(erased):
        target.drop(folder(recording_id))
    return frozenset(erased)


def _erased(database: Database, ids: set[str]) -> set[str]:
    with database.read() as connection:
        return ids - exitpacks.there(connection, ids)
