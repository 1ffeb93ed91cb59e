"""The recordings that expire soon, one by one, so that they can be downloaded before."""

from __future__ import annotations

from collections.abc import Iterator

from earwitness.client import Client
from earwitness.paging import pages
from earwitness.v1 import retention_pb2 as pb


def expiring(
    client: Client, days: int, parent: str = "tenants/-", *, page_size: int = 500
) -> Iterator[pb.ExpiringRecording]:
    """Recordings whose retention is over within so many days, soonest first; `parent`: of a tenant, or of a line.

    Under the policies of now and those that wait to take effect. What legal holds keep is not among them.
    """
    request = pb.ListExpiringRecordingsRequest(parent=parent, days=days, page_size=page_size)
    for answer in pages(client.retention.ListExpiringRecordings, request):
        yield from answer.expiring_recordings
