"""Support grants in the catalogue, on both databases."""

from __future__ import annotations

import dataclasses

import pytest

from appliance.catalog import grants, recordings
from appliance.catalog.errors import GrantNotFoundError
from appliance.catalog.grants import Grant, Latched, Scope, Use
from appliance.catalog.recordings import Order
from appliance.model import new_id

NOW = 1_790_000_000 * 10**9
TENANT = new_id()


def grant(**fields) -> Grant:
    base = Grant(
        grant_id=new_id(),
        tenant_id=TENANT,
        state=Latched.REQUESTED,
        identities=("support.ada", "support.bob"),
        requester="support.ada",
        request_ns=NOW,
        purpose="system-operation",
        necessity="The cause cannot be found otherwise.",
        scope=Scope(line_id="l", from_ns=5, to_ns=6, filter="whole=true"),
        begin_ns=None,
        end_ns=NOW + 10,
        max_reads=3,
        include_parties=True,
        public_key=b"k" * 1216,
        seen_ns=NOW,
    )
    return dataclasses.replace(base, **fields)


def test_a_grant_comes_back_as_it_went(database):
    some = [
        grant(),
        grant(scope=Scope(recordings=("a", "b"))),
        grant(scope=Scope(), begin_ns=NOW, public_key=b""),
    ]
    with database.write() as connection:
        for one in some:
            grants.insert(connection, one)
    with database.read() as connection:
        assert [grants.get(connection, one.grant_id, TENANT) for one in some] == some
        for grant_id, tenant_id in ((new_id(), None), (some[0].grant_id, new_id())):
            with pytest.raises(GrantNotFoundError):
                grants.get(connection, grant_id, tenant_id)
        assert grants.find(connection, new_id()) is None
    ended = dataclasses.replace(some[0], state=Latched.REVOKED, ender="officer", ended_ns=NOW + 5, reads=2)
    with database.write() as connection:
        grants.update(connection, ended)
        grants.forget(connection, some[1].grant_id)
    with database.read() as connection:
        assert grants.get(connection, ended.grant_id) == ended
        assert grants.find(connection, some[1].grant_id) is None
        assert grants.requests_of(connection, TENANT) == 1 and grants.requests_of(connection, new_id()) == 0


def test_an_etag_changes_with_all_but_uses():
    one = grant()
    assert dataclasses.replace(one, reads=2, last_use_ns=5, seen_ns=NOW + 9).etag == one.etag
    for other in (
        {"state": Latched.APPROVED},
        {"end_ns": 5},
        {"max_reads": 4},
        {"purpose": "x"},
        {"scope": Scope()},
    ):
        assert dataclasses.replace(one, **other).etag != one.etag


def test_pages_are_newest_first(database):
    some = [grant(request_ns=NOW + number // 2) for number in range(7)]
    with database.write() as connection:
        for one in some:
            grants.insert(connection, one)
        grants.insert(connection, grant(tenant_id=new_id()))
    expected = sorted(some, key=lambda one: (one.request_ns, one.grant_id), reverse=True)
    found, after = [], None
    with database.read() as connection:
        while page := grants.page(connection, tenant_id=TENANT, after=after, limit=2):
            found += page
            after = (page[-1].request_ns, page[-1].grant_id)
        assert len(grants.page(connection, tenant_id=None, after=None, limit=100)) == 8
    assert found == expected


def test_what_covers_what(database, file, make_held):
    names = [file(make_held(tenant_id=TENANT)) for _ in range(3)]
    first = grant(state=Latched.APPROVED, end_ns=NOW + 30)
    second = grant(state=Latched.USED_UP, end_ns=NOW + 20)
    over = grant(state=Latched.REVOKED)
    with database.write() as connection:
        for one, some in ((first, names[:2]), (second, names[1:2]), (over, names)):
            grants.insert(connection, one)
            grants.cover(connection, one.grant_id, some)
    with database.read() as connection:
        assert grants.covering(connection, names[1]) == [second, first], "the soonest end first"
        assert grants.covering(connection, names[2]) == []
        assert grants.recordings_of(connection, first.grant_id) == sorted(names[:2])
        assert grants.counts(connection, [first.grant_id, over.grant_id]) == {
            first.grant_id: 2,
            over.grant_id: 3,
        }
        assert grants.covers(connection, [first.grant_id, second.grant_id]) == {
            names[0]: {first.grant_id},
            names[1]: {first.grant_id, second.grant_id},
        }
        assert grants.counts(connection, []) == {} and grants.covers(connection, []) == {}
        for some, expected in (([first.grant_id], names[:2]), ([], [])):
            found = recordings.search(
                connection,
                tenant_id=None,
                where=None,
                order=Order(),
                limit=10,
                bound=recordings.newest(connection),
                among=grants.among(some),
            )
            assert sorted(one.recording_id for one in found) == sorted(expected)


def test_what_time_still_ends(database):
    some = {
        "asked": grant(),
        "in force": grant(state=Latched.APPROVED),
        "used up": grant(state=Latched.USED_UP, keys_sealed=True),
        "used up and over": grant(state=Latched.USED_UP, seen_ns=NOW + 10, keys_sealed=True),
        "expired": grant(state=Latched.EXPIRED, keys_sealed=True),
        "denied": grant(state=Latched.DENIED),
    }
    with database.write() as connection:
        for one in some.values():
            grants.insert(connection, one)
    with database.read() as connection:
        ids = {one.grant_id for one in grants.open_ones(connection)}
        assert ids == {some[name].grant_id for name in ("asked", "in force", "used up")}
        keyed = {one.grant_id for one in grants.keyed(connection)}
        assert keyed == {some[name].grant_id for name in ("used up and over", "expired")}
    with database.write() as connection:
        grants.mark_sealed(connection, some["expired"].grant_id, False)
        grants.mark_sealed(connection, some["asked"].grant_id, True)
    with database.read() as connection:
        assert [one.grant_id for one in grants.keyed(connection)] == [some["used up and over"].grant_id]
        assert grants.get(connection, some["asked"].grant_id).keys_sealed


def test_uses(database):
    one, other = grant(state=Latched.APPROVED), grant(state=Latched.APPROVED)
    some = [
        Use(new_id(), one.grant_id, "support.ada", "r", "download", "wav", NOW + number)
        for number in range(5)
    ]
    with database.write() as connection:
        for row in (one, other):
            grants.insert(connection, row)
        for use in some:
            grants.note_use(connection, use)
        grants.note_use(connection, Use(new_id(), one.grant_id, "support.bob", "r", "verify", "", NOW + 9))
        grants.note_use(connection, Use(new_id(), other.grant_id, "support.ada", "r", "verify", "", NOW + 9))
        grants.serve(connection, some[4].use_id, "wav-1")
    some[4] = dataclasses.replace(some[4], etag="wav-1")
    with database.read() as connection:
        since = grants.uses_since(connection, one.grant_id, "support.ada", NOW + 3)
        assert since == [some[4], some[3]]
        first = grants.use_page(connection, one.grant_id, after=None, limit=3)
        assert first[0].identity == "support.bob" and first[1:] == [some[4], some[3]]
        rest = grants.use_page(connection, one.grant_id, after=(first[-1].at_ns, first[-1].use_id), limit=9)
        assert rest == [some[2], some[1], some[0]]
