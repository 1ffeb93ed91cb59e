"""Takes files of call records, whether they come over the API or from the watched folder."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from appliance.api.completenessdays import Days, shift_fields
from appliance.api.completenessfacts import (
    contract_of,
    days_of,
    heard_of,
    known_of,
    recordings_in,
)
from appliance.api.store import Store
from appliance.catalog import completeness, counting, recordsources, tenants
from appliance.catalog.completeness import Day, Record
from appliance.catalog.database import numbering_of
from appliance.catalog.numbering import Numbering
from appliance.catalog.records import Recording
from appliance.catalog.recordsources import Import, Source
from appliance.completeness.contract import Contract
from appliance.completeness.facts import calls_of
from appliance.completeness.maps import RecordMap
from appliance.completeness.reading import CallRecord, Reading, read
from appliance.completeness.shifting import FURTHEST_NS, Shift, find_shift
from appliance.model import new_id

NOTE: Final = Callable[[sa.Connection, str], None]
_MAX_FACTS_NS: Final = 8 * 86400 * 10**9
"""A longer span than this is not held against recordings for its clock: its days are, each by itself."""


@dataclass(frozen=True)
class Taken:
    """What came of a file."""

    made: Import
    days: list[Day]


@dataclass(frozen=True)
class _Ground:
    zone: ZoneInfo
    contract: Contract
    numbering: Numbering
    key: bytes
    repeats: str


class Importer:
    """See the module. One file at a time: it is held in memory, and worked on in a thread."""

    def __init__(self, store: Store, days: Days, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._days = days
        self._clock_ns = clock_ns
        self._one = asyncio.Semaphore(1)

    async def check(self, source: Source, data: bytes) -> Import:
        """What an import would be; nothing is kept. What `completeness.reading` refuses, RecordMapMisfitError."""
        async with self._one:
            made, _ = await self._prepared(source, data, "")
            return replace(made, id="")

    async def take(
        self, source: Source, data: bytes, creator: str, note: Callable[[sa.Connection, str], None]
    ) -> str:
        """Keep what is new in a file; the import's id. What `check` refuses."""
        async with self._one:
            made, records = await self._prepared(source, data, creator)

            def work(connection: sa.Connection) -> str:
                known = completeness.known_digests(
                    connection, source.tenant_id, [one.digest for one in records]
                )
                fresh = {one.digest: one for one in records if one.digest not in known}
                completeness.add_records(connection, list(fresh.values()))
                repeats = recordsources.import_of_file(connection, source.id, made.sha256)
                recordsources.add_import(
                    connection,
                    replace(made, fresh=len(fresh), repeated=len(records) - len(fresh), repeats=repeats),
                )
                note(connection, made.id)
                return made.id

            import_id = await self._store.write(work)
            # Before anybody is answered: numbers of calls that have their recordings are not kept a moment longer.
            for day in await self._store.read(lambda connection: self._touched(connection, source, records)):
                await self._days.make(source.tenant_id, day)
            return import_id

    @staticmethod
    def _touched(connection: sa.Connection, source: Source, records: list[Record]) -> list[Any]:
        zone = counting.zone(tenants.get_tenant(connection, source.tenant_id).time_zone)
        return days_of((one.start_ns for one in records), zone)

    async def taken(self, tenant_id: str, import_id: str) -> Taken:
        """An import as it is kept, and the days it has rows of, as they are now."""

        def work(connection: sa.Connection) -> Taken:
            made = recordsources.get_import(connection, tenant_id, import_id)
            assert made is not None
            zone = counting.zone(tenants.get_tenant(connection, tenant_id).time_zone)
            days = days_of(completeness.starts_of(connection, tenant_id, import_id), zone)
            found = [completeness.find_day(connection, tenant_id, day.isoformat()) for day in days]
            return Taken(made, [one for one in found if one is not None])

        return await self._store.read(work)

    async def _prepared(self, source: Source, data: bytes, creator: str) -> tuple[Import, list[Record]]:
        sha256 = hashlib.sha256(data).hexdigest()
        ground = await self._store.write(lambda connection: _ground(connection, source, sha256))
        how = RecordMap.model_validate(source.map)
        now_ns = self._clock_ns()
        found = await asyncio.to_thread(read, data, how, ground.zone, now_ns)
        found.check_fit()
        import_id = new_id()
        records = await asyncio.to_thread(_records, source, found, ground, import_id)
        shift = await self._shift(source, records, ground)
        if shift is not None:
            records = [_moved(one, shift.ns) for one in records]
        digests = {one.digest for one in records}
        known = await self._store.read(
            lambda connection: completeness.known_digests(connection, source.tenant_id, sorted(digests))
        )
        made = Import(
            id=import_id,
            tenant_id=source.tenant_id,
            source_id=source.id,
            create_ns=now_ns,
            creator=creator,
            sha256=sha256,
            rows=found.rows,
            fresh=len(digests - known),
            repeated=len(records) - len(digests - known),
            old=found.old,
            broken=found.broken,
            problems=[[one.row, one.column, one.reason] for one in found.problems],
            repeats=ground.repeats,
            shift=shift_fields(shift),
        )
        return made, records

    async def _shift(self, source: Source, records: list[Record], ground: _Ground) -> Shift | None:
        """Whether all times of the file are off, as the recordings of its span say."""
        if not records:
            return None
        first = min(one.start_ns for one in records)
        last = min(max(one.start_ns for one in records), first + _MAX_FACTS_NS)

        def load(connection: sa.Connection) -> list[Recording]:
            return recordings_in(connection, source.tenant_id, first - FURTHEST_NS, last + FURTHEST_NS)

        recordings = await self._store.read(load)
        tolerances = self._days.tolerances

        def find() -> Shift | None:
            heard = [heard_of(one, ground.contract, ground.numbering) for one in recordings]
            known = [known_of(one, ground.numbering) for one in records if one.start_ns <= last]
            return find_shift(known, calls_of(heard), tolerances)

        return await asyncio.to_thread(find)


def _ground(connection: sa.Connection, source: Source, sha256: str) -> _Ground:
    return _Ground(
        zone=counting.zone(tenants.get_tenant(connection, source.tenant_id).time_zone),
        contract=contract_of(connection, source.tenant_id),
        numbering=numbering_of(connection),
        key=completeness.key(connection),
        repeats=recordsources.import_of_file(connection, source.id, sha256),
    )


def _records(source: Source, found: Reading, ground: _Ground, import_id: str) -> list[Record]:
    return [_record(source, one, ground, import_id) for one in found.records]


def _record(source: Source, one: CallRecord, ground: _Ground, import_id: str) -> Record:
    judged = ground.contract.judge(one, source.line_id, source.least_talk_ns)
    three = (one.from_number, one.to_number, one.extension)
    own = sum(
        1 << bit for bit, number in enumerate(three) if number and ground.contract.owns(number, one.start_ns)
    )
    return Record(
        id=new_id(),
        tenant_id=source.tenant_id,
        source_id=source.id,
        import_id=import_id,
        digest=completeness.digest(ground.key, source.id, one.identity),
        start_ns=one.start_ns,
        answer_ns=one.answer_ns,
        talk_ns=one.talk_ns,
        direction=judged.direction.value,
        line_id=judged.line_id,
        why=judged.why.value,
        from_number=one.from_number,
        to_number=one.to_number,
        extension=one.extension,
        own=own,
        call_id=one.call_id,
    )


def _moved(one: Record, by_ns: int) -> Record:
    answer_ns = None if one.answer_ns is None else one.answer_ns + by_ns
    return replace(one, start_ns=one.start_ns + by_ns, answer_ns=answer_ns)


def reading_of(data: bytes, how: RecordMap, zone: ZoneInfo, now_ns: int, most: int) -> Reading:
    """The beginning of a file: the last row is left out where it is cut."""
    cut = data[: data.rfind(b"\n") + 1] if b"\n" in data and how.encoding != "utf-16" else data
    return read(cut if len(cut) > 0 else data, how, zone, now_ns, most)
