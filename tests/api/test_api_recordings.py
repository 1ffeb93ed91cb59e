"""Finding, deleting, erasing recordings; the catalogue against the vault."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import earwitness
from appliance.catalog import recordings as rows
from appliance.model import Mark, MarkKind, new_id
from earwitness.internal.v1 import vault_pb2
from earwitness.v1 import box_pb2, retention_pb2
from earwitness.v1 import recordings_pb2 as pb

SECOND = 10**9
START = 1_764_000_000 * SECOND


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def name(recording_id: str) -> str:
    return f"tenants/-/recordings/{recording_id}"


def get(client, recording_id: str) -> pb.Recording:
    return client.recordings.GetRecording(pb.GetRecordingRequest(name=name(recording_id))).recording


def search(client, **how) -> list[str]:
    request = pb.ListRecordingsRequest(**{"parent": "tenants/-", **how})
    return [one.name[-26:] for one in client.recordings.ListRecordings(request).recordings]


@pytest.fixture
def filed(box, sealing):
    """A box with one recording, and its id."""
    recording_id = box.vault.file(sealing(*box.default_line()))
    box.filed(recording_id)
    return recording_id


def test_what_the_sealed_file_says_is_found(box, sealing, pause_mark):
    tenant, line = box.default_line()
    recording = sealing(tenant, line, seconds=3, marks=(pause_mark,), flags=("metadata-missing",))
    recording_id = box.vault.file(recording)
    box.filed(recording_id)
    client = box.client()
    found = get(client, recording_id)
    assert found.name == f"tenants/{tenant}/recordings/{recording_id}"
    assert found.line == f"tenants/{tenant}/lines/{line}"
    assert found.call == f"tenants/{tenant}/calls/{recording.info.call_id}"
    assert found.start_time.ToNanoseconds() == START and found.duration.ToNanoseconds() == 3 * SECOND
    assert [(p.number, p.display_name, list(p.tracks)) for p in found.parties] == [
        ("+441632960001", "Ada Lovelace", [0]),
        ("200", "Dr. Grace Hopper", [1]),
    ]
    assert [list(track.encodings) for track in found.tracks] == [["PCMU"], ["PCMU"]]
    mark = found.marks[0]
    assert (mark.kind, mark.offset.ToNanoseconds(), mark.reason) == (
        pb.MARK_KIND_PAUSED,
        SECOND,
        "card number",
    )
    assert found.flags == ["metadata-missing"] and found.whole and found.size_bytes == len(recording.data)
    for text in (
        'party.number:"01632 960001"',
        "party.name:hopper",
        "marks:PAUSED duration>=3s",
        'session_ids:"ucid-1234" AND start_time >= 2025-11-24',
        f"call={found.call}",
        f"line={line} AND NOT flags:x",
    ):
        assert search(client, filter=text) == [recording_id], text
    assert search(client, filter="party.name:lovelock") == []
    assert search(client, parent=f"tenants/{new_id()}") == []
    basic = client.recordings.ListRecordings(pb.ListRecordingsRequest(parent="tenants/-")).recordings[0]
    assert basic.parties and not basic.marks and not basic.tracks
    full = client.recordings.ListRecordings(
        pb.ListRecordingsRequest(parent="tenants/-", view=pb.RECORDING_VIEW_FULL)
    ).recordings[0]
    assert full == found


def test_a_file_that_cannot_be_read_is_found_all_the_same(box, sealing):
    recording = sealing(*box.default_line())
    recording.key = bytes(32)  # not its key
    recording_id = box.vault.file(recording)
    box.filed(recording_id)
    found = get(box.client(), recording_id)
    assert found.flags == ["info-unreadable"] and not found.parties
    assert found.start_time.ToNanoseconds() == START - 1000
    report = list(
        box.client().recordings.VerifyRecording(pb.VerifyRecordingRequest(name=name(recording_id)))
    )[-1]
    assert report.report.verdict == pb.VERDICT_DAMAGED


def test_quarantine_is_shown_with_its_reason(box):
    recording_id = new_id()
    holding = vault_pb2.Holding(
        recording_id=recording_id,
        state=vault_pb2.HOLDING_STATE_QUARANTINED,
        reason="no key",
        created_ns=5,
        since_ns=9,
    )
    box.vault._set(holding)
    box.filed(recording_id)
    client = box.client()
    assert search(client, filter="state=QUARANTINED") == [recording_id]
    found = get(client, recording_id)
    assert (found.state, found.state_reason, found.line) == (pb.RECORDING_STATE_QUARANTINED, "no key", "")
    request = pb.DownloadRecordingRequest(name=name(recording_id), format=pb.DOWNLOAD_FORMAT_WAV)
    assert (
        refused(lambda: list(client.recordings.DownloadRecording(request))).reason == "RECORDING_NOT_READABLE"
    )


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        ({"parent": "tenants"}, "NAME_INVALID", "parent"),
        ({"parent": "tenants/" + "b" * 26}, "NAME_INVALID", "parent"),  # 26 characters, but no id
        ({"page_size": -1}, "FIELD_INVALID", "page_size"),
        ({"page_token": "x"}, "PAGE_TOKEN_INVALID", "page_token"),
        ({"order_by": "name"}, "ORDER_INVALID", "order_by"),
        ({"filter": "party.number = (x)"}, "FILTER_INVALID", "party.number"),
        ({"filter": "duration > 5"}, "FILTER_INVALID", "duration"),
    ],
)
def test_bad_lists_name_the_field(box, request_, reason, field):
    request = pb.ListRecordingsRequest(**{"parent": "tenants/-", **request_})
    found = refused(lambda: box.client().recordings.ListRecordings(request))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert list(found.fields) == [field]


def test_pages(box, sealing):
    line = box.default_line()
    ids = [box.vault.file(sealing(*line, seconds=0, start_ns=START + n * SECOND)) for n in range(5)]
    box.filed(ids[-1])
    client = box.client()

    def page(token="", size=2, **how):
        request = pb.ListRecordingsRequest(parent="tenants/-", page_size=size, page_token=token, **how)
        answer = client.recordings.ListRecordings(request)
        return [one.name[-26:] for one in answer.recordings], answer.next_page_token

    first, token = page()
    box.filed(box.vault.file(sealing(*line, seconds=0, start_ns=START + 9 * SECOND)))
    box.filed(box.vault.file(sealing(*line, seconds=0, start_ns=START)))
    second, next_token = page(token, size=3)  # the size may change
    assert first + second == ids[::-1] and next_token == ""
    assert page(token)[0] == page(token)[0], "a token may be used twice"
    assert refused(lambda: page(token, filter="part=1")).reason == "PAGE_TOKEN_INVALID"
    assert (
        refused(lambda: page(token[:-1] + ("A" if token[-1] != "A" else "B"))).reason == "PAGE_TOKEN_INVALID"
    )
    box.clock.ahead_ns = 25 * 3600 * SECOND
    assert refused(lambda: page(token)).reason == "PAGE_TOKEN_EXPIRED"


def test_delete_and_undelete(box, filed):
    client = box.client()
    before = get(client, filed)
    request = pb.DeleteRecordingRequest(name=name(filed), reason="wrong number", etag=before.etag)
    deleted = client.recordings.DeleteRecording(request).recording
    assert deleted.state == pb.RECORDING_STATE_DELETED and deleted.state_reason == "wrong number"
    assert deleted.purge_time.ToNanoseconds() == deleted.state_time.ToNanoseconds() + 30 * 86400 * SECOND
    assert search(client) == [] and search(client, show_deleted=True) == [filed]
    assert refused(lambda: client.recordings.DeleteRecording(request)).reason == "ETAG_MISMATCH"
    request.etag = ""
    assert client.recordings.DeleteRecording(request).recording == deleted, "twice is success"
    download = pb.DownloadRecordingRequest(name=name(filed), format=pb.DOWNLOAD_FORMAT_SEALED)
    found = refused(lambda: list(client.recordings.DownloadRecording(download)))
    assert (found.reason, found.data["state"]) == ("RECORDING_NOT_READABLE", "DELETED")
    back = client.recordings.UndeleteRecording(pb.UndeleteRecordingRequest(name=name(filed))).recording
    assert back.state == pb.RECORDING_STATE_FILED and back.parties == before.parties
    assert search(client) == [filed]


def test_undelete_after_grace(box, filed):
    client = box.client()
    undelete = pb.UndeleteRecordingRequest(name=name(filed))
    client.recordings.DeleteRecording(pb.DeleteRecordingRequest(name=name(filed)))
    box.clock.ahead_ns = 31 * 86400 * SECOND
    assert client.recordings.UndeleteRecording(undelete).recording.state == pb.RECORDING_STATE_FILED, (
        "it goes by the vault's clock, not by this one"
    )
    client.recordings.DeleteRecording(pb.DeleteRecordingRequest(name=name(filed)))
    box.vault.retention.ahead_ns = 31 * 86400 * SECOND
    for dry in (True, False):
        undelete.validate_only = dry
        found = refused(lambda: client.recordings.UndeleteRecording(undelete))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "GRACE_OVER")


def test_erase(box, filed, tmp_path):
    client = box.client()
    before = get(client, filed)
    request = pb.EraseRecordingRequest(name=name(filed), reason="subject asked")
    found = refused(lambda: client.recordings.EraseRecording(request))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ETAG_OR_FORCE_NEEDED")
    request.etag = "stale"
    found = refused(lambda: client.recordings.EraseRecording(request))
    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert box.vault.erasures == 0
    request.etag = before.etag
    request.validate_only = True
    assert client.recordings.EraseRecording(request).recording.state == pb.RECORDING_STATE_FILED
    assert box.vault.erasures == 0
    request.validate_only = False
    erased = client.recordings.EraseRecording(request).recording
    assert erased.state == pb.RECORDING_STATE_ERASED and erased.certificate.epoch == 1
    assert erased.certificate.reason == "subject asked" and erased.certificate.recording == before.name
    assert (erased.certificate.version, erased.certificate.log_number) == (2, 101)
    assert not erased.parties and not erased.call and not erased.HasField("duration")
    again = client.recordings.EraseRecording(request).recording
    assert again == erased and box.vault.erasures == 1, "twice is success, with the same certificate"
    on_disk = b"".join(path.read_bytes() for path in box.layout.control.rglob("*") if path.is_file())
    assert b"Lovelace" not in on_disk and b"lovelace" not in on_disk and b"1632960001" not in on_disk
    for call in (
        lambda: client.recordings.DeleteRecording(pb.DeleteRecordingRequest(name=name(filed))),
        lambda: client.recordings.UndeleteRecording(pb.UndeleteRecordingRequest(name=name(filed))),
    ):
        assert refused(call).reason == "ERASED"
    request.reason = ""
    assert refused(lambda: client.recordings.EraseRecording(request)).fields.keys() == {"reason"}


def test_a_certificate_says_which_copies_have_followed(box, filed):
    client = box.client()
    box.vault.retention.replicas = {"north": 100, "south": 7}
    request = pb.EraseRecordingRequest(name=name(filed), force=True, reason="x")

    def followed() -> dict[str, bool]:
        proof = client.recordings.EraseRecording(request).recording.certificate
        return {one.replica: one.confirmed for one in proof.replicas}

    assert followed() == {"north": False, "south": False}
    box.vault.retention.replicas["north"] = 101
    assert followed() == {"north": True, "south": False}
    box.vault.stop()
    found = get(client, filed).certificate
    assert {one.replica: one.confirmed for one in found.replicas} == {"north": False, "south": False}
    assert found.log_number == 101


def test_when_it_expires_and_what_holds_it(box, filed):
    client = box.client()
    found = get(client, filed)
    assert found.expire_time.ToDatetime().date().isoformat() == "2028-11-25", (
        "3 years from the end of its slice"
    )
    assert not found.legal_holds and not found.HasField("purge_time")
    hold = retention_pb2.LegalHold(title="inquiry", reason="asked for")
    case = client.retention.CreateLegalHold(
        retention_pb2.CreateLegalHoldRequest(parent=found.name[:34], legal_hold=hold)
    ).legal_hold.name
    add = retention_pb2.AddToLegalHoldRequest(name=case, recordings=[found.name])
    client.retention.AddToLegalHold(add)
    listed = client.recordings.ListRecordings(pb.ListRecordingsRequest(parent="tenants/-")).recordings[0]
    assert list(listed.legal_holds) == [case] == list(get(client, filed).legal_holds)
    for dry in (True, False):
        for call in (
            lambda dry=dry: client.recordings.DeleteRecording(
                pb.DeleteRecordingRequest(name=found.name, validate_only=dry)
            ),
            lambda dry=dry: client.recordings.EraseRecording(
                pb.EraseRecordingRequest(name=found.name, force=True, reason="x", validate_only=dry)
            ),
        ):
            error = refused(call)
            assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RECORDING_HELD")
            assert case[-26:] in error.data["cases"]
    assert get(client, filed).state == pb.RECORDING_STATE_FILED
    box.vault.stop()
    silent = get(client, filed)
    assert silent.parties and not silent.HasField("expire_time") and not silent.legal_holds


def test_two_erases_at_once(box, filed):
    answers = []

    def erase() -> None:
        client = box.client()
        request = pb.EraseRecordingRequest(name=name(filed), force=True, reason="x")
        answers.append(client.recordings.EraseRecording(request).recording.certificate)

    threads = [threading.Thread(target=erase) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and box.vault.erasures == 1
    assert all(answer == answers[0] for answer in answers)


def test_what_is_missing(box):
    box.default_line()
    client = box.client()
    missing = name(new_id())
    for method, request in (
        (client.recordings.DeleteRecording, pb.DeleteRecordingRequest),
        (
            client.recordings.EraseRecording,
            lambda **how: pb.EraseRecordingRequest(force=True, reason="x", **how),
        ),
    ):
        assert refused(partial(method, request(name=missing))).reason == "RECORDING_NOT_FOUND"
        assert not method(request(name=missing, allow_missing=True)).HasField("recording")


def test_a_request_id_makes_a_change_happen_once(box, filed):
    client = box.client()
    request = pb.DeleteRecordingRequest(name=name(filed), request_id="r-1")
    client.recordings.DeleteRecording(request)
    client.recordings.UndeleteRecording(pb.UndeleteRecordingRequest(name=name(filed), request_id="r-2"))
    again = client.recordings.DeleteRecording(request).recording
    assert again.state == pb.RECORDING_STATE_FILED, "it was done before, and is not done again"
    request.reason = "another"
    found = refused(lambda: client.recordings.DeleteRecording(request))
    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "REQUEST_ID_REUSED")
    request.request_id = "not ok"
    assert refused(lambda: client.recordings.DeleteRecording(request)).fields.keys() == {"request_id"}
    request.request_id = "r-1"
    box.clock.ahead_ns = 25 * 3600 * SECOND
    assert client.recordings.DeleteRecording(request).recording.state == pb.RECORDING_STATE_DELETED


def test_the_vault_is_away_and_comes_back(box, filed, sealing):
    client = box.client()
    line = box.default_line()
    box.vault.stop()
    assert get(client, filed).parties, "what is known is still answered"
    found = refused(
        lambda: client.recordings.DeleteRecording(pb.DeleteRecordingRequest(name=name(filed)), timeout=20)
    )
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "VAULT_UNAVAILABLE")
    assert found.retry_after_s
    status = client.box.GetBoxStatus(box_pb2.GetBoxStatusRequest())
    assert not status.HasField("vault") and "VaultUnreachable" in [one.type for one in status.conditions]
    later = box.vault.file(sealing(*line))
    box.vault.start()
    box.filed(later)
    box.wait(lambda: not [one for one in box.status.conditions() if one.type == "VaultUnreachable"])


def snapshot(box) -> dict:
    """The whole catalogue of recordings."""

    def work(connection):
        found = rows.search(
            connection,
            tenant_id=None,
            where=None,
            order=rows.Order(),
            limit=1000,
            bound=10**9,
            show_deleted=True,
            full=True,
        )
        return {row.recording_id: row for row in found}

    return box.run(box.control.parts.store.read(work))


def readable(rows_) -> dict:
    """A deleted recording's content is read when it is undeleted: until then no key is given out for it."""
    return {one: row for one, row in rows_.items() if row.state != "deleted"}


def seen(rows_) -> dict:
    """What a client can see: not, whether the content is to be read again."""
    return {one: replace(row, described=True) for one, row in rows_.items()}


def fill(box, sealing) -> None:
    line = box.default_line()
    ids = [box.vault.file(sealing(*line, start_ns=START + n * SECOND, seconds=1)) for n in range(4)]
    box.filed(ids[-1])
    client = box.client()
    client.recordings.DeleteRecording(pb.DeleteRecordingRequest(name=name(ids[0]), reason="x"))
    client.recordings.EraseRecording(pb.EraseRecordingRequest(name=name(ids[1]), force=True, reason="y"))
    unreadable = sealing(*line)
    unreadable.key = bytes(32)
    box.filed(box.vault.file(unreadable))


def rebuild(box) -> box_pb2.RebuildCatalogueResponse:
    return list(box.client().box.RebuildCatalogue(box_pb2.RebuildCatalogueRequest()))[-1]


def test_rebuilding_gives_the_same_catalogue(box, sealing):
    fill(box, sealing)
    before = snapshot(box)
    done = rebuild(box)
    assert (done.done, done.recordings, done.unreadable) == (True, 5, 1)
    assert seen(snapshot(box)) == seen(before)

    def lose(connection):  # rows are damaged, one is lost, one is of nobody
        ids = sorted(one for one, row in before.items() if row.parties)
        connection.exec_driver_sql("UPDATE parties SET name='nobody'")
        connection.exec_driver_sql("UPDATE recordings SET duration_ns=1, direction='unknown'")
        for table in ("parties", "tracks", "identifiers", "flags", "marks"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE recording_id=?", (ids[0],))
        connection.exec_driver_sql("DELETE FROM recordings WHERE id=?", (ids[0],))
        held = __import__("appliance.catalog.records", fromlist=["Held"])
        ghost = held.Held(new_id(), "", "", "", held.State.FILED, 1, True, "", 1, 1)
        rows.take(connection, ghost, 1, None)

    box.write(lose)
    assert seen(snapshot(box)) != seen(before)
    assert rebuild(box).done
    assert set(snapshot(box)) == set(before) and readable(snapshot(box)) == readable(before)
    (deleted,) = set(before) - set(readable(before))
    client = box.client()
    client.recordings.UndeleteRecording(pb.UndeleteRecordingRequest(name=name(deleted)))
    assert snapshot(box)[deleted].parties == before[deleted].parties


def test_what_is_known_of_a_recording_stays_while_its_key_is_absent(box, sealing):
    recording_id = box.vault.file(sealing(*box.default_line()))
    box.filed(recording_id)
    before = snapshot(box)
    assert before[recording_id].parties
    box.vault.keyless.add(recording_id)
    done = rebuild(box)
    assert (done.recordings, done.unreadable) == (1, 0)
    assert seen(snapshot(box)) == seen(before)
    box.vault.keyless.clear()
    rebuild(box)
    assert snapshot(box) == before


def test_a_lost_catalogue_comes_back_with_its_tenants(box, sealing):
    fill(box, sealing)
    line = box.default_line()
    before = snapshot(box)
    box.stop()
    for path in box.layout.control.glob("catalogue.db*"):
        path.unlink()
    box.start()
    assert box.default_line() == line
    box.wait(lambda: len(snapshot(box)) == len(before) and readable(snapshot(box)) == readable(before))
    (deleted,) = [row for row in before.values() if row.state == "deleted"]
    found = snapshot(box)[deleted.recording_id]
    assert (found.state, found.state_reason, found.parties) == (deleted.state, deleted.state_reason, ())
    client = box.client()
    client.recordings.UndeleteRecording(pb.UndeleteRecordingRequest(name=name(deleted.recording_id)))
    assert snapshot(box)[deleted.recording_id].parties == deleted.parties


def test_a_damaged_catalogue_is_built_anew(box, sealing):
    fill(box, sealing)
    before = snapshot(box)
    box.stop()
    path = box.layout.control / "catalogue.db"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 16384)
    box.start()
    box.wait(lambda: len(snapshot(box)) == len(before) and readable(snapshot(box)) == readable(before))
    assert not list(box.layout.control.glob("catalogue.damaged-*")), "all notes and tags of it are saved"
    assert "CatalogueRebuilt" in [one.type for one in box.status.conditions()]


def test_restarting_goes_on_at_the_cursor(box, sealing):
    fill(box, sealing)
    before = snapshot(box)
    leases = len(box.vault.leases)
    box.stop()
    later = box.vault.file(sealing(*_line(before)))
    box.start()
    box.filed(later)
    assert {one: row for one, row in snapshot(box).items() if one != later} == before
    assert len(box.vault.leases) == leases + 1, "only what is new was read"


def _line(before):
    row = next(iter(before.values()))
    return row.tenant_id, row.line_id


def test_only_one_rebuild_at_a_time(box, sealing):
    fill(box, sealing)
    client = box.client()

    async def hold():
        await box.control.parts.follower._rebuilding.acquire()

    async def release():
        box.control.parts.follower._rebuilding.release()

    box.run(hold())
    try:
        found = refused(lambda: list(client.box.RebuildCatalogue(box_pb2.RebuildCatalogueRequest())))
    finally:
        box.run(release())
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REBUILD_RUNNING")


@given(text=st.text(max_size=60))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_filter_is_answered_or_refused_by_name(box, text):
    try:
        box.client_once().recordings.ListRecordings(pb.ListRecordingsRequest(parent="tenants/-", filter=text))
    except grpc.RpcError as error:
        found = earwitness.details(error)
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FILTER_INVALID"), found


def test_how_it_sounds_is_flagged_and_found(box, sealing):
    tenant, line = box.default_line()
    client = box.client()
    plain = box.vault.file(sealing(tenant, line, noise=1))
    paused = (Mark(kind=MarkKind.PAUSED, at_ns=START + SECOND),)
    short = box.vault.file(sealing(tenant, line, marks=paused))
    still = box.vault.file(sealing(tenant, line))  # one code all the time: a constant
    for one in (plain, short, still):
        box.filed(one)
    assert get(client, still).flags == ["silent-agent", "silent-caller"]
    assert get(client, short).flags == []
    assert get(client, plain).flags == ["clipped-agent", "clipped-caller"]  # noise of all codes there are
    assert search(client, filter="flags:silent-agent") == [still]
    assert search(client, filter="flags:clipped-caller AND NOT flags:one-way") == [plain]
