"""The recording server's rules: who speaks where, which side, what is answered, and what changes during a call."""

from __future__ import annotations

import base64

import pytest
from siprec_samples import CALLEE, CALLER, NOW, SHARED, of_sample, parts, request, sdp, take, who

from appliance.media.sip.sdp import MediaDirection, SessionDescription, parse_sdp
from appliance.media.siprec.bodies import read_body
from appliance.media.siprec.srs import RecordingSession
from appliance.media.siprec.state import SessionState
from appliance.model import Direction, MarkKind, Role

ADDRESS = "192.0.2.9"
OURS = ("01632960100",)


def document(*people: str, mode: str = "complete", more: str = "") -> bytes:
    """Each of `people` is `id aor label[ calling]`; label `-`: no stream."""
    made = []
    for person in people:
        name, aor, label, *calling = person.split()
        said = f"<callingParty>{calling[0]}</callingParty>" if calling else ""
        made.append(f'<participant participant_id="{name}"><nameID aor="{aor}"/>{said}</participant>')
        if label != "-":
            made.append(
                f'<stream stream_id="m{label}" session_id="session-1"><label>{label}</label></stream>'
            )
            made.append(
                f'<participantstreamassoc participant_id="{name}"><send>m{label}</send></participantstreamassoc>'
            )
    inside = "".join(made)
    return (
        f"<recording><datamode>{mode}</datamode><session session_id='session-1'/>{inside}{more}</recording>"
    ).encode()


USUAL = document(f"a {CALLER} 1 true", f"b {CALLEE} 2")


def begun(offer: bytes | None = None, body: bytes = USUAL) -> RecordingSession:
    session = RecordingSession()
    take(session, request(parts(offer or sdp("1", "2"), body)), OURS)
    return session


def answer(session: RecordingSession) -> SessionDescription:
    return parse_sdp(session.answer(ADDRESS))


def shape(description: SessionDescription) -> list[tuple[int, str | None, str]]:
    return [(media.port, media.label, description.direction_of(media).value) for media in description.media]


# -- real offers -----------------------------------------------------------------------------------------------------

SAMPLES = {
    "acme": (
        {"16777227": ("sip:9000@192.0.2.102", "caller"), "16777228": ("sip:1002@192.0.2.10", "agent")},
        Direction.UNKNOWN,
    ),
    "cisco": (
        {"1": ("sip:7301@192.0.2.204", "unknown"), "2": ("sip:7300@192.0.2.204", "unknown")},
        Direction.UNKNOWN,
    ),
    "sonus": (
        {"1": ("2025550112@192.0.2.72", "agent"), "2": ("2025550100@192.0.2.55", "caller")},
        Direction.UNKNOWN,
    ),
}


@pytest.mark.skipif(not SHARED.exists(), reason="the shared samples are not at hand")
@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name: str) -> None:
    session = RecordingSession()
    change = take(session, of_sample(name))
    expected, direction = SAMPLES[name]
    assert not change.refusal and change.has_offer and change.tracks == (0, 1)
    assert who(session) == expected and session.direction is direction
    labels = list(dict.fromkeys(track.label for track in session.tracks))
    assert shape(answer(session)) == [(20_000, labels[0], "recvonly"), (20_002, labels[1], "recvonly")]
    assert not {"metadata-missing", "party-unknown", "label-unknown"} & set(session.flags)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared samples are not at hand")
@pytest.mark.parametrize(
    ("name", "line", "direction", "agent"),
    [
        ("acme", "1002", Direction.INBOUND, "1002"),
        ("acme", "9000", Direction.OUTBOUND, "9000"),
        ("sonus", "2025550100", Direction.OUTBOUND, "2025550100"),
        ("cisco", "7300", Direction.UNKNOWN, "7300"),
    ],
)
def test_samples_with_a_line(name: str, line: str, direction: Direction, agent: str) -> None:
    session = RecordingSession()
    take(session, of_sample(name), (line,))
    assert session.direction is direction
    assert [line in party.aor for party in session.parties if party.role is Role.AGENT] == [True]
    assert sorted(party.role for party in session.parties) == [Role.AGENT, Role.CALLER]
    assert agent in next(party.aor for party in session.parties if party.role is Role.AGENT)


# -- who is who ------------------------------------------------------------------------------------------------------


def test_never_by_position() -> None:
    session = begun(body=document(f"a {CALLER} 2 true", f"b {CALLEE} 1"))
    assert who(session) == {"1": (CALLEE, "agent"), "2": (CALLER, "caller")}


def test_lines_in_another_order_than_streams() -> None:
    session = begun(sdp("2", "1"))
    assert [track.label for track in session.tracks] == ["2", "1"]
    assert who(session) == {"1": (CALLER, "caller"), "2": (CALLEE, "agent")}


def test_more_streams_than_lines() -> None:
    session = begun(sdp("2"), document(f"a {CALLER} 1", f"b {CALLEE} 2", "c sip:3@x 3"))
    assert who(session) == {"2": (CALLEE, "agent")} and len(session.parties) == 3


def test_receiving_tells_who_sends_when_nothing_else_does() -> None:
    body = (
        f"<recording><participant id='a'><nameID aor='{CALLER}'/><recv>n</recv></participant>"
        f"<participant id='b'><nameID aor='{CALLEE}'/><recv>m</recv></participant>"
        "<stream id='m'><label>1</label></stream><stream id='n'><label>2</label></stream></recording>"
    ).encode()
    session = begun(body=body)
    assert {label: aor for label, (aor, _) in who(session).items()} == {"1": CALLER, "2": CALLEE}
    assert "party-inferred" in session.flags


def test_one_left_over_line_is_the_left_over_party() -> None:
    session = begun(body=document(f"a {CALLER} 1", f"b {CALLEE} -"))
    assert {label: aor for label, (aor, _) in who(session).items()} == {"1": CALLER, "2": CALLEE}
    assert "party-inferred" in session.flags


def test_no_labels_no_guess() -> None:
    session = begun(sdp("-", "-"))
    assert [track.party for track in session.tracks] == [-1, -1] and "label-missing" in session.flags
    assert [party.aor for party in session.parties] == [CALLER, CALLEE]


def test_mid_stands_in_for_a_label() -> None:
    offer = (
        sdp("-", "-")
        .replace(b"a=sendonly", b"a=mid:1\r\na=sendonly", 1)
        .replace(b"a=sendonly\r\nm", b"a=sendonly\r\nm")
    )
    session = begun(offer)
    assert session.tracks[0].party == 0


def test_mono_mix_is_nobodys_voice() -> None:
    body = document(
        f"a {CALLER} 1",
        f"b {CALLEE} -",
        more="<participantstreamassoc participant_id='b'><send>m1</send></participantstreamassoc>",
    )
    session = begun(sdp("1"), body)
    assert session.tracks[0].party == -1 and "track-mixed" in session.flags


@pytest.mark.parametrize(
    ("said", "ours", "direction", "roles"),
    [
        ("a", (), Direction.UNKNOWN, ("caller", "agent")),
        ("a", ("2",), Direction.INBOUND, ("caller", "agent")),
        ("a", ("1",), Direction.OUTBOUND, ("agent", "caller")),
        ("a", ("1", "2"), Direction.INTERNAL, ("caller", "agent")),
        ("b", ("1",), Direction.INBOUND, ("agent", "caller")),
        ("", ("1",), Direction.UNKNOWN, ("agent", "caller")),
        ("", ("1", "2"), Direction.INTERNAL, ("unknown", "unknown")),
        ("", (), Direction.UNKNOWN, ("unknown", "unknown")),
    ],
)
def test_sides(said: str, ours: tuple[str, ...], direction: Direction, roles: tuple[str, str]) -> None:
    session = RecordingSession()
    body = document(
        f"a sip:1@x 1 {'true' if said == 'a' else 'false' if said else ''}",
        f"b sip:2@x 2 {'true' if said == 'b' else ''}",
    )
    take(session, request(parts(sdp("1", "2"), body)), ours)
    assert session.direction is direction
    assert tuple(party.role.value for party in session.parties) == roles


def test_broadworks_numbers_and_direction() -> None:
    more = (
        "<extensiondata><broadWorksRecordingMetadata xmlns='http://schema.broadsoft.com/broadworksCallRecording'>"
        "<extTrackingID>182:1</extTrackingID><callType><termCall><callingPartyNumber>tel:+447700900101"
        "</callingPartyNumber><calledPartyNumber>+441632960100</calledPartyNumber></termCall></callType>"
        "</broadWorksRecordingMetadata></extensiondata>"
    )
    session = RecordingSession()
    body = document("a tel:+44-7700-900101 1", "b sip:+441632960100@x;user=phone 2", more=more)
    take(session, request(parts(sdp("1", "2"), body)))
    assert session.direction is Direction.INBOUND
    assert [party.role for party in session.parties] == [Role.CALLER, Role.AGENT]
    assert "tracking:182:1" in session.session_ids


def test_ucid_in_all_its_spellings_is_one() -> None:
    hexadecimal = ("00FA08001900014E3E7D5C;encoding=hex", "001900014E3E7D5C", "04FA08001900014E3E7D5C")
    found = set()
    for text in (*hexadecimal, "00025000011312718172"):
        more = f"<extensiondata><ucid>{text}</ucid></extensiondata>"
        session = begun(body=document(f"a {CALLER} 1", more=more))
        found |= {one for one in session.session_ids if one.startswith("ucid:")}
    assert found == {"ucid:001900014e3e7d5c"}


def test_isup_and_gtd_parts_do_no_harm_and_gtd_tells() -> None:
    gtd = (
        b"IAM,\r\nCPN,08,,1,01632960100\r\nCGN,04,,1,y,4,07700900101\r\nGCI,91036128574411e789f9d0ff56c3c658"
    )
    body = parts(sdp("1", "2"), document(f"a {CALLER} 1", f"b {CALLEE} 2"))
    extra = b"\r\n--b\r\nContent-Type: application/ISUP\r\n\r\n\x01\x00\xff\r\n--b\r\nContent-Type: application/gtd\r\n\r\n"
    session = RecordingSession()
    take(session, request(body.removesuffix(b"--b--").rstrip(b"\r\n") + extra + gtd + b"\r\n--b--"))
    assert [party.role for party in session.parties] == [Role.CALLER, Role.AGENT]
    assert "guid:91036128574411e789f9d0ff56c3c658" in session.session_ids


# -- bodies ----------------------------------------------------------------------------------------------------------

WHOLE = parts(sdp("1", "2"), USUAL)
SWAPPED = (
    b"--b\r\nContent-Type: application/rs-metadata+xml\r\n\r\n"
    + USUAL
    + b"\r\n--b\r\nContent-Type: application/sdp\r\n\r\n"
    + sdp("1", "2")
    + b"--b--"
)
BODIES = {
    "usual": (WHOLE, "multipart/mixed;boundary=b"),
    "swapped": (SWAPPED, "multipart/mixed;boundary=b"),
    "no-xml-suffix": (parts(sdp("1", "2"), USUAL, "application/rs-metadata"), "multipart/mixed;boundary=b"),
    "wrong-type": (parts(sdp("1", "2"), USUAL, "text/plain"), "multipart/mixed;boundary=b"),
    "xml-type": (parts(sdp("1", "2"), USUAL, "application/xml"), "multipart/mixed;boundary=b"),
    "spaces-around": (WHOLE, 'multipart/mixed; boundary = "b"'),
    "trailing-spaces": (WHOLE + b"  \r\n\r\n", "multipart/mixed;boundary=b"),
    "not-closed": (WHOLE.removesuffix(b"--b--"), "multipart/mixed;boundary=b"),
    "bare-lf": (WHOLE.replace(b"\r\n", b"\n"), "multipart/mixed;boundary=b"),
    "boundary-missing": (WHOLE, "multipart/mixed"),
    "boundary-wrong": (WHOLE, "multipart/mixed;boundary=another"),
    "related": (WHOLE, "multipart/related;boundary=b"),
    "no-content-type": (WHOLE, None),
    "base64": (
        parts(sdp("1", "2"), base64.b64encode(USUAL)).replace(
            b"metadata+xml\r\n", b"metadata+xml\r\nContent-Transfer-Encoding: base64\r\n"
        ),
        "multipart/mixed;boundary=b",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bodies(name: str) -> None:
    body, content_type = BODIES[name]
    session = RecordingSession()
    change = take(session, request(body, content_type), OURS)
    assert change.has_offer and who(session) == {"1": (CALLER, "caller"), "2": (CALLEE, "agent")}


def test_forked_call_by_from_parameters() -> None:
    from_ = "<sip:2000@ucm;x-farend;x-refci=27;x-nearenddevice=SEP1;x-farendrefci=28;x-farendaddr=1000>;tag=1"
    session = RecordingSession()
    take(session, request(sdp("-"), "application/sdp", from_=from_))
    far = session.parties[session.tracks[0].party]
    assert (far.aor, far.role) == ("1000", Role.CALLER)
    made = session.fingerprint("t")
    assert made.fork == "refci::sep1:27" and made.near is False


def test_octets_that_are_no_utf_8_survive_memory() -> None:
    offer = sdp("1", "2").replace(b"a=label:1", b"a=label:\xff\xfe").replace(b"PCMU/8000", b"PCM\xff/8000")
    message = request(parts(offer, USUAL))
    message.headers.set("From", '"\udcff" <sip:1@x>;tag=1')
    session = RecordingSession()
    take(session, message)
    state = session.state()
    assert SessionState.model_validate_json(state.model_dump_json()) == state


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("sendonly", "recvonly"),
        ("sendrecv", "recvonly"),
        ("none", "recvonly"),
        ("inactive", "inactive"),
        ("recvonly", "inactive"),
    ],
)
def test_direction_of_the_answer(direction: str, expected: str) -> None:
    session = begun(sdp(f"1 {direction}", "2"))
    assert shape(answer(session)) == [(20_000, "1", expected), (20_002, "2", "recvonly")]
    assert session.tracks[0].active is (expected == "recvonly")


def test_null_address_is_hold_for_its_lines_only() -> None:
    offer = sdp("1", "2").replace(
        b"m=audio 30002 RTP/AVP 0\r\n", b"m=audio 30002 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n"
    )
    session = begun(offer)
    assert shape(answer(session)) == [(20_000, "1", "recvonly"), (20_002, "2", "inactive")]


def test_refused_lines_keep_their_place() -> None:
    session = begun(sdp("1", "2 sendonly 0", "3").replace(b"m=audio 30004", b"m=video 30004"))
    assert [(media.kind, media.port, media.label) for media in answer(session).media] == [
        ("audio", 20_000, "1"),
        ("audio", 0, "2"),
        ("video", 0, "3"),
    ]
    assert len(session.tracks) == 1 and "line-refused" in session.flags


def test_nothing_but_video_is_still_answered() -> None:
    session = RecordingSession()
    change = take(session, request(sdp("1").replace(b"m=audio", b"m=video"), "application/sdp"))
    assert not change.refusal and [media.port for media in answer(session).media] == [0]


def test_impossible_srtp_alone_is_refused() -> None:
    for proto in (b"RTP/SAVP", b"UDP/TLS/RTP/SAVPF"):
        session = RecordingSession()
        change = take(session, request(sdp("1").replace(b"RTP/AVP", proto), "application/sdp"))
        assert change.refusal == 488 and not session.tracks
    half = sdp("1", "2").replace(b"30002 RTP/AVP", b"30002 RTP/SAVP")
    session = RecordingSession()
    assert not take(session, request(half, "application/sdp")).refusal
    assert [media.port for media in answer(session).media] == [20_000, 0] and "srtp-refused" in session.flags


def test_description_that_is_none() -> None:
    session = begun()
    before = session.state()
    assert take(session, request(b"v=0\r\nm=audio\r\n", "application/sdp")).refusal == 488
    assert session.state() == before


def test_silent_answer_opens_nothing() -> None:
    session = begun()
    made = parse_sdp(session.answer(ADDRESS, silent=True))
    assert shape(made) == [(9, "1", "inactive"), (9, "2", "inactive")]


def test_origin_of_answers() -> None:
    session = begun()
    first = answer(session).origin
    assert answer(session).origin == first  # nothing has changed
    take(session, request(sdp("1 inactive", "2"), "application/sdp"), OURS)
    second = answer(session).origin
    assert first is not None and second is not None
    assert (second.session_id, second.version) == (first.session_id, first.version + 1)


# -- during the call -------------------------------------------------------------------------------------------------


def test_hold_of_one_and_of_all() -> None:
    session = begun()
    one = take(session, request(sdp("1 inactive", "2"), "application/sdp"), OURS)
    assert [(mark.kind, mark.track) for mark in one.marks] == [(MarkKind.HELD, 0)]
    assert one.tracks == (0,) and not session.on_hold
    rest = take(session, request(sdp("1 inactive", "2 inactive"), "application/sdp"), OURS)
    assert [(mark.kind, mark.track) for mark in rest.marks] == [(MarkKind.HELD, 1)] and session.on_hold
    back = take(session, request(sdp("1", "2"), "application/sdp"), OURS)
    assert [(mark.kind, mark.track) for mark in back.marks] == [(MarkKind.UNHELD, -1)]
    assert take(session, request(sdp("1", "2"), "application/sdp"), OURS).tracks == ()


def test_placeholder_is_corrected_in_place() -> None:
    session = begun(body=document("a sip:anonymous@x 1", f"b {CALLEE} 2"))
    change = take(
        session, request(document(f"a {CALLER} 1", mode="partial"), "application/rs-metadata", "UPDATE"), OURS
    )
    assert not change.has_offer and change.info and not change.marks
    assert who(session) == {"1": (CALLER, "caller"), "2": (CALLEE, "agent")} and len(session.parties) == 2


def test_placeholder_under_another_id_is_corrected_in_place() -> None:
    session = begun(body=document("a sip:unknown@x 1", f"b {CALLEE} 2"))
    take(
        session,
        request(document(f"z {CALLER} 1", f"b {CALLEE} 2"), "application/rs-metadata", "UPDATE"),
        OURS,
    )
    assert who(session) == {"1": (CALLER, "caller"), "2": (CALLEE, "agent")} and len(session.parties) == 2


def test_headers_are_forgotten_once_metadata_comes() -> None:
    session = RecordingSession()
    take(
        session,
        request(sdp("1", "2"), "application/sdp", from_="<sip:0999@x>;tag=1", to="<sip:01632960100@x>"),
        OURS,
    )
    assert [party.aor for party in session.parties] == ["0999", "01632960100"]
    take(session, request(USUAL, "application/rs-metadata+xml", "UPDATE"), OURS)
    assert who(session) == {"1": (CALLER, "caller"), "2": (CALLEE, "agent")}
    assert "metadata-missing" not in session.flags and "party-unknown" not in session.flags


def test_transfer_on_the_same_label() -> None:
    session = begun()
    change = take(
        session,
        request(document(f"a {CALLER} 1", "c sip:200@x 2"), "application/rs-metadata+xml", "UPDATE"),
        OURS,
    )
    assert [(mark.kind, mark.track) for mark in change.marks] == [
        (MarkKind.PARTY_JOINED, -1),
        (MarkKind.PARTY_LEFT, -1),
        (MarkKind.TRANSFERRED, 1),
    ]
    assert who(session)["2"] == ("sip:200@x", "agent")  # who takes over a voice takes over its side
    assert session.parties[1].aor == CALLEE


def test_transfer_to_a_new_label_is_a_new_track() -> None:
    session = begun()
    take(session, request(parts(sdp("1", "7"), document(f"a {CALLER} 1", "c sip:200@x 7"))), OURS)
    assert [(track.number, track.label, track.line, track.active) for track in session.tracks] == [
        (0, "1", 0, True),
        (1, "2", -1, False),
        (2, "7", 1, True),
    ]
    assert shape(answer(session)) == [(20_000, "1", "recvonly"), (20_004, "7", "recvonly")]


def test_new_labels_for_the_same_parties_keep_the_tracks() -> None:
    session = begun()
    take(session, request(parts(sdp("11", "12"), document(f"a {CALLER} 11", f"b {CALLEE} 12"))), OURS)
    assert [(track.number, track.label) for track in session.tracks] == [(0, "11"), (1, "12")]
    take(session, request(sdp("21", "22"), "application/sdp"), OURS)
    assert [(track.number, track.label, track.party) for track in session.tracks] == [
        (0, "21", 0),
        (1, "22", 1),
    ]


def test_swapped_lines_swap_ports() -> None:
    session = begun()
    take(session, request(sdp("2", "1"), "application/sdp"), OURS)
    assert shape(answer(session)) == [(20_002, "2", "recvonly"), (20_000, "1", "recvonly")]


def test_line_that_was_gone_comes_back_on_its_port() -> None:
    session = begun()
    take(session, request(sdp("1", "2 sendonly 0"), "application/sdp"), OURS)
    assert [media.port for media in answer(session).media] == [20_000, 0]
    take(session, request(sdp("1", "2"), "application/sdp"), OURS)
    assert [media.port for media in answer(session).media] == [20_000, 20_002] and len(session.tracks) == 2


def test_a_third_party_joins() -> None:
    session = begun()
    change = take(
        session, request(parts(sdp("1", "2", "3"), document("c sip:200@x 3", mode="partial"))), OURS
    )
    assert change.tracks == (2,) and [mark.kind for mark in change.marks] == [MarkKind.PARTY_JOINED]
    assert who(session)["3"][0] == "sip:200@x" and who(session)["1"][0] == CALLER


def test_tracks_have_a_bound() -> None:
    session = begun()
    for number in range(200):
        people = document(f"a {CALLER} 1", f"p{number} sip:5{number}@x n{number}")
        take(session, request(parts(sdp("1", f"n{number}"), people)), OURS)
    assert len(session.tracks) <= 64 and "tracks-exhausted" in session.flags
    assert all(media.port for media in answer(session).media)


# -- our own offer ---------------------------------------------------------------------------------------------------


def test_offer_and_its_answer() -> None:
    session = RecordingSession()
    take(session, request(USUAL, "application/rs-metadata+xml"), OURS)
    assert session.prepare_offer().tracks == (0, 1)
    session.bind({0: (20_000, 20_001), 1: (20_002, 20_003)})
    offer = parse_sdp(session.offer(ADDRESS))
    assert shape(offer) == [(20_000, "1", "recvonly"), (20_002, "2", "recvonly")]
    reply = read_body(request(sdp("1", "2 sendonly 0"), "application/sdp", "ACK"))
    change = session.answered(reply, ours=lambda number: False, now_ns=NOW)
    assert [track.active for track in session.tracks] == [True, False] and 1 in change.tracks
    assert who(session)["1"][0] == CALLER


@pytest.mark.parametrize("reply", [b"", b"v=0\r\nm=audio\r\n", sdp("1")])
def test_answer_that_is_none_leaves_the_lines_open(reply: bytes) -> None:
    session = RecordingSession()
    take(session, request(b"", None), OURS)
    session.prepare_offer()
    session.bind({0: (20_000, 20_001), 1: (20_002, 20_003)})
    session.offer(ADDRESS)
    session.answered(
        read_body(request(reply, "application/sdp", "ACK")), ours=lambda number: False, now_ns=NOW
    )
    assert all(track.active for track in session.tracks) and "sdp-malformed" in session.flags


def test_reinvite_without_sdp_gets_the_lines_there_are() -> None:
    session = begun(sdp("1", "2 sendonly 0"))
    first = answer(session)
    take(session, request(b"", None), OURS)
    session.prepare_offer()
    again = parse_sdp(session.offer(ADDRESS))
    assert [media.port for media in again.media] == [media.port for media in first.media] == [20_000, 0]
    assert again.direction_of(again.media[0]) is MediaDirection.RECVONLY


def test_memory_holds_everything() -> None:
    session = begun()
    answer(session)
    copy = RecordingSession(SessionState.model_validate_json(session.state().model_dump_json()))
    assert copy.state() == session.state()
    for one in (session, copy):
        take(one, request(sdp("1 inactive", "2"), "application/sdp"), OURS)
    assert answer(copy) == answer(session) and copy.parties == session.parties
