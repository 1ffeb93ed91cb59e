"""Clause 10: no liability for inability to access, except under agreed service levels.

The promise: what service levels are agreed on is measured, by the box itself, from events: availability of access, planned
work apart; completeness of recording; alarms and how long they stood. It is a report that an outsider can verify.
"""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.access.identities import Role
from appliance.catalog import alarms
from appliance.model import new_id
from earwitness.v1 import completeness_pb2, evidence_pb2
from earwitness.v1 import documents_pb2 as pb
from earwitness.verify import BoxKeys
from earwitness.verify.signed import check

SECOND = 10**9
HOUR = 3600 * SECOND


def stamp(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // SECOND, nanos=ns % SECOND)


@pytest.fixture
def home(box) -> str:
    return f"tenants/{box.default_line()[0]}"


def level(client, parent, from_ns, until_ns) -> pb.ServiceLevel:
    request = pb.GetServiceLevelRequest(
        parent=parent, start_time=stamp(from_ns), end_time=stamp(until_ns), time_zone="UTC"
    )
    return client.documents.GetServiceLevel(request).service_level


def test_time_without_access_is_measured_and_planned_work_is_told_apart(box, home):
    began = box.clock()
    client = box.client()
    box.wait(lambda: level(client, home, began, began + 9 * HOUR).availability.HasField("ratio"))
    client.documents.NotePlannedWork(
        pb.NotePlannedWorkRequest(
            planned_work=pb.PlannedWork(end_time=stamp(box.clock() + HOUR), description="new disk")
        )
    )
    box.stop()
    box.clock.ahead_ns += 2 * HOUR
    box.start()
    client = box.client()

    def down():
        found = level(client, home, began, began + 9 * HOUR).availability
        return found if found.down.seconds else None

    found = box.wait(down)
    assert 2 * 3600 - 60 < found.down.seconds <= 2 * 3600 + 60
    assert 3600 - 60 < found.planned.seconds <= 3600
    assert found.agreed_ratio > found.ratio, "what was agreed is not held against the provider"
    late = pb.PlannedWork(start_time=stamp(began), end_time=stamp(began + HOUR), description="was planned")
    with pytest.raises(grpc.RpcError) as caught:
        client.documents.NotePlannedWork(pb.NotePlannedWorkRequest(planned_work=late))
    assert "planned_work.start_time" in earwitness.details(caught.value).fields, "nobody plans afterwards"


def test_completeness_and_alarms_stand_in_the_report(box, home):
    client = box.client()
    box.clock.ahead_ns += HOUR  # the line was there when the call came
    now = box.clock()
    source = completeness_pb2.CallRecordSource(
        display_name="Main",
        map=completeness_pb2.RecordMap(
            header_rows=1,
            start="at",
            duration="talk",
            from_number="from",
            to_number="to",
            time_format="epoch",
        ),
    )
    made = client.completeness.CreateCallRecordSource(
        completeness_pb2.CreateCallRecordSourceRequest(parent=home, source=source)
    ).source
    row = f"at,talk,from,to\n{now // SECOND - 1800},60,01632960001,200\n"
    client.completeness.ImportCallRecords(
        iter([completeness_pb2.ImportCallRecordsRequest(parent=made.name, data=row.encode())])
    )
    raised = box.write(lambda c: alarms.raise_alarm(c, "GrantRequested", new_id(), home[8:], now - 2 * HOUR))
    assert raised
    found = level(client, home, now - 24 * HOUR, now + HOUR)
    assert (found.completeness.contracted_count, found.completeness.missing_count) == (1, 1)
    assert found.completeness.ratio == 0.0
    stood = next(one for one in found.alarms if one.kind == "GrantRequested")
    assert 2 * 3600 - 60 < stood.stood.seconds < 2 * 3600 + 60 and stood.unacknowledged_count == 1


def test_the_report_is_for_the_client_and_verifies_without_the_box(box, home):
    auditor = box.enroll("auditor", Role.AUDITOR, tenant_id=home[8:])
    month = time.strftime("%Y-%m", time.gmtime(box.clock() // SECOND))
    request = pb.GenerateDocumentRequest(
        parent=home, kind=pb.DOCUMENT_KIND_SERVICE_LEVEL, format=pb.DOCUMENT_FORMAT_HTML, month=month
    )
    first, *rest = auditor.documents.GenerateDocument(request)
    page = b"".join(one.data for one in rest).decode()
    assert f"Service-level report, {month}" in page and "Availability of access" in page
    assert "It is not known" in page, "nothing is invented where no call records came"
    keys = BoxKeys.parse(box.client().evidence.GetBoxKeys(evidence_pb2.GetBoxKeysRequest()).keys).audit
    sha256 = first.document.sha256.hex()
    assert check("x", sha256, first.document.signature, keys).good
    assert not check("x", sha256.replace("0", "1"), first.document.signature, keys).good
