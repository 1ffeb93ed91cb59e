"""Receiving with real sockets: times, sources, truncation, loss, full arenas, ports."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from appliance.media.rtp.ports import (
    AddressError,
    PortPool,
    PortsExhaustedError,
    PortTakenError,
)
from appliance.media.rtp.receive import BATCH, CELL, Arena, prepare_socket

Pair = tuple[socket.socket, socket.socket]
Make = Callable[..., Pair]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[socket.socket] = []

    def one(family: int = socket.AF_INET, buffer: int = 1 << 20) -> Pair:
        receiver, sender = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        made.extend((receiver, sender))
        prepare_socket(receiver, buffer)
        receiver.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        sender.connect(receiver.getsockname())
        return receiver, sender

    yield one
    for sock in made:
        sock.close()


def test_rows_of_many_sockets_lie_one_after_another(make: Make) -> None:
    pairs = [make() for _ in range(5)]
    begin = time.time_ns()
    for number, (_, sender) in enumerate(pairs):
        for packet in range(number):
            sender.send(bytes([number, packet]))
    arena = Arena(2 * BATCH)
    counts, served = arena.drain([receiver.fileno() for receiver, _ in pairs])
    assert (counts, served, arena.used) == ([0, 1, 2, 3, 4], 5, 10)
    content = [bytes(arena.cells[row, : arena.lengths[row]]) for row in range(10)]
    assert content == [bytes([number, packet]) for number in range(5) for packet in range(number)]
    stamps = arena.arrivals(0, 10, 0)
    assert begin <= stamps.min() and stamps.max() <= time.time_ns()
    assert len(set(arena.sources(0, 10).tolist())) == 4


def test_ipv6_sources_are_told_apart(make: Make) -> None:
    try:
        receiver, sender = make(socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.sendto(b"x", receiver.getsockname())
        sender.send(b"y")
        sender.send(b"z")
        arena = Arena(2 * BATCH)
        arena.drain([receiver.fileno()])
        first, second, third = arena.sources(0, 3).tolist()
        assert first != second == third


def test_more_than_a_batch_and_more_than_the_arena(make: Make) -> None:
    receiver, sender = make()
    for number in range(300):
        sender.send(number.to_bytes(2, "big"))
    arena = Arena(4 * BATCH)
    got: list[int] = []
    for _ in range(10):
        counts, served = arena.drain([receiver.fileno()])
        assert served == 1 and arena.used == sum(counts)
        got += [int.from_bytes(arena.cells[row, :2], "big") for row in range(arena.used)]
        arena.rewind()
    assert got == list(range(300))


def test_sockets_that_find_the_arena_full_are_not_served(make: Make) -> None:
    pairs = [make() for _ in range(3)]
    for _, sender in pairs:
        for _ in range(100):
            sender.send(b"x")
    arena = Arena(3 * BATCH)
    counts, served = arena.drain([receiver.fileno() for receiver, _ in pairs])
    assert served < 3 and arena.full
    total = sum(counts)
    while served < 3 or counts[-1]:
        arena.rewind()
        counts, more = arena.drain([receiver.fileno() for receiver, _ in pairs[min(served, 2) :]])
        served += more
        total += sum(counts)
        if not sum(counts):
            break
    for receiver, _ in pairs:
        arena.rewind()
        total += sum(arena.drain([receiver.fileno()])[0])
    assert total == 300


def test_one_socket_cannot_take_the_whole_tick(make: Make) -> None:
    receiver, sender = make(buffer=4 << 20)
    for _ in range(1000):
        sender.send(b"x")
    arena = Arena(4096)
    counts, _ = arena.drain([receiver.fileno()], 2 * BATCH)
    assert counts[0] <= 3 * BATCH


def test_a_datagram_longer_than_its_cell_is_told(make: Make) -> None:
    receiver, sender = make()
    for size in (CELL - 1, CELL, CELL + 1, 3000):
        sender.send(bytes(size))
    arena = Arena(2 * BATCH)
    arena.drain([receiver.fileno()])
    assert arena.truncated(0, 4).tolist() == [False, False, True, True]
    assert arena.lengths[:4].tolist() == [CELL - 1, CELL, CELL, CELL]


def test_the_kernels_loss_is_counted(make: Make) -> None:
    receiver, sender = make(buffer=4096)
    for _ in range(200):
        sender.send(bytes(300))
    arena = Arena(4096)
    kept = arena.drain([receiver.fileno()])[0][0]
    sender.send(b"after")
    arena.drain([receiver.fileno()])
    assert arena.overflows(0, arena.used)[-1] == (kept, 200 - kept)


def test_a_rewound_arena_holds_nothing_of_before(make: Make) -> None:
    receiver, sender = make(buffer=4096)
    arena = Arena(4096)
    for _ in range(200):
        sender.send(bytes(300))
    arena.drain([receiver.fileno()])
    arena.rewind()
    other, sends = make()
    sends.send(b"x")
    arena.drain([other.fileno()])
    assert arena.overflows(0, 1) == []
    assert arena.sources(0, 1)[0] != 0


def test_a_socket_that_cannot_be_read_is_told_and_others_are_served(make: Make) -> None:
    receiver, sender = make()
    sender.send(b"x")
    read, write = os.pipe()
    try:
        arena = Arena(2 * BATCH)
        counts, served = arena.drain([read, receiver.fileno()])
        assert (counts, served) == ([0, 1], 2)
        assert [fd for fd, _ in arena.failures] == [read]
    finally:
        os.close(read)
        os.close(write)


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """A range of three pairs, free just now."""
    for first in range(40000 + os.getpid() % 500 * 6, 60000, 6):
        held = []
        try:
            for port in range(first, first + 6):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                held.append(sock)
                sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
        yield first, first + 6
        return


def test_pairs_are_even_and_odd_and_run_out(ports: tuple[int, int]) -> None:
    pool = PortPool(*ports, 0)
    pairs = [pool.open("127.0.0.1") for _ in range(3)]
    assert [(pair.port, pair.rtcp_port) for pair in pairs] == [(p, p + 1) for p in range(*ports, 2)]
    with pytest.raises(PortsExhaustedError):
        pool.open("127.0.0.1")
    for pair in pairs:
        pool.give_back(pair, 0)
    pool.cool(0)
    assert pool.free == 3
    pool.close()


def test_a_port_taken_by_others_is_passed_over(ports: tuple[int, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", ports[0] + 1))
        pool = PortPool(*ports, 0)
        pair = pool.open("127.0.0.1")
        assert pair.port == ports[0] + 2
        with pytest.raises(PortTakenError):
            pool.open("127.0.0.1", port=ports[0])
        mux = pool.open("127.0.0.1", mux=True, port=ports[0] + 4)
        assert (mux.rtcp_port, mux.rtcp) == (mux.port, None)
        for used in (pair, mux):
            pool.give_back(used, 0)
        pool.close()


def test_a_pair_cools_down_before_it_is_used_again(ports: tuple[int, int]) -> None:
    told: list[str] = []
    pool = PortPool(
        ports[0], ports[0] + 2, 100, opened=lambda name, sock: told.append(name), closing=told.append
    )
    pair = pool.open("127.0.0.1")
    pool.give_back(pair, now_ns=1000)
    pool.cool(1099)
    assert pool.cooling == [pair] and pair.rtp.fileno() >= 0
    pool.cool(1100)
    assert pool.cooling == [] and pair.rtp.fileno() == -1
    names = [f"rtp-{ports[0]}", f"rtcp-{ports[0] + 1}"]
    assert told == names + names


def test_kept_sockets_are_taken_up_or_let_go(ports: tuple[int, int]) -> None:
    def bound(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", port))
        return sock

    first = ports[0]
    gone: list[str] = []
    pool = PortPool(*ports, 0, closing=gone.append)
    pool.adopt(
        {
            f"rtp-{first}": bound(first),
            f"rtcp-{first + 1}": bound(first + 1),
            f"rtp-{first + 2}": bound(first + 2),
            f"rtcp-{first + 5}": bound(first + 5),  # its RTP socket is not there
            "rtp-9": bound(0),
            "other": bound(0),
        }
    )
    assert pool.stored == [first, first + 2]
    pair = pool.open("127.0.0.1", port=first)
    assert (pair.port, pair.rtcp_port) == (first, first + 1)
    with pytest.raises(PortTakenError):
        pool.open("127.0.0.1", port=first)
    fresh = pool.open("127.0.0.1")
    assert fresh.port == first + 4  # the stored one still waits for its call
    assert pool.release_stored(0) == 1
    pool.give_back(pair, 0)
    pool.give_back(fresh, 0)
    pool.cool(0)
    assert pool.free == 3
    assert {"rtp-9", "other", f"rtcp-{first + 5}", f"rtp-{first + 2}"} <= set(gone)
    pool.close()


def test_an_address_that_is_not_ours(ports: tuple[int, int]) -> None:
    pool = PortPool(*ports, 0)
    with pytest.raises(AddressError):
        pool.open("192.0.2.1")
    assert pool.free == 3


def test_only_who_asked_for_a_port_may_take_it_again_while_it_cools_down(ports: tuple[int, int]) -> None:
    told: list[str] = []
    pool = PortPool(*ports, 1000, opened=lambda name, sock: told.append(name), closing=told.append)
    pair = pool.open("127.0.0.1", port=ports[0])
    pool.give_back(pair, 0)
    with pytest.raises(PortsExhaustedError):
        for _ in range(3):
            chance = pool.open("127.0.0.1")
    assert pool.open("127.0.0.1", port=ports[0]) is pair and pool.cooling == []
    with pytest.raises(PortTakenError):
        pool.open("127.0.0.1", port=ports[0])
    pool.give_back(chance, 0)  # the next who comes by chance gets it, and no straggler's sender
    with pytest.raises(PortTakenError):
        pool.open("127.0.0.1", port=chance.port)
    pool.cool(1000)
    assert told.count(f"rtp-{ports[0]}") == 1 and pair.rtp.fileno() >= 0
    pair.close()
    pool.close()


@pytest.mark.parametrize("cooling", [False, True])
def test_kept_sockets_that_cannot_be_completed_stay_kept(ports: tuple[int, int], cooling: bool) -> None:
    kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    kept.bind(("127.0.0.1", ports[0]))
    pool = PortPool(*ports, 0)
    pool.adopt({f"rtp-{ports[0]}": kept})
    if cooling:
        pool.release_stored(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", ports[0] + 1))
        with pytest.raises(PortTakenError):
            pool.open("127.0.0.1", port=ports[0])
    pair = pool.open("127.0.0.1", port=ports[0])
    assert pair.rtp is kept and pair.rtcp_port == ports[0] + 1
    pool.give_back(pair, 0)
    pool.cool(0)
    assert pool.free == 3
    pool.close()
