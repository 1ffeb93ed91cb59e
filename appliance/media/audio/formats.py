"""What a payload type stands for: the offer says so, or RFC 3551 does."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.model import PayloadFormat

STATIC = {
    item.number: item
    for item in (
        PayloadFormat(number=0, encoding="PCMU", clock_rate=8000),
        PayloadFormat(number=3, encoding="GSM", clock_rate=8000),
        PayloadFormat(number=4, encoding="G723", clock_rate=8000),
        PayloadFormat(number=8, encoding="PCMA", clock_rate=8000),
        PayloadFormat(number=9, encoding="G722", clock_rate=8000),
        PayloadFormat(number=10, encoding="L16", clock_rate=44100, channels=2),
        PayloadFormat(number=11, encoding="L16", clock_rate=44100),
        PayloadFormat(number=13, encoding="CN", clock_rate=8000),
        PayloadFormat(number=18, encoding="G729", clock_rate=8000),
        PayloadFormat(number=19, encoding="CN", clock_rate=8000),  # reserved, and used by old gateways
    )
}
MAX_CLOCK = 384_000


def resolve(number: int, stated: Iterable[PayloadFormat]) -> PayloadFormat | None:
    """The format of a payload type: what was stated last wins, then the static table; None: not known."""
    found = None
    for item in stated:
        if item.number == number and item.encoding and 0 < item.clock_rate <= MAX_CLOCK:
            found = item
    return found or STATIC.get(number)


def parameter(fmtp: str, name: str) -> str:
    """The value of one fmtp parameter; empty where it is not there."""
    for part in fmtp.replace(",", ";").split(";"):
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip().lower()
    return ""
