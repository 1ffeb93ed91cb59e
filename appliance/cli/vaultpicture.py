"""The vault as a picture of text: how full it is and will be, buckets by state."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.cli import output
from earwitness.v1 import box_pb2

AHEAD_DAYS = 30
_GLYPHS = ("█", "▒", "░")
_ASCII = ("#", "+", ".")


def split(parts: Sequence[int], width: int) -> list[int]:
    """Cells for each part, `width` in all; what is more than nothing gets one where there is room."""
    total = sum(parts)
    if total <= 0:
        return [0] * len(parts)
    cells = [part * width // total for part in parts]
    for place, part in enumerate(parts):
        if part > 0 and not cells[place]:
            cells[place] = 1
    while sum(cells) < width:  # the largest remainder first
        rest = [part * width / total - cell for part, cell in zip(parts, cells, strict=True)]
        cells[rest.index(max(rest))] += 1
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    return cells


def bar(parts: Sequence[int], width: int, *, unicode: bool = True) -> str:
    """At most three parts, in three glyphs."""
    glyphs = _GLYPHS if unicode else _ASCII
    return "".join(glyph * count for glyph, count in zip(glyphs, split(parts, width), strict=False))


def space(vault: box_pb2.Vault, width: int, *, unicode: bool = True) -> str:
    """Used, what comes within 30 days beyond what goes, and free."""
    used = vault.total_bytes - vault.free_bytes
    forecast = vault.forecast
    coming = max(0, forecast.daily_bytes * AHEAD_DAYS - forecast.expiring_bytes)
    coming = min(coming, vault.free_bytes)
    return bar((used, coming, vault.free_bytes - coming), width, unicode=unicode)


def buckets(counts: box_pb2.BucketCounts, width: int, *, unicode: bool = True) -> str:
    """Locked, open, absent."""
    return bar((counts.locked_count, counts.open_count, counts.absent_count), width, unicode=unicode)


def lasting(forecast: box_pb2.SpaceForecast) -> str:
    """How long the space lasts, in words."""
    if not forecast.HasField("days_until_full"):
        return "not full within 400 days"
    return f"full in {output.count(forecast.days_until_full, 'day')}"
