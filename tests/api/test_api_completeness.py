"""Completeness through the API: sources, imports good and bad, days and signed reports, alarms, what is forgotten."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import jsonschema
import pytest
import sqlalchemy as sa
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

import earwitness
from appliance.access.identities import Role
from appliance.api import completenessleft
from appliance.catalog import alarms, completeness
from appliance.config.completeness import CompletenessSettings
from appliance.model import Mark, MarkKind, new_id
from earwitness.v1 import completeness_pb2 as pb
from earwitness.v1 import recordings_pb2, tenants_pb2
from earwitness.verify.keys import BoxKeys
from earwitness.verify.signed import check

S = 10**9
HEAD = "start,answer,talk,from,to,id\n"
MAP = pb.RecordMap(
    header_rows=1,
    start="start",
    answer="answer",
    duration="talk",
    from_number="from",
    to_number="to",
    call_id=["id"],
    time_format="epoch",
)
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/schemas/completeness-report.schema.json").read_text("utf-8")
)


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


class House:
    """A tenant with a line and a source, on a day after today, which is over: the clock of the box is ahead."""

    def __init__(self, box, sealing) -> None:
        self.box = box
        self.sealing = sealing
        self.tenant_id, _ = box.default_line()
        self.parent = f"tenants/{self.tenant_id}"
        self.client = box.client()
        made = tenants_pb2.Line(
            display_name="Reception",
            numbers=["01632960100", "2*"],
            directions=[
                tenants_pb2.DESCRIPTOR.pool.FindEnumTypeByName("earwitness.v1.Direction")
                .values_by_name["DIRECTION_INBOUND"]
                .number
            ],
            do_not_record=["07700900999"],
        )
        self.line = self.client.tenants.CreateLine(
            tenants_pb2.CreateLineRequest(parent=self.parent, line=made)
        ).line.name
        self.line_id = self.line[-26:]
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        self.day = tomorrow.isoformat()
        self.noon = int(datetime(tomorrow.year, tomorrow.month, tomorrow.day, 12, tzinfo=UTC).timestamp())
        self.source = self.create()
        box.clock.ahead_ns = 3 * 86400 * S

    @property
    def day_name(self) -> str:
        return f"{self.parent}/completenessDays/{self.day}"

    def create(self, **fields) -> pb.CallRecordSource:
        source = pb.CallRecordSource(**{"display_name": "Switchboard", "map": MAP, **fields})
        request = pb.CreateCallRecordSourceRequest(parent=self.parent, source=source)
        return self.client.completeness.CreateCallRecordSource(request).source

    def row(self, at=0, talk=60, from_="07700900123", to="01632960100", id_="") -> str:
        start = self.noon + at
        return f"{start},{start + 5},{talk},{from_},{to},{id_}\n"

    def file(self, at=0, talk=60, from_="07700900123", **fields) -> str:
        start_ns = (self.noon + at + 5) * S
        marks = fields.pop("marks", ()) + (Mark(kind=MarkKind.ENDED, at_ns=start_ns + talk * S),)
        made = self.sealing(
            self.tenant_id,
            self.line_id,
            seconds=1,
            noise=at + 7,
            start_ns=start_ns,
            numbers=(from_, "201"),
            session_ids=fields.pop("session_ids", ()),
            marks=marks,
            **fields,
        )
        recording_id = self.box.vault.file(made)
        self.box.filed(recording_id)
        # A minute of packets for each call would be the whole test's time: what the catalogue knows of it is enough.
        self.box.write(lambda connection: _lasts(connection, recording_id, talk * S))
        return recording_id

    def take(self, text: str | bytes, **how) -> pb.ImportCallRecordsResponse:
        data = text.encode() if isinstance(text, str) else text
        first = pb.ImportCallRecordsRequest(parent=self.source.name, data=data[:100], **how)
        rest = [pb.ImportCallRecordsRequest(data=data[at : at + 4000]) for at in range(100, len(data), 4000)]
        return self.client.completeness.ImportCallRecords(iter([first, *rest]))

    def report(self) -> pb.GetCompletenessReportResponse:
        request = pb.GetCompletenessReportRequest(name=self.day_name)
        return self.client.completeness.GetCompletenessReport(request)

    def records(self, *outcomes) -> list[pb.CallRecord]:
        request = pb.ListCallRecordsRequest(parent=self.day_name, outcomes=outcomes, page_size=1000)
        return list(self.client.completeness.ListCallRecords(request).records)

    def told(self) -> list[pb.CallRecord]:
        """The records; one that waits where the day was not compared yet."""
        try:
            return self.records()
        except grpc.RpcError as error:
            assert earwitness.details(error).reason == "COMPLETENESS_DAY_NOT_FOUND"
            return [pb.CallRecord(outcome=pb.CALL_OUTCOME_WAITING)]

    def alarms(self) -> set[str]:
        """Kinds of the tenant's alarms that stand."""
        found = self.box.run(
            self.box.control.parts.store.read(
                lambda connection: alarms.stood(connection, self.tenant_id, 0, 2**62)
            )
        )
        return {one.kind for one in found if one.open}

    def look(self) -> None:
        self.box.run(self.box.control._completeness.watch.look())


def _lasts(connection, recording_id: str, duration_ns: int) -> None:
    from appliance.catalog.tables import flags, recordings

    connection.execute(
        sa.update(recordings).where(recordings.c.id == recording_id).values(duration_ns=duration_ns)
    )
    connection.execute(sa.delete(flags).where(flags.c.recording_id == recording_id))


@pytest.fixture
def house(make_box, sealing):
    return House(make_box(), sealing)


def outcomes(day: pb.CompletenessDay) -> dict[str, int]:
    return {pb.CallOutcome.Name(one.outcome)[13:].lower(): one.count for one in day.outcomes}


def on_disk(house) -> bytes:
    """All that the catalogue's process keeps, but for the line's own list, which says who is not recorded."""
    files = [path for path in house.box.layout.control.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files).replace(b'"07700900999"', b"")


def test_a_missing_call_is_an_alarm_until_it_is_found(house):
    found, erased = house.file(0), house.file(300, from_="07700900777")
    text = HEAD + house.row(0) + house.row(300, from_="07700900777") + house.row(600, from_="07700900555")
    text += house.row(900, from_="07700900999") + house.row(1200, talk=0)
    answer = house.take(text)
    assert (answer.call_record_import.row_count, answer.call_record_import.new_count) == (5, 5)
    (day,) = answer.days
    assert outcomes(day) == {"matched": 2, "missing": 1, "do_not_record": 1, "unanswered": 1}
    assert (day.state, day.contracted_count, day.missing_count) == (pb.COMPLETENESS_STATE_FINAL, 3, 1)
    assert house.alarms() == {"CallNotRecorded"}

    # The report: as its schema says, signed, without a number.
    report = house.report()
    jsonschema.validate(json.loads(report.report), SCHEMA)
    assert b"07700900" not in report.report and json.loads(report.report)["faults"][0]["fault"] == "missing"
    keys = BoxKeys.parse(
        house.client.evidence.GetBoxKeys(earwitness.v1.evidence_pb2.GetBoxKeysRequest()).keys
    )
    import hashlib

    signed = check("x", hashlib.sha256(report.report).hexdigest(), report.signature, keys.audit)
    assert signed.good and signed.kind == "completeness-report"

    # Numbers are kept of what is missing alone.
    kept = {one.outcome: one.from_number for one in house.records()}
    assert kept[pb.CALL_OUTCOME_MISSING] == "07700900555" and kept[pb.CALL_OUTCOME_MATCHED] == ""
    assert [one.recording[-26:] for one in house.records(pb.CALL_OUTCOME_MATCHED)] == [found, erased]

    # A recording is erased: it is counted so, and nothing of it is left.
    house.client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(
            name=f"{house.parent}/recordings/{erased}", force=True, reason="x"
        )
    )
    # The missing one comes late.
    late = house.file(600, from_="07700900555")
    house.look()
    again = house.report().day
    assert outcomes(again) == {"matched": 2, "erased": 1, "do_not_record": 1, "unanswered": 1}
    assert again.revision > day.revision and house.alarms() == set()
    assert late in {one.recording[-26:] for one in house.records()}
    house.look()
    assert house.report().day == again, "nothing changed: no other revision"
    for number in (b"7700900777", b"7700900999"):
        end = time.monotonic() + 30
        while number in on_disk(house):  # it is overwritten as soon as nobody reads the database
            assert time.monotonic() < end, number
            time.sleep(0.1)
    found_ = house.box.run(
        house.box.control.parts.store.read(
            lambda connection: completeness.in_span(connection, house.tenant_id, house.day, house.day)
        )
    )
    assert (found_.expected, found_.missing, found_.ratio, found_.days) == (3, 0, 1.0, 1)


def test_erasing_takes_numbers_of_a_call_that_was_not_matched(house):
    """A recording whose clock is too far off for a match, of the same person: the number goes with the erasure."""
    recording = house.file(7200, from_="07700900777")
    house.take(HEAD + house.row(0, from_="07700900777"))
    assert house.records(pb.CALL_OUTCOME_MISSING)[0].from_number == "07700900777"
    house.client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(
            name=f"{house.parent}/recordings/{recording}", force=True, reason="x"
        )
    )
    house.box.wait(lambda: house.records(pb.CALL_OUTCOME_MISSING)[0].from_number == "")
    on_disk = b"".join(path.read_bytes() for path in house.box.layout.control.rglob("*") if path.is_file())
    assert b"7700900777" not in on_disk


def test_the_same_file_twice_and_rows_that_came_before(house):
    text = HEAD + house.row(0) + house.row(60, from_="07700900124")
    first = house.take(text, request_id="one").call_record_import
    assert house.take(text, request_id="one").call_record_import == first
    second = house.take(text).call_record_import
    assert (second.new_count, second.repeated_count, second.repeats) == (0, 2, first.name)
    third = house.take(text + house.row(120, from_="07700900125")).call_record_import
    assert (third.new_count, third.repeated_count, third.repeats) == (1, 2, "")
    assert len(house.records()) == 3
    dry = house.take(text + house.row(180), validate_only=True).call_record_import
    assert (dry.new_count, dry.repeated_count, dry.name) == (1, 2, "")
    assert len(house.records()) == 3
    listed = house.client.completeness.ListCallRecordImports(
        pb.ListCallRecordImportsRequest(parent=house.parent, page_size=2)
    )
    assert [one.name for one in listed.imports] == [third.name, second.name] and listed.next_page_token


def test_broken_rows_are_told_and_a_map_that_does_not_fit_takes_nothing(house):
    text = HEAD + "".join(house.row(60 * at) for at in range(9)) + "yesterday,,5,1,2,\n"
    answer = house.take(text).call_record_import
    assert (answer.new_count, answer.broken_count) == (9, 1)
    assert [(one.row, one.column, one.reason) for one in answer.problems] == [
        (11, "start", "TIME_UNREADABLE")
    ]
    before = house.records()
    for bad, reason in (
        (HEAD + "yesterday,,5,1,2,\n" * 3, "RECORD_MAP_MISFIT"),
        ("a,b\n1,2\n", "RECORD_MAP_MISFIT"),
        (HEAD.encode() + b"\xff\xff\n", "RECORDS_UNREADABLE"),
        ((HEAD + house.row(9)).encode("utf-16"), "RECORDS_UNREADABLE"),
    ):
        told = refused(lambda bad=bad: house.take(bad))
        assert told.reason == reason
    assert house.records() == before
    tried = house.client.completeness.TryRecordMap(
        pb.TryRecordMapRequest(parent=house.parent, map=MAP, sample=(text + house.row(0)[:9]).encode())
    )
    assert (tried.row_count, tried.broken_count, tried.refusal) == (10, 1, "")
    assert tried.rows[0].record.line == house.line and tried.rows[0].record.from_number == "07700900123"


def test_a_wrong_zone_is_told_as_that_and_not_as_missing_calls(house):
    for at in range(8):
        house.file(600 * at, from_=f"077009001{at:02}")
    rows = "".join(house.row(600 * at + 3600, from_=f"077009001{at:02}") for at in range(9))
    answer = house.take(HEAD + rows)
    shift = answer.call_record_import.shift
    assert (shift.added.seconds, shift.time_zone, shift.explains) == (-3600, True, 8)
    (day,) = answer.days
    assert outcomes(day) == {"matched": 8, "missing": 1}


def test_a_catalogue_that_is_built_anew_makes_no_day_before_its_recordings_are_there(house):
    house.file(0)
    house.take(HEAD + house.row(0) + house.row(600))
    before = house.report()
    assert outcomes(before.day) == {"matched": 1, "missing": 1}
    box = house.box
    box.fix_port()
    box.stop()
    for path in box.layout.control.glob("catalogue.db*"):
        path.unlink()
    box.vault.stop()  # so that nothing is read anew yet
    box.start()
    house.client = box.client()
    house.look()
    assert house.report() == before
    box.vault.start()
    box.wait(lambda: box.control.parts.follower.connected)
    house.look()
    assert outcomes(house.report().day) == {"matched": 1, "missing": 1}


def test_many_missing_calls_are_one_alarm(house):
    house.take(HEAD + "".join(house.row(600 * at, from_=f"077009001{at:02}") for at in range(12)))
    assert house.alarms() == {"ManyCallsNotRecorded"}
    for at in range(11):
        house.file(600 * at, from_=f"077009001{at:02}")
    house.look()
    assert house.alarms() == {"CallNotRecorded"}


def test_recordings_of_a_day_without_records_are_an_alarm(house):
    house.file(0)
    after = datetime.fromtimestamp(house.noon, UTC) + timedelta(days=1)
    house.box.clock.ahead_ns = int(after.timestamp()) * S - time.time_ns()
    house.look()
    assert house.report().day.state == pb.COMPLETENESS_STATE_NO_RECORDS
    assert house.alarms() == {"CallRecordsAbsent"}
    house.take(HEAD + house.row(0))
    assert house.alarms() == set() and outcomes(house.report().day) == {"matched": 1}


def test_files_are_taken_from_the_watched_folder(make_box, sealing, tmp_path, monkeypatch):
    box = make_box()
    folder = tmp_path / "records"
    house = House(box, sealing)
    watch = box.control._completeness.watch
    watch._settings = CompletenessSettings(folder=folder)
    house.look()
    own = folder / house.source.name[-26:]
    assert {one.name for one in own.iterdir()} == {"done", "refused"}

    def lay(name: str, text: str, age_s: float = 60) -> None:
        (own / name).write_text(text)
        os.utime(own / name, (time.time() - age_s, time.time() - age_s))

    monkeypatch.setattr("appliance.api.completenesswatch.SETTLED_S", -1.0)
    lay("monday.csv", HEAD + house.row(0))
    lay("bad.csv", "no,such,columns\n1,2,3\n")
    lay(".hidden.csv", HEAD + house.row(60))
    (own / "link.csv").symlink_to(tmp_path / "elsewhere")
    house.look()
    assert {one.name for one in (own / "done").iterdir()} == {"monday.csv", "monday.csv.report.json"}
    told = json.loads((own / "done" / "monday.csv.report.json").read_text())
    assert (told["taken"], told["new"]) == (True, 1) and "07700" not in json.dumps(told)
    told = json.loads((own / "refused" / "bad.csv.report.json").read_text())
    assert (told["taken"], told["reason"]) == (False, "RECORD_MAP_MISFIT")
    assert house.alarms() == {"CallRecordsRefused", "CallNotRecorded"}
    lay("monday.csv", HEAD + house.row(0))
    house.look()
    assert json.loads((own / "done" / "monday.csv.2.report.json").read_text())["repeated"] == 1
    assert "CallRecordsRefused" not in house.alarms()
    entries = [one for one in box.audited() if one.get("what") == "call-records"]
    assert [one["outcome"] for one in entries] == ["RECORD_MAP_MISFIT", "taken", "taken"] or len(entries) == 3
    # A file that is being written is left alone.
    monkeypatch.setattr("appliance.api.completenesswatch.SETTLED_S", 3600.0)
    lay("new.csv", HEAD + house.row(60))
    house.look()
    assert (own / "new.csv").exists()
    # What was put away is removed after some days.
    old = time.time() - 8 * 86400
    os.utime(own / "done" / "monday.csv", (old, old))
    house.look()
    assert not (own / "done" / "monday.csv").exists()


def test_files_of_a_removed_source_go_by_their_age(make_box, sealing, tmp_path):
    box, folder = make_box(), tmp_path / "records"
    house = House(box, sealing)
    box.control._completeness.watch._settings = CompletenessSettings(folder=folder)
    gone = house.create().name
    kept_id, gone_id = house.source.name[-26:], gone[-26:]
    house.look()
    outside = tmp_path / "outside"
    outside.mkdir()
    elsewhere, linked = folder / "elsewhere", folder / new_id()
    for own in (folder / kept_id, folder / gone_id, elsewhere, outside):
        for part in ("done", "refused"):
            (own / part).mkdir(parents=True, exist_ok=True)
            (own / part / "monday.csv").write_text(HEAD + house.row(0))
        (own / ".new.csv").write_text(HEAD + house.row(60))  # nobody takes it
    linked.symlink_to(outside)
    house.client.completeness.DeleteCallRecordSource(pb.DeleteCallRecordSourceRequest(name=gone))

    def there(at: Path) -> set[str]:
        return {str(one.relative_to(at)) for one in at.rglob("*.csv")}

    every = {"done/monday.csv", "refused/monday.csv", ".new.csv"}
    house.look()
    assert there(folder / gone_id) == every, "they are young"
    old = time.time() - 8 * 86400
    for own in (folder / gone_id, elsewhere, outside):
        os.utime(own / "done" / "monday.csv", (old, old))
        os.utime(own / ".new.csv", (old, old))
    house.look()
    assert there(folder / gone_id) == {"refused/monday.csv", ".new.csv"}, "it was laid there just now"
    now_s = time.time() + 8 * 86400
    completenessleft.age(folder, {kept_id}, 7, ("done", "refused"), now_s)
    assert not (folder / gone_id).exists()
    assert there(folder / kept_id) == there(elsewhere) == there(outside) == every and linked.is_symlink()


def test_sources_are_made_changed_and_removed(house):
    client = house.client.completeness
    presets = client.ListCallRecordPresets(pb.ListCallRecordPresetsRequest()).presets
    assert len(presets) == 5
    made = client.CreateCallRecordSource(
        pb.CreateCallRecordSourceRequest(
            parent=house.parent,
            source=pb.CallRecordSource(display_name="Main", line=house.line, least_talk=Duration(seconds=3)),
            preset="cisco-cucm",
        )
    ).source
    assert made.map == next(one.map for one in presets if one.id == "cisco-cucm")
    update = pb.UpdateCallRecordSourceRequest(
        source=pb.CallRecordSource(name=made.name, display_name="Other", etag=made.etag),
        update_mask=FieldMask(paths=["display_name"]),
        validate_only=True,
    )
    assert client.UpdateCallRecordSource(update).source.display_name == "Other"
    assert client.GetCallRecordSource(pb.GetCallRecordSourceRequest(name=made.name)).source == made
    update.validate_only = False
    assert client.UpdateCallRecordSource(update).source.least_talk == made.least_talk
    assert refused(lambda: client.UpdateCallRecordSource(update)).reason == "ETAG_MISMATCH"
    names = [
        one.name
        for one in client.ListCallRecordSources(pb.ListCallRecordSourcesRequest(parent=house.parent)).sources
    ]
    assert names == [house.source.name, made.name]
    client.DeleteCallRecordSource(pb.DeleteCallRecordSourceRequest(name=made.name))
    told = refused(lambda: client.GetCallRecordSource(pb.GetCallRecordSourceRequest(name=made.name)))
    assert told.reason == "CALL_RECORD_SOURCE_NOT_FOUND"
    for fields, field in (
        ({"display_name": ""}, "source.display_name"),
        ({"map": pb.RecordMap(start="1")}, "map"),
        ({"line": "tenants/-/lines/x"}, "source.line"),
        ({"least_talk": Duration(seconds=61)}, "source.least_talk"),
    ):
        told = refused(lambda fields=fields: house.create(**fields))
        assert field in told.fields or told.data.get("field") == field, (fields, told)


def test_what_was_taken_and_not_compared_is_after_a_restart(house):
    house.file(0)
    house.take(HEAD + house.row(0) + house.row(60, from_="07700900124"))

    def crashed(connection) -> None:
        from appliance.catalog.completenesstables import call_records, completeness_days

        connection.execute(sa.update(call_records).values(outcome="", recording_id="", pinned=False))
        connection.execute(sa.delete(completeness_days))

    house.box.write(crashed)
    house.box.stop()
    house.box.start()
    house.client = house.box.client()
    house.box.wait(lambda: all(one.outcome != pb.CALL_OUTCOME_WAITING for one in house.told()))


def test_who_sees_what(house):
    other = house.client.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Other"))
    ).tenant.name
    house.take(HEAD + house.row(0))
    stranger = house.box.enroll("stranger", Role.RECORDS_OFFICER, tenant_id=other.split("/")[1])
    for call in (
        lambda: stranger.completeness.GetCompletenessReport(
            pb.GetCompletenessReportRequest(name=house.day_name)
        ),
        lambda: stranger.completeness.ListCallRecords(pb.ListCallRecordsRequest(parent=house.day_name)),
        lambda: stranger.completeness.GetCallRecordSource(
            pb.GetCallRecordSourceRequest(name=house.source.name)
        ),
    ):
        assert refused(call).reason == "TENANT_NOT_FOUND"
    machine = house.box.enroll("machine", Role.INTEGRATION, tenant_id=house.tenant_id)
    data = (HEAD + house.row(60)).encode()
    machine.completeness.ImportCallRecords(
        iter([pb.ImportCallRecordsRequest(parent=house.source.name, data=data)])
    )
    request = pb.ListCallRecordsRequest(parent=house.day_name)
    assert refused(lambda: machine.completeness.ListCallRecords(request)).reason == "METHOD_DENIED"
