"""Control against the real vault process: keys by deposit, sealed files by the spool, as capture leaves them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import grpc
import pytest

import earwitness
from appliance.model.routing import RoutingTable
from appliance.storage.keystore import Depositor
from earwitness.v1 import box_pb2
from earwitness.v1 import recordings_pb2 as pb
from earwitness.v1 import retention_pb2 as rpb


class VaultProcess:
    """`python -m appliance.storage`."""

    def __init__(self, settings, folder) -> None:
        self._file = folder / "vault-settings.json"
        self._file.write_text(settings.model_dump_json())
        self._log = (folder / "vault.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "appliance.storage", "--settings", str(self._file)]
        self.process = subprocess.Popen(command, stderr=self._log)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(40)
            self.process = None

    def close(self) -> None:
        self.end(signal.SIGKILL)
        self._log.close()


@pytest.fixture
def vault(make_box, tmp_path):
    """A box whose vault is the real one."""
    box = make_box(vault=False)
    process = VaultProcess(box.settings, tmp_path)
    process.start()
    yield box, process
    process.close()


def leave(box, recording) -> str:
    """What capture leaves: a deposit, and a sealed file in the spool."""
    layout, info = box.layout, recording.info
    table = RoutingTable.model_validate_json(layout.routing.read_bytes())
    public = next(one.public_key for one in table.tenants if one.tenant_id == info.tenant_id)
    deposit = Depositor().deposit(
        info.recording_id,
        info.tenant_id,
        public,
        layout.deposit_key.read_bytes(),
        recording.key,
        time.time_ns(),
    )
    for folder, name, data in (
        (layout.spool_keys, f"{info.recording_id}.deposit", deposit),
        (layout.spool_recordings, f"{info.recording_id}.sealed", recording.unsigned),
    ):
        scratch = folder / f".{name}.new"
        scratch.write_bytes(data)
        os.replace(scratch, folder / name)
    return f"tenants/{info.tenant_id}/recordings/{info.recording_id}"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def test_a_recording_from_spool_to_erasure(vault, sealing, tmp_path):
    box, process = vault
    client = box.client()
    line = box.default_line()
    recording = sealing(*line, seconds=3, noise=5)
    name = leave(box, recording)
    other = leave(box, sealing(*line, names=("Brian Kernighan", "Dennis Ritchie")))
    for one in (name, other):
        box.filed(one[-26:])
    found = client.recordings.GetRecording(pb.GetRecordingRequest(name=name)).recording
    assert found.whole and found.parties[0].display_name == "Ada Lovelace"
    report = list(client.recordings.VerifyRecording(pb.VerifyRecordingRequest(name=name)))[-1].report
    assert report.verdict == pb.VERDICT_INTACT and report.signature_valid
    status = client.box.GetBoxStatus(box_pb2.GetBoxStatusRequest())
    assert status.vault.device_public_key == report.device_public_key and status.vault.filed_count == 2
    for format_ in (earwitness.WAV, earwitness.SEALED):
        done = earwitness.download(client, name, tmp_path / "x", format_, purpose="evidence")
        assert done.size == (tmp_path / "x").stat().st_size
    # The vault is killed in between: deletion and undeletion hold.
    client.recordings.DeleteRecording(pb.DeleteRecordingRequest(name=name, reason="x"))
    process.end(signal.SIGKILL)
    box.wait(lambda: not box.control.parts.follower.connected)
    process.start()
    box.wait(lambda: box.control.parts.follower.connected)
    back = client.recordings.UndeleteRecording(pb.UndeleteRecordingRequest(name=name)).recording
    assert back.state == pb.RECORDING_STATE_FILED and back.parties == found.parties
    request = pb.EraseRecordingRequest(name=name, etag=back.etag, reason="subject asked")
    erased = client.recordings.EraseRecording(request).recording
    assert erased.state == pb.RECORDING_STATE_ERASED and len(erased.certificate.signature) == 64
    assert erased.certificate.device_public_key == report.device_public_key
    assert client.recordings.EraseRecording(request).recording == erased
    download = pb.DownloadRecordingRequest(name=name, format=pb.DOWNLOAD_FORMAT_SEALED)
    assert refused(lambda: list(client.recordings.DownloadRecording(download))).reason == "ERASED"
    # The other one lives on, and a lost catalogue comes back with both.
    before = [
        client.recordings.GetRecording(pb.GetRecordingRequest(name=one)).recording for one in (name, other)
    ]
    box.stop()
    for path in box.layout.control.glob("catalogue.db*"):
        path.unlink()
    box.start()
    for one in (name, other):
        box.filed(one[-26:])
    client = box.client()
    after = [
        client.recordings.GetRecording(pb.GetRecordingRequest(name=one)).recording for one in (name, other)
    ]
    assert after == before
    assert earwitness.download(client, other, tmp_path / "y", earwitness.FLAC, purpose="evidence").size


def test_policies_holds_plan_and_run_against_the_real_vault(vault, sealing):
    box, _ = vault
    client = box.client()
    retention = client.retention
    line = box.default_line()
    names = [leave(box, sealing(*line, start_ns=time.time_ns())) for _ in range(3)]
    for one in names:
        box.filed(one[-26:])
    tenant = names[0][:34]

    def get(name) -> pb.Recording:
        return client.recordings.GetRecording(pb.GetRecordingRequest(name=name)).recording

    hold = rpb.LegalHold(title="inquiry", reason="the coroner asked")
    case = retention.CreateLegalHold(rpb.CreateLegalHoldRequest(parent=tenant, legal_hold=hold)).legal_hold
    added = retention.AddToLegalHold(
        rpb.AddToLegalHoldRequest(name=case.name, recordings=names[:1], filter="party.name:hopper")
    )
    assert added.matched_count == 3 and added.legal_hold.named_recording_count == 3
    found = get(names[0])
    assert list(found.legal_holds) == [case.name] and found.expire_time.seconds > time.time() + 1000 * 86400
    held = refused(lambda: client.recordings.DeleteRecording(pb.DeleteRecordingRequest(name=names[0])))
    assert held.reason == "RECORDING_HELD" and case.name[-26:] in held.data["cases"]
    listed = retention.ListLegalHoldRecordings(rpb.ListLegalHoldRecordingsRequest(parent=case.name))
    assert sorted(listed.recordings) == sorted(names)
    retention.ReleaseLegalHold(rpb.ReleaseLegalHoldRequest(name=case.name, reason="closed"))
    deleted = client.recordings.DeleteRecording(pb.DeleteRecordingRequest(name=names[0])).recording
    assert not deleted.legal_holds and deleted.purge_time.seconds > time.time() + 29 * 86400

    def parked() -> bool:
        items = retention.PlanRetention(rpb.PlanRetentionRequest(parent="tenants/-"))
        return any(one.plan_item.kind == rpb.PLAN_ITEM_KIND_KEEP_SNAPSHOT for one in items)

    box.wait(parked)
    *_, last = retention.RunRetention(rpb.RunRetentionRequest())
    assert last.run.outcome == rpb.RUN_OUTCOME_NOTHING
    policy = rpb.RetentionPolicy(name="retentionPolicy", retention="1d", grace_days=0)
    request = rpb.UpdateRetentionPolicyRequest(retention_policy=policy, validate_only=True)
    impact = retention.UpdateRetentionPolicy(request).impact
    assert [one.shortens for one in impact.differences] == [True, True] and impact.recording_count >= 1
    seen = client.box.GetVault(box_pb2.GetVaultRequest()).vault
    assert seen.filed_count == 2 and seen.deleted_count == 1 and len(seen.keystore_copies) == 2
    assert seen.buckets.open_count == 1 and not seen.retention_clock.HasField("freeze")
    (bucket,) = client.box.ListBuckets(box_pb2.ListBucketsRequest(parent=tenant)).buckets
    assert [one.snapshot.partition("-")[0] for one in bucket.snapshots] == ["guard", "g"]
    totals = list(client.box.VerifyVault(box_pb2.VerifyVaultRequest(parent="tenants/-")))[-1].totals
    assert (totals.checked_count, totals.damaged_count) == (3, 0)
    erase = pb.EraseRecordingRequest(name=names[1], force=True, reason="asked")
    proof = client.recordings.EraseRecording(erase).recording.certificate
    assert proof.version == 2 and proof.log_number > 0 and not proof.replicas
    late = rpb.AddToLegalHoldRequest(name=case.name, recordings=names[2:])
    assert refused(lambda: retention.AddToLegalHold(late)).reason == "HOLD_RELEASED"
    storage = client.box.GetTenantStorage(box_pb2.GetTenantStorageRequest(name=tenant)).storage
    assert storage.used_bytes > 0
