"""A day of calls with faults sown into it: all are found, none is invented; and what is no fault is not called one."""

from __future__ import annotations

import dataclasses

import completeness_kit as kit
import pytest
from completeness_kit import DAY, S

from appliance.completeness import matching
from appliance.completeness.compare import compare
from appliance.completeness.facts import FAULTS, Outcome
from appliance.completeness.reading import CallRecord
from appliance.model import Direction, new_id

LATER = DAY + 2 * 86400 * S
NOON = DAY + 12 * 3600 * S


def faults(found) -> dict[str, Outcome]:
    return {one.record or one.recording: one.outcome for one in found.findings if one.is_fault}


def row(start_ns=NOON, talk_s=120, from_="07700900123", to="01632960100", **fields) -> CallRecord:
    return CallRecord(
        **{
            "row": 1,
            "identity": "x",
            "start_ns": start_ns,
            "answer_ns": start_ns + 5 * S,
            "talk_ns": talk_s * S,
            "answered": talk_s > 0,
            "direction": Direction.INBOUND,
            "from_number": from_,
            "to_number": to,
            **fields,
        }
    )


def outcome(records, heard, now_ns=LATER) -> list[Outcome]:
    return [one.outcome for one in compare(records, heard, now_ns).findings]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shift_s", [0, 3600, -1800, 310])
def test_all_faults_are_found_and_none_invented(seed, shift_s):
    """Also with all times off: told as that, and the faults are found all the same."""
    day = kit.day(seed, shift_s=shift_s)
    assert len(day.sown) == 40 and set(day.counts) == set(FAULTS)
    found = compare(day.records, day.heard, LATER)
    assert faults(found) == day.sown
    assert (0 if found.shift is None else -found.shift.ns // S) == shift_s
    if found.shift is not None:
        assert found.shift.zone is (shift_s % 900 == 0) and found.shift.explains > 3000


def test_a_day_without_faults_has_none():
    day = kit.day(7, calls=2000, faults=0)
    assert not faults(compare(day.records, day.heard, LATER))


def test_a_call_that_ended_a_moment_ago_is_awaited():
    call = kit.known(row())
    assert outcome([call], [], call.end_ns + 60 * S) == [Outcome.WAITING]
    assert outcome([call], [], call.end_ns + 3600 * S) == [Outcome.MISSING]


def test_what_cannot_be_looked_at_is_not_missing():
    call = kit.known(row())
    for state in (Outcome.ERASED, Outcome.UNDESCRIBED, Outcome.QUARANTINED):
        blind = kit.heard(row(), call, state=state, numbers=frozenset(), outside=frozenset(), duration_ns=0)
        assert outcome([call], [blind]) == [state]
        elsewhere = dataclasses.replace(blind, start_ns=blind.start_ns + 3600 * S)
        assert outcome([call], [elsewhere])[0] is Outcome.MISSING
    assert outcome([call], [kit.heard(row(), call, state=Outcome.DELETED)]) == [Outcome.DELETED]


def test_what_was_not_contracted_is_not_expected():
    not_recorded = kit.known(row(from_="07700 900999".replace(" ", ""), to="01632960200"))
    outbound = kit.known(row(from_="301", to="07700900123", direction=Direction.OUTBOUND))
    nobody = kit.known(row(from_="07700900123", to="0800111111"))
    unanswered = kit.known(row(talk_s=0))
    assert outcome([not_recorded, outbound, nobody, unanswered], []) == [
        Outcome.DO_NOT_RECORD,
        Outcome.NOT_CONTRACTED,
        Outcome.NO_LINE,
        Outcome.UNANSWERED,
    ]
    noted = kit.heard(row(), not_recorded, withheld="do-not-record", duration_ns=0)
    assert outcome([not_recorded], [noted]) == [Outcome.DO_NOT_RECORD]
    assert outcome([not_recorded], [kit.heard(row(), not_recorded)]) == [Outcome.UNWANTED]
    # The box took it for another direction than the switchboard: no sound is there, and it was contracted.
    call = kit.known(row())
    noted = kit.heard(row(), call, withheld="direction-not-contracted", duration_ns=0)
    assert outcome([call], [noted]) == [Outcome.MISSING]


def test_pauses_and_an_agents_right_to_end_make_nothing_short():
    call = kit.known(row(talk_s=600))
    half = kit.heard(row(), call, duration_ns=300 * S)
    assert outcome([call], [half]) == [Outcome.SHORT]
    assert outcome([call], [dataclasses.replace(half, stopped=True)]) == [Outcome.MATCHED]


def test_parts_of_one_call_count_together():
    call = kit.known(row(talk_s=600))
    first = kit.heard(row(), call, duration_ns=300 * S)
    second = dataclasses.replace(first, id=new_id(), start_ns=first.start_ns + 301 * S, duration_ns=299 * S)
    assert outcome([call], [first, second]) == [Outcome.MATCHED]
    apart = dataclasses.replace(second, start_ns=second.start_ns + 60 * S, duration_ns=239 * S)
    assert outcome([call], [first, apart]) == [Outcome.SHORT]


def test_a_transferred_call_has_several_records_and_one_recording():
    first = row(talk_s=100)
    second = row(start_ns=NOON + 110 * S, talk_s=200, extension="205")
    whole = kit.heard(row(talk_s=305), kit.known(first))
    assert outcome([kit.known(first), kit.known(second)], [whole]) == [Outcome.MATCHED] * 2
    # Two calls of one company at the same time are two calls: one recording is not both.
    beside = row(start_ns=NOON + S, talk_s=100, extension="205")
    found = outcome([kit.known(first), kit.known(beside)], [kit.heard(row(talk_s=100), kit.known(first))])
    assert sorted(found) == [Outcome.MATCHED, Outcome.MISSING]


def test_ids_count_before_numbers():
    call = kit.known(row(call_id="9-1", from_=""))
    other = kit.heard(row(), call, ids=frozenset({"9-1"}), numbers=frozenset({"447700900555"}))
    assert outcome([call], [other]) == [Outcome.MATCHED]


def test_what_was_matched_before_stays_so_without_numbers():
    recording = kit.heard(row(), kit.known(row()))
    forgotten = dataclasses.replace(
        kit.known(row()), numbers=frozenset(), outside=frozenset(), pinned=recording.id
    )
    assert outcome([forgotten], [recording]) == [Outcome.MATCHED]


def test_recordings_where_no_records_are_say_nothing():
    day = kit.day(3, calls=300, faults=0)
    of_one = [one for one in day.records if one.line_id == kit.LINES[0].line_id]
    found = compare(of_one, day.heard, LATER)
    assert not faults(found) and found.uncovered > 50


def test_thousands_at_one_instant_take_no_longer_than_others():
    """A hostile file: every row has the same number and time. What counts is that candidates are bounded."""
    calls = [kit.known(row()) for _ in range(3000)]
    some = [kit.heard(row(), calls[0]) for _ in range(3000)]
    assert len(compare(calls, some, LATER).findings) >= 3000


def test_of_thousands_of_pieces_within_one_call_so_many_are_looked_at():
    """A hostile file: rows of no length beside each other, each of them held against all that were taken."""
    whole = row(talk_s=600)
    pieces = [kit.known(row(talk_s=1, start_ns=NOON + S * n // 8)) for n in range(3000)]
    found = outcome(pieces, [kit.heard(whole, kit.known(whole))])
    assert found.count(Outcome.MATCHED) == matching._PIECES and found.count(Outcome.MISSING) > 2000
