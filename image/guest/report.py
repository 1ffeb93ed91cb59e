"""What a run of pytest in the guest reported: JUnit XML, read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

PASSED = "passed"
SKIPPED = "skipped"


@dataclass(frozen=True)
class Case:
    """One test: its outcome is `passed`, `skipped`, `failure` or `error`; the text is what pytest said of it."""

    name: str
    outcome: str
    text: str

    @property
    def bad(self) -> bool:
        """Whether it counts against the suite."""
        return self.outcome not in (PASSED, SKIPPED)


def cases(report: bytes) -> list[Case]:
    """The tests in a report."""
    found = []
    for element in ElementTree.fromstring(report).iter("testcase"):
        name = f"{element.get('classname')}::{element.get('name')}"
        said = next((child for child in element if child.tag in ("failure", "error", SKIPPED)), None)
        if said is None:
            found.append(Case(name, PASSED, ""))
        else:
            found.append(Case(name, said.tag, f"{said.get('message')}\n{said.text or ''}"))
    return found


def summary(ran: Sequence[Case]) -> str:
    """Counts by outcome, as pytest's own last line has them."""
    counts = Counter("failed" if case.bad else case.outcome for case in ran)
    return ", ".join(
        f"{counts[outcome]} {outcome}" for outcome in ("failed", PASSED, SKIPPED) if counts[outcome]
    )
