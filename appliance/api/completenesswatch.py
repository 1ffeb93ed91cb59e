"""Keeps completeness going by itself: days made anew when something changed, files taken from the watched folder.

The folder has a folder for each source, named by its id, made here. A file is taken when it has not changed for a few
seconds, and lies in done/ or refused/ afterwards, with a report beside it that holds no number. Files there are removed
after some days: they are copies, and full of numbers. So are those of sources that are gone (`completenessleft`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog

from appliance.api import completenessleft
from appliance.api.completenessdays import Days
from appliance.api.completenessimport import Importer, Taken
from appliance.api.store import Store
from appliance.api.taking import CURSOR
from appliance.audit.trail import Trail
from appliance.catalog import alarms, completeness, counting, recordsources, state, tenants
from appliance.catalog.completeness import Day
from appliance.catalog.recordsources import Source
from appliance.completeness import report
from appliance.completeness.errors import RecordsTooLargeError
from appliance.completeness.reading import MAX_BYTES
from appliance.config.completeness import CompletenessSettings
from appliance.model import EarwitnessError, Kind

log = structlog.get_logger()

LOOK_S: Final = 10.0
LOOK_BACK_S: Final = 60.0  # at days of which recordings may still come
PRUNE_S: Final = 3600.0
SETTLED_S: Final = 5.0  # how long a file has not changed when it is taken
MAX_FILES: Final = 200  # of one source, in one look
REFUSED: Final = "CallRecordsRefused"
DONE: Final = "done"
NOT_TAKEN: Final = "refused"
PUT_AWAY: Final = (DONE, NOT_TAKEN)
REPORT: Final = ".report.json"
MAX_NAME: Final = 200  # bytes: a number and the name of a report go behind it


@dataclass(frozen=True)
class _Watched:
    """What is to be done, found in one transaction."""

    days: list[tuple[str, str]]
    sources: list[Source]


class Watch:
    """See the module. `look` is one round."""

    def __init__(
        self,
        store: Store,
        trail: Trail,
        days: Days,
        importer: Importer,
        settings: CompletenessSettings,
        clock_ns: Callable[[], int],
    ) -> None:
        self._store = store
        self._trail = trail
        self._days = days
        self._importer = importer
        self._settings = settings
        self._clock_ns = clock_ns
        self._looked_back_s = self._pruned_s = float("-inf")
        self._begun = False
        self._stuck: set[tuple[str, str]] = set()  # taken, and not to be moved: source and file

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                back = time.monotonic() - self._looked_back_s >= LOOK_BACK_S
                await self.look(back=back)
                if back:
                    self._looked_back_s = time.monotonic()
            except EarwitnessError as error:
                if error.kind is not Kind.UNAVAILABLE:
                    raise
                log.info(
                    "completeness waits", reason=error.reason
                )  # its condition is raised; there is a next round
            await asyncio.sleep(LOOK_S)

    async def look(self, *, back: bool = True) -> None:
        """Take files, then make days that are due; `back`: also those of which something is new."""
        if await self._store.read(lambda connection: state.get(connection, CURSOR)) is None:
            return  # of a catalogue that is being built anew every call would be missing
        now_ns = self._clock_ns()
        found = await self._store.read(lambda connection: self._found(connection, now_ns, back))
        if self._settings.folder is not None:
            for source in found.sources:
                await self._folder(source, self._settings.folder / source.id)
            await self._left(self._settings.folder)
        for tenant_id, day in found.days:
            await self._days.make(tenant_id, datetime.fromisoformat(day).date())
        self._begun = True  # only now: what broke off before is looked for again
        if time.monotonic() - self._pruned_s >= PRUNE_S:
            await self._store.write(lambda connection: completeness.prune(connection, now_ns))
            self._pruned_s = time.monotonic()

    def _found(self, connection: sa.Connection, now_ns: int, back: bool) -> _Watched:
        sources = recordsources.sources_of(connection, None)
        zone_of = cache(lambda tenant_id: counting.zone(tenants.get_tenant(connection, tenant_id).time_zone))
        days = [
            (one.tenant_id, one.day)
            for one in completeness.days_to_watch(connection, now_ns, back=back)
            if self._is_due(connection, one, zone_of, now_ns)
        ]
        if not self._begun:
            for tenant_id, start_ns in completeness.uncompared(connection):
                days.append((tenant_id, report.day_of(start_ns, zone_of(tenant_id)).isoformat()))
            days = list(dict.fromkeys(days))
        for tenant_id in dict.fromkeys(one.tenant_id for one in sources):
            first_ns = min(one.create_ns for one in sources if one.tenant_id == tenant_id)
            found = self._silent(connection, tenant_id, zone_of(tenant_id), first_ns, now_ns)
            days += [(tenant_id, day) for day in found]
        return _Watched(list(dict.fromkeys(days)), sources)

    @staticmethod
    def _is_due(connection: sa.Connection, day: Day, zone_of: Callable[[str], ZoneInfo], now_ns: int) -> bool:
        if day.due_ns is not None and day.due_ns <= now_ns:
            return True
        span = report.span_of(datetime.fromisoformat(day.day).date(), zone_of(day.tenant_id))
        return completeness.seen(connection, day.tenant_id, *span) != day.seen

    def _silent(
        self, connection: sa.Connection, tenant_id: str, zone: ZoneInfo, first_ns: int, now_ns: int
    ) -> list[str]:
        """Yesterday, where the hour for reports is over and nothing was heard of it."""
        now = datetime.fromtimestamp(now_ns / 1e9, UTC).astimezone(zone)
        yesterday = now.date() - timedelta(days=1)
        if now.hour < self._settings.hour or report.span_of(yesterday, zone)[1] <= first_ns:
            return []
        day = yesterday.isoformat()
        return [] if completeness.find_day(connection, tenant_id, day) is not None else [day]

    async def _left(self, folder: Path) -> None:
        """Asked anew which sources there are: one may have been made while files of others were taken."""
        found = await self._store.read(lambda connection: recordsources.sources_of(connection, None))
        known = {one.id for one in found}
        keep_days = self._settings.keep_days
        await asyncio.to_thread(completenessleft.age, folder, known, keep_days, PUT_AWAY, time.time())

    async def _folder(self, source: Source, folder: Path) -> None:
        try:
            names = await asyncio.to_thread(_ready, folder, self._settings.keep_days)
        except OSError as error:
            log.warning("watched folder cannot be read", source=source.id, errno=error.errno or 0)
            return
        self._stuck = {one for one in self._stuck if one[0] != source.id or one[1] in names}
        for name in names:
            if (source.id, name) not in self._stuck:
                await self._file(source, folder, name)

    async def _file(self, source: Source, folder: Path, name: str) -> None:
        taken: Taken | None = None
        refusal: EarwitnessError | None = None
        try:
            data = await asyncio.to_thread(_bytes, folder / name)
            import_id = await self._importer.take(source, data, "", lambda connection, subject: None)
            taken = await self._importer.taken(source.tenant_id, import_id)
        except OSError as error:
            log.warning("file of call records cannot be read", source=source.id, errno=error.errno or 0)
            return
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            refusal = error
        await self._trail.append(
            {
                "time_ns": time.time_ns(),
                "what": "call-records",
                "tenant": source.tenant_id,
                "subject": f"tenants/{source.tenant_id}/callRecordSources/{source.id}",
                "outcome": "taken" if refusal is None else refusal.reason,
            },
            durable=True,
        )
        now_ns = self._clock_ns()

        def tell(connection: sa.Connection) -> None:
            if refusal is None:
                alarms.clear_alarm(connection, REFUSED, source.id, now_ns)
            else:
                data: dict[str, str | int] = {"source": source.id, "reason": refusal.reason}
                alarms.raise_alarm(connection, REFUSED, source.id, source.tenant_id, now_ns, data)

        await self._store.write(tell)
        told = _told(refusal, taken)
        try:
            await asyncio.to_thread(_put_away, folder, name, DONE if refusal is None else NOT_TAKEN, told)
        except OSError as error:
            # Taken it is: it is not taken again and again, each time with an entry in the audit log.
            self._stuck.add((source.id, name))
            log.warning("file of call records cannot be moved", source=source.id, errno=error.errno or 0)


def _ready(folder: Path, keep_days: int) -> list[str]:
    """Names of files that are whole, oldest first; folders are made, and what was put away long ago is removed."""
    for part in ("", *PUT_AWAY):
        (folder / part).mkdir(mode=0o750, parents=True, exist_ok=True)
    now = time.time()
    for part in PUT_AWAY:
        for one in os.scandir(folder / part):
            if (
                one.is_file(follow_symlinks=False)
                and one.stat(follow_symlinks=False).st_mtime < now - keep_days * 86400
            ):
                os.unlink(one.path)
    found = []
    for one in os.scandir(folder):
        # Files that are being written are hidden, or have another name until they are whole: rsync, scp, SFTP servers.
        if one.name.startswith(".") or one.name.endswith((".part", ".tmp", ".filepart")):
            continue
        if one.is_file(follow_symlinks=False):
            changed = one.stat(follow_symlinks=False)
            if now - max(changed.st_mtime, changed.st_ctime) >= SETTLED_S:
                found.append((changed.st_mtime, one.name))
    return [name for _, name in sorted(found)[:MAX_FILES]]


def _bytes(path: Path) -> bytes:
    """OSError; RecordsTooLargeError. No link is followed, and nothing but a file is read."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise RecordsTooLargeError(f"at most {MAX_BYTES >> 20} MiB at once", limit=MAX_BYTES)
    return data


def _told(refusal: EarwitnessError | None, taken: Taken | None) -> dict[str, Any]:
    """What lies beside a file: counts, rows and columns, nothing of what stands in them."""
    if refusal is not None:
        return {"taken": False, "reason": refusal.reason, "message": refusal.message, **refusal.data}
    assert taken is not None
    made = taken.made
    return {
        "taken": True,
        "import": made.id,
        "rows": made.rows,
        "new": made.fresh,
        "repeated": made.repeated,
        "old": made.old,
        "broken": made.broken,
        "problems": [
            {"row": row, "column": column, "reason": reason} for row, column, reason in made.problems
        ],
        "shift_seconds": made.shift.get("ns", 0) // 10**9,
        "days": {one.day: {"contracted": one.expected, "missing": one.missing} for one in taken.days},
    }


def _put_away(folder: Path, name: str, where: str, told: dict[str, Any]) -> None:
    """The report first, so that no file lies there without one; a name that is there already gets a number."""
    kept = name if len(os.fsencode(name)) <= MAX_NAME else hashlib.sha256(os.fsencode(name)).hexdigest()
    target = folder / where / kept
    number = 1
    while target.exists():
        number += 1
        target = folder / where / f"{kept}.{number}"
    beside = target.with_name(target.name + REPORT)
    beside.write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    os.replace(folder / name, target)
    with suppress(PermissionError):  # another user's: its own time counts
        os.utime(target)  # from now on it is kept for so many days
