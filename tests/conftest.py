"""Options of the whole suite."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator

import postgres_kit
import pytest
import structlog

from appliance.catalog.database import Database

# A box in this process writes its log while a test reads what a command printed: the two go different ways.
structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        choices=("directory", "zfs"),
        default="directory",
        help="what keeps the buckets in the vault's tests; zfs wants a pool (see tests/storage/vault/ground.py)",
    )


def pytest_collection_finish() -> None:
    """What was collected stays to the end: to look through it again and again takes a seventh of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_kit.Cluster]:
    """A PostgreSQL server of this test process."""
    if postgres_kit.programs() is None:
        pytest.skip(postgres_kit.MISSING)
    cluster = postgres_kit.Cluster.temporary()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="session")
def migrated(postgres: postgres_kit.Cluster) -> str:
    """Name of a database that has the tables and nothing in them."""
    name = postgres.new()
    Database.of(postgres.url(name)).close()
    return name


@pytest.fixture
def make_postgresql(postgres: postgres_kit.Cluster, migrated: str) -> Iterator[Callable[[], str]]:
    """Makes databases that have the tables; gives their names."""
    made: list[str] = []

    def make() -> str:
        made.append(postgres.new(migrated))
        return made[-1]

    yield make
    for name in made:
        postgres.drop(name)


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for all controls of this test process: grpc.aio has one poller for all loops there ever were."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, name="loop", daemon=True)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
