"""A rule over the past, as long work: broken off anywhere and begun again, it draws what it would have drawn."""

from __future__ import annotations

import asyncio
import dataclasses

import catalogue_kit
import pytest

from appliance.api import reviewsampling
from appliance.api.reviewsampling import RuleWork
from appliance.catalog import recordings, reviewrules, reviews, scorecards, tenants
from appliance.catalog.database import Database
from appliance.catalog.operations import Operation, State
from appliance.catalog.records import Description, Held, PartyRow
from appliance.catalog.records import State as Filing
from appliance.catalog.reviews import Asked
from appliance.catalog.scorecards import Scorecard
from appliance.model import Role, new_id
from appliance.model.routing import Tenant
from appliance.review.sampling import Draw, Drawing
from appliance.review.scorecard import Content, Kind, Question

START = 1_764_000_000 * 10**9
TENANT = new_id()


class Direct:
    """The catalogue without threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, work):
        with self._database.write() as connection:
            return work(connection)


class KilledError(Exception):
    """The process is gone."""


@pytest.fixture
def ground(tmp_path, monkeypatch):
    """Eleven calls of one agent, and a rule that draws every third."""
    monkeypatch.setattr(reviewsampling, "PAGE", 4)
    database = catalogue_kit.new(tmp_path / "catalogue.db")
    content = Content(display_name="x", questions=(Question(question_id="a", text="A?", kind=Kind.YES_NO),))
    card = Scorecard(new_id(), TENANT, 1, 1, content, START, None, "ann", START)
    drawing = Drawing(Draw.EVERY, every=3)
    rule = reviewrules.Rule(new_id(), TENANT, "x", card.scorecard_id, drawing, START, key=b"k" * 32)
    ids = [new_id() for _ in range(11)]
    with database.write() as connection:
        tenants.add_tenant(connection, Tenant(tenant_id=TENANT, display_name="x", public_key=b"k" * 32))
        for place, one in enumerate(ids):
            at_ns = START + place * 10**9
            held = Held(one, TENANT, new_id(), "2025-11-24", Filing.FILED, 1, True, "", at_ns, at_ns)
            party = PartyRow("sip:200@pbx.example", "200", "", Role.AGENT)
            recordings.take(connection, held, place + 1, Description(at_ns, at_ns + 10**9, parties=(party,)))
        scorecards.add(connection, card)
        reviewrules.add(connection, rule)
    yield database, rule, ids
    database.close()


@pytest.mark.parametrize("killed_at", [0, 1, 2])
def test_killed_before_it_was_kept_and_begun_again(ground, monkeypatch, killed_at):
    database, rule, ids = ground
    monkeypatch.setattr(reviewsampling, "may_read", lambda connection, recording, purpose: True)
    work = RuleWork(Direct(database), lambda: START)
    asked = {"rule": rule.rule_id, "from_ns": None, "to_ns": None, "bound": 11}
    operation = Operation(
        new_id(), TENANT, "apply-review-rule", State.RUNNING, asked, "ann", START, START, total=11
    )
    kept: list[tuple[str, int]] = []

    async def keep(cursor, done, result):
        if len(kept) == killed_at:
            raise KilledError
        kept.append((cursor, done))
        return False

    with pytest.raises(KilledError):
        asyncio.run(work.run(operation, keep))
    cursor, done = kept[-1] if kept else ("", 0)
    killed_at = -1
    again = dataclasses.replace(operation, cursor=cursor, done=done)
    assert asyncio.run(work.run(again, keep))
    assert kept[-1][1] == 11
    with database.read() as connection:
        found = reviews.listed(connection, Asked(TENANT), 50, None)
    assert {one.recording_id for one in found} == {ids[2], ids[5], ids[8]}
