"""Encrypted tracks: both suites, wrong keys, rekeying, and a restart in the middle of a long stream."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from capture_kit import Box, rtp, tone
from pylibsrtp import Policy, Session

from appliance.media.capture.commands import Update
from appliance.media.capture.session import TrackRequest
from appliance.media.rtp.ports import PortsExhaustedError
from appliance.media.rtp.rollover import RolloverStore
from appliance.media.rtp.srtp import GRACE, SrtpKeyError
from appliance.storage.sealed import RtcpBlock

SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}


def sender(suite: str, key: bytes) -> Session:
    return Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=SUITES[suite][0]))


@pytest.mark.parametrize("suite", SUITES)
def test_encrypted_tracks_are_kept_in_plain(box: Box, suite: str) -> None:
    key = os.urandom(SUITES[suite][1])
    tx = sender(suite, key)
    session, ports = box.open(TrackRequest(0, srtp=(suite, key)))
    port = ports[0].rtp_port
    box.send(port, [tx.protect(rtp(seq, tone(seq))) for seq in range(10)])
    box.tick()
    other = sender(suite, os.urandom(SUITES[suite][1]))
    box.send(port, [other.protect(rtp(10)), rtp(11), tx.protect(rtp(12))])
    report = struct.pack(">BBHIQIII", 0x80, 200, 6, 7, 1 << 32, 1600, 10, 1600)
    box.send(ports[0].rtcp_port, [tx.protect_rtcp(report), report])
    box.tick()
    assert box.figures(session).refused == 3
    content = box.close(session)
    assert content.packets(0) == [(7, seq, tone(seq)) for seq in range(10)] + [(7, 12, tone(255))]
    reports = [row for block in content.blocks if isinstance(block, RtcpBlock) for row in block.reports]
    assert [int(row["timestamp"]) for row in reports] == [1600]


def test_a_pause_does_not_lose_the_rollover(box: Box) -> None:
    key = os.urandom(30)
    suite = "AES_CM_128_HMAC_SHA1_80"
    tx = sender(suite, key)
    session, port = box.open_one(srtp=(suite, key))
    box.send(port, [tx.protect(rtp(65000))])
    box.recorder.pause(session)
    for seq in range(65010, 65536 + 100, 10):
        box.send(port, [tx.protect(rtp(seq))])
    box.recorder.resume(session)
    box.send(port, [tx.protect(rtp(65536 + 101))])
    assert box.close(session).sequences(0) == [65000, 101]


def test_a_new_key_from_an_update(box: Box) -> None:
    suite = "AEAD_AES_256_GCM"
    first, second = os.urandom(44), os.urandom(44)
    session, port = box.open_one(srtp=(suite, first))
    box.send(port, [sender(suite, first).protect(rtp(0))])
    box.recorder.update(Update(session, (TrackRequest(0, srtp=(suite, second)),)))
    box.send(port, [sender(suite, second).protect(rtp(1))])
    box.recorder.update(Update(session, (TrackRequest(0, srtp=(suite, second), active=True),)))
    tx = sender(suite, second)
    box.send(port, [tx.protect(rtp(2))])
    assert box.close(session).sequences(0) == [0, 1, 2]


@pytest.mark.parametrize("suite", SUITES)
def test_the_old_key_opens_until_the_sender_has_changed(box: Box, suite: str) -> None:
    first, second = (os.urandom(SUITES[suite][1]) for _ in range(2))
    old, new = sender(suite, first), sender(suite, second)
    session, port = box.open_one(srtp=(suite, first))
    box.send(port, [old.protect(rtp(0, tone(0)))])
    box.recorder.update(Update(session, (TrackRequest(0, srtp=(suite, second)),)))
    # On their way, or sent before our answer came: then, and mixed, both keys.
    box.send(port, [old.protect(rtp(1, tone(1))), new.protect(rtp(2, tone(2))), old.protect(rtp(3, tone(3)))])
    box.tick()
    box.send(port, [new.protect(rtp(seq, tone(4))) for seq in range(4, GRACE + 4)])
    box.tick()
    box.send(port, [old.protect(rtp(4)), new.protect(rtp(GRACE + 4, tone(4)))])  # long after
    box.tick()
    assert box.figures(session).refused == 1
    packets = box.close(session).packets(0)
    assert packets[:4] == [(7, seq, tone(seq)) for seq in range(4)]
    assert len(packets) == GRACE + 5


@pytest.mark.parametrize("why", ["port", "key"])
def test_a_new_key_in_a_change_that_fails_leaves_both_keys_of_before(tmp_path: Path, why: str) -> None:
    suite = "AEAD_AES_256_GCM"
    first, second, third = (os.urandom(44) for _ in range(3))
    old, new = sender(suite, first), sender(suite, second)
    box = Box(tmp_path / "data", pairs=1)
    session, port = box.open_one(srtp=(suite, first))
    box.send(port, [old.protect(rtp(0))])
    box.recorder.update(Update(session, (TrackRequest(0, srtp=(suite, second)),)))
    added = TrackRequest(1, srtp=(suite, os.urandom(44 if why == "port" else 20)))
    with pytest.raises(PortsExhaustedError if why == "port" else SrtpKeyError):
        box.recorder.update(Update(session, (TrackRequest(0, srtp=(suite, third)), added)))
    box.send(port, [old.protect(rtp(1)), new.protect(rtp(2))])
    assert box.close(session).sequences(0) == [0, 1, 2]
    box.shut()


@pytest.mark.parametrize("suite", SUITES)
def test_a_restarted_worker_goes_on_after_rollovers(tmp_path: Path, suite: str) -> None:
    box = Box(tmp_path / "data", pairs=1)
    key = os.urandom(SUITES[suite][1])
    tx = sender(suite, key)
    _, ports = box.open(TrackRequest(0, srtp=(suite, key)))
    port = ports[0].rtp_port
    for index in range(0, 3 * 65536, 8192):
        box.send(port, [tx.protect(rtp(index))])
        box.tick()
    # The worker dies; its sockets live on in the supervisor, the counters in the mapped file.
    kept = {
        f"{kind}-{port + odd}": sock.dup()
        for kind, odd, sock in (
            ("rtp", 0, box.recorder.receiving.tracks[0][1].pair.rtp),
            ("rtcp", 1, box.recorder.receiving.tracks[0][1].pair.rtcp),
        )
        if sock is not None
    }
    box.send(port, [tx.protect(rtp(3 * 65536 + 5, tone(5)))])  # waits in the kernel meanwhile
    name = box.layout.capture / "rollover.bin"
    assert key[:8] not in name.read_bytes()

    again = Box(tmp_path / "data")
    again.pool.close()
    again.pool._first, again.pool._pairs = port, 1
    again.pool.adopt(kept)
    session, found = again.open(TrackRequest(0, srtp=(suite, key), port=port))
    assert found[0].rtp_port == port
    again.send(port, [tx.protect(rtp(3 * 65536 + 6, tone(6)))])
    assert again.close(session).packets(0) == [(7, 5, tone(5)), (7, 6, tone(6))]
    # The call is over: nothing of it stays in the file.
    store = RolloverStore(name, 64)
    assert store.find(key) == {}
    store.close()
