"""Between the vault's bytes and the audio room: a sealed file as sound, and as a picture. Runs in worker threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.api.renders import MemoryFile, Progress
from appliance.api.vault import SealedStream
from appliance.media.audio.peaks import peaks
from appliance.media.audio.recording import load
from appliance.media.audio.render import Rendering, RenderOptions
from appliance.model import Role
from appliance.storage.sealed import SealedReader

_LOADING: Final = 0.5  # reading and placing the packets is about half of the work


@dataclass(frozen=True)
class Picture:
    """Peaks of each channel, 0 to 32768, left first; all channels have the same number of columns."""

    column_ns: int
    duration_ns: int
    channels: list[tuple[Role, list[int]]]


def render(
    stream: SealedStream, size: int, data_key: bytes, extension: str, file: MemoryFile, progress: Progress
) -> None:
    """Render a sealed file into `file` (wav, flac or ogg): caller left, agent right.

    A damaged file is rendered without its damaged frames; verification says what is damaged. `progress` may raise to
    end the work.
    """
    reader = SealedReader(stream, data_key, tolerant=True)
    recording = load(reader, lambda _done, _all: progress(_LOADING * stream.bytes_read / max(1, size)))
    rendering = Rendering(
        recording,
        RenderOptions(format=extension),
        lambda done, all_: progress(_LOADING + (1 - _LOADING) * done / max(1, all_)),
    )
    for piece in rendering.chunks():
        file.write(piece)


def picture(stream: SealedStream, data_key: bytes, columns: int) -> Picture:
    """The picture of a sealed file."""
    recording = load(SealedReader(stream, data_key, tolerant=True))
    found = peaks(recording, columns)
    roles = [Role.CALLER, Role.AGENT] if len(found.low) == 2 else [Role.UNKNOWN] * len(found.low)
    loudest = [
        [max(int(high), -int(low)) for low, high in zip(lows, highs, strict=True)]
        for lows, highs in zip(found.low, found.high, strict=True)
    ]
    return Picture(found.duration_ns // columns, found.duration_ns, list(zip(roles, loudest, strict=True)))
