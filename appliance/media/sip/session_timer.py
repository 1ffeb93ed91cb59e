"""Session timers (RFC 4028): what is agreed in a request and its 2xx, and when to refresh or to give up."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.media.sip.values import SessionExpires

SMALLEST = 90  # seconds, RFC 4028 section 4


@dataclass(frozen=True, slots=True)
class SessionTimer:
    """What was agreed: the interval in seconds, and whether we are the one who refreshes."""

    interval: int
    refresher: bool

    @property
    def refresh_after(self) -> float:
        """Seconds from the last 2xx to our refresh (section 7.2)."""
        return self.interval / 2

    @property
    def expire_after(self) -> float:
        """Seconds from the last 2xx to our BYE (section 10)."""
        return self.interval - min(32.0, self.interval / 3)


def answer(
    request: SessionExpires | None, *, min_se: int, supported: bool, wanted: int
) -> tuple[SessionExpires, SessionTimer] | None:
    """The server's choice for a 2xx (section 9), or None: no timer.

    `request` and `min_se` are those of the request, `supported` whether it lists `timer`, `wanted` our own interval
    (0: none). Given the choice, the peer refreshes: its refreshes tell us that it is alive.
    """
    if request is None:
        if not supported or not wanted:
            return None  # without support on their side we would have to refresh alone
        seconds, refresher = max(wanted, min_se, SMALLEST), "uac"
    else:
        seconds = request.seconds
        if wanted and wanted < seconds:
            seconds = max(wanted, min_se, SMALLEST)
            seconds = min(seconds, max(request.seconds, SMALLEST))
        seconds = max(seconds, SMALLEST)
        refresher = (request.refresher or "uac") if supported else "uas"
    return SessionExpires(seconds, refresher), SessionTimer(seconds, refresher == "uas")


def accept(response: SessionExpires | None) -> SessionTimer | None:
    """What the client takes from a 2xx (section 7.2): no header, no timer."""
    if response is None:
        return None
    return SessionTimer(max(response.seconds, SMALLEST), response.refresher != "uas")
