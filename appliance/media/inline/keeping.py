"""Pause, resume and end of a recording while the call goes on (terms 3.3), by keypad or from outside; and its tones.

A pause holds from the moment it was asked for: nothing is kept, the parties go on hearing each other. An end is final
for the call. Who has no right is told so by a tone, and the timeline says that it was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.media.inline.ground import Ground, Participant
from appliance.media.inline.media import EndRecording, Failed, Outcome, Pause, Resume, Tone
from appliance.media.inline.plan import codes_of, rights_of
from appliance.media.rtp import keypad as keypads
from appliance.media.rtp.keypad import Keypad
from appliance.model import Mark, MarkKind
from appliance.model.routing import Rights

PAUSE, RESUME, END = "pause", "resume", "end"
AUTOMATIC = "automatic"
FIRST_TONE_S = 3.0  # after the parties are joined
_MAX_HELD = 8  # INFO bodies that wait for a code to become one
Told = Callable[[Failed | None], None]


@dataclass(frozen=True, slots=True)
class Act:
    """Something that was asked by keypad, for the audit: `refused` says why not, "" where it was done."""

    action: str
    actor: str
    at_ns: int
    refused: str = ""


def nobody_barred(number: str) -> bool:
    """Every agent may do what the line says."""
    return False


class Keeping:
    """See the module. `passed` gets keys by INFO that are no code after all: participant, content type, body."""

    def __init__(self, ground: Ground, passed: Callable[[Participant, str, bytes], None]) -> None:
        self.ground = ground
        self.acts: list[Act] = []
        self._passed = passed
        self.barred: Callable[[str], bool] = nobody_barred
        """Whether the agent of a number may not pause or end for now, whatever the line says: asked at each key code."""
        self._keypads: dict[int, Keypad] = {}
        self._held: dict[int, list[tuple[str, bytes]]] = {}

    def begin(self) -> None:
        """The parties are joined."""
        if self.ground.plan.tone_s and self.ground.recording:
            self.ground.timer("tone", FIRST_TONE_S)

    def taken_up(self) -> None:
        """The call goes on after a restart: its timers begin anew."""
        self.begin()
        if self.ground.paused:
            self._remind()

    # -- asked -------------------------------------------------------------------------------------------------------

    def act(self, action: str, actor: str, reason: str = "", told: Told | None = None) -> None:
        """Does it; `told` learns the outcome. Doing what is done already is success."""
        done = told or (lambda failed: None)
        ground = self.ground
        if ground.stopped and action == END:
            done(None)
        elif not ground.recording:
            done(Failed("not-recorded"))
        elif action == PAUSE:
            self._pause(actor, reason, done)
        elif action == RESUME:
            self._resume(actor, reason, done)
        else:
            self._end(actor, reason, done)

    def _pause(self, actor: str, reason: str, done: Told) -> None:
        ground = self.ground
        if ground.paused:
            done(None)
            return
        ground.paused, ground.paused_by = True, actor
        ground.changed = True
        mark = Mark(kind=MarkKind.PAUSED, at_ns=ground.clock.wall_ns(), actor=actor, reason=reason)

        def outcome(answer: Outcome) -> None:
            if isinstance(answer, Failed) and not answer.away:
                ground.paused, ground.paused_by = False, ""
                ground.changed = True
                self._quiet()
            # Capture that is away keeps nothing, and a new part of the recording begins paused.
            done(answer if isinstance(answer, Failed) else None)

        ground.ask(Pause(mark), outcome)
        self._remind()

    def _remind(self) -> None:
        ground, line = self.ground, self.ground.line
        if line.auto_resume_s:
            ground.timer("resume", line.auto_resume_s)
        if line.reminder_s:
            ground.timer("reminder", line.reminder_s)

    def _resume(self, actor: str, reason: str, done: Told) -> None:
        ground = self.ground
        if not ground.paused:
            done(None)
            return
        by, ground.paused, ground.paused_by = ground.paused_by, False, ""
        ground.changed = True
        mark = Mark(kind=MarkKind.RESUMED, at_ns=ground.clock.wall_ns(), actor=actor, reason=reason)

        def outcome(answer: Outcome) -> None:
            if isinstance(answer, Failed):
                ground.paused, ground.paused_by = True, by
                ground.changed = True
                if actor == AUTOMATIC:
                    ground.timer("resume", 5.0)
                done(answer)
                return
            self._quiet()
            done(None)

        ground.ask(Resume(mark), outcome)

    def _end(self, actor: str, reason: str, done: Told) -> None:
        ground = self.ground
        ground.sync()
        ground.stopped, ground.stopped_by = True, actor
        ground.paused = False
        ground.changed = True
        ground.why_not = "stopped"
        self._quiet()
        ground.cancel_timer("tone")
        mark = Mark(kind=MarkKind.STOPPED, at_ns=ground.clock.wall_ns(), actor=actor, reason=reason)

        def outcome(answer: Outcome) -> None:
            done(answer if isinstance(answer, Failed) else None)

        ground.ask(EndRecording(mark), outcome)
        ground.sync()  # no keys are listened for any more

    def compare(self, *, paused: bool, recording: bool) -> None:
        """What capture says of the call, while nothing is under way. A command, or the word of its being done, may have
        been lost: what was not to be kept must not be, so it is asked again; what capture has stopped stays stopped."""
        ground = self.ground
        if ground.over or ground.relay_only or ground.bypass or not ground.open:
            return
        at_ns = ground.clock.wall_ns()
        if ground.stopped:
            if recording:
                ground.ask(EndRecording(Mark(kind=MarkKind.STOPPED, at_ns=at_ns, actor=ground.stopped_by)))
        elif not recording:
            ground.stopped, ground.paused, ground.why_not = True, False, "stopped"
            ground.changed = True
            self._quiet()
            ground.sync()
        elif ground.paused and not paused:
            ground.ask(Pause(Mark(kind=MarkKind.PAUSED, at_ns=at_ns, actor=ground.paused_by)))
        elif paused and not ground.paused:
            ground.paused = ground.changed = True
            self._remind()

    def _quiet(self) -> None:
        for name in ("resume", "reminder"):
            self.ground.cancel_timer(name)

    # -- keys --------------------------------------------------------------------------------------------------------

    def code(self, participant: Participant, code: str) -> None:
        """The agent has keyed in one of the line's codes."""
        ground, keys = self.ground, self.ground.line.keys
        action = {keys.end: END, keys.resume: RESUME, keys.pause: PAUSE}.get(code, "")
        if not action or not participant.agent:
            return
        actor = f"agent:{participant.number}" if participant.number else "agent"
        may = rights_of(ground.line, participant.number)
        allowed = may is Rights.END or (may is Rights.PAUSE and action != END)
        if not allowed:
            self._refused(participant, action, actor, "no-right")
            return
        if action != RESUME and self.barred(participant.number):
            self._refused(participant, action, actor, "notice-not-acknowledged")
            return

        def told(failed: Failed | None) -> None:
            if failed is not None:
                self._refused(participant, action, actor, failed.reason)
                return
            self.acts.append(Act(action, actor, ground.clock.wall_ns()))
            if not ground.over:
                ground.sounds.play(participant, Tone.CONFIRMED)

        self.act(action, actor, "keypad", told)

    def _refused(self, participant: Participant, action: str, actor: str, why: str) -> None:
        ground = self.ground
        at_ns = ground.clock.wall_ns()
        self.acts.append(Act(action, actor, at_ns, why))
        ground.notes.append(f"{action} by keypad refused: {why}")
        if ground.over:
            return
        mark = Mark(
            kind=MarkKind.NOTE,
            at_ns=at_ns,
            actor=actor,
            track=participant.track,
            reason=f"{action}-refused",
            data={"why": why},
        )
        ground.sync([mark])
        ground.sounds.play(participant, Tone.REFUSED)

    def info_key(self, participant: Participant, key: str, content_type: str, body: bytes) -> bool:
        """A key by INFO; whether it is ours, or may become so."""
        ground = self.ground
        codes = codes_of(ground.line) if ground.recording and participant.agent else ()
        if not codes:
            return False
        keypad = self._keypads.get(participant.track)
        if keypad is None or keypad.codes != codes:
            keypad = self._keypads[participant.track] = Keypad(codes)
        held = self._held.setdefault(participant.track, [])
        held.append((content_type, body))
        self._decided(participant, keypad.press(key, ground.clock.wall_ns()))
        if keypad.pending:
            ground.timer(f"keys {participant.track}", 3.0)
        return True

    def _decided(self, participant: Participant, outcomes: list[keypads.Outcome]) -> None:
        held = self._held.get(participant.track, [])
        for outcome in outcomes:
            bodies, held[: len(outcome.keys)] = held[: len(outcome.keys)], []
            if outcome.code:
                self.code(participant, outcome.keys)
            else:
                for content_type, body in bodies:
                    self._passed(participant, content_type, body)
        del held[:-_MAX_HELD]

    # -- time --------------------------------------------------------------------------------------------------------

    def timer(self, name: str) -> bool:
        """Whether it was one of these."""
        ground = self.ground
        kind, _, number = name.partition(" ")
        if kind == "keys":
            participant = ground.participants.get(int(number))
            keypad = self._keypads.get(int(number))
            if participant is not None and keypad is not None:
                self._decided(participant, keypad.flush())
        elif name == "resume":
            self.act(RESUME, AUTOMATIC, f"after {ground.line.auto_resume_s} s")
        elif name == "reminder":
            if ground.paused and ground.agent is not None:
                ground.sounds.play(ground.agent, Tone.REMINDER)
                ground.timer("reminder", ground.line.reminder_s)
        elif name == "tone":
            if ground.recording:
                if not ground.paused:
                    for one in ground.present:
                        if one.settled and one.answered:
                            ground.sounds.play(one, Tone.RECORDING)
                ground.timer("tone", ground.plan.tone_s)
        else:
            return False
        return True
