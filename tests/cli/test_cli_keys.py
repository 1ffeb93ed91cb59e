"""Keys on the command line: a tenant's own passphrase at a served box, and the holder's side of a grant without one."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import stat
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_kit import started

from appliance.cli import main
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.exits import Exit
from appliance.model import Direction, Party, PayloadFormat, RecordingInfo, Role, TrackInfo, id_bytes, new_id
from appliance.storage import sealed
from appliance.storage.keystore.granted import seal_data_key

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("cli-keys")]
WORDS = "a passphrase of the practice"
OTHER = "the other words of the practice"
SECOND = 10**9
START = 1_790_000_000 * SECOND


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


def run(*words: str) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(list(words))
    return Done(code, out.getvalue(), err.getvalue())


def typed(data: Path, *words: str, secrets: tuple[str, ...]) -> Done:
    """With passphrases on a descriptor."""
    reading, writing = os.pipe()
    try:
        os.write(writing, "\n".join(secrets).encode() + b"\n")
        os.close(writing)
        return run("--data", str(data), *words, "--passphrase-fd", str(reading))
    finally:
        os.close(reading)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("cli") / "data") as running:
        yield running


def test_a_tenants_own_passphrase(box: EmbeddedBox) -> None:
    data = ("--data", str(box.data))
    (shown,) = run(*data, "keys", "show", "--json").json["keys"]
    tenant = shown["name"].split("/")[1]
    assert (shown["mode"], shown["state"]) == ("KEY_MODE_AUTO", "KEY_STATE_OPEN")
    assert "open to the box" in run(*data, "keys", "show", tenant).out

    attended = ("keys", "mode", tenant, "attended")
    done = typed(box.data, *attended, "--yes", secrets=("short",))
    assert done.code == Exit.USAGE and "PASSPHRASE_FORMAT" in done.err and "short" not in done.err
    assert typed(box.data, *attended, "--validate-only", secrets=(WORDS,)).code == Exit.OK
    done = typed(box.data, *attended, "--yes", "--json", secrets=(WORDS,))
    assert done.json["state"] == "KEY_STATE_LOCKED"
    recovery = done.json["recoveryKey"]
    assert recovery.count("-") > 8

    wrong = typed(box.data, "keys", "unlock", tenant, secrets=(OTHER,))
    assert wrong.code == Exit.DENIED and "PASSPHRASE_WRONG" in wrong.err and OTHER not in wrong.err
    soon = typed(box.data, "keys", "unlock", tenant, secrets=(WORDS,))
    assert soon.code in (Exit.OK, Exit.FAILED)  # a moment after the wrong one
    while "PASSPHRASE_TOO_SOON" in soon.err:
        soon = typed(box.data, "keys", "unlock", tenant, "--for", "30m", secrets=(WORDS,))
    assert soon.code == Exit.OK and "unlocked" in soon.out
    assert "locked: recording goes on" in run(*data, "keys", "lock", tenant).out

    changed = typed(box.data, "keys", "passphrase", tenant, "--renew-recovery-key", secrets=(WORDS, OTHER))
    assert changed.code == Exit.OK and "Recovery key" in changed.out and "shown this once" in changed.err
    done = typed(box.data, "keys", "unlock", tenant, "--recovery-key", secrets=(recovery,))
    assert done.code == Exit.DENIED  # it opens nothing any more
    done = typed(box.data, "keys", "mode", tenant, "auto", "--yes", "--json", secrets=(OTHER,))
    while "PASSPHRASE_TOO_SOON" in done.err:
        done = typed(box.data, "keys", "mode", tenant, "auto", "--yes", "--json", secrets=(OTHER,))
    assert done.json["mode"] == "KEY_MODE_AUTO"


@pytest.mark.parametrize(
    ("words", "secrets", "reason"),
    [
        (("keys", "mode", "a" * 26, "auto"), (), "NOT_CONFIRMED"),
        (("keys", "mode", "a" * 26, "else", "--yes"), (), "OPTION_INVALID"),
        (("keys", "mode", "a" * 26, "attended", "--yes", "--recovery-key"), (WORDS,), "OPTION_INVALID"),
        (("keys", "unlock", "a" * 26), (), "SECRET_MISSING"),
        (("keys", "unlock", "a" * 26, "--for", "soon"), (WORDS,), "OPTION_INVALID"),
        (("keys", "passphrase", "a" * 26), (WORDS,), "SECRET_MISSING"),
        (("keys", "unlock", "nobody"), (WORDS,), "NAME_INVALID"),
    ],
)
def test_what_is_not_understood(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    secrets: tuple[str, ...],
    reason: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    done = typed(tmp_path, *words, secrets=secrets) if secrets else run("--data", str(tmp_path), *words)
    assert done.code != Exit.OK and f"[{reason}]" in done.err, done.err
    assert WORDS not in done.err


# The holder of a grant: no box.


def a_recording(folder: Path) -> tuple[Path, RecordingInfo, bytes]:
    """A sealed call of one second, its data key."""
    key = os.urandom(32)
    formats = (PayloadFormat(number=0, encoding="PCMU", clock_rate=8000),)
    info = RecordingInfo(
        recording_id=new_id(),
        call_id=new_id(),
        tenant_id=new_id(),
        line_id=new_id(),
        started_ns=START,
        direction=Direction.INBOUND,
        parties=(Party(aor="sip:1@example.com", name="", role=Role.CALLER),),
        tracks=(TrackInfo(track=0, party=0, formats=formats, label="0"),),
    )
    writer = sealed.SealedWriter(info.recording_id, info.tenant_id, info.line_id, START, key)
    order = np.arange(50)
    columns = sealed.PacketColumns(
        sequence=order.astype(np.uint16),
        timestamp=(order * 160).astype(np.uint32),
        arrival_ns=START + order * 20_000_000,
        payload_type=np.zeros(50, np.uint8),
        ssrc=np.full(50, 7, np.uint32),
        size=np.full(50, 160, np.uint16),
        payload=np.full(50 * 160, 0x55, np.uint8),
    )
    prepared = sealed.prepare(columns, [0, 50], [0])
    parts = [writer.header, writer.frame([sealed.pack_info(info)]), writer.frame([prepared.block(0)])]
    writer.count(50, 50 * 160)
    parts.append(writer.end(START + SECOND))
    path = folder / "call.sealed"
    path.write_bytes(b"".join(parts))
    return path, info, key


def test_a_holder_opens_what_was_granted(tmp_path: Path) -> None:
    file = tmp_path / "pair.json"
    public = base64.b64decode(run("keys", "pair", str(file)).out.strip())
    assert len(public) == 1216 and stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    again = run("keys", "pair", str(file))
    assert again.code == Exit.CONFLICT and file.read_bytes() == before
    path, info, key = a_recording(tmp_path)
    grant = new_id()
    ids = [id_bytes(one) for one in (info.tenant_id, grant, info.recording_id)]
    raw = seal_data_key(public, *ids, key)
    for name, content in (("key.bin", raw), ("key.b64", base64.b64encode(raw) + b"\n")):
        sealed_key = tmp_path / name
        sealed_key.write_bytes(content)
        heard = tmp_path / f"{name}.wav"
        words = ["keys", "open", str(path), str(sealed_key), "--grant", grant, "--pair", str(file)]
        heard.touch(0o644)
        assert run(*words, "-o", str(heard)).code == Exit.OK
        assert stat.S_IMODE(heard.stat().st_mode) == 0o600
        with wave.open(str(heard)) as sound:
            assert sound.getframerate() == 8000 and sound.getnframes() == 8000
    # Another grant, another holder, another recording, no key at all: nothing is written.
    other = tmp_path / "other.json"
    run("keys", "pair", str(other))
    foreign, _, _ = a_recording(tmp_path.parent)
    for changed in (
        {"--grant": new_id()},
        {"--pair": str(other)},
        {"--pair": str(path)},
        {"--pair": str(tmp_path / "absent")},
        {"recording": str(foreign)},
        {"key": str(path)},
        {"-o": str(tmp_path / "none.mp3")},
        {"--grant": "x"},
    ):
        said = {
            "recording": str(path),
            "key": str(tmp_path / "key.bin"),
            "--grant": grant,
            "--pair": str(file),
            "-o": str(tmp_path / "none.wav"),
        } | changed
        options = [word for name in ("--grant", "--pair", "-o") for word in (name, said[name])]
        done = run("keys", "open", said["recording"], said["key"], *options)
        assert done.code != Exit.OK and not list(tmp_path.glob("*none*")), changed
