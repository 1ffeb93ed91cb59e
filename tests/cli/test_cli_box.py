"""The command line against a served box with recordings in it: JSON, exit codes, downloads, what it asks and refuses."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_kit import started
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from appliance.access import certificates, pki
from appliance.cli import main
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.exits import Exit
from appliance.demo.metadata import Participant
from appliance.demo.sbc import Sbc, SbcCall
from earwitness.v1 import box_pb2, calls_pb2, events_pb2, recordings_pb2, tenants_pb2

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("cli-box")]
DESK = "01632960200"
SOFT_LIMIT = 512


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed for programs."""
        assert self.code == Exit.OK, self.err
        return json.loads(self.out)


class Earwitness:
    """The command line, run as the entry point does, in this process."""

    def __init__(self, box: EmbeddedBox) -> None:
        self.box = box

    def __call__(self, *words: str, typed: str | None = None) -> Done:
        out, err = io.StringIO(), io.StringIO()
        before, sys.stdin = sys.stdin, io.StringIO(typed or "")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main.run(["--data", str(self.box.data), *words])
        finally:
            sys.stdin = before
        return Done(code, out.getvalue(), err.getvalue())

    def as_(self, message: type[Message], *words: str) -> Any:
        """Runs with --json; the answer must be that message, all of its plain fields present, no other field."""
        found = self(*words, "--json").json
        check_shape(message, found)
        return found

    def refused(self, code: Exit, reason: str, *words: str, typed: str | None = None) -> str:
        """Runs what must fail, in one line that names the reason."""
        done = self(*words, typed=typed)
        assert done.code == code, done.err
        line = done.err.splitlines()[-1]
        assert "earwitness: " in line and f"[{reason}]" in line
        return line


def check_shape(message: type[Message], found: dict[str, Any]) -> None:
    ParseDict(found, message())
    plain = {
        field.json_name
        for field in message.DESCRIPTOR.fields
        if not field.has_presence and field.containing_oneof is None
    }
    assert plain <= found.keys()


def party_of(caller: str) -> list[Participant]:
    return [
        Participant(f"sip:{caller}@pbx.example", "A. Caller", "1"),
        Participant(f"sip:{DESK}@pbx.example", "Desk", "2"),
    ]


def noise(seconds: float, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 0x7F, round(seconds * 8000), dtype=np.uint8).tobytes()


def until(true: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 40
    while not (value := true()):
        assert time.monotonic() < deadline, f"did not come about in time: {what}"
        time.sleep(0.05)
    return value


@pytest.fixture(autouse=True)
def purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read for where a test does not say it."""
    monkeypatch.setenv("EARWITNESS_PURPOSE", "evidence")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, hard))
    try:
        with started(tmp_path_factory.mktemp("cli") / "data") as running:
            yield running
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def earwitness(box: EmbeddedBox) -> Earwitness:
    """The command line on a box with one tenant and one line."""
    command = Earwitness(box)
    tenant = command("tenants", "create", "Elm Street Surgery", "--json").json["name"]
    command("lines", "create", tenant, "Reception", "--number", DESK, "--json").json  # noqa: B018 - must succeed
    return command


@pytest.fixture(scope="module")
def recorded(earwitness: Earwitness) -> Callable[[str], str]:
    """Places a call of one second and gives the name of its recording; once for each caller."""
    made: dict[str, str] = {}

    async def place(caller: str) -> None:
        async with Sbc("udp", earwitness.box.sip("udp")) as sbc:
            call = await sbc.place(party_of(caller), [noise(1, 1), noise(1, 2)])
            await call.play()
            await call.hang_up()

    def find(caller: str) -> str | None:
        for one in earwitness("recordings", "list", "--json").json["recordings"]:
            shown = earwitness("recordings", "show", one["name"], "--json").json
            if any(caller in party["address"] for party in shown["parties"]):
                return str(one["name"])
        return None

    def make(caller: str) -> str:
        if caller not in made:
            asyncio.run(place(caller))
            made[caller] = until(lambda: find(caller), "the recording is filed")
        return made[caller]

    return make


def test_the_box_may_open_more_files_than_a_login_shell(box: EmbeddedBox) -> None:
    limits = Path(f"/proc/{box.process.pid}/limits").read_text("ascii")
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    soft, hard = line.split()[3:5]
    assert soft == hard != str(SOFT_LIMIT)


def test_json_of_what_is_recorded(
    earwitness: Earwitness, recorded: Callable[[str], str], tmp_path: Path
) -> None:
    name = recorded("07700900201")
    listed = earwitness("recordings", "list", "--json").json
    assert set(listed) == {"recordings", "more"} and listed["more"] is False
    for one in listed["recordings"]:
        check_shape(recordings_pb2.Recording, one)
    shown = earwitness.as_(recordings_pb2.Recording, "recordings", "show", name)
    bare = name.rsplit("/", 1)[-1]
    assert earwitness("recordings", "show", bare, "--json").json == shown, "the id alone will do"
    report = earwitness.as_(recordings_pb2.VerificationReport, "recordings", "verify", bare)
    assert report["verdict"] == "VERDICT_INTACT"
    done = earwitness("recordings", "download", bare, "-o", str(tmp_path), "--json").json
    assert set(done) == {"path", "sizeBytes", "sha256", "resumedAt"}
    path = Path(done["path"])
    assert path.parent == tmp_path and bare in path.name
    assert done["sizeBytes"] == path.stat().st_size and done["resumedAt"] == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() == done["sha256"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [path.name], "nothing else stays"


def test_json_of_tenants_lines_and_the_box(earwitness: Earwitness) -> None:
    tenant = earwitness.as_(tenants_pb2.Tenant, "tenants", "create", "Second")
    line = earwitness.as_(
        tenants_pb2.Line, "lines", "create", tenant["name"], "Desk", "--number", "0199*", "--bucket", "week"
    )
    tenants = earwitness("tenants", "list", "--json").json
    assert tenant["name"] in [one["name"] for one in tenants["tenants"]]
    lines = earwitness("lines", "list", "--tenant", tenant["name"], "--json").json
    assert [one["name"] for one in lines["lines"]] == [line["name"]]
    before = len(tenants["tenants"])
    earwitness("tenants", "create", "Third", "--validate-only", "--json").json  # noqa: B018 - must succeed
    assert len(earwitness("tenants", "list", "--json").json["tenants"]) == before
    status = earwitness.as_(box_pb2.GetBoxStatusResponse, "box", "status")
    assert {"vault", "control", "signaling", "capture-0"} <= {one["process"] for one in status["processes"]}
    assert earwitness.as_(box_pb2.RebuildCatalogueResponse, "box", "rebuild-catalogue")["done"]


def test_tables_for_people(earwitness: Earwitness, recorded: Callable[[str], str]) -> None:
    name = recorded("07700900201")
    bare = name.rsplit("/", 1)[-1]
    listed = earwitness("recordings", "list")
    assert listed.code == 0 and bare in listed.out, "the id is whole: people copy it"
    shown = earwitness("recordings", "show", bare)
    assert "A. Caller" in shown.out and "caller   " in shown.out and "0:00.0" in shown.out
    assert "intact" in earwitness("recordings", "verify", bare).out
    status = earwitness("box", "status")
    assert status.code == 0 and "signaling" in status.out and "DOWN" not in status.out
    assert earwitness("calls", "list").out == "No call is up.\n"


def test_a_live_call_is_paused_resumed_and_stopped(earwitness: Earwitness) -> None:
    async def run() -> None:
        async with Sbc("udp", earwitness.box.sip("udp")) as sbc:
            call = await sbc.place(party_of("07700900202"), [noise(60, 3), noise(60, 4)])
            playing = asyncio.create_task(play(call))
            try:
                await asyncio.to_thread(commands)
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
                await call.hang_up()

    async def play(call: SbcCall) -> None:
        await call.play()

    def commands() -> None:
        listed = earwitness("calls", "list", "--json").json
        (one,) = listed["calls"]
        check_shape(calls_pb2.Call, one)
        bare = one["name"].rsplit("/", 1)[-1]
        paused = earwitness.as_(calls_pb2.Call, "calls", "pause", bare, "--reason", "card")
        assert paused["state"] == "CALL_STATE_PAUSED"
        assert earwitness("calls", "pause", bare).code in (Exit.OK, Exit.CONFLICT)
        resumed = earwitness.as_(calls_pb2.Call, "calls", "resume", bare)
        assert resumed["state"] == "CALL_STATE_RECORDING"
        assert (
            earwitness.as_(calls_pb2.Call, "calls", "stop", bare, "--reason", "asked")["name"] == one["name"]
        )

    asyncio.run(run())
    until(lambda: not earwitness("calls", "list", "--json").json["calls"], "the call is over")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("events", "watch", "--from-oldest"), events_pb2.WatchEventsResponse),
        (("calls", "watch"), calls_pb2.WatchCallsResponse),
    ],
)
def test_a_watch_writes_one_json_document_a_line(
    earwitness: Earwitness, words: tuple[str, ...], message: type[Message]
) -> None:
    command = [
        sys.executable,
        "-m",
        "appliance.cli.main",
        "--data",
        str(earwitness.box.data),
        *words,
        "--json",
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has it ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None and process.stderr is not None

        stdout = process.stdout

        async def first_line() -> str:
            async with Sbc("udp", earwitness.box.sip("udp")) as sbc:
                call = await sbc.place(party_of("07700900203"), [b"", b""])
                line = await asyncio.to_thread(stdout.readline)  # while the call is up
                await call.hang_up()
                return line

        ParseDict(json.loads(asyncio.run(first_line())), message())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == Exit.INTERRUPTED
        assert process.stderr.read() == "", "no traceback"


def test_a_download_goes_on_where_it_broke_off(
    earwitness: Earwitness, recorded: Callable[[str], str], tmp_path: Path
) -> None:
    name = recorded("07700900201")
    part = tmp_path / f".{name.rsplit('/', 1)[-1]}.wav.part"
    note = part.with_name(part.name + ".json")
    target = tmp_path / "call.wav"
    words = ("recordings", "download", name, "-o", str(target), "--json")
    whole = earwitness(*words).json
    content = target.read_bytes()
    target.unlink()
    etag = etag_of(earwitness.box, name)
    half = len(content) // 2

    def broken_off(data: bytes, etag: str) -> None:
        part.write_bytes(data)
        note.write_text(json.dumps({"name": name, "etag": etag}))

    broken_off(content[:half], etag)
    resumed = earwitness(*words).json
    assert resumed == whole | {"resumedAt": half}
    assert target.read_bytes() == content and os.listdir(tmp_path) == [target.name]

    target.unlink()
    broken_off(content[:half], "of-other-bytes")
    assert earwitness(*words).json == whole, "begun anew"

    target.unlink()
    broken_off(content + b"more", etag)
    assert earwitness(*words).json["sha256"] == whole["sha256"], "longer than the whole: begun anew"

    target.unlink()
    broken_off(b"\0" * half, etag)
    earwitness.refused(Exit.FAILED, "CHECKSUM_MISMATCH", *words[:-1])
    assert os.listdir(tmp_path) == [], "what is wrong does not stay"
    assert earwitness(*words).json == whole


def etag_of(box: EmbeddedBox, name: str) -> str:
    from appliance.cli.context import services_of

    request = recordings_pb2.DownloadRecordingRequest(
        name=name, format=recordings_pb2.DOWNLOAD_FORMAT_WAV, purpose="evidence"
    )
    with box.connection.channel() as channel:
        for item in services_of(channel).recordings.DownloadRecording(request):
            if item.HasField("header"):
                return item.header.etag
    raise AssertionError("no header")


def test_a_read_names_its_purpose(
    earwitness: Earwitness, recorded: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = recorded("07700900201")
    words = ("recordings", "download", name, "-o", str(tmp_path / "x.wav"))
    monkeypatch.delenv("EARWITNESS_PURPOSE")
    assert "one of: evidence," in earwitness.refused(Exit.USAGE, "PURPOSE_NEEDED", *words)
    assert "one of: evidence," in earwitness.refused(
        Exit.USAGE, "PURPOSE_UNKNOWN", *words, "--purpose", "fun"
    )
    assert earwitness("recordings", "show", name).code == Exit.OK, "what is known of it is no sound"
    assert os.listdir(tmp_path) == []
    assert earwitness(*words, "--purpose", "training").code == Exit.OK


def test_a_file_that_is_there_is_not_written_over(
    earwitness: Earwitness, recorded: Callable[[str], str], tmp_path: Path
) -> None:
    name = recorded("07700900201")
    target = tmp_path / "call.wav"
    target.write_text("mine")
    words = ("recordings", "download", name, "-o", str(target))
    earwitness.refused(Exit.CONFLICT, "FILE_EXISTS", *words)
    assert target.read_text() == "mine"
    assert earwitness(*words, "--force").code == 0
    assert target.read_bytes()[:4] == b"RIFF"
    earwitness.refused(
        Exit.FAILED, "WRITE_FAILED", "recordings", "download", name, "-o", str(tmp_path / "no" / "x")
    )


def test_two_downloads_of_one_recording_into_one_folder(
    earwitness: Earwitness, recorded: Callable[[str], str], tmp_path: Path
) -> None:
    import fcntl

    name = recorded("07700900201")
    part = tmp_path / f".{name.rsplit('/', 1)[-1]}.wav.part"
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        earwitness.refused(
            Exit.CONFLICT, "DOWNLOAD_RUNNING", "recordings", "download", name, "-o", str(tmp_path)
        )


def test_erasing_asks_for_the_id(
    earwitness: Earwitness, recorded: Callable[[str], str], tmp_path: Path
) -> None:
    name = recorded("07700900204")
    bare = name.rsplit("/", 1)[-1]
    assert "--reason" in earwitness.refused(Exit.USAGE, "USAGE", "recordings", "erase", bare)
    for typed in ("", "yes\n", bare[:-1] + "\n"):
        earwitness.refused(
            Exit.FAILED, "NOT_CONFIRMED", "recordings", "erase", bare, "--reason", "test", typed=typed
        )
    assert earwitness("recordings", "verify", bare).code == 0
    part = tmp_path / f".{bare}.wav.part"
    part.write_bytes(b"begun")
    part.with_name(part.name + ".json").write_text(
        json.dumps({"name": name, "etag": etag_of(earwitness.box, name)})
    )
    done = earwitness("recordings", "erase", bare, "--reason", "test", "--json", typed=bare + "\n")
    assert done.json["state"] == "RECORDING_STATE_ERASED", "the question is not in the JSON"
    earwitness.refused(Exit.ERASED, "ERASED", "recordings", "download", name, "-o", str(tmp_path))
    assert os.listdir(tmp_path) == [], "nothing of it stays here either"
    assert earwitness("recordings", "verify", bare).code == Exit.ERASED
    shown = earwitness("recordings", "show", bare)
    assert shown.code == 0 and "erased" in shown.out
    (row,) = [line for line in earwitness("recordings", "list", "--deleted").out.splitlines() if bare in line]
    assert row.rstrip().endswith("erased") and "0:00" not in row, "no length is told of what is no more"


def test_what_is_not_there_is_not_found(earwitness: Earwitness) -> None:
    for command in ("show", "download", "verify", "delete", "undelete"):
        assert earwitness("recordings", command, "a" * 26).code == Exit.NOT_FOUND
    assert earwitness("calls", "pause", "a" * 26).code == Exit.NOT_FOUND


def test_certificates_of_another_authority_and_what_is_none(earwitness: Earwitness, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = certificates.make_authority("another", now)
    stranger = certificates.make_client(authority, "stranger", now)
    for name, content in (
        ("ca", authority.certificate_pem),
        ("crt", stranger.certificate_pem),
        ("key", stranger.key_pem),
        ("junk", b"no PEM"),
    ):
        (tmp_path / name).write_bytes(content)
    ca, crt, key, junk = (str(tmp_path / name) for name in ("ca", "crt", "key", "junk"))
    earwitness.refused(Exit.DENIED, "SERVER_NOT_TRUSTED", "--ca", ca, "calls", "list")
    earwitness.refused(Exit.USAGE, "CREDENTIALS_INVALID", "--ca", junk, "calls", "list")
    command = [sys.executable, "-m", "appliance.cli.main", "--data", str(earwitness.box.data), "--ca", ca]
    done = subprocess.run([*command, "calls", "list"], capture_output=True, text=True, timeout=60)
    assert done.stderr.count("\n") == 1, "one line, and none of gRPC's own"
    earwitness.refused(Exit.UNAVAILABLE, "CONNECTION_CLOSED", "--cert", crt, "--key", key, "calls", "list")


def test_a_certificate_that_is_issued_and_not_enrolled_is_denied(earwitness: Earwitness) -> None:
    issued = pki.issue(earwitness.box.layout, "visitor")
    done = earwitness("--cert", str(issued.certificate), "--key", str(issued.key), "recordings", "list")
    assert done.code == Exit.DENIED, done.err
    assert done.err.startswith("earwitness: ") and done.err.count("\n") == 1
