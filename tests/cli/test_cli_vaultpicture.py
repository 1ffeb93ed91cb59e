"""The picture of the vault: its bars add up, and small things are seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cli import vaultpicture
from earwitness.v1 import box_pb2

WIDTH = 50


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=3), st.integers(3, 200))
def test_cells_are_as_many_as_the_bar_is_wide_and_nothing_is_lost(parts, width):
    cells = vaultpicture.split(parts, width)
    assert sum(cells) == (width if any(parts) else 0)
    assert all(cell >= 1 for part, cell in zip(parts, cells, strict=True) if part)
    assert all(cell == 0 for part, cell in zip(parts, cells, strict=True) if not part)


def vault(free: int, daily: int = 0, expiring: int = 0) -> box_pb2.Vault:
    forecast = box_pb2.SpaceForecast(daily_bytes=daily, expiring_bytes=expiring, measured_days=30)
    return box_pb2.Vault(free_bytes=free, total_bytes=1000, forecast=forecast)


@pytest.mark.parametrize(
    ("free", "daily", "expiring", "used", "coming", "left"),
    [
        (1000, 0, 0, 0, 0, 50),
        (500, 0, 0, 25, 0, 25),
        (500, 10, 0, 25, 15, 10),
        (500, 10, 200, 25, 5, 20),
        (500, 10, 900, 25, 0, 25),  # more goes than comes
        (500, 1000, 0, 25, 25, 0),  # more comes than there is room for
        (0, 5, 0, 50, 0, 0),
    ],
)
def test_space_now_and_in_a_month(free, daily, expiring, used, coming, left):
    drawn = vaultpicture.space(vault(free, daily, expiring), WIDTH)
    assert drawn == "█" * used + "▒" * coming + "░" * left
    plain = vaultpicture.space(vault(free, daily, expiring), WIDTH, unicode=False)
    assert plain == "#" * used + "+" * coming + "." * left


def test_buckets_by_state():
    counts = box_pb2.BucketCounts(open_count=1, locked_count=999)
    assert vaultpicture.buckets(counts, WIDTH) == "█" * 49 + "▒", "the one that is open is seen"
    assert vaultpicture.buckets(box_pb2.BucketCounts(), WIDTH) == ""


def test_how_long_it_lasts_in_words():
    assert vaultpicture.lasting(box_pb2.SpaceForecast(days_until_full=1)) == "full in 1 day"
    assert vaultpicture.lasting(box_pb2.SpaceForecast(days_until_full=40)) == "full in 40 days"
    assert vaultpicture.lasting(box_pb2.SpaceForecast()) == "not full within 400 days"
