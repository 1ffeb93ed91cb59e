"""A sealed recording as a sound file: caller left, agent right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.media.audio.encode import digest, flac, ogg_opus, wav_header
from appliance.media.audio.mix import Mixer
from appliance.media.audio.muting import Mute
from appliance.media.audio.recording import Recording, load
from appliance.model import InvalidError, PreconditionError
from appliance.storage.sealed import SealedReader

I16 = npt.NDArray[np.int16]
FORMATS = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg; codecs=opus"}
OPUS_BIT_RATE = 24_000  # each channel: clear speech
Progress = Callable[[int, int], None]


class RenderError(PreconditionError):
    """This recording cannot be rendered in the format that was asked for."""

    reason = "RENDER_FORMAT"


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What to render.

    `layout`: `sides` (caller left, agent right), `mono`, or `tracks` (a channel each). Times count in nanoseconds from
    the start of the recording. `tracks`: only these are heard, the others are silent; None: all. `mutes`: what is digital
    silence, sample by sample.
    """

    format: str = "wav"
    layout: str = "sides"
    start_ns: int = 0
    end_ns: int | None = None
    tracks: tuple[int, ...] | None = None
    mutes: tuple[Mute, ...] = ()


@dataclass(frozen=True, slots=True)
class RenderReport:
    """What became of the packets. Complete once all bytes have been taken."""

    duration_ns: int
    packets: int
    duplicates: int
    lost: int
    moves: int
    undecodable: int
    notes: tuple[str, ...]


class Rendering:
    """One sound file, made as it is read. The same recording and options give the same bytes, so a broken download goes
    on where it ended: `chunks(offset)`."""

    def __init__(
        self, recording: Recording, options: RenderOptions, progress: Progress | None = None
    ) -> None:
        if options.format not in FORMATS:
            raise InvalidError("no such format; there are wav, flac and ogg", field="format")
        self.recording = recording
        self.options = options
        self.content_type = FORMATS[options.format]
        self._progress = progress
        self._mixer = self._mix()
        self.rate = self._mixer.rate
        self.channels = self._mixer.channels
        self.samples = self._mixer.samples
        """In each channel."""
        if options.format != "wav" and self.channels > 2:
            raise RenderError("more than two channels are rendered as WAV only", channels=self.channels)
        self.size: int | None = None
        """Bytes of the whole file, where that is known beforehand: WAV."""
        if options.format == "wav":
            header = wav_header(self.rate, self.channels, self.samples)
            self.size = len(header) + 2 * self.channels * self.samples

    def _mix(self) -> Mixer:
        options = self.options
        return Mixer(
            self.recording,
            layout=options.layout,
            start_ns=options.start_ns,
            end_ns=options.end_ns,
            tracks=options.tracks,
            mutes=options.mutes,
        )

    def report(self) -> RenderReport:
        """What became of the packets."""
        tracks = self.recording.tracks
        return RenderReport(
            duration_ns=self.recording.duration_ns,
            packets=sum(track.packets for track in tracks),
            duplicates=sum(track.placement.duplicates for track in tracks),
            lost=sum(track.placement.lost for track in tracks),
            moves=sum(track.placement.moves for track in tracks),
            undecodable=sum(self._mixer.failures.count.values()),
            notes=tuple(self.recording.notes),
        )

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        """The file from byte `offset` on, in pieces. InvalidError where that is beyond its end (WAV)."""
        if offset < 0 or (self.size is not None and offset > self.size):
            raise InvalidError("the offset is not within the file", field="offset")
        self._mixer = self._mix()
        if self.options.format == "wav":
            return self._wav(offset)
        if self.options.format == "flac":
            md5 = digest(self._mix().pieces())
            data = flac(self._pieces(), self.rate, self.channels, self.samples, md5)
        else:
            data = ogg_opus(self._pieces(), self.rate, self.channels, OPUS_BIT_RATE)
        return _from(data, offset)

    def _pieces(self, skip: int = 0) -> Iterator[I16]:
        done = skip
        for piece in self._mixer.pieces(skip=skip):
            yield piece
            done += len(piece)
            if self._progress is not None:
                self._progress(done, self.samples)

    def _wav(self, offset: int) -> Iterator[bytes]:
        header = wav_header(self.rate, self.channels, self.samples)
        if offset < len(header):
            yield header[offset:]
        block = 2 * self.channels
        skip, within = divmod(max(offset - len(header), 0), block)
        for piece in self._pieces(skip):
            data = piece.astype("<i2", copy=False).tobytes()
            yield data[within:]
            within = 0


def _from(data: Iterable[bytes], offset: int) -> Iterator[bytes]:
    for piece in data:
        if offset >= len(piece):
            offset -= len(piece)
            continue
        yield piece[offset:] if offset else piece
        offset = 0


def render(
    reader: SealedReader, options: RenderOptions | None = None, progress: Progress | None = None
) -> Rendering:
    """Reads `reader` to its end and makes a Rendering of it. `progress(samples done, samples in all)`."""
    return Rendering(load(reader), options or RenderOptions(), progress)
