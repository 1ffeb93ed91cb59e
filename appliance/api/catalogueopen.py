"""Opens the catalogue: a file that is damaged is put aside; a database that is away is waited for."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

import structlog

from appliance.api.cataloguedamaged import Damaged
from appliance.api.store import UNWRITABLE, Store
from appliance.catalog import database, salvage
from appliance.catalog.database import Database
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.numbering import Numbering
from appliance.catalog.reindex import is_due, step
from appliance.config.layout import Layout
from appliance.config.settings import Settings
from appliance.process.status import ALARM, WARNING, Status

log = structlog.get_logger()

REBUILT: Final = "CatalogueRebuilt"
INDEXING: Final = "SearchIndexIncomplete"
_AGAIN_S: Final = 1.0


def open_catalogue(settings: Settings, status: Status, damaged: Damaged) -> Database:
    """The catalogue that the settings name, migrated.

    CatalogueUnavailableError, CatalogueUnsuitableError, CatalogueVersionError.
    """
    chosen = settings.catalogue
    settings.layout.control.mkdir(
        mode=0o700, parents=True, exist_ok=True
    )  # others keep their files there, too
    numbering = Numbering(chosen.country, chosen.national_prefix, chosen.international_prefix)
    if not chosen.url:
        return _open_file(settings.layout, status, damaged, numbering)
    return Database.of(chosen.url, password_file=chosen.password_file, numbering=numbering)


async def opened(settings: Settings, status: Status, damaged: Damaged) -> Database:
    """As `open_catalogue`; a PostgreSQL that does not answer is waited for, with a condition."""
    while True:
        try:
            found = await asyncio.to_thread(open_catalogue, settings, status, damaged)
        except CatalogueUnavailableError as error:
            if not settings.catalogue.url:
                raise
            log.warning("catalogue not there", reason=error.reason, again_in_s=_AGAIN_S)
            status.raise_condition(
                UNWRITABLE,
                ALARM,
                "The catalogue's database does not answer; recording goes on, and the API is there when it is.",
            )
            await asyncio.sleep(_AGAIN_S)
        else:
            status.clear_condition(UNWRITABLE)
            await asyncio.to_thread(damaged.look)
            return found


async def reindex(store: Store, status: Status) -> None:
    """Makes the search index anew where its rules changed, beside everything else; ends when it is done."""
    while True:
        try:
            if not await asyncio.to_thread(is_due, store.database):
                status.clear_condition(INDEXING)
                return
            status.raise_condition(
                INDEXING,
                WARNING,
                "The search index is made anew after an update or another numbering: until this is over, filters on"
                " numbers, agents, names, notes, tags, flags, marks and session ids may not find everything.",
            )
            progress = await store.write(step)
            log.info("search index", done=progress.done, most=progress.most)
        except CatalogueUnavailableError:
            await asyncio.sleep(_AGAIN_S)  # its condition is raised


def _open_file(layout: Layout, status: Status, damaged: Damaged, numbering: Numbering) -> Database:
    path = layout.control / "catalogue.db"
    written_ns = _written_ns(path)  # before SQLite looks: that may write its log back
    if not database.is_damaged(path):
        return Database.at(path, numbering=numbering)
    aside = damaged.aside(path, written_ns)
    made = Database.at(path, numbering=numbering)
    saved = salvage.save(aside, made)
    log.error(
        "catalogue damaged", put_aside=aside.name, notes=saved.notes, tags=saved.tags, whole=saved.whole
    )
    status.raise_condition(REBUILT, WARNING, _sentence(saved))
    if saved.whole:
        damaged.remove("saved", aside)  # no erasure would reach into it
    return made


def _written_ns(path: Path) -> int:
    """When the catalogue was written last; 0: there is none."""
    found = 0
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            found = max(found, Path(f"{path}{suffix}").stat().st_mtime_ns)
    return found


def _sentence(saved: salvage.Saved) -> str:
    kept = (
        f"Its {saved.notes} notes and {saved.tags} tags were all saved."
        if saved.whole
        else f"{saved.notes} notes and {saved.tags} tags were saved; what is sealed comes back, the rest is lost for good,"
        " or in the damaged file, which is kept for a while."
    )
    return (
        "The catalogue was damaged, and is built anew from the recordings. "
        f"{kept} Identities come back from the copy beside it."
    )
