"""What can go wrong with delivering."""

from __future__ import annotations

from typing import Final

from appliance.model import UnavailableError

MAX_REPLY: Final = 1024


class DeliveryError(UnavailableError):
    """A message could not be delivered; `data['failure']` says why, as a stable word."""

    reason = "ALARM_NOT_DELIVERED"

    def __init__(
        self,
        failure: str,
        reply: str = "",
        *,
        of_message: bool = False,
        refused: tuple[str, ...] = (),
        in_doubt: bool = False,
    ) -> None:
        """`reply`: what the far end said. `of_message`: others may go through. `refused`: recipients; the rest have it.
        `in_doubt`: it may have been taken after all, its answer was lost."""
        super().__init__("the message could not be delivered", failure=failure)
        self.failure = failure
        self.reply = cleaned(reply)
        self.of_message = of_message
        self.refused = refused
        self.in_doubt = in_doubt


def cleaned(reply: str) -> str:
    """What a far end said, bounded and without what a terminal would obey."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in reply[:MAX_REPLY])
