"""Attended keys against the real vault: recorded while locked, described and read after the unlocking, granted, erased."""

from __future__ import annotations

import signal
import time

import grpc
import pytest
from test_api_vault import VaultProcess, leave

import earwitness
from appliance.model import id_bytes, new_id
from appliance.storage.keystore import hpke, open_data_key
from appliance.storage.sealed import verify
from earwitness.internal.v1 import tenantkeys_pb2 as vault_pb
from earwitness.v1 import keys_pb2 as pb
from earwitness.v1 import recordings_pb2

WORDS = "a passphrase of the practice"
PURPOSE = "evidence"


@pytest.fixture
def vault(make_box, tmp_path):
    """A box whose vault is the real one."""
    box = make_box(vault=False)
    process = VaultProcess(box.settings, tmp_path)
    process.start()
    yield box, process
    process.close()


def found(client, name: str) -> recordings_pb2.Recording | None:
    try:
        return client.recordings.GetRecording(recordings_pb2.GetRecordingRequest(name=name)).recording
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
        return None


def described(client, name: str) -> bool:
    row = found(client, name)
    return row is not None and "undescribed" not in row.flags and len(row.parties) == 2


def download(client, name: str, format_: int) -> bytes:
    request = recordings_pb2.DownloadRecordingRequest(name=name, format=format_, purpose=PURPOSE)
    return b"".join(one.chunk.data for one in client.recordings.DownloadRecording(request))


def refused(call) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value).reason


def test_a_practice_holds_its_own_keys(vault, sealing):
    box, process = vault
    client = box.client()
    tenant_id, line_id = box.default_line()
    keys = f"tenants/{tenant_id}/keys"
    client.keys.GetTenantKeys(pb.GetTenantKeysRequest(name=keys))  # asked again until the vault has started
    before = sealing(tenant_id, line_id)
    first = leave(box, before)
    box.wait(lambda: described(client, first))

    made = client.keys.SetKeyMode(
        pb.SetKeyModeRequest(name=keys, mode=pb.KEY_MODE_ATTENDED, passphrase=WORDS)
    )
    assert made.recovery_key and made.keys.state == pb.KEY_STATE_LOCKED
    during = sealing(tenant_id, line_id)
    second = leave(box, during)  # sealed to the key that signaling is told of now
    box.wait(lambda: found(client, second) is not None)
    assert "undescribed" in found(client, second).flags and not found(client, second).parties
    for name in (first, second):
        assert refused(lambda name=name: download(client, name, earwitness.WAV)) == "TENANT_LOCKED"
        *_, last = client.recordings.VerifyRecording(recordings_pb2.VerifyRecordingRequest(name=name))
        assert last.report.verdict == recordings_pb2.VERDICT_INTACT and last.report.signature_valid

    client.keys.UnlockTenant(pb.UnlockTenantRequest(name=keys, passphrase=WORDS))
    box.wait(lambda: described(client, second))
    assert download(client, first, earwitness.WAV)[:4] == b"RIFF"

    # Support: the data key of one recording, sealed to who was granted it.
    holder, grant = hpke.new_private_key(), new_id()
    recording_id = during.info.recording_id
    sealed = box.run(
        box.control.parts.vault_keys.seal_for_grant(
            grant, tenant_id, [recording_id], hpke.public_key(holder), time.time_ns() + 3600 * 10**9
        )
    )
    assert sealed.mode == vault_pb.KEY_MODE_ATTENDED

    # A vault that is started anew is locked, and control comes to know it by itself.
    process.end(signal.SIGKILL)
    process.start()
    box.wait(lambda: key_state(client, keys) == pb.KEY_STATE_LOCKED, 40)
    box.wait(lambda: box.control.parts.renders.recordings() == [])
    assert refused(lambda: download(client, first, earwitness.WAV)) == "TENANT_LOCKED"

    # Under the grant: the sealed file from the box, opened elsewhere.
    (key,) = box.run(box.control.parts.vault_keys.grant_keys(grant))
    opened = open_data_key(holder, *map(id_bytes, (tenant_id, grant, recording_id)), key.sealed_key)
    assert opened == during.key
    assert verify(download(client, second, earwitness.SEALED), None, opened).opened

    # Erased while locked: the certificate needs nobody's passphrase, and no grant has the key any more.
    client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=second, reason="asked", force=True)
    )
    assert list(box.run(box.control.parts.vault_keys.grant_keys(grant))) == []
    assert box.run(box.control.parts.vault_keys.drop_grant(grant)) == 0


def key_state(client, name: str) -> int:
    try:
        return client.keys.GetTenantKeys(pb.GetTenantKeysRequest(name=name)).keys.state
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        return -1
