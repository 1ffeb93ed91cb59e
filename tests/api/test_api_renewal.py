"""The box's own certificates, while control runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from appliance.access import pki
from appliance.config.settings import Settings
from earwitness.v1 import box_pb2


@pytest.fixture
def settings(tmp_path):
    """Of the box that `make_box` makes first."""
    return Settings(data=tmp_path / "box0")


def conditions(box) -> set[str]:
    return {one.type for one in box.status.conditions()}


def test_an_authority_that_is_not_valid_yet_is_said(make_box, settings):
    pki.ensure(settings.layout, settings, datetime.now(UTC) + timedelta(days=15 * 365))
    box = make_box()
    box.wait(lambda: "AuthorityNotYetValid" in conditions(box))
    for path in (*settings.layout.pki.rglob("*.crt"), *settings.layout.pki.rglob("*.key")):
        path.unlink()  # the whole of it anew
    box.run(box.control._renewal.renew())
    assert "AuthorityNotYetValid" not in conditions(box)
    assert box.client().box.GetBoxStatus(box_pb2.GetBoxStatusRequest()).certificates, (
        "the new one is shown already"
    )
