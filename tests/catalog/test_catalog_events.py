from __future__ import annotations

import pytest

from appliance.catalog import events, told
from appliance.catalog.errors import RequestIdReusedError, ResumeTokenExpiredError
from appliance.catalog.events import Event, EventType
from appliance.catalog.told import Told
from appliance.model import InvalidError, new_id


def append(database, at_ns, tenant_id="t", kind=EventType.RECORDING_FILED):
    with database.write() as connection:
        return events.append(connection, Event(kind, at_ns, new_id(), tenant_id=tenant_id))


def after(database, seq, **how):
    with database.read() as connection:
        found, at = events.after(connection, seq, **how)
        return [event.seq for event in found], at


def test_events_come_in_order_and_only_those_wanted(database):
    seqs = [append(database, n, tenant) for n, tenant in enumerate("aab")]
    assert after(database, 0) == (seqs, seqs[-1])
    assert after(database, seqs[0], tenant_id="a") == ([seqs[1]], seqs[2])
    assert after(database, 0, types=[EventType.CALL_ENDED]) == ([], seqs[2])
    assert after(database, 0, limit=2) == (seqs[:2], seqs[1])
    assert after(database, 99) == ([], 99)


def test_pruning_forgets_the_oldest_and_says_so(database):
    seqs = [append(database, n) for n in range(4)]
    with database.write() as connection:
        assert events.prune(connection, 2) == 2
    assert after(database, seqs[1]) == (seqs[2:], seqs[3])
    with pytest.raises(ResumeTokenExpiredError):
        after(database, seqs[0])
    with database.write() as connection:
        assert events.prune(connection, 100) == 2
        assert events.head(connection) == seqs[3] == events.oldest(connection)
    assert append(database, 200) == seqs[3] + 1, "a number is never used again"


def test_calls_are_told_once_also_across_a_restart(database):
    call = Told(new_id(), "t", "l", "RECORDING")

    def tell(now, changed=False):
        with database.write() as connection:
            return told.call(connection, now, changed, 1)

    assert tell(call)
    assert not tell(call), "after a restart the same call is not told again"
    assert tell(call, changed=True)
    with database.write() as connection:
        assert told.calls_gone(connection, [], 2) == 1
        assert told.calls_gone(connection, [], 2) == 0
    with database.read() as connection:
        kinds = [event.type for event in events.after(connection, 0)[0]]
    assert kinds == [EventType.CALL_STARTED, EventType.CALL_CHANGED, EventType.CALL_ENDED]


def test_conditions_are_told_when_they_come_and_go(database):
    def tell(present, processes):
        with database.write() as connection:
            differ = told.differ(connection, present, processes)
            count = told.conditions(connection, present, processes, 1)
            assert differ == bool(count)
            return count

    assert tell({("vault", "DiskFull"): "full"}, ["vault"]) == 1
    assert tell({("vault", "DiskFull"): "fuller"}, ["vault"]) == 0
    assert tell({}, ["signaling"]) == 0, "of who did not answer nothing is known"
    assert tell({}, ["vault"]) == 1


def test_request_ids(database):
    from appliance.catalog import requests

    with database.write() as connection:
        assert requests.find(connection, "me", "r1", "d", 10) is None
        requests.note(connection, "me", "r1", "d", "subject", 10)
        assert requests.find(connection, "me", "r1", "d", 11) == "subject"
        assert requests.find(connection, "you", "r1", "d", 11) is None
        with pytest.raises(RequestIdReusedError):
            requests.find(connection, "me", "r1", "other", 11)
        late = 10 + requests.KEEP_NS
        assert requests.find(connection, "me", "r1", "other", late) is None
        requests.note(connection, "me", "r1", "other", "again", late)
        assert requests.prune(connection, late) == 0
        assert requests.prune(connection, late + requests.KEEP_NS) == 1
    for wrong in ("", " ", "x" * 65, "a b", "é"):
        with pytest.raises(InvalidError):
            requests.check_form(wrong)
