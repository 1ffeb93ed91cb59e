"""What a `SipEndpoint` tells its application, and the handles by which the application answers.

Every request that waits for an answer comes as an `InboundRequest`; every request sent on behalf of the application
is an `OutboundRequest`; every INVITE usage, either way, is a `SipSession` (`appliance.media.sip.session`).
What an event does not ask for has already been done: a BYE is answered, a CANCEL is answered, an ACK to a failure is sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.media.sip.flow import Target
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.session import EndCause, InboundRequest, OutboundRequest, SipSession


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
    response: SipResponse | None = None


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
