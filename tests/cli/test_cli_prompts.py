"""Prompts and line rules on the command line, against a served box."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_kit import started
from google.protobuf.json_format import ParseDict

from appliance.cli import main
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.exits import Exit
from appliance.media.audio.encode import wav_header
from appliance.model import new_id
from earwitness.v1 import prompts_pb2, tenants_pb2

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("cli-prompts")]
WORDS = "This call is recorded for training."


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == Exit.OK, self.err
        return json.loads(self.out)


class Earwitness:
    """The command line, run as the entry point does, in this process."""

    def __init__(self, box: EmbeddedBox) -> None:
        self.box = box

    def __call__(self, *words: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.run(["--data", str(self.box.data), *words])
        return Done(code, out.getvalue(), err.getvalue())

    def refused(self, code: Exit, reason: str, *words: str) -> str:
        done = self(*words)
        assert done.code == code, done.err
        line = done.err.splitlines()[-1]
        assert f"[{reason}]" in line
        return line


@pytest.fixture(scope="module")
def earwitness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earwitness]:
    with started(tmp_path_factory.mktemp("cli") / "data") as running:
        yield Earwitness(running)


@pytest.fixture(scope="module")
def home(earwitness: Earwitness) -> str:
    return str(earwitness("tenants", "list", "--json").json["tenants"][0]["name"])


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "greeting.wav"
    pcm = (np.random.default_rng(5).standard_normal(16000) * 600).astype("<i2")
    path.write_bytes(wav_header(8000, 1, len(pcm)) + pcm.tobytes())
    return path


@pytest.fixture(scope="module")
def spoken(earwitness: Earwitness, home: str, wav: Path) -> str:
    """Id of a prompt that lines of these tests use."""
    said = ("--language", "en-gb", "--text", WORDS, "--purpose", "training", "--tenant", home)
    done = earwitness("prompts", "add", str(wav), *said)
    assert done.code == Exit.OK, done.err
    assert "raised by" in done.err and "8000 Hz" in done.err
    return done.out.strip()


@pytest.fixture
def line(earwitness: Earwitness, home: str) -> str:
    return str(
        earwitness("lines", "create", home, "Desk", "--target-in", "sip:a.example", "--json").json["name"]
    )


def shown(earwitness: Earwitness, name: str) -> tenants_pb2.Line:
    return ParseDict(earwitness("lines", "show", name, "--json").json, tenants_pb2.Line())


def test_prompts_are_listed_and_shown(earwitness: Earwitness, spoken: str, home: str) -> None:
    found = earwitness("prompts", "list", "--json").json["prompts"]
    assert [one["displayName"] for one in found][:1] == ["greeting"] and len(found) == 7
    assert sum(one["name"].startswith("prompts/") for one in found) == 6
    of_tenant = earwitness("prompts", "list", "--tenant", home, "--json").json["prompts"]
    assert of_tenant == found
    table = earwitness("prompts", "list").out
    assert spoken in table and "the box" in table and "Default tenant" in table and "cy" in table
    one = ParseDict(earwitness("prompts", "show", spoken, "--json").json, prompts_pb2.Prompt())
    assert (one.language, one.text, list(one.purposes)) == ("en-GB", WORDS, ["training"])
    text = earwitness("prompts", "show", one.name).out
    assert WORDS in text and "0:02.0" in text and hashlib.sha256(WORDS.encode()).hexdigest()[:20] in text
    sample = found[-1]["name"]
    assert earwitness("prompts", "show", sample, "--json").json == found[-1]
    assert earwitness("prompts", "show", sample[-26:], "--json").json == found[-1]


def test_a_prompt_is_downloaded(earwitness: Earwitness, spoken: str, tmp_path: Path) -> None:
    done = earwitness("prompts", "get", spoken, "-o", str(tmp_path), "--json").json
    path = tmp_path / f"{spoken}.wav"
    assert done == {
        "path": str(path),
        "sizeBytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16000, 1) and file.getnframes() >= 32000
    earwitness.refused(Exit.CONFLICT, "FILE_EXISTS", "prompts", "get", spoken, "-o", str(path))
    assert earwitness("prompts", "get", spoken, "-o", str(path), "--force").code == Exit.OK
    away = str(tmp_path / "no" / "where.wav")
    earwitness.refused(Exit.FAILED, "FILE_UNWRITABLE", "prompts", "get", spoken, "-o", away)
    assert sorted(os.listdir(tmp_path)) == [path.name]


def test_what_is_no_prompt(earwitness: Earwitness, home: str, wav: Path, tmp_path: Path) -> None:
    said = ("--language", "en-GB", "--text", WORDS, "--tenant", home)
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"not a sound")
    assert "WAV, FLAC or Ogg" in earwitness.refused(
        Exit.USAGE, "PROMPT_FORMAT", "prompts", "add", str(noise), *said
    )
    earwitness.refused(Exit.USAGE, "FILE_UNREADABLE", "prompts", "add", str(tmp_path / "none"), *said)
    earwitness.refused(Exit.USAGE, "FILE_UNREADABLE", "prompts", "add", str(tmp_path), *said)
    bad = ("--language", "English", "--text", WORDS, "--tenant", home)
    assert "en-GB" in earwitness.refused(Exit.USAGE, "FIELD_INVALID", "prompts", "add", str(wav), *bad)
    assert earwitness("prompts", "add", str(wav), *said, "--validate-only").out.strip() == "valid"
    earwitness.refused(Exit.NOT_FOUND, "PROMPT_NOT_FOUND", "prompts", "show", new_id())
    earwitness.refused(Exit.USAGE, "NAME_INVALID", "prompts", "show", "greeting")


def test_prompts_are_deleted_when_no_line_uses_them(earwitness: Earwitness, home: str, wav: Path) -> None:
    # One tenant alone: it need not be named.
    made = earwitness("prompts", "add", str(wav), "--language", "de", "--text", "Hallo", "--json").json
    name = made["prompt"]["name"]
    assert name.startswith(home) and made["sound"]["sampleRate"] == 8000
    line = earwitness(
        "lines", "create", home, "Used", "--target-in", "sip:a.example", "--whisper", name, "--json"
    ).json["name"]
    earwitness.refused(Exit.CONFLICT, "PROMPT_IN_USE", "prompts", "delete", name)
    assert earwitness("lines", "update", line, "--clear", "whisper").code == Exit.OK
    assert earwitness("prompts", "delete", name, "--validate-only").out.strip() == "valid"
    assert earwitness("prompts", "delete", name[-26:]).out.strip() == "Deleted."
    earwitness.refused(Exit.NOT_FOUND, "PROMPT_NOT_FOUND", "prompts", "delete", name)
    sample = earwitness("prompts", "list", "--json").json["prompts"][-1]["name"]
    earwitness.refused(Exit.CONFLICT, "PROMPT_SHIPPED", "prompts", "delete", sample)


def test_a_line_with_everything(earwitness: Earwitness, home: str, spoken: str) -> None:
    made = earwitness(
        *("lines", "create", home, "Reception", "--number", "01632960200"),
        *("--target-in", "sip:pbx.example;transport=tls+srtp", "--target-in", "sip:other.example"),
        *(
            "--target-out",
            "sip:trunk.example",
            "--ring",
            "20",
            "--announcement",
            spoken,
            "--announce",
            "after",
        ),
        *("--interruptible", "--whisper", spoken, "--tone", "15", "--rights", "pause", "--agent", "201=end"),
        *(
            "--agent",
            "3*=none",
            "--auto-resume",
            "120",
            "--reminder",
            "0",
            "--key-pause",
            "*7",
            "--key-end",
            "",
        ),
        "--json",
    ).json
    line = ParseDict(made, tenants_pb2.Line())
    assert [(one.uri, one.srtp) for one in line.inline.inbound] == [
        ("sip:pbx.example;transport=tls", True),
        ("sip:other.example", False),
    ]
    assert [one.uri for one in line.inline.outbound] == ["sip:trunk.example"]
    assert list(line.inline.announcement.prompts) == [f"{home}/prompts/{spoken}"]
    assert line.inline.announcement.when == tenants_pb2.ANNOUNCE_WHEN_AFTER_ANSWER
    assert line.inline.announcement.interruptible and line.inline.whisper == f"{home}/prompts/{spoken}"
    assert (line.inline.ring_time.seconds, line.inline.tone_interval.seconds) == (20, 15)
    assert line.rights == tenants_pb2.RIGHTS_PAUSE
    assert [(one.number, one.may) for one in line.agents] == [
        ("201", tenants_pb2.RIGHTS_END),
        ("3*", tenants_pb2.RIGHTS_NONE),
    ]
    assert (line.auto_resume_delay.seconds, line.reminder_interval.seconds) == (120, 0)
    assert (line.keys.pause, line.keys.resume, line.keys.end) == ("*7", "*3", "")
    assert shown(earwitness, line.name) == line
    text = " ".join(earwitness("lines", "show", line.name).out.split())
    for part in (
        "Reception",
        "01632960200",
        "sip:pbx.example;transport=tls (media encrypted) sip:other.example",
        "Rings 20 s each",
        f"en-GB greeting ({spoken})",
        "after the answer, any key ends it",
        "Tone every 15 s",
        "Agents may pause and resume",
        "201: pause, resume and end 3*: nothing",
        "pause *7, resume *3",
        "by itself after 120 s",
        "Reminder none",
    ):
        assert part in text, text


def test_a_change_leaves_the_rest(earwitness: Earwitness, line: str, spoken: str) -> None:
    before = shown(earwitness, line)
    done = earwitness("lines", "update", line, "--announcement", spoken)
    assert done.code == Exit.OK and "before the answer" in done.out, done.err
    earwitness(
        "lines", "update", line[-26:], "--announce", "after", "--interruptible", "--name", "Front desk"
    )
    earwitness("lines", "update", line, "--srtp", "--target-out", "sip:trunk.example", "--key-resume", "*9")
    after = shown(earwitness, line)
    assert after.display_name == "Front desk" and after.inline.inbound == before.inline.inbound
    assert after.inline.outbound[0].srtp and after.keys.resume == "*9" and after.keys.pause == "*2"
    assert len(after.inline.announcement.prompts) == 1 and after.inline.announcement.interruptible
    dry = earwitness("lines", "update", line, "--not-interruptible", "--validate-only", "--json").json
    assert not dry["inline"]["announcement"]["interruptible"] and shown(earwitness, line) == after
    stale = ("lines", "update", line, "--rights", "end", "--etag", before.etag)
    earwitness.refused(Exit.CONFLICT, "ETAG_MISMATCH", *stale)
    assert earwitness("lines", "update", line, "--rights", "end", "--etag", after.etag).code == Exit.OK
    assert earwitness("lines", "update", line, "--clear", "inline").code == Exit.OK
    assert not shown(earwitness, line).HasField("inline")
    assert "SIPREC" in earwitness("lines", "show", line).out


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("OPTION_MISSING", ()),
        ("OPTION_MISSING", ("--srtp",)),
        ("OPTION_INVALID", ("--rights", "all")),
        ("OPTION_INVALID", ("--announce", "never")),
        ("OPTION_INVALID", ("--agent", "201")),
        ("OPTION_INVALID", ("--agent", "201=all")),
        ("OPTION_INVALID", ("--clear", "everything")),
        ("OPTION_INVALID", ("--clear", "inline", "--tone", "15")),
        ("NAME_INVALID", ("--whisper", "hello")),
        ("FIELD_INVALID", ("--target-in", "pbx.example")),
        ("FIELD_INVALID", ("--clear", "target-in")),
        ("FIELD_INVALID", ("--key-end", "*2")),
        ("FIELD_INVALID", ("--auto-resume", "5")),
    ],
)
def test_what_is_refused(earwitness: Earwitness, line: str, reason: str, words: tuple[str, ...]) -> None:
    before = shown(earwitness, line)
    earwitness.refused(Exit.USAGE, reason, "lines", "update", line, *words)
    assert shown(earwitness, line) == before


def test_numbers_that_are_taken(earwitness: Earwitness, home: str, line: str) -> None:
    number = "01632960999"
    assert earwitness("lines", "update", line, "--number", number).code == Exit.OK
    taken = ("lines", "create", home, "Other", "--number", "+441632960999")
    said = earwitness.refused(Exit.CONFLICT, "NUMBER_TAKEN", *taken)
    assert "another line" in said and line in said
