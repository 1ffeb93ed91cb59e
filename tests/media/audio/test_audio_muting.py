"""What is muted is digital silence, sample by sample; all else is as it was."""

from __future__ import annotations

import numpy as np
import pytest
from audio_calls import PCMU, SECOND, Call, noise

from appliance.media.audio.mix import Mixer
from appliance.media.audio.muting import Mute
from appliance.media.audio.resample import CONTEXT
from appliance.model import InvalidError, PayloadFormat

L16 = PayloadFormat(number=96, encoding="L16", clock_rate=16000)


def call(*, wide: bool = False):
    """Two voices that are nowhere quiet, of two seconds; `wide`: the agent's has 16 kHz, so the caller's is resampled."""
    made = Call(formats=(PCMU, L16) if wide else (PCMU,))
    made.speak(0, noise(16_000, 1)[0])
    made.speak(1, noise(16_000, 2)[0])
    if wide:
        loud = np.full(640, 0x1234, ">i2").tobytes()
        made.speak(
            1, np.frombuffer(loud, np.uint8), size=640, payload_type=96, sequence=9000, timestamp=99, at_ns=0
        )
    return made.load()


def samples(recording, *mutes: Mute, layout: str = "sides", size: int = 0) -> np.ndarray:
    return np.concatenate(list(Mixer(recording, layout=layout, mutes=mutes).pieces(size=size)))


def test_a_muted_party_is_zeros_and_the_other_is_untouched():
    recording = call()
    plain = samples(recording)
    assert (plain != 0).all(), "what is quiet by itself proves nothing"
    muted = samples(recording, Mute(frozenset({1})))
    assert not muted[:, 1].any() and np.array_equal(muted[:, 0], plain[:, 0])
    mixed = samples(recording, Mute(frozenset({1})), layout="mono")
    assert np.array_equal(mixed[:, 0], plain[:, 0]), "nothing of it is in the mix"
    assert not samples(recording, Mute()).any()


@pytest.mark.parametrize("size", [0, 777])
def test_a_stretch_is_zeros_exactly_in_it_and_the_rest_is_identical(size):
    recording = call()
    plain = samples(recording, size=size)
    for start_ns, end_ns, low, high in (
        (SECOND // 2, SECOND, 4000, 8000),
        (1, 2, 0, 1),  # a sample that lies in it in part is in it
        (SECOND + 124_999, SECOND + 125_001, 8000, 8002),
        (SECOND, None, 8000, 16_000),
        (0, 90 * SECOND, 0, 16_000),
    ):
        for mute, columns in (
            (Mute(None, start_ns, end_ns), (0, 1)),
            (Mute(frozenset({0}), start_ns, end_ns), (0,)),
        ):
            expected = plain.copy()
            for column in columns:
                expected[low:high, column] = 0
            assert np.array_equal(samples(recording, mute, size=size), expected), (start_ns, end_ns, columns)


def test_no_filter_carries_sound_into_a_stretch_or_out_of_it():
    recording = call(wide=True)
    mixer = Mixer(recording)
    assert mixer.rate == 16_000
    plain = samples(recording)
    mute = Mute(frozenset({0}), SECOND // 2, SECOND)
    found = samples(recording, mute)
    assert not found[8000:16_000, 0].any()
    assert np.array_equal(found[:, 1], plain[:, 1])
    away = 2 * CONTEXT  # where the filter would have looked into the stretch: without what was there
    assert np.array_equal(found[: 8000 - away, 0], plain[: 8000 - away, 0])
    assert np.array_equal(found[16_000 + away :, 0], plain[16_000 + away :, 0])
    alone = Call(formats=(PCMU, L16))
    codes = noise(16_000, 1)[0]
    quiet = codes.copy()
    quiet[:4000] = quiet[8000:] = 0xFF  # nothing but what is muted
    alone.speak(0, quiet)
    alone.speak(1, np.frombuffer(np.full(640, 0x1234, ">i2").tobytes(), np.uint8), size=640, payload_type=96)
    assert samples(alone.load())[:, 0].any()
    assert not samples(alone.load(), mute)[:, 0].any(), "not even its ringing is left"


def test_a_stretch_ends_after_it_begins():
    for start_ns, end_ns in ((-1, None), (5, 5), (7, 3)):
        with pytest.raises(InvalidError):
            Mute(None, start_ns, end_ns)
