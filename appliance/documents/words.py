"""Figures and times as documents have them, in English. What is not known is None, and said so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from appliance.documents.blocks import UNKNOWN

S: Final = 10**9
_SIZES: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


def when(ns: int | None, zone: ZoneInfo) -> str:
    """To the second, in a zone, with how far that is from UTC."""
    if ns is None:
        return UNKNOWN
    local = (_START + timedelta(seconds=ns // S)).astimezone(zone)
    offset = local.strftime("%z")
    return f"{local:%Y-%m-%d %H:%M:%S} {'UTC' if offset == '+0000' else f'{offset[:3]}:{offset[3:]}'}"


def day(ns: int | None, zone: ZoneInfo) -> str:
    return UNKNOWN if ns is None else f"{(_START + timedelta(seconds=ns // S)).astimezone(zone):%Y-%m-%d}"


def length(ns: int | None) -> str:
    """Such as 3 d 4 h, 12 min 5 s, 0.25 s: the two greatest units."""
    if ns is None:
        return UNKNOWN
    if ns < 10 * S:
        return f"{ns / S:.2f}".rstrip("0").rstrip(".") + " s"
    seconds = round(ns / S)
    found = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            found.append(f"{count} {name}")
        elif found:
            break
    return " ".join(found[:2])


def percent(ratio: float | None) -> str:
    """Cut, not rounded: less than all is never 100 %."""
    if ratio is None:
        return UNKNOWN
    hundredths = int(ratio * 100_000 + 1e-6)
    return f"{hundredths // 1000}.{hundredths % 1000:03} %"


def number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def size(value: int | None) -> str:
    if value is None:
        return UNKNOWN
    amount, place = float(value), 0
    while amount >= 1000 and place < len(_SIZES) - 1:
        amount, place = amount / 1000, place + 1
    return f"{value} bytes" if not place else f"{amount:.1f} {_SIZES[place]}"


def yes(value: bool | None) -> str:
    return UNKNOWN if value is None else "yes" if value else "no"


def some(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
