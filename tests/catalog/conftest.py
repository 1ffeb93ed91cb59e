from __future__ import annotations

import dataclasses

import catalogue_kit
import pytest

from appliance.catalog import recordings
from appliance.catalog.database import Database
from appliance.catalog.records import Description, Held, PartyRow, State
from appliance.model import Role, new_id

START = 1_764_000_000_000_000_000
SECOND = 10**9
TENANT = new_id()
LINE = new_id()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database(request, tmp_path):
    if request.param == "sqlite":
        made = catalogue_kit.new(tmp_path / "catalogue.db")
    else:
        server = request.getfixturevalue("postgres")
        made = Database.of(server.url(request.getfixturevalue("make_postgresql")()))
    yield made
    made.close()


@pytest.fixture
def on_disk(request, database, tmp_path):
    """Every byte that the database has in files now, its log included."""

    def read() -> bytes:
        folder = tmp_path
        if not database.sqlite:
            server = request.getfixturevalue("postgres")
            server.execute("CHECKPOINT")
            folder = server.data
        return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())

    return read


@pytest.fixture
def sqlite(tmp_path):
    made = catalogue_kit.new(tmp_path / "catalogue.db")
    yield made
    made.close()


def held(**fields) -> Held:
    base = Held(
        recording_id=new_id(),
        tenant_id=TENANT,
        line_id=LINE,
        slice="2025-11-24",
        state=State.FILED,
        size=1000,
        whole=True,
        reason="",
        since_ns=START + 10,
        created_ns=START,
    )
    return dataclasses.replace(base, **fields)


def description(**fields) -> Description:
    base = Description(
        start_ns=START,
        end_ns=START + 60 * SECOND,
        call_id=new_id(),
        source="siprec",
        parties=(
            PartyRow("sip:+441632960001@pstn.example", "+441632960001", "Ada Lovelace", Role.CALLER),
            PartyRow("sip:200@pbx.example", "200", "Zoë Grün", Role.AGENT),
        ),
    )
    return dataclasses.replace(base, **fields)


class Filing:
    """Files recordings into a catalogue."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.position = 0

    def __call__(
        self, one: Held | None = None, content: Description | None = None, position: int | None = None
    ):
        one = one or held()
        self.position += 1
        with self.database.write() as connection:
            recordings.take(
                connection, one, self.position if position is None else position, content or description()
            )
        return one.recording_id


@pytest.fixture
def file(database):
    return Filing(database)


@pytest.fixture
def make_held():
    return held


@pytest.fixture
def make_description():
    return description
