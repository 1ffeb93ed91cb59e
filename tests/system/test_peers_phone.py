"""The phones against each other, without the box: what they are trusted with in the tests of inline calls."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import captured
import pytest
import sound
import wire
from phone import Phone, phones
from speech import speech

from appliance.access import certificates

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def pair(folder: Path, transport: str, srtp: bool) -> tuple[Phone, Phone]:
    authority = certificates.make_authority("telephones", datetime.now(UTC))
    made = [
        Phone(
            folder,
            name,
            transport=transport,
            srtp=srtp,
            certificate=certificates.make_server(authority, name, ["127.0.0.1"], datetime.now(UTC)),
            authority=authority.certificate_pem,
        )
        for name in ("alice", "bob")
    ]
    return made[0], made[1]


@pytest.mark.parametrize(("transport", "srtp"), [("udp", False), ("tls", True)])
def test_they_hear_each_other(transport: str, srtp: bool, tmp_path: Path) -> None:
    alice, bob = pair(tmp_path, transport, srtp)
    to_bob, to_alice = speech("appointment-agent", 0, 3), speech("prescription-caller", 3, 6)
    with phones(alice, bob):
        alice.dial(bob.uri)
        bob.answer()
        alice.wait("CALL_ESTABLISHED")
        alice.say(to_bob)
        bob.say(to_alice)
        time.sleep(3.5)
        assert sound.find(to_bob, bob.heard())[1] > 0.95
        assert sound.find(to_alice, alice.heard())[1] > 0.95
        assert not sound.said(to_bob, alice.heard()) and not sound.said(to_alice, bob.heard())
        bob.send_digits("*2")
        assert [alice.wait("CALL_DTMF_START")["param"] for _ in range(2)] == ["*", "2"]
        alice.hangup()
        bob.wait("CALL_CLOSED")
    invite = next(message for message in bob.messages if message.first.startswith("INVITE"))
    assert invite.transport == transport and not invite.sent
    assert bool(invite.crypto) is srtp and ("RTP/SAVP" in invite.body) is srtp


def test_the_wire_tells_the_same_as_the_phone_and_when(tmp_path: Path) -> None:
    alice, bob = pair(tmp_path, "tls", srtp=True)
    words = speech("appointment-agent", 0, 3)
    pcap = tmp_path / "lo.pcapng"
    with phones(alice, bob), captured.capture(pcap):
        started = time.time()
        alice.dial(bob.uri)
        bob.answer()
        alice.wait("CALL_ESTABLISHED")
        alice.say(words)
        said_at = time.time() - started
        time.sleep(3.5)
        bob.hold()
        time.sleep(1)
        bob.resume()
        time.sleep(0.5)
        again_at = time.time() - started
        alice.say(words)
        time.sleep(3.5)
        bob.send_digits("42")
        bob.hangup()
        alice.wait("CALL_CLOSED")
        ended = time.time()
    answer = next(m for m in bob.messages if m.sent and m.first.startswith("SIP/2.0 200") and m.media_port)
    invite = next(m for m in bob.messages if m.first.startswith("INVITE"))
    came = wire.heard(pcap, answer.media_port, invite.crypto)
    samples = came.sound(started, ended)
    half = round((again_at - 0.3) * wire.RATE)
    for begin, at, part in ((0, said_at, samples[:half]), (half, again_at, samples[half:])):
        offset, fit = sound.find(words, part)
        assert fit > 0.95
        assert begin / wire.RATE + offset == pytest.approx(at, abs=0.5)
    assert came.keys() == "" and came.gaps() == 0
    back = wire.heard(pcap, invite.media_port, answer.crypto)
    assert back.keys() == "42"


def test_transfers_are_asked_for_as_they_should_be(tmp_path: Path) -> None:
    alice, bob = pair(tmp_path, "udp", srtp=False)
    carol = Phone(tmp_path, "carol")
    with phones(alice, bob, carol):
        alice.dial(bob.uri)
        bob.answer()
        bob.dial(carol.uri)
        carol.answer()
        bob.wait("CALL_ESTABLISHED")
        consulted = next(m for m in carol.messages if m.first.startswith("INVITE")).headers["call-id"]
        ours, theirs = bob.tags(consulted)
        bob.use(1)
        bob.transfer_attended(carol.uri, consulted)
        refer = alice.wait_message("REFER ")
        assert refer.headers["refer-to"] == (
            f"<{carol.uri}?Replaces={consulted}%3Bto-tag%3D{theirs}%3Bfrom-tag%3D{ours}>"
        )
        bob.wait_message("SIP/2.0 202")
        bob.transfer("sip:nobody@127.0.0.1:9")
        bob.wait_message("NOTIFY ")
    blind = [m for m in alice.messages if m.first.startswith("REFER ")][-1]
    assert blind.headers["refer-to"] == "sip:nobody@127.0.0.1:9"
