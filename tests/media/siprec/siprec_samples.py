"""Messages of recording clients: those of the shared samples where they are at hand, and our own in every dialect."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.media.sip.message import SipRequest, parse_message
from appliance.media.siprec.bodies import read_body
from appliance.media.siprec.hints import read_hints
from appliance.media.siprec.srs import Change, RecordingSession

SHARED = Path(__file__).parents[3] / ".." / "shared" / "siprec-samples"
NOW = 1_700_000_000_000_000_000
CALLER, CALLEE = "sip:07700900101@a.example", "sip:01632960100@b.example"


def request(
    body: bytes,
    content_type: str | None = "multipart/mixed;boundary=b",
    method: str = "INVITE",
    headers: tuple[str, ...] = (),
    from_: str = "<sip:src@192.0.2.1>;tag=1",
    to: str = "<sip:rec@192.0.2.9>",
) -> SipRequest:
    lines = [
        f"{method} sip:rec@192.0.2.9 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
        f"From: {from_}",
        f"To: {to}",
        "Call-ID: x",
        f"CSeq: 1 {method}",
        "Contact: <sip:src@192.0.2.1>",
        *headers,
        *([f"Content-Type: {content_type}"] if content_type else []),
        f"Content-Length: {len(body)}",
    ]
    message = parse_message("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    assert isinstance(message, SipRequest)
    return message


def of_sample(name: str) -> SipRequest:
    body = (SHARED / f"{name}.txt").read_bytes()
    found = re.search(rb"--([^\r\n]+?)[ \t]*\r?\n", body)
    assert found is not None
    return request(body, f"multipart/mixed;boundary={found[1].decode()}")


def sdp(*lines: str, session: str = "c=IN IP4 192.0.2.1") -> bytes:
    """Each line is `label[ direction[ port]]`; label `-` and direction `none` are left out."""
    made = ["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", session, "t=0 0"]
    for place, line in enumerate(lines):
        words = line.split()
        label, direction, port = (*words, *("", "sendonly", str(30_000 + 2 * place))[len(words) :])
        made += [f"m=audio {port} RTP/AVP 0", "a=rtpmap:0 PCMU/8000"]
        made += [f"a=label:{label}"] if label != "-" else []
        made += [f"a={direction}"] if direction != "none" else []
    return ("\r\n".join(made) + "\r\n").encode()


def parts(offer: bytes, document: bytes, kind: str = "application/rs-metadata+xml") -> bytes:
    return b"\r\n".join(
        [
            b"--b",
            b"Content-Type: application/sdp",
            b"",
            offer.rstrip(b"\r\n"),
            b"--b",
            f"Content-Type: {kind}".encode(),
            b"",
            document,
            b"--b--",
        ]
    )


def take(
    session: RecordingSession, message: SipRequest, ours: tuple[str, ...] = (), now_ns: int = NOW
) -> Change:
    """The message goes into the session; tracks that need ports get some."""
    first = not session.tracks
    change = session.receive(
        read_body(message),
        hints=read_hints(message) if first else None,
        ours=lambda number: number in ours,
        now_ns=now_ns,
    )
    session.bind({t.number: (20_000 + 2 * t.number, 20_001 + 2 * t.number) for t in session.tracks})
    return change


def who(session: RecordingSession) -> dict[str, tuple[str, str]]:
    """By label: address and role of who speaks there."""
    parties = session.parties
    return {
        track.label: (parties[track.party].aor, parties[track.party].role.value)
        if track.party >= 0
        else ("", "")
        for track in session.tracks
    }
