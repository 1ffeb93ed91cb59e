"""A recording's row in every table that has its id, and what is left of it by each way out of the catalogue."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil

import pytest
import sqlalchemy as sa

import appliance.catalog
from appliance.catalog import (
    grants,
    operations,
    reads,
    recordings,
    restrictionduties,
    restrictions,
    state,
    tables,
)
from appliance.catalog.database import PERSONAL
from appliance.catalog.forgetting import LEFT, STAYS, TAKEN
from appliance.catalog.grants import Grant, Latched, Scope
from appliance.catalog.operations import Operation
from appliance.catalog.operations import State as OperationState
from appliance.catalog.reads import Read
from appliance.catalog.records import Certificate, State
from appliance.catalog.restrictions import Ground, Restriction
from appliance.model import new_id

for module in pkgutil.iter_modules(appliance.catalog.__path__):
    importlib.import_module(f"appliance.catalog.{module.name}")  # each may have tables

TENANT = new_id()
NEEDLE = "zebedee"
NUMBER = "+449998887777"
TABLES = sorted(table.name for table in tables.metadata.tables.values() if "recording_id" in table.c)
# What code reads back, and so must have a form; all other texts are the needle.
FORMED = {
    "reads": {"source": "line", "kind": "download"},
    "call_records": {"own": 0, "from_number": NUMBER, "outcome": "", "direction": "inbound"},
    "subject_packs": {"state": "ready"},
    "subject_pack_recordings": {"exception": ""},
    "reviews": {
        "state": "submitted",
        "outcome": "",
        "answers": [{"question_id": "q", "text": NEEDLE}],
        "score": {},
        "agent": "200",
        "week": "2026-W48",
    },
    "restrictions": {
        "number": "",
        "ground": "accuracy",
        "state": "active",
        "hold": "",
        "reason": NEEDLE,
        "history": [[1, "me", "restricted", NEEDLE]],
    },
    "parties": {"number": NUMBER, "role": "caller"},
    "flags": {"flag": "kept"},
}
# Where a row may stay: the columns that are of people. Elsewhere all are, and no row stays.
PERSONAL_COLUMNS = {
    "reads": {"override_reason"},
    "call_records": {"from_number", "to_number", "extension", "call_id"},
    "reviews": {"answers", "comment", "resolution"},
    "subject_pack_recordings": set(),
    **{name: set() for name in STAYS},
}


def test_each_table_with_a_recordings_id_is_in_one_of_the_lists():
    taken = {table.name for table in TAKEN}
    assert taken | set(STAYS) == set(TABLES) and not taken & set(STAYS)
    assert set(LEFT) <= taken
    bare = {"flags", "tracks", "sidecars", "review_considered", "review_pending", "subject_pack_recordings"}
    assert taken - bare <= set(PERSONAL), "it is written anew where a database keeps what was deleted"


class Filled:
    """Rows with a recording's id; `add` makes one, and what it refers to."""

    def __init__(self, connection: sa.Connection, recording_id: str, tenant_id: str) -> None:
        self.connection = connection
        self.recording_id = recording_id
        self.tenant_id = tenant_id

    def add(self, name: str, *, own: bool = True) -> dict[str, object]:
        table = tables.metadata.tables[name]
        row: dict[str, object] = {}
        for column in table.columns:
            parent = next((key.column for key in column.foreign_keys), None)
            if column.autoincrement is True:
                continue
            if column.name in FORMED.get(name, {}):
                row[column.name] = FORMED[name][column.name]
            elif column.name == "recording_id":
                row[column.name] = self.recording_id
            elif column.name == "tenant_id":
                row[column.name] = self.tenant_id
            elif parent is not None:
                row[column.name] = self.add(parent.table.name, own=False)[parent.name]
            else:
                said = own and column.name in PERSONAL_COLUMNS.get(name, {column.name})
                row[column.name] = _value(column.type, NEEDLE if said else "word")
        if "id" in row:
            row["id"] = new_id()
        self.connection.execute(sa.insert(table).values(**row))
        return row


def _value(kind: sa.types.TypeEngine, text: str) -> object:
    if isinstance(kind, sa.JSON):
        return [text]
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, sa.Integer):
        return 1
    if isinstance(kind, sa.LargeBinary):
        return text.encode()
    return text[: kind.length]


def erased(connection, held, position):
    certificate = Certificate(3, 77, "asked", b"s" * 64, b"k" * 32)
    gone = dataclasses.replace(held, state=State.ERASED, since_ns=99, certificate=certificate, size=0)
    recordings.take(connection, gone, position, None)


def unheld(connection, held, position):
    assert recordings.drop_unheld(connection, set(), position) == [held.recording_id]


def erased_unknown(connection, held, position):
    """The catalogue had lost the recording, and kept what is said of it."""
    _lose(connection, held)
    erased(connection, held, position)


def lost(connection, held, position):
    """The same, and the vault does not name it either."""
    _lose(connection, held)
    assert recordings.drop_unheld(connection, set(), position) == []


def _lose(connection, held):
    own = [table for table in TAKEN if table.c.recording_id.foreign_keys]
    for table in (*own, tables.tombstones):
        connection.execute(sa.delete(table).where(table.c.recording_id == held.recording_id))
    connection.execute(sa.delete(tables.recordings).where(tables.recordings.c.id == held.recording_id))


@pytest.mark.parametrize("way", [erased, unheld, erased_unknown, lost])
def test_nothing_said_of_a_recording_is_left(database, file, make_held, make_description, way):
    held = make_held()
    party = dataclasses.replace(make_description().parties[0], number=NUMBER, name=NEEDLE, aor="")
    file(held, make_description(parties=(party,)))
    with database.write() as connection:
        for name in TABLES:
            table = tables.metadata.tables[name]
            connection.execute(sa.delete(table).where(table.c.recording_id == held.recording_id))
            Filled(connection, held.recording_id, held.tenant_id).add(name)
    before = _said(database)
    assert {one for one, text in before.items() if held.recording_id in text} == {"recordings", *TABLES}
    with database.write() as connection:
        way(connection, held, 50)
    said = _said(database)
    # What comes back from a copy is restricted still, and why.
    stands = {"restrictions"} if way in (unheld, lost) else set()
    assert {one for one, text in said.items() if NEEDLE in text or NUMBER in text} == stands
    with_id = {one for one, text in said.items() if held.recording_id in text}
    assert with_id <= {"recordings"} | set(STAYS) | set(LEFT)
    if way is erased:
        assert "restricted" not in with_id, "there is nothing left to restrict"


def _said(database) -> dict[str, str]:
    """Of each table, all that is in it."""
    with database.read() as connection:
        return {
            table.name: json.dumps(
                [list(row) for row in connection.execute(sa.select(table))], default=_plain
            )
            for table in tables.metadata.sorted_tables
        }


def _plain(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _operation_ends(connection, needle):
    one = Operation(new_id(), TENANT, "verify", OperationState.RUNNING, {"filter": needle}, "me", 1, 1, 1)
    operations.add(connection, one)
    return lambda c: operations.end(c, one.id, OperationState.SUCCEEDED, 2)


def _request_is_answered(connection, needle):
    one = make_grant(needle)
    grants.insert(connection, one)
    return lambda c: grants.update(c, dataclasses.replace(one, scope=Scope(recordings=("a",))))


def _request_is_not_answered(connection, needle):
    one = make_grant(needle)
    grants.insert(connection, one)
    return lambda c: grants.forget(c, one.grant_id)


def _reads_are_old(connection, needle):
    reads.note(
        connection,
        Read(1, TENANT, new_id(), "", "line", "listen", "me", (), overridden=True, override_reason=needle),
    )
    return lambda c: reads.prune(c, reads.KEEP_NS + 10)


def make_restriction(reason: str, **fields) -> Restriction:
    one = Restriction(new_id(), TENANT, Ground.ACCURACY, restrictions.State.ACTIVE, reason, 1, **fields)
    return one.acted(1, "me", "restricted", reason)


def _last_restricted_is_erased(connection, needle):
    recording_id = new_id()
    restrictions.add(connection, make_restriction(needle), [recording_id])
    return lambda c: restrictions.forget(c, recording_id)


def _restriction_ended_long_ago(connection, needle):
    one = make_restriction("because", number=needle)
    restrictions.add(connection, one, [])
    restrictions.update(
        connection, dataclasses.replace(one, state=restrictions.State.LIFTED, hold="release", end_ns=2)
    )

    def ends(c):
        assert not restrictions.prune(c, restrictions.KEEP_NS + 10), "its hold is still to be released"
        restrictionduties.released(c, one.restriction_id)
        assert not restrictions.prune(c, restrictions.KEEP_NS)
        assert restrictions.prune(c, restrictions.KEEP_NS + 10) == 1

    return ends


def _copy_has_it_no_more(connection, needle):
    restrictions.add(connection, make_restriction(needle), [new_id()])
    kept = {"serial": 99, "restrictions": [], "restricted": []}
    return lambda c: restrictionduties.load(c, kept)


def make_grant(needle: str) -> Grant:
    return Grant(
        grant_id=new_id(),
        tenant_id=TENANT,
        state=Latched.REQUESTED,
        identities=(),
        requester="me",
        request_ns=1,
        purpose="x",
        necessity="y",
        scope=Scope(filter=needle),
        begin_ns=None,
        end_ns=10,
        max_reads=3,
        include_parties=False,
        public_key=b"",
        seen_ns=1,
    )


@pytest.mark.parametrize(
    "way",
    [
        _operation_ends,
        _request_is_answered,
        _request_is_not_answered,
        _reads_are_old,
        _last_restricted_is_erased,
        _restriction_ended_long_ago,
        _copy_has_it_no_more,
    ],
)
def test_what_was_for_a_while_is_in_no_file_after_it(database, on_disk, way):
    with database.write() as connection:
        ends = way(connection, "number:+449998887777")
    assert database.scrub() and b"9998887777" in on_disk()
    with database.write() as connection:
        ends(connection)
    assert database.scrub_wanted, "so that who keeps house does it"
    assert database.scrub() and b"9998887777" not in on_disk()


def test_words_of_a_restriction_go_with_the_last_recording_that_it_names(database):
    first, second = new_id(), new_id()
    one, numbered = make_restriction("She is ill"), make_restriction("She is ill", number=NUMBER)

    def got(c, made):
        found = restrictions.get(c, made.restriction_id)
        return found.reason, found.history

    with database.write() as c:
        restrictions.add(c, one, [first, second])
        restrictions.add(c, numbered, [first, second])
        restrictions.forget(c, first)
        assert got(c, one) == ("She is ill", ((1, "me", "restricted", "She is ill"),))
        serial = state.get_int(c, restrictions.SERIAL)
        restrictions.forget(c, second)
        assert got(c, one) == ("", ((1, "me", "restricted", ""),)), "that it was, who and when"
        assert state.get_int(c, restrictions.SERIAL) > serial, "the copy beside the catalogue follows"
        assert got(c, numbered)[0] == "She is ill", "calls with this number may come"
        after = restrictions.get(c, one.restriction_id).acted(2, "you", "lifted", "She is well")
        assert after.history[-1] == (2, "you", "lifted", "")


def test_words_that_an_older_release_left_go_too(database):
    one = make_restriction("She is ill")
    with database.write() as c:
        restrictions.add(c, one, [])
        serial = state.get_int(c, restrictions.SERIAL)
        assert not restrictions.prune(c, 10)
        assert restrictions.get(c, one.restriction_id).reason == ""
        assert state.get_int(c, restrictions.SERIAL) > serial
        restrictions.prune(c, 10)
        assert state.get_int(c, restrictions.SERIAL) == serial + 1, "once"


def test_why_is_not_noted_any_more_of_a_recording_that_is_gone(database, file, make_held):
    held, gone = make_held(), make_held()
    for one in (held, gone):
        file(one)
    with database.write() as c:
        erased(c, gone, 50)
        for recording_id, kind in (
            (held.recording_id, "download"),
            (gone.recording_id, "download"),
            (gone.recording_id, "listen"),
            (new_id(), "download"),
            (new_id(), "listen"),  # of a call that goes on
        ):
            read = Read(1, held.tenant_id, recording_id, "", "line", kind, "me", (), overridden=True)
            reads.note(c, dataclasses.replace(read, override_reason="because"))
        found = c.execute(sa.select(reads.table.c.override_reason).order_by(reads.table.c.no)).scalars()
        assert list(found) == ["because", "", "", "", "because"]
