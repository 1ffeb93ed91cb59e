"""What the command line says and how it exits where it cannot do what was asked. No box is needed for that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from appliance.access import certificates
from appliance.cli import main
from appliance.cli.exits import Exit, from_error, from_rpc
from appliance.model import (
    ConflictError,
    CorruptError,
    DeniedError,
    EarwitnessError,
    ErasedError,
    ExhaustedError,
    ExistsError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
    new_id,
)
from appliance.process.interceptors import ErrorInterceptor
from earwitness.v1 import box_pb2, box_pb2_grpc

ID = new_id()


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Earwitness = Callable[..., Done]


@pytest.fixture
def earwitness(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Earwitness:
    """Runs the command line as the entry point does, in this process: it starts in half a second."""
    for name in [name for name in os.environ if name.startswith("EARWITNESS_")]:
        monkeypatch.delenv(name)

    def run(data: Path, *words: str) -> Done:
        code = main.run(["--data", str(data), *words])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


def said(done: Done) -> str:
    """The one line of an error."""
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("earwitness: ")
    return line


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("nonsense",), "nonsense"),
        (("recordings", "show"), "name"),
        (("recordings", "list", "--colour"), "--colour"),
        (("recordings", "list", "--limit", "few"), "--limit"),
        (("recordings", "list", "--limit", "0"), "--limit"),
        (("recordings", "show", "x"), "NAME_INVALID"),
        (("recordings", "show", ID.upper()), "NAME_INVALID"),
        (("recordings", "download", ID, "--format", "mp3"), "FORMAT_UNKNOWN"),
        (("lines", "create", ID, "Desk", "--bucket", "year"), "OPTION_INVALID"),
        (("lines", "create", ID, "Desk", "--direction", "up"), "OPTION_INVALID"),
        (("lines", "create", ID, "Desk", "--grace-days", "-1"), "--grace-days"),
        (("serve", "--sip-port", "nine"), "--sip-port"),
        (("serve", "--sip-port", "70000"), "sip.udp_port"),
        (("serve", "--media-ports", "20000-20001", "--workers", "2"), "media"),
        (("serve", "--media-ports", "high"), "media.port_min"),
        (("serve", "--log-level", "loud"), "log_level"),
        (("serve", "--config", "/nowhere/site.toml"), "site file"),
    ],
)
def test_what_is_typed_wrong_is_one_line_that_names_it(
    earwitness: Earwitness, tmp_path: Path, words: tuple[str, ...], hint: str
) -> None:
    done = earwitness(tmp_path / "data", *words)
    assert done.returncode == Exit.USAGE
    assert hint in said(done)
    assert not (tmp_path / "data").exists(), "nothing was made"


def test_the_exit_code_reaches_the_shell_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "appliance.cli.main", "--data", str(tmp_path), "nonsense"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("earwitness: ") and done.stderr.count("\n") == 1


def test_a_group_without_a_command_shows_its_help(earwitness: Earwitness, tmp_path: Path) -> None:
    done = earwitness(tmp_path, "recordings")
    assert done.returncode == Exit.USAGE and done.stdout.count("Usage:") == 1


@pytest.mark.parametrize("group", [(), ("recordings",), ("box",)])
def test_help(earwitness: Earwitness, tmp_path: Path, group: tuple[str, ...]) -> None:
    done = earwitness(tmp_path, *group, "--help")
    assert done.returncode == 0 and "Usage:" in done.stdout


def test_a_site_file_with_an_unknown_key(earwitness: Earwitness, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text("[sip]\nadress = '127.0.0.1'\n")
    done = earwitness(tmp_path / "data", "serve", "--config", str(site))
    assert done.returncode == Exit.USAGE and "sip.adress" in said(done)


def test_no_box_on_this_machine(earwitness: Earwitness, tmp_path: Path) -> None:
    done = earwitness(tmp_path, "calls", "list")
    assert done.returncode == Exit.UNAVAILABLE
    assert "NO_LOCAL_BOX" in said(done) and "earwitness serve" in said(done)


def test_a_certificate_that_cannot_be_read(
    earwitness: Earwitness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARWITNESS_SERVER", "127.0.0.1:1")
    monkeypatch.setenv("EARWITNESS_CA", str(tmp_path / "ca.crt"))
    done = earwitness(tmp_path, "calls", "list")
    assert done.returncode == Exit.USAGE
    assert "CREDENTIALS_MISSING" in said(done) and "--ca" in said(done)


def test_nobody_answers(earwitness: Earwitness, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = certificates.make_authority("test", now)
    client = certificates.make_client(authority, "test", now)
    files = {"ca": authority.certificate_pem, "cert": client.certificate_pem, "key": client.key_pem}
    options = []
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        options += [f"--{name}", str(tmp_path / name)]
    done = earwitness(tmp_path, "--server", "127.0.0.1:1", *options, "calls", "list")
    assert done.returncode == Exit.UNAVAILABLE
    assert "does not answer" in said(done)


def test_a_data_directory_that_is_a_file(earwitness: Earwitness, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    done = earwitness(tmp_path / "data", "serve")
    assert done.returncode == Exit.CONFLICT
    assert "DATA_DIRECTORY_UNUSABLE" in said(done) and str(tmp_path / "data") in said(done)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (InvalidError, Exit.USAGE),
        (NotFoundError, Exit.NOT_FOUND),
        (DeniedError, Exit.DENIED),
        (UnauthenticatedError, Exit.DENIED),
        (UnavailableError, Exit.UNAVAILABLE),
        (ExhaustedError, Exit.FAILED),
        (PreconditionError, Exit.CONFLICT),
        (ConflictError, Exit.CONFLICT),
        (ExistsError, Exit.CONFLICT),
        (CorruptError, Exit.NOT_INTACT),
        (ErasedError, Exit.ERASED),
        (EarwitnessError, Exit.FAILED),
    ],
)
def test_an_error_has_one_exit_code_wherever_it_was_raised(kind: type[EarwitnessError], code: Exit) -> None:
    """The same whether it is raised here or comes over the API."""
    error = kind("words", thing="x")
    assert from_error(error).code is code

    class Failing(box_pb2_grpc.BoxServiceServicer):
        def GetBoxStatus(self, request: object, context: object) -> box_pb2.GetBoxStatusResponse:
            raise error

    server = grpc.server(ThreadPoolExecutor(1), interceptors=[ErrorInterceptor()])
    box_pb2_grpc.add_BoxServiceServicer_to_server(Failing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            box_pb2_grpc.BoxServiceStub(channel).GetBoxStatus(box_pb2.GetBoxStatusRequest(), timeout=10)
    finally:
        server.stop(0).wait()
    failure = from_rpc(caught.value)
    assert (failure.code, failure.reason) == (code, kind.reason)


def test_the_codes_are_those_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    table = page.split("## Exit codes")[1].split("##")[0]
    documented = {int(line.split("|")[1]) for line in table.splitlines() if line[:3].strip("| ").isdigit()}
    assert documented == {int(code) for code in Exit}
