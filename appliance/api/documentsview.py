"""Documents, planned work and service levels as public messages, and their names."""

from __future__ import annotations

import re
from typing import Final

from appliance.api import convert
from appliance.api.errors import FieldInvalidError, NameInvalidError
from appliance.api.scope import confine
from appliance.catalog import availability, counting
from appliance.catalog.documents import DocumentKind, Made
from appliance.documents.availability import Availability
from appliance.documents.servicelevel import Level
from appliance.documents.words import day
from appliance.model import is_id
from appliance.model.served import Work
from earwitness.v1 import documents_pb2 as pb

_DOCUMENT = re.compile(r"(?:tenants/([a-z2-7]{26}|-)/)?documents/([a-z2-7]{26})")
_WORK = re.compile(r"plannedWork/([a-z2-7]{26})")
_KINDS: Final = {
    pb.DOCUMENT_KIND_PROCESSING_RECORD: DocumentKind.PROCESSING_RECORD,
    pb.DOCUMENT_KIND_PROTECTION_ANNEX: DocumentKind.PROTECTION_ANNEX,
    pb.DOCUMENT_KIND_SERVICE_LEVEL: DocumentKind.SERVICE_LEVEL,
    pb.DOCUMENT_KIND_ACCESS_REPORT: DocumentKind.ACCESS_REPORT,
}
_KIND_VALUES: Final = {kind: value for value, kind in _KINDS.items()}
FORMATS: Final = {
    pb.DOCUMENT_FORMAT_MARKDOWN: "md",
    pb.DOCUMENT_FORMAT_HTML: "html",
    pb.DOCUMENT_FORMAT_PDF: "pdf",
}
_FORMAT_VALUES: Final = {ending: value for value, ending in FORMATS.items()}


def kind_of(value: int, field: str = "kind") -> DocumentKind:
    """FieldInvalidError."""
    for known, kind in _KINDS.items():
        if known == value:
            return kind
    raise FieldInvalidError("should be one of the kinds there are", field=field)


def format_of(value: int) -> str:
    """The ending of such a file. FieldInvalidError."""
    for known, ending in FORMATS.items():
        if known == value:
            return ending
    raise FieldInvalidError("should be MARKDOWN, HTML or PDF", field="format")


def read_document(text: str) -> tuple[str | None, str]:
    """The tenant's id (empty: the box's; None: anybody's), and the document's. NameInvalidError."""
    found = _DOCUMENT.fullmatch(text)
    if found is None or not is_id(found[2]) or not (found[1] in (None, "-") or is_id(found[1])):
        raise NameInvalidError(
            "should be tenants/{tenant}/documents/{document} or documents/{document}", field="name"
        )
    return confine("" if found[1] is None else None if found[1] == "-" else found[1]), found[2]


def read_work(text: str) -> str:
    """The work's id. NameInvalidError."""
    found = _WORK.fullmatch(text)
    if found is None or not is_id(found[1]):
        raise NameInvalidError("should be plannedWork/{work}", field="name")
    return found[1]


def document(made: Made) -> pb.Document:
    """Without an id it was only checked."""
    below = f"tenants/{made.tenant_id}/" if made.tenant_id else ""
    answer = pb.Document(
        name=f"{below}documents/{made.id}" if made.id else "",
        kind=_KIND_VALUES[made.kind],
        format=_FORMAT_VALUES[made.format],
        create_time=convert.timestamp(made.make_ns),
        creator=made.who,
        time_zone=made.time_zone,
        names_people=made.people,
        size_bytes=made.size,
        sha256=bytes.fromhex(made.sha256),
        signature=made.signature,
        file_name=file_name(made),
    )
    if made.from_ns is not None and made.until_ns is not None:
        answer.start_time.CopyFrom(convert.timestamp(made.from_ns))
        answer.end_time.CopyFrom(convert.timestamp(made.until_ns))
    return answer


def file_name(made: Made) -> str:
    """Such as service-level-2026-11-01-to-2026-11-30.pdf: nothing of it is anybody's text."""
    zone = counting.zone(made.time_zone)
    if made.from_ns is None or made.until_ns is None:
        return f"{made.kind.value}-{day(made.make_ns, zone)}.{made.format}"
    first, last = day(made.from_ns, zone), day(made.until_ns - 1, zone)
    return f"{made.kind.value}-{first}{'' if first == last else f'-to-{last}'}.{made.format}"


def work(one: Work) -> pb.PlannedWork:
    return pb.PlannedWork(
        name=f"plannedWork/{one.id}" if one.id else "",
        start_time=convert.timestamp(one.begin_ns),
        end_time=convert.timestamp(one.end_ns),
        description=one.description,
        create_time=convert.timestamp(one.create_ns),
        creator=one.who,
        etag=availability.etag_of_work(one) if one.id else "",
    )


def level(found: Level, tenant_id: str, zone: str) -> pb.ServiceLevel:
    calls = found.calls
    answer = pb.ServiceLevel(
        parent=f"tenants/{tenant_id}" if tenant_id else "",
        measure_time=convert.timestamp(found.measure_ns),
        start_time=convert.timestamp(found.span.from_ns),
        end_time=convert.timestamp(found.span.until_ns),
        time_zone=zone,
        availability=_availability(found.availability),
        days=[
            pb.ServiceDay(day=one.day, availability=one.availability, completeness=one.completeness)
            for one in found.days
        ],
        alarms=[
            pb.AlarmsOfKind(
                kind=one.kind,
                count=one.count,
                stood=convert.duration(one.stood_ns),
                unacknowledged_count=one.unacknowledged,
                open_count=one.open,
            )
            for one in found.alarms
        ],
        calls=pb.CallFigures(
            recording_count=calls.recordings,
            duration=convert.duration(calls.duration_ns),
            gap_recording_count=calls.gap_recordings,
            gap_count=calls.gaps,
            lost=convert.duration(calls.lost_ns),
            recovered_count=calls.recovered,
        ),
    )
    if calls.median_delay_ns is not None:
        answer.calls.median_delay.CopyFrom(convert.duration(calls.median_delay_ns))
        answer.calls.high_delay.CopyFrom(convert.duration(calls.high_delay_ns or 0))
        answer.calls.longest_delay.CopyFrom(convert.duration(calls.longest_delay_ns or 0))
    if (complete := found.complete) is not None:
        answer.completeness.CopyFrom(
            pb.RecordingCompleteness(
                days=complete.days,
                silent_days=complete.silent,
                contracted_count=complete.expected,
                missing_count=complete.missing,
                fault_count=complete.faults,
                ratio=complete.ratio,
            )
        )
    return answer


def _availability(found: Availability) -> pb.Availability:
    return pb.Availability(
        available=convert.duration(found.available_ns),
        partial=convert.duration(found.partial_ns),
        down=convert.duration(found.down_ns),
        unmeasured=convert.duration(found.unmeasured_ns),
        planned=convert.duration(found.planned_ns),
        ratio=found.ratio,
        agreed_ratio=found.agreed_ratio,
        outages=[
            pb.Outage(
                start_time=convert.timestamp(one.begin_ns),
                end_time=None if one.open else convert.timestamp(one.end_ns),
                cause=pb.OutageCause.Value(f"OUTAGE_CAUSE_{one.cause.name}"),
                planned=convert.duration(one.planned_ns),
            )
            for one in found.outages
        ],
    )
