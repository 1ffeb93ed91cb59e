"""Names of identities per tenant: keys, and what an older release left, to which names were one space for the whole box."""

from __future__ import annotations

import base64

import alembic.command
import pytest
import sqlalchemy as sa

from appliance.access import credentials, identities, issued, naming, records, register, settling
from appliance.access.identities import Role
from appliance.access.journal import Change, Journal
from appliance.access.refusals import IdentityKeyError
from appliance.access.sealing import Sealing
from appliance.catalog import revisions, tables
from appliance.catalog.database import Database

FIRST, SECOND = "a" * 26, "b" * 26


def test_keys():
    assert naming.key("", "ris") == "ris" and naming.parts("ris") == ("", "ris")
    assert naming.key(FIRST, "ada") == f"{FIRST}/ada" and naming.parts(f"{FIRST}/ada") == (FIRST, "ada")
    assert naming.parts("trust:ada") == ("", "trust:ada"), "the provider's own space"
    assert naming.carried("ada", FIRST) == naming.carried(f"{FIRST}/ada", FIRST) == f"{FIRST}/ada"
    assert naming.carried("ris", "") == "ris"


ROLES = '["tenant-administrator"]'
OLD = [
    "INSERT INTO identities VALUES ('op', '[\"operator\"]', '', '', 1, '', NULL)",
    f"INSERT INTO identities VALUES ('boss', '{ROLES}', '{FIRST}', '', 2, 'op', NULL)",
    f"INSERT INTO identities VALUES ('ada', '{ROLES}', '{FIRST}', '', 3, 'boss', 9)",
    "INSERT INTO certificates (fingerprint, name, create_ns, expire_ns) VALUES ('f1', 'boss', 1, 99),"
    " ('f2', 'op', 1, 99)",
    "INSERT INTO recovery_codes VALUES ('boss', 'h', NULL)",
    "INSERT INTO sources VALUES ('boss', 'n', 1)",
    "INSERT INTO subjects (issuer, subject, create_ns, name) VALUES ('i', 's', 1, 'ada')",
    "INSERT INTO sessions (id, hash, create_ns, seen_ns, expire_ns, name) VALUES ('s', 'h', 1, 1, 9, 'boss')",
    "INSERT INTO requests VALUES ('boss', 'r', 'd', 'x', 1), ('op', 'r', 'd', 'y', 1)",
    "INSERT INTO notes (id, recording_id, text, author, create_ns, editor, update_ns)"
    " VALUES ('n', 'r', 't', 'boss', 1, 'op', 1), ('m', 'r', 't', 'trust:eve', 1, 'ada', 1)",
    "INSERT INTO reads (at_ns, tenant_id, recording_id, purpose, source, kind, identity, roles, resumed, refused,"
    " overridden, override_reason, grant_id) VALUES (1, 't', 'r', 'p', 's', 'k', 'ada', '[]', 0, '', 0, '', '')",
    "INSERT INTO events (at_ns, type, tenant_id, line_id, subject, state, message) VALUES"
    f" (1, 'certificate-expiring', '{FIRST}', '', 'boss', '', ''), (1, 'certificate-expiring', '', '', 'op', '', ''),"
    f" (1, 'recording-filed', '{FIRST}', '', 'boss', '', '')",
]  # fmt: skip


def test_what_an_older_release_kept_is_carried_over(tmp_path):
    """Everything that pointed at a bare name points at its key: credentials, authors, requests, reads, events."""
    path, sealing = tmp_path / "catalogue.db", Sealing.at(tmp_path / "identities.key")
    journal = Journal(tmp_path / "copy.jsonl", tmp_path / "anchor", sealing)
    old = Database(sa.URL.create("sqlite", database=str(path)))
    with old.write() as connection:
        alembic.command.upgrade(revisions.config(connection), "0011")
        for statement in OLD:
            connection.exec_driver_sql(statement)
        connection.execute(
            sa.insert(tables.passphrases).values(
                name="boss", hash="h", factor=sealing.seal(b"s", "boss"), used_step=0, enrol_until_ns=0, change_ns=1
            )
        )  # fmt: skip
    old.close()
    new = Database.at(path)
    boss, ada = f"{FIRST}/boss", f"{FIRST}/ada"
    with new.write() as connection:
        settling.settle(connection, journal, 1)
        assert records.names(connection) == sorted([ada, boss, "op"])
        assert register.get(connection, boss).creator == "op"
        assert register.get(connection, ada).creator == boss and register.get(connection, ada).disable_ns == 9
        assert identities.find(connection, "f1", 5).name == boss
        assert identities.find(connection, "f2", 5).name == "op"
        found = credentials.secrets_of(connection, boss)
        assert sealing.open(found.factor, boss) == b"s"
        with pytest.raises(IdentityKeyError):
            sealing.open(found.factor, "boss")
        assert credentials.recovery_left(connection, boss) == 1
        assert credentials.is_known(connection, boss, "n", 2)
        assert credentials.name_of_subject(connection, "i", "s") == ada

        def texts(statement: str) -> list[tuple[object, ...]]:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

        assert texts("SELECT name FROM sessions") == [(boss,)]
        assert texts("SELECT identity FROM requests ORDER BY 1") == [(boss,), ("op",)]
        assert texts("SELECT author, editor FROM notes ORDER BY id") == [("trust:eve", ada), (boss, "op")]
        assert texts("SELECT identity FROM reads") == [(ada,)]
        assert texts("SELECT subject FROM events ORDER BY seq") == [(boss,), ("op",), ("boss",)]
        # An older release again: what is there twice keeps a part of its tenant's id.
        twin = register.get(connection, ada)
        register.add(connection, register.Entry(f"{SECOND}/ada", twin.roles, SECOND, "", 4, boss))
    with new.write() as connection:
        alembic.command.downgrade(revisions.config(connection), "0011")
        kept = connection.exec_driver_sql("SELECT name, creator FROM identities ORDER BY 1").all()
        assert [tuple(row) for row in kept] == [
            (f"ada-{FIRST[:13]}", "boss"), (f"ada-{SECOND[:13]}", "boss"), ("boss", "op"), ("op", ""),
        ]  # fmt: skip
        assert connection.exec_driver_sql("SELECT name FROM certificates ORDER BY 1").scalars().all() == [
            "boss",
            "op",
        ]
    new.close()


def test_a_copy_of_an_older_release_restores_a_lost_catalogue(tmp_path):
    sealing = Sealing.at(tmp_path / "identities.key")
    place = tmp_path / "copy.jsonl", tmp_path / "anchor", sealing
    blank = {"agent": "", "create_ns": 1, "disable_ns": None, "subjects": [], "recovery": []}
    secret = {"hash": "h", "enrol_hash": None, "enrol_until_ns": 0, "change_ns": 1}
    old = Journal(*place)
    old.read()
    for serial, (name, tenant_id, creator) in enumerate(
        [("op", "", ""), ("boss", FIRST, "op"), ("ada", FIRST, "boss")], 1
    ):
        record = {
            **blank,
            "roles": ["operator" if not tenant_id else "tenant-administrator"],
            "tenant_id": tenant_id,
            "creator": creator,
            "certificates": [[name * 2, 1, 99, None, ""]],
            "passphrase": {**secret, "factor": None},
        }
        if name == "boss":
            factor = base64.b64encode(sealing.seal(b"s", "boss")).decode()
            record["passphrase"] = {**secret, "factor": factor}
        old.append([Change(serial, {name: record})])
    database = Database.at(tmp_path / "catalogue.db")
    with database.write() as connection:
        found = settling.settle(connection, Journal(*place), 1)
        assert found.findings == {settling.Finding.RESTORED} and found.count == 3
        assert records.names(connection) == sorted([f"{FIRST}/ada", f"{FIRST}/boss", "op"])
        assert register.get(connection, f"{FIRST}/ada").creator == f"{FIRST}/boss"
        assert [one.name for one in issued.of(connection, f"{FIRST}/boss", 9, None)] == [f"{FIRST}/boss"]
        assert (
            sealing.open(credentials.secrets_of(connection, f"{FIRST}/boss").factor, f"{FIRST}/boss") == b"s"
        )
        assert identities.find(connection, "adaada", 5).roles == {Role.TENANT_ADMINISTRATOR}
    database.close()
