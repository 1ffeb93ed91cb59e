"""The box's own certificates, while control runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

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


def renewed(box) -> bool:
    """Whether it went well; that control goes on either way is held, too."""
    box.run(box.control._renewal.renew())
    assert not box.control.failed.done()
    return "CertificatesNotRenewed" not in conditions(box)


def test_an_authority_whose_key_is_away_is_said_and_control_goes_on(make_box, settings):
    box = make_box()
    key = settings.layout.pki / "ca.key"
    aside = key.rename(key.with_name("ca.aside"))
    assert not renewed(box)
    aside.rename(key)
    assert renewed(box)


def test_a_certificate_that_cannot_be_read_is_said_and_control_goes_on(make_box, settings):
    box = make_box()
    path = settings.layout.pki / "clients" / "other.crt"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----")
    assert not renewed(box)
    path.unlink()
    assert renewed(box)


def test_a_start_with_a_pair_that_is_due_and_cannot_be_renewed(make_box, settings):
    pki.ensure(settings.layout, settings, datetime.now(UTC) - timedelta(days=380))
    scratch = settings.layout.pki / ".server.key.new"
    scratch.mkdir()  # nothing can be written there
    box = make_box()
    box.wait(lambda: conditions(box) >= {"CertificatesNotRenewed", "CertificateExpiring"})
    assert box.client().box.GetBoxStatus(box_pb2.GetBoxStatusRequest()).certificates
    scratch.rmdir()
    assert renewed(box)
    assert "CertificateExpiring" not in conditions(box)


def test_a_catalogue_that_cannot_be_written_is_said_and_control_goes_on(make_box, settings):
    box = make_box()
    engine = box.control.parts.store.database.engine

    bound = ["ON"]

    def bind(connection, _record) -> None:
        connection.execute(f"PRAGMA query_only = {bound[0]}")

    sa.event.listen(engine, "connect", bind)
    engine.dispose()
    (settings.layout.pki / "clients" / "admin.crt").unlink()  # a new one has to be enrolled
    assert not renewed(box)
    bound[0] = "OFF"
    engine.dispose()
    assert renewed(box)
    assert box.client().box.GetBoxStatus(box_pb2.GetBoxStatusRequest()).certificates
