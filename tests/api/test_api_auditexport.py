"""An export of a log that goes on meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.api import auditexport
from appliance.audit import entry
from appliance.audit.log import Log
from appliance.audit.opening import open_log
from earwitness.verify.log import VerifierKey, verify


def grow(log: Log, count: int) -> None:
    for number in range(count):
        log.submit(entry.pack({"what": "asked", "request": str(number)}), durable=True).result(10)
    log.sign()


def test_what_is_no_checkpoint_keeps_no_export_from_being_made(tmp_path: Path):
    log = Log(open_log(tmp_path))
    try:
        grow(log, 3)
    finally:
        log.close()
    with (tmp_path / "audit/checkpoints.jsonl").open("ab") as file:
        file.write(b"rubbish \xff\n")
    log = Log(open_log(tmp_path))
    try:
        size = log.sign().checkpoint.size
        parts = list(auditexport.parts(log, size, None, 0))
    finally:
        log.close()
    notes = [one.note for part in parts for one in part.checkpoints.checkpoints]
    assert "rubbish \ufffd" in notes and log.signed is not None and log.signed.note in notes


def test_what_is_signed_during_an_export_is_not_of_it(tmp_path: Path):
    log = Log(open_log(tmp_path))
    folder = tmp_path / "export"
    folder.mkdir()
    try:
        grow(log, 3)
        grow(log, 2)
        parts = auditexport.parts(log, 5, None, 0)
        header = next(parts).header
        grow(log, 4)
        rest = list(parts)
    finally:
        log.close()
    lines = [line for part in rest for line in part.batch.lines]
    notes = [one.note for part in rest for one in part.checkpoints.checkpoints]
    (folder / "entries-000001.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    (folder / "checkpoints.jsonl").write_text("".join(json.dumps({"note": one}) + "\n" for one in notes))
    report = verify(folder, [VerifierKey.parse(header.verifier_key)])
    assert report.whole, report.findings
    assert (report.size, report.newest) == (5, 5) and report.checkpoints >= 3
