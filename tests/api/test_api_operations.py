"""Long work: progress, result, cancel, and going on after a restart."""

from __future__ import annotations

import threading

import grpc
import pytest

import earwitness
from appliance.access.identities import Role
from appliance.api import verification, worker
from appliance.catalog import operations
from appliance.model import new_id
from earwitness.v1 import operations_pb2 as pb
from earwitness.v1 import recordings_pb2, tenants_pb2

COUNT = 7


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def filed(box, sealing):
    tenant_id, line_id = box.default_line()
    ids = [box.vault.file(sealing(tenant_id, line_id)) for _ in range(COUNT)]
    for one in ids:
        box.filed(one)
    return f"tenants/{tenant_id}", sorted(ids)


def begin(client, parent: str, filter: str = "", **more) -> pb.Operation:
    request = pb.VerifyRecordingsRequest(parent=parent, filter=filter, **more)
    return client.operations.VerifyRecordings(request).operation


def ended(client, name: str) -> tuple[pb.Operation, list[int]]:
    """Its end, and how far it was each time that it was told."""
    seen = [
        one.operation
        for one in client.operations.WatchOperation(pb.WatchOperationRequest(name=name), timeout=20)
    ]
    return seen[-1], [one.done_count for one in seen]


class Gate:
    """Lets the work look at so many recordings, and no more."""

    def __init__(self, box, monkeypatch, allowed: int) -> None:
        self.looked: list[str] = []
        self.allowed = allowed
        self.more = threading.Event()
        look = verification.Verification._look

        def held(this, recording_id: str) -> tuple[str, str]:
            if len(self.looked) >= self.allowed:
                self.more.wait(20)
            self.looked.append(recording_id)
            return look(this, recording_id)

        monkeypatch.setattr(verification.Verification, "_look", held)
        monkeypatch.setattr(verification, "KEEP_EVERY_S", 0.0)


def test_all_is_verified_and_told(box, filed):
    parent, ids = filed
    box.vault.spoiled[ids[2]] = 0
    box.vault.files[ids[3]].data = box.vault.files[ids[2]].data  # another's bytes
    client = box.client()
    assert begin(client, parent, validate_only=True).total_count == COUNT
    assert not client.operations.ListOperations(pb.ListOperationsRequest(parent=parent)).operations
    last, steps = ended(client, begin(client, parent).name)
    assert last.state == pb.OPERATION_STATE_SUCCEEDED and last.creator == "admin"
    assert (last.done_count, last.total_count) == (COUNT, COUNT) and steps == sorted(steps)
    found = last.verify_recordings
    assert (found.intact_count, found.damaged_count, found.unchecked_count) == (COUNT - 2, 2, 0)
    assert {one.recording[-26:] for one in found.problems} == {ids[2], ids[3]}
    assert last.HasField("end_time")
    entry = next(one for one in box.control.trail.tail(1 << 20) if one["what"] == "operation")
    assert (entry["outcome"], entry["who"], entry["subject"]) == ("succeeded", "admin", last.name)


def test_a_filter_and_what_is_wrong_with_it(box, filed):
    parent, _ = filed
    client = box.client()
    last, _ = ended(client, begin(client, parent, "duration > 3600s").name)
    assert (last.total_count, last.done_count) == (0, 0)
    assert refused(lambda: begin(client, parent, "nothing = 1")).reason == "FILTER_INVALID"
    assert refused(lambda: begin(client, "tenants/-")).reason == "NAME_INVALID"
    assert refused(lambda: begin(client, f"tenants/{new_id()}")).reason == "TENANT_NOT_FOUND"


def test_it_goes_on_after_a_restart_where_it_was(box, filed, monkeypatch):
    parent, ids = filed
    gate = Gate(box, monkeypatch, 3)
    box.fix_port()
    name = begin(box.client(), parent).name
    box.wait(lambda: len(gate.looked) == 3)
    box.wait(
        lambda: (
            box.client().operations.GetOperation(pb.GetOperationRequest(name=name)).operation.done_count == 3
        )
    )
    gate.allowed = 2 * COUNT
    box.stop()
    gate.more.set()
    box.start()
    last, steps = ended(box.client(), name)
    assert last.state == pb.OPERATION_STATE_SUCCEEDED
    assert last.verify_recordings.intact_count == COUNT == last.done_count and steps[0] >= 3
    # The one that was under way is looked at again, and counted once; those before it are not.
    assert [gate.looked.count(one) for one in ids[:3]] == [1, 1, 1]


def test_cancelled_it_ends_with_its_next_step(box, filed, monkeypatch):
    parent, _ = filed
    gate = Gate(box, monkeypatch, 2)
    client = box.client()
    name = begin(client, parent).name
    box.wait(lambda: len(gate.looked) == 2)
    cancel = pb.CancelOperationRequest(name=name)
    assert client.operations.CancelOperation(cancel).operation.cancelling
    gate.more.set()
    last, _ = ended(client, name)
    assert last.state == pb.OPERATION_STATE_CANCELLED and 2 <= last.done_count < COUNT
    assert client.operations.CancelOperation(cancel).operation == last, "what has ended stays as it is"


def test_what_is_filed_later_is_not_of_it(box, filed, sealing, monkeypatch):
    parent, ids = filed
    gate = Gate(box, monkeypatch, 1)
    client = box.client()
    name = begin(client, parent).name
    box.wait(lambda: len(gate.looked) == 1)
    tenant_id, line_id = box.default_line()
    later = [box.vault.file(sealing(tenant_id, line_id)) for _ in range(3)]
    for one in later:
        box.filed(one)
    gate.more.set()
    last, _ = ended(client, name)
    assert last.done_count == last.total_count == COUNT
    assert not set(later) & set(gate.looked) and set(gate.looked) == set(ids)


def test_what_goes_meanwhile_is_said(box, filed, monkeypatch):
    parent, ids = filed
    gate = Gate(box, monkeypatch, 1)
    client = box.client()
    name = begin(client, parent).name
    box.wait(lambda: len(gate.looked) == 1)
    client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(
            name=f"tenants/-/recordings/{ids[-1]}", reason="asked", force=True
        )
    )
    gate.more.set()
    last, _ = ended(client, name)
    assert last.verify_recordings.unchecked_count == 1
    assert last.verify_recordings.problems[0].code in ("RECORDING_ERASED", "ERASED")


def test_it_waits_for_the_vault(box, filed, monkeypatch):
    parent, _ = filed
    monkeypatch.setattr(worker, "BACKOFF_S", 0.1)
    box.vault.stop()
    client = box.client()
    name = begin(client, parent).name
    box.vault.start()
    last, _ = ended(client, name)
    assert last.state == pb.OPERATION_STATE_SUCCEEDED
    assert last.verify_recordings.intact_count == COUNT


def test_a_fault_ends_what_it_is_in_and_nothing_else(box, filed, monkeypatch):
    parent, _ = filed
    looks = iter([ZeroDivisionError])
    look = verification.Verification._look

    def faulty(this, recording_id: str) -> tuple[str, str]:
        for error in looks:
            raise error
        return look(this, recording_id)

    monkeypatch.setattr(verification.Verification, "_look", faulty)
    client = box.client()
    first, second = begin(client, parent).name, begin(client, parent).name
    last, _ = ended(client, first)
    assert (last.state, last.failure) == (pb.OPERATION_STATE_FAILED, "INTERNAL")
    assert ended(client, second)[0].state == pb.OPERATION_STATE_SUCCEEDED


def test_of_one_tenant_so_many_wait_and_tenants_take_turns(box, filed, monkeypatch):
    monkeypatch.setattr("appliance.catalog.operations.MAX_RUNNING", 3)
    parent, _ = filed
    client = box.client()
    tenant = tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="other"))
    other = client.tenants.CreateTenant(tenant).tenant.name
    gate = Gate(box, monkeypatch, 1)
    mine = [begin(client, parent).name for _ in range(3)]
    found = refused(lambda: begin(client, parent))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OPERATION_LIMIT")
    theirs = begin(client, other).name
    gate.allowed = 1000
    gate.more.set()
    ends = {name: ended(client, name)[0].end_time.ToNanoseconds() for name in (*mine, theirs)}
    assert sorted(ends, key=ends.__getitem__) == [mine[0], theirs, *mine[1:]]
    begin(client, parent)


def test_lists_are_paged_and_stable_and_once_is_once(box, filed):
    parent, _ = filed
    client = box.client()
    first = begin(client, parent, request_id="one")
    assert begin(client, parent, request_id="one").name == first.name
    others = [begin(client, parent, "duration > 3600s").name for _ in range(4)]
    request = pb.ListOperationsRequest(parent="tenants/-", page_size=2)
    names = []
    while True:
        page = client.operations.ListOperations(request)
        names += [one.name for one in page.operations]
        begin(client, parent, "duration > 7200s")
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == [*reversed(others), first.name]
    missing = pb.GetOperationRequest(name=f"{parent}/operations/{new_id()}")
    assert refused(lambda: client.operations.GetOperation(missing)).reason == "OPERATION_NOT_FOUND"


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        ("verify-recordings", {Role.RECORDS_OFFICER, Role.AUDITOR}),
        ("subject-pack", {Role.RECORDS_OFFICER}),
        ("exit-pack", {Role.RECORDS_OFFICER, Role.TENANT_ADMINISTRATOR}),
        ("apply-review-rule", {Role.RECORDS_OFFICER, Role.TENANT_ADMINISTRATOR}),
    ],
)
def test_cancelled_by_who_may_begin_its_kind_alone(box, kind, roles):
    tenant_id, _ = box.default_line()
    now_ns = box.clock()
    done = operations.State.SUCCEEDED  # so that nobody works on it
    work = operations.Operation(new_id(), tenant_id, kind, done, {}, "somebody", now_ns, now_ns, 0)
    box.write(lambda connection: operations.add(connection, work))
    cancel = pb.CancelOperationRequest(name=f"tenants/{tenant_id}/operations/{work.id}")
    for role in (Role.RECORDS_OFFICER, Role.TENANT_ADMINISTRATOR, Role.AUDITOR):
        client = box.enroll(role.value, role, tenant_id=tenant_id)
        if role in roles:
            assert client.operations.CancelOperation(cancel).operation.name == cancel.name
        else:
            found = refused(lambda client=client: client.operations.CancelOperation(cancel))
            assert found.reason == "ROLE_NEEDED"
