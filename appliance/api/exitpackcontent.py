"""What goes into an exit pack of each recording, and what goes with all of them: from the catalogue to the pack."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

import earwitness.verify.exitpack as verifier
from appliance.api.exitpackclear import take_out
from appliance.api.exitpackwriter import Journal
from appliance.audit.trail import Trail
from appliance.catalog import (
    additions,
    closing,
    exitpacks,
    recordings,
    restrictions,
    reviews,
    scorecards,
    tenants,
)
from appliance.catalog.database import Database
from appliance.catalog.exitpacks import ExitPack
from appliance.catalog.records import Recording, State
from appliance.catalog.scorecards import Scorecard
from appliance.model import Direction
from appliance.packs import exitrecord, exitreview, howto, vcon
from appliance.packs.exitrecord import Row, Whole
from appliance.packs.exittargets import Target
from appliance.packs.manifest import MANIFEST, NOTE, PACK, Entry, Packed

PAGE: Final = 100
BREATH_S: Final = 0.005  # between pages, so that calls of the API get their turn
SCHEMA: Final = "earwitness.example/exit-pack/v1"
SIGNED: Final = "exit-pack"
SCHEMAS: Final = ("recording", "reviews", "scorecards", "index", "manifest", "pack")
INDEX: Final = "index.json"
SCORECARDS: Final = "scorecards.json"


def wholes(connection: sa.Connection, ids: Sequence[str]) -> list[Whole]:
    """All that is known of some recordings; of one that is not there any more nothing."""
    reads = exitpacks.reads_of(connection, ids)
    reviewed = reviews.submitted(connection, ids)
    return [
        replace(
            one,
            notes=additions.list_notes(connection, one.row.recording_id, additions.MAX_NOTES),
            reads=reads.get(one.row.recording_id, ()),
            reviews=reviewed.get(one.row.recording_id, ()),
        )
        for one in wholes_briefly(connection, ids)
    ]


def standing(connection: sa.Connection, recording_id: str) -> tuple[State | None, tuple[str, ...]]:
    """What decides how much of a recording is put into a pack: its state, and what restricts it."""
    found = restrictions.of(connection, [recording_id])
    return recordings.state_of(connection, recording_id), found.get(recording_id, ())


def job(whole: Whole, spec: dict[str, Any], problem: str, now_ns: int) -> dict[str, Any]:
    """What the process is asked to put into the pack. `problem`: why neither bytes nor sound of it are to be there."""
    row = whole.row
    if row.state is State.QUARANTINED:
        problem = problem or "RECORDING_QUARANTINED"
    restricted = bool(whole.restrictions)
    sound = spec["sound"] != "none" and not restricted
    if restricted and not problem and spec["sound"] != "none":
        problem = "RECORDING_RESTRICTED"  # kept as it is, and not made into what plays (UK GDPR Art. 18)
        bytes_too = True
    else:
        bytes_too = not problem
    return {
        "recording": row.recording_id,
        "sha256": row.sha256,
        "deleted": row.state is State.DELETED,
        "sealed": bytes_too and (spec["sealed"] or restricted or spec["sound"] == "none"),
        "sound": spec["sound"] if sound and not problem else "",
        "vcon": vcon.vcon(whole, now_ns) if spec["vcon"] and sound and not problem else None,
        "document": exitrecord.document(whole),
        "reviews": exitreview.document(row.recording_id, whole.reviews) if whole.reviews else None,
        "problem": problem,
    }


@dataclass
class Rest:
    """What goes with all recordings of a pack, put there last. Runs in a thread."""

    database: Database
    trail: Trail
    target: Target
    journal: Journal
    pack: ExitPack
    bound: int
    now_ns: Callable[[], int]
    entries: list[Entry] = field(default_factory=list)
    _erased: frozenset[str] = field(default=frozenset(), init=False)
    _recordings: int = field(default=0, init=False)
    _files: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _problems: int = field(default=0, init=False)

    def put(self, note: str = "") -> ExitPack:
        """Index, help, manifest, signature; gives the pack with its numbers. `note`: why it is a part."""
        self.entries.clear()
        self._count()
        self._schemas()
        self._add(SCORECARDS, "scorecards", self._scorecards())
        tombstones = self._index()
        self._help(tombstones, complete=not note)
        made = self.target.put(MANIFEST, self._manifest())
        pack = ExitPack(
            **{
                **self.pack.__dict__,
                "recordings": self._recordings,
                "files": self._files + len(self.entries),
                "bytes": self._bytes + sum(one.size for one in self.entries),
                "problems": self._problems,
                "tombstones": tombstones,
                "manifest_sha256": made.sha256,
            }
        )
        said = json.dumps(self._about(pack, note), indent=1).encode() + b"\n"
        self.target.put(PACK, [said])
        self.target.put(NOTE, [self.trail.sign(SIGNED, said).encode()])
        return pack

    def _count(self) -> None:
        """What is erased since it was put there goes, and has a tombstone. The rest is counted."""
        self._erased = take_out(self.database, self.target, self.journal)
        self._recordings = self._files = self._bytes = self._problems = 0
        last = ""
        for one in self._kept():
            self._recordings += one.recording > last
            last = max(last, one.recording)
            self._files += len(one.entries)
            self._bytes += sum(entry.size for entry in one.entries)
            self._problems += bool(one.problem)

    def _kept(self) -> Iterator[Packed]:
        return (one for one in self.journal.read() if one.recording not in self._erased)

    def _about(self, pack: ExitPack, note: str) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "pack": pack.id,
            "tenant": pack.tenant_id,
            "line": pack.line_id,
            "complete": not note,
            "note": note,
            "everything": pack.everything,
            "purpose": pack.purpose,
            "made": exitrecord.moment(self.now_ns()),
            "recordings": pack.recordings,
            "tombstones": pack.tombstones,
            "problems": pack.problems,
            "files": pack.files,
            "bytes": pack.bytes,
            "manifest_sha256": pack.manifest_sha256,
            "key": str(self.trail.log.signer.verifier),
        }

    def _add(self, path: str, kind: str, pieces: Iterable[bytes]) -> None:
        made = self.target.put(path, pieces)
        self.entries.append(Entry(made.path, made.size, made.sha256, kind))

    def _schemas(self) -> None:
        for name in SCHEMAS:
            file = f"exit-pack-{name}.schema.json"
            data = files("appliance.packs").joinpath("schemas", file).read_bytes()
            self._add(f"schemas/{file}", "schema", [data])
        with open(verifier.__file__, "rb") as source:
            self._add("verify.py", "help", [source.read()])

    def _scorecards(self) -> Iterator[bytes]:
        """All of the tenant, as questions say nothing of calls, and answers are read by them."""
        head = {"schema": exitreview.SCORECARDS, "pack": self.pack.id}
        yield json.dumps(head, indent=1)[:-2].encode() + b',\n "scorecards": ['
        yield from _listed(map(exitreview.scorecard, self._versions()))
        yield b"]\n}\n"

    def _versions(self) -> Iterator[Scorecard]:
        after: tuple[int, str] | None = None
        while True:
            with self.database.read() as connection:
                page = scorecards.listed(connection, self.pack.tenant_id, PAGE, after, archived=True)
            for one in page:
                before: int | None = None
                while before != 1:
                    with self.database.read() as connection:
                        found = scorecards.versions(connection, one.scorecard_id, PAGE, before)
                    yield from found
                    before = found[-1].version if len(found) == PAGE else 1
                    time.sleep(BREATH_S)
                after = (one.create_ns, one.scorecard_id)
            if len(page) < PAGE:
                return

    def _help(self, tombstones: int, *, complete: bool) -> None:
        with self.database.read() as connection:
            tenant = tenants.get_tenant(connection, self.pack.tenant_id)
            names = exitpacks.line_names(connection, {self.pack.line_id})
        scope = f"the line {names.get(self.pack.line_id, '')}" if self.pack.line_id else "all lines"
        about = howto.About(
            pack=self.pack.id,
            tenant=tenant.display_name,
            scope=scope if self.pack.everything else f"{scope}, those that a filter chose",
            made=exitrecord.moment(self.now_ns()),
            recordings=self._recordings,
            tombstones=tombstones,
            sound=self.pack.spec["sound"],
            sealed=self.pack.spec["sealed"],
            vcon=self.pack.spec["vcon"],
            key=str(self.trail.log.signer.verifier),
            complete=complete,
        )
        self._add("README.txt", "help", [howto.text(about)])
        self._add("README.html", "help", [howto.page(about)])

    def _manifest(self) -> Iterator[bytes]:
        for one in self._kept():
            yield b"".join(entry.line() for entry in one.entries)
        yield b"".join(entry.line() for entry in self.entries)

    # The index: rows are made twice, once for each form, so that no more than a page is in memory.

    def _index(self) -> int:
        counted = [0]
        self._add(INDEX, "index", self._index_json(counted))
        self._add("index.csv", "index", self._index_csv())
        return counted[0]

    def _index_json(self, counted: list[int]) -> Iterator[bytes]:
        with self.database.read() as connection:
            tenant = tenants.get_tenant(connection, self.pack.tenant_id)
            lines = [
                {
                    "id": one.line_id,
                    "name": one.display_name,
                    "state": closing.state_of(connection, one.tenant_id, one.line_id).value,
                }
                for one in tenants.list_lines(connection, None, None, self.pack.tenant_id)
                if self.pack.line_id in ("", one.line_id)
            ]
        head = {
            "schema": exitrecord.INDEX_SCHEMA,
            "pack": self.pack.id,
            "tenant": {"id": tenant.tenant_id, "name": tenant.display_name},
            "lines": lines,
        }
        yield json.dumps(head, ensure_ascii=False, indent=1)[:-2].encode() + b',\n "recordings": ['
        yield from _listed(row.document() for row in self._rows())
        yield b'],\n "tombstones": ['
        yield from _listed(self._tombstones(counted))
        yield b"]\n}\n"

    def _index_csv(self) -> Iterator[bytes]:
        yield "\ufeff".encode()  # what a spreadsheet knows UTF-8 by
        yield exitrecord.csv_lines([exitrecord.COLUMNS])
        rows = self._rows()
        while page := list(islice(rows, PAGE)):
            yield exitrecord.csv_lines([row.cells() for row in page])

    def _rows(self) -> Iterator[Row]:
        """In the order of ids, as the journal has them; sound that came later is put beside what came first."""
        late: dict[str, tuple[Entry, ...]] = {}
        last = ""
        for one in self._kept():
            if one.recording <= last:
                late[one.recording] = one.entries
            else:
                last = one.recording
        ordered = _in_order(self._kept())
        while page := list(islice(ordered, PAGE)):
            with self.database.read() as connection:
                found = {
                    one.row.recording_id: one
                    for one in wholes_briefly(connection, [one.recording for one in page])
                }
            for one in page:
                whole = found.get(one.recording) or _gone(one.recording, self.pack)
                yield Row(whole, (*one.entries, *late.get(one.recording, ())), one.problem)
            time.sleep(BREATH_S)

    def _tombstones(self, counted: list[int]) -> Iterator[dict[str, Any]]:
        if not self.pack.everything:
            return
        after = ""
        here = {one.recording for one in self._kept()}
        while True:
            with self.database.read() as connection:
                ids = exitpacks.gone(
                    connection, self.pack.tenant_id, self.pack.line_id, after, PAGE, self.bound
                )
                rows = recordings.of_ids(connection, ids)
            if not ids:
                return
            for row in rows:
                if row.recording_id not in here:  # erased this moment: it is in the pack, and its row says so
                    counted[0] += 1
                    yield exitrecord.tombstone(row)
            after = ids[-1]
            time.sleep(BREATH_S)


def wholes_briefly(connection: sa.Connection, ids: Sequence[str]) -> list[Whole]:
    """What the index needs of some recordings."""
    rows = recordings.of_ids(connection, ids)
    standing = restrictions.of(connection, ids)
    names = exitpacks.line_names(connection, {row.line_id for row in rows})
    return [
        Whole(row, restrictions=standing.get(row.recording_id, ()), line_name=names.get(row.line_id, ""))
        for row in rows
    ]


def _in_order(journal: Iterable[Packed]) -> Iterator[Packed]:
    last = ""
    for one in journal:
        if one.recording > last:
            last = one.recording
            yield one


def _listed(some: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    between = b"\n  "
    for one in some:
        yield between + json.dumps(one, ensure_ascii=False).encode()
        between = b",\n  "


def _gone(recording_id: str, pack: ExitPack) -> Whole:
    """A recording that the catalogue does not know any more, as after it was made anew meanwhile."""
    return Whole(
        Recording(
            recording_id, pack.tenant_id, pack.line_id, "", State.ERASED, 0, "", "", 0, False, False, 0, None, 0, "", 1,
            Direction.UNKNOWN, "", "", "",
        )
    )  # fmt: skip
