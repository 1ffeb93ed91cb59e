"""One INVITE usage of a dialog, either way: what the application may read of it, and what the endpoint keeps with it."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from appliance.media.sip.dialog import Dialog
from appliance.media.sip.flow import Flow, Target, Transmit
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.session_timer import SessionTimer


def carries_sdp(message: SipRequest | SipResponse) -> bool:
    """Whether the body is, or holds, a session description. A body of metadata alone is no offer."""
    return is_description(message.headers.get("Content-Type") or "", message.body)


def is_description(content_type: str, body: bytes) -> bool:
    """Whether a body of that type is, or holds, a session description."""
    kind = content_type.lower()
    return bool(body) and (
        "application/sdp" in kind or ("multipart" in kind and b"application/sdp" in body.lower())
    )


class SessionState(enum.StrEnum):
    """Where a session stands."""

    CALLING = "calling"  # our INVITE is out, or theirs waits for an answer
    EARLY = "early"  # a provisional response with a To tag made an early dialog
    ESTABLISHED = "established"  # a 2xx made the dialog
    ENDING = "ending"  # our BYE is out, or waits for the ACK; or our CANCEL is out
    ENDED = "ended"


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


@dataclass(slots=True)
class Unacked:
    """A 2xx of ours that waits for its ACK (RFC 3261, section 13.3.1.4)."""

    response: SipResponse
    target: Target
    interval: float
    offered: bool  # it carried the offer: the ACK brings the answer
    inbound: InboundRequest | None


@dataclass(slots=True)
class Reliable:
    """A reliable provisional of ours that waits for its PRACK (RFC 3262, section 3)."""

    rseq: int
    cseq: int
    inbound: InboundRequest
    response: SipResponse
    interval: float
    described: bool  # it carried a session description: a 2xx has to wait for the PRACK
    offered: bool


@dataclass(slots=True)
class ServerPart:
    """What the server side keeps of a session."""

    invite: InboundRequest | None = None  # the peer's INVITE or re-INVITE without a final response yet
    update: InboundRequest | None = None  # the peer's UPDATE without a final response yet
    unacked: dict[int, Unacked] = field(default_factory=dict)  # by CSeq number
    rseq: int = 0
    reliable: Reliable | None = None
    waiting: deque[tuple[InboundRequest, SipResponse, bool]] = field(
        default_factory=deque
    )  # behind `reliable`
    bye_fields: tuple[tuple[str, str], ...] | None = None  # our BYE waits for the ACK
    first_cseq: int = 0  # of the first INVITE
    held: InboundRequest | None = None  # its 2xx is given and waits for a PRACK
    described: bool = False  # a provisional response to the pending INVITE carried SDP
    overtaken: tuple[int, int] | None = (
        None  # RSeq and CSeq of a reliable provisional that the final one overtook
    )

    @property
    def undescribed_offer(self) -> bool:
        """The peer's INVITE brought an offer that no response of ours has answered yet."""
        return self.invite is not None and carries_sdp(self.invite.request) and not self.described

    @property
    def holds_final(self) -> bool:
        """A 2xx has to wait: a session description in a reliable provisional is not acknowledged (RFC 3262, 3)."""
        described = self.reliable is not None and self.reliable.described
        return described or any(reliable and carries_sdp(response) for _, response, reliable in self.waiting)


@dataclass(slots=True)
class ClientPart:
    """What the client side keeps of a session."""

    invite: OutboundRequest | None = None  # our INVITE or re-INVITE without a final response yet
    update: OutboundRequest | None = None
    early: dict[str, Dialog] = field(default_factory=dict)  # by remote tag
    rseq: dict[str, int] = field(default_factory=dict)  # the last reliable provisional, by remote tag
    provisional: bool = False  # a provisional response came: a CANCEL may go out
    cancel: tuple[tuple[str, str], ...] | None = None  # wanted, with its headers
    cancel_sent: bool = False
    ack_wanted: tuple[int, str] | None = None  # CSeq number and remote tag of a 2xx with an offer
    prack_wanted: SipResponse | None = None
    offer_seen: bool = False  # a reliable provisional brought the offer
    acks: dict[tuple[int, str], Transmit] = field(default_factory=dict)  # by CSeq number and remote tag
    retry: OutboundRequest | None = None  # a request that met glare and waits for its second chance


@dataclass(eq=False, slots=True, repr=False)
class SipSession:
    """An INVITE usage. Read it; change it by the methods of `SipEndpoint` only.

    `id` is ours, random, and lives as long as the session, through a restart too. `user` is the application's own.
    `dialog` is None until a provisional or 2xx made it. `remote_allow` and `remote_supported` are what the peer last
    told of itself, methods in upper and option tags in lower case. `flow` is the way its last request came.
    """

    id: str
    uas: bool  # the peer began it
    state: SessionState = SessionState.CALLING
    user: Any = None
    dialog: Dialog | None = None
    flow: Flow | None = None
    remote_allow: frozenset[str] = frozenset()
    remote_supported: frozenset[str] = frozenset()
    timer: SessionTimer | None = None
    min_se: int = 0
    contact_params: str | None = None  # of our Contact here; None: those of the endpoint
    description: tuple[str, bytes] | None = None  # content type and body of the last SDP we sent
    server: ServerPart = field(default_factory=ServerPart)
    client: ClientPart = field(default_factory=ClientPart)
    timers: set[Hashable] = field(default_factory=set)
    ending: EndCause | None = None  # why, once it is known
    final: SipResponse | None = None

    def __repr__(self) -> str:
        """Without addresses and bodies: they are personal data."""
        return f"SipSession({self.id}, {'uas' if self.uas else 'uac'}, {self.state})"

    @property
    def live(self) -> bool:
        return self.state is not SessionState.ENDED

    @property
    def established(self) -> bool:
        return self.state is SessionState.ESTABLISHED

    @property
    def confirmed(self) -> bool:
        """A 2xx has made the dialog, whatever came after."""
        return self.dialog is not None and self.dialog.confirmed

    @property
    def offering(self) -> bool:
        """An offer of ours has no answer yet (RFC 3311, section 5.2; RFC 6337)."""
        return (
            self.client.invite is not None
            or (self.client.update is not None and carries_sdp(self.client.update.request))
            or any(unacked.offered for unacked in self.server.unacked.values())
            or (self.server.reliable is not None and self.server.reliable.offered)
        )
