"""Requests for access: the clock, what is given, muted and withheld, and the pack that the person opens."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import threading
import time
from datetime import UTC, datetime, timedelta

import grpc
import jsonschema
import numpy as np
import pytest
import pyzipper
from google.protobuf.duration_pb2 import Duration

import earwitness
from appliance.access.identities import Role
from appliance.api import subjectjob, subjectpacks, subjects
from appliance.audit.note import open_note
from appliance.catalog import alarms, contracttables
from appliance.model import Mark, MarkKind, new_id
from appliance.packs import subject
from earwitness.v1 import operations_pb2, recordings_pb2
from earwitness.v1 import subjects_pb2 as pb

PASSPHRASE = "seven brown otters swim"
NUMBER = "01632 960001"
TODAY = datetime.now(UTC).date()


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


class Desk:
    """An officer at a box with some calls."""

    def __init__(self, box, sealing) -> None:
        self.box = box
        self._sealing = sealing
        tenant_id, self.line_id = box.default_line()
        self.tenant_id, self.tenant = tenant_id, f"tenants/{tenant_id}"
        self.client = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=tenant_id)
        self.stub = self.client.subjects

    def call(self, **how) -> str:
        made = self._sealing(
            self.tenant_id, self.line_id, **{"start_ns": time.time_ns() - 60 * 10**9, "noise": 7, **how}
        )
        recording_id = self.box.vault.file(made)
        self.box.filed(recording_id)
        return f"{self.tenant}/recordings/{recording_id}"

    def open(self, how=None, **fields) -> pb.SubjectRequest:
        said = {
            "reference": "SAR-7",
            "receive_date": TODAY.isoformat(),
            "identification": "Called back on the number in the record",
            "numbers": [pb.SubjectNumber(number=NUMBER, own=True)],
            **fields,
        }
        request = pb.CreateSubjectRequestRequest(
            parent=self.tenant, subject_request=pb.SubjectRequest(**said), **(how or {})
        )
        return self.stub.CreateSubjectRequest(request).subject_request

    def get(self, name: str) -> pb.SubjectRequest:
        return self.stub.GetSubjectRequest(pb.GetSubjectRequestRequest(name=name)).subject_request

    def find(self, name: str, **how) -> list[pb.SubjectCandidate]:
        return list(
            self.stub.FindSubjectRecordings(pb.FindSubjectRecordingsRequest(name=name, **how)).candidates
        )

    def choose(self, name: str, recording: str, give: bool = True, **fields) -> pb.SubjectChoice:
        choice = pb.SubjectChoice(recording=recording, give=give, **fields)
        return self.stub.SetSubjectChoice(pb.SetSubjectChoiceRequest(name=name, choice=choice)).choice

    def make(self, name: str, passphrase: str = PASSPHRASE, **how) -> pb.MakeSubjectPackResponse:
        request = pb.MakeSubjectPackRequest(name=name, passphrase=passphrase, **how)
        return self.stub.MakeSubjectPack(request)

    def made(self, name: str, **how) -> pb.SubjectPack:
        begun = self.make(name, **how)
        for one in self.client.operations.WatchOperation(
            operations_pb2.WatchOperationRequest(name=begun.operation.name), timeout=20
        ):
            last = one.operation
        assert last.state == operations_pb2.OPERATION_STATE_SUCCEEDED, last.failure
        return self.packs(name)[0]

    def packs(self, name: str) -> list[pb.SubjectPack]:
        return list(self.stub.ListSubjectPacks(pb.ListSubjectPacksRequest(parent=name)).packs)

    def download(
        self, pack: str, offset: int = 0, etag: str = ""
    ) -> tuple[recordings_pb2.DownloadHeader, bytes]:
        request = pb.DownloadSubjectPackRequest(name=pack, offset=offset, etag=etag)
        header, data = None, b""
        for item in self.stub.DownloadSubjectPack(request):
            if item.HasField("header"):
                header = item.header
            else:
                assert item.chunk.offset == offset + len(data)
                data += item.chunk.data
        assert header is not None
        return header, data

    def opened(self, pack: str) -> dict[str, bytes]:
        with pyzipper.AESZipFile(io.BytesIO(self.download(pack)[1])) as found:
            return {name: found.read(name, pwd=PASSPHRASE.encode()) for name in found.namelist()}

    def wav(self, recording: str) -> np.ndarray:
        """The unmuted rendering, as the box gives it to who may have it."""
        request = recordings_pb2.DownloadRecordingRequest(
            name=recording, format=earwitness.WAV, purpose="subject-access"
        )
        data = b"".join(item.chunk.data for item in self.client.recordings.DownloadRecording(request))
        return samples(data)

    def erase(self, recording: str) -> None:
        request = recordings_pb2.EraseRecordingRequest(name=recording, reason="asked for", force=True)
        self.client.recordings.EraseRecording(request)


def samples(wav: bytes) -> np.ndarray:
    return np.frombuffer(wav[44:], "<i2").reshape(-1, 2)


@pytest.fixture
def desk(box, sealing):
    return Desk(box, sealing)


def span(start_s: float, end_s: float) -> dict[str, Duration]:
    return {
        name: Duration(seconds=int(value), nanos=int(value % 1 * 1e9))
        for name, value in (("start_offset", start_s), ("end_offset", end_s))
    }


def test_a_request_has_a_clock_that_stands_goes_on_and_is_extended(desk):
    received = (TODAY - timedelta(days=20)).isoformat()
    one = desk.open(receive_date=received)
    assert one.state == pb.SUBJECT_REQUEST_STATE_RECEIVED and one.handler == "officer" and one.nation == "ENG"
    assert one.numbers[0].number == "441632960001", "in the form in which calls are found"
    assert one.due_date and 5 <= one.days_left <= 16
    pause = pb.PauseSubjectClockRequest(
        name=one.name,
        pause=pb.SUBJECT_CLOCK_PAUSE_CLARIFICATION,
        from_date=(TODAY - timedelta(days=10)).isoformat(),
    )
    stands = desk.stub.PauseSubjectClock(pause).subject_request
    assert not stands.due_date and stands.pause == pb.SUBJECT_CLOCK_PAUSE_CLARIFICATION
    assert desk.stub.PauseSubjectClock(pause).subject_request == stands, "it stands already"
    other = pb.PauseSubjectClockRequest(name=one.name, pause=pb.SUBJECT_CLOCK_PAUSE_IDENTITY)
    assert refused(lambda: desk.stub.PauseSubjectClock(other)).reason == "SUBJECT_REQUEST_STATE"
    early = pb.ResumeSubjectClockRequest(name=one.name, to_date=received)
    assert "to_date" in refused(lambda: desk.stub.ResumeSubjectClock(early)).fields
    goes = desk.stub.ResumeSubjectClock(pb.ResumeSubjectClockRequest(name=one.name)).subject_request
    assert 10 <= goes.days_left - one.days_left <= 15, "ten days, and to the next working day"
    extend = pb.ExtendSubjectClockRequest(name=one.name, reason="Hundreds of calls over ten years")
    longer = desk.stub.ExtendSubjectClock(extend).subject_request
    assert longer.days_left - goes.days_left > 50 and longer.extension_reason
    extend.reason = ""
    assert desk.stub.ExtendSubjectClock(extend).subject_request.due_date == goes.due_date, "taken back"
    assert [act.act for act in desk.get(one.name).acts][:3] == [
        "received",
        "awaits clarification",
        "has clarification",
    ]


def test_requests_are_listed_changed_closed_and_opened_again(desk):
    one, two = desk.open(), desk.open(reference="Ærø / 王小明 / محمد")
    listed = desk.stub.ListSubjectRequests(pb.ListSubjectRequestsRequest(parent=desk.tenant, page_size=1))
    assert [each.name for each in listed.subject_requests] == [two.name] and listed.next_page_token
    change = pb.UpdateSubjectRequestRequest(
        subject_request=pb.SubjectRequest(name=one.name, handler="Ward 7", etag=one.etag), validate_only=True
    )
    assert desk.stub.UpdateSubjectRequest(change).subject_request.handler == "Ward 7"
    assert desk.get(one.name) == one, "it was only tried"
    change.validate_only = False
    changed = desk.stub.UpdateSubjectRequest(change).subject_request
    assert changed.handler == "Ward 7" and changed.reference == "SAR-7"
    assert refused(lambda: desk.stub.UpdateSubjectRequest(change)).reason == "ETAG_MISMATCH"
    close = pb.CloseSubjectRequestRequest(
        name=one.name, outcome=pb.SUBJECT_REQUEST_STATE_REFUSED, reason="no"
    )
    assert "reason" in refused(lambda: desk.stub.CloseSubjectRequest(close)).fields
    close.reason = "Manifestly excessive: DPA 2018 s. 53"
    assert desk.stub.CloseSubjectRequest(close).subject_request.close_reason == close.reason
    assert refused(lambda: desk.choose(one.name, desk.call())).reason == "SUBJECT_REQUEST_STATE"
    assert (
        len(desk.stub.ListSubjectRequests(pb.ListSubjectRequestsRequest(parent=desk.tenant)).subject_requests)
        == 1
    )
    again = desk.stub.ReopenSubjectRequest(pb.ReopenSubjectRequestRequest(name=one.name)).subject_request
    assert again.state == pb.SUBJECT_REQUEST_STATE_RECEIVED and not again.close_reason
    first = desk.open(how={"request_id": "r1"})
    assert desk.open(how={"request_id": "r1"}).name == first.name


def test_bad_requests_name_the_field_and_the_reason(desk):
    for fields, field, reason in (
        ({"numbers": [pb.SubjectNumber(number="0163*", own=True)]}, "numbers[0].number", "NUMBER_PARTIAL"),
        ({"numbers": [pb.SubjectNumber(number="my mother", own=True)]}, "numbers[0].number", "INVALID"),
        (
            {"numbers": [pb.SubjectNumber(number=NUMBER, own=True), pb.SubjectNumber(number="0770 900123")]},
            "numbers[1].verification",
            "SUBJECT_NUMBER_UNVERIFIED",
        ),
        ({"receive_date": "25/11/2026"}, "receive_date", "FIELD_INVALID"),
        ({"receive_date": (TODAY + timedelta(days=3)).isoformat()}, "receive_date", "FIELD_INVALID"),
        ({"reference": ""}, "reference", "FIELD_INVALID"),
        ({"reference": "a\nb"}, "reference", "FIELD_INVALID"),
        ({"nation": "FRA"}, "nation", "FIELD_INVALID"),
        ({"identification": "x" * 1001}, "identification", "FIELD_INVALID"),
    ):
        error = refused(lambda fields=fields: desk.open(**fields))
        assert f"subject_request.{field}" in error.fields and error.reason == reason, (fields, error)
    proved = pb.SubjectNumber(
        number="0770 900123", verification="Parental responsibility, birth certificate seen"
    )
    assert desk.open(numbers=[proved]).numbers[0].verification == proved.verification


def test_calls_are_found_by_whole_numbers_and_nobody_gets_anothers_by_a_slip(desk, box):
    mine = [desk.call(numbers=("+441632960001", "200")), desk.call(numbers=("+447700900999", "01632960001"))]
    other = desk.call(numbers=("+441632960002", "200"))
    one = desk.open()
    assert {each.recording.name for each in desk.find(one.name)} == set(mine)
    page = desk.stub.FindSubjectRecordings(pb.FindSubjectRecordingsRequest(name=one.name, page_size=1))
    rest = desk.find(one.name, page_size=1, page_token=page.next_page_token)
    assert {page.candidates[0].recording.name, rest[0].recording.name} == set(mine)
    assert refused(lambda: desk.choose(one.name, other)).reason == "SUBJECT_CHOICE_OUTSIDE"
    desk.choose(one.name, mine[0])
    found = {each.recording.name: each.choice for each in desk.find(one.name)}
    assert found[mine[0]].give and found[mine[0]].actor.endswith("officer") and not found[mine[1]].recording
    assert desk.get(one.name).state == pb.SUBJECT_REQUEST_STATE_SEARCHING
    for give, fields, field in (
        (False, {}, "choice.ground"),
        (False, {"ground": pb.WITHHOLDING_GROUND_OTHER}, "choice.text"),
        (False, {"ground": pb.WITHHOLDING_GROUND_CRIME, "mutes": [pb.SubjectMute()]}, "choice.mutes"),
        (True, {"untold": True}, "choice.untold"),
        (True, {"mutes": [pb.SubjectMute(party=2)]}, "choice.mutes[0].party"),
        (True, {"mutes": [pb.SubjectMute(**span(2, 1))]}, "choice.mutes[0].end_offset"),
    ):
        error = refused(lambda give=give, fields=fields: desk.choose(one.name, mine[1], give, **fields))
        assert field in error.fields
    remove = pb.RemoveSubjectChoiceRequest(name=one.name, recording=mine[0])
    desk.stub.RemoveSubjectChoice(remove)
    assert not any(each.choice.recording for each in desk.find(one.name))
    assert refused(lambda: desk.make(one.name)).reason == "SUBJECT_PACK_EMPTY"
    mixed = desk.call(tracks=())
    party = [pb.SubjectMute(party=1)]
    assert refused(lambda: desk.choose(one.name, mixed, mutes=party)).reason == "SUBJECT_MUTE_IMPOSSIBLE"


def test_the_pack_holds_what_was_chosen_and_is_silent_where_it_must_be(desk, box):
    now_ns = time.time_ns() - 3600 * 10**9
    whole = desk.call(start_ns=now_ns, marks=(Mark(kind=MarkKind.PAUSED, at_ns=now_ns + 5 * 10**8),))
    party = desk.call(start_ns=now_ns + 10**9)
    stretch = desk.call(start_ns=now_ns + 2 * 10**9)
    private, secret = desk.call(start_ns=now_ns + 3 * 10**9), desk.call(start_ns=now_ns + 4 * 10**9)
    plain = {name: desk.wav(name) for name in (whole, party, stretch)}
    one = desk.open(reference="SAR <b>7</b> / 王小明")
    desk.choose(one.name, whole)
    desk.choose(one.name, party, mutes=[pb.SubjectMute(party=1)], ground=pb.WITHHOLDING_GROUND_THIRD_PARTY)
    desk.choose(one.name, stretch, mutes=[pb.SubjectMute(**span(0.5, 1.25))], text="Another patient is named")
    desk.choose(one.name, private, False, ground=pb.WITHHOLDING_GROUND_LEGAL_PRIVILEGE)
    desk.choose(one.name, secret, False, ground=pb.WITHHOLDING_GROUND_SERIOUS_HARM, untold=True)
    leases, tried = len(box.vault.leases), desk.make(one.name, validate_only=True)
    assert tried.pack.recording_count == 3 and not tried.operation.name and not desk.packs(one.name)
    assert len(box.vault.leases) == leases
    pack = desk.made(one.name)
    assert (pack.state, pack.recording_count) == (pb.SUBJECT_PACK_STATE_READY, 3)
    assert desk.get(one.name).state == pb.SUBJECT_REQUEST_STATE_READY
    files = desk.opened(pack.name)

    sound = [samples(files[f"audio/000{number}.wav"]) for number in (1, 2, 3)]
    assert np.array_equal(sound[0], plain[whole])
    assert plain[party][:, 1].any() and not sound[1][:, 1].any(), "digital silence, sample by sample"
    assert np.array_equal(sound[1][:, 0], plain[party][:, 0])
    assert plain[stretch][4000:10_000].any() and not sound[2][4000:10_000].any()
    for part in (slice(0, 4000), slice(10_000, None)):
        assert np.array_equal(sound[2][part], plain[stretch][part])

    index = json.loads(files["index.json"])
    jsonschema.validate(index, json.loads(files[subject.SCHEMA]))
    assert [each["file"] for each in index["recordings"]] == [
        f"audio/000{number}.wav" for number in (1, 2, 3)
    ]
    assert [each["ground"] for each in index["withheld"]] == ["legal-privilege"], (
        "what is not to be told is not told"
    )
    assert index["recordings"][0]["marks"] == [{"kind": "paused", "at_ms": 500, "to_ms": None}]
    assert index["recordings"][1]["muted"] == [{"whose": "agent", "from_ms": 0, "to_ms": None}]
    assert index["recordings"][2]["muted_reason"] == "Another patient is named"
    assert index["recordings"][0]["line"] == "All calls" and index["recordings"][0]["purposes"]
    assert {"records-officer"} == {role for read in index["recordings"][0]["reads"] for role in read["roles"]}
    page = files["index.html"].decode()
    assert "SAR &lt;b&gt;7&lt;/b&gt; / 王小明" in page and "Information Commissioner" in page
    for text in ("Ada Lovelace", "Grace Hopper", "1632960001", "officer@", desk.tenant_id):
        assert text not in page + files["index.json"].decode()

    sums = dict(reversed(line.split("  ")) for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name not in
                    ("SHA256SUMS", "SIGNATURE")}  # fmt: skip
    text, _ = open_note(files["SIGNATURE"], [box.control.trail.log.signer.verifier])
    digest = hashlib.sha256(files["SHA256SUMS"]).hexdigest()
    assert text == f"earwitness.example/subject-pack/v1\n{digest}\n"

    rows = box.write(lambda connection: connection.execute(contracttables.reads.select()).all())
    assert [row.recording_id for row in rows if row.kind == "subject-pack"] == [
        name[-26:] for name in sorted((whole, party, stretch), key=lambda each: each[-26:])
    ]
    entries = box.audited()
    assert sum(each["what"] == "read" and each.get("kind") == "subject-pack" for each in entries) == 3
    assert any(each.get("kind") == "subject-pack-download" for each in entries)


def test_the_passphrase_is_nowhere_once_the_pack_is_made(desk, box, caplog):
    one = desk.open()
    desk.choose(one.name, desk.call())
    for weak in ("", "short", "a" * 30, "пароль, длинный и разный"):
        assert "passphrase" in refused(lambda weak=weak: desk.make(one.name, weak)).fields
    pack = desk.made(one.name, request_id="once")
    assert desk.make(one.name, request_id="once").pack.name == pack.name
    again = desk.make(one.name, "another one that is long", request_id="once")
    assert again.pack.name == pack.name, "what is kept of the request does not help to guess it"
    box.stop()
    for path in box.layout.root.rglob("*"):
        if path.is_file():
            assert PASSPHRASE.encode() not in path.read_bytes(), path
    assert PASSPHRASE not in caplog.text


def test_a_pack_is_resumed_destroyed_and_gone_with_what_was_in_it(desk, box):
    one = desk.open()
    first, second = desk.call(seconds=20), desk.call(seconds=20)
    for each in (first, second):
        desk.choose(one.name, each)
    pack = desk.made(one.name)
    header, data = desk.download(pack.name)
    assert (len(data), hashlib.sha256(data).digest()) == (pack.size_bytes, pack.sha256)
    rest = desk.download(pack.name, 700_000, header.etag)[1]
    assert rest == data[700_000:]
    assert refused(lambda: desk.download(pack.name, 5)).reason == "OFFSET_INVALID"
    assert refused(lambda: desk.download(pack.name, 5, "zip-other")).reason == "ETAG_MISMATCH"
    folder = box.layout.control / subjectjob.FOLDER
    assert [path.suffix for path in folder.iterdir()] == [".zip"]

    desk.erase(first)
    assert refused(lambda: desk.download(pack.name)).reason == "SUBJECT_PACK_STATE", "at once"
    box.wait(lambda: not list(folder.iterdir()))
    ended = desk.packs(one.name)[0]
    assert (ended.state, ended.end_reason) == (pb.SUBJECT_PACK_STATE_DESTROYED, "RECORDING_ERASED")
    assert [each.recording.name for each in desk.find(one.name)] == [second]

    other = desk.made(one.name)
    assert other.recording_count == 1
    desk.stub.DeleteSubjectPack(pb.DeleteSubjectPackRequest(name=other.name))
    box.wait(lambda: not list(folder.iterdir()))
    assert desk.packs(one.name)[0].end_reason == "DELETED"

    third = desk.made(one.name, keep_days=2)
    box.clock.ahead_ns = 3 * 86400 * 10**9
    box.run(box.control._subjects.look())
    box.wait(lambda: not list(folder.iterdir()))
    assert desk.packs(one.name)[0].end_reason == "EXPIRED" and third.HasField("expire_time")


def test_it_is_made_anew_after_a_stop_and_says_why_it_failed(desk, box, monkeypatch):
    one = desk.open()
    first, second = desk.call(), desk.call()
    for each in (first, second):
        desk.choose(one.name, each)
    stuck, gone = threading.Event(), threading.Event()
    render = subjectjob.SubjectPacking._render

    def held(this, writer, name, *more):
        if name.endswith("0002.wav"):
            stuck.set()
            gone.wait(20)
            raise OSError(28, "as if it had been killed here")
        return render(this, writer, name, *more)

    monkeypatch.setattr(subjectjob.SubjectPacking, "_render", held)
    monkeypatch.setattr(
        subjectjob.SubjectPacking, "_discard", lambda *_: None
    )  # who is killed does not tidy up
    desk.make(one.name)
    assert stuck.wait(20)
    assert refused(lambda: desk.choose(one.name, first)).data["state"] == "making"
    assert refused(lambda: desk.make(one.name)).data["state"] == "making"
    box.fix_port()
    box.stop()
    gone.set()
    monkeypatch.undo()
    folder = box.layout.control / subjectjob.FOLDER
    assert [path.suffix for path in folder.iterdir()] == [".part"]
    box.start()
    desk.client = box.client("officer")
    desk.stub = desk.client.subjects
    box.wait(lambda: desk.packs(one.name)[0].state == pb.SUBJECT_PACK_STATE_READY)
    assert [path.suffix for path in folder.iterdir()] == [".zip"]
    assert {"audio/0001.wav", "audio/0002.wav"} <= set(desk.opened(desk.packs(one.name)[0].name))

    box.vault.files[second[-26:]].key = bytes(32)
    begun = desk.make(one.name)
    box.wait(lambda: desk.packs(one.name)[0].state == pb.SUBJECT_PACK_STATE_FAILED)
    assert desk.packs(one.name)[0].end_reason == "CORRUPT" and begun.pack.name == desk.packs(one.name)[0].name
    assert not list(folder.glob("*.part"))


def test_what_is_withheld_while_a_pack_is_begun_is_not_given(desk, box, monkeypatch):
    one = desk.open()
    first, second = desk.call(), desk.call()
    for each in (first, second):
        desk.choose(one.name, each)
    admit = subjectpacks.admit

    async def meanwhile(*words, **how):
        await asyncio.to_thread(
            desk.choose, one.name, second, False, ground=pb.WITHHOLDING_GROUND_THIRD_PARTY, text="another's"
        )
        return await admit(*words, **how)

    with monkeypatch.context() as patch:
        patch.setattr(subjectpacks, "admit", meanwhile)
        error = refused(lambda: desk.make(one.name))
    assert error.reason == "SUBJECT_REQUEST_STATE" and not desk.packs(one.name)
    assert desk.made(one.name).recording_count == 1


def test_reminders_are_alarms_at_seven_and_two_days_and_when_it_is_over(desk, box):
    one = desk.open()
    day = 86400 * 10**9

    def told() -> list[tuple[str, int, bool]]:
        box.run(box.control._subjects.look())
        rows = box.write(
            lambda c: [alarms.newest(c, kind, one.name[-26:]) for kind in (subjects.DUE, subjects.OVERDUE)]
        )
        return [(row.kind, row.data["days_left"], row.open) for row in rows if row is not None]

    assert told() == []
    left = one.days_left
    for days, expected in ((left - 7, 7), (left - 2, 2)):
        box.clock.ahead_ns = days * day
        assert told()[0] == (subjects.DUE, expected, True)
        assert told()[0] == (subjects.DUE, expected, True), "once a stage"
    box.clock.ahead_ns = (left + 1) * day
    assert told() == [(subjects.DUE, 2, False), (subjects.OVERDUE, -1, True)]
    close = pb.CloseSubjectRequestRequest(name=one.name, outcome=pb.SUBJECT_REQUEST_STATE_ANSWERED)
    desk.stub.CloseSubjectRequest(close)
    assert not any(open_ for *_, open_ in told())


def test_identity_comes_before_the_pack(desk):
    one = desk.open(identification="")
    desk.choose(one.name, desk.call())
    assert refused(lambda: desk.make(one.name)).data["state"] == "unidentified"


def test_another_tenants_are_as_none(desk, box):
    one = desk.open()
    other = box.enroll("other", Role.RECORDS_OFFICER, tenant_id=new_id())
    asked = pb.GetSubjectRequestRequest(name=one.name)
    assert refused(lambda: other.subjects.GetSubjectRequest(asked)).reason == "SUBJECT_REQUEST_NOT_FOUND"
