"""`earwitness identities`, `login` and `logout` against a real control over TLS."""

from __future__ import annotations

import json
import os
import stat
import time

import pytest
from access_kit import PASSPHRASE, Authenticator, Ground

import earwitness
from appliance.cli import logins
from appliance.cli.main import run
from earwitness.v1 import access_pb2 as pb


@pytest.fixture
def ground(make_box, monkeypatch, tmp_path):
    made = Ground(make_box())
    made.box.layout.run.mkdir(parents=True, exist_ok=True)
    addresses = {
        "api": f"127.0.0.1:{made.box.port}",
        "tokens": f"127.0.0.1:{made.box.control.token_port}",
    }
    (made.box.layout.run / "addresses.json").write_text(json.dumps(addresses))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("EARWITNESS_DATA", str(made.box.layout.root))
    monkeypatch.chdir(tmp_path)
    yield made
    made.close()


@pytest.fixture
def cli(ground, capsys):
    """Runs a command; gives what it prints, as JSON where it is."""

    def command(*words: str, expect: int = 0, typed: tuple[str, ...] = ()):
        arguments = list(words)
        if typed:
            read, write = os.pipe()
            os.write(write, "\n".join(typed).encode())
            os.close(write)
            arguments += ["--passphrase-fd", str(read)]
        capsys.readouterr()
        code = run(arguments)
        out, err = capsys.readouterr()
        assert code == expect, (code, out, err)
        command.errors = err
        return json.loads(out) if "--json" in words and expect == 0 else out

    return command


def sign_in(ground, cli) -> Authenticator:
    cli("identities", "create", "ada", "--role", "operator")
    code = cli("identities", "passphrase", "ada", "--yes").strip()
    answer = ground.stranger().EnrolPassphrase(
        pb.EnrolPassphraseRequest(name="identities/ada", enrolment_code=code, passphrase=PASSPHRASE)
    )
    device = Authenticator(ground.box, answer.totp_uri, list(answer.recovery_codes))
    cli("login", "ada", typed=(PASSPHRASE, device.later()))
    return device


def test_from_nothing_to_a_client_with_its_own_certificate(ground, cli, tmp_path):
    assert cli("identities", "create", "ris", "--role", "integration", "--json")["roles"] == [
        "IDENTITY_ROLE_INTEGRATION"
    ]
    made = cli("identities", "issue", "ris", "--days", "30", "--out", str(tmp_path / "keys"), "--json")
    assert stat.S_IMODE(os.stat(made["key"]).st_mode) == 0o600
    server = f"127.0.0.1:{ground.box.port}"
    with earwitness.connect(server, ground.ca, made["path"], made["key"]) as box:
        assert box.access.GetCaller(pb.GetCallerRequest()).identity.name == "identities/ris"
    own = ("--cert", made["path"], "--key", made["key"])
    renewed = cli(*own, "identities", "renew", "--out", str(tmp_path / "keys"), "--json")
    assert renewed["path"] != made["path"] and renewed["certificate"]["renewedFrom"].startswith(
        "identities/ris/"
    )
    shown = cli("identities", "show", "ris", "--json")
    assert len(shown["certificates"]) == 2 and shown["identity"]["creator"] == "identities/admin"
    prefix = shown["certificates"][0]["name"].rsplit("/", 1)[1][:10]
    cli("identities", "revoke", "ris", prefix, "--yes")
    cli("--cert", renewed["path"], "--key", renewed["key"], "identities", "list", expect=4)
    assert "CERTIFICATE_REVOKED" in cli.errors


def test_a_request_whose_key_stays_elsewhere(ground, cli, tmp_path):
    from appliance.cli.certificaterequests import key_and_request

    cli("identities", "create", "ris", "--role", "integration")
    _, request = key_and_request("anything")
    (tmp_path / "ris.csr").write_bytes(request)
    made = cli("identities", "issue", "ris", "--request", str(tmp_path / "ris.csr"), "--json")
    assert made["key"] is None and not (tmp_path / "ris.key").exists()
    cli("identities", "issue", "ris", "--request", str(tmp_path / "none.csr"), expect=2)


def test_no_certificate_is_issued_whose_key_is_not_kept(ground, cli, tmp_path):
    cli("identities", "create", "ris", "--role", "integration")
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "ris.key").symlink_to(tmp_path / "none" / "ris.key")  # not there, and cannot be written either
    cli("identities", "issue", "ris", "--out", str(keys), expect=8)
    assert "FILE_EXISTS" in cli.errors
    assert not cli("identities", "show", "ris", "--json").get("certificates")
    (keys / "ris.key").unlink()
    cli("identities", "issue", "nobody", "--out", str(keys), expect=3)
    assert not list(keys.iterdir()), "a key that is nobody's is not left behind"
    first = cli("identities", "issue", "ris", "--out", str(keys), "--json")
    second = cli("identities", "issue", "ris", "--out", str(keys), "--json")
    pairs = [(one["path"], one["key"]) for one in (first, second)]
    assert all(path.removesuffix(".crt") == key.removesuffix(".key") for path, key in pairs)
    assert len(list(keys.iterdir())) == 4


def test_a_key_is_kept_where_its_certificate_may_have_been_issued(ground, cli, tmp_path, monkeypatch):
    cli("identities", "create", "ris", "--role", "integration")
    monkeypatch.setattr("appliance.cli.identitycertificates.CALL_TIMEOUT_S", 0.0)
    cli("identities", "issue", "ris", "--out", str(tmp_path / "keys"), expect=5)
    (kept,) = (tmp_path / "keys").iterdir()
    assert kept.name == "ris.key" and "keys/ris.key" in cli.errors.replace("\n", "")


def test_login_is_kept_and_used_and_forgotten(ground, cli):
    sign_in(ground, cli)
    path = logins.place()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    # The login goes before the admin's certificate now.
    cli("identities", "create", "x", "--role", "support")
    assert cli("identities", "show", "x", "--json")["identity"]["creator"] == "identities/ada"
    assert len(cli("identities", "show", "ada", "--json")["sessions"]) == 1
    token = json.loads(path.read_text())[f"127.0.0.1:{ground.box.control.token_port}"]["token"]
    cli("logout")
    assert token not in path.read_text()
    cli("identities", "create", "y", "--role", "support")
    assert cli("identities", "show", "y", "--json")["identity"]["creator"] == "identities/admin"
    cli("logout", expect=3)
    (path.parent / "token").write_text(token)
    cli("--token-file", str(path.parent / "token"), "identities", "list", expect=4)
    assert "TOKEN_INVALID" in cli.errors


def test_a_login_that_others_can_read_is_not_used(ground, cli):
    sign_in(ground, cli)
    logins.place().chmod(0o644)
    cli("identities", "list", expect=4)
    assert "LOGINS_OPEN" in cli.errors


def test_a_login_that_is_over(ground, cli, monkeypatch):
    sign_in(ground, cli)
    now = time.time()
    monkeypatch.setattr("appliance.cli.logins.time.time", lambda: now + 13 * 3600)
    cli("identities", "list", expect=4)
    assert "LOGIN_OVER" in cli.errors
    cli("logout")
    cli("identities", "list")


def test_a_token_file_and_the_library(ground, cli, tmp_path):
    device = sign_in(ground, cli)
    answer = ground.sign_in("ada", device.later())
    server = f"127.0.0.1:{ground.box.control.token_port}"
    (tmp_path / "token").write_text(answer.token + "\n")
    shown = cli(
        "--server", server, "--ca", str(ground.box.layout.pki / "ca.crt"),
        "--token-file", str(tmp_path / "token"), "identities", "list", "--json",
    )  # fmt: skip
    assert "identities/admin" in [one["name"] for one in shown["identities"]]
    asked = []

    def token() -> str:
        asked.append(1)
        return answer.token

    with earwitness.connect(server, ground.ca, token=token) as box:
        for _ in range(2):
            assert box.access.GetCaller(pb.GetCallerRequest()).identity.name == "identities/ada"
    assert len(asked) == 2
    for wrong in ({}, {"token": "x", "certificate": b"", "key": b""}, {"certificate": b""}):
        with pytest.raises(ValueError, match="a token"):
            earwitness.connect(server, ground.ca, **wrong)


def test_changing_ones_own(ground, cli):
    device = sign_in(ground, cli)
    cli("identities", "totp", typed=(PASSPHRASE, device.later()))
    assert "otpauth://totp/" in cli.errors and cli.errors.count("-") > 20
    secret = next(word for word in cli.errors.split() if word.startswith("otpauth://"))
    fresh = Authenticator(ground.box, secret, [])
    cli("identities", "list", expect=4)
    cli("login", "ada", typed=(PASSPHRASE, fresh.later()))
    cli("identities", "passphrase", typed=(PASSPHRASE, fresh.later(), "another staple entirely"))
    cli("login", "ada", typed=("another staple entirely", fresh.later()))
    cli("identities", "list")


def test_enrolling_at_the_first_login(ground, cli):
    cli("identities", "create", "ada", "--role", "operator")
    code = cli("identities", "passphrase", "ada", "--yes").strip()
    cli("login", "ada", "--enrol", typed=(code, PASSPHRASE, "000000"), expect=4)
    assert "otpauth://totp/" in cli.errors and "SIGN_IN_REFUSED" in cli.errors


def test_a_box_that_takes_no_tokens(ground, cli):
    (ground.box.layout.run / "addresses.json").write_text(json.dumps({"api": f"127.0.0.1:{ground.box.port}"}))
    cli("login", "ada", typed=("x", "y"), expect=8)
    assert "NO_TOKEN_LISTENER" in cli.errors
    cli("identities", "list")


def test_disable_enable_update(ground, cli):
    cli("identities", "create", "ris", "--role", "support")
    cli("identities", "disable", "ris")
    assert "disabled" in cli("identities", "list")
    cli("identities", "enable", "ris")
    assert cli("identities", "update", "ris", "--role", "integration", "--json")["roles"] == [
        "IDENTITY_ROLE_INTEGRATION"
    ]
    cli("identities", "update", "ris", expect=2)
    cli("identities", "create", "x", "--role", "king", expect=2)
    cli("identities", "disable", "admin", expect=8)
    assert "LAST_OPERATOR" in cli.errors


def test_expiring(ground, cli):
    cli("identities", "create", "ris", "--role", "integration")
    cli("identities", "issue", "ris", "--days", "10")
    found = cli("identities", "list", "--expiring", "14", "--json")["identities"]
    assert [one["name"] for one in found] == ["identities/ris"]
    assert cli("identities", "list", "--expiring", "9", "--json") == {"identities": []}


def test_people_of_a_tenant_are_named_with_it_where_they_sign_in(ground, cli):
    who = f"{ground.tenant_id}/ada"
    cli("identities", "create", "ada", "--role", "auditor", "--tenant", ground.tenant_id)
    code = cli("identities", "passphrase", who, "--yes").strip()
    assert f"earwitness login --enrol {who}" in " ".join(cli.errors.split())
    answer = ground.stranger().EnrolPassphrase(
        pb.EnrolPassphraseRequest(
            name=f"tenants/{ground.tenant_id}/identities/ada", enrolment_code=code, passphrase=PASSPHRASE
        )
    )
    device = Authenticator(ground.box, answer.totp_uri, list(answer.recovery_codes))
    cli("login", "ada", typed=(PASSPHRASE, device.later()), expect=4)
    assert "SIGN_IN_REFUSED" in cli.errors, "of the box there is none"
    assert f"signed in as {who} at" in " ".join(cli("login", who, typed=(PASSPHRASE, device.later())).split())
    # Of one's own tenant the name is enough.
    shown = cli("identities", "show", "ada", "--json")["identity"]
    assert shown["name"] == f"tenants/{ground.tenant_id}/identities/ada"
