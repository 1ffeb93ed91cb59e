"""`earwitness calls listen`: to a player, a file or standard output. Caller left, agent right."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import grpc
import typer

from appliance.cli import files, output
from appliance.cli.connection import bare, resource
from appliance.cli.context import box
from appliance.cli.exits import Exit, Failure
from appliance.cli.readingoptions import OverrideOption, PurposeOption
from earwitness.v1 import calls_pb2, party_pb2

STDOUT: Final = "-"
OPUS_BIT_RATE: Final = 24_000
PLAYERS: Final[dict[str, Callable[[int, int], list[str]]]] = {
    "aplay": lambda rate, channels: (
        ["aplay", "-q", "-t", "raw", "-f", "S16_LE", "-r", str(rate), "-c", str(channels)]
    ),
    "paplay": lambda rate, channels: (
        ["paplay", "--raw", "--format=s16le", f"--rate={rate}", f"--channels={channels}", "--latency-msec=60"]
    ),
    "ffplay": lambda rate, channels: (
        ["ffplay", "-nodisp", "-autoexit", "-loglevel", "error", "-fflags", "nobuffer", "-f", "s16le"]
        + ["-ar", str(rate), "-ch_layout", "mono" if channels == 1 else "stereo", "-i", "-"]
    ),
}
"""What plays samples from a pipe: the first that is installed, by rate and channels."""
_SIDES: Final = (party_pb2.PARTY_ROLE_CALLER, party_pb2.PARTY_ROLE_AGENT, party_pb2.PARTY_ROLE_BOX)
_SAID: Final = {
    calls_pb2.LISTEN_EVENT_KIND_PAUSED: "Paused: nothing is heard.",
    calls_pb2.LISTEN_EVENT_KIND_RESUMED: "Goes on.",
    calls_pb2.LISTEN_EVENT_KIND_HELD: "On hold (track {track}).",
    calls_pb2.LISTEN_EVENT_KIND_UNHELD: "No longer on hold (track {track}).",
    calls_pb2.LISTEN_EVENT_KIND_ENDED: "The recording has ended.",
    calls_pb2.LISTEN_EVENT_KIND_LOST: "{lost} pieces were lost on the way.",
}


@dataclass
class Heard:
    """What was heard, in all."""

    samples: int = 0
    lost: int = 0
    recordings: list[str] = field(default_factory=list)


class Sound:
    """A stream of answers as samples (n, channels) of 20 ms, in order; what happens is told to `tell`."""

    def __init__(self, answers: Iterator[calls_pb2.ListenCallResponse], tell: Callable[[str], None]) -> None:
        self._answers = answers
        self._tell = tell
        self._right: set[int] = set()
        self._waiting: dict[int, list[calls_pb2.ListenChunk]] = {}
        self.rate = 0
        self.heard = Heard()

    def begin(self) -> None:
        """Until it is known what comes."""
        while not self.rate:
            self._take(next(self._answers))

    def pieces(self, channels: int) -> Iterator[Any]:
        """All that is heard. What is of one time is in one piece."""
        for answer in self._answers:
            if answer.HasField("chunk"):
                at_ns = answer.chunk.capture_time.ToNanoseconds()
                yield from self._ready(channels, at_ns)
                self._waiting.setdefault(at_ns, []).append(answer.chunk)
                continue
            if answer.HasField("header"):
                yield from self._ready(channels)  # its tracks were those of the header before
            self._take(answer)
        yield from self._ready(channels)

    def _ready(self, channels: int, before_ns: float = float("inf")) -> Iterator[Any]:
        for time_ns in sorted(time_ns for time_ns in self._waiting if time_ns < before_ns):
            yield self._piece(self._waiting.pop(time_ns), channels)

    def _piece(self, chunks: Sequence[calls_pb2.ListenChunk], channels: int) -> Any:
        import numpy as np  # here, as it takes longer to load than most commands to run

        size = max(len(chunk.data) // 2 for chunk in chunks)
        total = np.zeros((size, channels), np.int32)
        for chunk in chunks:
            samples = np.frombuffer(chunk.data, "<i2")
            side = channels - 1 if chunk.track in self._right else 0
            total[: len(samples), side] += samples
        self.heard.samples += size
        return np.clip(total, -32768, 32767).astype(np.int16)

    def _take(self, answer: calls_pb2.ListenCallResponse) -> None:
        if answer.HasField("header"):
            header = answer.header
            self.rate = header.sample_rate
            self._right = _right(header.tracks)
            if header.recording not in self.heard.recordings:
                self.heard.recordings.append(header.recording)
                self._tell(f"Listening; it is on the timeline of recording {bare(header.recording)}.")
            if header.paused:
                self._tell(_SAID[calls_pb2.LISTEN_EVENT_KIND_PAUSED])
        elif answer.HasField("event"):
            event = answer.event
            self.heard.lost += event.lost
            if event.kind in _SAID:
                self._tell(_SAID[event.kind].format(track=event.track, lost=event.lost))


def _right(tracks: Sequence[calls_pb2.ListenTrack]) -> set[int]:
    """Who is heard right, as in a rendered recording: agent and box; who is neither side goes where there is room."""
    left = sum(track.role == party_pb2.PARTY_ROLE_CALLER for track in tracks)
    right = {track.track for track in tracks if track.role in _SIDES[1:]}
    for track in tracks:
        if track.role in _SIDES:
            continue
        if left <= len(right):
            left += 1
        else:
            right.add(track.track)
    return right


def player(wanted: str) -> str:
    """The name of a player that is there. Failure where there is none."""
    names = (wanted,) if wanted else tuple(PLAYERS)
    for name in names:
        if name not in PLAYERS:
            raise Failure(Exit.USAGE, f"--player: one of {', '.join(PLAYERS)}", "OPTION_INVALID")
        if shutil.which(name):
            return name
    raise Failure(
        Exit.USAGE,
        f"no player is installed ({', '.join(names)})",
        "NO_PLAYER",
        "-o FILE.wav, -o FILE.ogg or -o - (raw samples) writes what is heard",
    )


def _play(name: str, pieces: Iterator[Any], rate: int, channels: int) -> None:
    with subprocess.Popen(
        PLAYERS[name](rate, channels), stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        try:
            for piece in pieces:
                process.stdin.write(piece.astype("<i2").tobytes())
                process.stdin.flush()
        except BrokenPipeError:
            raise Failure(
                Exit.FAILED, f"{name} has ended: is there a sound device?", "PLAYER_ENDED"
            ) from None
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _write_wav(written: BinaryIO, pieces: Iterator[Any], rate: int, channels: int) -> None:
    with wave.open(written, "wb") as file:  # its header is right after each piece, whatever ends it
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        for piece in pieces:
            file.writeframes(piece.astype("<i2").tobytes())


def _write_ogg(written: BinaryIO, pieces: Iterator[Any], rate: int, channels: int) -> None:
    from appliance.media.audio.encode import ogg_opus  # as above

    for data in ogg_opus(pieces, rate, channels, OPUS_BIT_RATE):
        written.write(data)


def _write_raw(pieces: Iterator[Any]) -> None:
    for piece in pieces:
        sys.stdout.buffer.write(piece.astype("<i2").tobytes())
        sys.stdout.buffer.flush()


def _until(pieces: Iterator[Any], seconds: float, call: Any) -> Iterator[Any]:
    """As long as it is wanted; an interrupt ends it as well, and what was heard is kept."""
    deadline = time.monotonic() + seconds if seconds else float("inf")
    try:
        for piece in pieces:
            yield piece
            if time.monotonic() >= deadline:
                break
    except KeyboardInterrupt:
        pass
    finally:
        call.cancel()


def listen(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the call.")],
    purpose: PurposeOption = "",
    override: OverrideOption = "",
    to: Annotated[
        str,
        typer.Option(
            "-o", "--output", help="Write to FILE.wav or FILE.ogg, or - for raw samples, instead of playing."
        ),
    ] = "",
    with_player: Annotated[
        str, typer.Option("--player", help="aplay, paplay or ffplay; else the first that is installed.")
    ] = "",
    mixed: Annotated[
        bool, typer.Option("--mixed", help="All parties in one, not caller left, agent right.")
    ] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="End after so long; 0: with the call.")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Listen to a live call, until it ends or you press Ctrl-C.

    Who listens, what for and how long stands on the recording's timeline and in the audit log.
    """
    path = Path(to) if to not in ("", STDOUT) else None
    if path is not None and path.suffix not in (".wav", ".ogg"):
        raise Failure(Exit.USAGE, "-o: a name ending in .wav or .ogg, or -", "OPTION_INVALID")
    if path is not None and path.exists() and not force:
        raise Failure(Exit.CONFLICT, f"{path} is there already", "FILE_EXISTS", "--force overwrites it")
    chosen = "" if to else player(with_player)
    channels = 1 if mixed else 2
    request = calls_pb2.ListenCallRequest(
        name=resource("calls", name),
        purpose=purpose,
        override_reason=override,
        format=calls_pb2.LISTEN_FORMAT_PCM,
        mixed=mixed,
    )
    with box(context) as services:
        call = services.calls.ListenCall(request)
        sound = Sound(iter(call), lambda text: output.errors.print(text, markup=False))
        sound.begin()
        pieces = _until(sound.pieces(channels), seconds, call)
        try:
            if path is None:
                _write_raw(pieces) if to else _play(chosen, pieces, sound.rate, channels)
            else:
                write = _write_wav if path.suffix == ".wav" else _write_ogg
                with files.written(path, in_part=True) as file:
                    write(file, pieces, sound.rate, channels)
        except grpc.RpcError as error:
            if not (isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.CANCELLED):
                raise
        finally:
            call.cancel()
        heard = sound.heard
        lost = f", {heard.lost} pieces lost" if heard.lost else ""
        output.errors.print(f"Listened for {heard.samples / sound.rate:.1f} s{lost}.", markup=False)
