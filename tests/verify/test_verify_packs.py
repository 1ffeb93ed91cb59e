"""Packs handed to the verifier: whole ones, what was done to them, and what is no pack."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_verify_signed import keys_file

from appliance.audit.note import Signer
from appliance.audit.trail import Trail
from appliance.packs.zipping import Zip, manifest
from appliance.process.status import Status
from earwitness.verify import exitpack, subjectpack
from earwitness.verify.__main__ import main
from earwitness.verify.winzip import SealedZip

PASSPHRASE = "three-words-and-a-number-7"
SOUND = bytes(range(256)) * 9000  # more than one piece, and not whole blocks of AES with the next
SECRET = {"audio/0001.wav": SOUND + b"end", "audio/0002.wav": b"RIFF"}


@pytest.fixture
def trail(tmp_path):
    made = Trail(tmp_path / "control", Status())
    yield made
    made.close()


@pytest.fixture
def keys(tmp_path, trail) -> str:
    return keys_file(tmp_path, trail.log.signer)


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs the verifier; `passphrase` is what somebody types."""

    def command(*words: object, passphrase: str = "") -> tuple[int, str]:
        monkeypatch.setattr("getpass.getpass", lambda _: passphrase)
        code = main([*map(str, words), *(["--passphrase"] if passphrase else [])])
        out, err = capsys.readouterr()
        return code, out + err

    return command


def exit_pack(folder: Path, trail: Trail, *, complete: bool = True) -> Path:
    """One with a record and an index, as docs/exit-pack.md says it."""
    recording = "a" * 26
    files = {
        f"recordings/aa/{recording}/{recording}.json": (b"{}", recording),
        "index.json": (
            json.dumps({"recordings": [{"recording": recording}], "tombstones": []}).encode(),
            "",
        ),
    }
    lines = []
    for path, (data, of) in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        said = {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "kind": "record"}
        lines.append(json.dumps(said | ({"recording": of} if of else {})))
    raw = "".join(f"{line}\n" for line in lines).encode()
    (folder / "manifest.jsonl").write_bytes(raw)
    about = {
        "schema": "earwitness.example/exit-pack/v1", "complete": complete, "recordings": 1, "tombstones": 0,
        "files": len(files), "bytes": sum(len(data) for data, _ in files.values()),
        "manifest_sha256": hashlib.sha256(raw).hexdigest(),
    }  # fmt: skip
    (folder / "pack.json").write_text(json.dumps(about))
    (folder / "pack.json.note").write_text(
        trail.sign("exit-pack", (folder / "pack.json").read_bytes()), "utf-8"
    )
    return folder


def zipped(folder: Path, top: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder.with_name(f"{folder.name}{len(top)}{method}.zip")
    with zipfile.ZipFile(path, "w", method) as made:
        for one in sorted(folder.rglob("*")):
            made.write(one, top + one.relative_to(folder).as_posix())
    return path


def test_an_exit_pack_is_whole_as_a_folder_and_in_a_zip_file(tmp_path, trail, keys, run):
    folder = exit_pack(tmp_path / "pack", trail)
    for path in (folder, zipped(folder), zipped(folder, "earwitness-exit-x/")):
        code, said = run(path, "--keys", keys)
        assert code == 0 and "INTACT" in said and "1 recordings" in said and "signed by" in said, said
        code, said = run(path)
        assert code == 0 and "--key" in said, "without keys its signature alone is not checked"
        found = json.loads(run(path, "--keys", keys, "--json")[1])
        assert (found["kind"], found["verdict"], found["complete"]) == ("exit-pack", "INTACT", True)
    part = exit_pack(tmp_path / "part", trail, complete=False)
    assert "a part" in run(part, "--keys", keys)[1]
    stranger = keys_file(tmp_path, Signer.generate(trail.log.signer.name))
    assert run(folder, "--keys", stranger)[0] == 1


def changed(path: Path) -> None:
    next(path.glob("recordings/*/*/*")).write_bytes(b"[]")


def linked(path: Path) -> None:
    one = next(path.glob("recordings/*/*/*"))
    shutil.copy(one, path.parent / "elsewhere")
    one.unlink()
    one.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (changed, "CHANGED"),
        (lambda path: next(path.glob("recordings/*/*/*")).unlink(), "MISSING"),
        (lambda path: (path / "more").write_text("x"), "NOT_IN_MANIFEST"),
        (lambda path: (path / "pack.json.note").unlink(), "SIGNATURE_MISSING"),
        (lambda path: (path / "index.json").write_text("[" * 100_000), "INDEX_UNREADABLE"),
        (lambda path: (path / "manifest.jsonl").write_text("{}\n"), "MANIFEST_CHANGED"),
        (linked, "MISSING"),
    ],
)
def test_what_was_done_to_an_exit_pack_is_told(tmp_path, trail, keys, run, harm, code):
    folder = exit_pack(tmp_path / "pack", trail)
    whole = zipped(folder)
    harm(folder)
    assert run(folder, "--keys", keys)[0] == 1 and code in run(folder, "--keys", keys)[1]
    if harm is not linked:
        assert code in run(zipped(folder, "x/"), "--keys", keys)[1]
    assert run(whole, folder, "--keys", keys)[0] == 1


TONE = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data"


def lied(path: Path, /, **said: object) -> None:
    """One more line in the manifest; of a file that is there unless its path is given."""
    (path / "more").write_bytes(TONE)
    line = {"path": "more", "size": len(TONE), "sha256": hashlib.sha256(TONE).hexdigest(), **said}
    with (path / "manifest.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def deep(depth: int) -> list[object]:
    found: list[object] = []
    for _ in range(depth):
        found = [found]
    return found


def index_of(*recordings: object) -> str:
    return json.dumps({"recordings": [{"recording": one} for one in recordings], "tombstones": []})


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda path: lied(path, recording=["a"]), "MANIFEST_LINE"),
        (lambda path: lied(path, path="\ud800"), "MISSING"),
        (lambda path: lied(path, kind="sound"), "LENGTH"),  # its header ends before its length
        (lambda path: lied(path, kind="sound", duration_ms=deep(500)), "the manifest says no number"),
        (lambda path: (path / "manifest.jsonl").write_text("[" * 100_000), "MANIFEST_LINE"),
        (lambda path: (path / "index.json").write_text(index_of(1)), "INDEX_UNREADABLE"),
        (lambda path: (path / "index.json").write_text(index_of(1, "a")), "INDEX_UNREADABLE"),
        (lambda path: (path / "index.json").write_text(index_of(["a"])), "INDEX_UNREADABLE"),
    ],
)
def test_a_hostile_exit_pack_is_told_as_one(tmp_path, trail, capsys, harm, code):
    folder = exit_pack(tmp_path / "pack", trail)
    harm(folder)
    assert exitpack.main([str(folder)]) == 1
    assert code in capsys.readouterr().out
    assert exitpack.main([str(folder), "--json"]) == 1


@pytest.mark.parametrize("raw", ["[" * 100_000, "[]", "1", '"x"', "\ud800"])
def test_a_pack_without_a_pack_json_cannot_be_checked(tmp_path, trail, capsys, raw):
    folder = exit_pack(tmp_path / "pack", trail)
    (folder / "pack.json").write_text(raw, errors="surrogatepass")
    assert exitpack.main([str(folder)]) == 2
    assert "cannot be checked" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["named", "empty", "none"])
def test_a_key_that_cannot_be_checked_by_is_no_success(tmp_path, trail, key):
    """By a Python without the package."""
    folder = exit_pack(tmp_path / "pack", trail)
    script = shutil.copy(exitpack.__file__, tmp_path / "verify.py")
    keys = {"named": ["--key", "x+00+AAAA"], "empty": ["--key", ""], "none": []}[key]
    command = [sys.executable, "-I", "-S", str(script), *keys, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == (0 if key == "none" else 2), done.stderr
    assert ("NOT KNOWN" in done.stdout) is (key != "none")
    told = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert told.returncode == done.returncode and json.loads(told.stdout)["unchecked"] is (key != "none")
    (folder / "index.json").unlink()
    assert subprocess.run(command, capture_output=True).returncode == 1, "what is wrong comes first"


def test_an_empty_key_is_no_key(tmp_path, trail, capsys):
    assert exitpack.main([str(exit_pack(tmp_path / "pack", trail)), "--key", ""]) == 1
    assert "KEY_MALFORMED" in capsys.readouterr().out


def test_a_zip_file_that_says_other_than_it_holds(tmp_path, trail, keys, run):
    folder = exit_pack(tmp_path / "pack", trail)
    twice = zipped(folder)
    with zipfile.ZipFile(twice, "a") as more, pytest.warns(UserWarning):
        more.write(folder / "index.json", "index.json")
    assert "TWICE" in run(twice, "--keys", keys)[1]
    outside = zipped(folder, "x/")
    with zipfile.ZipFile(outside, "a") as more:
        more.writestr("index.json", "beside the pack")
    assert "NOT_IN_MANIFEST" in run(outside, "--keys", keys)[1]
    spoilt = zipped(folder, method=zipfile.ZIP_STORED)
    spoilt.write_bytes(spoilt.read_bytes().replace(b'"tombstones": []', b'"tombstones": 77', 1))
    assert run(spoilt, "--keys", keys)[0] == 1, "a member whose checksum is not right"
    for cut in (30, 200, 1):
        torn = tmp_path / "torn.zip"
        torn.write_bytes(zipped(folder).read_bytes()[:-cut])
        assert run(torn, "--keys", keys) == (2, f"{torn}: a zip file that was cut off, or is damaged\n")


def subject_pack(path: Path, trail: Trail, more: dict[str, bytes] | None = None) -> Path:
    """One as docs/subject-access.md says it."""
    index = {
        "format": subjectpack.FORMAT,
        "recordings": [
            {"file": name, "sha256": hashlib.sha256(data).hexdigest()} for name, data in SECRET.items()
        ],
    }
    members = {
        **SECRET, "index.html": b"<p>", "index.json": json.dumps(index).encode(), "README.txt": b"x",
        "subject-pack.schema.json": b"{}", **(more or {}),
    }  # fmt: skip
    with path.open("w+b") as file, Zip(file, PASSPHRASE.encode()) as made:
        for name, data in members.items():
            made.add(name, [data], size=len(data))
        sums = manifest(made.sums)
        made.add("SHA256SUMS", [sums], size=len(sums))
        note = trail.sign("subject-pack", sums).encode()
        made.add("SIGNATURE", [note], size=len(note))
    return path


def test_a_subject_pack_is_whole_by_its_passphrase(tmp_path, trail, keys, run):
    pack = subject_pack(tmp_path / "pack.zip", trail)
    code, said = run(pack, "--keys", keys)
    assert code == 2 and "UNOPENED" in said and "2 recordings" in said, (
        "its form is no proof of what it holds"
    )
    code, said = run(pack, "--keys", keys, passphrase=PASSPHRASE)
    assert code == 0 and "INTACT" in said and "signed by" in said, said
    assert PASSPHRASE not in said
    code, said = run(pack, passphrase=PASSPHRASE)
    assert code == 0 and "--keys" in said
    found = json.loads(run(pack, "--keys", keys, "--json", passphrase=PASSPHRASE)[1])
    assert (found["kind"], found["verdict"], found["opened"]) == ("subject-pack", "INTACT", True)
    code, said = run(pack, "--keys", keys, passphrase="another-passphrase-8")
    assert code == 2 and "does not open" in said
    stranger = keys_file(tmp_path, Signer.generate(trail.log.signer.name))
    code, said = run(pack, "--keys", stranger, passphrase=PASSPHRASE)
    assert code == 1 and "SIGNATURE_WRONG" in said
    assert run(pack, pack, "--keys", keys)[0] == 2
    with pytest.raises(SystemExit):
        run(pack, pack, passphrase=PASSPHRASE)


@pytest.mark.parametrize("name", [*SECRET, "SHA256SUMS", "index.json"])
def test_a_byte_of_a_subject_pack_that_is_not_as_it_was_is_found(tmp_path, trail, keys, run, name):
    pack = subject_pack(tmp_path / "pack.zip", trail)
    with SealedZip(pack) as opened:
        begin, size = opened.place(name)
    data = bytearray(pack.read_bytes())
    data[begin + size // 2] ^= 1
    pack.write_bytes(data)
    assert run(pack, "--keys", keys)[0] == 2, "from outside it cannot be seen"
    code, said = run(pack, "--keys", keys, passphrase=PASSPHRASE)
    assert code == 1 and f"MEMBER_DAMAGED: {name}" in said


def test_a_subject_pack_made_anew_by_who_knows_its_passphrase_is_not_the_boxs(tmp_path, trail, keys, run):
    more = {"index.json": json.dumps({"format": subjectpack.FORMAT, "recordings": []}).encode()}
    code, said = run(subject_pack(tmp_path / "a.zip", trail, more), "--keys", keys, passphrase=PASSPHRASE)
    assert code == 1 and "INDEX_DIFFERS" in said
    code, said = run(subject_pack(tmp_path / "b.zip", trail, {"more.txt": b""}), "--keys", keys)
    assert code == 1 and "MEMBER_UNKNOWN" in said
    plain = subject_pack(tmp_path / "c.zip", trail)
    with zipfile.ZipFile(plain, "a") as added:
        added.writestr("audio/0003.wav", SOUND)
    code, said = run(plain, "--keys", keys)
    assert code == 1 and "MEMBER_MALFORMED" in said, "a member that is not encrypted"


def test_what_is_no_pack_is_refused_by_what_it_is(tmp_path, trail, keys, run):
    empty = tmp_path / "folder"
    empty.mkdir()
    assert run(empty, "--keys", keys) == (2, f"{empty}: a folder, and no exit pack\n")
    begun = tmp_path / "earwitness-exit-x.partial"
    begun.mkdir()
    assert "still being written" in run(begun, "--keys", keys)[1]
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as made:
        made.writestr("letter.txt", "x")
    assert "neither an exit pack nor a subject pack" in run(other, "--keys", keys)[1]
    text = tmp_path / "text"
    text.write_text("x")
    assert "NOT_SEALED" in run(text, "--keys", keys)[1]
    code, said = run(text)
    assert code == 2 and "--keys" in said, "a recording is not checked without them"
    assert run(text, "--keys", keys, passphrase=PASSPHRASE)[0] == 2
    assert run(exit_pack(tmp_path / "pack", trail), passphrase=PASSPHRASE)[0] == 2
    assert run(tmp_path / "nowhere", "--keys", keys)[0] == 2
