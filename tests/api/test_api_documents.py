"""Documents made from the real configuration: each fact that is changed changes them; they are kept and signed."""

from __future__ import annotations

import hashlib
import io

import grpc
import pypdf
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.access.identities import Role
from appliance.api import serving
from appliance.catalog import alarms, documents, reads
from appliance.model import Mark, MarkKind, new_id
from earwitness.v1 import (
    closing_pb2,
    evidence_pb2,
    grants_pb2,
    keys_pb2,
    prompts_pb2,
    retention_pb2,
    subjects_pb2,
    tenants_pb2,
)
from earwitness.v1 import documents_pb2 as pb
from earwitness.verify import BoxKeys
from earwitness.verify.signed import check

SECOND = 10**9
DAY = 86400 * SECOND
PASSPHRASE = "correct horse battery staple"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def any_box(request, make_box, make_url):
    return make_box(catalogue="" if request.param == "sqlite" else make_url())


@pytest.fixture
def home(box) -> str:
    return f"tenants/{box.default_line()[0]}"


def make(client, parent, kind, form="MARKDOWN", **fields) -> tuple[pb.Document, bytes]:
    request = pb.GenerateDocumentRequest(
        parent=parent,
        kind=pb.DocumentKind.Value(f"DOCUMENT_KIND_{kind}"),
        format=pb.DocumentFormat.Value(f"DOCUMENT_FORMAT_{form}"),
        **fields,
    )
    parts = list(client.documents.GenerateDocument(request, timeout=60))
    return parts[0].document, b"".join(part.data for part in parts[1:])


def text(client, parent, kind, **fields) -> str:
    return make(client, parent, kind, **fields)[1].decode()


def stamp(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // SECOND, nanos=ns % SECOND)


def row(said: str, first: str) -> str:
    """The line of a table that begins so."""
    return next(line for line in said.splitlines() if line.startswith(f"| {first} |"))


def test_each_fact_that_is_changed_changes_the_documents(box, home):
    client = box.client()
    line = f"{home}/lines/{box.default_line()[1]}"

    def annex(**fields) -> str:
        return text(client, home, "PROTECTION_ANNEX", **fields)

    before = annex()
    assert "| Tenant's keys | automatic" in before
    client.keys.SetKeyMode(
        keys_pb2.SetKeyModeRequest(
            name=f"{home}/keys", mode=keys_pb2.KEY_MODE_ATTENDED, passphrase=PASSPHRASE
        )
    )
    assert "| Tenant's keys | attended: under a passphrase of the tenant's own" in annex()

    policy = retention_pb2.RetentionPolicy(name=f"{line}/retentionPolicy", retention="9y", grace_days=70)
    client.retention.UpdateRetentionPolicy(
        retention_pb2.UpdateRetentionPolicyRequest(retention_policy=policy)
    )
    said = annex()
    kept = said[said.index("Retention by line") :]
    assert "9 years | the line | 70 days" in kept and "9 years" not in before
    policy.retention = "2y"
    client.retention.UpdateRetentionPolicy(
        retention_pb2.UpdateRetentionPolicyRequest(retention_policy=policy)
    )
    assert "retention becomes 2 years on" in annex(), "it waits, and the document says so"

    prompt = client.prompts.ListPrompts(prompts_pb2.ListPromptsRequest()).prompts[0]
    announced = tenants_pb2.Line(
        name=line,
        inline=tenants_pb2.InlineRules(
            inbound=[tenants_pb2.Target(uri="sip:pbx.example")],
            announcement=tenants_pb2.Announcement(prompts=[prompt.name]),
        ),
    )
    client.tenants.UpdateLine(tenants_pb2.UpdateLineRequest(line=announced))
    words = prompt.text.split(".")[0]
    assert words not in before and words in annex()
    announced.inline.ClearField("announcement")
    client.tenants.UpdateLine(tenants_pb2.UpdateLineRequest(line=announced))
    assert words not in annex() and "no announcement is played by the box" in annex()

    box.enroll("ada", Role.RECORDS_OFFICER, tenant_id=home[8:])
    assert "| records officer | 1 |" in annex() and "| records officer | 0 |" in before
    assert "ada" not in annex() and "| records officer | 1 | ada |" in annex(include_people=True)

    box.enroll("helper", Role.SUPPORT)
    client.subjects.CreateRestriction(
        subjects_pb2.CreateRestrictionRequest(
            parent=home,
            restriction=subjects_pb2.Restriction(
                ground=subjects_pb2.RESTRICTION_GROUND_ACCURACY, reason="x", number="+441632960777"
            ),
        )
    )
    record = text(client, home, "PROCESSING_RECORD")
    assert row(record, "Restrictions in force \\(Art. 18\\)").endswith("| 1 |")
    assert "+44" not in record and "1632" not in record, "nobody's number"
    client.tenants.UpdateTenant(
        tenants_pb2.UpdateTenantRequest(
            tenant=tenants_pb2.Tenant(name=home, records_officer_contact="records@surgery.example")
        )
    )
    assert "records@surgery.example" in text(client, home, "PROCESSING_RECORD")
    client.closing.CloseLine(closing_pb2.CloseLineRequest(name=line, reason="moved"))
    assert row(annex(), client.tenants.GetLine(tenants_pb2.GetLineRequest(name=line)).line.display_name)
    assert "closing" in annex() and "closing" not in before


def test_a_grant_stands_in_the_annex_while_it_is_open(box, home, sealing):
    client = box.client()
    box.enroll("helper", Role.SUPPORT)
    made = sealing(*box.default_line())
    box.filed(box.vault.file(made))
    assert "Support grants that are open" in text(client, home, "PROTECTION_ANNEX")
    grant = client.grants.CreateGrant(
        grants_pb2.CreateGrantRequest(
            parent=home,
            grant=grants_pb2.SupportGrant(
                identities=["helper"],
                purpose="system-operation",
                necessity="it sounds as if under water",
                scope=grants_pb2.GrantScope(recordings=[f"{home}/recordings/{made.info.recording_id}"]),
                end_time=stamp(box.clock() + DAY),
                max_reads=3,
            ),
        )
    ).grant
    grant_id = grant.name.rsplit("/", 1)[1]
    said = text(client, home, "PROTECTION_ANNEX")
    assert "0 of 3" in row(said, grant_id) and "under water" not in said
    client.grants.RevokeGrant(grants_pb2.RevokeGrantRequest(name=grant.name, reason="done"))
    assert grant_id not in text(client, home, "PROTECTION_ANNEX")


def test_the_service_level_is_what_was_measured(box, home, sealing, monkeypatch):
    monkeypatch.setattr(serving, "LOOK_S", 0.05)
    client = box.client()
    began = box.clock()
    span = {"start_time": stamp(began - 3600 * SECOND), "end_time": stamp(began + 40 * DAY)}

    def level(parent="", **how):
        request = pb.GetServiceLevelRequest(parent=parent, **{**span, **how})
        return client.documents.GetServiceLevel(request).service_level

    now = box.wait(lambda: level() if level().availability.HasField("ratio") else None)
    assert now.availability.ratio == 1.0 and not now.availability.outages
    assert 3500 < now.availability.unmeasured.seconds < 3700, "before the first start nobody measured"
    assert not now.HasField("completeness") and not now.days[0].HasField("completeness")

    # The box is off for four hours, of which the first was planned.
    client.documents.NotePlannedWork(
        pb.NotePlannedWorkRequest(
            planned_work=pb.PlannedWork(
                end_time=stamp(box.clock() + 3600 * SECOND), description="new power supply"
            )
        )
    )
    box.stop()
    box.clock.ahead_ns += 4 * 3600 * SECOND
    box.start()
    client = box.client()

    def stopped(found):
        known = [one for one in found.availability.outages if one.cause == pb.OUTAGE_CAUSE_STOPPED]
        return [one for one in known if one.HasField("end_time")]  # until it was measured again it lasts

    box.wait(lambda: stopped(level()))
    found = level()
    (outage,) = stopped(found)
    lasted = outage.end_time.seconds - outage.start_time.seconds
    assert 4 * 3600 - 30 < lasted < 4 * 3600 + 30
    assert 3600 - 60 < outage.planned.seconds <= 3600
    assert found.availability.ratio < 0.1 and found.availability.agreed_ratio > found.availability.ratio
    assert found.days and any(one.availability < 1 for one in found.days if one.HasField("availability"))

    # The vault is away for a moment: that is told apart.
    box.vault.stop()
    box.wait(lambda: level().availability.partial.ToNanoseconds())
    assert level().availability.outages[-1].cause == pb.OUTAGE_CAUSE_VAULT
    assert not level().availability.outages[-1].HasField("end_time")
    assert "the vault did not answer" in text(client, home, "PROTECTION_ANNEX")
    box.vault.start()
    box.wait(lambda: level().availability.outages[-1].HasField("end_time"))

    line_id = box.default_line()[1]
    box.filed(box.vault.file(sealing(home[8:], line_id, start_ns=box.clock() - 60 * SECOND)))
    box.write(lambda c: alarms.raise_alarm(c, "GrantRequested", new_id(), home[8:], box.clock()))
    box.write(lambda c: alarms.raise_alarm(c, "ProcessDown", "capture-0", "", box.clock()))
    ours = level(home)
    assert ours.calls.recording_count == 1 and ours.calls.duration.seconds == 2
    told = {one.kind: (one.count, one.open_count) for one in ours.alarms}
    assert told["GrantRequested"] == (1, 1) and "ProcessDown" in told, "that touches recording"
    assert "GrantRequested" not in {one.kind for one in level().alarms}
    said = text(client, home, "SERVICE_LEVEL", **span)
    for words in (
        "did not serve",
        "the vault was away",
        "new power supply",
        "It is not known",
        "| Recordings | 1 |",
    ):
        assert words in said, words


def test_reads_stand_in_the_access_report_which_operators_do_not_get(box, home):
    client = box.client()
    now = box.clock()

    def note(connection):
        for who, purpose, reason in (
            ("ada", "quality", ""),
            ("ada", "quality", ""),
            ("bob", "training", "PURPOSE_NOT_STATED"),
        ):
            reads.note(
                connection,
                reads.Read(
                    now - 60 * SECOND, home[8:], new_id(), purpose, "line", "download",
                    f"{home[8:]}/{who}", ("records-officer",), refused=reason,
                ),
            )  # fmt: skip
        for why in ("The coroner asks for it", ""):  # the second one's recording was erased since
            reads.note(
                connection,
                reads.Read(
                    now - 60 * SECOND, home[8:], new_id(), "evidence", "line", "listen",
                    f"{home[8:]}/eve", ("records-officer",), overridden=True, override_reason=why,
                ),
            )  # fmt: skip

    box.write(note)
    span = {"start_time": stamp(now - DAY), "end_time": stamp(now + DAY)}
    said = text(client, home, "ACCESS_REPORT", **span)
    assert row(said, "ada").startswith("| ada | 2 |") and row(said, "quality").startswith("| quality | 2 |")
    assert row(said, "PURPOSE\\_NOT\\_STATED").endswith("| 1 |")
    whys = [one.rsplit("|", 2)[1].strip() for one in said.splitlines() if "| eve | evidence |" in one]
    assert sorted(whys) == ["erased", "given"] and "earwitness purposes report" in said
    made, page = make(client, home, "ACCESS_REPORT", "HTML", **span)
    assert b"coroner" not in page and "coroner" not in said, (
        "the document may be kept longer than the recording"
    )
    assert b"<svg" in page and b"Reads by purpose" in page and made.names_people
    operator = box.enroll("op", Role.OPERATOR)
    assert refused(lambda: make(operator, home, "ACCESS_REPORT", **span)).reason == "ROLE_NEEDED"
    download = pb.DownloadDocumentRequest(name=made.name)
    assert refused(lambda: list(operator.documents.DownloadDocument(download))).reason == "ROLE_NEEDED"
    listing = pb.ListDocumentsRequest(parent=home)
    assert len(client.documents.ListDocuments(listing).documents) == 2
    assert not operator.documents.ListDocuments(listing).documents


def test_documents_are_signed_kept_and_given_again(box, home, monkeypatch):
    client = box.client()
    seen = {}
    for form in ("MARKDOWN", "HTML", "PDF"):
        made, content = make(client, home, "PROTECTION_ANNEX", form)
        assert (made.sha256, made.size_bytes) == (hashlib.sha256(content).digest(), len(content))
        again = list(client.documents.DownloadDocument(pb.DownloadDocumentRequest(name=made.name)))
        assert again[0].document == made and b"".join(one.data for one in again[1:]) == content
        seen[made.name] = made
        keys = BoxKeys.parse(client.evidence.GetBoxKeys(evidence_pb2.GetBoxKeysRequest()).keys).audit
        good = check(made.file_name, made.sha256.hex(), made.signature, keys)
        assert good.good and good.kind == "protection-annex"
        assert not check(
            made.file_name, hashlib.sha256(content + b" ").hexdigest(), made.signature, keys
        ).good
    read = pypdf.PdfReader(io.BytesIO(content))
    assert read.metadata.title.startswith("Data-protection annex") and read.trailer["/Root"]["/Lang"] == "en"
    assert f"Page 1 of {len(read.pages)}" in read.pages[0].extract_text() and len(read.pages) > 1

    of_box, _ = make(client, "", "PROCESSING_RECORD")
    assert of_box.name.startswith("documents/")
    first = client.documents.ListDocuments(pb.ListDocumentsRequest(parent="tenants/-", page_size=3))
    rest = client.documents.ListDocuments(
        pb.ListDocumentsRequest(parent="tenants/-", page_size=3, page_token=first.next_page_token)
    )
    names = [one.name for one in (*first.documents, *rest.documents)]
    assert names == [of_box.name, *reversed(seen)]
    assert [one.name for one in client.documents.ListDocuments(pb.ListDocumentsRequest()).documents] == names[
        :1
    ]

    dry, nothing = make(client, home, "PROTECTION_ANNEX", validate_only=True)
    assert not dry.name and not dry.signature and not nothing and dry.size_bytes
    once, _ = make(client, home, "PROTECTION_ANNEX", request_id="r1")
    assert make(client, home, "PROTECTION_ANNEX", request_id="r1")[0] == once
    assert len(client.documents.ListDocuments(pb.ListDocumentsRequest(parent=home)).documents) == 4
    monkeypatch.setattr(documents, "MAX_KEPT", 4)
    assert refused(lambda: make(client, home, "PROTECTION_ANNEX")).reason == "DOCUMENT_LIMIT"
    box.write(lambda connection: documents.prune(connection, box.clock() + 401 * DAY))
    assert (
        refused(
            lambda: list(client.documents.DownloadDocument(pb.DownloadDocumentRequest(name=once.name)))
        ).reason
        == "DOCUMENT_NOT_FOUND"
    )

    auditor = box.enroll("auditor", Role.AUDITOR, tenant_id=home[8:])
    assert make(auditor, home, "PROTECTION_ANNEX")[1]
    assert refused(lambda: make(auditor, "", "PROCESSING_RECORD")).reason == "TENANT_NOT_FOUND"
    assert (
        refused(lambda: auditor.documents.ListDocuments(pb.ListDocumentsRequest())).reason
        == "TENANT_NOT_FOUND"
    )
    stranger = pb.DownloadDocumentRequest(name=of_box.name)
    assert refused(lambda: list(auditor.documents.DownloadDocument(stranger))).reason == "DOCUMENT_NOT_FOUND"


def test_what_is_asked_wrongly_is_named(box, home):
    client = box.client()
    now = box.clock()
    span = {"start_time": stamp(now - DAY), "end_time": stamp(now)}
    for kind, parent, fields, field in (
        ("UNSPECIFIED", home, {}, "kind"),
        ("SERVICE_LEVEL", home, {"language": "cy"}, "language"),
        ("SERVICE_LEVEL", home, {"month": "2026-13"}, "month"),
        ("SERVICE_LEVEL", home, {"month": "2099-01"}, "month"),
        ("SERVICE_LEVEL", home, {"month": "2026-01", **span}, "month"),
        ("SERVICE_LEVEL", home, {"end_time": stamp(now)}, "start_time"),
        ("SERVICE_LEVEL", home, {"start_time": stamp(now), "end_time": stamp(now - DAY)}, "end_time"),
        ("SERVICE_LEVEL", home, {"start_time": stamp(now - 401 * DAY), "end_time": stamp(now)}, "end_time"),
        ("SERVICE_LEVEL", home, {"time_zone": "Mars/Base"}, "time_zone"),
        ("SERVICE_LEVEL", "tenants/-", {}, "parent"),
        ("PROTECTION_ANNEX", "", {}, "parent"),
        ("PROTECTION_ANNEX", home, span, "start_time"),
        ("PROCESSING_RECORD", home, {"include_people": True}, "include_people"),
    ):
        found = refused(lambda k=kind, p=parent, f=fields: make(client, p, k, **f))
        assert field in found.fields, (kind, fields, found)
    assert "format" in refused(lambda: make(client, home, "SERVICE_LEVEL", "UNSPECIFIED")).fields

    def plan(**fields):
        work = pb.PlannedWork(**{"description": "x", "end_time": stamp(now + 3600 * SECOND), **fields})
        return client.documents.NotePlannedWork(pb.NotePlannedWorkRequest(planned_work=work)).planned_work

    for fields, field in (
        ({"description": ""}, "planned_work.description"),
        ({"end_time": stamp(now - SECOND)}, "planned_work.end_time"),
        ({"end_time": stamp(now + 8 * DAY)}, "planned_work.end_time"),
        ({"start_time": stamp(now - 3600 * SECOND)}, "planned_work.start_time"),
    ):
        assert field in refused(lambda f=fields: plan(**f)).fields
    later = plan(start_time=stamp(now + DAY), end_time=stamp(now + 2 * DAY))
    running = plan()
    assert [
        one.name for one in client.documents.ListPlannedWork(pb.ListPlannedWorkRequest()).planned_work
    ] == [
        later.name,
        running.name,
    ]
    stale = pb.CancelPlannedWorkRequest(name=later.name, etag="x")
    assert refused(lambda: client.documents.CancelPlannedWork(stale)).reason == "ETAG_MISMATCH"
    cancel = pb.CancelPlannedWorkRequest(name=running.name)
    ended = client.documents.CancelPlannedWork(cancel).planned_work
    assert ended.end_time.ToNanoseconds() <= box.clock() + SECOND
    assert not client.documents.CancelPlannedWork(pb.CancelPlannedWorkRequest(name=later.name)).HasField(
        "planned_work"
    )
    gone = pb.CancelPlannedWorkRequest(name=later.name)
    assert refused(lambda: client.documents.CancelPlannedWork(gone)).reason == "PLANNED_WORK_NOT_FOUND"


def test_figures_are_counted_in_either_database(any_box, sealing):
    box = any_box
    client, now = box.client(), box.clock()
    tenant_id, line_id = box.default_line()
    home, start = f"tenants/{tenant_id}", now - 600 * SECOND
    gap = Mark(
        kind=MarkKind.GAP, at_ns=start + SECOND, data={"until_ns": start + SECOND // 2 * 3, "cause": "disk"}
    )
    open_ended = Mark(kind=MarkKind.GAP, at_ns=start + SECOND, data={"cause": "disk"})
    made = [
        sealing(tenant_id, line_id, start_ns=start, seconds=2, marks=(gap, open_ended)),
        sealing(tenant_id, line_id, start_ns=start + SECOND, seconds=3),
    ]
    for one in made:
        box.filed(box.vault.file(one))
    read = reads.Read(
        now - SECOND, tenant_id, new_id(), "quality", "line", "download", "ris", ("integration",)
    )
    box.write(lambda connection: reads.note(connection, read))
    client.documents.NotePlannedWork(
        pb.NotePlannedWorkRequest(
            planned_work=pb.PlannedWork(end_time=stamp(now + DAY), description="nothing is away")
        )
    )
    span = {"start_time": stamp(now - DAY), "end_time": stamp(now + DAY)}
    found = client.documents.GetServiceLevel(pb.GetServiceLevelRequest(parent=home, **span)).service_level
    calls = found.calls
    assert (calls.recording_count, calls.duration.seconds) == (2, 5)
    assert (calls.gap_recording_count, calls.gap_count) == (1, 2)
    assert calls.lost.ToNanoseconds() == SECOND // 2, "what has no end counts nothing"
    assert not found.availability.planned.ToNanoseconds()
    # The vault files them five seconds after they began; they end after two and three.
    assert (calls.median_delay.seconds, calls.longest_delay.seconds) == (2, 3)
    for kind in ("SERVICE_LEVEL", "ACCESS_REPORT"):
        document, content = make(client, home, kind, **span)
        assert document.size_bytes == len(content)
    assert row(content.decode(), "quality").startswith("| quality | 1 |")
    assert "| Recordings held | 2 |" in text(client, home, "PROCESSING_RECORD")
    assert len(client.documents.ListDocuments(pb.ListDocumentsRequest(parent=home)).documents) == 3
    box.write(lambda connection: documents.prune(connection, now + 401 * DAY))
    assert not client.documents.ListDocuments(pb.ListDocumentsRequest(parent=home)).documents
