"""Alarms in the catalogue: one while it stands, flapping or not, told once; what waits to be sent is bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from appliance.alarms import life, schedule
from appliance.alarms.channel import Channel, Smtp, Syslog, Webhook
from appliance.alarms.message import What
from appliance.alarms.severity import Severity
from appliance.catalog import alarmchannels, alarmlist, alarmoutbox, alarms, alarmsync, events
from appliance.catalog.alarmtables import alarm_messages
from appliance.catalog.errors import (
    AlarmChannelLimitError,
    AlarmChannelNotFoundError,
    AlarmClearedError,
    AlarmClearsItselfError,
    AlarmNotFoundError,
    EtagMismatchError,
)
from appliance.model import new_id

NOW = 1_790_000_000 * 10**9
S = 10**9
TENANT = new_id()


def channel(settings=None, **fields) -> Channel:
    base = Channel(
        new_id(), "", "Ops", Severity.NOTICE, settings or Syslog("log.example"), create_ns=NOW, change_ns=NOW
    )
    return replace(base, **fields)


MAIL = Smtp("mail.example", "box@example.org", ("ops@example.org",))


def put(connection, *channels: Channel) -> None:
    for one in channels:
        alarmchannels.add(connection, one)


def told(connection) -> list[tuple[str, str]]:
    found, _ = events.after(connection, 0)
    return [(one.type.value, one.state) for one in found]


def waiting(connection, one: Channel, now_ns: int = NOW + 10**18) -> list[str]:
    return [message.what.value for message in alarmoutbox.due(connection, one.id, now_ns, 5000)]


def test_an_alarm_is_one_while_it_stands(database):
    with database.write() as connection:
        first = alarms.raise_alarm(connection, "DiskFull", "capture-0", "", NOW, {"free": 3})
        again = alarms.raise_alarm(connection, "DiskFull", "capture-0", "", NOW + S)
        other = alarms.raise_alarm(connection, "DiskFull", "capture-1", "", NOW + S)
        assert first == again != other
        found = alarms.get(connection, None, first)
        assert (found.count, found.seen_ns, found.data, found.severity) == (
            2,
            NOW + S,
            {"free": 3},
            Severity.CRITICAL,
        )
        assert told(connection) == [("alarm-raised", "DiskFull")] * 2
        assert alarms.clear_alarm(connection, "DiskFull", "capture-0", NOW + 2 * S)
        assert not alarms.clear_alarm(connection, "DiskFull", "capture-0", NOW + 3 * S)
        assert not alarms.clear_alarm(connection, "DiskFull", "nobody", NOW + 3 * S)
        assert alarms.get(connection, "", first).clear_ns == NOW + 2 * S
        assert told(connection)[-1] == ("alarm-cleared", "DiskFull")
        later = alarms.raise_alarm(connection, "DiskFull", "capture-0", "", NOW + 3 * S + life.FLAP_NS)
        assert later != first
        with pytest.raises(ValueError, match="short ids"):
            alarms.raise_alarm(connection, "DiskFull", "x", "", NOW, {"name": "y" * 101})
        with pytest.raises(AssertionError, match="no row"):
            alarms.raise_alarm(connection, "Nothing", "x", "", NOW)
        with pytest.raises(AlarmNotFoundError):
            alarms.get(connection, TENANT, first)


def test_what_flaps_is_one_alarm_and_one_message(database):
    there = channel()
    with database.write() as connection:
        put(connection, there)
        first = alarms.raise_alarm(connection, "DiskFull", "p", "", NOW)
        for round_ in range(1, 6):
            at = NOW + round_ * 60 * S
            alarms.clear_alarm(connection, "DiskFull", "p", at)
            assert (
                alarmoutbox.due(connection, there.id, at, 9)[-1].what is What.RAISED
            )  # not told yet that it is over
            assert alarms.raise_alarm(connection, "DiskFull", "p", "", at + 30 * S) == first
        assert alarms.get(connection, "", first).count == 6
        assert waiting(connection, there) == ["raised"]
        end = NOW + 3600 * S
        alarms.clear_alarm(connection, "DiskFull", "p", end)
        assert waiting(connection, there, end + life.FLAP_NS - 1) == ["raised"]
        assert waiting(connection, there, end + life.FLAP_NS) == ["raised", "cleared"]
        # For the report it stood all the time.
        assert [(one.raise_ns, one.clear_ns) for one in alarms.stood(connection, "", NOW, end)] == [
            (NOW, end)
        ]


def test_what_becomes_worse_is_told_again(database):
    there, only_critical = channel(), channel(severity=Severity.CRITICAL)
    with database.write() as connection:
        put(connection, there, only_critical)
        one = alarms.raise_alarm(connection, "DiskNearlyFull", "vault", "", NOW, severity=Severity.WARNING)
        # A warning waits for a moment: it may be over before anybody has to know.
        assert waiting(connection, there, NOW + life.SETTLE_NS - 1) == []
        assert waiting(connection, there, NOW + life.SETTLE_NS) == ["raised"]
        alarms.raise_alarm(connection, "DiskNearlyFull", "vault", "", NOW + S)
        alarms.raise_alarm(connection, "DiskNearlyFull", "vault", "", NOW + S, severity=Severity.WARNING)
        assert alarms.get(connection, "", one).severity is Severity.CRITICAL
        assert waiting(connection, there, NOW + S) == ["raised"]
        (now,) = alarmoutbox.due(connection, there.id, NOW + S, 9)
        assert now.severity is Severity.CRITICAL
        assert waiting(connection, only_critical) == ["escalated"]
        other = alarms.raise_alarm(connection, "PoolErrors", "vault", "", NOW, severity=Severity.WARNING)
        sent = [
            one.id for one in alarmoutbox.due(connection, there.id, NOW + 10**18, 9) if one.alarm_id == other
        ]
        alarmoutbox.remove(connection, sent)
        alarms.raise_alarm(connection, "PoolErrors", "vault", "", NOW + S)
        assert waiting(connection, there, NOW + S) == ["raised", "escalated"]


def test_people_acknowledge_and_clear(database):
    there = channel(Webhook("https://hooks.example/x"))
    mail = channel(MAIL)
    with database.write() as connection:
        put(connection, there, mail)
        ended = alarms.get(connection, None, alarms.raise_alarm(connection, "DiskFull", "p", "", NOW))
        with pytest.raises(AlarmClearsItselfError):
            alarms.clear_by_hand(connection, ended, "ada", NOW)
        before = alarms.etag_of_alarm(ended)
        seen = alarms.acknowledge(connection, ended, "ada", "on my way", NOW + S)
        assert alarmlist.state_of(seen) is alarmlist.State.ACKNOWLEDGED
        with pytest.raises(EtagMismatchError):
            alarms.get(connection, None, seen.id, before)
        assert alarmlist.of_everybody(connection) == alarmlist.Counts({Severity.CRITICAL: 1}, 0)
        back = alarms.unacknowledge(connection, seen, NOW + 2 * S)
        assert (back.ack_by, back.ack_note, back.ack_ns) == ("", "", None)
        assert alarms.unacknowledge(connection, back, NOW + 2 * S) == back
        # A cause that comes back keeps who looks after it.
        alarms.acknowledge(connection, back, "ada", "", NOW + 3 * S)
        alarms.clear_alarm(connection, "DiskFull", "p", NOW + 4 * S)
        alarms.raise_alarm(connection, "DiskFull", "p", "", NOW + 5 * S)
        assert alarms.get(connection, None, ended.id).ack_by == "ada"
        alarms.clear_alarm(connection, "DiskFull", "p", NOW + 6 * S)
        with pytest.raises(AlarmClearedError):
            alarms.acknowledge(connection, alarms.get(connection, None, ended.id), "ada", "", NOW)
        hand = alarms.get(connection, None, alarms.raise_alarm(connection, "KeysAbsent", "vault", "", NOW))
        assert not alarms.clear_alarm(connection, "KeysAbsent", "vault", NOW + S)
        assert alarms.get(connection, None, hand.id).open
        done = alarms.clear_by_hand(connection, alarms.get(connection, None, hand.id), "ada", NOW + 2 * S)
        assert (done.clear_by, done.clear_ns) == ("ada", NOW + 2 * S)
        assert alarms.clear_by_hand(connection, done, "bob", NOW + 3 * S) == done
        # What a person has cleared and is raised again is another one.
        assert alarms.raise_alarm(connection, "KeysAbsent", "vault", "", NOW + 3 * S) != hand.id
        # Mail says neither who looks after what, nor anything twice.
        assert "acknowledged" in waiting(connection, there) and "acknowledged" not in waiting(
            connection, mail
        )


def test_conditions_are_alarms_while_they_stand(database):
    disk, keys = ("capture-0", "DiskFull"), ("vault", "KeysAbsent")
    present = {disk: Severity.WARNING, keys: Severity.CRITICAL, ("vault", "NeverHeardOf"): Severity.WARNING}
    everybody = ["capture-0", "vault"]
    with database.write() as connection:

        def step(now, asked=everybody) -> list[tuple[str, str, bool]]:
            if alarmsync.differ(connection, now, asked):
                alarmsync.sync(connection, now, asked, NOW)
                assert not alarmsync.differ(connection, now, asked)
            some = alarmlist.some(connection, None, None, 99)
            return sorted((one.kind, one.subject, one.open) for one in some)

        first = [
            ("DiskFull", "capture-0", True),
            ("KeysAbsent", "vault", True),
            ("UnknownCondition", "vault/NeverHeardOf", True),
        ]
        assert step(present) == first
        assert step(present) == first
        assert all(one.count == 1 for one in alarmlist.some(connection, None, None, 99))
        present[disk] = Severity.CRITICAL  # worse
        assert step(present) == first
        assert alarms.newest(connection, "DiskFull", "capture-0").severity is Severity.CRITICAL
        # Of who does not answer nothing is known: nothing clears.
        assert step({}, ["capture-0"])[1:] == first[1:]
        assert step({}, ["capture-0"])[0] == ("DiskFull", "capture-0", False)
        # A person clears what stands on: it is not raised again before it was gone.
        held = alarms.newest(connection, "KeysAbsent", "vault")
        alarms.clear_by_hand(connection, held, "ada", NOW)
        still = {keys: Severity.CRITICAL}
        assert step(still)[1] == ("KeysAbsent", "vault", False)
        assert step({})[1] == ("KeysAbsent", "vault", False)
        assert [one[2] for one in step(still) if one[0] == "KeysAbsent"] == [False, True]


def test_what_a_start_has_neither_raises_nor_clears(database):
    key = ("signaling", "RoutingTableMissing")
    present = {("vault", "DiskFull"): Severity.CRITICAL}
    with database.write() as connection:
        asked = ("signaling", "vault")
        alarmsync.sync(connection, present, asked, NOW, [key])
        assert alarms.newest(connection, "RoutingTableMissing", "signaling") is None
        alarmsync.sync(connection, {**present, key: Severity.WARNING}, asked, NOW)
        assert not alarmsync.differ(connection, present, asked, [key])
        alarmsync.sync(connection, present, asked, NOW + S, [key])
        standing = alarms.newest(connection, "RoutingTableMissing", "signaling")
        assert standing is not None and standing.open and standing.count == 1, "it stood before the start"
        assert alarmsync.differ(connection, present, asked)
        alarmsync.sync(connection, {}, asked, NOW + S, [key])
        disk = alarms.newest(connection, "DiskFull", "vault")
        assert disk is not None and not disk.open


def test_who_is_told_of_what(database):
    box, mine, other = channel(), channel(tenant_id=TENANT), channel(tenant_id=new_id())
    off, mail = channel(enabled=False), channel(MAIL, digest_hour=6)
    with database.write() as connection:
        put(connection, box, mine, other, off, mail)
        alarms.raise_alarm(connection, "GrantRequested", "g", TENANT, NOW)
        assert [len(waiting(connection, one)) for one in (box, mine, other, off, mail)] == [1, 1, 0, 0, 1]
        six = schedule.next_digest(NOW, 6)
        assert alarmoutbox.due(connection, mail.id, six - 1, 9) == []
        assert alarmoutbox.due(connection, mail.id, six, 9)[0].digest
        # That a reminder is over is no mail.
        alarms.clear_alarm(connection, "GrantRequested", "g", NOW + S)
        assert waiting(connection, mail) == ["raised"] and waiting(connection, mine) == ["raised", "cleared"]
        # A channel is not told of its own failing.
        alarms.raise_alarm(connection, alarmoutbox.CHANNEL_FAILING, box.id, "", NOW)
        assert waiting(connection, box) == ["raised", "cleared"] and len(waiting(connection, mail)) == 2
        due, following = alarmoutbox.due_channels(connection, NOW + life.SETTLE_NS)
        assert due == {box.id, mine.id, mail.id} and following is None


def test_what_waits_is_bounded_and_least_goes_first(database, monkeypatch):
    monkeypatch.setattr(schedule, "MAX_WAITING", 3)
    there = channel()
    with database.write() as connection:
        put(connection, there)
        for number, kind in enumerate(
            ("DiskFull", "GrantRequested", "PoolFilling", "DiskError", "DiskStalled")
        ):
            alarms.raise_alarm(connection, kind, "p", "", NOW + number * S)
        left = [one.severity.value for one in alarmoutbox.due(connection, there.id, NOW + 9 * S, 9)]
        assert left == ["critical"] * 3
        alarms.raise_alarm(connection, "GrantRequested", "q", "", NOW + 9 * S)
        assert [one.severity.value for one in alarmoutbox.due(connection, there.id, NOW + 9 * S, 9)] == left
        assert alarmchannels.find(connection, there.id).fares.dropped == 3


def test_channels_are_kept_as_they_are(database):
    one = channel(
        replace(MAIL, to=("a@b.c", "d@e.f"), ca="PEM"), tenant_id=TENANT, sealed=b"\1", digest_hour=0
    )
    with database.write() as connection:
        put(connection, one)
        assert alarmchannels.get(connection, TENANT, one.id) == one
        with pytest.raises(AlarmChannelNotFoundError):
            alarmchannels.get(connection, "", one.id)
        alarms.raise_alarm(connection, "GrantRequested", "g", TENANT, NOW)
        found = alarmoutbox.due(connection, one.id, NOW + 10**18, 9)[0]
        alarmoutbox.postpone(connection, found, NOW + 50 * S, ["d@e.f"])
        assert alarmchannels.failed(connection, one.id, "smtp-550", 0, NOW) == 1
        assert alarmchannels.failed(connection, one.id, "smtp-550", 2, NOW) == 2
        fares = alarmchannels.find(connection, one.id).fares
        assert (fares.failures, fares.failure, fares.given_up) == (2, "smtp-550", 2)
        # Changed: what failed is tried at once.
        alarmchannels.update(connection, replace(one, change_ns=NOW + 1), NOW + S)
        again = alarmoutbox.due(connection, one.id, NOW + S, 9)
        assert [(m.tries, m.recipients) for m in again] == [(1, ("d@e.f",))]
        with pytest.raises(EtagMismatchError):
            alarmchannels.get(connection, None, one.id, alarmchannels.etag_of_channel(one))
        alarmchannels.update(connection, replace(one, enabled=False), NOW + S)
        assert waiting(connection, one) == []
        alarmchannels.delete(connection, one.id, NOW)
        assert alarmchannels.find(connection, one.id) is None
        put(connection, *(channel() for _ in range(alarmchannels.MAX_CHANNELS)))
        with pytest.raises(AlarmChannelLimitError):
            put(connection, channel())


def test_lists_are_filtered_paged_and_pruned(database):
    with database.write() as connection:
        ids = [
            alarms.raise_alarm(connection, kind, str(number), tenant, NOW + number * S)
            for number, (kind, tenant) in enumerate(
                [("DiskFull", ""), ("PoolFilling", ""), ("GrantRequested", TENANT), ("DiskFull", "")]
            )
        ]
        alarms.acknowledge(connection, alarms.get(connection, None, ids[1]), "ada", "", NOW)
        alarms.clear_alarm(connection, "DiskFull", "0", NOW + 10 * S)

        def found(text: str, tenant: str | None = None) -> list[int]:
            some = alarmlist.some(connection, tenant, alarmlist.clause(text), 99)
            return [ids.index(one.id) for one in some]

        assert found("") == [3, 2, 1, 0]
        assert found("state != cleared AND severity >= warning") == [3, 1]
        assert found("state = acknowledged") == [1] and found("NOT state = open") == [1, 0]
        assert (
            found("scope = tenant") == [2]
            and found("", TENANT) == [2]
            and found("scope != tenant", "") == [3, 1, 0]
        )
        assert found('kind = DiskFull AND subject = "3"') == [3]
        assert found("clear_time > 2000-01-01") == [0] and found("NOT clear_time > 2000-01-01") == [3, 2, 1]
        first = alarmlist.some(connection, None, None, 2)
        rest = alarmlist.some(connection, None, None, 9, (first[-1].raise_ns, first[-1].id))
        assert [ids.index(one.id) for one in (*first, *rest)] == [3, 2, 1, 0]
        assert alarmlist.of_tenants(connection, TENANT) == alarmlist.Counts({Severity.NOTICE: 1}, 1)
        touching = alarmlist.of_box(connection, all_of_them=False)
        assert touching == alarmlist.Counts({Severity.CRITICAL: 1}, 1)
        assert [one.id for one in alarms.stood(connection, "", NOW + 10 * S, NOW + 20 * S)] == [
            ids[1],
            ids[3],
        ]
        there = channel()
        put(connection, there)
        alarms.raise_alarm(connection, "DiskError", "p", "", NOW)
        alarms.clear_alarm(connection, "DiskError", "p", NOW + S)
        assert alarms.prune(connection, NOW + S + alarms.KEEP_NS) == 0
        assert alarms.prune(connection, NOW + S + alarms.KEEP_NS + 1) == 1
        left = sa.select(sa.func.count()).select_from(alarm_messages)
        assert connection.execute(left).scalar_one() == 0 and len(found("")) == 4
