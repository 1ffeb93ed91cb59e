"""The journal of retention runs: what was planned, which steps are begun and done, what each run came to.

A run is written down with the items it destroys before the first of them is touched; so after a crash it is carried to its
end as it was planned, and nothing else is done under its name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from appliance.storage.retention.brake import Forecast
from appliance.storage.retention.items import Evacuation, PlanItem, pieces
from appliance.storage.retention.run import RunRecord
from appliance.storage.vault.errors import JournalCorruptError
from appliance.storage.vault.linefile import LineFile

MAX_KEPT: Final = 1000  # records in memory
MAX_IDS: Final = 10_000  # in a line
_MAX_LINE: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Begun:
    """A run begins. Its items follow, each in a line of its own."""

    run_id: str
    digest: str
    clock_ns: int
    items: int
    confirmed_by: str = ""
    kind: Literal["begun"] = "begun"


@dataclass(frozen=True, slots=True)
class Planned:
    """One item of the run that has begun; what the lines of parts before it name belongs to it."""

    run_id: str
    item: PlanItem
    kind: Literal["planned"] = "planned"


@dataclass(frozen=True, slots=True)
class Part:
    """Of the next item: some of what it names, where that is too much for one line."""

    run_id: str
    recording_ids: tuple[str, ...] = ()
    evacuate: tuple[Evacuation, ...] = ()
    snapshots: tuple[str, ...] = ()
    kind: Literal["part"] = "part"


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step of an item: begun (before an irreversible one) or done."""

    run_id: str
    key: str
    done: bool
    kind: Literal["stepped"] = "stepped"


@dataclass(frozen=True, slots=True)
class Ended:
    """What the run came to, and the forecast that the next one is compared with."""

    record: RunRecord
    book_version: int
    forecast: Forecast | None
    kind: Literal["ended"] = "ended"


_Event = Begun | Part | Planned | Stepped | Ended
_EVENT: TypeAdapter[_Event] = TypeAdapter(Annotated[_Event, Field(discriminator="kind")])


@dataclass(slots=True)
class OpenRun:
    """A run that has not ended."""

    begun: Begun
    items: list[PlanItem] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)  # of the item that comes next
    started: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """Whether all of its plan was written down: else nothing of it was done."""
        return len(self.items) == self.begun.items


class Runs:
    """See the module. One thread writes."""

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path, max_line=_MAX_LINE)
        self.records: deque[RunRecord] = deque(maxlen=MAX_KEPT)
        """The last runs, oldest first."""
        self.open: OpenRun | None = None
        self.forecast: Forecast | None = None
        self.floor_ns = 0
        """The newest time of the retention clock that a run has seen."""
        self.book_version = 0
        """The newest version of the policies that a run has seen."""
        for body in self._file.bodies():
            try:
                self._take(_EVENT.validate_json(body))
            except ValidationError as error:
                raise JournalCorruptError(
                    "the journal of runs cannot be read", what=path.name, offset=0
                ) from error

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _take(self, event: _Event) -> None:
        match event:
            case Begun():
                self.open = OpenRun(event)
                self.floor_ns = max(self.floor_ns, event.clock_ns)
            case Part():
                if self.open is not None:
                    self.open.parts.append(event)
            case Planned():
                if self.open is not None:
                    self.open.items.append(_joined(event.item, self.open.parts))
                    self.open.parts = []
            case Stepped():
                if self.open is not None:
                    (self.open.done if event.done else self.open.started).add(event.key)
            case Ended():
                self.records.append(event.record)
                self.open = None
                self.forecast = event.forecast
                self.floor_ns = max(self.floor_ns, event.record.ended_ns)
                self.book_version = max(self.book_version, event.book_version)

    def _write(self, *events: _Event) -> None:
        self._file.append([_EVENT.dump_json(event) for event in events])
        for event in events:
            self._take(event)

    def begin(self, begun: Begun, items: list[PlanItem]) -> OpenRun:
        """The whole plan is durable when it returns. JournalLineTooLongError."""
        self._write(begun, *(event for item in items for event in _lines(begun.run_id, item)))
        assert self.open is not None
        return self.open

    def step(self, run_id: str, key: str, *, done: bool) -> None:
        """One step is begun, or done."""
        self._write(Stepped(run_id, key, done))

    def end(self, ended: Ended) -> None:
        """The run is over."""
        self._write(ended)

    def newest_first(self) -> Iterator[RunRecord]:
        """The last runs."""
        yield from reversed(self.records)


def _lines(run_id: str, item: PlanItem) -> Iterator[Part | Planned]:
    """An item as lines, none of which names more than MAX_IDS."""
    if item.named <= MAX_IDS:
        yield Planned(run_id, item)
        return
    for some in pieces(item, MAX_IDS):
        yield Part(run_id, some.recording_ids, some.evacuate, some.snapshots)
    yield Planned(run_id, replace(item, recording_ids=(), evacuate=(), snapshots=()))


def _joined(item: PlanItem, parts: Sequence[Part]) -> PlanItem:
    """As it was planned."""
    if not parts:
        return item
    by_case: dict[str, list[str]] = {}
    for part in parts:
        for each in part.evacuate:
            by_case.setdefault(each.case_id, []).extend(each.recording_ids)
    return replace(
        item,
        recording_ids=tuple(name for part in parts for name in part.recording_ids),
        evacuate=tuple(Evacuation(case, tuple(ids)) for case, ids in by_case.items()),
        snapshots=tuple(name for part in parts for name in part.snapshots),
    )
