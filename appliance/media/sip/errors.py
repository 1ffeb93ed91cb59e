"""What the SIP message layer raises.

Messages name the rule that was broken and the header it is about, never what stood in it: header values are personal data.
"""

from __future__ import annotations

from typing import Any

from appliance.model.errors import InvalidError


class SipParseError(InvalidError):
    """Bytes or text that are no SIP as RFC 3261 wants it.

    `status` is the code to answer with, where the culprit is a request. `request` is what could be read of it, a
    `SipRequest` fit for `make_response` (untyped, as this module stands beneath that one); None where there is nothing
    to answer (a response, an ACK, no readable Via): then drop it. `data['field']` names the header to blame, if one is.
    """

    reason = "SIP_MALFORMED"

    def __init__(self, message: str, /, *, status: int = 400, request: Any = None, **data: object) -> None:
        super().__init__(message, **data)
        self.status = status
        self.request = request

    @property
    def can_respond(self) -> bool:
        return self.request is not None
