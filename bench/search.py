"""Search and list among a million recordings, on both databases: p50 and p95 of the catalogue's own queries."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from appliance.catalog import counting, filters, recordings
from appliance.catalog.database import Database
from appliance.catalog.recording_filter import FIELDS
from bench import search_data as data
from image.cache import Cache, key_of
from tests.postgres_kit import FAST, MISSING, Cluster, programs

MUST_MS: Final = 50.0
GOAL_MS: Final = 20.0
PAGE: Final = 50
# As on a box of this size; the rest is as PostgreSQL comes.
SERVER: Final = {"shared_buffers": "512MB", "synchronous_commit": "on", "max_wal_size": "4GB"}

Query = Callable[[sa.Connection, random.Random, data.Known], int]


@dataclass(frozen=True)
class Figure:
    """One kind of query; times in milliseconds, `found` rows on average."""

    database: str
    query: str
    p50: float
    p95: float
    found: float


def listing(make: Callable[[random.Random, data.Known], str], page: int = PAGE) -> Query:
    """The newest that match a filter, whole rows as the API gives them."""

    def run(connection: sa.Connection, rng: random.Random, one: data.Known) -> int:
        text = make(rng, one)
        found = recordings.search(
            connection,
            tenant_id=one.tenant_id,
            where=filters.parse(text, FIELDS),
            order=recordings.Order(),
            limit=page + 1,
            bound=recordings.newest(connection),
        )
        return len(found)

    return run


def deep(connection: sa.Connection, rng: random.Random, one: data.Known) -> int:
    """The thousandth page of ten, of all that a tenant has."""
    at = data.START_NS + int(data.SPAN_NS * rng.uniform(0.0, 0.01))
    found = recordings.search(
        connection,
        tenant_id=one.tenant_id,
        where=None,
        order=recordings.Order(),
        limit=11,
        bound=recordings.newest(connection),
        after=(at, "z"),
    )
    return len(found)


def days(text: str) -> Query:
    """A count by day."""

    def run(connection: sa.Connection, rng: random.Random, one: data.Known) -> int:
        counted = counting.count(
            connection,
            tenant_id=one.tenant_id,
            where=filters.parse(text, FIELDS),
            by=counting.By.DAY,
            time_zone=counting.zone("Europe/London"),
        )
        return len(counted.groups)

    return run


def _middle(rng: random.Random, one: data.Known) -> str:
    number = rng.choice(one.numbers)
    at = rng.randrange(4, len(number) - 5)
    return f'party.number:"{number[at : at + 5]}"'


def _span(rng: random.Random, one: data.Known) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime(data.START_NS / 1e9 + rng.randrange(300) * 86400))
    return f"line={rng.choice(one.lines)} AND start_time>={day} AND duration>120s"


QUERIES: Final[dict[str, Query]] = {
    "newest": listing(lambda rng, one: ""),
    "page 1000 deep": deep,
    "number": listing(lambda rng, one: f'party.number="0{rng.choice(one.numbers)[3:]}"'),
    "number, its beginning": listing(lambda rng, one: f'party.number="{rng.choice(one.numbers)[:7]}*"'),
    "number, 5 digits of it": listing(_middle),
    "number, 2 digits of it": listing(lambda rng, one: f'party.number:"{rng.randrange(10, 99)}"'),
    "agent's number": listing(lambda rng, one: f"agent={rng.choice(one.agents)[0]}"),
    "agent's name": listing(lambda rng, one: f'agent:"{rng.choice(one.agents)[1]}"'),
    "name": listing(lambda rng, one: f'party.name:"{rng.choice(one.agents)[1].split()[0][:3]}"'),
    "note, one word": listing(lambda rng, one: f'notes:"{one.words[rng.randrange(40)]}"'),
    "note, two words": listing(
        lambda rng, one: f'notes:"{one.words[rng.randrange(9)]} {one.words[rng.randrange(40)]}"'
    ),
    "note, a beginning": listing(lambda rng, one: f'notes:"{rng.choice(one.words)[:3]}*"'),
    "tag": listing(lambda rng, one: f'tags:"{rng.choice(one.tags)}"'),
    "mark": listing(lambda rng, one: "marks:PAUSED"),
    "line, time, length": listing(_span),
    "not, or, and": listing(
        lambda rng, one: (
            f'(tags:"{rng.choice(one.tags)}" OR agent={rng.choice(one.agents)[0]}) AND NOT marks:PAUSED'
        )
    ),
    "count by day": days(""),
    "count by day, a tag's": days("tags:urgent"),
}


def measure(database: Database, name: str, times: int, tenant: int | None = None) -> Iterator[Figure]:
    """Each kind of query so many times, of tenants and values drawn from a seed."""
    for query, run in QUERIES.items():
        rng = random.Random(query)
        took, found = [], 0
        for turn in range(times + 5):
            one = data.known(rng.randrange(data.TENANTS) if tenant is None else tenant)
            began = time.perf_counter_ns()
            with database.read() as connection:
                count = run(connection, rng, one)
            if turn >= 5:  # the first ones make statements known
                took.append((time.perf_counter_ns() - began) / 1e6)
                found += count
        took.sort()
        yield Figure(name, query, took[len(took) // 2], took[int(len(took) * 0.95)], found / times)


def build(folder: Path, count: int, say: Callable[[str], None]) -> None:
    """Both databases in an empty directory."""
    fillers: list[data.Filler] = [data.SqliteFiller(folder / "catalogue.db")]
    if programs() is None:
        data.fill(fillers, count, say)
        return
    folder.chmod(0o755)  # the server runs as somebody else
    cluster = Cluster(folder / "pg", {**SERVER, **FAST})
    cluster.start()
    try:
        cluster.execute("CREATE DATABASE catalogue TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
        data.fill([*fillers, data.PostgresqlFiller(cluster, "catalogue")], count, say)
    finally:
        cluster.stop()


def run(count: int, times: int, say: Callable[[str], None]) -> list[Figure]:
    """Figures of both databases; of SQLite alone where there is no PostgreSQL, which is said."""
    made_from = {**data.made_from(count), "postgresql": programs() is not None}
    cache = Cache(data.cache_root())
    folder = cache.get("search", key_of(made_from), lambda path: build(path, count, say))
    figures = []
    database = Database.at(folder / "catalogue.db")
    try:
        figures += list(measure(database, "SQLite", times))
    finally:
        database.close()
    if programs() is None:
        say(MISSING)
        return figures
    cluster = Cluster(folder / "pg", SERVER)
    cluster.start()
    try:
        database = Database.of(cluster.url("catalogue"))
        try:
            figures += list(measure(database, "PostgreSQL", times))
        finally:
            database.close()
    finally:
        cluster.stop()
    return figures


def as_json(figures: list[Figure], count: int) -> dict[str, object]:
    """For the results file."""
    return {
        "recordings": count,
        "tenants": data.TENANTS,
        "must_p95_ms": MUST_MS,
        "goal_p95_ms": GOAL_MS,
        "busy": os.getloadavg()[0] > len(os.sched_getaffinity(0)),
        "queries": [asdict(one) for one in figures],
    }
