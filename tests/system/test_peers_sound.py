"""The measure itself: what is there is found, what is not there is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sound
from speech import speech

RNG = np.random.default_rng(5)


def noise(seconds: float, rms: float) -> np.ndarray:
    return RNG.normal(0, rms, round(seconds * sound.RATE))


def test_a_prompt_in_noise_is_found_where_it_is() -> None:
    prompt = speech("payment-agent", 2.0, 5.0).astype(float)
    loud = math.sqrt(float(np.mean(prompt**2)))
    heard = noise(20, loud / 2)
    heard[round(7.25 * sound.RATE) :][: len(prompt)] -= 0.5 * prompt  # quieter, and upside down
    offset, fit = sound.find(prompt, heard)
    assert offset == pytest.approx(7.25, abs=0.001)
    assert fit > sound.HEARD
    assert sound.said(prompt, heard)


@pytest.mark.parametrize("rms", [0.0, 1.0, 300.0])
def test_an_absent_prompt_is_not_found(rms: float) -> None:
    prompt = speech("payment-agent", 2.0, 5.0)
    other = speech("prescription-caller", 0.0, 15.0) + noise(15, rms)
    assert sound.find(prompt, other)[1] < sound.UNHEARD
    assert sound.find(prompt, noise(15, rms))[1] < sound.UNHEARD
    assert not sound.said(prompt, other)


def test_half_a_prompt_is_neither() -> None:
    prompt = speech("appointment-agent", 0.0, 5.0)
    heard = np.concatenate([np.zeros(8000), prompt[: len(prompt) // 3], noise(6, 30)])
    with pytest.raises(AssertionError, match="neither"):
        sound.said(prompt, heard)


def test_bad_input() -> None:
    assert sound.find(speech("payment-agent", 0, 4), np.zeros(100)) == (0.0, 0.0)
    with pytest.raises(ValueError, match="silent"):
        sound.find(np.zeros(8000), np.zeros(16000))


def test_the_level_is_of_the_stretch_alone() -> None:
    tone = np.concatenate([np.zeros(8000), 32768 * np.sin(np.arange(8000) * 0.5)])
    assert sound.level(tone, 0, 1) == -math.inf
    assert sound.level(tone, 1, 2) == pytest.approx(-3.01, abs=0.05)
    assert sound.level(tone, 5, 6) == -math.inf
