"""Sending: batches, errors of the kernel, and where nothing is ever sent."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from pylibsrtp import Policy, Session

from appliance.media.rtp.receive import Arena, prepare_socket, source_key
from appliance.media.rtp.rollover import RolloverStore
from appliance.media.rtp.send import NAME, Outgoing, sendable, socket_address
from appliance.media.rtp.srtp import SrtpKeyError, SrtpSender

SUITE = "AES_CM_128_HMAC_SHA1_80"
PROFILES = {
    SUITE: (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}


def fill(out: Outgoing, packets: list[bytes], names: list[bytes]) -> np.ndarray:  # type: ignore[type-arg]
    table = np.zeros((len(names), NAME), np.uint8)
    for row, (packet, name) in enumerate(zip(packets, names, strict=True)):
        out.cells[row, : len(packet)] = np.frombuffer(packet, np.uint8)
        table[row, : len(name)] = np.frombuffer(name, np.uint8)
    where = np.uint64(table.ctypes.data) + np.arange(len(names), dtype=np.uint64) * np.uint64(NAME)
    lengths = np.array([len(packet) for packet in packets], np.uint32)
    out.fill(0, None, lengths, where, np.array([len(name) for name in names], np.uint32))
    return table


def test_what_the_kernel_does_not_take_is_counted_and_the_rest_goes_on() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rx,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tx,
    ):
        rx.bind(("127.0.0.1", 0))
        rx.setblocking(False)
        good = socket_address("127.0.0.1", rx.getsockname()[1], socket.AF_INET)
        other = socket_address("::1", 9, socket.AF_INET6)  # of another family: refused each time
        out = Outgoing(16)
        table = fill(out, [b"a", b"b", b"c", b"d", b"e"], [good, other, good, other, good])
        assert out.send([tx.fileno()], [5]) == [2]
        assert [rx.recv(10) for _ in range(3)] == [b"a", b"c", b"e"]
        assert sum(out.errors.values()) == 2 and set(out.errors) <= {errno.EAFNOSUPPORT, errno.EINVAL}
        table = fill(out, [b"f", b"g"], [good, good])
        assert out.send([-1, tx.fileno()], [1, 1]) == [1, 0]
        assert rx.recv(10) == b"g" and out.errors[errno.EBADF] == 1
        del table


def test_an_error_that_waits_in_the_socket_costs_no_packet() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rx,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tx,
    ):
        tx.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: ICMP errors are told to whoever sends next
        tx.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            nobody = gone.getsockname()
        tx.sendto(b"x", nobody)
        rx.bind(("127.0.0.1", 0))
        rx.setblocking(False)
        good = socket_address("127.0.0.1", rx.getsockname()[1], socket.AF_INET)
        out = Outgoing(4)
        table = fill(out, [b"a", b"b"], [good, good])
        assert out.send([tx.fileno()], [2]) == [0]
        assert [rx.recv(10), rx.recv(10)] == [b"a", b"b"]
        del table


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_addresses_are_the_kernels(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as rx, socket.socket(family, socket.SOCK_DGRAM) as tx:
        for sock in (rx, tx):
            sock.bind((address, 0))
        prepare_socket(rx)
        tx.sendto(b"x" * 20, rx.getsockname()[:2])
        arena = Arena(128)
        arena.drain([rx.fileno()])
        name = socket_address(address, tx.getsockname()[1], family)
        assert arena.source_name(0) == name
        assert source_key(name) == int(arena.sources(0, 1)[0])
        assert sendable(name)


@pytest.mark.parametrize(
    "host, family, good",
    [
        ("192.0.2.1", socket.AF_INET, True),
        ("224.0.0.5", socket.AF_INET, False),
        ("255.255.255.255", socket.AF_INET, False),
        ("0.0.0.0", socket.AF_INET, False),
        ("2001:db8::1", socket.AF_INET6, True),
        ("ff02::1", socket.AF_INET6, False),
        ("::ffff:224.0.0.1", socket.AF_INET6, False),
        ("::ffff:192.0.2.1", socket.AF_INET6, True),
    ],
)
def test_forged_sources_are_not_answered(host: str, family: int, good: bool) -> None:
    raw = socket.inet_pton(family, host)
    head = struct.pack("=H", family) + struct.pack("!H", 4000)
    name = head + (raw + bytes(8) if family == socket.AF_INET else bytes(4) + raw + bytes(4))
    assert sendable(name) is good
    assert not sendable(name[:2] + b"\0\0" + name[4:])


def packet(index: int, ssrc: int = 9) -> bytes:
    return struct.pack(">BBHII", 0x80, 0, index & 0xFFFF, index * 160 & 0xFFFFFFFF, ssrc) + b"voice" * 8


@pytest.mark.parametrize("suite", PROFILES)
def test_a_long_stream_that_begins_in_the_middle_goes_over_the_edge_and_over_a_restart(
    tmp_path: Path, suite: str
) -> None:
    profile, length = PROFILES[suite]
    key = os.urandom(length)
    rx = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
    store = RolloverStore(tmp_path / "r", 8)
    sender = SrtpSender(suite, key, store)
    report = struct.pack(">BBHI", 0x80, 201, 1, 9)
    sent = set()
    for index in range(60000, 60000 + 3 * 65536, 1000):
        data = sender.protect(packet(index))
        assert data is not None and rx.unprotect(data) == packet(index)
        sent.add(data)
    for _ in range(3):
        assert rx.unprotect_rtcp(sender.protect_rtcp(report)) == report
    store.close()
    # The worker dies and comes back; its receiver has noticed nothing.
    store = RolloverStore(tmp_path / "r", 8)
    again = SrtpSender(suite, key, store)
    assert again.resume_known() == 1
    last = index
    for index in range(last + 1, last + 70000, 5000):
        data = again.protect(packet(index))
        assert data is not None and rx.unprotect(data) == packet(index)
    assert rx.unprotect_rtcp(again.protect_rtcp(report)) == report
    assert again.protect(packet(index)) is None  # no index twice
    again.close()
    store.close()
    store = RolloverStore(tmp_path / "r", 8)
    assert store.find(key) == {}
    store.close()


def test_what_comes_from_before_the_beginning_is_not_sent_and_does_no_harm() -> None:
    key = os.urandom(30)
    rx = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND))
    sender = SrtpSender(SUITE, key)
    assert rx.unprotect(sender.protect(packet(2))) == packet(2)
    assert sender.protect(packet(65535)) is None
    assert rx.unprotect(sender.protect(packet(3))) == packet(3)


def test_bounds_and_keys_that_are_none() -> None:
    sender = SrtpSender(SUITE, os.urandom(30))
    done = [sender.protect(packet(1, ssrc)) is not None for ssrc in range(100)]
    assert sum(done) == 64
    assert sender.protect(packet(2, 5)) is not None
    assert sender.protect_rtcp(b"\x80\xc8\0\0") is None
    for suite, size in (("NULL", 30), (SUITE, 29), ("AEAD_AES_256_GCM", 30)):
        with pytest.raises(SrtpKeyError):
            SrtpSender(suite, bytes(size))
