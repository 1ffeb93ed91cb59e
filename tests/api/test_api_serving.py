"""How the box served is noted: at each change, once a minute, over a catalogue that was away and a clock that was set."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from appliance.api import serving
from appliance.api.serving import Serving
from appliance.catalog import availability
from appliance.catalog.database import Database
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.model.served import Cause, Follows, Served

S = 10**9
BEGIN = 1_764_000_000 * S


class Catalogue:
    """A real catalogue, which may be away or full."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.away = self.full = False
        self.writes = 0

    async def read(self, work):
        if self.away:
            raise CatalogueUnavailableError("away")
        with self.database.read() as connection:
            return work(connection)

    async def write(self, work):
        if self.away or self.full:
            raise CatalogueUnavailableError("away")
        self.writes += 1
        with self.database.write() as connection:
            return work(connection)


@dataclass
class Follower:
    connected: bool = True


@dataclass
class Ground:
    store: Catalogue
    follower: Follower = field(default_factory=Follower)
    steady_s: float = 100.0
    set_ns: int = 0

    def __post_init__(self) -> None:
        self.serving = self.start()

    def start(self) -> Serving:
        return Serving(self.store, self.follower, self.clock, lambda: self.steady_s)

    def clock(self) -> int:
        return BEGIN + int(self.steady_s * S) + self.set_ns

    def look(self, after_s: float = 5.0, **how) -> None:
        self.steady_s += after_s
        asyncio.run(self.serving.look(**how))

    def rows(self) -> list[tuple[float, float, Cause | None, Follows]]:
        """Times in seconds from the first look."""
        with self.store.database.read() as connection:
            some = availability.stretches(connection, 0, 1 << 62)
        first = BEGIN + 105 * S
        return [((o.begin_ns - first) / S, (o.end_ns - first) / S, o.cause, o.follows) for o in some]


@pytest.fixture
def ground(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/catalogue.db")
    database.migrate()
    yield Ground(Catalogue(database))
    database.close()


def test_a_row_is_lengthened_once_a_minute_and_ended_by_a_change(ground):
    for _ in range(25):
        ground.look()
    assert ground.store.writes == 3 and ground.rows() == [(0, 120, None, Follows.START)]
    ground.follower.connected = False
    ground.look()
    ground.follower.connected = True
    ground.look()
    assert ground.rows() == [
        (0, 125, None, Follows.START),
        (125, 130, Cause.VAULT, Follows.CHANGE),
        (130, 130, None, Follows.CHANGE),
    ]


def test_a_start_waits_a_moment_for_the_vault(ground):
    ground.follower.connected = False
    ground.look()
    assert not ground.rows()
    ground.look(serving.START_S)
    assert [row[2] for row in ground.rows()] == [Cause.VAULT], "then it is told that it is not there"


@pytest.mark.parametrize("how", ["away", "full"])
def test_what_could_not_be_written_is_written_later(ground, how):
    ground.look()
    ground.follower.connected = False  # a change, which has to be written
    setattr(ground.store, how, True)
    for _ in range(3):
        ground.look()
    ground.follower.connected = True
    setattr(ground.store, how, False)
    ground.look()
    ground.look()
    ground.look(write=True)
    rows = ground.rows()
    assert rows[0][2] is None and rows[-1][2] is None
    assert Cause.CATALOGUE in [row[2] for row in rows]
    assert all(before[1] == after[0] for before, after in pairwise(rows)), "nothing is between"
    assert sum(row[1] - row[0] for row in rows if row[2] is Cause.CATALOGUE) >= 10


def test_a_clock_that_is_set_begins_a_row_that_says_so(ground):
    ground.look()
    ground.set_ns = 3600 * S
    ground.look()
    ground.set_ns = 0
    ground.look()
    assert [row[3] for row in ground.rows()] == [Follows.START, Follows.CLOCK, Follows.CLOCK]
    assert ground.rows()[0][1] == 0, "what it was before is not lengthened by the jump"


def test_an_end_in_good_order_is_noted_to_the_moment_and_a_start_is_a_row_of_its_own(ground):
    async def run() -> None:
        task = asyncio.create_task(ground.serving.run())
        while not ground.store.writes:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        ground.steady_s += 17.0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    ground.steady_s = 105.0
    asyncio.run(run())
    assert ground.rows() == [(0, 17, None, Follows.START)]
    ground.serving = ground.start()
    ground.look(60)
    assert ground.rows()[1:] == [(77, 77, None, Follows.START)]


def test_old_rows_go_and_the_last_one_stays(ground):
    some = [Served(place * S, (place + 1) * S) for place in range(3)]

    def work(connection):
        for one in some:
            availability.begin(connection, one)
        availability.prune(connection, availability.KEEP_NS + 100 * S)

    asyncio.run(ground.store.write(work))
    with ground.store.database.read() as connection:
        assert availability.stretches(connection, 0, 10 * S) == some[-1:]


def test_what_is_seen_while_it_is_read_is_no_outage(ground, monkeypatch):
    ground.look()
    plain, turns = ground.store.read, []

    async def slow(work):
        turns.append(None)
        if len(turns) == 2:  # the first is the look before it is read
            ground.steady_s += 5
            await ground.serving.look()
        return await plain(work)

    monkeypatch.setattr(ground.store, "read", slow)
    ground.steady_s += 5
    found, noted_ns = asyncio.run(ground.serving.stretches(0, 1 << 62))
    assert [one.end_ns for one in found] == [noted_ns]
    assert ground.clock() == noted_ns + 5 * S
