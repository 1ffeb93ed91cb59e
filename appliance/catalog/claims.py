"""Whether two lines claim one number. Pure."""

from __future__ import annotations

import ipaddress
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from appliance.model.routing import Line

_NATIONAL = 6  # digits that a number without its prefix has at least
_COUNTRY_CODE = 3
_FEW = 32  # numbers of a line that are looked for in others' texts one by one


class Claimant(NamedTuple):
    """What of a line says which numbers are its own."""

    line_id: str
    tenant_id: str
    numbers: Sequence[str]
    trunks: Sequence[str]


@dataclass(frozen=True, slots=True)
class Claim:
    """`position` in the line's numbers is also `other`'s."""

    position: int
    other: Line | Claimant


def claimants(line: Line, rows: Iterable[Sequence[Any]]) -> Iterator[Claimant]:
    """Of rows (id, tenant's id, numbers and trunks as JSON) those that may have a number of the line's."""
    digits = [_bin(_normal(number)).strip("+*") for number in line.numbers]
    few = len(digits) <= _FEW
    for line_id, tenant_id, numbers, trunks in rows:
        # Numbers are written in ASCII, and what two that are the same have in common stands in both.
        if not few or any(one in numbers for one in digits):
            yield Claimant(line_id, tenant_id, json.loads(numbers), json.loads(trunks))


def conflict(line: Line, others: Iterable[Line | Claimant]) -> Claim | None:
    """The first number that another line has, too.

    National and international spelling are one number (+441632960100, 00441632960100, 01632960100); prefixes are the same
    where they are written alike, as a longer one beats a shorter one. Lines that both name trunks, with none in common,
    may share numbers: two switchboards that both have an extension 200.
    """
    mine: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for position, number in enumerate(line.numbers):
        normal = _normal(number)
        mine[_bin(normal)].append((position, normal))
    if not mine:
        return None
    for other in others:
        if other.line_id == line.line_id:
            continue
        for number in other.numbers:
            normal = _normal(number)
            for position, own in mine.get(_bin(normal), ()):
                if _same(own, normal) and not _apart(line, other):
                    return Claim(position, other)
    return None


def _normal(number: str) -> str:
    return f"+{number[2:]}" if number.startswith("00") and len(number) > 9 else number


def _bin(number: str) -> str:
    """Numbers that are the same have this in common."""
    return number if number.endswith("*") else number[-_NATIONAL:]


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    if one.endswith("*") or other.endswith("*"):
        return False
    if len(one) < len(other):
        one, other = other, one
    if not one.startswith("+"):
        return False
    digits = one[1:]
    if other == digits and len(digits) >= _NATIONAL + 2:
        return True
    national = other[1:]
    return (
        other.startswith("0")
        and len(national) >= _NATIONAL
        and digits.endswith(national)
        and 1 <= len(digits) - len(national) <= _COUNTRY_CODE
    )


def _apart(one: Line, other: Line | Claimant) -> bool:
    """Whether each is told by trunks of its own."""
    if not one.trunks or not other.trunks:
        return False
    return not any(_overlap(mine, theirs) for mine in one.trunks for theirs in other.trunks)


def _overlap(one: str, other: str) -> bool:
    first, second = _network(one), _network(other)
    if first is None or second is None:
        return first is second and one.lower().rstrip(".") == other.lower().rstrip(".")
    if isinstance(first, ipaddress.IPv4Network) and isinstance(second, ipaddress.IPv4Network):
        return first.overlaps(second)
    if isinstance(first, ipaddress.IPv6Network) and isinstance(second, ipaddress.IPv6Network):
        return first.overlaps(second)
    return False


def _network(trunk: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(trunk.strip(), strict=False)
    except ValueError:
        return None
