"""One-way, silent and clipped recordings are told from good ones, whatever is paused, held, or sent."""

from __future__ import annotations

import io

import numpy as np
import pytest
from audio_calls import MS, PCMU, SECOND, START, Call, Packet, noise, ulaw
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.media.audio import quality
from appliance.media.audio.quality import Quality
from appliance.model import MarkKind, PayloadFormat, Role
from appliance.storage.sealed import EndBlock, InfoBlock, MarkBlock, PacketBlock, SealedReader

OPUS = PayloadFormat(number=96, encoding="OPUS", clock_rate=48000, channels=2)
G722 = PayloadFormat(number=9, encoding="G722", clock_rate=8000)
CN = PayloadFormat(number=13, encoding="CN", clock_rate=8000)


def judged(call: Call) -> tuple[str, ...]:
    data, key = call.seal()
    found, marks, end = Quality(), [], START
    for block in SealedReader(io.BytesIO(data), key):
        match block:
            case InfoBlock(info):
                found.told(info)
            case MarkBlock(mark):
                marks.append(mark)
            case PacketBlock():
                found.heard(block)
            case EndBlock():
                end = block.ended_ns
    return found.flags(marks, START, end)


def sine(dbfs: float, seconds: float = 3.0, offset: int = 0) -> np.ndarray:
    """A tone of this power as PCMU, on top of a constant."""
    at = np.arange(int(8000 * seconds))
    peak = 32768 * 10 ** (dbfs / 20) * np.sqrt(2)
    return ulaw(np.rint(offset + peak * np.sin(2 * np.pi * 440 * at / 8000)).clip(-32768, 32767))


def call(caller: np.ndarray | None, agent: np.ndarray | None, **more: object) -> Call:
    made = Call(duration_ns=3 * SECOND, **more)  # type: ignore[arg-type]
    for track, sound in enumerate((caller, agent)):
        if sound is not None:
            made.speak(track, sound, ssrc=7 + track)
    return made


def clipping(share: float) -> np.ndarray:
    sound = noise(24_000)[0].copy()
    sound[:: int(1 / share)] = 0x80  # the outermost code
    return sound


GOOD = noise(24_000)[0]
FAINT = noise(24_000, peak=60)[0]


@pytest.mark.parametrize(
    ("caller", "agent", "flags"),
    [
        (GOOD, GOOD, ()),
        (GOOD, None, ("one-way",)),
        (None, GOOD, ("one-way",)),
        (None, None, ()),
        (GOOD, FAINT, ("silent-agent",)),
        (FAINT, FAINT, ("silent-agent", "silent-caller")),
        (FAINT, None, ("one-way", "silent-caller")),
        (clipping(0.01), GOOD, ("clipped-caller",)),
        (GOOD, clipping(0.01), ("clipped-agent",)),
        (GOOD, clipping(0.004), ()),
    ],
)
def test_what_is_flagged(caller: object, agent: object, flags: tuple[str, ...]) -> None:
    assert judged(call(caller, agent)) == flags  # type: ignore[arg-type]


def test_the_threshold_is_one_of_power_and_a_constant_is_silence() -> None:
    assert judged(call(sine(-49.0), GOOD)) == ()
    assert judged(call(sine(-51.0), GOOD)) == ("silent-caller",)
    assert judged(call(sine(-52.0, offset=500), GOOD)) == ("silent-caller",)


def test_one_loud_packet_anywhere_is_heard() -> None:
    sound = FAINT.copy()
    sound[-160:] = GOOD[:160]
    assert judged(call(sound, GOOD)) == ()


def test_what_was_paused_or_held_counts_as_nothing() -> None:
    made = call(GOOD[:8000], None)
    assert judged(made) == ("one-way",)
    for begin, end in ((MarkKind.PAUSED, MarkKind.RESUMED), (MarkKind.HELD, MarkKind.UNHELD)):
        made = call(GOOD[:8000], None).mark(begin, SECOND).mark(end, 3 * SECOND)
        assert judged(made) == (), "one second was kept"
    made = call(GOOD[:8000], None).mark(MarkKind.PAUSED, 1 * SECOND).mark(MarkKind.RESUMED, 1900 * MS)
    assert judged(made) == ("one-way",)
    # Two spans that cover each other are not counted twice.
    both = call(GOOD[:8000], None).mark(MarkKind.PAUSED, 0).mark(MarkKind.RESUMED, 900 * MS)
    both.mark(MarkKind.HELD, 100 * MS).mark(MarkKind.UNHELD, 950 * MS)
    assert judged(both) == ("one-way",)


def test_short_calls_are_not_judged() -> None:
    made = call(GOOD[:15_000], None)
    made.duration_ns = 1999 * MS
    assert judged(made) == ()
    made.duration_ns = 2000 * MS
    assert judged(made) == ("one-way",)


def test_sides_that_have_no_name() -> None:
    made = call(GOOD, FAINT, roles=(Role.UNKNOWN, Role.UNKNOWN))
    assert judged(made) == ("silent-unknown",)
    assert judged(call(GOOD, None, roles=(Role.UNKNOWN, Role.UNKNOWN))) == ("one-way",)
    assert judged(call(GOOD, None, roles=(Role.UNKNOWN,))) == (), "a recorder that gets one mix has no sides"


def test_the_box_is_no_side_and_a_phone_that_did_not_answer_neither() -> None:
    assert judged(call(GOOD, None, roles=(Role.CALLER, Role.BOX))) == ()
    made = call(GOOD, None)
    data, key = made.seal()
    found = Quality()
    for block in SealedReader(io.BytesIO(data), key):
        if isinstance(block, InfoBlock):
            tracks = (block.info.tracks[0], block.info.tracks[1].model_copy(update={"formats": ()}))
            found.told(block.info.model_copy(update={"tracks": tracks}))
        elif isinstance(block, PacketBlock):
            found.heard(block)
    assert found.flags([], START, START + 3 * SECOND) == ()


def test_two_tracks_of_one_side_are_one_side() -> None:
    made = Call(duration_ns=3 * SECOND, roles=(Role.CALLER, Role.AGENT, Role.AGENT))
    made.speak(0, GOOD).speak(2, GOOD, ssrc=9)
    assert judged(made) == (), "the first agent passed the call on before it said anything"
    made.speak(1, FAINT, ssrc=8)
    assert judged(made) == ()


def test_keys_are_no_sound_and_comfort_noise_is_silence() -> None:
    made = call(GOOD, None, formats=(PCMU, CN))
    made.packets.append(Packet(1, 1, 0, 0, bytes(4), 8, 101, event=True))
    assert judged(made) == ("one-way",)
    made.packets.append(Packet(1, 2, 160, SECOND, b"\x40", 8, 13))
    assert judged(made) == ("silent-agent",)


def test_what_cannot_be_decoded_is_not_called_silent() -> None:
    made = call(GOOD, None)
    for number in range(100):
        made.packets.append(Packet(1, number, 160 * number, 20 * MS * number, b"abc", 8, 77))
    assert judged(made) == ()


def packets(track: int, payloads: list[bytes], kind: int, step: int, ssrc: int = 9) -> list[Packet]:
    return [
        Packet(track, n & 0xFFFF, n * step & 0xFFFFFFFF, n * 20 * MS, one, ssrc, kind)
        for n, one in enumerate(payloads)
    ]


def g722(sound: np.ndarray) -> list[bytes]:
    import av

    context = av.CodecContext.create("g722", "w")
    context.sample_rate, context.layout, context.format = 16000, "mono", "s16"
    out = []
    for start in range(0, len(sound) - 319, 320):
        frame = av.AudioFrame.from_ndarray(sound[start : start + 320].reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = 16000, start
        out += [bytes(packet) for packet in context.encode(frame)]
    return out


def test_a_codec_with_a_memory_is_decoded() -> None:
    at = np.arange(3 * 16_000)
    for peak, flags in ((9000, ()), (40, ("silent-agent",)), (90_000, ("clipped-agent",))):
        sound = (peak * np.sin(2 * np.pi * 300 * at / 16_000)).clip(-32768, 32767).astype(np.int16)
        made = call(GOOD, None, formats=(PCMU, G722))
        made.packets += packets(1, g722(sound), 9, 160)
        assert judged(made) == flags, peak


def test_of_a_long_call_little_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    class Counting(quality.Stateful):
        rate = 48000

        def samples(self, payload, offset, size):  # type: ignore[no-untyped-def]
            raise AssertionError

        def decoder(self) -> quality.Decode:
            def decode(payload: bytes) -> np.ndarray:
                counted.append(1)
                return np.zeros(960, np.int16)

            return decode

    monkeypatch.setattr(quality, "codec_for", lambda stated: Counting())
    made = Call(duration_ns=400 * SECOND, formats=(OPUS,), roles=(Role.CALLER,))
    made.packets = packets(0, [b"x"] * (400 * 50), 96, 960)
    assert judged(made) == ("silent-caller",)
    assert quality.DENSE_S * 50 < len(counted) < 5000
    counted.clear()
    monkeypatch.setattr(quality, "MAX_DECODED", 777)
    assert judged(made) == ("silent-caller",)
    assert len(counted) == 777


def test_tracks_are_bounded() -> None:
    made = Call(duration_ns=3 * SECOND, roles=(Role.CALLER,) * (quality.MAX_TRACKS + 5))
    made.speak(quality.MAX_TRACKS + 2, GOOD)
    assert judged(made) == ()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["PCMU", "PCMA", "L16", "G722", "OPUS", "G729", "GSM", "G723", "ILBC", "AMR", "AMR-WB", "CN", "X"]
    ),
    st.lists(st.tuples(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 10**10)), max_size=40),
    st.integers(1, 3),
)
def test_any_payloads_end_nothing(name: str, some: list[tuple[bytes, int, int]], channels: int) -> None:
    stated = PayloadFormat(number=96, encoding=name, clock_rate=8000, channels=channels)
    made = Call(duration_ns=3 * SECOND, formats=(stated,), roles=(Role.CALLER, Role.AGENT))
    made.packets = [
        Packet(n % 2, n, n * 160, at_ns, payload, ssrc, 96) for n, (payload, ssrc, at_ns) in enumerate(some)
    ]
    assert set(judged(made)) <= {
        "one-way",
        *(f"{what}-{who}" for what in ("silent", "clipped") for who in ("caller", "agent")),
    }
