"""The catalogue can take no more: SQLite's own bound on pages makes a disk that is full."""

from __future__ import annotations

import grpc
import pytest
import sqlalchemy as sa

import earwitness
from earwitness.v1 import box_pb2, calls_pb2, tenants_pb2
from earwitness.v1 import recordings_pb2 as pb


def bound(box, pages: int) -> None:
    """Let the database grow no further than it is, or set it free."""
    engine = box.control.parts.store.database.engine

    def limit(connection, _record) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sa.event.listen(engine, "connect", limit)
    engine.dispose()


def test_a_full_disk_stops_neither_the_box_nor_reading(box, sealing):
    line = box.default_line()
    first = box.vault.file(sealing(*line))
    box.filed(first)
    client = box.client()
    bound(box, 1)  # SQLite takes the present size where that is larger
    ids = [
        box.vault.file(sealing(*line, session_ids=tuple("x" * 250 + str(n) for n in range(30))))
        for _ in range(5)
    ]
    call = box.signaling.begin(*line)

    def types() -> list[str]:
        return [one.type for one in client.box.GetBoxStatus(box_pb2.GetBoxStatusRequest()).conditions]

    box.wait(lambda: "CatalogueUnwritable" in types())
    with pytest.raises(grpc.RpcError) as caught:
        for number in range(100):
            tenant = tenants_pb2.Tenant(display_name=f"{number:0100}")
            client.tenants.CreateTenant(tenants_pb2.CreateTenantRequest(tenant=tenant))
    found = earwitness.details(caught.value)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "CATALOGUE_UNAVAILABLE")
    assert client.recordings.GetRecording(pb.GetRecordingRequest(name=f"tenants/-/recordings/{first}"))
    assert not box.control.failed.done()
    bound(box, 1_000_000)
    for one in ids:
        box.filed(one)
    box.wait(lambda: box.control.parts.board.in_sync)
    assert client.calls.GetCall(
        calls_pb2.GetCallRequest(name=f"tenants/-/calls/{call}")
    ).call.start_time.seconds
    box.wait(lambda: "CatalogueUnwritable" not in types())
