"""Single cells of call records: times, durations, numbers. What cannot be read is a BadCell with a stable word."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from appliance.completeness.maps import EPOCH, EPOCH_MS, ISO
from appliance.media.siprec.numbers import subscriber

MAX_NUMBER: Final = 64
MAX_TALK_S: Final = 7 * 86400
_S: Final = 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_TEXT = re.compile(r"[0-9]{1,13}(?:\.[0-9]{1,9})?", re.ASCII)
_SECONDS = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?", re.ASCII)
_CLOCK = re.compile(r"(?:([0-9]{1,4}):)?([0-9]{1,4}):([0-5][0-9])(?:\.([0-9]{1,9}))?", re.ASCII)
_PUNCTUATED = re.compile(r"\+?[0-9 ().\-/]+", re.ASCII)
_SEPARATORS: Final = str.maketrans("", "", " ().-/")
_YES: Final = frozenset({"1", "y", "yes", "true", "t"})


class BadCell(ValueError):
    """`args[0]` says what is wrong with it, in a stable word; never what it holds."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


class Moment(NamedTuple):
    """`ns` since the Unix epoch. `later_ns`: an hour of autumn comes twice, and it may be the second; else as `ns`."""

    ns: int
    later_ns: int


def moment(text: str, form: str, zone: ZoneInfo) -> Moment:
    """A time as the map says it is written. BadCell: TIME_UNREADABLE, TIME_SKIPPED."""
    if len(text) > 60:
        raise BadCell("TIME_UNREADABLE")
    if form in (EPOCH, EPOCH_MS):
        if not _EPOCH_TEXT.fullmatch(text):
            raise BadCell("TIME_UNREADABLE")
        whole, _, fraction = text.partition(".")
        ns = int(whole) * _S + int(fraction.ljust(9, "0") or 0)
        if form == EPOCH_MS:
            ns //= 1000
        if ns > 2**62:
            raise BadCell("TIME_UNREADABLE")
        return Moment(ns, ns)
    try:
        said = datetime.fromisoformat(text) if form == ISO else datetime.strptime(text, form)
    except ValueError:
        raise BadCell("TIME_UNREADABLE") from None
    try:
        if said.tzinfo is not None:
            ns = _ns(said)
            return Moment(ns, ns)
        first = said.replace(tzinfo=zone)
        ns, later = _ns(first), _ns(first.replace(fold=1))
        if later < ns:  # in spring an hour is left out: no clock of that zone ever said this
            raise BadCell("TIME_SKIPPED")
        return Moment(ns, later)
    except OverflowError:
        raise BadCell("TIME_UNREADABLE") from None


def _ns(said: datetime) -> int:
    whole = said.astimezone(UTC) - _EPOCH
    return (whole // timedelta(microseconds=1)) * 1000


def length(text: str, form: str, decimal_comma: bool) -> int:
    """A duration in nanoseconds. BadCell: DURATION_UNREADABLE."""
    plain = text.replace(",", ".", 1) if decimal_comma else text
    ns = -1
    if form == "clock":
        if found := _CLOCK.fullmatch(plain):
            seconds = int(found[1] or 0) * 3600 + int(found[2]) * 60 + int(found[3])
            ns = seconds * _S + int((found[4] or "").ljust(9, "0"))
    elif found := _SECONDS.fullmatch(plain):
        ns = int(found[1]) * _S + int((found[2] or "").ljust(9, "0"))
        if form == "milliseconds":
            ns //= 1000
    if not 0 <= ns <= MAX_TALK_S * _S:
        raise BadCell("DURATION_UNREADABLE")
    return ns


def number(text: str, strip: tuple[str, ...]) -> str:
    """A number as lines have them: without separators, `+` for `00`; a name in lower case; empty: withheld.

    BadCell: FIELD_TOO_LONG.
    """
    for prefix in strip:
        if text.startswith(prefix) and text[len(prefix) :][:1].isdigit():
            text = text[len(prefix) :]
            break
    if len(text) > MAX_NUMBER:
        raise BadCell("FIELD_TOO_LONG")
    if _PUNCTUATED.fullmatch(text):
        text = (text.replace("(0)", "") if text.startswith("+") else text).translate(_SEPARATORS)
    return subscriber(text)


def yes(text: str) -> bool:
    return text.strip().lower() in _YES
