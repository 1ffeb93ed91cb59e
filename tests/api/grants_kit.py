"""A tenant with a records officer, and the provider's support: what tests of support grants begin with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.access.identities import Role
from earwitness.v1 import grants_pb2 as pb
from earwitness.v1 import recordings_pb2 as rec

NECESSITY = "One side is silent in these recordings; the cause cannot be found otherwise."
HOUR = 3600
DAY = 86400
SECOND = 10**9


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def stamp(seconds_ahead: float, clock=time.time_ns) -> Timestamp:
    made = Timestamp()
    made.FromNanoseconds(clock() + int(seconds_ahead * SECOND))
    return made


@dataclass
class Ward:
    """A box with a tenant, its records officer, two of the support, and recordings."""

    box: Any
    tenant_id: str
    line_id: str
    officer: earwitness.Client
    support: earwitness.Client
    other: earwitness.Client
    sealing: Any

    @property
    def tenant(self) -> str:
        return f"tenants/{self.tenant_id}"

    def file(self, **fields: Any) -> str:
        """A recording is filed; its name."""
        recording_id = self.box.vault.file(self.sealing(self.tenant_id, self.line_id, **fields))
        self.box.filed(recording_id)
        return f"{self.tenant}/recordings/{recording_id}"

    def terms(self, *recordings: str, **fields: Any) -> pb.SupportGrant:
        made = {
            "purpose": "system-operation",
            "necessity": NECESSITY,
            "end_time": stamp(HOUR, self.box.clock),
            "max_reads": 3,
            "scope": pb.GrantScope(recordings=recordings),
            **fields,
        }
        return pb.SupportGrant(**{name: value for name, value in made.items() if value is not None})

    def request(self, *recordings: str, **fields: Any) -> pb.SupportGrant:
        asked = pb.RequestGrantRequest(parent=self.tenant, grant=self.terms(*recordings, **fields))
        return self.support.grants.RequestGrant(asked).grant

    def approve(self, grant: pb.SupportGrant, **fields: Any) -> pb.SupportGrant:
        return self.officer.grants.ApproveGrant(pb.ApproveGrantRequest(name=grant.name, **fields)).grant

    def granted(self, *recordings: str, **fields: Any) -> pb.SupportGrant:
        return self.approve(self.request(*recordings, **fields))

    def get(self, grant: pb.SupportGrant, client: earwitness.Client | None = None) -> pb.SupportGrant:
        return (client or self.officer).grants.GetGrant(pb.GetGrantRequest(name=grant.name)).grant

    def uses(self, grant: pb.SupportGrant) -> list[pb.GrantUse]:
        return list(self.officer.grants.ListGrantUses(pb.ListGrantUsesRequest(parent=grant.name)).grant_uses)

    def listed(self, client: earwitness.Client | None = None, **how: Any) -> list[rec.Recording]:
        request = rec.ListRecordingsRequest(parent="tenants/-", view=rec.RECORDING_VIEW_FULL, **how)
        return list((client or self.support).recordings.ListRecordings(request).recordings)

    def read(self, name: str, client: earwitness.Client | None = None, **how: Any) -> tuple[str, bytes]:
        """Etag and bytes of a download."""
        request = rec.DownloadRecordingRequest(
            **{"name": name, "format": rec.DOWNLOAD_FORMAT_SEALED, "purpose": "system-operation", **how}
        )
        etag, data = "", b""
        for message in (client or self.support).recordings.DownloadRecording(request):
            etag = message.header.etag or etag
            data += message.chunk.data
        return etag, data


@pytest.fixture
def ward(box, sealing) -> Ward:
    tenant_id, line_id = box.default_line()

    def who(name: str, role: Role, tenant_id: str = "") -> earwitness.Client:
        """Enrolled already, where the box is one for several tests."""
        there = (box.layout.pki / "clients" / f"{name}.crt").exists()
        return box.client(name) if there else box.enroll(name, role, tenant_id=tenant_id)

    return Ward(
        box,
        tenant_id,
        line_id,
        who("officer", Role.RECORDS_OFFICER, tenant_id),
        who("support.ada", Role.SUPPORT),
        who("support.bob", Role.SUPPORT),
        sealing,
    )


def get(client: earwitness.Client, name: str) -> rec.Recording:
    return client.recordings.GetRecording(rec.GetRecordingRequest(name=name)).recording


def every_way(client: earwitness.Client, name: str) -> list[earwitness.Details]:
    """What support is told of a recording by everything that could tell."""
    ways = (
        lambda: get(client, name),
        lambda: list(
            client.recordings.DownloadRecording(
                rec.DownloadRecordingRequest(
                    name=name, format=rec.DOWNLOAD_FORMAT_WAV, purpose="system-operation"
                )
            )
        ),
        lambda: list(client.recordings.VerifyRecording(rec.VerifyRecordingRequest(name=name))),
        lambda: client.recordings.GetWaveform(rec.GetWaveformRequest(name=name, purpose="system-operation")),
    )
    return [refused(way) for way in ways]


def stream(ward: Ward, name: str):
    """A download of many messages that has begun."""
    request = rec.DownloadRecordingRequest(
        name=name, format=rec.DOWNLOAD_FORMAT_SEALED, purpose="system-operation"
    )
    made = ward.support.recordings.DownloadRecording(request)
    assert next(made).header.size_bytes
    assert next(made).chunk.data
    return made
