"""Which tenant and line a call belongs to, and whether it is recorded. Pure: a table and facts in, a decision out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from appliance.media.siprec.numbers import normalise, pattern_rank, same_number
from appliance.model import Direction
from appliance.model.routing import Line, RoutingTable, Tenant

NO_LINE = "no-line"
NO_TENANT = "no-tenant"
DO_NOT_RECORD = "do-not-record"
NOT_CONTRACTED = "direction-not-contracted"
LINE_CLOSED = "line-closed"
AMBIGUOUS = "line-ambiguous"  # several lines fit equally well; the first of the table was taken


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a call when its line is decided.

    `numbers` are normalised (`siprec.numbers.subscriber`), those of parties first. `source` is the numeric address the
    INVITE came from, `certificate` the names in the peer's TLS certificate, lower case.
    """

    numbers: tuple[str, ...] = field(default=(), repr=False)
    source: str = ""
    certificate: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """`line` and `tenant` are None where no line takes the call: `reason` says why."""

    line: Line | None = None
    tenant: Tenant | None = None
    reason: str = ""
    flags: tuple[str, ...] = ()

    def ours(self, number: str) -> bool:
        """Whether a normalised number is one of the line's."""
        return self.line is not None and matches(self.line.numbers, number)


def matches(patterns: Iterable[str], number: str) -> bool:
    """Whether any pattern of a line fits a normalised number."""
    return any(pattern_rank(pattern, number) for pattern in patterns)


def decide(table: RoutingTable, facts: Facts) -> Decision:
    """By number, then by the name in the certificate, then by source address, then the catch-all line.

    Among numbers the more specific pattern counts, then the line that also names the trunk, then the party named first,
    then the order of the table.
    """
    by_number = _by_number(table.lines, facts)
    if by_number:
        return _decided(table, by_number)
    by_name = [line for line in table.lines if _by_name(line, facts.certificate)]
    if by_name:
        return _decided(table, by_name)
    by_address = [(_by_address(line, facts.source), line) for line in table.lines]
    longest = max((length for length, _ in by_address), default=-1)
    if longest >= 0:
        return _decided(table, [line for length, line in by_address if length == longest])
    caught = [line for line in table.lines if line.catch_all]
    if caught:
        return _decided(table, caught)
    return Decision(reason=NO_LINE)


def _by_number(lines: Sequence[Line], facts: Facts) -> list[Line]:
    """The lines whose numbers fit best, those of equal rank together."""
    ranked: list[tuple[tuple[int, bool, int], Line]] = []
    for line in lines:
        best: tuple[int, bool, int] | None = None
        on_trunk = _by_name(line, facts.certificate) or _by_address(line, facts.source) >= 0
        for place, number in enumerate(facts.numbers):
            fit = max((pattern_rank(pattern, number) for pattern in line.numbers), default=0)
            if fit:
                rank = (fit, on_trunk, -place)
                best = rank if best is None else max(best, rank)
        if best is not None:
            ranked.append((best, line))
    highest = max((rank for rank, _ in ranked), default=None)
    return [line for rank, line in ranked if rank == highest]


def _by_name(line: Line, names: tuple[str, ...]) -> bool:
    wanted = {trunk.strip().lower().rstrip(".") for trunk in line.trunks if _network(trunk) is None}
    return any(name in wanted for name in names)


def _by_address(line: Line, source: str) -> int:
    """The length of the longest prefix of the line's trunks that holds the address; -1 where none does."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return -1
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    lengths = [
        network.prefixlen
        for trunk in line.trunks
        if (network := _network(trunk)) is not None
        and network.version == address.version
        and address in network
    ]
    return max(lengths, default=-1)


def _network(trunk: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(trunk.strip(), strict=False)
    except ValueError:
        return None


def barred(table: RoutingTable | None, tenant_id: str, number: str) -> bool:
    """Whether the agent of this number may not pause or end, until a notice is acknowledged (terms 5)."""
    wanted = normalise(number)
    return table is not None and any(
        same_number(one, wanted)
        for some in table.barred
        if some.tenant_id == tenant_id
        for one in some.numbers
    )


def named_trunks(table: RoutingTable) -> bool:
    """Whether any line is recognised by a name in a certificate."""
    return any(_network(trunk) is None for line in table.lines for trunk in line.trunks)


def _decided(table: RoutingTable, lines: Sequence[Line]) -> Decision:
    line = lines[0]
    tenant = next((one for one in table.tenants if one.tenant_id == line.tenant_id), None)
    if tenant is None:
        return Decision(reason=NO_TENANT)
    return Decision(line, tenant, flags=(AMBIGUOUS,) if len(lines) > 1 else ())


def withheld(line: Line, numbers: Iterable[str], direction: Direction) -> str:
    """Why a call of this line is not recorded; "" where it is."""
    if line.closed:
        return LINE_CLOSED
    if any(matches(line.do_not_record, number) for number in numbers):
        return DO_NOT_RECORD
    return "" if direction in line.directions else NOT_CONTRACTED
