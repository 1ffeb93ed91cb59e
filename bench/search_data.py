"""A catalogue of a million recordings, the same on SQLite and on PostgreSQL; made once, and kept outside the checkout.

A hundred tenants with ten lines, a hundred agents and three thousand callers each; parties, tracks, marks, flags,
identifiers, notes and tags, drawn from a seed. Terms come from the product's own code.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
import sqlalchemy as sa

from appliance.catalog import numbering, recordings, searchtables, tables, terms, values
from appliance.catalog.database import Database
from appliance.catalog.numbering import Numbering
from appliance.catalog.records import Description, MarkRow, PartyRow, TrackRow
from appliance.model import Direction, MarkKind, Role, id_text
from tests.postgres_kit import Cluster

TENANTS: Final = 100
LINES: Final = 10
AGENTS: Final = 100
CALLERS: Final = 3000
START_NS: Final = 1_735_689_600 * 10**9  # 2025-01-01
SPAN_NS: Final = 365 * 86400 * 10**9
DAY_NS: Final = 86400 * 10**9

_FIRST = [
    "Ada", "Grace", "Alan", "Zoë", "Björn", "Chloé", "Dilip", "Emeka", "Fatima", "George", "Hana",
    "Ivan", "José", "Kwame", "Lena", "Mei", "Nia", "Omar", "Priya", "Ruth",
]  # fmt: skip
_SYLLABLES = [
    "ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "wa", "xe",
    "yi", "zo",
]  # fmt: skip
_TAGS = [
    "urgent", "complaint", "follow-up", "safeguarding", "prescription", "referral", "interpreter",
    "praise", "training", "escalated",
]  # fmt: skip
_FLAGS = ("one-way", "silent-caller", "clipped-agent", "metadata-missing")


@dataclass(frozen=True)
class Known:
    """What one tenant's recordings can be asked for."""

    tenant_id: str
    lines: tuple[str, ...]
    numbers: tuple[str, ...]
    agents: tuple[tuple[str, str], ...]  # number and name
    words: tuple[str, ...]
    tags: tuple[str, ...]


def words(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))) for _ in range(count)]


def ids(rng: random.Random) -> str:
    return id_text(rng.randbytes(16))


@functools.lru_cache(maxsize=TENANTS)
def known(number: int) -> Known:
    """The tenant of this number, the same each time."""
    rng = random.Random(f"tenant {number}")
    vocabulary = words(random.Random("vocabulary"), 6000)
    surnames = words(random.Random("surnames"), 4000)
    return Known(
        ids(rng),
        tuple(ids(rng) for _ in range(LINES)),
        tuple(f"+44{rng.randint(1_000_000_000, 7_999_999_999)}" for _ in range(CALLERS)),
        tuple(
            (str(200 + place), f"{rng.choice(_FIRST)} {rng.choice(surnames).title()}")
            for place in range(AGENTS)
        ),
        tuple(vocabulary),
        tuple(_TAGS) + tuple(f"case-{rng.randint(100, 999)}" for _ in range(20)),
    )


Rows = dict[sa.Table, list[dict[str, Any]]]


def tenant_rows(number: int, count: int) -> Rows:
    """Everything of one tenant, for every table."""
    one, rng = known(number), random.Random(f"recordings {number}")
    rules = Numbering()
    surnames = words(random.Random("surnames"), 4000)
    callers = [f"{rng.choice(_FIRST)} {rng.choice(surnames).title()}" for _ in one.numbers]
    weights = list(itertools.accumulate(1 / (place + 10) for place in range(len(one.words))))
    rows: Rows = {
        table: []
        for table in (tables.recordings, tables.parties, tables.tracks, tables.identifiers, tables.flags,
                      tables.marks, searchtables.notes, searchtables.recording_tags, searchtables.terms,
                      searchtables.number_parts, searchtables.search_tenants)
    }  # fmt: skip
    rows[searchtables.search_tenants].append({"no": number + 1, "tenant_id": one.tenant_id})
    found_numbers: set[str] = set()
    for place in range(count):
        recording_id, seq = ids(rng), place * TENANTS + number + 1
        start_ns = START_NS + SPAN_NS * place // count + rng.randrange(SPAN_NS // count)
        duration_ns = int(rng.expovariate(1 / 180) * 10**9)
        caller, agent = rng.randrange(CALLERS), one.agents[rng.randrange(AGENTS)]
        marks = [(MarkKind.ANNOUNCED, 2)] if rng.random() < 0.9 else []
        marks += [(MarkKind.HELD, 20)] if rng.random() < 0.2 else []
        marks += [(MarkKind.PAUSED, 40)] if rng.random() < 0.1 else []
        content = Description(
            start_ns=start_ns,
            end_ns=start_ns + duration_ns,
            call_id=ids(rng),
            direction=rng.choices((Direction.INBOUND, Direction.OUTBOUND, Direction.INTERNAL), (6, 3, 1))[0],
            source="siprec",
            sip_call_id=f"{rng.randbytes(8).hex()}@sbc.example",
            parties=(
                PartyRow(
                    f"sip:{one.numbers[caller]}@pstn.example",
                    one.numbers[caller],
                    callers[caller],
                    Role.CALLER,
                ),
                PartyRow(f"sip:{agent[0]}@pbx.example", agent[0], agent[1], Role.AGENT),
            ),
            marks=tuple(MarkRow(kind, start_ns + s * 10**9, None, "agent", "", -1, {}) for kind, s in marks),
            identifiers=(rng.randbytes(10).hex(),),
            flags=(rng.choice(_FLAGS),) if rng.random() < 0.03 else (),
            tracks=tuple(TrackRow(track, str(track), track, ("PCMA",)) for track in range(2)),
        )
        note = (
            " ".join(rng.choices(one.words, cum_weights=weights, k=rng.randint(8, 20)))
            if rng.random() < 0.2
            else ""
        )
        tags = {rng.choice(one.tags)} if rng.random() < 0.1 else set()
        add(rows, one, number, recording_id, seq, content, rng)
        if note:
            rows[searchtables.notes].append(
                {"id": ids(rng), "recording_id": recording_id, "text": note, "offset_ns": None, "author": "ruth",
                 "create_ns": start_ns + DAY_NS, "editor": "ruth", "update_ns": start_ns + DAY_NS}
            )  # fmt: skip
        rows[searchtables.recording_tags] += [
            {"recording_id": recording_id, "folded": values.fold(tag), "tag": tag, "author": "ruth",
             "create_ns": start_ns + DAY_NS}
            for tag in tags
        ]  # fmt: skip
        found = terms.of_content(content, rules)
        found |= {terms.NOTE + word for word in values.all_words_of(note)}
        found |= {terms.TAG + values.fold(tag) for tag in tags}
        found_numbers |= {term[1:] for term in found if term[0] == terms.NUMBER}
        rows[searchtables.terms] += [{"tenant_no": number + 1, "term": term, "seq": seq} for term in found]
    rows[searchtables.terms].sort(key=lambda row: (row["term"], row["seq"]))
    rows[searchtables.number_parts] = sorted(
        (
            {"tenant_no": number + 1, "part": part, "number": one_number}
            for one_number in found_numbers
            for part in terms.parts_of(one_number)
        ),
        key=lambda row: (row["part"], row["number"]),
    )
    return rows


def add(
    rows: Rows, one: Known, number: int, recording_id: str, seq: int, content: Description, rng: random.Random
) -> None:
    """The row of a recording, and what belongs to it."""
    rows[tables.recordings].append(
        {"id": recording_id, "seq": seq, "position": seq, "tenant_id": one.tenant_id,
         "line_id": rng.choice(one.lines), "slice": "2025-01-01", "state": "filed", "state_ns": content.start_ns,
         "state_reason": "", "etag": "e" * 20, "size": 8000 * content.duration_ns // 10**9, "whole": True,
         "created_ns": content.start_ns, "described": True, **recordings.columns(content)}
    )  # fmt: skip
    for table, some in recordings.content_rows(content).items():
        rows[table] += [{"recording_id": recording_id, **row} for row in some]


class Filler(Protocol):
    """Takes the rows of one tenant after the other."""

    def add(self, rows: Rows) -> None:
        """All rows of a tenant."""

    def finish(self) -> None:
        """Makes the indexes, and lets the database look at what it holds."""


class SqliteFiller:
    """Fills a file that is not there."""

    def __init__(self, path: Path) -> None:
        self._database = Database.at(path)
        self._connection = self._database.engine.raw_connection()
        for pragma in ("synchronous = OFF", "journal_mode = OFF", "foreign_keys = OFF"):
            self._connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]
        for index in indexes():
            self._connection.execute(f"DROP INDEX {index.name}")  # type: ignore[attr-defined]

    def add(self, rows: Rows) -> None:
        """See Filler."""
        cursor = self._connection.cursor()
        cursor.execute("BEGIN")
        for table, some in rows.items():
            if some:
                names = list(some[0])
                cursor.executemany(
                    f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                    map(_plain, some),
                )
        cursor.execute("COMMIT")

    def finish(self) -> None:
        """See Filler."""
        self._connection.close()
        with self._database.write() as connection:
            for index in indexes():
                connection.execute(sa.schema.CreateIndex(index))
            terms.note_current(connection)
        self._database.analyze()
        self._database.scrub()
        self._database.close()


class PostgresqlFiller:
    """Fills a new database."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        Database.of(cluster.url(name)).close()
        self._connection = psycopg.connect(cluster.dsn(name), autocommit=True)
        # No checks of foreign keys, row by row.
        for setting in ("session_replication_role = replica", "synchronous_commit = off"):
            self._connection.execute(f"SET {setting}")  # type: ignore[call-overload]
        for index in indexes():
            self._connection.execute(f"DROP INDEX {index.name}")  # type: ignore[call-overload]

    def add(self, rows: Rows) -> None:
        """See Filler."""
        for table, some in rows.items():
            if some:
                statement = f"COPY {table.name} ({', '.join(some[0])}) FROM STDIN"
                with self._connection.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[call-overload]
                    for row in some:
                        copy.write_row(_plain(row))

    def finish(self) -> None:
        """See Filler."""
        self._connection.close()
        made = Database.of(self._cluster.url(self._name))
        with made.write() as connection:
            connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '512MB'")
            for index in indexes():
                connection.execute(sa.schema.CreateIndex(index))
            terms.note_current(connection)
        made.close()
        self._cluster.execute("VACUUM (ANALYZE)", self._name)


def fill(fillers: Sequence[Filler], count: int, say: Callable[[str], None]) -> None:
    """The same rows for each."""
    for number in range(TENANTS):
        rows = tenant_rows(number, count // TENANTS)
        for filler in fillers:
            filler.add(rows)
        say(f"{number + 1} of {TENANTS} tenants")
    for filler in fillers:
        filler.finish()


def _plain(row: dict[str, Any]) -> list[Any]:
    return [json.dumps(v) if isinstance(v, dict | list) else v for v in row.values()]


def indexes() -> list[sa.Index]:
    """Of the tables that are filled: made when they are full."""
    return [
        index for table in tenant_rows(0, 0) for index in sorted(table.indexes, key=lambda one: str(one.name))
    ]


def made_from(count: int) -> dict[str, object]:
    """What the catalogue is made from: this file, and how terms are made. What is newer in tables is migrated."""
    sources = (Path(__file__), *(Path(str(one.__file__)) for one in (terms, values, numbering)))
    return {"count": count, "sources": [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources]}


def cache_root() -> Path | None:
    """Where a server without rights may look, too; None: the user's own cache, as the server is the user's."""
    if os.environ.get("EARWITNESS_CACHE") or os.getuid() != 0:
        return None
    return Path("/var/tmp/earwitness-cache")
