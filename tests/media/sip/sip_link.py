"""A network in memory, with a clock of its own: endpoints, and what happens to datagrams between them."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any, TypeVar

from appliance.media.sip.endpoint import EndpointConfig, SipEndpoint
from appliance.media.sip.events import Event
from appliance.media.sip.flow import Flow, Listener, Transmit, Transport
from appliance.media.sip.message import SipRequest, SipResponse, parse_message

E = TypeVar("E")
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
ANSWER = SDP.replace(b"4000", b"5000")


class Host:
    """One endpoint on the link. `handler` gets each event; all events are kept in `log`."""

    def __init__(self, link: Link, address: str, transport: Transport, config: dict[str, Any]) -> None:
        self.link = link
        self.address = (address, 5060)
        listeners = (Listener(transport, address, 5060),)
        self.endpoint = SipEndpoint(EndpointConfig(**{"listeners": listeners, "session_expires": 0} | config))
        self.log: list[Event] = []
        self.handler: Callable[[Event], None] = lambda event: None
        self.sent: list[SipRequest | SipResponse] = []
        self.dead = False

    @property
    def uri(self) -> str:
        return f"sip:{self.address[0]}:5060" + (f";transport={self.link.transport.lower()}")

    def pump(self) -> None:
        while events := self.endpoint.events():
            for event in events:
                self.log.append(event)
                self.handler(event)
        for transmit in self.endpoint.transmits():
            self.link.carry(self, transmit)

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.log if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        events = self.seen(kind)
        assert len(events) == 1, f"{len(events)} of {kind.__name__}"
        return events[0]

    def requests(self, method: str) -> list[SipRequest]:
        return [m for m in self.sent if isinstance(m, SipRequest) and m.method == method]

    def responses(self, status: int, method: str = "INVITE") -> list[SipResponse]:
        return [
            m
            for m in self.sent
            if isinstance(m, SipResponse) and (m.status, m.cseq.method) == (status, method)
        ]


class Link:
    """Carries messages between hosts with delay, loss, repetition and reordering, all seeded.

    `meddle` may change what is carried: it gets sender and message and returns whether it goes through.
    """

    def __init__(
        self,
        *,
        transport: Transport = Transport.UDP,
        seed: int = 0,
        loss: float = 0.0,
        repeat: float = 0.0,
        jitter: float = 0.0,
    ) -> None:
        self.now = 1000.0
        self.transport = transport
        self.loss, self.repeat, self.jitter = loss, repeat, jitter
        self.hosts: dict[str, Host] = {}
        self.meddle: Callable[[Host, SipRequest | SipResponse], bool] = lambda sender, message: True
        self._random = random.Random(seed)
        self._queue: list[tuple[float, int, Host, bytes, Flow]] = []
        self._serial = itertools.count()

    def host(self, address: str, **config: Any) -> Host:
        host = self.hosts[address] = Host(self, address, self.transport, config)
        return host

    def carry(self, sender: Host, transmit: Transmit) -> None:
        message = parse_message(transmit.data)
        sender.sent.append(message)
        target = self.hosts.get(transmit.target.host)
        if target is None or target.dead:
            if self.transport.reliable:
                sender.endpoint.transmit_failed(transmit.key, self.now)
                sender.pump()
            return
        if sender.dead or not self.meddle(sender, message):
            return
        flow = Flow(
            self.transport,
            target.address,
            sender.address,
            hash((target.address, sender.address)) if self.transport.reliable else None,
        )
        copies = 1 + (self._random.random() < self.repeat)
        for _ in range(copies):
            if self._random.random() >= self.loss:
                when = self.now + 0.01 + self._random.random() * self.jitter
                heapq.heappush(self._queue, (when, next(self._serial), target, transmit.data, flow))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Let time pass: deliver and fire timers in order, for `seconds` or until `until` holds."""
        end = self.now + seconds
        for host in self.hosts.values():
            host.pump()
        while until is None or not until():
            timers = [
                (t, h)
                for h in self.hosts.values()
                if not h.dead and (t := h.endpoint.next_timer()) is not None
            ]
            timer = min(timers, key=lambda pair: pair[0], default=None)
            message = self._queue[0][0] if self._queue else None
            nexts = [when for when in (timer[0] if timer else None, message) if when is not None]
            if not nexts or min(nexts) > end:
                self.now = end
                return
            self.now = max(self.now, min(nexts))
            if message is not None and message <= self.now:
                _, _, target, data, flow = heapq.heappop(self._queue)
                if not target.dead:
                    target.endpoint.receive(data, flow, self.now)
                    target.pump()
            elif timer is not None:
                timer[1].endpoint.handle_timeout(self.now)
                timer[1].pump()
