"""Attacks on the log, each seen by the offline verifier, and those on the box's own disk at its next start, too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import audit_kit as kit
import pytest

from appliance.audit.errors import AuditUnavailableError
from appliance.audit.note import Signer
from appliance.audit.segments import Tail
from appliance.audit.trail import Trail
from appliance.process.status import Status
from earwitness.verify.log import Report, UnreadableError, VerifierKey, verify


@pytest.fixture
def control(tmp_path: Path) -> Path:
    """A log of 40 entries in two segments, checkpoints at 15 and at the end; one of each kept elsewhere."""
    folder = tmp_path / "control"
    with kit.running(folder, segment=2000) as log:
        kit.write(log, 15)
        (tmp_path / "kept-15.note").write_text(log.sign().note)
        for number in range(15, 40, 5):
            kit.write(log, 5, start=number)
        (tmp_path / "kept-40.note").write_text(log.sign().note)
        (tmp_path / "vkey").write_text(str(log.signer.verifier))
    assert len(list((folder / "audit").glob("entries-*"))) == 2
    return folder


def checked(control: Path, *kept: str, path: Path | None = None) -> Report:
    home = control.parent
    key = VerifierKey.parse((home / "vkey").read_text())
    return verify(path or control / "audit", [key], [home / one for one in kept])


def kinds(report: Report) -> set[str]:
    return {one.kind for one in report.findings}


def opens_with_alarm(control: Path) -> bool:
    """Whether the box raises AuditRolledBack at its next start, and goes on all the same."""
    status = Status()
    trail = Trail(control, status)
    trail.write({"what": "asked"}, durable=True)
    trail.close()
    raised = {one.type: one for one in status.conditions()}
    return "AuditRolledBack" in raised and raised["AuditRolledBack"].severity == 3


def test_an_untouched_log_is_whole(control):
    report = checked(control, "kept-15.note", "kept-40.note")
    assert report.whole, report.findings
    assert (report.size, report.newest) == (40, 40)
    assert not opens_with_alarm(control)
    assert checked(control, "kept-15.note").whole


@pytest.mark.parametrize("serial", [1, 2])
@pytest.mark.parametrize("place", [0.01, 0.5, 0.9])
def test_a_flipped_bit(control, serial, place):
    path = kit.segment(control, serial)
    data = bytearray(path.read_bytes())
    at = int(len(data) * place)
    data[at] ^= 1 if data[at] ^ 1 != 10 and data[at] != 10 else 4
    path.write_bytes(bytes(data))
    index = data.count(b"\n", 0, at)
    if serial == 2:
        index += kit.segment(control, 1).read_bytes().count(b"\n")
    for kept in ((), ("kept-40.note",)):
        report = checked(control, *kept)
        assert [(one.kind, one.index) for one in report.findings] == [("changed", index)]
    shutil.copytree(control / "audit", control.parent / "copy")
    if serial == 2:
        assert opens_with_alarm(control)
        report = checked(control)
        assert {"broken", "changed", "rolled-back"} & kinds(report) >= {"broken", "changed"}
        assert ("changed", index) in [(one.kind, one.index) for one in report.findings]
        assert json.loads(kit.lines(control)[40])["first_difference"] == index


def test_an_entry_cut_out_of_the_middle(control):
    kit.rewrite(kit.segment(control, 2), lambda data: b"".join(data.splitlines(keepends=True)[1:]))
    first = kit.segment(control, 1).read_bytes().count(b"\n")
    report = checked(control)
    assert [(one.kind, one.index) for one in report.findings] == [("missing", first)]
    assert opens_with_alarm(control)
    assert {"broken", "missing"} <= kinds(checked(control, "kept-40.note"))


def test_the_end_cut_off(control):
    kit.rewrite(kit.segment(control, 2), lambda data: b"".join(data.splitlines(keepends=True)[:-4]))
    report = checked(control)
    assert [(one.kind, one.index) for one in report.findings] == [("missing", 36)]
    assert opens_with_alarm(control)
    said = kit.records(control)[36]
    assert (said["what"], said["reason"], said["signed_size"], said["found_size"]) == (
        "broken",
        "shorter",
        40,
        36,
    )
    report = checked(control, "kept-40.note", "kept-15.note")
    assert {"broken", "missing"} <= kinds(report) and report.newest == 38
    status = Status()
    Trail(control, status).close()
    assert [one.severity for one in status.conditions() if one.type == "AuditRolledBack"] == [2], (
        "it stays visible"
    )


def test_entries_put_in_and_put_elsewhere(control):
    path = kit.segment(control, 2)
    whole = path.read_bytes().splitlines(keepends=True)
    first = kit.segment(control, 1).read_bytes().count(b"\n")
    path.write_bytes(b"".join([whole[0], kit.line(999) + b"\n", *whole[1:]]))
    assert [(one.kind, one.index) for one in checked(control).findings] == [("inserted", first + 1)]
    path.write_bytes(b"".join([whole[1], whole[0], *whole[2:]]))
    report = checked(control)
    assert not report.whole and {one.index for one in report.findings} <= {first, first + 1, first + 2}
    path.write_bytes(b"".join(whole[:3] + whole[4:6] + [whole[3]] + whole[6:]))
    assert not checked(control).whole
    assert opens_with_alarm(control)


def test_a_log_and_its_checkpoints_both_put_back(control):
    old = control.parent / "old"
    shutil.copytree(control, old)
    with kit.running(control) as log:
        kit.write(log, 10, start=40)
        (control.parent / "kept-50.note").write_text(log.sign().note)
    shutil.rmtree(control)
    old.rename(control)
    assert checked(control).whole, "nothing on the disk tells"
    report = checked(control, "kept-50.note")
    assert [(one.kind, one.index) for one in report.findings] == [("rolled-back", 40)]
    with kit.running(control) as log:
        kit.write(log, 20, start=900)
    report = checked(control, "kept-15.note", "kept-40.note", "kept-50.note")
    assert [one.kind for one in report.findings] == ["changed"], (
        "other entries in the place of those that were signed"
    )
    assert report.findings[0].index == 40


def test_the_log_alone_put_back(control):
    older = control.parent / "older"
    shutil.copytree(control / "audit", older)
    with kit.running(control) as log:
        kit.write(log, 10, start=40)
    for one in older.glob("entries-*"):
        shutil.copy(one, control / "audit" / one.name)
    assert [one.kind for one in checked(control).findings] == ["missing"]
    for one in older.glob("leaves-*"):
        shutil.copy(one, control / "audit" / one.name)
    assert "rolled-back" in kinds(checked(control))
    assert opens_with_alarm(control)


def test_a_forged_checkpoint(control):
    path = control / "audit" / "checkpoints.jsonl"
    rows = path.read_text().splitlines()
    forged = json.loads(rows[1])
    forged["note"] = forged["note"].replace("\n15\n", "\n14\n")
    path.write_text("\n".join([rows[0], json.dumps(forged), *rows[2:]]) + "\n")
    assert kinds(checked(control)) == {"forged"}
    assert opens_with_alarm(control)
    assert kit.records(control)[40]["what"] == "checkpoint-forged"


def test_re_signed_by_another_box(control):
    other = control.parent / "other"
    with kit.running(other) as log:
        kit.write(log, 40)
    assert kinds(checked(control, path=other / "audit")) == {"foreign"}
    # With another key under the name of this log.
    name = (control.parent / "vkey").read_text().split("+")[0]
    thief = Signer.generate(name)
    for row in (control / "audit" / "checkpoints.jsonl", control / "audit" / "checkpoint"):
        lines = [json.loads(one) for one in row.read_text().splitlines()]
        for one in lines:
            one["note"] = thief.sign(one["note"].partition("\n\n")[0] + "\n")
        row.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert kinds(checked(control)) == {"forged"}
    assert opens_with_alarm(control)


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        (("audit.key",), "key-lost"),
        (("audit/checkpoint", "audit/checkpoints.jsonl"), "checkpoints-missing"),
        (("audit/entries-000001.jsonl", "audit/entries-000002.jsonl"), "shorter"),
        (("audit/entries-000001.jsonl",), "shorter"),
    ],
)
def test_files_gone(control, gone, reason):
    for one in gone:
        (control / one).unlink()
    assert opens_with_alarm(control)
    [said] = [one for one in kit.records(control) if one["what"] == "broken"]
    assert said["reason"] == reason and said["generation"] == 2
    assert not checked(control, "kept-40.note").whole
    with kit.running(control) as log:  # and it goes on, as one log
        size = log.size
        assert log.generation == 2
        kit.write(log, 3)
        assert log.sign().checkpoint.size == size + 3


def test_a_damaged_key_is_put_aside(control):
    (control / "audit.key").write_text("PRIVATE+KEY+nonsense\n")
    assert opens_with_alarm(control)
    assert list(control.glob("audit.damaged-*.key"))


def test_leaves_that_are_damaged_are_told_from_entries_that_are(control):
    path = control / "audit" / "leaves-1"
    data = bytearray(path.read_bytes())
    data[32 * 7] ^= 1
    path.write_bytes(bytes(data))
    assert kinds(checked(control, "kept-40.note")) == {"leaves"}
    (control / "audit" / "segments.json").unlink()
    assert not opens_with_alarm(control), "they are made anew"
    assert checked(control, "kept-40.note").whole


def test_a_file_of_entries_alone(control):
    one = control.parent / "all.jsonl"
    one.write_bytes(b"".join(line + b"\n" for line in kit.lines(control)))
    assert checked(control, "kept-15.note", "kept-40.note", path=one).whole
    kit.rewrite(one, lambda data: data.replace(b'"r20"', b'"r99"'))
    [found] = checked(control, "kept-15.note", "kept-40.note", path=one).findings
    assert (found.kind, found.index) == ("changed", 15), "as near as checkpoints say"


def test_nonsense_is_no_log(control, tmp_path):
    for path in (tmp_path / "nothing", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UnreadableError):
            checked(control, path=path)
    for key in ("", "a+b", "a+b+c", "x+00000000+" + "A" * 44, "\u00e9" * 300):
        with pytest.raises(UnreadableError):
            VerifierKey.parse(key)
    with pytest.raises(UnreadableError):
        checked(control, "no such file")
    (tmp_path / "bad.note").write_bytes(b"\xff\n\n\n" * 50)
    (tmp_path / "long.jsonl").write_bytes(b"{" * 300_000 + b"\n" + b'{"note":5}\n[]\n')
    assert kinds(checked(control, "bad.note", "long.jsonl")) == {"checkpoint"}


def test_kill_in_the_middle_of_appends(tmp_path):
    """What was acknowledged as durable is there; nothing signed is gone; several lives, one log."""
    control = tmp_path / "control"
    control.mkdir()
    acknowledged: set[str] = set()
    for life in range(3):
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("audit_child.py")), str(control), str(life)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _, told in zip(range(150 + 70 * life), child.stdout, strict=False):
            acknowledged.add(told.strip())
        os.kill(child.pid, signal.SIGKILL)
        acknowledged |= {one.strip() for one in child.stdout if one.endswith("\n")}
        child.wait()
        child.stdout.close()
    status = Status()
    trail = Trail(control, status)
    assert not [one for one in status.conditions() if one.type == "AuditRolledBack"]
    key = VerifierKey.parse(str(trail.log.signer.verifier))
    trail.close()
    found = [one["request"] for one in kit.records(control) if one["what"] == "asked"]
    assert acknowledged <= set(found) and len(found) == len(set(found))
    assert verify(control / "audit", [key]).whole


def test_a_disk_that_is_really_full(tmp_path):
    """On a file system of its own of 300 KB: refused, said, nothing half written; with space again it goes on."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k,mode=700", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        control = place / "control"
        status = Status()
        trail = Trail(control, status, sign_s=3600.0)
        ballast = place / "ballast"
        ballast.write_bytes(bytes(150_000))
        written = 0
        with pytest.raises(Exception) as caught:
            for number in range(10_000):
                trail.write({"what": "asked", "request": f"r{number}", "purpose": "x" * 300}, durable=True)
                written += 1
        assert getattr(caught.value, "reason", "") == "AUDIT_UNAVAILABLE"
        assert [one.type for one in status.conditions()] == ["AuditUnwritable"]
        ballast.unlink()
        trail.write({"what": "asked", "request": "again"}, durable=True)
        assert not status.conditions()
        key = VerifierKey.parse(str(trail.log.signer.verifier))
        trail.close()
        found = [one["request"] for one in kit.records(control)]
        assert found == [f"r{n}" for n in range(written)] + ["again"]
        assert verify(control / "audit", [key]).whole
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_an_old_segment_changed_is_seen_by_reading_through(control):
    kit.rewrite(kit.segment(control, 1), lambda data: data.replace(b'"r7"', b'"r8"'))
    status = Status()
    trail = Trail(control, status)
    try:
        trail.write({"what": "asked"}, durable=True)
        for _ in range(1000):
            if status.conditions():
                break
            time.sleep(0.01)
        [said] = status.conditions()
        assert said.type == "AuditRolledBack" and said.severity == 3 and "entry 7 " in said.message
        assert trail.log.generation == 1
    finally:
        trail.close()
    assert [(one.kind, one.index) for one in checked(control).findings] == [("changed", 7)]


def test_a_start_on_a_full_disk_says_what_it_found_as_soon_as_there_is_space(control, monkeypatch):
    kit.rewrite(kit.segment(control, 2), lambda data: data + b'{"torn')
    full = True
    write = Tail.write

    def fail(self, data, at):
        if full:
            raise OSError(28, "no space left on device")
        write(self, data, at)

    monkeypatch.setattr(Tail, "write", fail)
    with kit.running(control) as log:
        for number in range(3):
            with pytest.raises(AuditUnavailableError):
                log.submit(kit.line(number), durable=True).result(10)
        full = False
        kit.write(log, 1, start=40)
    found = kit.records(control)
    assert [one["what"] for one in found[40:]] == ["recovered", "asked"] and found[41]["request"] == "r40"
    assert checked(control).whole
