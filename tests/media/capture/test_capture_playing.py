"""What the box plays: heard as it was made, told as it was heard, kept as it was sent."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bridge_kit import Call, Packet
from capture_kit import Box, rtp, tone
from pylibsrtp import Policy, Session

from appliance.media.audio import tones
from appliance.media.audio.codecs import ALAW, ULAW, codec_for
from appliance.media.audio.tones import TONES, Tone, ToneFormatError, samples, tone_payloads
from appliance.media.capture import prompts
from appliance.media.capture.commands import Close, Play, Update
from appliance.media.capture.exchange import (
    MAX_PLAYS,
    NowhereToPlayError,
    PlayExistsError,
    TooManyPlaysError,
)
from appliance.media.capture.playing import Sound
from appliance.media.capture.prompts import (
    PlayFormatError,
    PromptBrokenError,
    PromptNotFoundError,
    PromptShelf,
)
from appliance.media.capture.session import SessionError
from appliance.model import PayloadFormat, new_id


@pytest.fixture
def call(box: Box) -> Iterator[Call]:
    found = Call(box)
    yield found
    found.close()


def prompt(packets: int = 25) -> Sound:
    return Sound(tuple(os.urandom(160) for _ in range(packets)), "PCMU", 8000)


def play(call: Call, sound: Sound, name: str = "p", **more: object) -> int:
    plays = call.box.recorder.play(
        Play(call.session, name, more.pop("track", 0), sound, 0, **more)  # type: ignore[arg-type]
    )
    return plays.duration_ms


def ended(call: Call) -> list[tuple[str, bool, int, bool]]:
    return [
        (event.play.play_id, event.play.whole, event.play.played_ms, event.play.interrupted)
        for event in call.told()
        if event.play is not None
    ]


def one_stream(packets: list[Packet], step: int = 160) -> bool:
    """One SSRC, a marker on the first alone, numbers and times without a gap."""
    first = packets[0]
    return all(
        packet.ssrc == first.ssrc
        and packet.seq == first.seq + at & 0xFFFF
        and packet.ts == first.ts + at * step & 0xFFFFFFFF
        and packet.marker == (at == 0)
        for at, packet in enumerate(packets)
    )


def test_a_prompt_is_heard_whole_and_kept_as_it_was_heard(box: Box, call: Call) -> None:
    sound = prompt()
    assert play(call, sound, record_track=2) == 500
    assert len(call.caller.hears()) == 1  # the first goes out at once
    assert ended(call) == []
    box.advance(490)
    assert ended(call) == []
    box.advance(20)
    assert ended(call) == [("p", True, 500, False)]
    box.advance(100)
    content = box.close(call.session)
    kept = content.packets(2)
    assert [payload for _, _, payload in kept] == list(sound.payloads)
    assert call.agent.hears() == []
    assert box.recorder.counters()["packets_played"] == 25


def test_the_packets_of_a_prompt_are_one_stream_of_their_own(box: Box, call: Call) -> None:
    sound = prompt()
    play(call, sound)
    box.advance(600)
    heard = call.caller.hears()
    assert [packet.payload for packet in heard] == list(sound.payloads)
    assert one_stream(heard) and heard[0].ssrc not in (100, 200)
    play(call, sound, "again")
    box.advance(600)
    again = call.caller.hears()
    # The same voice speaks again: its numbers go on, and its clock has run on.
    assert one_stream(again) and again[0].ssrc == heard[0].ssrc
    assert again[0].seq == heard[-1].seq + 1 & 0xFFFF
    silence = (again[0].ts - heard[-1].ts & 0xFFFFFFFF) - 160
    assert 8 * 80 <= silence <= 8 * 200
    assert box.figures(call.session, 0).sent == 50


def test_packets_go_out_every_twenty_milliseconds(box: Box, call: Call) -> None:
    play(call, prompt())
    amounts = []
    for _ in range(10):
        amounts.append(len(call.caller.hears()))
        box.advance(20)
    assert amounts == [1] * 10
    # Held up for long, the worker goes on from there instead of sending a burst.
    call.caller.hears()
    box.wall.offset += 10**9
    box.mono.offset += 10**9
    box.recorder.breathe()
    assert len(call.caller.hears()) <= 6


def test_while_a_prompt_plays_what_others_say_waits(box: Box, call: Call) -> None:
    before = call.agent.say(*[tone(1)] * 3)
    box.tick()
    assert [packet.raw for packet in call.caller.hears()] == before
    play(call, prompt(5))
    spoken = []
    for _ in range(5):
        spoken += call.agent.say(tone(2))
        back = call.caller.say(tone(3))
        box.advance(20)
        assert [packet.raw for packet in call.agent.hears()] == back  # the other way nothing changes
    box.advance(20)
    assert {packet.payload for packet in call.caller.hears()}.isdisjoint({tone(2)})
    after = call.agent.say(*[tone(4)] * 3)
    box.tick()
    heard = call.caller.hears()
    assert [packet.payload for packet in heard] == [raw[12:] for raw in after]
    # No gap in the numbers, and the marker says that sound begins anew.
    assert [packet.seq for packet in heard] == [3, 4, 5]
    assert [packet.marker for packet in heard] == [True, False, False]
    assert [packet.ts for packet in heard] == [int.from_bytes(raw[4:8], "big") for raw in after]
    more = call.agent.say(*[tone(5)] * 3)
    box.tick()
    assert [packet.seq for packet in call.caller.hears()] == [6, 7, 8]
    # All of it was said, and is in the recording.
    content = box.close(call.session)
    assert len(content.packets(1)) == len(before + spoken + after + more)


def test_a_new_source_after_a_prompt_keeps_its_own_numbers(box: Box, call: Call) -> None:
    call.agent.say(*[tone(1)] * 5)
    play(call, prompt(2))
    call.agent.say(*[tone(2)] * 3)
    box.advance(50)
    call.agent.say(tone(3))
    box.tick()
    heard = [packet for packet in call.caller.hears() if packet.ssrc == 200]
    assert [packet.seq for packet in heard] == list(range(len(heard)))  # as in the prompt's time nothing came
    call.agent.send(*[rtp(40000 + at, tone(4), ssrc=201) for at in range(6)])
    box.tick()
    call.agent.send(rtp(40006, tone(5), ssrc=201), rtp(9, tone(6), ssrc=200), rtp(40007, tone(5), ssrc=201))
    box.tick()
    after = call.caller.hears()
    assert [packet.seq for packet in after if packet.ssrc == 201] == list(range(40000, 40008))
    (again,) = [packet for packet in after if packet.ssrc == 200]
    assert again.seq == heard[-1].seq + 1


def test_numbers_stay_right_through_a_long_call_after_a_prompt(box: Box, call: Call) -> None:
    call.agent.say(tone(1))
    box.tick()
    play(call, prompt(2))
    call.agent.say(*[tone(2)] * 3)
    box.advance(60)
    call.agent.say(tone(3))
    box.tick()
    call.caller.hears()
    for seq in range(5, 300_000, 9_999):
        call.agent.send(rtp(seq, tone(4), ssrc=200), rtp(seq - 1, tone(4), ssrc=200))
        box.tick()
        assert [packet.seq for packet in call.caller.hears()] == [seq - 3 & 0xFFFF, seq - 4 & 0xFFFF]


@pytest.mark.parametrize("codes", [(), ("*2",)])
def test_played_to_and_keyed_towards_an_encrypted_line(box: Box, call: Call, codes: tuple[str, ...]) -> None:
    key = os.urandom(30)
    rx = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND))
    remote = call.caller.remote(("AES_CM_128_HMAC_SHA1_80", key))
    box.recorder.update(Update(call.session, (call.track(0, remote=remote), call.track(1, codes=codes))))
    call.agent.seq = 65533
    said = [call.agent.say(tone(at))[0] for at in range(3)]
    box.tick()
    sound = prompt(5)
    play(call, sound)
    call.agent.say(tone(9))
    box.advance(120)
    if codes:
        call.agent.key("*")
        call.agent.key("2")
    said += [call.agent.say(tone(at))[0] for at in range(10, 13)]
    box.tick()
    heard = [Packet(rx.unprotect(packet.raw)) for packet in call.caller.hears()]
    mine = [packet for packet in heard if packet.ssrc != 200]
    assert [packet.payload for packet in mine] == list(sound.payloads) and one_stream(mine)
    passed = [packet for packet in heard if packet.ssrc == 200]
    assert [packet.payload for packet in passed] == [raw[12:] for raw in said]
    assert [packet.seq for packet in passed] == [(65533 + at) & 0xFFFF for at in range(6)]
    # A jump of the source does not make the receiver lose count.
    call.agent.seq += 30000
    call.agent.say(tone(20), tone(21))
    box.tick()
    more = [Packet(rx.unprotect(packet.raw)) for packet in call.caller.hears()]
    assert [packet.seq for packet in more] == [3, 4]
    assert not box.recorder.exchange.relay._out.cells.any()


def test_a_pause_of_the_recording_covers_what_the_box_says(box: Box, call: Call) -> None:
    sound = prompt(10)
    play(call, sound, record_track=2)
    box.advance(45)
    began = box.wall()
    box.recorder.pause(call.session)
    box.advance(60)
    box.recorder.resume(call.session)
    packets = (box.wall() - began) / 20_000_000  # three, or more where the machine was busy
    box.advance(200)
    assert [packet.payload for packet in call.caller.hears()] == list(sound.payloads)
    voice = box.figures(call.session, 2)
    assert (voice.port, voice.packets + voice.dropped) == (0, 10)
    assert 3 <= voice.dropped <= packets + 1
    kept = [payload for _, _, payload in box.close(call.session).packets(2)]
    assert len(kept) == voice.packets and set(kept) < set(sound.payloads)


def test_a_pause_from_a_time_gone_by_takes_back_what_was_said(box: Box, call: Call) -> None:
    play(call, prompt(10), record_track=2)
    box.advance(40)
    began = box.wall() + 1
    box.advance(60)
    box.recorder.pause(call.session, at_ns=began)
    assert len(box.close(call.session).packets(2)) in (2, 3)


def test_stopped_is_not_whole(box: Box, call: Call) -> None:
    play(call, prompt())
    box.advance(45)
    box.recorder.stop_playing(call.session, "p")
    box.recorder.stop_playing(call.session, "p")
    box.recorder.stop_playing(call.session, "nothing")
    sent = len(call.caller.hears())
    assert ended(call) == [("p", False, 20 * sent, False)]
    box.advance(100)
    assert call.caller.hears() == [] and not box.recorder.exchange._playing


def test_the_end_of_the_call_ends_what_plays(box: Box, call: Call) -> None:
    play(call, prompt(), record_track=2)
    play(call, prompt(), "next")
    box.close(call.session)
    assert [(name, whole) for name, whole, _, _ in ended(call)] == [("p", False), ("next", False)]
    assert not box.recorder.exchange.busy


def test_what_is_played_outlives_the_recording(box: Box, call: Call) -> None:
    sound = prompt(10)
    play(call, sound, record_track=2)
    box.advance(50)
    sent = len(call.caller.hears())
    box.recorder.close(Close(call.session, "stopped", keep_relaying=True), lambda closed: None)
    box.commit()
    box.advance(200)
    assert len(call.caller.hears()) == 10 - sent
    assert ended(call) == [("p", True, 200, False)]
    assert len(box.read(call.session).packets(2)) == sent


def test_a_key_ends_an_interruptible_prompt_and_goes_no_further(box: Box, call: Call) -> None:
    play(call, prompt(), interruptible=True)
    box.advance(40)
    call.caller.say(tone(1))
    keys = call.caller.key("*")
    call.caller.say(tone(2))
    box.advance(10)
    told = call.told()
    assert [event.key for event in told if event.key] == ["*"]
    (end,) = [event.play for event in told if event.play]
    assert (end.whole, end.interrupted) == (False, True) and 0 < end.played_ms < 100
    heard = call.agent.hears()
    assert [packet.payload for packet in heard] == [tone(1), tone(2)]
    assert heard[1].seq == heard[0].seq + 1
    call.caller.key("5")
    box.advance(10)
    assert len(call.agent.hears()) == 6
    assert len(box.close(call.session).packets(0, audio=False)) == len(keys) + 6


def test_a_key_does_not_end_what_is_not_interruptible(box: Box, call: Call) -> None:
    play(call, prompt())
    call.caller.key("5")
    call.agent.key("6")
    box.advance(20)
    assert ended(call) == []
    assert len(call.agent.hears()) == 6


def test_sounds_wait_for_each_other_but_not_for_what_only_repeats(box: Box, call: Call) -> None:
    ringing = prompts.tone(Tone.RINGING, "PCMU", 8000, 1)
    assert play(call, ringing, "ring", repeat=True) == 0
    rung = []
    for _ in range(350):  # longer than the tone itself
        box.advance(20)
        rung += call.caller.hears()
    assert one_stream(rung) and [p.payload for p in rung] == [
        ringing.payloads[at % len(ringing.payloads)] for at in range(len(rung))
    ]
    first, second = prompt(5), prompt(5)
    play(call, first, "first")
    assert ended(call) == [("ring", False, 20 * len(rung), False)]
    play(call, second, "second")
    with pytest.raises(PlayExistsError):
        play(call, first, "second")
    box.advance(250)
    heard = call.caller.hears()
    assert [packet.payload for packet in heard] == list(first.payloads + second.payloads)
    assert [packet.ts - heard[0].ts & 0xFFFFFFFF for packet in heard] == [160 * at for at in range(10)]
    assert ended(call) == [("first", True, 100, False), ("second", True, 100, False)]


def test_bounds(box: Box, call: Call) -> None:
    for number in range(MAX_PLAYS):
        play(call, prompt(1), str(number), track=number % 2)
    with pytest.raises(TooManyPlaysError):
        play(call, prompt(1), "more")
    with pytest.raises(SessionError):
        play(call, prompt(1), track=9)
    with pytest.raises(SessionError):
        play(call, prompt(1), record_track=0)
    box.recorder.update(Update(call.session, (call.track(1, remote=None),)))


def test_nothing_is_played_to_who_receives_nothing(box: Box) -> None:
    session, _ = box.open_one()
    with pytest.raises(NowhereToPlayError):
        box.recorder.play(Play(session, "p", 0, prompt(1), 0))


# tones


@pytest.mark.parametrize("encoding, table, pt", [("PCMU", ULAW, 0), ("PCMA", ALAW, 8)])
def test_a_tone_is_mixed_into_what_passes(
    box: Box,
    call: Call,
    encoding: str,
    table: np.ndarray,
    pt: int,  # type: ignore[type-arg]
) -> None:
    sound = prompts.tone(Tone.REMINDER, encoding, 8000, 1)
    voices = [os.urandom(160) for _ in range(12)]
    call.agent.say(*voices[:2], pt=pt)
    box.tick()
    box.recorder.play(Play(call.session, "t", 0, sound, pt, record_track=2))
    for payload in voices[2:]:
        call.agent.say(payload, pt=pt)
        box.tick()
    box.advance(30)
    heard = call.caller.hears()
    assert [packet.ssrc for packet in heard] == [200] * 12
    assert [packet.seq for packet in heard] == list(range(12))
    spoken = table[np.frombuffer(b"".join(voices), np.uint8)].astype(int)
    got = table[np.frombuffer(b"".join(packet.payload for packet in heard), np.uint8)].astype(int)
    mixed = spoken.copy()
    beep = samples(Tone.REMINDER, 8000).astype(int)
    mixed[320 : 320 + len(beep)] += beep
    # Half a step of G.711 at full scale, and what saturates.
    wanted = np.clip(mixed, table.min(), table.max())
    assert np.abs(got - wanted).max() <= 512
    assert (got == spoken)[:320].all() and (got == spoken)[320 + len(beep) :].all()
    assert not (got == spoken)[320 : 320 + len(beep)].all()
    assert ended(call) == [("t", True, 120, False)]
    content = box.close(call.session)
    assert [payload for _, _, payload in content.packets(2)] == list(sound.payloads)
    assert [payload for _, _, payload in content.packets(1)] == voices


def test_in_other_codecs_a_tone_takes_the_place_of_what_passes(box: Box, call: Call) -> None:
    sound = prompts.tone(Tone.CONFIRMED, "G722", 8000, 0)
    voices = [os.urandom(160) for _ in range(16)]
    call.agent.say(*voices[:2], pt=9)
    box.tick()
    box.recorder.play(Play(call.session, "t", 0, sound, 9))
    call.agent.say(*voices[2:], pt=9)
    box.advance(10)
    heard = call.caller.hears()
    expected = voices[:2] + list(sound.payloads) + voices[2 + len(sound.payloads) :]
    assert [packet.payload for packet in heard] == expected
    assert [packet.seq for packet in heard] == list(range(16))


def test_a_tone_into_silence_is_sent_by_itself(box: Box, call: Call) -> None:
    sound = prompts.tone(Tone.REFUSED, "PCMU", 8000, 1)
    play(call, sound, "t")
    box.advance(450)
    heard = call.caller.hears()
    assert [packet.payload for packet in heard] == list(sound.payloads)
    assert one_stream(heard)
    assert ended(call) == [("t", True, 400, False)]


@pytest.mark.parametrize(
    "encoding, rate, channels, heard_at",
    [
        ("PCMU", 8000, 1, 8000),
        ("PCMA", 8000, 1, 8000),
        ("L16", 16000, 1, 16000),
        ("G722", 8000, 1, 16000),
        ("OPUS", 48000, 2, 48000),
    ],
)
def test_tones_sound_as_they_should_in_every_codec(
    encoding: str, rate: int, channels: int, heard_at: int
) -> None:
    for which in (Tone.RINGING, Tone.REFUSED, Tone.RECORDING):
        payloads = tone_payloads(which, encoding, rate, channels)
        codec = codec_for(PayloadFormat(number=96, encoding=encoding, clock_rate=rate, channels=channels))
        assert codec is not None
        if hasattr(codec, "decoder"):
            decode = codec.decoder()
            sound = np.concatenate([decode(payload) for payload in payloads])
        else:
            sound = codec.decode(np.frombuffer(b"".join(payloads), np.uint8))  # type: ignore[attr-defined]
        beep = TONES[which][0]
        piece = sound[heard_at // 50 : heard_at * beep.ms // 1000].astype(float)
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
        hertz = np.fft.rfftfreq(len(piece), 1 / heard_at)
        for wanted in beep.hertz:
            near = np.abs(hertz - wanted) <= 10
            others = np.abs(hertz - wanted) > 200
            assert spectrum[near].max() > 5 * spectrum[others].max(), (encoding, which)
    assert tones.tone_payloads(Tone.RINGING, encoding, rate, channels) is tone_payloads(
        Tone.RINGING, encoding, rate, channels
    )


def test_formats_that_no_tone_is_made_in() -> None:
    with pytest.raises(ToneFormatError):
        prompts.tone(Tone.REFUSED, "G729", 8000, 1)
    for wrong in (("../x", 8000, 1), ("PCMU", 1, 1), ("PCMU", 8000, 9), ("", 8000, 1)):
        with pytest.raises(PlayFormatError):
            prompts.tone(Tone.REFUSED, *wrong)


# prompts on disk


def put(root: Path, name: str, data: bytes, form: str = "PCMU-8000-1") -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{form}.packets").write_bytes(data)


def packed(payloads: list[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(payload)) + payload for payload in payloads)


def test_prompts_are_read_once_and_not_after_they_are_gone(tmp_path: Path) -> None:
    shelf, name = PromptShelf(tmp_path), new_id()
    payloads = [bytes([n]) * 160 for n in range(10)]
    put(tmp_path, name, packed(payloads))
    put(tmp_path, name, packed(payloads[:3]), "OPUS-48000-2")
    assert list(shelf.prompt(name, "pcmu", 8000, 0).payloads) == payloads
    assert shelf.prompt(name, "PCMU", 8000, 1).payloads is shelf.prompt(name, "PCMU", 8000, 1).payloads
    opus = shelf.prompt(name, "opus", 48000, 1)
    assert (len(opus.payloads), opus.step, opus.duration_ms) == (3, 960, 60)
    with pytest.raises(PromptNotFoundError) as error:
        shelf.prompt(name, "PCMA", 8000, 1)
    assert error.value.data == {"prompt": name, "format": "PCMA-8000-1"}
    (tmp_path / name / "PCMU-8000-1.packets").unlink()
    with pytest.raises(PromptNotFoundError):
        shelf.prompt(name, "PCMU", 8000, 1)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a/b", "x" * 26 + "/", "\0"])
def test_an_id_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlayFormatError):
        PromptShelf(tmp_path).prompt(name, "PCMU", 8000, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\xa0" + bytes(100),
        struct.pack(">H", 1401) + bytes(1401),
        packed([bytes(2)] * 30001),
    ],
)
def test_files_that_are_no_prompts(tmp_path: Path, data: bytes) -> None:
    name = new_id()
    put(tmp_path, name, data)
    with pytest.raises(PromptBrokenError):
        PromptShelf(tmp_path).prompt(name, "PCMU", 8000, 1)
