from __future__ import annotations

import dataclasses

import additions_kit
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.catalog import recordings
from appliance.catalog.errors import OrderError, RecordingNotFoundError
from appliance.catalog.records import (
    MAX_MARKS,
    TRUNCATED,
    Certificate,
    Description,
    MarkRow,
    State,
)
from appliance.model import Mark, MarkKind, Party, PayloadFormat, RecordingInfo, Role, TrackInfo, new_id

CERTIFICATE = Certificate(3, 77, "asked", b"s" * 64, b"k" * 32)


def get(database, recording_id, tenant=None):
    with database.read() as connection:
        return recordings.get(connection, recording_id, tenant)


def take(database, held, position, content=None):
    with database.write() as connection:
        return recordings.take(connection, held, position, content)


def test_what_goes_in_comes_out(database, make_held, make_description):
    held = make_held()
    mark = MarkRow(MarkKind.GAP, 5, 9, "me", "because", 1, {"until_ns": 9, "cause": "x"})
    content = make_description(marks=(mark,), flags=("a", "b"), identifiers=("u2", "u1"), sha256="ab")
    assert take(database, held, 1, content) == (None, True)
    row = get(database, held.recording_id)
    for name in ("tenant_id", "line_id", "slice", "state", "size", "whole"):
        assert getattr(row, name) == getattr(held, name)
    for name in (
        "start_ns",
        "end_ns",
        "duration_ns",
        "call_id",
        "parties",
        "marks",
        "flags",
        "identifiers",
        "sha256",
    ):
        assert getattr(row, name) == getattr(content, name)


def test_another_tenant_does_not_find_it(database, file):
    recording_id = file()
    with pytest.raises(RecordingNotFoundError):
        get(database, recording_id, new_id())


def test_an_older_position_changes_nothing(database, make_held, make_description):
    held = make_held()
    take(database, held, 5, make_description())
    before = get(database, held.recording_id)
    deleted = dataclasses.replace(held, state=State.DELETED)
    assert take(database, deleted, 4) == (State.FILED, False)
    assert get(database, held.recording_id) == before
    assert take(database, deleted, 6) == (State.FILED, True)
    after = get(database, held.recording_id)
    assert after.state is State.DELETED and after.parties == before.parties and after.etag != before.etag


def test_the_same_again_changes_nothing(database, make_held, make_description):
    held, content = make_held(), make_description()
    take(database, held, 5, content)
    before = get(database, held.recording_id)
    assert take(database, held, 5, content) == (State.FILED, False)
    assert take(database, held, 9) == (State.FILED, False)
    assert get(database, held.recording_id) == before


def test_erasing_takes_the_personal_data_and_leaves_a_tombstone(
    database, on_disk, make_held, make_description
):
    held = make_held()
    secret = ("+449998887777", "Quentin Zebedee", "zebedee-call-id", "zebedee-ucid", "zebedee note")
    party = dataclasses.replace(
        make_description().parties[0], aor=f"sip:{secret[0]}@x", number=secret[0], name=secret[1]
    )
    content = make_description(
        parties=(party,),
        sip_call_id=secret[2],
        identifiers=(secret[3],),
        marks=(MarkRow(MarkKind.NOTE, 1, None, "", secret[4], -1, {}),),
    )
    take(database, held, 1, content)
    with database.write() as connection:
        note = additions_kit.add_note(
            connection, held.recording_id, "Zebedee spoke of the hippogriff", 5, "me", 1
        )
        additions_kit.add_note(connection, held.recording_id, "a basilisk", None, "me", 1)
        additions_kit.change_tags(connection, held.recording_id, ["Jabberwock"], (), "me", 1)
        changed = dataclasses.replace(note, text="Zebedee spoke of the jubjub")
        additions_kit.update_note(connection, changed)
    needles = [
        secret[0],
        secret[0][5:],
        "Zebedee",
        "zebedee",
        "jubjub",
        "basilisk",
        "Jabberwock",
        "jabberwock",
    ]
    traces = [needle.encode(coding) for needle in needles for coding in ("utf-8", "utf-16-le")]

    database.analyze()  # what is learned of how tables are filled may hold samples of it
    assert all(needle.encode() in on_disk() for needle in needles)
    erased = dataclasses.replace(
        held, state=State.ERASED, since_ns=99, reason="asked", certificate=CERTIFICATE, size=0
    )
    assert take(database, erased, 2) == (State.FILED, True)
    assert database.scrub()
    left = on_disk()
    assert not [trace for trace in (*traces, b"hippogriff") if trace in left]
    assert held.recording_id.encode() in left, "it was looked where the rows are"
    row = get(database, held.recording_id)
    assert row.certificate == CERTIFICATE and row.state is State.ERASED and row.state_reason == "asked"
    assert (row.parties, row.marks, row.identifiers, row.sip_call_id, row.call_id) == ((), (), (), "", "")
    assert row.start_ns == held.created_ns and row.duration_ns == 0 and row.end_ns is None


def test_erased_stays_erased(database, make_held, make_description):
    held = make_held(state=State.ERASED, certificate=CERTIFICATE)
    take(database, held, 5)
    assert take(database, dataclasses.replace(held, state=State.FILED), 6, make_description()) == (
        State.ERASED,
        False,
    )
    assert get(database, held.recording_id).parties == ()


def test_what_the_vault_does_not_hold_goes_but_tombstones_stay(database, file, make_held):
    kept, gone, later = file(), file(), file(position=50)
    stone = file(make_held(state=State.ERASED, certificate=CERTIFICATE))
    with database.write() as connection:
        assert recordings.drop_unheld(connection, {kept}, 40) == [gone]
    assert {get(database, one).recording_id for one in (kept, later, stone)} == {kept, later, stone}
    with pytest.raises(RecordingNotFoundError):
        get(database, gone)


def test_content_from_the_network_is_bounded():
    info = RecordingInfo(
        recording_id=new_id(),
        call_id="c" * 500,
        tenant_id=new_id(),
        line_id=new_id(),
        part=10**30,
        started_ns=1,
        parties=tuple(Party(aor="sip:" + "1" * 999, name="n\0" * 999, role=Role.CALLER) for _ in range(100)),
        tracks=(TrackInfo(track=10**20), *(TrackInfo(track=n, party=n) for n in range(300))),
        session_ids=tuple(map(str, range(99))),
        flags=("x" * 99,),
    )
    marks = [
        Mark(kind=MarkKind.NOTE, at_ns=n, reason="r" * 999, data={"k": "v" * 999})
        for n in range(MAX_MARKS + 5)
    ]
    marks.append(Mark(kind=MarkKind.NOTE, at_ns=2**70))
    content = Description.of(info, marks, None, "")
    assert len(content.parties) == 64 and len(content.marks) == MAX_MARKS and len(content.identifiers) == 32
    assert TRUNCATED in content.flags and "\0" not in content.parties[0].name
    assert all(len(p.name) <= 300 and len(p.aor) <= 300 for p in content.parties)
    assert all(track.party < 64 and track.track < 2**31 for track in content.tracks)


def test_bounded_content_fits_the_tables(database, make_held):
    info = RecordingInfo(
        recording_id=new_id(),
        call_id="c",
        tenant_id="t",
        line_id="l",
        started_ns=1,
        part=10**30,
        parties=(Party(aor="sip:" + "9" * 50 + "@x", name="name " * 99),),
        tracks=(
            TrackInfo(
                track=0, party=0, formats=(PayloadFormat(number=0, encoding="PCMU", clock_rate=8000),) * 99
            ),
        )
        * 2,
        session_ids=("a", "a"),
        flags=("b", "b"),
    )
    held = make_held()
    take(database, held, 1, Description.of(info, [], 5, ""))
    assert get(database, held.recording_id).tracks[0].encodings == ("PCMU",)


@pytest.mark.parametrize(
    "text", ["name", "start_time up", "start_time desc, size_bytes", "start_time;", "desc"]
)
def test_orders_that_are_none(text):
    with pytest.raises(OrderError) as caught:
        recordings.parse_order(text)
    assert caught.value.data["field"] == "order_by"


@given(
    starts=st.lists(st.integers(0, 5), min_size=1, max_size=25),
    later=st.lists(st.integers(0, 5), max_size=25),
    gone=st.sets(st.integers(0, 24)),
    limit=st.integers(1, 7),
    field=st.sampled_from(["start_time", "duration", "size_bytes"]),
    descending=st.booleans(),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_are_stable_under_inserts_and_deletes(
    database, starts, later, gone, limit, field, descending, make_held, make_description
):
    order = recordings.Order(field, descending)
    tenant = new_id()  # each example has a tenant of its own, so that the database need not be new
    helds = []

    def file(number: int) -> str:
        held = make_held(size=number, tenant_id=tenant)
        take(database, held, 1, make_description(start_ns=number, end_ns=2 * number))
        helds.append(held)
        return held.recording_id

    first = {file(number) for number in starts}
    pending = iter(later)
    leaving = [held for at, held in enumerate(helds) if at in gone]
    with database.read() as connection:
        bound = recordings.newest(connection)
    seen, left, after = [], set(), None
    while True:
        with database.read() as connection:
            rows = recordings.search(
                connection, tenant_id=tenant, where=None, order=order, limit=limit, bound=bound, after=after
            )
        if not rows:
            break
        assert not left & {row.recording_id for row in rows}
        seen += rows
        after = recordings.position_of(rows[-1], order)
        for number in (next(pending, None), next(pending, None)):
            if number is not None:
                file(number)
        if leaving:
            held = leaving.pop()
            take(database, dataclasses.replace(held, state=State.DELETED), 2)
            left.add(held.recording_id)
    # Each once, none missed but those that went, none that came later, and in order.
    ids = [row.recording_id for row in seen]
    assert len(ids) == len(set(ids)) and first - left <= set(ids) <= first
    keys = [recordings.position_of(row, order) for row in seen]
    assert keys == sorted(keys, reverse=descending)
