"""When messages go out: at once, together once a day, again after a failure, or no more. Times are nanoseconds."""

from __future__ import annotations

import random
from typing import Final

from appliance.alarms.message import What
from appliance.alarms.severity import Severity

_S: Final = 10**9
HOUR_NS: Final = 3600 * _S
DAY_NS: Final = 24 * HOUR_NS
FIRST_NS: Final = 5 * _S
MOST_NS: Final = 15 * 60 * _S
MAX_WAITING: Final = 1000  # messages of a channel
TELL_AFTER: Final = 3  # failures in a row until the channel itself is an alarm


def next_digest(now_ns: int, hour: int) -> int:
    """The next time that it is this hour of the day, in UTC."""
    at_ns = now_ns - now_ns % DAY_NS + hour * HOUR_NS
    return at_ns if at_ns > now_ns else at_ns + DAY_NS


def backoff(tries: int, chance: random.Random) -> int:
    """How long to wait after so many failures in a row (1 or more): doubled each time, half of it by chance."""
    whole = min(FIRST_NS << min(tries - 1, 20), MOST_NS)
    return whole // 2 + chance.randrange(whole // 2 + 1)


def given_up(create_ns: int, now_ns: int, *, digest: bool) -> bool:
    """Whether a message that failed again is tried no more: a day after it was to go out at the latest."""
    return now_ns - create_ns > (2 * DAY_NS if digest else DAY_NS)


def is_for(what: What, severity: Severity, minimum: Severity, *, mail: bool) -> bool:
    """Whether a channel takes it. Mail does not say who looks after what, nor that a reminder is over."""
    if severity.rank < minimum.rank:
        return False
    return not (
        mail and (what is What.ACKNOWLEDGED or (what is What.CLEARED and severity is Severity.NOTICE))
    )
