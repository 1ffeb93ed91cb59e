"""What each side of a call hears is what the other one sent, and the recording is the same."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from bridge_kit import Call, Phone
from capture_kit import EVENT, LOOPBACK, Box, rtp, tone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from appliance.media.audio.tones import Tone
from appliance.media.capture.commands import Close, Play, Update
from appliance.media.capture.exchange import PlayExistsError, TooManyPlaysError
from appliance.media.capture.playing import Sound
from appliance.media.capture.session import RelayOnlyError, RemoteRequest, SessionError, TrackRequest
from appliance.media.capture.track import RUN
from appliance.media.capture.wiring import BURST, STALE_NS
from appliance.media.rtp.send import RemoteAddressError

REPORT = struct.pack(">BBHIQIII", 0x80, 200, 6, 100, 1 << 32, 1600, 10, 1600)


@pytest.fixture
def call(box: Box) -> Iterator[Call]:
    found = Call(box)
    yield found
    found.close()


def noise(count: int) -> list[bytes]:
    return [os.urandom(160) for _ in range(count)]


def test_each_hears_the_other_byte_for_byte_and_so_does_the_recording(box: Box, call: Call) -> None:
    from_caller = call.caller.say(*noise(20))
    from_agent = call.agent.say(*noise(30))
    box.tick()
    assert [packet.raw for packet in call.agent.hears()] == from_caller
    assert [packet.raw for packet in call.caller.hears()] == from_agent
    assert (box.figures(call.session, 0).sent, box.figures(call.session, 1).sent) == (30, 20)
    content = box.close(call.session)
    assert [payload for _, _, payload in content.packets(0)] == [raw[12:] for raw in from_caller]
    assert [payload for _, _, payload in content.packets(1)] == [raw[12:] for raw in from_agent]
    counters = box.recorder.counters()
    assert (counters["packets_relayed"], counters["relay_failed"]) == (50, 0)
    assert 0 < counters["relay_p50_us"] <= counters["relay_p99_us"]


def test_a_pause_of_the_recording_and_a_hold_do_not_part_the_parties(box: Box, call: Call) -> None:
    call.caller.say(tone(1))
    box.recorder.pause(call.session)
    secret = call.caller.say(*noise(5))
    box.tick()
    assert [packet.raw for packet in call.agent.hears()][1:] == secret
    memory = box.recorder.intake.arena.cells.tobytes()
    assert not any(raw[12:] in memory for raw in secret)
    box.recorder.resume(call.session)
    call.caller.say(tone(3))
    box.tick()
    box.recorder.update(Update(call.session, (call.track(0, active=False),)))
    held = call.caller.say(tone(4))
    box.tick()
    assert [packet.raw for packet in call.agent.hears()][1:] == held
    content = box.close(call.session)
    assert [payload for _, _, payload in content.packets(0)] == [tone(1), tone(3)]
    assert box.recorder.counters()["packets_dropped"] == 6


def test_an_inactive_direction_is_not_relayed_when_signaling_says_so(box: Box, call: Call) -> None:
    box.recorder.update(Update(call.session, (call.track(1, hears=None),)))
    call.caller.say(tone(1))
    back = call.agent.say(tone(2))
    box.tick()
    assert call.agent.hears() == []
    assert [packet.raw for packet in call.caller.hears()] == back
    box.recorder.update(Update(call.session, (call.track(1, remote=None),)))
    call.caller.say(tone(1))
    box.tick()
    assert call.agent.hears() == []


def test_headers_with_sources_extension_and_padding_pass_as_they_are(box: Box, call: Call) -> None:
    odd = [
        struct.pack(">BBHIII", 0x81, 0, 0, 0, 100, 55) + tone(1),
        struct.pack(">BBHII", 0x90, 0, 1, 160, 100) + struct.pack(">HHI", 0xBEDE, 1, 7) + tone(2),
        struct.pack(">BBHII", 0xA0, 0, 2, 320, 100) + tone(3) + b"\0\0\0\4",
    ]
    call.caller.send(*odd)
    box.tick()
    assert [packet.raw for packet in call.agent.hears()] == odd
    assert [payload for _, _, payload in box.close(call.session).packets(0)] == [tone(1), tone(2), tone(3)]


def test_what_is_no_rtp_is_not_passed_on(box: Box, call: Call) -> None:
    call.caller.say(tone(0))
    box.tick()
    call.agent.hears()
    call.caller.send(b"", b"x", bytes(12), bytes(600), rtp(1)[:11], rtp(5, bytes(600)))
    box.tick()
    assert call.agent.hears() == []


def test_media_follows_the_participant_and_nobody_else(box: Box, call: Call) -> None:
    """Symmetric RTP: behind a NAT packets come from another port than the one that was said."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nat,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stray,
    ):
        for sock in (nat, stray):
            sock.bind((LOOPBACK, 0))
            sock.setblocking(False)
        call.caller.say(tone(1), sock=nat)
        back = call.agent.say(tone(2))
        box.tick()
        assert nat.recv(2048) == back[0]
        assert call.caller.hears() == []
        # A third address speaks between the participant's packets, one tick after the other: neither redirects it media,
        # nor is anything of it heard or recorded.
        call.agent.hears()
        for number in range(40):
            call.caller.say(tone(3), sock=nat)
            box.advance(10)
            stray.sendto(rtp(number, tone(9), ssrc=9), (LOOPBACK, call.caller.to))
            box.advance(10)
        back = call.agent.say(tone(4))
        box.tick()
        with pytest.raises(BlockingIOError):
            stray.recv(2048)
        assert nat.recv(2048) == back[0]
        assert {packet.ssrc for packet in call.agent.hears()} == {call.caller.ssrc}
        content = box.close(call.session)
        assert {ssrc for ssrc, _, _ in content.packets(0)} == {call.caller.ssrc}


def test_a_stranger_that_was_first_loses_the_place_to_the_participant(box: Box, call: Call) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stray:
        stray.bind((LOOPBACK, 0))
        stray.setblocking(False)
        stray.sendto(rtp(0, tone(9), ssrc=9), (LOOPBACK, call.caller.to))
        box.tick()
        for number in range(1, 2 * RUN):
            stray.sendto(rtp(number, tone(9), ssrc=9), (LOOPBACK, call.caller.to))
            call.caller.say(tone(3))
            box.advance(20)
        box.tick()
        call.agent.hears()
        back = call.agent.say(tone(4))
        box.tick()
        with pytest.raises(BlockingIOError):
            stray.recv(2048)
        assert [packet.raw for packet in call.caller.hears()][-1:] == back
        stray.sendto(rtp(50, tone(9), ssrc=9), (LOOPBACK, call.caller.to))
        call.caller.say(tone(3))
        box.tick()
        assert {packet.ssrc for packet in call.agent.hears()} == {call.caller.ssrc}


def test_a_new_address_holds_at_once_and_the_old_one_is_not_followed_back(box: Box, call: Call) -> None:
    call.caller.say(tone(1))
    box.tick()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as new:
        new.bind((LOOPBACK, 0))
        new.setblocking(False)
        remote = RemoteRequest(LOOPBACK, new.getsockname()[1], 9)
        box.recorder.update(Update(call.session, (call.track(0, remote=remote),)))
        call.caller.say(tone(1))  # still on its way from where it was
        back = call.agent.say(tone(2))
        box.tick()
        assert new.recv(2048) == back[0]
        assert call.caller.hears() == []
        # From the address that signaling has said packets are heard at once, whoever spoke before.
        call.agent.hears()
        new.sendto(rtp(0, tone(5), ssrc=300), (LOOPBACK, call.caller.to))
        box.tick()
        assert [packet.payload for packet in call.agent.hears()] == [tone(5)]
        # What goes on coming from the old one for long is where the participant is after all.
        box.advance(STALE_NS / 1e6 + 10)
        # Its packets carry the kernel's time, which the test cannot move: let the rule see them as late enough.
        box.recorder.exchange.relay.legs[0].stale_ns = 0
        call.caller.say(tone(1))
        box.tick()
        back = call.agent.say(tone(3))
        box.tick()
        assert [packet.raw for packet in call.caller.hears()] == back


def test_nothing_is_sent_where_nothing_is_to_be_sent(box: Box, call: Call) -> None:
    for remote in (RemoteRequest("0.0.0.0", 4000, 4001), RemoteRequest(LOOPBACK, 0, 0)):
        box.recorder.update(Update(call.session, (call.track(1, remote=remote),)))
        call.caller.say(tone(1))
        call.agent.say(tone(2))
        box.tick()
        assert call.agent.hears() == []
        call.agent.send(rtp(77, tone(2), ssrc=200))  # it speaks all the same: that is no wish to hear
        box.tick()
        call.caller.say(tone(1))
        box.tick()
        assert call.agent.hears() == []
    box.recorder.update(Update(call.session, (call.track(1),)))
    again = call.caller.say(tone(3))
    box.tick()
    assert [packet.raw for packet in call.agent.hears()] == again
    assert box.recorder.counters()["relay_failed"] == 0


@pytest.mark.parametrize(
    "host", ["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "::1", "example.org", "fe80::1%lo"]
)
def test_addresses_that_media_is_never_sent_to(box: Box, call: Call, host: str) -> None:
    before = call.track(1)
    with pytest.raises(RemoteAddressError) as error:
        box.recorder.update(Update(call.session, (call.track(1, remote=RemoteRequest(host, 4000, 4001)),)))
    assert host not in str(error.value) and host not in str(error.value.data)
    assert box.recorder.receiving.tracks[1][1].request == before


def test_a_port_that_nobody_listens_on_ends_nothing(box: Box, call: Call) -> None:
    call.agent.rtp.close()
    for _ in range(20):
        call.caller.say(tone(1))
        box.advance(10)
    assert len(box.close(call.session).packets(0)) == 20


def test_a_flood_is_not_passed_on(box: Box, call: Call) -> None:
    call.caller.say(*noise(BURST + 100))
    box.recorder.receiving.tick_fast()
    assert len(call.agent.hears()) == BURST
    assert box.recorder.counters()["relay_over_rate"] == 100
    box.tick()
    call.caller.say(tone(1))
    box.tick()
    assert len(call.agent.hears()) == 1


def test_ipv6(box: Box) -> None:
    call = Call(box, address="::1")
    sent, back = call.caller.say(*noise(3)), call.agent.say(*noise(3))
    box.tick()
    assert [packet.raw for packet in call.agent.hears()] == sent
    assert [packet.raw for packet in call.caller.hears()] == back
    call.close()


def test_two_can_hear_one(box: Box, call: Call) -> None:
    third = Phone(300)
    ports = box.recorder.update(Update(call.session, (TrackRequest(3, remote=third.remote(), hears=0),)))
    third.to = ports[-1].rtp_port
    sent = call.caller.say(*noise(3))
    third.say(tone(7))
    box.tick()
    assert [packet.raw for packet in call.agent.hears()] == sent
    assert [packet.raw for packet in third.hears()] == sent
    third.close()


def test_reports_go_along_from_the_participant_alone(box: Box, call: Call) -> None:
    call.caller.say(tone(1))
    box.tick()
    call.caller.rtcp.sendto(REPORT, (LOOPBACK, call.caller.to_rtcp))
    box.tick()
    assert call.agent.reports() == [REPORT]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stray:
        stray.bind(("127.0.0.2", 0))
        bye = struct.pack(">BBHI", 0x81, 203, 1, 100)
        stray.sendto(bye, (LOOPBACK, call.caller.to_rtcp))
        call.caller.rtcp.sendto(b"\x80\xc8\xff\xff", (LOOPBACK, call.caller.to_rtcp))
        box.tick()
        assert call.agent.reports() == []


@pytest.mark.parametrize("suite, length, profile", [
    ("AES_CM_128_HMAC_SHA1_80", 30, Policy.SRTP_PROFILE_AES128_CM_SHA1_80),
    ("AEAD_AES_256_GCM", 44, Policy.SRTP_PROFILE_AEAD_AES_256_GCM),
])  # fmt: skip
def test_one_side_encrypted_and_the_other_not(box: Box, suite: str, length: int, profile: int) -> None:
    theirs, ours = os.urandom(length), os.urandom(length)
    call = Call(box, srtp=(suite, theirs))
    box.recorder.update(
        Update(
            call.session,
            (call.track(1, srtp=(suite, theirs), remote=call.agent.remote((suite, ours))),),
        )
    )
    tx = Session(Policy(key=theirs, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
    rx = Session(Policy(key=ours, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
    plain = [rtp(seq, os.urandom(160), ssrc=200) for seq in range(10)]
    call.agent.send(*[tx.protect(packet) for packet in plain], rtp(99, tone(9), ssrc=9))
    call.caller.seq = 65530  # over the edge while it goes on
    sent = call.caller.say(*noise(20))
    call.agent.rtcp.sendto(tx.protect_rtcp(REPORT), (LOOPBACK, call.agent.to_rtcp))
    call.caller.rtcp.sendto(REPORT, (LOOPBACK, call.caller.to_rtcp))
    box.tick()
    assert [packet.raw for packet in call.caller.hears()] == plain
    assert [rx.unprotect(packet.raw) for packet in call.agent.hears()] == sent
    assert call.caller.reports() == [REPORT]
    assert [rx.unprotect_rtcp(report) for report in call.agent.reports()] == [REPORT]
    content = box.close(call.session)
    assert [payload for _, _, payload in content.packets(1)] == [packet[12:] for packet in plain]
    call.close()


def test_relay_only_keeps_nothing_and_needs_no_key(box: Box) -> None:
    box.keys.tenant_public = b""
    call = Call(box, relay_only=True)
    sent = call.caller.say(*noise(5))
    box.tick()
    assert [packet.raw for packet in call.agent.hears()] == sent
    assert sent[0][12:] not in box.recorder.intake.arena.cells.tobytes()
    (state,) = box.recorder.figures()
    assert (state.session_id, state.relay_only, state.tracks[0].packets) == (call.session, True, 0)
    assert box.commit() is None
    for refused in (
        lambda: box.recorder.pause(call.session),
        lambda: box.recorder.resume(call.session),
        lambda: box.recorder.annotate(Update(call.session)),
        lambda: box.recorder.close(Close(call.session, keep_relaying=True), lambda closed: None),
    ):
        with pytest.raises(RelayOnlyError):
            refused()
    box.recorder.update(Update(call.session, (call.track(0),), info_json=b"of a recording that is not"))
    done = []
    box.recorder.close(Close(call.session), done.append)
    assert done[0].packets == 0 and box.recorder.figures() == []
    assert list(box.layout.spool_recordings.iterdir()) == []
    assert box.pool.free == box.pool._pairs - 2  # they cool down
    call.close()


@pytest.mark.parametrize("quick", [False, True])
def test_the_recording_ends_and_the_call_goes_on(box: Box, call: Call, quick: bool) -> None:
    sent = call.caller.say(*noise(5))
    box.tick()
    call.agent.hears()
    box.recorder.close(Close(call.session, "stopped", keep_relaying=True), lambda closed: done.append(closed))
    done: list[object] = []
    more = call.caller.say(*noise(5))
    box.tick()
    assert [packet.raw for packet in call.agent.hears()] == more
    if quick:  # the call ends before the disk has taken the recording
        box.recorder.close(Close(call.session, "bye"), lambda closed: done.append(closed))
    box.commit()
    assert len(done) == 1 + quick
    content = box.read(call.session)
    assert [payload for _, _, payload in content.packets(0)] == [raw[12:] for raw in sent]
    assert more[0][12:] not in box.recorder.intake.arena.cells.tobytes()
    if not quick:
        (state,) = box.recorder.figures()
        assert (state.session_id, state.relay_only) == (call.session, True)
        box.recorder.update(Update(call.session, (call.track(1, hears=None),), context=b"later"))
        call.caller.say(tone(1))
        box.tick()
        assert call.agent.hears() == []
        assert box.recorder.figures()[0].context == b"later"
        box.recorder.close(Close(call.session, "bye"), lambda closed: done.append(closed))
        assert len(done) == 2
    assert box.recorder.figures() == [] and not box.recorder.exchange.busy


def test_what_cannot_be_wired(box: Box, call: Call) -> None:
    for request in (call.track(0, hears=0), call.track(0, hears=9), call.track(0, hears=2)):
        with pytest.raises(SessionError):
            box.recorder.update(Update(call.session, (request,)))
    assert call.ports[2].rtp_port == 0


def test_reports_on_the_media_port(box: Box) -> None:
    caller, agent = Phone(100), Phone(200)
    remotes = [RemoteRequest(LOOPBACK, phone.port, phone.port) for phone in (caller, agent)]
    _, ports = box.open(
        TrackRequest(0, mux=True, remote=remotes[0], hears=1),
        TrackRequest(1, mux=True, remote=remotes[1], hears=0),
    )
    caller.to = ports[0].rtp_port
    (sent,) = caller.say(tone(1))
    caller.send(REPORT)
    box.tick()
    assert sorted(packet.raw for packet in agent.hears()) == sorted([sent, REPORT])
    caller.close()
    agent.close()


def test_what_waited_for_a_worker_is_recorded_and_not_passed_on_late(box: Box) -> None:
    first = Call(box)
    port = first.caller.to
    pair = box.recorder.receiving.tracks[0][1].pair
    kept = {f"rtp-{port}": pair.rtp.dup(), f"rtcp-{port + 1}": pair.rtcp.dup()}
    first.caller.say(*[tone(1)] * 5)  # nobody is there
    box.pool.adopt(kept)
    session, _ = box.open(
        TrackRequest(0, port=port, remote=first.caller.remote(), hears=1),
        TrackRequest(1, remote=first.agent.remote(), hears=0),
    )
    box.recorder.receiving.tracks[0][1].pair.rtp.close()  # it died with its worker
    box.recorder.receiving._fds[0] = kept[f"rtp-{port}"].fileno()
    first.caller.say(tone(2))
    box.recorder.receiving.settle(box.recorder._any(session).session)
    assert [packet.payload for packet in first.agent.hears()] == [tone(2)]
    first.close()


HOUR_NS = 3_600_000_000_000


def test_media_passes_on_though_the_clock_is_set_back_after_a_restart(box: Box, call: Call) -> None:
    box.close(call.session)
    box.recorder.receiving.tidy()
    # The kernel's stamps cannot be set here: the wall clock is ahead of them, and comes back.
    box.wall.offset = HOUR_NS
    box.tick()
    session, _ = box.open(call.track(0, port=call.caller.to), call.track(1, port=call.agent.to))
    box.wall.offset = 0
    call.caller.say(tone(1))
    call.agent.say(tone(2))
    box.tick()
    assert [packet.payload for packet in call.agent.hears()] == [tone(1)]
    assert [packet.payload for packet in call.caller.hears()] == [tone(2)]
    assert box.recorder.clock_steps == 2
    box.close(session)


def test_what_relaying_remembers_of_times_goes_along_with_a_clock_that_is_set(box: Box, call: Call) -> None:
    box.wall.offset = HOUR_NS
    call.caller.say(tone(1))
    box.tick()
    call.caller.port = call.caller.rtcp_port  # it moves: the old address is not followed for a while
    box.recorder.update(Update(call.session, (call.track(0),)))
    box.wall.offset = 0
    box.tick()
    relay = box.recorder.exchange.relay
    assert 0 < relay.last_ns.max() <= box.wall()
    assert abs(relay.legs[0].stale_ns - box.wall()) < HOUR_NS // 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=40))
def test_any_life_of_a_call_leaves_nothing_behind(box: Box, steps: list[tuple[int, int]]) -> None:
    ports, files = box.pool.free, len(os.listdir("/proc/self/fd"))
    call = Call(box, codes=("*2", "#"))
    recorder, session = box.recorder, call.session
    recorded = True
    for step, choice in steps:
        match step:
            case 0:
                phone = (call.caller, call.agent)[choice % 2]
                phone.say(*noise(choice + 1))
            case 1:
                call.agent.key("*2#5"[choice])
            case 2:
                payloads = tuple(noise(choice + 1))
                sound = Sound(payloads, "PCMU", 8000)
                with contextlib.suppress(PlayExistsError, TooManyPlaysError):
                    recorder.play(Play(session, str(len(payloads)), choice % 2, sound, 0, choice == 3, 2))
            case 3:
                recorder.stop_playing(session, str(choice + 1))
            case 4:
                hears = None if choice == 1 else 1 - choice % 2
                recorder.update(Update(session, (call.track(choice % 2, hears=hears),)))
            case 5:
                recorder.update(
                    Update(session, (call.track(1, remote=None if choice else call.agent.remote()),))
                )
            case 6 if recorded:
                (recorder.pause if choice % 2 else recorder.resume)(session)
            case 7:
                box.advance(10 * choice)
            case 8:
                box.tick()
            case 9 if recorded and choice == 3:
                recorder.close(Close(session, keep_relaying=True), lambda closed: None)
                recorded = False
                box.commit()
    recorder.close(Close(session), lambda closed: None)
    box.commit()
    box.tick()
    recorder.receiving.tidy()
    exchange = recorder.exchange
    assert not (exchange.busy or exchange.relay.legs or exchange._places or exchange._watches)
    assert not (exchange._playing or exchange._making or exchange._pending)
    assert not (recorder.unfinished or recorder.figures() or recorder.receiving.tracks)
    assert (exchange.relay.listener == -1).all()
    call.close()
    assert (box.pool.free, len(os.listdir("/proc/self/fd"))) == (ports, files)
    assert box.read(session).findings == []


hostile = st.tuples(
    st.sampled_from(["caller", "agent", "stray"]),
    st.sampled_from([0x80, 0x81, 0x8F, 0x90, 0xA0, 0xBF, 0x00]),
    st.sampled_from([0, 0, 8, EVENT, EVENT, 0x80 | EVENT, 13, 72, 200]),
    st.integers(0, 65535),
    st.integers(0, 3),
    st.binary(max_size=40) | st.binary(min_size=480, max_size=600),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packets=st.lists(hostile, max_size=60), sealed=st.booleans())
def test_any_packets_end_nothing_and_what_goes_out_is_rtp(
    box: Box, packets: list[tuple[str, int, int, int, int, bytes]], sealed: bool
) -> None:
    call = Call(box, codes=("*2", "12"))
    if sealed:
        remote = call.agent.remote(("AES_CM_128_HMAC_SHA1_80", bytes(30)))
        box.recorder.update(Update(call.session, (call.track(1, codes=("*2", "12"), remote=remote),)))
    sound = Sound((tone(1),) * 3, "PCMU", 8000, Tone.REMINDER)
    box.recorder.play(Play(call.session, "p", 0, sound, 0, record_track=2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stray:
        for at, (who, first, second, sequence, ssrc, payload) in enumerate(packets):
            packet = struct.pack(">BBHII", first, second, sequence, at * 160, ssrc) + payload
            if who == "stray":
                stray.sendto(packet, (LOOPBACK, (call.caller.to, call.agent.to)[ssrc % 2]))
            else:
                (call.caller if who == "caller" else call.agent).send(packet)
            if not at % 5:
                box.advance(10)
    for _ in range(40):
        box.advance(100)
    heard = call.caller.hears() + call.agent.hears()
    assert all(packet.raw[0] >> 6 == 2 and len(packet.raw) <= 512 + 16 for packet in heard)
    content = box.close(call.session)
    assert content.findings == []
    call.close()
    box.recorder.receiving.tidy()
