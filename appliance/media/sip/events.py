"""What a `SipEndpoint` tells its application, and the handles by which the application answers.

Every request that waits for an answer comes as an `InboundRequest`; every request sent on behalf of the application
is an `OutboundRequest`; every INVITE usage, either way, is a `SipSession` (`appliance.media.sip.session`).
What an event does not ask for has already been done: a BYE is answered, a CANCEL is answered, an ACK to a failure is sent.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.media.sip.flow import Flow, Target
from appliance.media.sip.message import SipRequest, SipResponse

if TYPE_CHECKING:
    from appliance.media.sip.session import SipSession


class EndCause(enum.StrEnum):
    """Why a session ended."""

    REMOTE_BYE = "remote-bye"
    LOCAL_BYE = "local-bye"
    CANCELLED = "cancelled"  # by CANCEL, ours or theirs, before a 2xx settled it
    REJECTED = "rejected"  # a final response of 300 or above, ours or theirs
    TIMEOUT = "timeout"  # a request of ours was never answered
    TRANSPORT = "transport"  # a request of ours could not be sent
    ACK_TIMEOUT = "ack-timeout"  # our 2xx was never acknowledged (RFC 3261, section 13.3.1.4)
    PRACK_TIMEOUT = "prack-timeout"  # our reliable provisional was never acknowledged (RFC 3262, section 3)
    EXPIRED = "expired"  # the session timer ran out (RFC 4028, section 10)
    GONE = "gone"  # the peer answered 481 or 408: it no longer knows the dialog


@dataclass(eq=False, slots=True, repr=False)
class InboundRequest:
    """A request that waits for `SipEndpoint.respond`. `answered` tells that a final response has been given."""

    request: SipRequest
    flow: Flow
    key: str
    session: SipSession | None = None
    answered: bool = False

    def __repr__(self) -> str:
        return f"InboundRequest({self.request.method}, {self.key})"

    @property
    def method(self) -> str:
        return self.request.method


@dataclass(eq=False, slots=True, repr=False)
class OutboundRequest:
    """A request sent by us. `refresh` marks those the session timer sent by itself."""

    request: SipRequest
    key: str
    session: SipSession | None = None
    refresh: bool = False
    targets: list[Target] = field(default_factory=list)
    tries: int = 0  # further ones, after a challenge, glare, or an interval too small
    quiet: bool = False  # its answer concerns nobody

    def __repr__(self) -> str:
        return f"OutboundRequest({self.request.method}, {self.key})"

    @property
    def method(self) -> str:
        return self.request.method


@dataclass(frozen=True, slots=True, repr=False)
class Replaces:
    """A Replaces header (RFC 3891). `session` is the one it names, if we have it."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool
    session: SipSession | None


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request outside of a dialog (OPTIONS, ...), or inside one that is not about the session (INFO, ...): answer it."""

    inbound: InboundRequest
    session: SipSession | None = None


@dataclass(frozen=True, slots=True)
class IncomingInvite:
    """A new session is asked for: answer with `respond`. Retransmissions never come here."""

    session: SipSession
    inbound: InboundRequest
    replaces: Replaces | None = None


@dataclass(frozen=True, slots=True)
class Acked:
    """Our 2xx is acknowledged. `ack.body` holds the answer where our 2xx carried the offer.

    `invite` is the INVITE or re-INVITE that it completes (None after a restart).
    """

    session: SipSession
    ack: SipRequest
    invite: InboundRequest | None


@dataclass(frozen=True, slots=True)
class AckTimeout:
    """Our 2xx was never acknowledged; a BYE has been sent and `SessionEnded` follows."""

    session: SipSession


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The INVITE or re-INVITE was cancelled before its final response and is answered (200 to CANCEL, 487).

    `SessionEnded` follows where it was the first INVITE; a cancelled re-INVITE leaves the session as it was.
    """

    session: SipSession
    inbound: InboundRequest


@dataclass(frozen=True, slots=True)
class ReInvite:
    """A re-INVITE: answer with `respond`, a 200 with a full SDP body (an offer, where it came without one)."""

    session: SipSession
    inbound: InboundRequest


@dataclass(frozen=True, slots=True)
class Update:
    """An UPDATE (RFC 3311): answer with `respond`; the 200 carries SDP only where the UPDATE carried an offer."""

    session: SipSession
    inbound: InboundRequest


@dataclass(frozen=True, slots=True)
class Prack:
    """A reliable provisional response of ours is acknowledged (RFC 3262).

    `inbound` is None where the PRACK is already answered. It is set where the PRACK has a body (a new offer, or the
    answer to an offer of ours): answer it with `respond`.
    """

    session: SipSession
    request: SipRequest
    inbound: InboundRequest | None


@dataclass(frozen=True, slots=True)
class Bye:
    """The peer ended the session; the BYE is answered. `SessionEnded` follows."""

    session: SipSession
    request: SipRequest


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """No refresh came in time; a BYE has been sent. `SessionEnded` follows."""

    session: SipSession


@dataclass(frozen=True, slots=True)
class Provisional:
    """A provisional response to our INVITE. A reliable one is acknowledged already, unless `wants_prack`.

    `wants_prack`: it carried the offer (our INVITE had none); give the answer with `SipEndpoint.prack`.
    """

    session: SipSession
    response: SipResponse
    wants_prack: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """Our INVITE got its 2xx. Acknowledged already, unless `wants_ack`: then it carried the offer, give the answer
    with `SipEndpoint.ack`."""

    session: SipSession
    response: SipResponse
    wants_ack: bool = False


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """A response to a request of ours that is not the first INVITE of a session.

    Provisional responses come too; a challenge answered by credentials, or a retry after 491, does not.
    `wants_ack`: a 2xx to our re-INVITE without body carried an offer, give the answer with `SipEndpoint.ack`.
    """

    outbound: OutboundRequest
    response: SipResponse
    session: SipSession | None = None
    wants_ack: bool = False


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request of ours got no answer: `cause` is TIMEOUT (as if 408) or TRANSPORT (as if 503)."""

    outbound: OutboundRequest
    cause: EndCause
    session: SipSession | None = None


@dataclass(frozen=True, slots=True)
class TransportFailed:
    """A response could not be sent. Nothing needs to be done: 2xx go on being retransmitted; it is for the log."""

    target: Target
    session: SipSession | None = None


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Comes exactly once for every session that `IncomingInvite` or `SipEndpoint.invite` began, and last.

    `response` is the final response where the cause is REJECTED, CANCELLED or GONE and there was one.
    """

    session: SipSession
    cause: EndCause
    response: SipResponse | None = field(default=None)


Event = (
    IncomingRequest
    | IncomingInvite
    | Acked
    | AckTimeout
    | Cancelled
    | ReInvite
    | Update
    | Prack
    | Bye
    | SessionExpired
    | Provisional
    | Answered
    | ResponseReceived
    | RequestFailed
    | TransportFailed
    | SessionEnded
)
