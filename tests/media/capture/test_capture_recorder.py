"""What is kept, what is dropped, what is refused: real sockets, a real disk, steps instead of threads."""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest
from capture_kit import EVENT, LOOPBACK, Box, rtp, tone

from appliance.media.capture.commands import (
    Close,
    SessionExistsError,
    SessionNotFoundError,
    Update,
)
from appliance.media.capture.intake import CARRIED
from appliance.media.capture.session import Evidence, SessionError, TrackRequest
from appliance.media.capture.track import MAX_CANDIDATES, QUIET_NS, RUN
from appliance.media.rtp.ports import PortsExhaustedError
from appliance.media.rtp.srtp import SrtpKeyError
from appliance.model import Mark, MarkKind, new_id
from appliance.storage.sealed import EvidenceBlock, InfoBlock, PacketBlock, RtcpBlock


def test_two_legs_are_kept_as_received(box: Box) -> None:
    evidence = Evidence("sip-invite", "message/sip", b"INVITE sip:x SIP/2.0\r\n\r\n", time.time_ns())
    mark = Mark(kind=MarkKind.NOTE, at_ns=time.time_ns(), reason="test")
    session, ports = box.open(TrackRequest(0), TrackRequest(1), marks=[mark], evidence=[evidence])
    begin = time.time_ns()
    for seq in range(30):
        box.send(ports[0].rtp_port, [rtp(seq, tone(seq), ssrc=1)])
        box.send(ports[1].rtp_port, [rtp(seq, tone(100 + seq), ssrc=2)])
        if seq == 20:
            box.tick()
            box.commit()
    content = box.close(session)
    assert content.packets(0) == [(1, seq, tone(seq)) for seq in range(30)]
    assert content.packets(1) == [(2, seq, tone(100 + seq)) for seq in range(30)]
    media = [block for block in content.blocks if isinstance(block, PacketBlock)]
    assert all(
        begin <= stamp + 1000 and stamp <= time.time_ns() for b in media for stamp in b.arrival_ns.tolist()
    )
    assert next(b.timestamp.tolist() for b in media if b.track == 0)[:3] == [0, 160, 320]
    assert any(
        isinstance(block, InfoBlock) and block.info.recording_id == session for block in content.blocks
    )
    assert [b.content for b in content.blocks if isinstance(b, EvidenceBlock)] == [evidence.content]
    assert [m.kind for m in content.marks] == [MarkKind.NOTE, MarkKind.ENDED]
    assert content.marks[-1].reason == "bye"
    assert content.end is not None and content.end.media_packets == 60 and content.end.media_bytes == 9600
    assert box.closed[session].packets == 60
    assert box.closed[session].bytes == box.path(session).stat().st_size
    assert not box.path(session, "part").exists()


def test_no_media_at_all_still_yields_a_recording(box: Box) -> None:
    session, _ = box.open_one()
    content = box.close(session, "no-media")
    assert content.end is not None and content.end.media_packets == 0
    empty, _ = box.open()
    assert box.close(empty).end is not None


def test_what_arrives_in_a_pause_is_nowhere(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(seq, tone(1)) for seq in range(5)])
    # Nothing was drained yet: what came before the pause is kept all the same.
    box.recorder.pause(session)
    box.send(port, [rtp(seq, tone(2)) for seq in range(5, 15)])
    box.recorder.resume(session)
    box.send(port, [rtp(seq, tone(3)) for seq in range(15, 20)])
    box.tick()
    box.commit()
    assert box.figures(session).dropped == 10
    content = box.close(session)
    assert content.sequences(0) == [*range(5), *range(15, 20)]
    assert tone(2) not in [payload for _, _, payload in content.packets(0)]


def test_paused_packets_are_wiped_from_memory(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(0)])
    box.tick()
    box.recorder.pause(session)
    secret = b"card number 4929 0000 1111 2222 "
    box.send(port, [rtp(1, secret * 5)])
    box.tick()
    assert secret not in box.recorder.intake.arena.cells.tobytes()


def test_a_pause_for_a_time_gone_by_takes_back_what_waits_for_its_frame(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(0), rtp(1)])
    box.tick()
    at = time.time_ns()
    box.send(port, [rtp(2), rtp(3)])
    box.tick()
    assert box.recorder.pause(session, at) == at
    assert box.figures(session).dropped == 2
    box.recorder.resume(session)
    assert box.close(session).sequences(0) == [0, 1]


def test_pausing_twice_and_resuming_twice(box: Box) -> None:
    session, port = box.open_one()
    for number, action in enumerate(("pause", "pause", "resume", "resume")):
        getattr(box.recorder, action)(session)
        box.send(port, [rtp(number)])
    box.tick()
    assert box.close(session).sequences(0) == [2, 3]


def test_a_pause_holds_though_the_clock_is_set_back(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(0)])
    box.tick()
    at = box.recorder.pause(session)
    # The kernel's stamps cannot be set here, so the wall clock goes forward and comes back: from the second step on the
    # stamps are an hour older than the pause, as after a clock set back.
    box.wall.offset = 3_600_000_000_000
    box.tick()
    assert box.recorder.pause(session) >= at
    box.wall.offset = 0
    box.send(port, [rtp(1), rtp(2)])
    box.tick()
    box.send(port, [rtp(3)])
    box.tick()
    assert box.figures(session).dropped == 3
    box.recorder.resume(session)
    box.send(port, [rtp(4)])
    box.tick()
    assert box.recorder.clock_steps == 2
    content = box.close(session)
    assert content.sequences(0) == [0, 4]


@pytest.mark.parametrize("relay_only", [False, True])
def test_a_clock_set_before_a_session_opens_does_not_shift_it(box: Box, relay_only: bool) -> None:
    before, _ = box.open_one()
    box.tick()
    step = 3_600_000_000_000
    box.wall.offset += step
    session, ports = box.open(TrackRequest(0), relay_only=relay_only)
    box.send(ports[0].rtp_port, [rtp(0)])
    box.tick()
    opened = box.recorder._any(session).session
    assert opened.shift_ns == 0
    assert abs(opened.own_time(box.wall()) - opened.opened_ns) < 60_000_000_000
    older = box.recorder.recorded(before)
    assert abs(older.shift_ns - step) < 60_000_000_000 and box.recorder.clock_steps == 1


def test_hold_drops_one_track_only(box: Box) -> None:
    session, ports = box.open(TrackRequest(0), TrackRequest(1))
    for held, seq in ((False, 0), (True, 1), (False, 2)):
        box.recorder.update(Update(session, (TrackRequest(0, active=not held),)))
        for track in (0, 1):
            box.send(ports[track].rtp_port, [rtp(seq)])
    content = box.close(session)
    assert content.sequences(0) == [0, 2]
    assert content.sequences(1) == [0, 1, 2]


def test_a_track_opened_inactive_keeps_nothing_until_active(box: Box) -> None:
    session, port = box.open_one(active=False)
    box.send(port, [rtp(0)])
    box.recorder.update(Update(session, (TrackRequest(0),)))
    box.send(port, [rtp(1)])
    assert box.close(session).sequences(0) == [1]


def test_a_changed_ssrc_is_kept_from_its_first_packet(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(seq, ssrc=1) for seq in range(5)])
    box.tick()
    box.send(port, [rtp(900, ssrc=2)])
    box.tick()
    box.commit()  # the newcomer's packet is carried over the end of its second
    box.send(port, [rtp(5, ssrc=1)])  # late, of the old voice
    box.send(port, [rtp(seq, ssrc=2) for seq in range(901, 906)])
    box.tick()
    content = box.close(session)
    assert [seq for ssrc, seq, _ in content.packets(0) if ssrc == 1] == [0, 1, 2, 3, 4, 5]
    assert [seq for ssrc, seq, _ in content.packets(0) if ssrc == 2] == list(range(900, 906))


def test_strays_of_another_ssrc_are_refused(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(0, ssrc=1), rtp(50, ssrc=9), rtp(1, ssrc=1), rtp(9000, ssrc=9), rtp(2, ssrc=1)])
    box.tick()
    box.commit()
    content = box.close(session)
    assert [ssrc for ssrc, _, _ in content.packets(0)] == [1, 1, 1]


def test_many_ssrcs_lose_no_voice(box: Box) -> None:
    session, port = box.open_one()
    sent = [(ssrc, seq) for ssrc in range(1, 40) for seq in range(6)]
    box.send(port, [rtp(seq, ssrc=ssrc) for ssrc, seq in sent])
    box.tick()
    content = box.close(session)
    assert sorted((ssrc, seq) for ssrc, seq, _ in content.packets(0)) == sent


def test_another_source_is_refused_while_the_first_talks_and_believed_when_it_is_silent(box: Box) -> None:
    session, port = box.open_one()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for seq in range(10):
            box.send(port, [rtp(seq)])
            box.send(port, [rtp(seq, tone(9))], other)  # same SSRC, same numbers: an injection
        box.tick()
        assert box.figures(session).packets == 10
        # The first source falls silent; the kernel stamps arrival, so the silence is a real one.
        deadline = time.time_ns() + QUIET_NS
        while time.time_ns() < deadline:
            time.sleep(0.01)
        box.send(port, [rtp(seq, tone(5), ssrc=3) for seq in range(100, 106)], other)
        box.tick()
        content = box.close(session)
    assert [seq for ssrc, seq, _ in content.packets(0) if ssrc == 7] == list(range(10))
    assert [seq for ssrc, seq, _ in content.packets(0) if ssrc == 3] == list(range(100, 106))
    assert box.recorder.counters()["packets_refused"] >= 10


def test_duplicates_and_disorder_are_kept_as_received(box: Box) -> None:
    session, port = box.open_one()
    order = [0, 2, 1, 1, 65535, 3, 10]
    box.send(port, [rtp(seq) for seq in order])
    assert box.close(session).sequences(0) == order


def test_telephone_events_are_never_audio(box: Box) -> None:
    session, port = box.open_one()
    event = struct.pack(">BBH", 5, 10, 160)
    box.send(
        port,
        [rtp(0), rtp(1, event, pt=EVENT | 0x80), rtp(2, event, pt=EVENT), rtp(3), rtp(4, b"\x4b", pt=13)],
    )
    content = box.close(session)
    assert content.sequences(0) == [0, 3, 4]
    assert content.packets(0, audio=False) == [(7, 1, event), (7, 2, event)]
    assert content.end is not None and content.end.event_packets == 2


def test_payloads_of_many_sizes(box: Box) -> None:
    session, port = box.open_one()
    sizes = [0, 1, 33, 160, 80, 160, 320, 33, 499, 0, 7]
    extended = struct.pack(">BBHII", 0x90, 0, 99, 0, 7) + struct.pack(">HHI", 0xBEDE, 1, 0) + tone(9)
    box.send(port, [*(rtp(seq, bytes([seq + 1]) * size) for seq, size in enumerate(sizes)), extended])
    content = box.close(session)
    assert [payload for _, _, payload in content.packets(0)] == [
        *(bytes([seq + 1]) * size for seq, size in enumerate(sizes)),
        tone(9),
    ]


def test_what_is_not_rtp_is_refused(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(0), b"", b"hello", b"\x00" * 100, b"\x80" * 11, rtp(1, b"x" * 600), rtp(2)])
    box.tick()
    assert box.figures(session).refused == 5
    assert box.close(session).sequences(0) == [0, 2]


def _report(ssrc: int) -> bytes:
    return struct.pack(">BBHIQIII", 0x80, 200, 6, ssrc, 0xE0000000_80000000, 4800, 30, 4800)


def test_sender_reports_are_kept(box: Box) -> None:
    session, ports = box.open(TrackRequest(0), TrackRequest(1, mux=True))
    assert ports[0].rtcp_port == ports[0].rtp_port + 1
    assert ports[1].rtcp_port == ports[1].rtp_port
    for port in ports:
        box.send(port.rtp_port, [rtp(0)])
    box.tick()
    for port in ports:
        box.send(port.rtcp_port, [_report(7), _report(8), b"\x80\xc8rubbish"])
    box.tick()
    content = box.close(session)
    reports = [row for block in content.blocks if isinstance(block, RtcpBlock) for row in block.reports]
    assert sorted((int(row["track"]), int(row["ssrc"]), int(row["timestamp"])) for row in reports) == [
        (0, 7, 4800),
        (1, 7, 4800),
    ]
    assert content.sequences(1) == [0]


def test_a_straggler_lands_in_nobodys_file(tmp_path: Path) -> None:
    box = Box(tmp_path / "data", pairs=1, cool_down_ns=400_000_000)
    session, port = box.open_one()
    box.send(port, [rtp(0)])
    assert box.close(session).sequences(0) == [0]
    box.send(port, [rtp(1)])  # the port is still ours, and cools down
    with pytest.raises(PortsExhaustedError):
        box.open_one()
    box.recorder.receiving.tidy()
    assert box.recorder.receiving.stragglers == 1
    while box.pool.cooling:
        time.sleep(0.02)
        box.recorder.receiving.tidy()
    second, again = box.open_one()
    assert again == port
    box.send(again, [rtp(5, ssrc=8)])
    assert box.close(second).sequences(0) == [5]
    box.shut()


def test_a_reopening_that_was_undone_is_done_again_on_the_same_port(tmp_path: Path) -> None:
    box = Box(tmp_path / "data", cool_down_ns=60_000_000_000)
    session, port = box.open_one(port=box.pool._first)
    box.send(port, [rtp(0)])
    box.close(session)
    box.send(port, [rtp(1)])  # the call goes on
    again, port_again = box.open_one(port=port)
    box.send(port, [rtp(2)])
    assert port_again == port and box.close(again).sequences(0) == [1, 2]
    box.shut()


def test_what_comes_after_the_end_is_dropped(box: Box) -> None:
    session, port = box.open_one()
    box.send(port, [rtp(0)])
    box.tick()
    at = time.time_ns()
    box.send(port, [rtp(1)])
    box.tick()
    content = box.close(session, at_ns=at)
    assert content.sequences(0) == [0]
    assert content.marks[-1].at_ns == at
    assert content.end is not None and content.end.ended_ns == at


def test_a_track_can_be_added(box: Box) -> None:
    session, port = box.open_one()
    ports = box.recorder.update(Update(session, (TrackRequest(4),)))
    assert [item.track for item in ports] == [0, 4]
    box.send(ports[1].rtp_port, [rtp(9)])
    box.send(port, [rtp(1)])
    content = box.close(session)
    assert content.sequences(0) == [1] and content.sequences(4) == [9]


def test_a_change_for_which_no_port_is_free_changes_nothing(tmp_path: Path) -> None:
    box = Box(tmp_path / "data", pairs=2)
    session, ports = box.open(TrackRequest(0))
    mark = Mark(kind=MarkKind.HELD, at_ns=time.time_ns(), track=0).model_dump_json().encode()
    wanted = Update(
        session,
        (TrackRequest(0, active=False), TrackRequest(1), TrackRequest(2, box_voice=True), TrackRequest(3)),
        marks=(mark,),
    )
    files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PortsExhaustedError):
        box.recorder.update(wanted)
    assert [port.track for port in box.recorder.update(Update(session))] == [0]
    box.send(ports[0].rtp_port, [rtp(0)])
    box.tick()
    assert box.figures(session).dropped == 0
    box.recorder.receiving.tidy()  # nothing cools down for long here
    assert box.pool.free == 1 and len(os.listdir("/proc/self/fd")) == files
    added = box.recorder.update(replace(wanted, tracks=wanted.tracks[:3]))
    assert [port.track for port in added] == [0, 1, 2]
    box.send(ports[0].rtp_port, [rtp(1)])
    box.send(added[1].rtp_port, [rtp(7)])
    content = box.close(session)
    assert (content.sequences(0), content.sequences(1)) == ([0], [7])
    assert [mark.kind for mark in content.marks] == [MarkKind.HELD, MarkKind.ENDED]
    box.shut()


def test_a_change_with_marks_that_are_none_opens_nothing(box: Box) -> None:
    session, _ = box.open_one()
    free = box.pool.free
    with pytest.raises(SessionError):
        box.recorder.update(
            Update(session, (TrackRequest(1), TrackRequest(2, box_voice=True)), marks=(b"none",))
        )
    box.recorder.receiving.tidy()
    assert box.pool.free == free
    assert [port.track for port in box.recorder.update(Update(session))] == [0]


def test_requests_that_make_no_sense(box: Box) -> None:
    session, _ = box.open_one()
    free = box.pool.free
    with pytest.raises(SessionError):
        box.open(TrackRequest(0), TrackRequest(0))
    with pytest.raises(SrtpKeyError):
        box.open(TrackRequest(0, srtp=("AES_CM_128_HMAC_SHA1_80", b"short")))
    with pytest.raises(SessionError):
        box.recorder.annotate(Update(session, marks=(b"{not json",)))
    with pytest.raises(SessionNotFoundError):
        box.recorder.pause(new_id())
    assert box.pool.free == free
    content = box.close(session)
    assert [mark.kind for mark in content.marks] == [MarkKind.ENDED]
    with pytest.raises(SessionNotFoundError):
        box.recorder.close(Close(session), lambda closed: None)


def test_an_id_is_used_once(box: Box) -> None:
    session, _ = box.open_one()
    figures = box.recorder.figures()
    assert [item.session_id for item in figures] == [session]
    command = next(iter(box.recorder._entries.values()))  # the same id again
    with pytest.raises(SessionExistsError):
        box.recorder.open(_same(box, command.session.recording_id))


def _same(box: Box, session: str):  # type: ignore[no-untyped-def]
    from appliance.media.capture.commands import Open

    return Open(session, box.tenant_id, box.line_id, box.keys.tenant_public, LOOPBACK)


def test_an_arena_that_is_too_small_loses_nothing(box: Box) -> None:
    session, ports = box.open(*(TrackRequest(number) for number in range(4)))
    for burst in range(3):
        for port in ports:
            box.send(port.rtp_port, [rtp(burst * 450 + seq, b"x" * 20) for seq in range(450)])
        for _ in range(4):
            box.tick()
    content = box.close(session)
    for number in range(4):
        assert content.sequences(number) == list(range(1350))


@pytest.mark.timeout(60)
def test_sprayed_ports_do_not_hold_up_the_worker_nor_cost_others_their_newcomers(tmp_path: Path) -> None:
    box = Box(tmp_path / "data", pairs=16)
    session, ports = box.open(*(TrackRequest(number) for number in range(12)))
    voices = [port.rtp_port for port in ports]
    sprayed, changing, steady = voices[:10], voices[10], voices[11]
    for port in voices:
        box.send(port, [rtp(0, tone(1))])
    box.tick()
    box.send(changing, [rtp(seq, tone(2), ssrc=8) for seq in range(RUN - 1)])  # one more makes the run
    strangers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(MAX_CANDIDATES)]
    for turn in range(4):
        for port in sprayed:
            for number, stranger in enumerate(strangers):
                packets = [rtp(1000 * (turn * 16 + one), tone(9), ssrc=100 + number) for one in range(16)]
                box.send(port, packets, stranger)
        box.tick()
        box.commit()
        box.send(steady, [rtp(turn + 1, tone(1))])
    box.send(changing, [rtp(RUN - 1, tone(2), ssrc=8)])
    for port in sprayed:
        box.send(port, [rtp(1, tone(1))])
    box.tick()
    refused = [box.figures(session, number).refused for number in range(12)]
    assert sum(refused[:10]) >= 10 * 4 * 16 * MAX_CANDIDATES - 4096 // CARRIED
    assert refused[10:] == [0, 0]
    content = box.close(session)
    assert [content.sequences(number) for number in range(10)] == [[0, 1]] * 10
    assert content.packets(10)[1:] == [(8, seq, tone(2)) for seq in range(RUN)]
    assert content.sequences(11) == [0, 1, 2, 3, 4]
    for stranger in strangers:
        stranger.close()
    box.shut()


def test_what_the_kernel_drops_is_said(box: Box) -> None:
    session, port = box.open_one()
    sent = 3000
    box.send(port, [rtp(seq, tone(1) * 3) for seq in range(sent)])
    for _ in range(8):
        box.tick()
    box.send(port, [rtp(sent)])
    box.tick()
    figures = box.figures(session)
    assert figures.overflowed > 0
    assert figures.overflowed + figures.packets == sent + 1
    gaps = [mark for mark in box.close(session).marks if mark.kind is MarkKind.GAP]
    assert sum(int(mark.data["packets"]) for mark in gaps) == figures.overflowed
    assert gaps[0].track == 0 and gaps[0].data["cause"] == "receive-buffer"


def test_a_track_added_in_a_pause_is_paused_too(box: Box) -> None:
    session, _ = box.open_one()
    box.recorder.pause(session)
    added = box.recorder.update(Update(session, (TrackRequest(1),)))[1].rtp_port
    box.send(added, [rtp(0, tone(2))])
    box.recorder.resume(session)
    box.send(added, [rtp(1)])
    assert box.close(session).sequences(1) == [1]


def test_a_pause_says_when_it_came_too_late(box: Box) -> None:
    session, port = box.open_one()
    at = time.time_ns()
    box.send(port, [rtp(0)])
    box.tick()
    box.commit()  # what is in a frame stays in it
    assert box.recorder.pause(session, at) > at
    assert box.close(session).sequences(0) == [0]
