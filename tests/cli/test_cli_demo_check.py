"""The demonstration's own judgement: it must fail on sound that is not what was said."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.cli import main
from appliance.cli.demonstration import check
from appliance.cli.demonstration.calls import PLANS, Placed
from appliance.cli.exits import Exit
from appliance.demo import speech

Sound = NDArray[np.int16]


def placed(name: str) -> Placed:
    """A call as if it had been placed; in one of them the card is not to be kept."""
    conversation = speech.load(name)
    card = [one for one in conversation.script if "four" in one.text.lower()]
    silenced = tuple((one.begin_s, one.end_s) for one in card) if name == "payment" else ()
    plan = next(plan for plan in PLANS if plan.conversation == name)
    return Placed(plan, conversation, silenced)


def faithful(call: Placed) -> Sound:
    """What a recorder should give back; shape (2, length)."""
    sides = [check.companded(side) for side in (call.conversation.caller, call.conversation.agent)]
    sound = np.stack(sides)
    for begin, end in call.silenced:
        sound[:, round((begin - 0.1) * speech.RATE) : round((end + 0.1) * speech.RATE)] = 0
    return sound


def write(path: Path, sound: Sound, rate: int = speech.RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(sound))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.T.astype("<i2").tobytes())
    return path


@pytest.mark.parametrize("name", ["appointment", "payment"])
def test_what_was_said_passes(tmp_path: Path, name: str) -> None:
    call = placed(name)
    words = check.compare(write(tmp_path / "x.wav", faithful(call)), call)
    assert ("the card is not in it" in words) == (name == "payment")


def flip(call: Placed, sound: Sound) -> Sound:
    line = call.conversation.script[0]
    sound[0 if line.speaker == "caller" else 1, round((line.begin_s + line.end_s) / 2 * speech.RATE)] ^= 64
    return sound


def swap(call: Placed, sound: Sound) -> Sound:
    return sound[::-1]


def cut(call: Placed, sound: Sound) -> Sound:
    return sound[:, : -speech.RATE]


def mono(call: Placed, sound: Sound) -> Sound:
    return sound[:1]


@pytest.mark.parametrize("spoil", [flip, swap, cut, mono])
def test_anything_else_does_not(tmp_path: Path, spoil: Callable[[Placed, Sound], Sound]) -> None:
    call = placed("appointment")
    path = write(tmp_path / "x.wav", spoil(call, faithful(call)))
    with pytest.raises(check.MismatchError):
        check.compare(path, call)


def test_a_tenth_of_a_second_of_what_was_not_to_be_kept_is_found(tmp_path: Path) -> None:
    call = placed("payment")
    sound = faithful(call)
    (card,) = [one for one in call.conversation.script if "four" in one.text.lower()]
    side = 0 if card.speaker == "caller" else 1
    kept = check.companded((call.conversation.caller, call.conversation.agent)[side])
    begin = round(card.begin_s * speech.RATE)
    loud = begin + int(np.argmax(np.abs(kept[begin : round(card.end_s * speech.RATE)].astype(np.int32))))
    piece = slice(loud - speech.RATE // 10, loud + speech.RATE // 10)
    sound[side, piece] = kept[piece]
    with pytest.raises(check.MismatchError, match="not to be kept"):
        check.compare(write(tmp_path / "x.wav", sound), call)


def test_g711_here_is_that_of_the_definition() -> None:
    """Every µ-law code decodes to itself, and its negative to its negative (ITU-T G.711, table 2a)."""
    levels = check.companded(np.arange(-32768, 32768, 7, dtype=np.int16))
    assert np.array_equal(check.companded(levels), levels)
    assert levels.min() == -32124 and levels.max() == 32124


def test_a_directory_with_something_in_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("")
    assert main.run(["demo", "--data", str(tmp_path)]) == Exit.USAGE
    assert "DATA_NOT_EMPTY" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
