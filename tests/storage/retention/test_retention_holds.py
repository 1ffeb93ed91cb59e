"""Legal holds: what they reach, what they never reach, and their bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retention_kit import DAY, LINE, NOW, TENANT, new_id

from appliance.storage.retention import holds
from appliance.storage.retention.errors import (
    HoldExistsError,
    HoldInvalidError,
    HoldLimitError,
    HoldNotFoundError,
    HoldReleasedError,
    HoldTenantError,
    RecordingHeldError,
)
from appliance.storage.retention.holds import (
    FOREVER_NS,
    HOLD_EVENT,
    HoldAdded,
    HoldBook,
    HoldCreated,
    HoldReleased,
    HoldScope,
)

STRANGER = new_id()


def created(case: str, tenant: str = TENANT, *scopes: HoldScope, **more: str) -> HoldCreated:
    words = {"title": "Inquiry", "reason": "asked by counsel", "owner": "ann"} | more
    return HoldCreated(case, tenant, at_ns=NOW, scopes=scopes, **words)


def added(case: str, *ids: str, tenant: str = TENANT, scopes: tuple[HoldScope, ...] = ()) -> HoldAdded:
    return HoldAdded(case, tenant, NOW, "ann", ids, scopes)


def released(case: str) -> HoldReleased:
    return HoldReleased(case, NOW + DAY, "bob", "the inquiry is over")


def test_a_named_recording_is_held():
    case, recording = new_id(), new_id()
    book = HoldBook([created(case), added(case, recording)])
    assert book.cases_of(recording, TENANT, LINE, NOW) == (case,)
    assert book.cases_of(new_id(), TENANT, LINE, NOW) == ()
    assert book.get(case).recordings == 1
    assert list(book.recordings_of(case)) == [recording]
    with pytest.raises(RecordingHeldError) as caught:
        book.check_free(recording, TENANT, LINE, NOW)
    assert caught.value.data == {"recording_id": recording, "cases": [case], "case_count": 1}
    book.check_free(new_id(), TENANT, LINE, NOW)


def test_a_scope_holds_what_is_filed_later():
    case = new_id()
    book = HoldBook([created(case, TENANT, HoldScope(TENANT, LINE, NOW, NOW + DAY))])
    assert book.cases_of(new_id(), TENANT, LINE, NOW) == (case,)
    assert book.cases_of(new_id(), TENANT, LINE, NOW + DAY - 1) == (case,)
    assert book.cases_of(new_id(), TENANT, LINE, NOW + DAY) == ()
    assert book.cases_of(new_id(), TENANT, LINE, NOW - 1) == ()
    assert book.cases_of(new_id(), TENANT, new_id(), NOW) == ()
    assert book.reaches(TENANT, LINE) and not book.reaches(TENANT, new_id())
    # Made at one time by a wrong wall clock, and kept from another: either is enough.
    assert book.cases_of(new_id(), TENANT, LINE, 0, NOW) == (case,)


def test_a_scope_of_all_lines_for_ever():
    case = new_id()
    book = HoldBook([created(case), added(case, scopes=(HoldScope(TENANT),))])
    assert book.cases_of(new_id(), TENANT, new_id(), 0) == (case,)
    assert book.cases_of(new_id(), TENANT, LINE, FOREVER_NS - 1) == (case,)
    assert book.get(case).scopes == (HoldScope(TENANT),)
    assert book.reaches(TENANT, new_id())


def test_several_cases_in_order():
    cases = sorted(new_id() for _ in range(3))
    recording = new_id()
    book = HoldBook()
    for case in reversed(cases):
        book.apply(created(case))
        book.apply(added(case, recording))
    assert book.cases_of(recording, TENANT, LINE, NOW) == tuple(cases)
    book.apply(released(cases[1]))
    assert book.cases_of(recording, TENANT, LINE, NOW) == (cases[0], cases[2])


def test_a_hold_never_reaches_another_tenant():
    case, recording = new_id(), new_id()
    book = HoldBook([created(case, TENANT, HoldScope(TENANT)), added(case, recording)])
    assert book.cases_of(recording, STRANGER, LINE, NOW) == ()
    for event in (
        added(case, new_id(), tenant=STRANGER),
        added(case, scopes=(HoldScope(STRANGER),)),
        created(new_id(), TENANT, HoldScope(STRANGER)),
    ):
        with pytest.raises(HoldTenantError):
            book.apply(event)
    assert book.get(case).recordings == 1 and len(book.all()) == 1


def test_a_recording_whose_tenant_nobody_knows_is_held_where_it_is_named():
    case, recording = new_id(), new_id()
    book = HoldBook([created(case, TENANT, HoldScope(TENANT)), added(case, recording)])
    assert book.cases_of(recording, "", "", NOW) == (case,)
    assert book.cases_of(new_id(), "", "", NOW) == ()


def test_released_whole():
    case, recording = new_id(), new_id()
    book = HoldBook([created(case, TENANT, HoldScope(TENANT)), added(case, recording)])
    done = book.apply(released(case))
    assert not done.open and done.recordings == 1
    assert (done.released_ns, done.released_by, done.release_reason) == (
        NOW + DAY,
        "bob",
        "the inquiry is over",
    )
    assert book.cases_of(recording, TENANT, LINE, NOW) == ()
    assert list(book.recordings_of(case)) == []
    for event in (added(case, new_id()), released(case)):
        with pytest.raises(HoldReleasedError):
            book.apply(event)
    with pytest.raises(HoldExistsError):
        book.apply(created(case))


def test_unknown_cases():
    book = HoldBook()
    for event in (added(new_id(), new_id()), released(new_id())):
        with pytest.raises(HoldNotFoundError) as caught:
            book.apply(event)
        assert caught.value.data == {"case_id": event.case_id}


def test_adding_twice_is_once():
    case, recording = new_id(), new_id()
    event = added(case, recording, recording, scopes=(HoldScope(TENANT), HoldScope(TENANT)))
    book = HoldBook([created(case), event, event])
    assert book.get(case).recordings == 1 and len(book.get(case).scopes) == 1


def test_check_changes_nothing():
    case = new_id()
    book = HoldBook()
    book.check(created(case))
    assert book.all() == ()
    book.apply(created(case))
    book.check(added(case, new_id()))
    book.check(released(case))
    assert book.get(case).recordings == 0 and book.get(case).open


@pytest.mark.parametrize(
    "event",
    [
        created("nothing"),
        created(new_id(), "nobody"),
        created(new_id(), title=""),
        created(new_id(), title="x" * 201),
        created(new_id(), reason=" "),
        created(new_id(), reason="x" * 1001),
        created(new_id(), owner=""),
    ],
)
def test_bounds_of_a_case(event):
    with pytest.raises(HoldInvalidError) as caught:
        HoldBook().apply(event)
    assert caught.value.data["field"]


def test_bounds_of_what_is_added():
    case = new_id()
    book = HoldBook([created(case, title="x" * 200, reason="x" * 1000)])
    for event in (
        added(case, "nothing"),
        added(case, *[new_id()] * 10_001),
        HoldReleased(case, NOW, "ann", ""),
        HoldReleased(case, 0, "ann", "over"),
        HoldAdded(case, TENANT, NOW, ""),
    ):
        with pytest.raises(HoldInvalidError):
            book.apply(event)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HoldScope("nobody"),
        lambda: HoldScope(TENANT, "nothing"),
        lambda: HoldScope(TENANT, LINE, 5, 5),
        lambda: HoldScope(TENANT, LINE, -1, 5),
        lambda: HoldScope(TENANT, LINE, 0, FOREVER_NS + 1),
    ],
)
def test_bounds_of_a_scope(make):
    with pytest.raises(HoldInvalidError):
        make()


def test_so_many_and_no_more(monkeypatch):
    monkeypatch.setattr(holds, "MAX_OPEN", 2)
    monkeypatch.setattr(holds, "MAX_RECORDINGS", 3)
    monkeypatch.setattr(holds, "MAX_SCOPES", 2)
    one, two, three = (new_id() for _ in range(3))
    book = HoldBook([created(one), created(two)])
    with pytest.raises(HoldLimitError) as caught:
        book.apply(created(three))
    assert caught.value.data == {"limit": 2}
    known = new_id()
    book.apply(added(one, known, new_id()))
    book.apply(added(two, known))
    with pytest.raises(HoldLimitError):
        book.apply(added(two, new_id()))
    book.apply(added(two, known))  # nothing new
    book.apply(added(one, scopes=(HoldScope(TENANT), HoldScope(TENANT, LINE))))
    with pytest.raises(HoldLimitError):
        book.apply(added(two, scopes=(HoldScope(TENANT),)))
    book.apply(released(one))
    book.apply(created(three))
    book.apply(added(three, new_id(), new_id(), scopes=(HoldScope(TENANT),)))


@pytest.mark.parametrize(
    "event",
    [created(new_id(), TENANT, HoldScope(TENANT, LINE, 1, 2)), added(new_id(), new_id()), released(new_id())],
)
def test_events_as_json(event):
    assert HOLD_EVENT.validate_json(HOLD_EVENT.dump_json(event)) == event


CASES = [new_id() for _ in range(3)]
RECORDINGS = [new_id() for _ in range(4)]
TENANTS = {case: (TENANT if place < 2 else STRANGER) for place, case in enumerate(CASES)}
operations = st.one_of(
    st.builds(lambda case: created(case, TENANTS[case]), st.sampled_from(CASES)),
    st.builds(
        lambda case, ids, scoped: added(
            case, *ids, tenant=TENANTS[case], scopes=(HoldScope(TENANTS[case], LINE),) if scoped else ()
        ),
        st.sampled_from(CASES),
        st.lists(st.sampled_from(RECORDINGS)),
        st.booleans(),
    ),
    st.builds(released, st.sampled_from(CASES)),
)


@settings(deadline=None)
@given(st.lists(operations, max_size=15))
def test_a_book_is_what_a_simple_one_says(events):
    book = HoldBook()
    named: dict[str, set[str]] = {}
    scoped: set[str] = set()
    for event in events:
        try:
            book.apply(event)
        except (HoldExistsError, HoldNotFoundError, HoldReleasedError):
            continue
        match event:
            case HoldCreated():
                named[event.case_id] = set()
            case HoldAdded():
                named[event.case_id].update(event.recording_ids)
                scoped |= {event.case_id} if event.scopes else set()
            case HoldReleased():
                del named[event.case_id]
    assert {hold.case_id for hold in book.all() if hold.open} == set(named)
    for recording in RECORDINGS:
        for tenant in (TENANT, STRANGER):
            wanted = {
                case
                for case, ids in named.items()
                if TENANTS[case] == tenant and (recording in ids or case in scoped)
            }
            assert set(book.cases_of(recording, tenant, LINE, NOW)) == wanted
