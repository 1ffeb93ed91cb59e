"""Earwitness for integrators: generated stubs (`earwitness.v1`) and thin helpers. Needs grpcio and protobuf alone.

with earwitness.connect("box:7443", "ca.crt", "me.crt", "me.key") as box:
    for event in earwitness.watch_events(box):
        if event.type == earwitness.EventType.EVENT_TYPE_RECORDING_FILED:
            earwitness.download(box, event.subject, "call.flac", earwitness.FLAC, purpose="evidence")
    for one in earwitness.expiring(box, days=30):
        earwitness.download(box, one.recording, one.recording.rsplit("/", 1)[-1] + ".wav", purpose="evidence")
"""

# Each name is read where it is first used: all the stubs together take a tenth of a second and more to read.
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "client": ("Client", "connect"),
    "downloads": ("FLAC", "OGG", "SEALED", "WAV", "DamagedError", "Download", "download"),
    "errors": ("Details", "details"),
    "expirations": ("expiring",),
    "paging": ("pages",),
    "v1.events_pb2": ("Event", "EventType"),
    "watching": ("watch_events",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_PARTS = {module.partition(".")[0] for module in _MODULES}


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
