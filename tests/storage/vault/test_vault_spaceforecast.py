"""How long the space lasts, day by day."""

from __future__ import annotations

import pytest

from appliance.storage.vault.spaceforecast import HORIZON_DAYS, Intake, days_until_full


@pytest.mark.parametrize(
    ("free", "lines", "expiring", "days"),
    [
        (100, [], {}, None),
        (100, [Intake(10, 1000)], {}, 10),
        (100, [Intake(10, 1000)], {5: 50}, 15),
        (100, [Intake(10, 1000)], {10: 1000}, 10),  # what goes later is too late
        (100, [Intake(10, 5)], {}, None),  # as much goes as comes
        (45, [Intake(10, 5)], {}, 5),
        (100, [Intake(5, 1000), Intake(5, 1000)], {}, 10),
        (0, [], {}, 1),
        (HORIZON_DAYS * 10 + 1, [Intake(10, 1000)], {}, None),
        (HORIZON_DAYS * 10, [Intake(10, 1000)], {}, HORIZON_DAYS),
    ],
)
def test_days_until_full(free, lines, expiring, days):
    assert days_until_full(free, lines, expiring) == days
