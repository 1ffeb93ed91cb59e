"""Reviews on both databases: what rules draw, who gets what, what is counted, and what an erasure leaves."""

from __future__ import annotations

import dataclasses

import pytest

from appliance.catalog import recordings, reviewrules, reviews, scorecards, tenants
from appliance.catalog.records import PartyRow, State
from appliance.catalog.reviewerrors import ReviewDoubleError, ReviewTakenError
from appliance.catalog.reviewrules import Rule
from appliance.catalog.reviews import Asked, Review
from appliance.catalog.scorecards import Scorecard, Settings
from appliance.model import Role, new_id
from appliance.model.routing import Tenant
from appliance.review import figures, scoring
from appliance.review.figures import By, Period
from appliance.review.sampling import Draw, Drawing
from appliance.review.scorecard import Content, Kind, Question
from appliance.review.scoring import Answer

START = 1_764_000_000_000_000_000
SECOND = 10**9
TENANT = new_id()
CONTENT = Content(
    display_name="Desk", questions=(Question(question_id="greeted", text="Greeted?", kind=Kind.YES_NO),)
)
ANSWERS = (Answer(question_id="greeted", yes=True, text="Zebrafinch sang", places=(5,)),)


def reads(connection, recording, purpose) -> bool:
    return purpose == "quality"


@pytest.fixture
def card(database) -> Scorecard:
    made = Scorecard(new_id(), TENANT, 1, 1, CONTENT, START, None, "ann", START)
    with database.write() as connection:
        tenant = Tenant(tenant_id=TENANT, display_name="x", public_key=b"k" * 32)
        tenants.add_tenant(connection, tenant)
        scorecards.add(connection, made)
    return made


def rule(database, card, **how) -> Rule:
    drawing = Drawing(**{"draw": Draw.EVERY, "every": 3, **how})
    made = Rule(new_id(), TENANT, "x", card.scorecard_id, drawing, START, key=b"k" * 32)
    with database.write() as connection:
        reviewrules.add(connection, made)
    return made


def drained(database) -> int:
    """Have the rules look at all that waits; gives how many waited."""
    with database.write() as connection:
        found = reviewrules.pending(connection, 1000)
        for recording_id in found:
            reviewrules.look(connection, recording_id, START, reads)
    return len(found)


def waiting(database, who="ann", numbers=frozenset()) -> list[Review]:
    with database.read() as connection:
        return list(reviews.waiting(connection, TENANT, who, numbers))


def submitted(database, one: Review, card: Scorecard) -> Review:
    score = scoring.score(CONTENT, ANSWERS)
    how = {"state": reviews.State.SUBMITTED, "score": score, "answers": ANSWERS, "version": card.version}
    with database.write() as connection:
        return reviews.put(connection, one, dataclasses.replace(one, reviewer="ann", **how))


def test_each_agent_has_an_own_count_and_a_recording_counts_once(
    database, file, make_held, make_description, card
):
    made = rule(database, card)
    ids: dict[str, list[str]] = {"200": [], "201": []}
    for turn in range(6):
        for agent, some in ids.items():
            parties = (PartyRow(f"sip:{agent}@pbx.example", agent, "x", Role.AGENT),)
            start = START + turn * SECOND
            some.append(file(make_held(tenant_id=TENANT), make_description(start_ns=start, parties=parties)))
    assert drained(database) == 12 and drained(database) == 0
    drawn = {one.recording_id for one in waiting(database)}
    assert drawn == {some[place] for some in ids.values() for place in (2, 5)}
    with database.write() as connection:  # as with other tags: it was counted
        for one in ids["200"]:
            reviewrules.touched(connection, one, TENANT)
    drained(database)
    assert {one.recording_id for one in waiting(database)} == drawn
    assert {one.agent for one in waiting(database, numbers=frozenset({"201"}))} == {"200"}
    with database.write() as connection:
        reviewrules.delete(connection, made.rule_id)
        reviewrules.touched(connection, ids["200"][0], TENANT)
    assert drained(database) == 0, "no rule, and nothing waits"


def test_who_was_first_has_it(database, file, make_held, card):
    rule(database, card, draw=Draw.ALL, every=0)
    file(make_held(tenant_id=TENANT))
    drained(database)
    (one,) = waiting(database)
    taken = dataclasses.replace(one, state=reviews.State.DRAFT, reviewer="ann")
    with database.write() as connection:
        reviews.put(connection, one, taken)
    with pytest.raises(ReviewTakenError), database.write() as connection:
        reviews.put(connection, one, dataclasses.replace(taken, reviewer="bob"))
    with pytest.raises(ReviewDoubleError), database.write() as connection:
        reviews.add(connection, dataclasses.replace(one, review_id=new_id()))
    assert not waiting(database)


@pytest.mark.parametrize("keep", [True, False])
def test_what_is_deleted_waits_not_and_what_is_erased_leaves_no_word(
    database, file, make_held, card, on_disk, keep
):
    rule(database, card, draw=Draw.ALL, every=0)
    with database.write() as connection:
        scorecards.put_settings(connection, TENANT, Settings(keep_scores=keep))
    first, second = make_held(tenant_id=TENANT), make_held(tenant_id=TENANT)
    for one in (first, second):
        file(one)
    drained(database)
    begun = next(one for one in waiting(database) if one.recording_id == first.recording_id)
    submitted(database, begun, card)
    gone = dataclasses.replace(second, state=State.DELETED, since_ns=START + 20)
    with database.write() as connection:
        recordings.take(connection, gone, 10, None)
    assert not waiting(database)
    with database.write() as connection:
        recordings.take(connection, second, 11, None)
    assert len(waiting(database)) == 1
    for place, one in enumerate((first, second)):
        erased = dataclasses.replace(one, state=State.ERASED, since_ns=START + 30)
        with database.write() as connection:
            recordings.take(connection, erased, 20 + place, None)
    database.scrub()
    assert b"Zebrafinch" not in on_disk()
    with database.read() as connection:
        left = reviews.listed(connection, Asked(TENANT), 10, None)
        some = reviews.counted(connection, TENANT, card.scorecard_id, 0, 2**63 - 1)
        rows = figures.figures(some, By.QUESTION, Period.MONTH, "Europe/London")
    assert [one.recording_id for one in left] == ([""] if keep else [])
    assert [(row.key, row.period, row.mean) for row in rows] == (
        [("greeted", "2025-11", 10_000)] if keep else []
    )
