"""From a sealed recording to sound: the timeline, codecs, rendering to WAV, FLAC and Ogg Opus, and the picture of it."""

from appliance.media.audio.peaks import Peaks, peaks
from appliance.media.audio.recording import Recording, Track, load
from appliance.media.audio.render import (
    FORMATS,
    RenderError,
    Rendering,
    RenderOptions,
    RenderReport,
    render,
)

__all__ = [
    "FORMATS",
    "Peaks",
    "Recording",
    "RenderError",
    "RenderOptions",
    "RenderReport",
    "Rendering",
    "Track",
    "load",
    "peaks",
    "render",
]
