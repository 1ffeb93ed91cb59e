"""The four transaction state machines of RFC 3261 section 17, as amended by RFC 6026.

A machine knows states and timers only. What it wants done it asks of its `Host` (the transaction layer): put bytes on
the wire, set a timer, pass a message up, forget it. Retransmissions are absorbed here and never seen above.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Protocol

from appliance.media.sip.flow import Target
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.timers import TimerValues


class State(enum.StrEnum):
    CALLING = "calling"  # client INVITE
    TRYING = "trying"  # non-INVITE
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"  # INVITE with 2xx, RFC 6026
    COMPLETED = "completed"
    CONFIRMED = "confirmed"  # server INVITE after the ACK to a failure
    TERMINATED = "terminated"


class Failure(enum.StrEnum):
    TIMEOUT = "timeout"  # timers B, F: as if 408
    TRANSPORT = "transport"  # as if 503


class Host(Protocol):
    """What a machine asks of its layer."""

    timers: TimerValues

    def send(self, transaction: ClientTransaction | ServerTransaction, data: bytes) -> None: ...
    def set_timer(
        self, transaction: ClientTransaction | ServerTransaction, name: str, when: float
    ) -> None: ...
    def cancel_timers(self, transaction: ClientTransaction | ServerTransaction, *names: str) -> None: ...
    def deliver(self, transaction: ClientTransaction, response: SipResponse, now: float) -> None: ...
    def failed(self, transaction: ClientTransaction, failure: Failure, now: float) -> None: ...
    def forget(self, transaction: ClientTransaction | ServerTransaction) -> None: ...


class ClientTransaction:
    """A request of ours: sections 17.1.1 (INVITE, with RFC 6026, section 7.2) and 17.1.2 (all others).

    `targets` are tried in turn as sending fails; `render` gives the request's bytes for one of them.
    """

    timer_names: ClassVar[tuple[str, ...]] = ("A", "B", "D", "E", "F", "K", "M")

    def __init__(self, host: Host, key: str, request: SipRequest, targets: list[Target]) -> None:
        self.host = host
        self.key = key
        self.request = request
        self.targets = targets
        self.attempt = 0
        self.invite = request.method == "INVITE"
        self.state = State.CALLING if self.invite else State.TRYING
        self.data = b""  # the request as rendered for the present target
        self.ack = b""  # the ACK to a failure, for repeats
        self._interval = host.timers.t1

    @property
    def target(self) -> Target:
        return self.targets[self.attempt]

    @property
    def reliable(self) -> bool:
        return self.target.transport.reliable

    def start(self, now: float) -> None:
        """Send for the first time to the present target."""
        timers = self.host.timers
        self._interval = timers.t1
        self.host.send(self, self.data)
        if not self.reliable:
            self.host.set_timer(self, "A" if self.invite else "E", now + timers.t1)
        self.host.set_timer(self, "B" if self.invite else "F", now + timers.timeout)

    def receive(self, response: SipResponse, ack: bytes, now: float) -> None:
        """A response matched. `ack` is what acknowledges it, where it is a failure of an INVITE."""
        if self.invite:
            self._receive_invite(response, ack, now)
        else:
            self._receive_other(response, now)

    def _receive_invite(self, response: SipResponse, ack: bytes, now: float) -> None:
        host, status = self.host, response.status
        if self.state in (State.CALLING, State.PROCEEDING):
            host.cancel_timers(self, "A", "B")
            if status < 200:
                self.state = State.PROCEEDING
            elif status < 300:
                self.state = State.ACCEPTED
                host.set_timer(self, "M", now + host.timers.timeout)
            else:
                self.state = State.COMPLETED
                self.ack = ack
                host.send(self, ack)
                host.set_timer(self, "D", now + host.timers.d(self.reliable))
            host.deliver(self, response, now)
        elif self.state is State.ACCEPTED and 200 <= status < 300:
            host.deliver(self, response, now)  # a repeat, or another fork: the user agent tells them apart
        elif self.state is State.COMPLETED and status >= 300:
            host.send(self, self.ack)

    def _receive_other(self, response: SipResponse, now: float) -> None:
        host = self.host
        if self.state not in (State.TRYING, State.PROCEEDING):
            return
        if response.status < 200:
            self.state = State.PROCEEDING
        else:
            self.state = State.COMPLETED
            host.cancel_timers(self, "E", "F")
            host.set_timer(self, "K", now + host.timers.k(self.reliable))
        host.deliver(self, response, now)

    def timer(self, name: str, now: float) -> None:
        host = self.host
        if name == "A":
            self._interval *= 2
            host.send(self, self.data)
            host.set_timer(self, "A", now + self._interval)
        elif name == "E":
            t2 = host.timers.t2
            self._interval = t2 if self.state is State.PROCEEDING else min(2 * self._interval, t2)
            host.send(self, self.data)
            host.set_timer(self, "E", now + self._interval)
        elif name in ("B", "F"):
            host.failed(self, Failure.TIMEOUT, now)
            self._end()
        else:  # D, K, M
            self._end()

    def transport_failed(self, now: float) -> bool:
        """Sending failed. Returns True when there is another target: render for it and `start` again."""
        if self.state in (State.CALLING, State.TRYING) and self.attempt + 1 < len(self.targets):
            self.attempt += 1
            self.host.cancel_timers(self, *self.timer_names)
            return True
        if self.state in (State.CALLING, State.TRYING, State.PROCEEDING):
            self.host.failed(self, Failure.TRANSPORT, now)
            self._end()
        elif self.state is State.COMPLETED:
            self._end()  # the ACK to a failure is lost: nobody above needs to know
        return False

    def _end(self) -> None:
        self.state = State.TERMINATED
        self.host.cancel_timers(self, *self.timer_names)
        self.host.forget(self)


class ServerTransaction:
    """A request of theirs: sections 17.2.1 (INVITE, with RFC 6026, section 7.1) and 17.2.2 (all others)."""

    timer_names: ClassVar[tuple[str, ...]] = ("100", "G", "H", "I", "J", "L")

    def __init__(self, host: Host, key: str, request: SipRequest, target: Target, trying: bytes) -> None:
        self.host = host
        self.key = key
        self.request = request
        self.target = target
        self.invite = request.method == "INVITE"
        self.state = State.PROCEEDING if self.invite else State.TRYING
        self.to_tag = ""  # of the final response, for matching the ACK of RFC 2543 peers
        self._last = b""
        self._trying = trying
        self._interval = host.timers.t1

    @property
    def reliable(self) -> bool:
        return self.target.transport.reliable

    @property
    def answered(self) -> bool:
        """A final response has been given."""
        return self.state not in (State.TRYING, State.PROCEEDING)

    def start(self, now: float) -> None:
        if self.invite:
            self.host.set_timer(self, "100", now + self.host.timers.trying)

    def repeated(self) -> None:
        """The request came again."""
        if self._last and self.state in (State.PROCEEDING, State.COMPLETED):
            self.host.send(self, self._last)
        # In ACCEPTED the user agent repeats its 2xx by its own timer; in TRYING and CONFIRMED there is nothing to say.

    def respond(self, status: int, data: bytes, now: float) -> bool:
        """The user agent answers. Returns False where the state does not allow it."""
        host, timers = self.host, self.host.timers
        if self.state is State.ACCEPTED and 200 <= status < 300:
            host.send(self, data)  # a repeated 2xx
            return True
        if self.state not in (State.TRYING, State.PROCEEDING):
            return False
        host.cancel_timers(self, "100")
        self._last = data
        host.send(self, data)
        if status < 200:
            self.state = State.PROCEEDING
        elif not self.invite:
            self._complete("J", timers.j(self.reliable), now)
        elif status < 300:
            self.state = State.ACCEPTED
            host.set_timer(self, "L", now + timers.timeout)
        else:
            self.state = State.COMPLETED
            if not self.reliable:
                host.set_timer(self, "G", now + timers.t1)
            host.set_timer(self, "H", now + timers.timeout)
        return True

    def _complete(self, name: str, wait: float, now: float) -> None:
        self.state = State.COMPLETED
        if wait > 0:
            self.host.set_timer(self, name, now + wait)
        else:
            self._end()

    def acked(self, now: float) -> bool:
        """An ACK matched. Returns True when it belongs to a 2xx and is for the user agent."""
        if self.state is State.ACCEPTED:
            return True
        if self.state is State.COMPLETED and self.invite:
            self.host.cancel_timers(self, "G", "H")
            wait = self.host.timers.i(self.reliable)
            if wait > 0:
                self.state = State.CONFIRMED
                self.host.set_timer(self, "I", now + wait)
            else:
                self._end()
        return False

    def timer(self, name: str, now: float) -> None:
        host = self.host
        if name == "100":
            if self.state is State.PROCEEDING and not self._last:
                self._last = self._trying
                host.send(self, self._trying)
        elif name == "G":
            self._interval = min(2 * self._interval, host.timers.t2)
            host.send(self, self._last)
            host.set_timer(self, "G", now + self._interval)
        else:  # H (no ACK to a failure: nobody above needs to know), I, J, L
            self._end()

    def discard(self) -> None:
        """Make room: only what absorbs late repeats is lost."""
        self._end()

    def _end(self) -> None:
        self.state = State.TERMINATED
        self.host.cancel_timers(self, *self.timer_names)
        self.host.forget(self)
