"""Dialogs (RFC 3261, section 12): who the two ends are, the way to the other one, and the order of requests.

A dialog goes into a small dict and back, so that a restarted process takes it up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.media.sip import parts
from appliance.media.sip.headers import Headers
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.uri import parse_uri
from appliance.model import CorruptError

MAX_ROUTES = 32  # hops in a route set; more is a loop or an attack
MAX_SEQUENCE = 2**31 - 1


class SnapshotError(CorruptError):
    """A snapshot of a dialog or session that is none."""

    reason = "SIP_SNAPSHOT_INVALID"


@dataclass(slots=True, repr=False)
class Dialog:
    """One dialog. `local` and `remote` are header values without tag, `remote_target` a URI, `route_set` in the order
    in which we write it into Route headers."""

    call_id: str
    local_tag: str
    remote_tag: str  # empty for an RFC 2543 peer
    local: str
    remote: str
    remote_target: str
    route_set: list[str] = field(default_factory=list)
    local_seq: int = 0
    remote_seq: int | None = None
    secure: bool = False
    confirmed: bool = False

    def __repr__(self) -> str:
        """Without addresses: they are personal data."""
        return f"Dialog({'confirmed' if self.confirmed else 'early'}, {len(self.route_set)} routes)"

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.call_id, self.local_tag, self.remote_tag)

    @classmethod
    def as_server(cls, request: SipRequest, local_tag: str, *, secure: bool, local_seq: int) -> Dialog:
        """The dialog that our response to `request` makes (section 12.1.1): Record-Route in order."""
        remote, remote_tag = parts.party(request, "From")
        local, _ = parts.party(request, "To")
        return cls(
            call_id=request.call_id,
            local_tag=local_tag,
            remote_tag=remote_tag,
            local=local,
            remote=remote,
            remote_target=parts.contact_uri(request) or str(request.from_.uri),
            route_set=parts.record_routes(request)[:MAX_ROUTES],
            local_seq=local_seq,
            remote_seq=request.cseq.number,
            secure=secure and str(request.uri).lower().startswith("sips:"),
        )

    @classmethod
    def as_client(cls, request: SipRequest, response: SipResponse, *, secure: bool) -> Dialog:
        """The dialog that `response` to our `request` makes (section 12.1.2): Record-Route reversed."""
        local, local_tag = parts.party(request, "From")
        remote, _ = parts.party(request, "To")
        return cls(
            call_id=request.call_id,
            local_tag=local_tag,
            remote_tag=response.to.tag or "",
            local=local,
            remote=remote,
            remote_target=parts.contact_uri(response) or str(request.uri),
            route_set=parts.record_routes(response)[:MAX_ROUTES][::-1],
            local_seq=request.cseq.number,
            secure=secure and str(request.uri).lower().startswith("sips:"),
        )

    def confirm(self, response: SipResponse) -> None:
        """A 2xx came for our INVITE: its route set and target are the ones that hold (section 13.2.2.4)."""
        self.route_set = parts.record_routes(response)[:MAX_ROUTES][::-1]
        self.refresh(response)
        self.confirmed = True

    def refresh(self, message: SipRequest | SipResponse) -> None:
        """A target refresh (INVITE, UPDATE and their 2xx) moves the remote target; the route set never changes."""
        self.remote_target = parts.contact_uri(message) or self.remote_target

    def admit(self, number: int) -> bool:
        """Take up a request's CSeq number. False when it is out of order: answer 500 (section 12.2.2)."""
        if self.remote_seq is not None and number < self.remote_seq:
            return False
        self.remote_seq = number
        return True

    def request(self, method: str, *, number: int | None = None) -> SipRequest:
        """A request within the dialog, without Via, Contact and body (section 12.2.1.1).

        `number` is given for ACK alone (that of the INVITE); else the sequence goes up by one.
        """
        if number is None:
            self.local_seq = number = self.local_seq + 1
        uri, routes = self._path()
        request = SipRequest(method, parse_uri(uri), Headers())
        add = request.headers.add
        for route in routes:
            add("Route", route)
        add("Max-Forwards", "70")
        add("From", f"{self.local};tag={self.local_tag}")
        add("To", f"{self.remote};tag={self.remote_tag}" if self.remote_tag else self.remote)
        add("Call-ID", self.call_id)
        add("CSeq", f"{number} {method}")
        return request

    def _path(self) -> tuple[str, list[str]]:
        """Request-URI and Route values: loose routing, or strict where the first hop lacks `lr`."""
        if not self.route_set:
            return self.remote_target, []
        first = self.route_set[0]
        if parts.is_loose(first):
            return self.remote_target, list(self.route_set)
        return parts.strict_uri(first), [*self.route_set[1:], f"<{self.remote_target}>"]

    @property
    def next_hop(self) -> str:
        """The URI where requests go first."""
        return parts.route_uri(self.route_set[0]) if self.route_set else self.remote_target

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Dialog:
        """Raises `SnapshotError` when `state` is not what `to_dict` gave."""
        texts = ("call_id", "local_tag", "remote_tag", "local", "remote", "remote_target")
        routes, remote_seq, local_seq = (
            state.get("route_set"),
            state.get("remote_seq"),
            state.get("local_seq"),
        )
        if (
            not all(isinstance(state.get(name), str) for name in texts)
            or not isinstance(routes, list)
            or len(routes) > MAX_ROUTES
            or not all(isinstance(route, str) for route in routes)
            or type(local_seq) is not int
            or not 0 <= local_seq <= MAX_SEQUENCE
            or (remote_seq is not None and type(remote_seq) is not int)
            or not all(type(state.get(name)) is bool for name in ("secure", "confirmed"))
        ):
            raise SnapshotError("not a snapshot of a SIP dialog")
        return cls(**{name: state[name] for name in cls.__slots__} | {"route_set": list(routes)})
