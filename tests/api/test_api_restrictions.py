"""Restrictions and objections: kept, not read, whatever the way; and not lifted by a loss of the catalogue."""

from __future__ import annotations

import time

import grpc
import pytest
from anycall import methods

import earwitness
from appliance.access.identities import Role
from appliance.api import gate
from appliance.api.restriction import FILE
from appliance.catalog import restrictions
from appliance.model import new_id
from earwitness.v1 import calls_pb2, recordings_pb2, retention_pb2
from earwitness.v1 import subjects_pb2 as pb

# What each method that names a recording, or what was said in a call, may do with one that is restricted. A method that is
# new fails the test until somebody has said here whether it is a way to read: READS is tried with each.
READS = {
    "/earwitness.v1.RecordingsService/DownloadRecording",
    "/earwitness.v1.RecordingsService/GetWaveform",
    "/earwitness.v1.SubjectsService/MakeSubjectPack",
    "/earwitness.v1.SubjectsService/DownloadSubjectPack",
}
LIVE = {"/earwitness.v1.CallsService/ListenCall"}  # of calls that go on: there is no recording yet
# Streams of bytes, and words of sound, that are not a recording's.
OTHERWISE = {
    "/earwitness.v1.PromptsService/DownloadPrompt",
    "/earwitness.v1.AuditService/ExportAudit",
    "/earwitness.v1.DocumentsService/GenerateDocument",
    "/earwitness.v1.DocumentsService/DownloadDocument",  # reports and agreements: counts, no calls
    "/earwitness.v1.AuditService/WatchAuditEntries",
    "/earwitness.v1.RecordingsService/VerifyRecording",  # says whether it is whole, and nothing of what was said
    "/earwitness.v1.OperationsService/VerifyRecordings",
    "/earwitness.v1.BoxService/VerifyVault",
    "/earwitness.v1.EvidenceService/GetEvidence",  # hashes and signatures
    "/earwitness.v1.ClosingService/CreateExitPack",  # to the controller, with what is restricted marked as that
}
_WORDS = (
    "Download",
    "Waveform",
    "Listen",
    "Export",
    "Pack",
    "Verify",
    "Evidence",
    "Play",
    "Audio",
    "Transcript",
    "Stream",
)
_NO_READ = ("List", "Get", "Delete", "Update", "Watch")


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


class Ward:
    def __init__(self, box, sealing) -> None:
        self.box, self._sealing = box, sealing
        self.tenant_id, self.line_id = box.default_line()
        self.tenant = f"tenants/{self.tenant_id}"
        self.client = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=self.tenant_id)

    def call(self, number: str = "+441632960001", **how) -> str:
        made = self._sealing(
            self.tenant_id, self.line_id, **{"start_ns": time.time_ns(), "numbers": (number, "200"), **how}
        )
        recording_id = self.box.vault.file(made)
        self.box.filed(recording_id)
        return f"{self.tenant}/recordings/{recording_id}"

    def restrict(self, ground=pb.RESTRICTION_GROUND_ACCURACY, how=None, **fields) -> pb.Restriction:
        restriction = pb.Restriction(ground=ground, reason="The person says so", **fields)
        request = pb.CreateRestrictionRequest(parent=self.tenant, restriction=restriction, **(how or {}))
        return self.client.subjects.CreateRestriction(request).restriction

    def lift(self, name: str) -> pb.Restriction:
        request = pb.LiftRestrictionRequest(name=name, reason="Accuracy was checked; the person was told")
        return self.client.subjects.LiftRestriction(request).restriction

    def get(self, name: str) -> pb.Restriction:
        return self.client.subjects.GetRestriction(pb.GetRestrictionRequest(name=name)).restriction

    def read(self, name: str) -> bytes:
        request = recordings_pb2.DownloadRecordingRequest(
            name=name, format=earwitness.WAV, purpose="complaints"
        )
        return b"".join(item.chunk.data for item in self.client.recordings.DownloadRecording(request))

    def listed(self, filter_: str = "") -> dict[str, list[str]]:
        request = recordings_pb2.ListRecordingsRequest(parent=self.tenant, filter=filter_)
        found = self.client.recordings.ListRecordings(request).recordings
        return {one.name: list(one.flags) for one in found}

    def holds(self, released: bool = False) -> list[retention_pb2.LegalHold]:
        request = retention_pb2.ListLegalHoldsRequest(parent=self.tenant, show_released=released)
        return list(self.client.retention.ListLegalHolds(request).legal_holds)


@pytest.fixture
def ward(box, sealing):
    return Ward(box, sealing)


def test_every_method_that_could_read_is_known_here():
    some = {
        one.path
        for one in methods()
        if any(word in one.descriptor.name for word in _WORDS)
        and not (one.descriptor.name.startswith(_NO_READ) and one.descriptor.name != "GetWaveform")
        and not one.descriptor.name.startswith(("Request", "Approve"))
    }
    some |= {
        one.path
        for one in methods()
        if one.descriptor.server_streaming
        and any(
            field.type == field.TYPE_BYTES
            for part in one.descriptor.output_type.fields
            for field in (part.message_type.fields if part.message_type else [part])
        )
    }
    paths = {one.path for one in methods()}
    unknown = some - READS - LIVE - OTHERWISE
    assert not unknown, "say in this module whether these read recordings"
    assert paths >= READS


def ways(ward: Ward, name: str, pack: str, request: str) -> dict[str, object]:
    """Each of READS, tried on a recording that is restricted."""
    recordings, subjects = ward.client.recordings, ward.client.subjects
    formats = [recordings_pb2.DownloadFormat.Value(one) for one in recordings_pb2.DownloadFormat.keys()[1:]]
    return {
        "/earwitness.v1.RecordingsService/DownloadRecording": [
            lambda format_=format_: list(
                recordings.DownloadRecording(
                    recordings_pb2.DownloadRecordingRequest(name=name, format=format_, purpose="complaints")
                )
            )
            for format_ in formats
        ],
        "/earwitness.v1.RecordingsService/GetWaveform": [
            lambda: recordings.GetWaveform(recordings_pb2.GetWaveformRequest(name=name, purpose="complaints"))
        ],
        "/earwitness.v1.SubjectsService/MakeSubjectPack": [
            lambda: subjects.MakeSubjectPack(
                pb.MakeSubjectPackRequest(name=request, passphrase="seven brown otters swim")
            )
        ],
        "/earwitness.v1.SubjectsService/DownloadSubjectPack": [
            lambda: list(subjects.DownloadSubjectPack(pb.DownloadSubjectPackRequest(name=pack)))
        ],
    }


def asked(ward: Ward, name: str) -> str:
    made = ward.client.subjects.CreateSubjectRequest(
        pb.CreateSubjectRequestRequest(
            parent=ward.tenant,
            subject_request=pb.SubjectRequest(
                reference="x",
                receive_date=time.strftime("%Y-%m-%d", time.gmtime()),
                identification="known",
                numbers=[pb.SubjectNumber(number="01632960001", own=True)],
            ),
        )
    ).subject_request.name
    choose(ward, made, name)
    return made


def choose(ward: Ward, request: str, name: str, exception: int = 0) -> None:
    choice = pb.SubjectChoice(recording=name, give=True, restriction_exception=exception)
    ward.client.subjects.SetSubjectChoice(pb.SetSubjectChoiceRequest(name=request, choice=choice))


def made_pack(ward: Ward, request: str) -> str:
    begun = ward.client.subjects.MakeSubjectPack(
        pb.MakeSubjectPackRequest(name=request, passphrase="seven brown otters swim")
    ).pack.name

    def ready() -> bool:
        packs = ward.client.subjects.ListSubjectPacks(pb.ListSubjectPacksRequest(parent=request)).packs
        return packs[0].state == pb.SUBJECT_PACK_STATE_READY

    ward.box.wait(ready)
    return begun


def test_what_is_restricted_is_read_in_no_way(ward, box):
    name, other = ward.call(), ward.call("+441632960002")
    request = asked(ward, name)
    pack = made_pack(ward, request)
    assert ward.read(name) and ward.read(other), "it is rendered, and held"
    made = ward.restrict(recordings=[name])
    assert (made.state, made.recording_count) == (pb.RESTRICTION_STATE_ACTIVE, 1)
    leases = len(box.vault.leases)
    tried = ways(ward, name, pack, request)
    assert set(tried) == READS
    for path, calls in tried.items():
        for call in calls:
            error = refused(call)
            assert error.reason == "RECORDING_RESTRICTED", path
            assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert len(box.vault.leases) == leases, "no key was asked for"
    assert ward.read(other)

    flagged = ward.listed("restricted:true")
    assert list(flagged) == [name] and "restricted" in flagged[name]
    assert set(ward.listed("restricted:false")) == {other} and len(ward.listed()) == 2

    choose(ward, request, name, pb.RESTRICTION_EXCEPTION_CONSENT)
    again = made_pack(ward, request)
    assert list(ward.client.subjects.DownloadSubjectPack(pb.DownloadSubjectPackRequest(name=again)))
    entry = next(one for one in reversed(box.audited()) if one["what"] == "read" and "recording" in one)
    assert entry["restricted_for"] == "consent"

    lifted = ward.lift(made.name)
    assert (lifted.state, lifted.recording_count) == (pb.RESTRICTION_STATE_LIFTED, 0)
    assert [act.act for act in lifted.acts] == ["restricted", "lifted"] and ward.lift(made.name) == lifted
    assert ward.read(name) and not ward.listed("restricted:true")


# Each stream of READS, and each way in which one that is under way is decided against.
FORMATS = ("SEALED", "WAV", "FLAC")
STREAMS = [*FORMATS, "/earwitness.v1.SubjectsService/DownloadSubjectPack"]
DECISIONS = {
    "restricted": lambda ward, name: ward.restrict(recordings=[name]),
    "deleted": lambda ward, name: ward.client.recordings.DeleteRecording(
        recordings_pb2.DeleteRecordingRequest(name=name, reason="as asked")
    ),
    "erased": lambda ward, name: ward.client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=name, reason="as asked", force=True)
    ),
    "erased in the vault": lambda ward, name: ward.box.vault._erase(name[-26:], "retention"),
}
ENDS = {
    "restricted": {"RECORDING_RESTRICTED"},
    "deleted": {"RECORDING_NOT_READABLE"},
    "erased": {"ERASED", "SUBJECT_PACK_STATE"},
    "erased in the vault": {"ERASED", "SUBJECT_PACK_STATE"},
}


def test_every_stream_of_a_recording_is_tried_here():
    streams = {one.path for one in methods() if one.descriptor.server_streaming} & READS
    assert streams == {"/earwitness.v1.RecordingsService/DownloadRecording", STREAMS[-1]}


@pytest.mark.parametrize("way", STREAMS)
def test_what_is_decided_ends_what_is_under_way(ward, way, monkeypatch):
    ended, abort = [], gate._abort

    async def told(context, status, call) -> None:
        if call.method in READS:
            ended.append(call)
        await abort(context, status, call)

    monkeypatch.setattr(gate, "_abort", told)
    others = [one for one in DECISIONS if not (one == "deleted" and way == STREAMS[-1])]
    for decision in others:
        name = ward.call(seconds=900 if way == "SEALED" else 300, noise=3)  # more than waits on its way
        if way in FORMATS:
            request = recordings_pb2.DownloadRecordingRequest(
                name=name, format=recordings_pb2.DownloadFormat.Value(f"DOWNLOAD_FORMAT_{way}")
            )
            request.purpose = "complaints"
            stream = ward.client.recordings.DownloadRecording(request)
        else:
            pack = made_pack(ward, asked(ward, name))
            stream = ward.client.subjects.DownloadSubjectPack(pb.DownloadSubjectPackRequest(name=pack))
        while not next(stream).HasField("chunk"):
            pass
        DECISIONS[decision](ward, name)
        # Nobody takes anything meanwhile: it ends all the same.
        ward.box.wait(lambda: ended, 8)
        ended.clear()
        error = refused(lambda stream=stream: list(stream))
        assert error.reason in ENDS[decision], (decision, error.reason)


def test_a_numbers_calls_are_restricted_and_those_that_will_come(ward, box):
    name, other = ward.call(), ward.call("+441632960002")
    tried = ward.restrict(number="01632 960001", how={"validate_only": True})
    assert tried.recording_count == 1 and not tried.name and ward.read(name)
    made = ward.restrict(number="01632 960001")
    assert refused(lambda: ward.read(name)).reason == "RECORDING_RESTRICTED" and ward.read(other)
    later = ward.call("01632960001")
    assert refused(lambda: ward.read(later)).reason == "RECORDING_RESTRICTED"
    assert ward.get(made.name).recording_count == 2
    found = box.write(
        lambda c: [
            restrictions.of_numbers(c, tenant, ["+441632960001"], time.time_ns())
            for tenant in (ward.tenant_id, new_id())
        ]
    )
    assert [len(one) for one in found] == [1, 0], "what who listens to a live call asks"
    for number, reason in (("0163*", "NUMBER_PARTIAL"), ("somebody", "INVALID")):
        error = refused(lambda number=number: ward.restrict(number=number))
        assert error.reason == reason and "restriction.number" in error.fields
    assert "restriction.recordings" in refused(ward.restrict).fields
    strange = [f"tenants/{new_id()}/recordings/{name[-26:]}"]
    assert refused(lambda: ward.restrict(recordings=strange)).reason == "RECORDING_NOT_FOUND"


def test_a_live_call_of_a_restricted_number_is_not_listened_to(ward, box):
    live = box.signaling.begin(ward.tenant_id, ward.line_id)
    box.wait(lambda: any(one.call_id == live for one in box.control.parts.board.calls()))

    def listen() -> earwitness.Details:
        request = calls_pb2.ListenCallRequest(
            name=f"{ward.tenant}/calls/{live}", purpose="quality", format=calls_pb2.LISTEN_FORMAT_PCM
        )
        return refused(lambda: list(ward.client.calls.ListenCall(request)))

    assert listen().reason != "RECORDING_RESTRICTED"
    made = ward.restrict(number="01632960001")
    assert listen().reason == "RECORDING_RESTRICTED"
    ward.lift(made.name)
    assert listen().reason != "RECORDING_RESTRICTED"


def test_for_a_legal_claim_a_legal_hold_keeps_it_and_goes_with_it(ward, box):
    name = ward.call()
    made = ward.restrict(pb.RESTRICTION_GROUND_LEGAL_CLAIM, number="01632960001")
    held = ward.holds()
    assert [one.name for one in held] == [made.legal_hold] and made.legal_hold
    error = refused(
        lambda: ward.client.recordings.EraseRecording(
            recordings_pb2.EraseRecordingRequest(name=name, reason="x", force=True)
        )
    )
    assert error.reason.startswith("RECORDING_HELD") or "HOLD" in error.reason
    later = ward.call("01632960001")
    box.wait(lambda: later[-26:] in _held(ward, made.legal_hold))
    ward.lift(made.name)
    assert not ward.holds() and ward.holds(released=True)
    other = ward.restrict(pb.RESTRICTION_GROUND_ACCURACY, recordings=[name])
    assert not other.legal_hold and not ward.holds(), "on other grounds it may expire"


def _held(ward: Ward, hold: str) -> str:
    request = retention_pb2.ListLegalHoldRecordingsRequest(parent=hold)
    return str(ward.client.retention.ListLegalHoldRecordings(request))


def decide(ward: Ward, name: str, decision) -> pb.Restriction:
    request = pb.DecideObjectionRequest(name=name, decision=decision, reason="As was weighed up")
    return ward.client.subjects.DecideObjection(request).restriction


def test_an_objection_restricts_until_it_is_decided(ward, box):
    name = ward.call()
    kept = ward.restrict(pb.RESTRICTION_GROUND_OBJECTION, recordings=[name])
    assert kept.state == pb.RESTRICTION_STATE_PENDING
    assert refused(lambda: ward.read(name)).reason == "RECORDING_RESTRICTED"
    assert decide(ward, kept.name, pb.OBJECTION_DECISION_OVERRIDE).state == pb.RESTRICTION_STATE_OVERRIDDEN
    assert ward.read(name)
    error = refused(lambda: decide(ward, kept.name, pb.OBJECTION_DECISION_ERASE))
    assert error.reason == "RESTRICTION_STATE"
    again = ward.restrict(pb.RESTRICTION_GROUND_OBJECTION, recordings=[name])
    upheld = decide(ward, again.name, pb.OBJECTION_DECISION_KEEP_RESTRICTED)
    assert upheld.state == pb.RESTRICTION_STATE_UPHELD
    assert refused(lambda: ward.read(name)).reason == "RECORDING_RESTRICTED"
    last = decide(ward, again.name, pb.OBJECTION_DECISION_ERASE)
    assert [act.act for act in last.acts] == ["objected", "upheld: keep restricted", "upheld: erase"]
    box.wait(lambda: ward.get(again.name).recording_count == 0)
    assert refused(lambda: ward.read(name)).reason == "ERASED"
    other = ward.restrict(recordings=[ward.call()])
    assert (
        refused(lambda: decide(ward, other.name, pb.OBJECTION_DECISION_ERASE)).reason == "RESTRICTION_STATE"
    )
    request = pb.ListRestrictionsRequest(parent=ward.tenant, show_ended=True, page_size=2)
    first = ward.client.subjects.ListRestrictions(request)
    request.page_token = first.next_page_token
    rest = ward.client.subjects.ListRestrictions(request)
    assert [one.name for one in (*first.restrictions, *rest.restrictions)] == [
        other.name,
        again.name,
        kept.name,
    ]


def test_why_goes_with_the_last_recording_also_from_the_copy(ward, box):
    name, other = ward.call(), ward.call()
    made = ward.restrict(recordings=[name, other])
    keeper = box.control._subjects.keeper

    def copied() -> str:
        return str(keeper._read()["restrictions"])

    for one in (name, other):
        assert ward.get(made.name).reason == "The person says so" and "The person says so" in copied()
        request = recordings_pb2.EraseRecordingRequest(name=one, reason="as asked", force=True)
        ward.client.recordings.EraseRecording(request)
    box.wait(lambda: not ward.get(made.name).recording_count)
    found = ward.get(made.name)
    assert (found.reason, [(act.act, act.reason) for act in found.acts]) == ("", [("restricted", "")])
    box.wait(lambda: "The person says so" not in copied())
    assert [act.reason for act in ward.lift(made.name).acts] == ["", ""], (
        "words of what is erased are not kept"
    )
    assert refused(lambda: ward.restrict(recordings=[name])).reason == "ERASED"


def test_what_was_to_be_erased_and_was_decided_otherwise_stays(ward, box):
    name = ward.call()
    kept = ward.restrict(pb.RESTRICTION_GROUND_OBJECTION, recordings=[name])
    box.vault.stop()
    decide(ward, kept.name, pb.OBJECTION_DECISION_ERASE)
    decide(ward, kept.name, pb.OBJECTION_DECISION_KEEP_RESTRICTED)
    box.vault.start()
    box.wait(lambda: box.control.parts.follower.connected)
    box.run(box.control._subjects.keeper.attempt())
    assert ward.get(kept.name).recording_count == 1
    assert refused(lambda: ward.read(name)).reason == "RECORDING_RESTRICTED"


@pytest.mark.parametrize("damaged", [False, True])
def test_a_lost_catalogue_lifts_no_restriction(ward, box, damaged):
    name = ward.call()
    ward.restrict(number="01632960001")
    copy = box.layout.control / FILE
    assert b"1632960001" not in copy.read_bytes(), "numbers of people lie there sealed"
    box.fix_port()
    box.stop()
    if damaged:
        spoiled = copy.read_bytes()[:-1]
        copy.write_bytes(spoiled)
    else:
        for path in box.layout.control.glob("catalogue.db*"):
            path.unlink()
    box.start()
    box.filed(name[-26:])
    ward.client = box.client()  # the officer was not written into the copy of identities
    box.wait(lambda: name in ward.listed())
    assert refused(lambda: ward.read(name)).reason == "RECORDING_RESTRICTED"
    later = ward.call("01632960001")
    assert refused(lambda: ward.read(later)).reason == "RECORDING_RESTRICTED"
    raised = {one.type: one.message for one in box.status.conditions()}
    assert ("RestrictionsCopyAltered" if damaged else "RestrictionsRestored") in raised
    kept = list(box.layout.control.glob(f"{FILE}.damaged-*"))
    assert [one.read_bytes() for one in kept] == ([spoiled] if damaged else []), "the evidence stays"
    assert all(one.name in raised["RestrictionsCopyAltered"] for one in kept)
