"""A day of 5,000 calls through the API, with faults of all kinds sown into it: all are found, none is invented."""

from __future__ import annotations

import csv
import io
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from appliance.catalog import completenesstables, tables
from appliance.model import MarkKind
from earwitness.v1 import completeness_pb2 as pb
from earwitness.v1 import tenants_pb2

sys.path.append(str(Path(__file__).parents[1] / "completeness"))
import completeness_kit as kit

S = 10**9


def rows(day: kit.Day, by_ns: int) -> str:
    """As FreeSWITCH writes them, in UTC."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)

    def when(ns: int | None) -> str:
        if ns is None:
            return ""
        return (
            datetime.fromtimestamp((ns + by_ns) / S, UTC)
            .isoformat(" ", "milliseconds")
            .removesuffix("+00:00")
        )

    for one in day.rows:
        end_ns = (one.answer_ns or one.start_ns) + one.talk_ns
        cells = ["", one.from_number or "anonymous", one.extension or one.to_number, "x", when(one.start_ns)]
        cells += [when(one.answer_ns), when(end_ns), "", f"{one.talk_ns / S:.3f}", "NORMAL", one.call_id]
        writer.writerow([*cells, "", "", "PCMA", one.to_number])
    return out.getvalue()


def put(connection: sa.Connection, tenant_id: str, lines: dict[str, str], day: kit.Day, by_ns: int) -> None:
    """Recordings as the catalogue has them once they are filed and described."""
    made, parties, marks, flags, identifiers = [], [], [], [], []
    for seq, one in enumerate(day.heard, 10):
        start_ns = one.start_ns + by_ns
        made.append(
            {
                "id": one.id,
                "seq": seq,
                "position": seq,
                "tenant_id": tenant_id,
                "line_id": lines[one.line_id],
                "slice": "x",
                "state": "filed",
                "state_ns": 1,
                "state_reason": "",
                "etag": "x",
                "size": 1,
                "whole": True,
                "created_ns": start_ns,
                "start_ns": start_ns,
                "described": True,
                "end_ns": start_ns + one.duration_ns,
                "duration_ns": one.duration_ns,
                "call_id": one.call,
                "part": 1,
                "direction": one.direction.value,
                "source": "siprec",
                "sip_call_id": "",
                "sha256": "",
            }
        )
        for ordinal, number in enumerate(sorted(one.numbers)):
            written = f"+{number}" if number.startswith("44") else number
            parties.append(
                {
                    "recording_id": one.id,
                    "ordinal": ordinal,
                    "aor": "",
                    "number": written,
                    "name": "",
                    "role": "unknown",
                }
            )
        flags += [{"recording_id": one.id, "flag": one.silent}] if one.silent else []
        identifiers += [{"recording_id": one.id, "value": value, "ordinal": 0} for value in one.ids]
        if one.lost_ns:
            marks.append(
                {
                    "recording_id": one.id,
                    "ordinal": 0,
                    "kind": MarkKind.GAP.value,
                    "at_ns": start_ns,
                    "actor": "",
                    "reason": "",
                    "until_ns": start_ns + one.lost_ns,
                    "track": -1,
                    "data": {},
                }
            )
    for table, some in (
        (tables.recordings, made),
        (tables.parties, parties),
        (tables.marks, marks),
        (tables.flags, flags),
        (tables.identifiers, identifiers),
    ):
        connection.execute(sa.insert(table), some)


@pytest.mark.parametrize("shift_s", [0, 3600])
def test_all_faults_of_a_day_are_found_and_none_invented(make_box, shift_s):
    box = make_box()
    tenant_id, _ = box.default_line()
    parent = f"tenants/{tenant_id}"
    client = box.client()
    lines = {}
    for one in kit.LINES:
        said = tenants_pb2.Line(
            display_name=one.display_name,
            numbers=one.numbers,
            do_not_record=one.do_not_record,
            directions=[
                tenants_pb2.DESCRIPTOR.pool.FindEnumTypeByName("earwitness.v1.Direction")
                .values_by_name[f"DIRECTION_{direction.name}"]
                .number
                for direction in one.directions
            ],
        )
        made = client.tenants.CreateLine(tenants_pb2.CreateLineRequest(parent=parent, line=said)).line
        lines[one.line_id] = made.name[-26:]
    source = client.completeness.CreateCallRecordSource(
        pb.CreateCallRecordSourceRequest(
            parent=parent, source=pb.CallRecordSource(display_name="x"), preset="freeswitch-cdr-csv"
        )
    ).source
    how = source.map
    how.time_zone, how.extension, how.to_number = "UTC", "3", "15"
    client.completeness.UpdateCallRecordSource(
        pb.UpdateCallRecordSourceRequest(source=pb.CallRecordSource(name=source.name, map=how))
    )
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    midnight = int(datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=UTC).timestamp()) * S
    by_ns = midnight - kit.DAY
    box.clock.ahead_ns = midnight + 2 * 86400 * S - time.time_ns()
    day = kit.day(11 + shift_s)
    box.write(lambda connection: put(connection, tenant_id, lines, day, by_ns))
    data = rows(day, by_ns + shift_s * S).encode()
    parts = [pb.ImportCallRecordsRequest(parent=source.name)]
    parts += [pb.ImportCallRecordsRequest(data=data[at : at + 262144]) for at in range(0, len(data), 262144)]
    answer = client.completeness.ImportCallRecords(iter(parts))
    assert (answer.call_record_import.new_count, answer.call_record_import.broken_count) == (len(day.rows), 0)
    assert answer.call_record_import.shift.added.seconds == -shift_s
    (told,) = answer.days
    counts = {
        pb.CallOutcome.Name(one.outcome)[13:].lower().replace("_", "-"): one.count for one in told.outcomes
    }
    assert {name: counts.get(name, 0) for name in day.counts} == {
        name.value: n for name, n in day.counts.items()
    }
    assert told.fault_count == len(day.sown) == 40

    # Which they are: of recordings the ids are known; records are told apart by what their rows had said of them.
    def found(connection: sa.Connection) -> set[tuple[str, int]]:
        c = completenesstables.call_records.c
        query = sa.select(c.outcome, c.start_ns).where(c.outcome.in_([one.value for one in day.counts]))
        return {(row.outcome, (row.start_ns - by_ns) // 10**6) for row in connection.execute(query)}

    starts = {one.id: one.start_ns for one in day.records}
    wanted = {
        (outcome.value, starts[subject] // 10**6)
        for subject, outcome in day.sown.items()
        if outcome.value not in ("extra", "duplicate")
    }
    assert box.run(box.control.parts.store.read(found)) == wanted
