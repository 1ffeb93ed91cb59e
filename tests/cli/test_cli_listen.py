"""Listening on the command line: what comes is put side by side, and goes to a player, a file or a pipe."""

from __future__ import annotations

import contextlib
import io
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from appliance.cli import listen, main
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import calls_pb2 as pb
from earwitness.v1 import party_pb2

FRAME = 320


def header(recording: str = "r1", *roles: int, paused: bool = False) -> pb.ListenCallResponse:
    roles = roles or (party_pb2.PARTY_ROLE_CALLER, party_pb2.PARTY_ROLE_AGENT)
    tracks = [pb.ListenTrack(track=number, role=role) for number, role in enumerate(roles)]  # type: ignore[arg-type]
    made = pb.ListenHeader(
        recording=f"tenants/t/recordings/{recording}", tracks=tracks, sample_rate=16000, paused=paused
    )
    return pb.ListenCallResponse(header=made)


def chunk(number: int, track: int, level: int) -> pb.ListenCallResponse:
    made = pb.ListenChunk(track=track, sequence=number, data=np.full(FRAME, level, "<i2").tobytes())
    made.capture_time.FromNanoseconds(number * 20_000_000)
    return pb.ListenCallResponse(chunk=made)


def event(kind: int, **more: int) -> pb.ListenCallResponse:
    return pb.ListenCallResponse(event=pb.ListenEvent(kind=kind, **more))  # type: ignore[arg-type]


def answers() -> Iterator[pb.ListenCallResponse]:
    yield header("r1", party_pb2.PARTY_ROLE_CALLER, party_pb2.PARTY_ROLE_AGENT, party_pb2.PARTY_ROLE_BOX)
    yield from (chunk(0, 0, 100), chunk(0, 1, 200), chunk(0, 2, 30_000))
    yield event(pb.LISTEN_EVENT_KIND_HELD, track=1)
    yield from (chunk(1, 1, 30_000), chunk(1, 2, 30_000))
    yield event(pb.LISTEN_EVENT_KIND_LOST, lost=3)
    yield header("r2", paused=True)
    yield from (chunk(9, 0, 5), chunk(9, 1, 6))
    yield event(pb.LISTEN_EVENT_KIND_ENDED)


def test_the_caller_is_left_and_who_is_not_is_right() -> None:
    told: list[str] = []
    sound = listen.Sound(answers(), told.append)
    sound.begin()
    pieces = list(sound.pieces(2))
    assert [piece[0].tolist() for piece in pieces] == [[100, 30_200], [0, 32_767], [5, 6]]
    assert (sound.rate, sound.heard.samples, sound.heard.lost) == (16000, 3 * FRAME, 3)
    assert sound.heard.recordings == ["tenants/t/recordings/r1", "tenants/t/recordings/r2"]
    assert told == [
        "Listening; it is on the timeline of recording r1.",
        "On hold (track 1).",
        "3 pieces were lost on the way.",
        "Listening; it is on the timeline of recording r2.",
        "Paused: nothing is heard.",
        "The recording has ended.",
    ]


def test_who_is_neither_side_goes_where_there_is_room() -> None:
    unknown, agent, caller = (
        party_pb2.PARTY_ROLE_UNKNOWN,
        party_pb2.PARTY_ROLE_AGENT,
        party_pb2.PARTY_ROLE_CALLER,
    )
    for roles, right in (
        ((unknown, unknown), {1}),
        ((unknown, agent), {1}),
        ((unknown, caller), {0}),
        ((unknown, unknown, unknown), {1}),
        ((caller, caller, unknown), {2}),
    ):
        assert listen._right(header("r", *roles).header.tracks) == right


def test_all_in_one_where_it_is_mixed() -> None:
    stream = iter([header(), chunk(0, -1, 7), chunk(1, -1, 8)])
    sound = listen.Sound(stream, lambda text: None)
    sound.begin()
    assert [piece[0].tolist() for piece in sound.pieces(1)] == [[7], [8]]


def test_what_is_written_opens_elsewhere(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    tone = [np.stack([np.full(FRAME, 900), np.zeros(FRAME)], axis=1).astype(np.int16) for _ in range(50)]
    with (tmp_path / "x.wav").open("wb") as written:
        listen._write_wav(written, iter(tone), 16000, 2)
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 2, 16000)
    with (tmp_path / "x.ogg").open("wb") as written:
        listen._write_ogg(written, iter(tone), 16000, 2)
    with av.open(str(tmp_path / "x.ogg")) as container:
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
    listen._write_raw(iter(tone))
    assert len(capsysbinary.readouterr().out) == 50 * FRAME * 4


def test_a_player_gets_the_samples_and_one_that_ends_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = tmp_path / "heard"
    copies = f"import sys; open({str(heard)!r}, 'wb').write(sys.stdin.buffer.read())"
    monkeypatch.setitem(listen.PLAYERS, "aplay", lambda rate, channels: [sys.executable, "-c", copies])
    piece = np.full((FRAME, 2), 5, np.int16)
    listen._play("aplay", iter([piece, piece]), 16000, 2)
    assert heard.stat().st_size == 2 * FRAME * 4
    monkeypatch.setitem(listen.PLAYERS, "aplay", lambda rate, channels: [sys.executable, "-c", "pass"])
    with pytest.raises(Failure) as caught:
        listen._play("aplay", (piece for _ in range(100_000)), 16000, 2)
    assert caught.value.reason == "PLAYER_ENDED"
    monkeypatch.setattr(listen.shutil, "which", lambda name: "/usr/bin/ffplay" if name == "ffplay" else None)
    assert listen.player("") == "ffplay"
    assert listen.PLAYERS["ffplay"](16000, 2)[-4:] == ["-ch_layout", "stereo", "-i", "-"]
    for wanted, reason in (("aplay", "NO_PLAYER"), ("vlc", "OPTION_INVALID")):
        with pytest.raises(Failure) as caught:
            listen.player(wanted)
        assert caught.value.reason == reason and caught.value.code is Exit.USAGE


def test_what_is_asked_wrongly_is_said_before_anybody_is_called(tmp_path: Path) -> None:
    (tmp_path / "x.wav").touch()
    for words, code in (
        (("-o", "x.mp3"), Exit.USAGE),
        (("-o", str(tmp_path / "x.wav")), Exit.CONFLICT),
        (("--seconds", "-1"), Exit.USAGE),
    ):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert main.run(["calls", "listen", "a" * 26, *words]) == code, err.getvalue()


def test_the_end_is_the_listeners_too() -> None:
    class Call:
        cancelled = 0

        def cancel(self) -> None:
            self.cancelled += 1

    def forever() -> Iterator[int]:
        while True:
            yield 1

    def interrupted() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    call = Call()
    assert sum(listen._until(forever(), 0.05, call)) > 0 and call.cancelled == 1
    assert list(listen._until(interrupted(), 0, call)) == [1] and call.cancelled == 2
