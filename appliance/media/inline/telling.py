"""What capture has been told of a call: its tracks, marks and messages; and what it is told again, where it did not hear
or refused it.

One thing that is refused holds up nothing else: a track that wants a port is asked for by itself, and a change that is
refused is asked for again piece by piece.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol, TypeVar

from appliance.media.inline.media import Change, Close, Command, Evidence, Failed, Outcome, TrackPlan
from appliance.model import Mark

MAX_UNSAID = 64  # marks, and messages, that wait for capture
AGAIN_S = 1.0  # until capture is told again what it may not have heard
REFUSED_S = 5.0  # the same where it has said no: a port may be free by then
Then = Callable[[Outcome], None]
_Item = TypeVar("_Item", bound=Mark | Evidence)


class Stage(Protocol):
    """What telling needs of the call; see `Ground`."""

    commands: deque[tuple[Command, Then]]
    notes: list[str]
    over: bool

    def ask(self, command: Command, then: Then | None = None) -> None: ...

    def placed(self, outcome: Outcome) -> None: ...

    def timer(self, name: str, seconds: float) -> None: ...


class Telling:
    """See the module."""

    def __init__(self, ground: Stage) -> None:
        self.ground = ground
        self._open: set[int] = set()  # tracks that capture has
        self._told: dict[int, TrackPlan] = {}  # without those of which it is not known what capture has heard
        self._marks: tuple[Mark, ...] = ()
        self._evidence: tuple[Evidence, ...] = ()

    def opened(self, plans: Iterable[TrackPlan]) -> None:
        """Capture has, or is asked for, a session with these tracks and no others."""
        self._told = {plan.number: plan for plan in plans}
        self._open = set(self._told)

    def has(self, track: int) -> bool:
        """Whether capture has the track, or is asked for it."""
        return track in self._open or track in self._told

    def take_unsaid(
        self, marks: Iterable[Mark], evidence: Iterable[Evidence]
    ) -> tuple[tuple[Mark, ...], tuple[Evidence, ...]]:
        """These, behind those that capture has yet to hear; nothing waits any more."""
        taken = (*self._marks, *marks), (*self._evidence, *evidence)
        self._marks, self._evidence = (), ()
        return taken

    def say(
        self,
        plans: Iterable[TrackPlan],
        marks: tuple[Mark, ...],
        evidence: tuple[Evidence, ...],
        then: Then | None,
    ) -> None:
        """Tells capture what of this it has not been told. `then` gets the outcome for the new track, where there is
        one."""
        fresh = [plan for plan in plans if self._told.get(plan.number) != plan]
        self._told.update({plan.number: plan for plan in fresh})
        new = [plan for plan in fresh if plan.number not in self._open]
        known = tuple(plan for plan in fresh if plan.number in self._open)
        # The new ones first: others may be to hear them.
        for plan in new:
            change = Change((plan,))
            self.ground.ask(change, self._outcome(change, then if plan is new[-1] else None))
        if known or marks or evidence or (then is not None and not new):
            change = Change(known, marks, evidence)
            self.ground.ask(change, self._outcome(change, None if new else then))

    def _outcome(self, change: Change, then: Then | None = None) -> Then:
        def outcome(answer: Outcome) -> None:
            if isinstance(answer, Failed):
                self._failed(change, answer)
            else:
                self._open.update(plan.number for plan in change.tracks)
            (then or self.ground.placed)(answer)

        return outcome

    def _failed(self, change: Change, failed: Failed) -> None:
        ground, pieces = self.ground, _pieces(change)
        if not failed.away and len(pieces) > 1:
            # Before whatever was asked since: a newer word on a track, or the end, comes after it.
            ground.commands.extendleft((piece, self._outcome(piece)) for piece in reversed(pieces))
            return
        for plan in change.tracks:
            if self._told.get(plan.number) is plan:  # nothing newer was said since
                del self._told[plan.number]
        self._marks = self._kept(self._marks, change.marks)
        self._evidence = self._kept(self._evidence, change.evidence)
        if ground.over:
            self._say_at_the_end()
        else:
            ground.timer("again", AGAIN_S if failed.away else REFUSED_S)

    def _say_at_the_end(self) -> None:
        """The close that is asked for already takes along what a change before it could not say."""
        for place, (command, then) in enumerate(self.ground.commands):
            if isinstance(command, Close):
                marks, evidence = self.take_unsaid(command.marks, command.evidence)
                self.ground.commands[place] = replace(command, marks=marks, evidence=evidence), then

    def _kept(self, waiting: tuple[_Item, ...], more: tuple[_Item, ...]) -> tuple[_Item, ...]:
        """The newest of them, in the order in which they came about."""
        kept = sorted((*waiting, *more), key=lambda item: item.at_ns)
        if len(kept) > MAX_UNSAID:
            self.ground.notes.append("media: more waits for capture than is kept, the oldest is lost")
        return tuple(kept[-MAX_UNSAID:])


def _pieces(change: Change) -> list[Change]:
    """Changes that may be refused one without the other."""
    pieces = [Change((plan,)) for plan in change.tracks]
    if change.marks:
        pieces.append(Change((), change.marks))
    if change.evidence:
        pieces.append(Change((), (), change.evidence))
    return pieces
