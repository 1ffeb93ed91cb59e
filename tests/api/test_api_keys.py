"""KeysService: modes, unlocking, what locks do to readings, and that nothing of a passphrase is written anywhere."""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

import earwitness
from appliance.model.routing import RoutingTable
from earwitness.v1 import keys_pb2 as pb
from earwitness.v1 import recordings_pb2, tenants_pb2

WORDS = "a passphrase of the practice"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def client(box):
    return box.client()


@pytest.fixture
def name(box) -> str:
    return f"tenants/{box.default_line()[0]}/keys"


def set_mode(
    client, name: str, mode=pb.KEY_MODE_ATTENDED, words: str = WORDS, **more
) -> pb.SetKeyModeResponse:
    return client.keys.SetKeyMode(pb.SetKeyModeRequest(name=name, mode=mode, passphrase=words, **more))


def unlock(client, name: str, **more) -> pb.TenantKeys:
    request = pb.UnlockTenantRequest(**{"name": name, "passphrase": WORDS, **more})
    return client.keys.UnlockTenant(request).keys


def test_from_auto_to_attended_and_back(box, client, name):
    keys = client.keys.GetTenantKeys(pb.GetTenantKeysRequest(name=name)).keys
    assert (keys.name, keys.mode, keys.state) == (name, pb.KEY_MODE_AUTO, pb.KEY_STATE_OPEN)
    assert not keys.HasField("unlock_expire_time") and len(keys.public_key_sha256) == 64
    assert refused(lambda: unlock(client, name)).reason == "KEY_MODE"
    dry = set_mode(client, name, validate_only=True)
    assert dry.keys == keys and not dry.recovery_key
    made = set_mode(client, name)
    assert made.recovery_key and made.keys.state == pb.KEY_STATE_LOCKED and made.keys.key_pairs == 2
    # What is recorded from now on is sealed to the new key: it is in the routing table before the answer.
    table = RoutingTable.model_validate_json(box.layout.routing.read_bytes())
    tenant_id = name.split("/")[1]
    assert [one.public_key for one in table.tenants if one.tenant_id == tenant_id] == [
        box.vault.tenant_keys[tenant_id]
    ]
    assert refused(lambda: set_mode(client, name)).reason == "KEY_MODE"
    assert refused(lambda: unlock(client, name, passphrase="x" * 12)).reason == "PASSPHRASE_WRONG"
    found = unlock(client, name, duration=Duration(seconds=90))
    assert found.state == pb.KEY_STATE_UNLOCKED
    assert 0 < found.unlock_expire_time.ToNanoseconds() - time.time_ns() <= 90 * 10**9
    assert unlock(client, name, passphrase="", recovery_key=made.recovery_key).state == pb.KEY_STATE_UNLOCKED
    for _ in range(2):
        locked = client.keys.LockTenant(pb.LockTenantRequest(name=name)).keys
        assert locked.state == pb.KEY_STATE_LOCKED
    change = pb.ChangeTenantPassphraseRequest(
        name=name, passphrase=WORDS, new_passphrase=WORDS + " two", renew_recovery_key=True
    )
    assert client.keys.ChangeTenantPassphrase(change).recovery_key
    assert refused(lambda: unlock(client, name)).reason == "PASSPHRASE_WRONG"
    back = set_mode(client, name, pb.KEY_MODE_AUTO, WORDS + " two")
    assert back.keys.state == pb.KEY_STATE_OPEN and not back.recovery_key


def test_a_change_is_done_once_and_its_recovery_key_is_shown_once(box, client, name):
    first = set_mode(client, name, request_id="the-same")
    again = set_mode(client, name, request_id="the-same")
    assert first.recovery_key and not again.recovery_key
    assert again.keys == first.keys and box.vault.keys.changes == 1


def test_what_is_recorded_while_locked_is_described_after_the_unlocking(box, client, name, sealing):
    set_mode(client, name)
    tenant_id, line_id = box.default_line()
    recording = sealing(tenant_id, line_id)
    recording_id = box.vault.file(recording)
    request = recordings_pb2.GetRecordingRequest(name=f"tenants/{tenant_id}/recordings/{recording_id}")
    box.wait(lambda: is_there(client, request))
    found = client.recordings.GetRecording(request).recording
    assert "undescribed" in found.flags and not found.parties and not found.tracks
    assert found.state == recordings_pb2.RECORDING_STATE_FILED
    unlock(client, name)
    box.wait(lambda: "undescribed" not in client.recordings.GetRecording(request).recording.flags)
    found = client.recordings.GetRecording(request).recording
    assert found.parties and found.tracks


def is_there(client, request) -> bool:
    try:
        client.recordings.GetRecording(request)
    except grpc.RpcError:
        return False
    return True


def download(client, name: str, format_=recordings_pb2.DOWNLOAD_FORMAT_WAV) -> bytes:
    request = recordings_pb2.DownloadRecordingRequest(name=name, format=format_, purpose=PURPOSE)
    return b"".join(one.chunk.data for one in client.recordings.DownloadRecording(request))


PURPOSE = "evidence"


def test_a_lock_ends_readings_also_of_what_was_rendered_before(box, client, name, sealing):
    tenant_id, line_id = box.default_line()
    recording = sealing(tenant_id, line_id)
    recording_id = box.vault.file(recording)
    full = f"tenants/{tenant_id}/recordings/{recording_id}"
    request = recordings_pb2.GetRecordingRequest(name=full)
    box.wait(lambda: is_there(client, request) and client.recordings.GetRecording(request).recording.tracks)
    set_mode(client, name)
    assert refused(lambda: download(client, full)).reason == "TENANT_LOCKED"
    unlock(client, name)
    assert download(client, full)[:4] == b"RIFF"
    assert box.control.parts.renders.recordings() == [recording_id]
    client.keys.LockTenant(pb.LockTenantRequest(name=name))
    assert box.control.parts.renders.recordings() == []
    error = refused(lambda: download(client, full))
    assert error.reason == "TENANT_LOCKED" and error.data["tenant_id"] == tenant_id
    waveform = recordings_pb2.GetWaveformRequest(name=full, purpose=PURPOSE)
    assert refused(lambda: client.recordings.GetWaveform(waveform)).reason == "TENANT_LOCKED"
    # The sealed file itself is given: it opens nothing. And it is checked in all but the opening.
    assert download(client, full, recordings_pb2.DOWNLOAD_FORMAT_SEALED) == recording.data
    *_, last = client.recordings.VerifyRecording(recordings_pb2.VerifyRecordingRequest(name=full))
    assert last.report.verdict == recordings_pb2.VERDICT_INTACT and last.report.signature_valid
    # By time, too, though nobody said a word.
    unlock(client, name)
    assert download(client, full)
    box.vault.keys.lock(tenant_id)
    box.wait(lambda: box.control.parts.renders.recordings() == [])
    assert refused(lambda: download(client, full)).reason == "TENANT_LOCKED"


def test_nothing_of_a_passphrase_is_written_anywhere(box, client, name, capfd):
    other = "the other words of the practice"
    made = set_mode(client, name, request_id="mode")
    refused(lambda: unlock(client, name, passphrase=other))
    unlock(client, name)
    change = pb.ChangeTenantPassphraseRequest(
        name=name, passphrase=WORDS, new_passphrase=other, request_id="change"
    )
    client.keys.ChangeTenantPassphrase(change)
    audited = [one for one in box.audited() if "KeysService" in one.get("method", "")]
    assert {one["subject"] for one in audited} == {name}
    box.stop()
    said = "".join(capfd.readouterr())
    files = b"".join(path.read_bytes() for path in box.layout.root.rglob("*") if path.is_file())
    for secret in (WORDS, other, made.recovery_key):
        assert secret not in said and secret.encode() not in files


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        ({"name": "tenants/-/keys"}, "NAME_INVALID", "name"),
        ({"name": "keys"}, "NAME_INVALID", "name"),
        ({"name": f"tenants/{'a' * 26}/keys"}, "TENANT_NOT_FOUND", ""),
        ({"mode": 0}, "FIELD_INVALID", "mode"),
        ({"mode": 77}, "FIELD_INVALID", "mode"),
        ({"passphrase": "short"}, "PASSPHRASE_FORMAT", "passphrase"),
        ({"passphrase": "x" * 5000}, "FIELD_INVALID", "passphrase"),
        ({"recovery_key": "aaaa"}, "FIELD_INVALID", "recovery_key"),
        ({"request_id": "x" * 200}, "INVALID", "request_id"),
    ],
)
def test_bad_input_is_named(client, name, bad, reason, field):
    request = pb.SetKeyModeRequest(**{"name": name, "mode": pb.KEY_MODE_ATTENDED, "passphrase": WORDS, **bad})
    found = refused(lambda: client.keys.SetKeyMode(request))
    assert found.reason == reason
    if field:
        assert list(found.fields) == [field]
    assert client.keys.GetTenantKeys(pb.GetTenantKeysRequest(name=name)).keys.mode == pb.KEY_MODE_AUTO


@pytest.mark.parametrize("seconds", [-1, 86_401, 0])
def test_a_time_that_cannot_be(client, name, seconds):
    set_mode(client, name)
    found = refused(lambda: unlock(client, name, duration=Duration(seconds=seconds)))
    assert (found.reason, list(found.fields)) == ("FIELD_INVALID", ["duration"])


def test_one_tenants_lock_is_not_anothers(box, client, name):
    request = tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Other"))
    other = client.tenants.CreateTenant(request).tenant.name + "/keys"
    set_mode(client, name)
    keys = client.keys.GetTenantKeys(pb.GetTenantKeysRequest(name=other)).keys
    assert keys.mode == pb.KEY_MODE_AUTO
