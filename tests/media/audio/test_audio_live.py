"""A call as it is heard while it lasts: what was said, where it was said, and nothing that was taken back."""

from __future__ import annotations

import random

import av
import numpy as np

from appliance.media.audio.codecs import ULAW
from appliance.media.audio.live import (
    DELAY_NS,
    EARLY_NS,
    FRAME,
    FRAME_NS,
    HOLD_NS,
    MAX_HELD,
    MIXED,
    RATE,
    Arrived,
    LivePayloads,
    LiveSound,
)
from appliance.model import PayloadFormat, TrackInfo

MS = 1_000_000
START = 1_000_000 * MS
PCMU = PayloadFormat(number=0, encoding="PCMU", clock_rate=8000)
L16 = PayloadFormat(number=96, encoding="L16", clock_rate=16000)
TRACKS = (TrackInfo(track=0, formats=(PCMU, L16)), TrackInfo(track=1, formats=(L16,)))


def pcm(number: int, level: int, *, track: int = 0, late_ms: float = 0, ssrc: int = 7) -> Arrived:
    """20 ms of one level, as linear PCM."""
    payload = np.full(FRAME, level, ">i2").tobytes()
    at_ns = START + number * FRAME_NS + int(late_ms * MS)
    return Arrived(track, number & 0xFFFF, number * FRAME & 0xFFFFFFFF, ssrc, 96, at_ns, payload)


def play(live: LiveSound, packets: list[Arrived], ms: int = 400) -> dict[int, np.ndarray]:
    """Each packet put when it arrives, and what is due taken every 10 ms; samples by track from START on."""
    waiting = sorted(packets, key=lambda one: one.arrival_ns)
    chunks = []
    for now in range(START, START + ms * MS, 10 * MS):
        while waiting and waiting[0].arrival_ns <= now:
            live.put(waiting.pop(0))
        for chunk in live.due(now):
            assert now - chunk.arrival_ns < DELAY_NS + 2 * FRAME_NS
            chunks.append(chunk)
    return {
        number: np.concatenate(
            [
                np.frombuffer(one.data, "<i2")
                for one in chunks
                if one.track == number and one.arrival_ns >= START
            ]
        )
        for number in {one.track for one in chunks}
    }


def sound(**how: bool) -> LiveSound:
    live = LiveSound(START, **{"opus": False, "mixed": False, **how})
    live.describe(TRACKS)
    return live


def test_what_arrives_late_and_out_of_order_is_heard_in_order_and_in_place() -> None:
    rng = random.Random(1)
    packets = [pcm(number, 100 + number, late_ms=rng.uniform(0, 35) if number else 0) for number in range(15)]
    heard = play(sound(), packets)[0]
    assert heard[: 15 * FRAME].tolist() == [100 + number for number in range(15) for _ in range(FRAME)]
    assert not heard[15 * FRAME :].any()


def test_a_packet_that_is_lost_is_silence_and_one_that_comes_twice_is_heard_once() -> None:
    packets = [pcm(number, 100 + number) for number in range(10) if number != 4]
    heard = play(sound(), [*packets, packets[5]])[0].reshape(-1, FRAME)
    assert [int(row[0]) for row in heard[:10]] == [100, 101, 102, 103, 0, 105, 106, 107, 108, 109]


def test_a_source_whose_clock_is_set_or_that_is_another_begins_anew_at_once() -> None:
    packets = [pcm(number, 100) for number in range(5)]
    jumped = [pcm(number, 200)._replace(timestamp=(number * FRAME + 900_000)) for number in range(5, 9)]
    other = [pcm(number, 300, ssrc=9)._replace(timestamp=number * FRAME + 7) for number in range(9, 12)]
    heard = play(sound(), [*packets, *jumped, *other])[0].reshape(-1, FRAME)
    assert [int(row[FRAME // 2]) for row in heard[:12]] == [100] * 5 + [200] * 4 + [300] * 3


def test_the_delay_of_a_source_that_sends_too_much_does_not_grow() -> None:
    live = sound()
    fast = [
        pcm(number, 100)._replace(arrival_ns=START + number * FRAME_NS * 19 // 20) for number in range(200)
    ]
    worst = 0
    for packet in fast:
        live.put(packet)
        for at_ns, _, _, held in live._tracks[0]._held:
            worst = max(worst, at_ns - held.arrival_ns)
        live.due(packet.arrival_ns)
    assert worst <= EARLY_NS


def test_lower_rates_are_brought_up_and_parties_are_mixed() -> None:
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(160 * 20) / 8000)).astype(np.int32)
    order = np.argsort(ULAW, kind="stable")
    codes = order[np.searchsorted(ULAW[order], tone).clip(0, 255)].astype(np.uint8)
    said = [
        Arrived(0, n, n * 160, 1, 0, START + n * FRAME_NS, codes[n * 160 : (n + 1) * 160].tobytes())
        for n in range(20)
    ]
    apart = play(sound(), said, 600)
    spectrum = np.abs(np.fft.rfft(apart[0][FRAME * 2 : FRAME * 17]))
    assert abs(float(np.argmax(spectrum)) * RATE / (FRAME * 15) - 440) < 8
    assert not apart[1].any()
    levels = [pcm(n, 30_000, track=1) for n in range(4)] + [pcm(n, 10_000) for n in range(2)]
    mixed = play(sound(mixed=True), levels)
    assert list(mixed) == [MIXED]
    assert [int(row[0]) for row in mixed[MIXED].reshape(-1, FRAME)[:5]] == [32767, 32767, 30000, 30000, 0]


def test_what_falls_into_a_pause_is_taken_back_before_it_is_heard() -> None:
    for live in (sound(), LivePayloads()):
        for number in range(6):
            live.put(pcm(number, 100 + number))
        now = (
            START + 3 * FRAME_NS + HOLD_NS - 1
        )  # what arrived with packet 3 is known to be paused just in time
        before = live.due(now)
        live.revoke(START + 3 * FRAME_NS)
        rest = live.due(START + 500 * MS)
        heard = {
            int(value)
            for chunk in [*before, *rest]
            for value in np.frombuffer(chunk.data, "<i2" if chunk.payload_type == 0 else ">i2")
            if value
        }
        assert heard == {100, 101, 102}, type(live).__name__
    one = sound()
    one.put(pcm(0, 100))
    one.put(pcm(0, 200, track=1))
    one.revoke(START, track=1)
    assert {chunk.track for chunk in one.due(START + 200 * MS) if any(chunk.data)} == {0}


def test_opus_is_what_a_decoder_takes() -> None:
    live = sound(opus=True, mixed=True)
    for number in range(25):
        wave = (9000 * np.sin(2 * np.pi * 500 * (np.arange(FRAME) + number * FRAME) / RATE)).astype(">i2")
        live.put(pcm(number, 0)._replace(payload=wave.tobytes()))
    chunks = live.due(START + 600 * MS)
    assert [chunk.sequence for chunk in chunks] == list(range(len(chunks)))
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48000, "mono"
    out = np.concatenate(
        [
            frame.to_ndarray()[0].astype(float)
            for chunk in chunks
            for frame in decoder.decode(av.Packet(chunk.data))
        ]
    )
    part = out[48000 // 4 : 48000 // 2]
    assert abs(float(np.argmax(np.abs(np.fft.rfft(part)))) * 48000 / len(part) - 500) < 10


def test_what_is_not_taken_is_bounded_and_counted() -> None:
    live = sound()
    for number in range(MAX_HELD + 7):
        live.put(pcm(number, 1))
    assert live.take_lost() == 7 and not live.take_lost()
    assert len(live.due(START + 10_000 * MS)) < 120
    assert live.take_lost() > 400
    plain = LivePayloads()
    for number in range(MAX_HELD + 3):
        plain.put(pcm(number, 1))
    assert plain.take_lost() == 3
    assert [one.payload_type for one in plain.due(START + FRAME_NS + HOLD_NS)] == [96, 96]


def test_what_is_no_sound_is_silence() -> None:
    live = sound()
    live.put(pcm(0, 1)._replace(payload_type=77))
    live.put(pcm(0, 1)._replace(track=5))
    live.put(pcm(1, 1)._replace(payload=b""))
    live.put(pcm(2, 1)._replace(payload_type=13))
    assert not any(any(chunk.data) for chunk in live.due(START + 300 * MS))
