"""Purposes, versions and reads in the catalogue, on both databases."""

from __future__ import annotations

import pytest

from appliance.catalog import purposes, reads, tenants, versions
from appliance.catalog.errors import PurposeArchivedError, PurposeUnknownError, VersionNotFoundError
from appliance.catalog.reads import Read
from appliance.catalog.versions import Author, Subject
from appliance.model import new_id
from appliance.model.purpose import SEEDS
from appliance.model.routing import Line, Tenant

T, L = new_id(), new_id()


@pytest.fixture
def tenant(database):
    with database.write() as connection:
        made = Tenant(tenant_id=T, display_name="t", public_key=b"k", create_ns=5)
        tenants.add_tenant(connection, made)
    return database


def test_a_tenant_has_the_seeded_purposes_in_order(tenant):
    with tenant.write() as connection:
        found = [one.purpose_id for _, one in purposes.listed(connection, T)]
        assert found == [one[0] for one in SEEDS]
        training = purposes.get(connection, T, "training")
        purposes.update(connection, training.model_copy(update={"archive_ns": 9}), Author(9, "ada"))
        assert "training" not in [one.purpose_id for _, one in purposes.listed(connection, T, archived=False)]
        with pytest.raises(PurposeArchivedError):
            purposes.check_stated(connection, T, ["training"], "x")
        purposes.check_stated(connection, T, ["training"], "x", before=["training"])
        with pytest.raises(PurposeUnknownError) as caught:
            purposes.check_stated(connection, T, ["quality", "fun"], "x")
        assert caught.value.data["field"] == "x[1]"


def test_versions_of_a_line_over_time_and_redacted(tenant):
    line = Line(
        line_id=L,
        tenant_id=T,
        display_name="x",
        create_ns=10,
        purposes=("quality",),
        do_not_record=("1", "2"),
    )
    with tenant.write() as connection:
        tenants.add_line(connection, line)
        later = line.model_copy(update={"purposes": ("training",), "do_not_record": ("2",)})
        tenants.update_line(connection, later, author=Author(20, "ada", "r"))
        tenants.update_line(connection, later, author=Author(30, "bob"))
        assert versions.over_time(connection, Subject.LINE, T, L, "purposes") == [
            (10, ["quality"]),
            (20, ["training"]),
        ]
        newest, first = versions.listed(connection, Subject.LINE, T, L, 5)
        assert (newest.who, newest.request, newest.before) == ("ada", "r", first.content)
        assert first.before is None and first.content["do_not_record"] == ["1", "2"]
        assert versions.redact(connection, T, L, later.do_not_record) == 1
        assert versions.get(connection, Subject.LINE, T, L, 1)["do_not_record"] == ["2"]
        assert [one.redacted for one in versions.listed(connection, Subject.LINE, T, L, 5)] == [False, True]
        for version in (0, 3, 2**63):
            with pytest.raises(VersionNotFoundError):
                versions.get(connection, Subject.LINE, T, L, version)


def read(**fields) -> Read:
    return Read(
        **{
            "at_ns": 100,
            "tenant_id": T,
            "recording_id": L,
            "purpose": "quality",
            "source": "announced",
            "kind": "listen",
            "identity": "ada",
            "roles": ("supervisor",),
            **fields,
        }
    )


def test_reads_are_counted_within_their_month_and_tenant(tenant):
    with tenant.write() as connection:
        for one in (
            read(),
            read(at_ns=200, identity="bob", overridden=True, override_reason="because of it"),
            read(at_ns=150, resumed=True),
            read(at_ns=160, refused="PURPOSE_NOT_STATED"),
            read(at_ns=99),
            read(at_ns=300),
            read(tenant_id=new_id()),
        ):
            reads.note(connection, one)
        found = reads.report(connection, T, 100, 300)
        assert (found.total.reads, found.total.overrides, found.total.refusals) == (2, 1, 1)
        assert found.total.recordings == 1 and list(found.by_person) == ["ada", "bob"]
        assert found.overrides == [
            read(at_ns=200, identity="bob", overridden=True, override_reason="because of it")
        ]
        assert reads.goes_on(connection, read(at_ns=400)) and not reads.goes_on(connection, read(kind="x"))
        reads.forget(connection, L)
        assert [one.override_reason for one in reads.report(connection, T, 100, 300).overrides] == [""]
        assert reads.prune(connection, 150 + reads.KEEP_NS) == 4
