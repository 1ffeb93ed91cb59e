"""Counts by day against a reckoning of its own, in zones that move their clocks and in those that do not."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.catalog import counting, recordings
from appliance.catalog.counting import By
from appliance.catalog.errors import TimeZoneError
from appliance.model import new_id

ZONES = [
    "UTC",
    "Europe/London",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Apia",
    "Asia/Gaza",
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def count(database, tenant, zone):
    with database.read() as connection:
        return counting.count(
            connection, tenant_id=tenant, where=None, by=By.DAY, time_zone=counting.zone(zone)
        )


@given(
    moments=st.lists(
        st.integers(-(2**62) // 10**9, 2**62 // 10**9)
        | st.integers(1_700_000_000, 1_800_000_000)
        | st.sampled_from(
            [1_774_745_999, 1_774_746_000, 1_792_889_999, 1_792_890_000]
        )  # London's clocks move
        | st.integers(1_325_152_700, 1_325_239_300),  # Apia leaves a day out
        max_size=12,
    ),
    zone=st.sampled_from(ZONES),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_days_are_those_of_the_zone(database, make_held, make_description, moments, zone):
    tenant = new_id()
    with database.write() as connection:
        for moment in moments:
            content = make_description(start_ns=moment * 10**9, end_ns=(moment + 7) * 10**9)
            recordings.take(connection, make_held(tenant_id=tenant), 1, content)
    wanted = Counter(
        (EPOCH + timedelta(seconds=moment)).astimezone(ZoneInfo(zone)).date().isoformat()
        for moment in moments
    )
    found = count(database, tenant, zone)
    assert [(one.key, one.count, one.duration_ns) for one in found.groups] == [
        (day, number, number * 7 * 10**9) for day, number in sorted(wanted.items())
    ]
    assert found.count == len(moments) and not found.more


def test_the_oldest_days_are_left_out_and_it_is_said(database, file, make_description, monkeypatch):
    monkeypatch.setattr(counting, "MAX_GROUPS", 2)
    for day in range(3):
        file(content=make_description(start_ns=day * 86400 * 10**9, end_ns=day * 86400 * 10**9 + 5))
    found = count(database, None, "")
    assert [one.key for one in found.groups] == ["1970-01-02", "1970-01-03"]
    assert found.more and found.count == 3 and found.duration_ns == 15


@pytest.mark.parametrize("name", ["x", "Europe", "../UTC", "/etc/passwd", "a\0b", "Europe/London/", "é"])
def test_what_is_no_zone(name):
    with pytest.raises(TimeZoneError):
        counting.zone(name)
