"""The copy of identities beside the catalogue: restored from, and never a way back for what was revoked."""

from __future__ import annotations

import os
import shutil
import stat

import catalogue_kit
import pytest

from appliance.access import credentials, identities, issued, records, register, sessions, settling
from appliance.access.identities import Role
from appliance.access.journal import Change, Journal
from appliance.access.pki import Issued
from appliance.access.refusals import IdentityKeyError, JournalError
from appliance.access.register import Entry
from appliance.access.sealing import Sealing
from appliance.access.settling import Finding
from appliance.catalog.database import Database

PRINT = {letter: letter * 64 for letter in "abcdef"}


class Ground:
    """A catalogue with its copy, and changes as the control process makes them."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.control, self.pki = folder / "control", folder / "pki"
        for one in (self.control, self.pki):
            one.mkdir(exist_ok=True)
        self.path = self.control / "catalogue.db"
        self.open()

    def open(self) -> None:
        self.sealing = Sealing.at(self.control / "identities.key")
        self.journal = Journal(
            self.control / "identities.jsonl", self.pki / "identities.serial", self.sealing
        )
        if not self.path.exists():
            catalogue_kit.place(self.path)
        self.database = Database.at(self.path)
        with self.database.write() as connection:
            self.found = settling.settle(connection, self.journal, 1000)
        with self.database.read() as connection:
            number, everybody = settling.everybody(connection)
        self.journal.rewrite(number, everybody)

    def close(self) -> None:
        self.database.close()

    def again(self) -> frozenset[Finding]:
        self.close()
        self.open()
        return self.found.findings

    def lose_catalogue(self) -> None:
        self.close()
        for path in self.control.glob("catalogue.db*"):
            path.unlink()

    def change(self, name, work) -> None:
        with self.database.write() as connection:
            work(connection)
            number = records.next_serial(connection)
            record = records.read(connection, name)
        self.journal.append([Change(number, {name: record})])

    def make(self, name, letter="") -> None:
        def work(connection):
            register.add(connection, Entry(name, frozenset({Role.SUPPORT}), "", "", 1, "admin"))
            if letter:
                made = Issued(name, PRINT[letter], 10**18, self.folder, self.folder)
                identities.enroll(connection, made, {Role.SUPPORT}, 1)

        self.change(name, work)

    def revoke(self, name, letter) -> None:
        self.change(name, lambda connection: issued.revoke(connection, name, PRINT[letter], 5))

    def standing(self, letter) -> str:
        with self.database.read() as connection:
            try:
                return identities.find(connection, PRINT[letter], 10).name
            except Exception as error:  # noqa: BLE001
                return error.reason


@pytest.fixture
def ground(tmp_path):
    made = Ground(tmp_path)
    yield made
    made.close()


def test_a_lost_catalogue_gets_everything_back(ground):
    ground.make("ris", "a")
    ground.make("ada", "b")
    ground.revoke("ada", "b")
    codes = ["aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh"]

    def secrets(connection):
        credentials.enrol(connection, "ris", "hash", ground.sealing.seal(b"secret", "ris"), codes, 7)
        credentials.add_subject(connection, "ris", "https://id.example", "42", 7)
        sessions.begin(connection, "ris", 7)

    ground.change("ris", secrets)
    ground.lose_catalogue()
    ground.open()
    assert ground.found.findings == {Finding.RESTORED} and ground.found.count == 2
    assert (ground.standing("a"), ground.standing("b")) == ("ris", "CERTIFICATE_REVOKED")
    with ground.database.read() as connection:
        found = credentials.secrets_of(connection, "ris")
        assert found.hash == "hash" and ground.sealing.open(found.factor, "ris") == b"secret"
        assert credentials.recovery_left(connection, "ris") == 2
        assert credentials.name_of_subject(connection, "https://id.example", "42") == "ris"
        assert sessions.of(connection, "ris", 8) == [], "sessions are not in the copy"
        assert register.get(connection, "ris").creator == "admin"
    assert ground.again() == frozenset()


def test_nothing_in_the_clear_and_for_nobody_else(ground):
    ground.make("ris")
    ground.change(
        "ris",
        lambda connection: credentials.enrol(
            connection, "ris", "hash", ground.sealing.seal(b"topsecret", "ris"), ["aaaa-bbbb-cccc-dddd"], 7
        ),
    )
    path = ground.control / "identities.jsonl"
    raw = path.read_bytes()
    assert b"topsecret" not in raw and b"dG9wc2VjcmV0" not in raw and b"aaaa-bbbb" not in raw
    for one in (path, ground.control / "identities.key"):
        assert stat.S_IMODE(one.stat().st_mode) == 0o600


def test_an_old_catalogue_put_back_is_brought_up_with_an_alarm(ground, tmp_path):
    ground.make("ris", "a")
    ground.database.scrub()
    shutil.copy(ground.path, tmp_path / "old.db")
    ground.revoke("ris", "a")
    ground.make("ada", "b")
    ground.lose_catalogue()
    shutil.copy(tmp_path / "old.db", ground.path)
    ground.open()
    assert Finding.CATALOGUE_OLDER in ground.found.findings and ground.found.count == 2
    assert (ground.standing("a"), ground.standing("b")) == ("CERTIFICATE_REVOKED", "ada")
    assert ground.again() == frozenset()


def test_an_old_copy_put_back_changes_nothing_and_is_told(ground, tmp_path):
    ground.make("ris", "a")
    shutil.copy(ground.control / "identities.jsonl", tmp_path / "old.jsonl")
    ground.revoke("ris", "a")
    shutil.copy(tmp_path / "old.jsonl", ground.control / "identities.jsonl")
    assert ground.again() == {Finding.COPY_OLDER}
    assert ground.standing("a") == "CERTIFICATE_REVOKED"


def test_an_old_copy_and_no_catalogue_is_an_alarm(ground, tmp_path):
    ground.make("ris", "a")
    shutil.copy(ground.control / "identities.jsonl", tmp_path / "old.jsonl")
    ground.revoke("ris", "a")
    ground.lose_catalogue()
    shutil.copy(tmp_path / "old.jsonl", ground.control / "identities.jsonl")
    ground.open()
    assert ground.found.findings == {Finding.RESTORED, Finding.ROLLED_BACK}


def test_the_whole_directory_put_back_is_an_alarm(ground, tmp_path):
    ground.make("ris", "a")
    ground.close()
    shutil.copytree(ground.control, tmp_path / "old")
    ground.open()
    ground.revoke("ris", "a")
    ground.close()
    shutil.rmtree(ground.control)
    shutil.copytree(tmp_path / "old", ground.control)
    ground.open()
    assert ground.found.findings == {Finding.ROLLED_BACK}


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_copy_that_was_altered_counts_up_to_there(ground, place):
    for number, letter in enumerate("abcde"):
        ground.make(f"n{number}", letter)
    path = ground.control / "identities.jsonl"
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 1
    path.write_bytes(raw)
    assert Finding.COPY_ALTERED in ground.again(), "the catalogue has everybody"
    assert [ground.standing(letter) for letter in "abcde"] == [f"n{number}" for number in range(5)]
    assert ground.again() == frozenset()
    (aside,) = ground.control.glob("identities.jsonl.damaged-*")
    assert aside.read_bytes() == raw, "the evidence stays"


def test_lines_of_another_box_are_not_believed(ground, tmp_path):
    (tmp_path / "other").mkdir()
    other = Ground(tmp_path / "other")
    other.make("mallory", "f")
    other.close()
    ground.make("ris", "a")
    shutil.copy(other.control / "identities.jsonl", ground.control / "identities.jsonl")
    ground.lose_catalogue()
    ground.open()
    assert Finding.COPY_ALTERED in ground.found.findings
    assert ground.standing("f") == "CERTIFICATE_UNKNOWN"


def test_a_revocation_outlives_the_rewriting_of_the_copy(ground):
    ground.make("ris", "a")
    ground.revoke("ris", "a")
    for number in range(1100):
        ground.change("ris", lambda connection, at=number: credentials.reset(connection, "ris", "x", at))
    assert len((ground.control / "identities.jsonl").read_bytes().splitlines()) < 1100, "written anew"
    ground.journal.rewrite(5000, {})  # nobody is left
    ground.lose_catalogue()
    ground.open()
    ground.make("eve", "a")  # and the same certificate comes again
    assert ground.again() == {Finding.REVOKED_AGAIN}
    assert ground.standing("a") == "CERTIFICATE_REVOKED"


def test_a_full_disk_is_an_error_and_the_copy_is_mended(ground, monkeypatch):
    ground.make("ris", "a")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("appliance.access.journal.os.fdatasync", full)
        patch.setattr("appliance.process.wholefile.os.fsync", full)
        with pytest.raises(JournalError) as caught:
            ground.revoke("ris", "a")
        assert caught.value.data["errno"] == 28
        with pytest.raises(JournalError):
            ground.journal.rewrite(9, {})
    with ground.database.read() as connection:
        number, everybody = settling.everybody(connection)
    ground.journal.rewrite(number, everybody)
    ground.lose_catalogue()
    ground.open()
    assert ground.standing("a") == "CERTIFICATE_REVOKED"


def test_the_key(ground):
    sealed = ground.sealing.seal(b"x", "ada")
    with pytest.raises(IdentityKeyError):
        ground.sealing.open(sealed, "grace")
    with pytest.raises(IdentityKeyError):
        ground.sealing.open(b"", "ada")
    (ground.control / "identities.key").write_bytes(b"short")
    with pytest.raises(IdentityKeyError):
        Sealing.at(ground.control / "identities.key")
    assert "key" not in repr(ground.sealing)


def test_changes_that_waited_go_with_one_write(ground, monkeypatch):
    """In their order, each with its serial, all tied; and the anchor has the newest."""
    ground.make("ris", "a")
    synced = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(1), fdatasync(descriptor)))
    changes = []
    for name in ("x", "y", "x"):
        with ground.database.write() as connection:
            if register.find(connection, name) is None:
                register.add(connection, Entry(name, frozenset({Role.SUPPORT}), "", "", 1, "admin"))
            changes.append(Change(records.next_serial(connection), {name: records.read(connection, name)}))
    ground.journal.append([])
    ground.journal.append(changes)
    assert len(synced) == 2, "the copy and its anchor, once each"
    found = Journal(ground.journal._path, ground.journal._anchor.path, ground.sealing).read()
    assert found.whole and found.serial == changes[-1].serial == ground.journal.anchored()
    assert {name: serial for name, (serial, _) in found.records.items()} == {
        "ris": changes[0].serial - 1, "x": changes[2].serial, "y": changes[1].serial,
    }  # fmt: skip
    ground.make("z")  # the tie goes on from there
    assert Journal(ground.journal._path, ground.journal._anchor.path, ground.sealing).read().whole


def test_an_anchor_of_an_older_release_goes_on(ground):
    ground.make("ris")
    before = ground.journal.anchored()
    ground.journal._anchor.path.write_text(f"{before}\n")
    ground.make("x")
    assert ground.journal.anchored() == before + 1
    ground.make("y")
    assert ground.journal.anchored() == before + 2
    assert ground.again() == frozenset()
