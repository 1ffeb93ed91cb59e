"""Attended keys over the vault's socket: unlock, read, lock; a vault that dies unlocked comes back locked."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from conftest_process import WAIT_S, Process, refused

from appliance.model import id_bytes, new_id
from appliance.process import rpc
from appliance.storage.keystore import hpke, open_data_key
from earwitness.internal.v1 import tenantkeys_pb2 as pb
from earwitness.internal.v1 import tenantkeys_pb2_grpc

WORDS = "a passphrase of the practice"
OTHER = "another one, of five words or more"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path / "data")
    made.start()
    yield made
    made.stop()
    made.house.let_go()


def proof(words: str) -> pb.Proof:
    return pb.Proof(passphrase=words)


def unlocked(keys: tenantkeys_pb2_grpc.TenantKeysServiceStub, request: pb.UnlockRequest) -> pb.TenantKeys:
    """Unlocks; waits for the pause after a wrong passphrase to be over."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return keys.Unlock(request, timeout=WAIT_S).keys
        except grpc.RpcError as error:
            assert rpc.from_rpc_error(error).reason == "PASSPHRASE_TOO_SOON" and time.monotonic() < deadline
            time.sleep(0.2)


def test_from_auto_to_attended_and_back(process: Process) -> None:
    house = process.house
    first = house.record()
    process.watch(0, 1)
    assert process.lease(first) == house.keys[first]

    keys = tenantkeys_pb2_grpc.TenantKeysServiceStub(process.channel)
    tenant = house.tenant
    assert (
        refused(keys.SetKeyMode, pb.SetKeyModeRequest(tenant_id=tenant, proof=proof(WORDS)))[1] == "INVALID"
    )
    request = pb.SetKeyModeRequest(tenant_id=tenant, mode=pb.KEY_MODE_ATTENDED, proof=proof(WORDS))
    answer = keys.SetKeyMode(request, timeout=WAIT_S)
    assert answer.keys.mode == pb.KEY_MODE_ATTENDED and answer.keys.locked and answer.recovery_key
    assert answer.keys.public_key != house.public
    house.public = answer.keys.public_key
    second = house.record()
    process.watch(1, 1)
    for name in (first, second):
        assert refused(process.lease, name) == ("FAILED_PRECONDITION", "TENANT_LOCKED")
        assert process.read(name)  # the sealed file is given all the same: it opens nothing

    wrong = pb.UnlockRequest(tenant_id=tenant, proof=proof(WORDS + "!"))
    assert refused(keys.Unlock, wrong) == ("PERMISSION_DENIED", "PASSPHRASE_WRONG")
    right = pb.UnlockRequest(tenant_id=tenant, proof=proof(WORDS), duration_s=600)
    found = unlocked(keys, right)
    assert not found.locked and found.unlocked_until_ns > time.time_ns()
    for name in (first, second):
        assert process.lease(name) == house.keys[name]

    holder, grant = hpke.new_private_key(), new_id()
    sealing = pb.SealKeysForGrantRequest(
        grant_id=grant,
        tenant_id=tenant,
        recording_ids=[first],
        public_key=hpke.public_key(holder),
        expire_ns=time.time_ns() + 3600 * 10**9,
    )
    sealed = keys.SealKeysForGrant(sealing, timeout=WAIT_S)
    assert sealed.mode == pb.KEY_MODE_ATTENDED and [item.recording_id for item in sealed.keys] == [first]

    # It dies unlocked, and is locked when it is back; what was sealed for the grant is there.
    process.end(signal.SIGKILL)
    process.start()
    keys = tenantkeys_pb2_grpc.TenantKeysServiceStub(process.channel)
    assert [item.locked for item in keys.ListTenantKeys(pb.ListTenantKeysRequest()).keys] == [True]
    assert refused(process.lease, first) == ("FAILED_PRECONDITION", "TENANT_LOCKED")
    (item,) = keys.ListGrantKeys(pb.ListGrantKeysRequest(grant_id=grant)).keys
    ids = [id_bytes(tenant), id_bytes(grant), id_bytes(first)]
    assert open_data_key(holder, *ids, item.sealed_key) == house.keys[first]
    process.erase(first)
    assert list(keys.ListGrantKeys(pb.ListGrantKeysRequest(grant_id=grant)).keys) == []
    assert keys.DropGrant(pb.DropGrantRequest(grant_id=grant)).dropped == 0

    changed = pb.ChangePassphraseRequest(tenant_id=tenant, proof=proof(WORDS), new_passphrase=OTHER)
    assert not keys.ChangePassphrase(changed, timeout=WAIT_S).recovery_key
    keys.Unlock(pb.UnlockRequest(tenant_id=tenant, proof=proof(OTHER)), timeout=WAIT_S)
    assert keys.Lock(pb.LockRequest(tenant_id=tenant)).keys.locked
    back = pb.SetKeyModeRequest(
        tenant_id=tenant, mode=pb.KEY_MODE_AUTO, proof=pb.Proof(recovery_key=answer.recovery_key)
    )
    found = keys.SetKeyMode(back, timeout=WAIT_S)
    assert found.keys.mode == pb.KEY_MODE_AUTO and not found.keys.locked and not found.recovery_key
    assert process.lease(second) == house.keys[second]
    assert keys.GetTenantKeys(pb.GetTenantKeysRequest(tenant_id=tenant)).keys == found.keys
    said = process.log.read_text()
    assert not any(secret in said for secret in (WORDS, OTHER, answer.recovery_key))
