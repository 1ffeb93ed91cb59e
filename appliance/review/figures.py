"""Figures of reviews over time. Few reviews say little: they are shown as such, and not ranked."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from appliance.review.sampling import month, week

SMALL: Final = 5
"""Fewer reviews than these are not ranked."""


class By(enum.StrEnum):
    """What figures are of."""

    AGENT = "agent"
    LINE = "line"
    QUESTION = "question"
    REVIEWER = "reviewer"


class Period(enum.StrEnum):
    """Over which time one figure goes."""

    ALL = "all"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class Reviewed:
    """One review that counts. `score` and the shares of `lines` (question, share, failed): hundredths of a percent."""

    at_ns: int
    agent: str
    line_id: str
    reviewer: str
    version: int
    score: int | None
    failed: bool
    lines: tuple[tuple[str, int | None, bool], ...] = ()


@dataclass(frozen=True)
class Row:
    """One figure. `mean` and `spread` are in hundredths of a percent, `fails` counts.

    `spread`: between the reviewers' own means, the highest less the lowest; None where fewer than two reviewed.
    `versions`: of the scorecard; more than one: their means are not alike. `rank`: within its period; 0: not ranked.
    """

    key: str
    period: str
    count: int
    mean: int | None
    fails: int
    spread: int | None
    reviewers: int
    versions: tuple[int, ...]
    rank: int = 0

    @property
    def small(self) -> bool:
        return self.count < SMALL


@dataclass
class _Sum:
    count: int = 0
    fails: int = 0
    scored: int = 0
    total: int = 0
    versions: set[int] = field(default_factory=set)
    reviewers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, one: Reviewed, value: int | None, failed: bool) -> None:
        self.count += 1
        self.fails += failed
        self.versions.add(one.version)
        total, scored = self.reviewers.get(one.reviewer, (0, 0))
        if value is not None:
            self.scored += 1
            self.total += value
            total, scored = total + value, scored + 1
        self.reviewers[one.reviewer] = total, scored


def figures(
    reviews: Iterable[Reviewed], by: By, period: Period, zone: str, *, by_version: bool = False
) -> list[Row]:
    """Rows by period, then key; `by_version`: versions of the scorecard apart."""
    when: Callable[[int, str], str] = {
        Period.WEEK: week,
        Period.MONTH: month,
        Period.ALL: lambda at_ns, zone: "",
    }[period]
    sums: dict[tuple[str, str, int], _Sum] = {}
    for one in reviews:
        at = when(one.at_ns, zone)
        version = one.version if by_version else 0
        for key, value, failed in _of(one, by):
            sums.setdefault((at, key, version), _Sum()).add(one, value, failed)
    return _ranked([_row(at, key, found) for (at, key, _), found in sorted(sums.items())])


def _of(one: Reviewed, by: By) -> Iterable[tuple[str, int | None, bool]]:
    match by:
        case By.AGENT:
            yield one.agent, one.score, one.failed
        case By.LINE:
            yield one.line_id, one.score, one.failed
        case By.REVIEWER:
            yield one.reviewer, one.score, one.failed
        case By.QUESTION:
            for question, share, failed in one.lines:
                if share is not None or failed:
                    yield question, share, failed


def _row(at: str, key: str, found: _Sum) -> Row:
    means = [Fraction(total, scored) for total, scored in found.reviewers.values() if scored]
    return Row(
        key=key,
        period=at,
        count=found.count,
        mean=_round(Fraction(found.total, found.scored)) if found.scored else None,
        fails=found.fails,
        spread=_round(max(means) - min(means)) if len(means) > 1 else None,
        reviewers=len(found.reviewers),
        versions=tuple(sorted(found.versions)),
    )


def _ranked(rows: list[Row]) -> list[Row]:
    """Within each period, by mean; the same mean has the same rank. Rows of different versions have no common rank."""
    ranks: dict[int, int] = {}
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for place, row in enumerate(rows):
        if not row.small and row.mean is not None and row.key:
            groups.setdefault((row.period, row.versions), []).append(place)
    for places in groups.values():
        means = [rows[place].mean or 0 for place in places]
        for place in places:
            ranks[place] = 1 + sum(mean > (rows[place].mean or 0) for mean in means)
    return [
        Row(**{**row.__dict__, "rank": ranks[place]}) if place in ranks else row
        for place, row in enumerate(rows)
    ]


def _round(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))
