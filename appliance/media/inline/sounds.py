"""What the box says to the participants of an inline call: prompts and tones, and the word of their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from appliance.media.inline.media import Command, Done, Failed, Outcome, Play, PlayEnded, StopPlaying, Tone
from appliance.media.inline.negotiation import Side

LATE_S = 3.0  # after a sound ought to have ended: its end is not waited for any longer
Ended = Callable[[PlayEnded], None]


class Hearer(Protocol):
    """A participant, as far as it hears something."""

    track: int
    side: Side
    settled: bool


class Clock(Protocol):
    """Two clocks: seconds that never go back, for timers; nanoseconds since the Unix epoch, for the timeline."""

    def now(self) -> float: ...

    def wall_ns(self) -> int: ...


class Stage(Protocol):
    """What sounds need of the call; see `Ground`."""

    clock: Clock
    open: bool
    bypass: bool
    closing: bool
    over: bool
    voice: int
    notes: list[str]

    @property
    def recording(self) -> bool: ...

    def ask(self, command: Command, then: Callable[[Outcome], None] | None = None) -> None: ...

    def timer(self, name: str, seconds: float) -> None: ...

    def cancel_timer(self, name: str) -> None: ...


class Sounds:
    """See the module."""

    def __init__(self, ground: Stage) -> None:
        self.ground = ground
        self._plays: dict[str, Ended] = {}
        self._made = 0

    def play(
        self,
        participant: Hearer,
        sound: str | Tone,
        ended: Ended | None = None,
        *,
        repeat: bool = False,
        record: bool = False,
        interruptible: bool = False,
    ) -> str:
        """Plays to one participant; its play id. `ended` comes once, also where it could not be played at all."""
        ground = self.ground
        self._made += 1
        play_id = f"{self._made}"
        done = ended or (lambda outcome: None)
        codec = participant.side.speech
        far = participant.settled and participant.side.direction.receives
        if not ground.open or ground.bypass or codec is None or not far:
            done(PlayEnded(play_id, False, 0, False, ground.clock.wall_ns()))
            return play_id
        self._plays[play_id] = done
        command = Play(
            play_id,
            participant.track,
            sound,
            codec,
            repeat,
            ground.voice if record and ground.recording else -1,
            interruptible,
        )

        def begun(outcome: Outcome) -> None:
            if isinstance(outcome, Failed):
                ground.notes.append(f"not played: {outcome.reason}")
                self.ended(PlayEnded(play_id, False, 0, False, ground.clock.wall_ns()))
            elif isinstance(outcome, Done) and not repeat and outcome.duration_ms and play_id in self._plays:
                # Its end is told; where that word is lost the call goes on all the same.
                ground.timer(f"play {play_id}", outcome.duration_ms / 1000 + LATE_S)

        ground.ask(command, begun)
        return play_id

    def stop(self, play_id: str) -> None:
        """Ends it, unless it has ended."""
        ground = self.ground
        if self._plays.pop(play_id, None) is not None:
            ground.cancel_timer(f"play {play_id}")
            if not ground.closing:
                ground.ask(StopPlaying(play_id))

    def ended(self, ended: PlayEnded) -> None:
        """Something has been played."""
        done = self._plays.pop(ended.play_id, None)
        self.ground.cancel_timer(f"play {ended.play_id}")
        if done is not None and not self.ground.over:
            done(ended)

    def forget(self) -> None:
        """The call is over: the end of nothing is waited for."""
        self._plays.clear()
