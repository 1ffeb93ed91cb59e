"""Support grants on the command line, against a box: asked for, shown, confirmed, counted down."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest
from box_fixtures import box, make_box, sample_prompts, sealing
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import grantview, main
from appliance.cli.connection import bare
from appliance.cli.exits import Exit
from appliance.storage.keystore import hpke
from earwitness.v1 import grants_pb2 as pb

from grants_kit import NECESSITY, Ward, ward  # isort: skip  # its folder comes with box_fixtures

__all__ = ["box", "make_box", "sample_prompts", "sealing", "ward"]  # fixtures


class Person:
    """Somebody at a terminal."""

    def __init__(self, ward: Ward, name: str) -> None:
        self._pki, self._port, self._name = ward.box.layout.pki, ward.box.port, name

    def __call__(self, *words: str, typed: str = "", code: Exit = Exit.OK) -> str:
        """What is said, errors last."""
        client = self._pki / "clients" / self._name
        given = [
            *("--server", f"127.0.0.1:{self._port}", "--ca", str(self._pki / "ca.crt")),
            *("--cert", f"{client}.crt", "--key", f"{client}.key"),
        ]
        out, err = io.StringIO(), io.StringIO()
        before, sys.stdin = sys.stdin, io.StringIO(typed)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                found = main.run([*given, "grants", *words])
        finally:
            sys.stdin = before
        assert found == code, err.getvalue()
        return out.getvalue() + err.getvalue()


@pytest.fixture
def officer(ward) -> Person:
    return Person(ward, "officer")


@pytest.fixture
def support(ward) -> Person:
    return Person(ward, "support.ada")


def asked(ward: Ward, support: Person, *words: str) -> dict:
    terms = ("--purpose", "system-operation", "--reads", "3", "--for", "8h", "--because", NECESSITY)
    return json.loads(support("request", ward.tenant, *terms, *words, "--json"))


def test_from_the_request_to_the_last_read(ward, officer, support):
    name = ward.file()
    grant = asked(ward, support, "--recording", bare(name))
    assert grant["state"] == "GRANT_STATE_REQUESTED"
    assert bare(grant["name"]) in officer("list")
    seen = officer("approve", bare(grant["name"]), "--reads", "1", typed="no\n", code=Exit.FAILED)
    assert "1 recording" in seen and NECESSITY[:20] in seen and "NOT_CONFIRMED" in seen
    assert "requested" in officer("show", grant["name"])
    done = officer("approve", bare(grant["name"]), "--reads", "1", typed=f"{bare(grant['name'])}\n")
    assert "active" in done and "1 of 1 left" in done and "7 h 59 min" in done
    assert "7 h 59 min" in support("list") and bare(name) in support("show", bare(grant["name"]))
    ward.read(name)
    used = officer("uses", bare(grant["name"]))
    assert "support.ada" in used and "download sealed" in used and bare(name) in used
    assert "No support grant" in officer("list")
    assert "1 of 1 used" in officer("list", "--all")
    assert json.loads(officer("uses", grant["name"], "--json"))["grantUses"][0]["served"] is True


def test_approved_without_asking_denied_and_revoked(ward, officer, support):
    name = ward.file()
    line = f"{ward.tenant}/lines/{ward.line_id}"
    first = asked(
        ward, support, "--line", line, "--from", "2025-01-01", "--filter", "whole=true", "--parties"
    )
    dry = json.loads(officer("approve", first["name"], "--validate-only", "--json"))
    assert dry["coverage"]["recordingCount"] == 1 and dry["grant"]["includeParties"] is True
    done = json.loads(
        officer(
            "approve", first["name"], "--yes", "--json", "--no-parties", "--for", "30m", "--recording", name
        )
    )
    assert (done["state"], done["includeParties"], done["recordings"]) == (
        "GRANT_STATE_ACTIVE",
        False,
        [name],
    )
    ended = officer("revoke", first["name"], "--reason", "done")
    assert "revoked" in ended and "done" in ended
    second = asked(ward, support, "--recording", name)
    assert "denied" in officer("deny", second["name"], "--reason", "not now")
    refused = support("approve", second["name"], "--yes", code=Exit.DENIED)
    assert "METHOD_DENIED" in refused


def test_a_grant_that_nobody_asked_for(ward, officer):
    name = ward.file()
    said = officer(
        *("request", ward.tenant, "--give", "--identity", "support.bob", "--recording", name),
        *("--purpose", "system-operation", "--reads", "2", "--for", "2d"),
    )
    assert "Readable" in said and "2 of 2 left" in said and "1 d 23 h" in said


def test_sealed_keys_are_fetched(ward, officer, support, tmp_path):
    name = ward.file()
    ward.box.vault.keys.passphrases[ward.tenant_id] = "correct horse battery"
    ward.box.vault.keys.until[ward.tenant_id] = 2**62
    public = base64.b64encode(hpke.public_key(hpke.new_private_key())).decode()
    grant = asked(ward, support, "--recording", name, "--public-key", public)
    officer("approve", grant["name"], "--yes")
    support("keys", grant["name"], "--output", str(tmp_path / "keys"))
    assert len((tmp_path / "keys" / f"{bare(name)}.key").read_bytes()) == 1168


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--for", "8"), "OPTION_INVALID"),
        (("--for", "8h", "--until", "2030-01-01"), "OPTION_INVALID"),
        (("--for", "8h", "--from", "yesterday"), "OPTION_INVALID"),
        (("--for", "8h", "--recording", "?"), "NAME_INVALID"),
        (("--for", "8h", "--public-key", "?"), "OPTION_INVALID"),
        ((), "GRANT_TERMS_INVALID"),
        (("--for", "30d"), "GRANT_TERMS_INVALID"),
    ],
)
def test_wrong_options(ward, support, words, reason):
    said = support(
        *("request", ward.tenant, "--purpose", "system-operation", "--reads", "3", "--because", NECESSITY),
        *words,
        code=Exit.USAGE,
    )
    assert reason in said


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (timedelta(days=2, hours=3, minutes=59), "2 d 3 h"),
        (timedelta(hours=5, minutes=12), "5 h 12 min"),
        (timedelta(minutes=9, seconds=30), "9 min 30 s"),
        (timedelta(seconds=-1), ""),
    ],
)
def test_the_countdown(ahead, said):
    now = datetime(2026, 11, 1, tzinfo=UTC)
    stamp = Timestamp()
    stamp.FromDatetime(now + ahead)
    assert grantview.left(stamp, now) == said
    assert grantview.left(Timestamp(), now) == ""


def test_words_of_states():
    assert grantview.state(pb.SupportGrant(state=pb.GRANT_STATE_APPROVED)) == "not begun"
    assert grantview.state(pb.SupportGrant(state=pb.GRANT_STATE_USED_UP)) == "used up"
    asked = pb.SupportGrant(state=pb.GRANT_STATE_REQUESTED, max_reads=3)
    assert grantview.reads(asked) == "3 asked for"
