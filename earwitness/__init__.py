"""Earwitness for integrators: generated stubs (`earwitness.v1`) and thin helpers. Needs grpcio and protobuf alone.

with earwitness.connect("box:7443", "ca.crt", "me.crt", "me.key") as box:
    for event in earwitness.watch_events(box):
        if event.type == earwitness.EventType.EVENT_TYPE_RECORDING_FILED:
            earwitness.download(box, event.subject, "call.flac", earwitness.FLAC, purpose="evidence")
    for one in earwitness.expiring(box, days=30):
        earwitness.download(box, one.recording, one.recording.rsplit("/", 1)[-1] + ".wav", purpose="evidence")
"""

from earwitness.client import Client, connect
from earwitness.downloads import FLAC, OGG, SEALED, WAV, DamagedError, Download, download
from earwitness.errors import Details, details
from earwitness.expirations import expiring
from earwitness.paging import pages
from earwitness.v1.events_pb2 import Event, EventType
from earwitness.watching import watch_events

__all__ = [
    "FLAC",
    "OGG",
    "SEALED",
    "WAV",
    "Client",
    "DamagedError",
    "Details",
    "Download",
    "Event",
    "EventType",
    "connect",
    "details",
    "download",
    "expiring",
    "pages",
    "watch_events",
]
