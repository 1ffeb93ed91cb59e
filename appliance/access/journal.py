"""The copy of identities beside the catalogue: `control/identities.jsonl`, a line for each change, tied to the one before.

    {"serial":7,"name":"ris","record":{…},"tie":"…"}

`name` is the identity's key (`naming`; an older release wrote bare names), `serial` counts changes of identities on this
box, `record` is the identity after the change (`records`), `tie` is an HMAC over the line before and this one under
`control/identities.key`. The newest line of a name counts; every revocation that any line tells counts for good. A line is
on disk before the change is answered. When many lines are old the file is written anew, whole. `pki/identities.serial`
holds the newest serial a second time, in another directory: both the catalogue and this file being older than it is
noticed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from appliance.access import naming, records
from appliance.access.anchor import Anchor
from appliance.access.records import Record
from appliance.access.refusals import JournalError
from appliance.access.sealing import Sealing
from appliance.process.wholefile import set_aside, write_whole

MAX_BYTES: Final = 512 << 20
_SPARE_LINES: Final = 1000  # old lines before the file is written anew


@dataclass(frozen=True)
class Change:
    """Identities after a change of them, by their keys, and its serial."""

    serial: int
    records: Mapping[str, Record]


@dataclass
class Content:
    """What the copy says."""

    serial: int = 0
    records: dict[str, tuple[int, Record]] = field(default_factory=dict)  # serial and record by key
    revoked: set[str] = field(default_factory=set)  # fingerprints
    whole: bool = True  # False: lines at the end are torn, altered, or not of this box
    lines: int = 0
    tie: str = ""


class Journal:
    """The file. Used by one thread at a time."""

    def __init__(self, path: Path, anchor: Path, sealing: Sealing) -> None:
        self._path = path
        self._anchor = Anchor(anchor)
        self.sealing = sealing
        self._content = Content()
        self.aside: Path | None = None
        """What was read and does not hang together is kept under this name, as evidence, when the file is written anew."""

    def read(self) -> Content:
        """What the copy says, as far as its lines hang together."""
        found = Content()
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            for raw in iter(lambda: file.readline(1 << 20), b""):
                if not self._take(raw, found) or file.tell() > MAX_BYTES:
                    found.whole = False
                    break
        _carry_creators(found)
        if not found.whole:
            self.aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
        self._content = found
        return found

    def anchored(self) -> int:
        """The newest serial this box ever had, as far as its pki directory knows; -1: it cannot be read there."""
        return self._anchor.read()

    def append(self, changes: Sequence[Change]) -> None:
        """Write down changes, in their order, by one write; JournalError where that fails, and then `rewrite` is due."""
        if not changes:
            return
        content, serial = self._content, changes[-1].serial
        try:
            if content.lines > 2 * len(content.records) + _SPARE_LINES:
                latest = {name: record for name, (_, record) in content.records.items()}
                for change in changes:
                    latest.update(change.records)
                self.rewrite(serial, latest)
                return
            lines, tie = b"", content.tie
            for change in changes:
                for name, record in change.records.items():
                    line, tie = self._line(change.serial, name, record, tie)
                    lines += line
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with open(descriptor, "ab", buffering=0) as file:
                if file.write(lines) != len(lines):
                    raise OSError("short write")
                os.fdatasync(file.fileno())
            self._anchor.rise(serial)
        except OSError as error:
            raise JournalError("the copy of identities cannot be written", errno=error.errno or 0) from error
        for change in changes:
            self._note(change.serial, change.records, tie, len(change.records))

    def rewrite(self, serial: int, everybody: Mapping[str, Record]) -> None:
        """The file anew; JournalError, and then it is as it was."""
        known = records.revoked(everybody.values())
        lines, tie = b"", ""
        # What was ever revoked stays so, even where nobody has it any more.
        for fingerprint in sorted(self._content.revoked - known):
            record = {"certificates": [[fingerprint, 0, 0, 1, ""]]}
            line, tie = self._line(serial, "", record, tie)
            lines += line
        for name, record in sorted(everybody.items()):
            line, tie = self._line(serial, name, record, tie)
            lines += line
        try:
            if not self._content.whole and self.aside is not None:
                set_aside(self._path, self.aside)
            write_whole(self._path, lines)
            self._anchor.rise(serial)
        except OSError as error:
            raise JournalError("the copy of identities cannot be written", errno=error.errno or 0) from error
        kept = self._content.revoked
        self._content = Content(revoked=kept)
        self._note(serial, everybody, tie, lines.count(b"\n"))

    def _note(self, serial: int, changed: Mapping[str, Record], tie: str, lines: int) -> None:
        content = self._content
        content.serial, content.tie = serial, tie
        content.lines += lines
        content.revoked |= records.revoked(changed.values())
        content.records.update({name: (serial, record) for name, record in changed.items()})

    def _line(self, serial: int, name: str, record: Record, before: str) -> tuple[bytes, str]:
        body = {"serial": serial, "name": name, "record": record}
        tie = self.sealing.line(before, _bytes(body))
        return _bytes({**body, "tie": tie}) + b"\n", tie

    def _take(self, raw: bytes, found: Content) -> bool:
        try:
            line: dict[str, Any] = json.loads(raw)
            tie = line.pop("tie")
            if tie != self.sealing.line(found.tie, _bytes(line)) or line["serial"] < found.serial:
                return False
            serial, name, record = line["serial"], line["name"], line["record"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        found.serial, found.tie = serial, tie
        found.lines += 1
        found.revoked |= records.revoked([record])
        if name:
            found.records[naming.carried(name, record["tenant_id"])] = (serial, record)
        return True


def _carry_creators(found: Content) -> None:
    """An older release wrote bare names of creators, which were unique on the box then."""
    keys = {bare: key for key in found.records for tenant_id, bare in [naming.parts(key)] if tenant_id}
    for _, record in found.records.values():
        if (creator := record["creator"]) and creator not in found.records and creator in keys:
            record["creator"] = keys[creator]


def _bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode()
