"""sipp as a SIPREC client: UDP and TCP, hold, a repeated INVITE; tshark judges the answers; the sound is compared."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captured
import numpy as np
import pytest

from appliance.cli.demonstration.embedded import EmbeddedBox

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
RATE = 8000
FRAME_TOLERANCE = 0.020 * RATE


def read_wav(path: Path) -> np.ndarray:
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getsampwidth()) == (RATE, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels()).T


def media_ports(pcap: Path, call_id: str) -> list[int]:
    """The ports that our answers to this call named, by media line."""
    rows = captured.fields(
        pcap, f'sip.Status-Code == 200 && sip.Call-ID == "{call_id}" && sdp', ["sdp.media.port"]
    )
    assert rows, "no answer with SDP"
    ports = [[int(port) for port in row["sdp.media.port"]] for row in rows]
    assert all(found == ports[0] for found in ports), "the ports stay the same over re-INVITEs"
    return ports[0]


def check_answers(pcap: Path, call_id: str, directions: list[str], transport: str) -> None:
    """What tshark says of every response of ours."""
    answers = captured.fields(
        pcap,
        f'sip.Status-Code && sip.Call-ID == "{call_id}"',
        [
            "sip.Status-Code",
            "sip.CSeq.method",
            "sip.contact.parameter",
            "sip.Contact",
            "sdp.media_attr",
            "sdp.media",
            "_ws.malformed",
            "_ws.expert.severity",
        ],
    )
    assert answers
    for answer in answers:
        assert not answer["_ws.malformed"], answer
        assert all(int(severity) < 0x00800000 for severity in answer["_ws.expert.severity"]), (
            answer
        )  # no error
    final = [answer for answer in answers if answer["sip.Status-Code"] == ["200"]]
    invites = [answer for answer in final if answer["sip.CSeq.method"] == ["INVITE"]]
    said = []
    for answer in invites:
        assert any("+sip.srs" in contact for contact in answer["sip.Contact"])
        attributes = answer["sdp.media_attr"]
        assert len(answer["sdp.media"]) == 2
        assert [one for one in attributes if one.startswith("label:")] == ["label:21", "label:22"]
        said.append([one for one in attributes if one in ("recvonly", "inactive", "sendonly", "sendrecv")])
    assert said == [[direction] * 2 for direction in directions]
    assert [answer["sip.CSeq.method"] for answer in final][-1] == ["BYE"]


def stretches(sent: list[captured.SentPacket]) -> list[np.ndarray]:
    """The sound of each stretch of consecutive packets."""
    found: list[list[np.ndarray]] = []
    last = None
    for packet in sent:
        if packet.payload_type != 8:
            continue
        if last is None or packet.sequence != (last.sequence + 1) & 0xFFFF:
            found.append([])
        found[-1].append(captured.decode_alaw(packet.payload))
        last = packet
    return [np.concatenate(parts) for parts in found]


def place_of(needle: np.ndarray, hay: np.ndarray) -> int:
    """Where a stretch stands, sample for sample."""
    wanted, given = needle.astype("<i2").tobytes(), hay.astype("<i2").tobytes()
    place = given.find(wanted)
    while place > 0 and place % 2:  # between two samples
        place = given.find(wanted, place + 1)
    if place >= 0:
        return place // 2
    raise AssertionError("what was sent is not on the channel sample for sample")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_with_a_hold(
    transport: str,
    sipp: Callable[..., str],
    recording_of: Callable[[str], dict[str, Any]],
    earwitness: Callable[..., Any],
    box: EmbeddedBox,
    tmp_path: Path,
) -> None:
    pcap = tmp_path / "lo.pcapng"
    with captured.capture(pcap):
        call_id = sipp("hold", transport)
    recording = recording_of(call_id)
    check_answers(pcap, call_id, ["recvonly", "inactive", "recvonly"], transport)

    ports = media_ports(pcap, call_id)
    sent = captured.rtp_to(pcap, ports[0])
    assert {packet.payload_type for packet in sent} == {8, 101}
    held = [
        float(row["frame.time_epoch"][0])
        for row in captured.fields(
            pcap,
            f'sip.Status-Code == 200 && sip.CSeq.method == "INVITE" && sip.Call-ID == "{call_id}"',
            ["frame.time_epoch"],
        )
    ]
    ended = float(
        captured.fields(pcap, f'sip.Method == "BYE" && sip.Call-ID == "{call_id}"', ["frame.time_epoch"])[0][
            "frame.time_epoch"
        ][0]
    )
    _, hold, unhold = held

    earwitness(
        "recordings", "download", recording["name"], "-o", str(tmp_path / "call.wav"), "--purpose", "evidence"
    )
    channels = read_wav(tmp_path / "call.wav")
    loud = [channel for channel in channels if np.abs(channel.astype(np.int32)).max() > 500]
    assert len(loud) == 1, "one party spoke, on a track of its own"
    (heard,) = loud

    assert abs(heard.shape[0] - (ended - held[0]) * RATE) < RATE * 0.25
    before = stretches([packet for packet in sent if packet.at < hold])
    after = stretches([packet for packet in sent if packet.at > unhold])
    first = place_of(before[0], heard)
    assert abs(first - (sent[0].at - held[0]) * RATE) < RATE * 0.25
    done = first + len(before[0])  # the same capture is played again: look behind the first time
    second = done + place_of(after[0], heard[done:])
    apart = (next(p.at for p in sent if p.at > unhold) - sent[0].at) * RATE
    assert abs((second - first) - apart) <= FRAME_TOLERANCE + RATE * 0.010  # scheduling of the sender
    # Nothing that was sent while on hold is on the channel.
    quiet = heard[
        first + round((hold - sent[0].at + 0.05) * RATE) : first + round((unhold - sent[0].at - 0.05) * RATE)
    ]
    assert len(quiet) > RATE and not quiet.any()
    kinds = [mark["kind"] for mark in recording["marks"]]
    assert "MARK_KIND_HELD" in kinds and "MARK_KIND_UNHELD" in kinds
    assert recording["whole"]
    names = {party["displayName"] for party in recording["parties"]}
    assert "Front Desk" in names
    # Label 21 is the stream of the second participant: never by position.
    speaks = {party["address"]: party["tracks"] for party in recording["parties"]}
    assert speaks["sip:5550111@192.0.2.8"] == [0] and speaks["sip:5550100@192.0.2.7"] == [1]


def test_an_invite_that_arrives_twice_is_one_call(
    sipp: Callable[..., str],
    recording_of: Callable[[str], dict[str, Any]],
    earwitness: Callable[..., Any],
    tmp_path: Path,
) -> None:
    pcap = tmp_path / "lo.pcapng"
    with captured.capture(pcap):
        call_id = sipp("twice", "udp")
    recording = recording_of(call_id)
    sent = captured.rtp_to(pcap, media_ports(pcap, call_id)[0])
    earwitness(
        "recordings", "download", recording["name"], "-o", str(tmp_path / "call.wav"), "--purpose", "evidence"
    )
    (whole,) = stretches(sent)
    channels = read_wav(tmp_path / "call.wav")
    heard = max(channels, key=lambda channel: np.abs(channel.astype(np.int32)).max())
    place_of(whole, heard)


def test_the_health_check_is_answered(sipp: Callable[..., str], tmp_path: Path) -> None:
    pcap = tmp_path / "lo.pcapng"
    with captured.capture(pcap):
        call_id = sipp("options", "udp")
    (answer,) = captured.fields(
        pcap,
        f'sip.Status-Code == 200 && sip.Call-ID == "{call_id}"',
        ["sip.Allow", "sip.Accept", "_ws.malformed"],
    )
    assert "INVITE" in answer["sip.Allow"][0] and not answer["_ws.malformed"]
