"""Call records, their sources and days as public messages, and column maps from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from appliance.api import convert, names
from appliance.api.errors import FieldInvalidError
from appliance.catalog.completeness import Day, Record
from appliance.catalog.recordsources import Import, Source
from appliance.completeness import report
from appliance.completeness.facts import Outcome
from appliance.completeness.maps import RecordMap, checked
from appliance.completeness.presets import PRESETS
from appliance.completeness.reading import CallRecord, Problem
from appliance.model import Direction
from earwitness.v1 import completeness_pb2 as pb
from earwitness.v1 import party_pb2

_STATES: Final = {
    "preliminary": pb.COMPLETENESS_STATE_PRELIMINARY,
    "final": pb.COMPLETENESS_STATE_FINAL,
    "no-records": pb.COMPLETENESS_STATE_NO_RECORDS,
}
_PLAIN: Final = (
    *("delimiter", "header_rows", "start", "start_time", "answer", "end", "ring", "duration", "from_number"),
    *("to_number", "extension", "direction", "internal", "disposition", "time_zone", "decimal_comma"),
)
_DEFAULTED: Final = ("encoding", "time_format", "duration_format", "delimiter")
MAX_WORDS: Final = 32


def map_of(said: pb.RecordMap, preset: str = "") -> RecordMap:
    """What somebody said of a map, or a preset where nothing is. RecordMapError, FieldInvalidError."""
    if preset and preset not in PRESETS:
        raise FieldInvalidError("is no preset: see ListCallRecordPresets", field="preset")
    if preset and not said.ByteSize():
        return PRESETS[preset]
    if len(said.directions) > MAX_WORDS:
        raise FieldInvalidError(f"at most {MAX_WORDS}", field="map.directions")
    directions = {}
    for one in said.directions:
        if one.direction not in party_pb2.Direction.values() or not one.direction:
            raise FieldInvalidError("should be inbound, outbound or internal", field="map.directions")
        directions[one.word] = Direction(
            party_pb2.Direction.Name(one.direction).removeprefix("DIRECTION_").lower()
        )
    fields: dict[str, Any] = {name: getattr(said, name) for name in (*_PLAIN, *_DEFAULTED)}
    for name in _DEFAULTED:
        if not fields[name]:
            del fields[name]
    lists = {name: tuple(getattr(said, name)) for name in ("call_id", "answered", "strip")}
    return checked({**fields, **lists, "directions": directions})


def map_message(how: RecordMap) -> pb.RecordMap:
    made = pb.RecordMap(
        **{name: getattr(how, name) for name in (*_PLAIN, "encoding", "time_format", "duration_format")}
    )
    made.call_id.extend(how.call_id)
    made.answered.extend(how.answered)
    made.strip.extend(how.strip)
    for word, direction in sorted(how.directions.items()):
        made.directions.add(word=word, direction=convert.direction(direction))
    return made


def source(one: Source) -> pb.CallRecordSource:
    return pb.CallRecordSource(
        name=names.record_source(one.tenant_id, one.id),
        display_name=one.display_name,
        map=map_message(RecordMap.model_validate(one.map)),
        line=names.line(one.tenant_id, one.line_id) if one.line_id else "",
        least_talk=convert.duration(one.least_talk_ns),
        create_time=convert.timestamp(one.create_ns),
        etag=one.etag,
    )


def problems(some: Iterable[Problem | list[Any]]) -> list[pb.RecordProblem]:
    found = []
    for one in some:
        row, column, reason = (one.row, one.column, one.reason) if isinstance(one, Problem) else one
        found.append(pb.RecordProblem(row=row, column=column, reason=reason))
    return found


def shift(said: dict[str, Any]) -> pb.ClockShift | None:
    if not said:
        return None
    return pb.ClockShift(
        added=convert.duration(said["ns"]),
        time_zone=said["zone"],
        explains=said["explains"],
        explained_before=said["before"],
    )


def import_(one: Import, *, full: bool = True) -> pb.CallRecordImport:
    return pb.CallRecordImport(
        name=f"tenants/{one.tenant_id}/callRecordImports/{one.id}" if one.id else "",
        source=names.record_source(one.tenant_id, one.source_id),
        create_time=convert.timestamp(one.create_ns),
        creator=one.creator,
        sha256=bytes.fromhex(one.sha256),
        row_count=one.rows,
        new_count=one.fresh,
        repeated_count=one.repeated,
        old_count=one.old,
        broken_count=one.broken,
        problems=problems(one.problems) if full else (),
        repeats=f"tenants/{one.tenant_id}/callRecordImports/{one.repeats}" if one.repeats else "",
        shift=shift(one.shift),
    )


def outcome(value: str) -> pb.CallOutcome.ValueType:
    return (
        pb.CallOutcome.Value(f"CALL_OUTCOME_{value.upper().replace('-', '_')}")
        if value
        else pb.CALL_OUTCOME_WAITING
    )


def outcome_of(value: int, field: str) -> Outcome:
    """FieldInvalidError."""
    if value not in pb.CallOutcome.values() or not value:
        raise FieldInvalidError("is no outcome", field=field)
    return Outcome(pb.CallOutcome.Name(value).removeprefix("CALL_OUTCOME_").lower().replace("_", "-"))  # type: ignore[arg-type]


def day(one: Day) -> pb.CompletenessDay:
    return pb.CompletenessDay(
        name=f"tenants/{one.tenant_id}/completenessDays/{one.day}",
        state=_STATES[one.state],
        revision=one.revision,
        make_time=convert.timestamp(one.make_ns),
        contracted_count=one.expected,
        missing_count=one.missing,
        fault_count=one.faults,
        completeness=report.ratio(one.expected, one.missing),
        outcomes=[
            pb.OutcomeCount(outcome=outcome(word.value), count=one.outcomes[word.value])
            for word in Outcome
            if one.outcomes.get(word.value)
        ],
        shift=shift(one.shift),
        uncovered_count=one.uncovered,
    )


def record(one: Record) -> pb.CallRecord:
    return pb.CallRecord(
        name=f"tenants/{one.tenant_id}/callRecords/{one.id}",
        start_time=convert.timestamp(one.start_ns),
        answer_time=None if one.answer_ns is None else convert.timestamp(one.answer_ns),
        talk=convert.duration(one.talk_ns),
        direction=convert.direction(Direction(one.direction)),
        line=names.line(one.tenant_id, one.line_id),
        from_number=one.from_number,
        to_number=one.to_number,
        extension=one.extension,
        outcome=outcome(one.outcome),
        recording=names.recording(one.tenant_id, one.recording_id) if one.recording_id else "",
        off=convert.duration(one.off_ns),
        detail=one.detail,
        source=names.record_source(one.tenant_id, one.source_id),
    )


def tried(tenant_id: str, one: CallRecord, line_id: str, direction: Direction) -> pb.TriedRow:
    return pb.TriedRow(
        row=one.row,
        record=pb.CallRecord(
            start_time=convert.timestamp(one.start_ns),
            answer_time=None if one.answer_ns is None else convert.timestamp(one.answer_ns),
            talk=convert.duration(one.talk_ns),
            direction=convert.direction(direction),
            line=names.line(tenant_id, line_id),
            from_number=one.from_number,
            to_number=one.to_number,
            extension=one.extension,
            outcome=pb.CALL_OUTCOME_UNSPECIFIED if one.answered else pb.CALL_OUTCOME_UNANSWERED,
        ),
    )
