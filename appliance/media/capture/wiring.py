"""Who hears whom, where each participant receives and under which key: tables by slot, and how they change."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.media.capture.clock import StepClock
from appliance.media.capture.leg import Leg
from appliance.media.capture.session import MediaSession, OpenTrack, RemoteRequest
from appliance.media.rtp.receive import source_key
from appliance.media.rtp.rollover import RolloverStore
from appliance.media.rtp.send import NAME, socket_address
from appliance.media.rtp.srtp import SrtpSender, check_key

BURST = 128
"""Packets of one participant passed on in 200 ms: more is no voice, and may be a circle."""
STALE_NS = 1_000_000_000
"""How long packets from where a participant was before its address changed are not followed."""
MAX_KEYS = 16  # SRTP keys towards one participant in one call


def addresses(remote: RemoteRequest, family: int) -> tuple[bytes, bytes]:
    """Where RTP and RTCP go, in the kernel's form. RemoteAddressError."""
    rtp = socket_address(remote.host, remote.rtp_port, family, "tracks.remote")
    rtcp = socket_address(remote.host, remote.rtcp_port, family, "tracks.remote")
    return rtp, rtcp if rtp else b""


def check_remote(remote: RemoteRequest, address: str) -> None:
    """RemoteAddressError, SrtpKeyError: what is asked for cannot be done from this local address."""
    addresses(remote, socket.AF_INET6 if ":" in address else socket.AF_INET)
    if remote.srtp is not None:
        check_key(*remote.srtp)


class Wiring:
    """See the module. Slots are the intake's."""

    def __init__(self, clock: StepClock, rollovers: RolloverStore | None) -> None:
        self._clock = clock
        self._rollovers = rollovers
        self.legs: dict[int, Leg] = {}
        self._latest_ns = 0  # the highest of `since_ns`
        self._extra: dict[int, list[int]] = {}  # who else hears a slot
        self._sized(64)

    def _sized(self, slots: int) -> None:
        for name, dtype, fill, width in (
            ("listener", np.intp, -1, 0),
            ("_proven", np.bool_, 0, 0),
            ("_said", np.uint64, 0, 0),
            ("_toward", np.uint64, 0, 0),
            ("_addressed", np.bool_, 0, 0),
            ("_names", np.uint8, 0, NAME),
            ("_name_len", np.uint32, 0, 0),
            ("_fd", np.intp, -1, 0),
            ("_mode", np.uint8, 0, 0),
            ("_shift", np.uint16, 0, 0),
            ("_shift_ssrc", np.uint32, 0, 0),
            ("_shift_edge", np.uint16, 0, 0),
            ("_last_ssrc", np.uint32, 0, 0),
            ("_last_seq", np.uint16, 0, 0),
            ("_last_ts", np.uint32, 0, 0),
            ("last_second", np.uint8, 0, 0),
            ("last_ns", np.int64, 0, 0),
            ("_budget", np.int64, BURST, 0),
            ("sent", np.int64, 0, 0),
            ("since_ns", np.int64, 0, 0),
        ):
            table: NDArray[Any] = np.full((slots, width) if width else slots, fill, dtype)
            if (old := getattr(self, name, None)) is not None:
                table[: len(old)] = old
            setattr(self, name, table)

    listener: NDArray[np.intp]
    _proven: NDArray[np.bool_]
    _said: NDArray[np.uint64]
    _toward: NDArray[np.uint64]
    _addressed: NDArray[np.bool_]
    _names: NDArray[np.uint8]
    _name_len: NDArray[np.uint32]
    _fd: NDArray[np.intp]
    _mode: NDArray[np.uint8]
    _shift: NDArray[np.uint16]
    _shift_ssrc: NDArray[np.uint32]
    _shift_edge: NDArray[np.uint16]
    _last_ssrc: NDArray[np.uint32]
    _last_seq: NDArray[np.uint16]
    _last_ts: NDArray[np.uint32]
    last_second: NDArray[np.uint8]
    last_ns: NDArray[np.int64]
    _budget: NDArray[np.int64]
    sent: NDArray[np.int64]
    since_ns: NDArray[np.int64]

    # participants

    def open(self, slots: int, session: MediaSession, opened: OpenTrack) -> None:
        """A participant's track has got a slot, of `slots` there are."""
        if slots > len(self.listener):
            self._sized(slots)
        slot = opened.slot
        for table in (self._toward, self._said, self._name_len, self.last_ns, self.sent):
            table[slot] = 0
        self._budget[slot] = BURST
        # What waited in a socket while no worker was there is recorded, and too old to be heard.
        self.since_ns[slot] = self._clock.wall() if opened.request.port else 0
        self._latest_ns = max(self._latest_ns, int(self.since_ns[slot]))
        self._fd[slot] = opened.pair.rtp.fileno()
        self._proven[slot] = opened.receiver is not None
        if opened.request.remote is not None:
            self.change(session, opened, resume=bool(opened.request.port))

    def _sender(self, opened: OpenTrack, remote: RemoteRequest) -> SrtpSender | None:
        """What encrypts for a participant under the key that is asked for: the same one where the key comes back, for a
        key must never be begun with twice."""
        if remote.srtp is None:
            return None
        leg = self.legs.get(opened.slot)
        known = leg.senders.get(remote.srtp) if leg is not None else None
        return known or SrtpSender(*remote.srtp, self._rollovers)

    def change(self, session: MediaSession, opened: OpenTrack, *, resume: bool = False) -> None:
        """Takes over where the participant receives, which `check_remote` has found good.

        `resume`: the call goes on after a restart of this worker.
        """
        slot, remote = opened.slot, opened.request.remote
        self._proven[slot] = opened.receiver is not None
        said, rtcp, sender = b"", b"", None
        if remote is not None:
            said, rtcp = addresses(remote, opened.pair.rtp.family)
            sender = self._sender(opened, remote)
        leg = self.legs.get(slot)
        if leg is None:
            if remote is None:
                return
            leg = self.legs[slot] = Leg(slot, session, opened)
        leg.opened = opened
        if remote is not None and remote.srtp is not None and sender is not None:
            if remote.srtp not in leg.senders and resume:
                sender.resume_known()
            leg.senders[remote.srtp] = sender
            while len(leg.senders) > MAX_KEYS:
                leg.senders.pop(next(iter(leg.senders))).close()
        if sender is not leg.sender:
            leg.sender = sender
            leg.streams.clear()
        if said and said != leg.said_name:
            if leg.said_name:
                leg.stale_key = int(self._toward[slot])
                leg.stale_ns = self._clock.wall() + STALE_NS
            leg.said_name = said
            self._said[slot] = opened.track.said = source_key(said)
            self.aim(slot, said)
            leg.rtcp_name = rtcp
        self._addressed[slot] = bool(said)
        if not said:
            self._name_len[slot] = 0
        elif not self._name_len[slot]:
            self.aim(slot, leg.said_name)
            leg.rtcp_name = rtcp

    def wire(self, session: MediaSession) -> None:
        """Takes over who hears whom."""
        slots = {number: opened.slot for number, opened in session.tracks.items()}
        for slot in slots.values():
            self.unwire(slot)
        for opened in session.tracks.values():
            source = slots.get(-1 if opened.request.hears is None else opened.request.hears)
            if source is None or opened.request.remote is None:
                continue
            if self.listener[source] < 0:
                self.listener[source] = opened.slot
            else:
                self._extra.setdefault(source, []).append(opened.slot)

    def stepped(self, step_ns: int) -> None:
        """The wall clock was set by so much: what is remembered of its times goes along."""
        for table in (self.since_ns, self.last_ns):
            table[table > 0] += step_ns
        self._latest_ns = int(self.since_ns.max())
        for leg in self.legs.values():
            leg.stale_ns += step_ns

    def unwire(self, slot: int) -> None:
        """Nobody hears this participant any more."""
        self.listener[slot] = -1
        self._extra.pop(slot, None)

    def move(self, slots: Iterable[int], session: MediaSession) -> None:
        """These participants are in another session now."""
        for slot in slots:
            if (leg := self.legs.get(slot)) is not None:
                leg.session = session

    def close(self, slot: int) -> None:
        """The slot is free again."""
        self.unwire(slot)
        self._addressed[slot] = self._proven[slot] = False
        self._name_len[slot] = 0
        self._mode[slot] = 0
        leg = self.legs.pop(slot, None)
        if leg is not None:
            for sender in leg.senders.values():
                sender.close()

    def hearers(self, slot: int) -> list[Leg]:
        """Who hears a participant."""
        first = int(self.listener[slot])
        if first < 0:
            return []
        return [self.legs[hearer] for hearer in (first, *self._extra.get(slot, ()))]

    def heard(self, slot: int) -> bool:
        return bool(self.listener[slot] >= 0)

    def name(self, slot: int) -> bytes:
        """Where a participant receives now; empty: nowhere."""
        return self._names[slot, : self._name_len[slot]].tobytes()

    def aim(self, slot: int, name: bytes) -> None:
        self._names[slot, : len(name)] = np.frombuffer(name, np.uint8)
        self._name_len[slot] = len(name)
        self._toward[slot] = source_key(name)
