"""The metadata reader: every dialect, and whatever else the network may send."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.media.siprec.extensions import identifiers
from appliance.media.siprec.merge import merge
from appliance.media.siprec.metadata import MAX_PARTICIPANTS, read_metadata, read_time
from appliance.media.siprec.tree import MAX_BYTES, read_tree
from appliance.media.siprec.voices import Voice, present_participants, voices

RFC = """<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
 <datamode>complete</datamode>
 <group group_id="g1"><associate-time>2026-01-05T09:00:00Z</associate-time></group>
 <session session_id="s1"><sipSessionID>ab30317f1a784dc48ff824d0d3715d86;remote=47755a9de7794ba387653f2099600ef2</sipSessionID>
  <group-ref>g1</group-ref><start-time>2026-01-05T09:00:00Z</start-time></session>
 <participant participant_id="p1"><nameID aor="sip:bob@biloxi.com"><name xml:lang="it">Bob B</name></nameID></participant>
 <participant participant_id="p2"><nameID aor="sip:paul@box.com"><name xml:lang="en">Paul</name></nameID></participant>
 <stream stream_id="m1" session_id="s1"><label>96</label></stream>
 <stream stream_id="m2" session_id="s1"><label>97</label></stream>
 <sessionrecordingassoc session_id="s1"><associate-time>2026-01-05T09:00:00Z</associate-time></sessionrecordingassoc>
 <participantsessionassoc participant_id="p1" session_id="s1"><associate-time>2026-01-05T09:00:00Z</associate-time></participantsessionassoc>
 <participantsessionassoc participant_id="p2" session_id="s1"><associate-time>2026-01-05T09:00:00Z</associate-time></participantsessionassoc>
 <participantstreamassoc participant_id="p1"><send>m1</send><recv>m2</recv></participantstreamassoc>
 <participantstreamassoc participant_id="p2"><send>m2</send><recv>m1</recv></participantstreamassoc>
</recording>"""  # noqa: E501

PRE_RFC = """<?xml version='1.0'?><recording xmlns='urn:ietf:params:xml:ns:recording'><dataMode>complete</dataMode>
 <session id="s1"><start-time>2026-01-05T09:00:00</start-time></session>
 <participant id="p1" session="s1"><nameID aor="sip:bob@biloxi.com"><name>Bob B</name></nameID><send>m1</send><recv>m2</recv></participant>
 <participant id="p2" session="s1"><nameID aor="sip:paul@box.com"><name>Paul</name></nameID><send>m2</send></participant>
 <stream id="m1" session="s1"><label>96</label><mode>separate</mode></stream>
 <stream id="m2" session="s1"><label>97</label></stream></recording>"""  # noqa: E501

DRAFT = """<recording_metadata xmlns="urn:ietf:params:xml:ns:siprec"><dataMode>complete</dataMode>
 <recording id="r1"/><group id="g1" recording="r1"/><session id="s1" group="g1"/>
 <participant id="p1" session="s1"><aor>sip:bob@biloxi.com</aor><name>Bob B</name><send>m1</send></participant>
 <participant id="p2" session="s1"><aor>sip:paul@box.com</aor><name>Paul</name><send>m2</send></participant>
 <stream id="m1" session="s1"><label>96</label></stream><stream id="m2" session="s1"><label>97</label></stream>
</recording_metadata>"""

DIALECTS = {
    "rfc": RFC,
    "pre-rfc": PRE_RFC,
    "draft": DRAFT,
    "hyphen": DRAFT.replace("recording_metadata", "recording-metadata"),
    "no-namespace": RFC.replace(' xmlns="urn:ietf:params:xml:ns:recording:1"', ""),
    "other-namespace": RFC.replace("urn:ietf:params:xml:ns:recording:1", "urn:vendor"),
    "prefixed": RFC.replace("</", "</tns:").replace("<", "<tns:").replace("<tns:/tns:", "</tns:")
    .replace("<tns:?", "<?").replace('xmlns="', 'xmlns:tns="'),
    "prefix-not-declared": PRE_RFC.replace("<send>", "<tns:send>").replace("</send>", "</tns:send>"),
    "leading-lines": "\r\n\r\n " + RFC,
    "trailing-octets": RFC + "\r\n\0\0",
    "upper-case": PRE_RFC.replace("participant", "Participant").replace("stream", "Stream"),
    "comment": RFC.replace("<session ", "<!-- x --><session "),
    "sends-by-label": PRE_RFC.replace("<send>m1", "<send>96").replace("<send>m2", "<send>97"),
    "references-in-one": PRE_RFC.replace("<send>m1</send>", "<send> m1 m9\n</send>"),
    "utf-16": RFC.replace("UTF-8", "UTF-16"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_say_the_same(name: str) -> None:
    text = DIALECTS[name]
    found = read_metadata(text.encode("utf-16" if name == "utf-16" else "utf-8"))
    assert found.complete is True
    assert [one.id for one in found.sessions] == ["s1"]
    assert [one.address.aor for one in found.participants] == ["sip:bob@biloxi.com", "sip:paul@box.com"]
    assert [one.address.name for one in found.participants] == ["Bob B", "Paul"]
    assert [(one.id, one.label) for one in found.streams] == [("m1", "96"), ("m2", "97")]
    assert voices(found, ["97", "96"]) == [Voice("p2"), Voice("p1")]
    assert "metadata-missing" not in found.flags and "metadata-unknown" not in found.flags


def test_group_and_ids() -> None:
    found = read_metadata(RFC.encode())
    assert found.sessions[0].group_id == "g1" and [group.id for group in found.groups] == ["g1"]
    assert found.call.identifiers == (
        "session-id:ab30317f1a784dc48ff824d0d3715d86",
        "session-id:47755a9de7794ba387653f2099600ef2",
    )
    assert read_metadata(DRAFT.encode()).sessions[0].group_id == "g1"


def test_no_ids_at_all() -> None:
    found = read_metadata(
        b"<recording><participant><nameID aor='1@x'/><send>1</send></participant>"
        b"<participant><nameID aor='2@x'/><send>2</send></participant>"
        b"<stream><label>1</label></stream><stream><label>2</label></stream></recording>"
    )
    assert [voice.participant_id for voice in voices(found, ["2", "1"])] == ["#1", "#0"]


def test_names_empty_or_in_several_languages() -> None:
    found = read_metadata(
        b"<recording><participant id='p'><nameID aor='sip:1@x'><name xml:lang='de'>Empfang</name>"
        b"<name xml:lang='en'>Reception</name></nameID></participant>"
        b"<participant id='q'><nameID aor='sip:2@x'><name xml:lang='en'> </name></nameID></participant></recording>"
    )
    assert [one.address.name for one in found.participants] == ["Reception", ""]


@pytest.mark.parametrize(
    ("text", "expected", "zone"),
    [
        ("2026-01-05T09:00:00Z", 0, True),
        ("2026-01-05T09:00:00.5Z", 500_000_000, True),
        ("2026-01-05T10:00:00+01:00", 0, True),
        ("2026-01-05T04:00:00-0500", 0, True),
        ("2026-01-05 09:00:00", 0, False),
        ("1767603600", 0, True),
        ("1767603600250", 250_000_000, True),
    ],
)
def test_times(text: str, expected: int, zone: bool) -> None:
    base = int(datetime(2026, 1, 5, 9, tzinfo=UTC).timestamp()) * 1_000_000_000
    assert read_time(text) == (base + expected, zone)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-45T99:00:00Z", "0001-01-01T00:00:00+14:00", "9" * 40]
)
def test_times_that_are_none(text: str) -> None:
    document = f"<recording><session id='s'><start-time>{text}</start-time></session></recording>"
    assert read_metadata(document.encode()).sessions[0].started_ns == 0


def test_clock_of_1970_is_flagged_and_an_end_by_it_still_an_end() -> None:
    found = read_metadata(
        b"<recording><participant id='p'><nameID aor='1'/></participant><participant id='q'><nameID aor='2'/></participant>"
        b"<participantsessionassoc participant_id='p' session_id='s'><associate-time>1970-01-01T00:10:00Z</associate-time>"
        b"<disassociate-time>1970-01-01T00:11:00Z</disassociate-time></participantsessionassoc></recording>"
    )
    assert "clock-wrong" in found.flags
    assert [one.id for one in present_participants(found)] == ["q"]


MALFORMED = [
    (b"<recording><participant id='p'><nameID aor='1'><name>Smith & Sons</name></nameID></participant>"
     b"<stream id='m'><label>1</label></stream></recording>", "Smith & Sons"),
    (b"<recording><participant id=p><nameID aor='1'><name>A</name></nameID></participant></recording>", "A"),
    (b"<recording><participant id='p'><nameID aor='1'><name>A</name></nameID></participant><stream", "A"),
    ("<?xml version='1.0' encoding='UTF-8'?><recording><participant id='p'><nameID aor='1'><name>Müller</name>"
     "</nameID></participant></recording>".encode("latin-1"), "Müller"),
    (b"<recording><participant id='p'><nameID aor='1'><name>A\x01B</name></nameID></participant></recording>", "A B"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "name"), MALFORMED)
def test_malformed_is_read_as_far_as_it_goes(data: bytes, name: str) -> None:
    found = read_metadata(data)
    assert "metadata-malformed" in found.flags
    assert found.participants[0].address.name == name


@pytest.mark.parametrize(
    ("data", "flag"),
    [
        (b"", "metadata-missing"),
        (b"  \r\n", "metadata-missing"),
        (b"hello", "metadata-malformed"),
        (b"<html><body/></html>", "metadata-unknown"),
        (b"<recording/>", "metadata-missing"),
        (b"\xff" * 100, "metadata-malformed"),
    ],
)
def test_nothing_to_read(data: bytes, flag: str) -> None:
    found = read_metadata(data)
    assert found.empty and flag in found.flags


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(10))
    return f"<?xml version='1.0'?><!DOCTYPE r [{entities}]><recording a='&l9;'><name>&l9;</name></recording>".encode()


HOSTILE = {
    "billion-laughs": laughs(),
    "external-entity": b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><recording>&x;</recording>',
    "external-dtd": b'<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x.dtd"><recording/>',
    "utf-16-dtd": laughs().decode().encode("utf-16"),
    "deep": b"<recording>" + b"<a>" * 100_000,
    "many-participants": b"<recording>" + b"<participant id='p'><nameID aor='1'/></participant>" * 10_000 + b"</recording>",
    "many-ids": b"<recording>"
    + b"".join(b"<participant id='p%d'><nameID aor='%d'/></participant>" % (n, n) for n in range(9_000)) + b"</recording>",
    "long-attribute": b"<recording a='" + b"x" * 400_000 + b"'/>",
    "many-attributes": b"<recording " + b" ".join(b"a%d='1'" % n for n in range(40_000)) + b"/>",
    "many-namespaces": b"<recording " + b" ".join(b"xmlns:n%d='u%d'" % (n, n) for n in range(15_000)) + b"/>",
    "long-text": b"<recording><name>" + b"x" * 400_000,
    "huge": b"<recording>" + b"<a/>" * 2_000_000,
    "open-tags": b"<a b=c " * 70_000,
    "ampersands": b"<recording>" + b"&" * 500_000,
    "spaces": b"<" + b" " * 500_000,
    "references": b"<recording><participant id='p'><send>" + b"m " * 100_000 + b"</send></participant></recording>",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_bounded(name: str) -> None:
    begun = time.process_time()
    found = read_metadata(HOSTILE[name])
    merged = merge(read_metadata(RFC.encode()), found)
    # A bound against explosion, a hundred times what it takes: no measure of speed.
    assert time.process_time() - begun < 20
    assert len(found.participants) <= MAX_PARTICIPANTS and len(merged.participants) <= MAX_PARTICIPANTS
    root = read_tree(HOSTILE[name]).root
    texts = [
        text for node in (root.walk() if root else ()) for text in (node.text, *node.attributes.values())
    ]
    assert sum(map(len, texts)) < 4 * MAX_BYTES
    assert not any(
        "haha" in text or "root:" in text for text in texts
    )  # no entity was expanded, no file read


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=600))
def test_any_octets(data: bytes) -> None:
    merge(read_metadata(RFC.encode()), read_metadata(data))


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Known elements, nested and filled at random."""
    names = st.sampled_from(
        ["recording", "participant", "stream", "session", "group", "nameID", "name", "send", "recv", "label", "aor",
         "participantstreamassoc", "participantsessionassoc", "disassociate-time", "datamode", "callData", "ucid",
         "header", "callingParty", "fromhdr", "extensiondata", "sipSessionID"]
    )  # fmt: skip
    attributes = st.sampled_from(
        [
            "",
            " id='a'",
            " participant_id='a'",
            " stream_id='b'",
            " session='c'",
            " aor='1@x'",
            " id=b",
            " label='User-to-User'",
        ]
    )
    words = st.sampled_from(
        ["", "a", "b", "1", "true", "complete", "partial", "2026-01-05T09:00:00Z", "&", "<", "]]>", "é"]
    )

    def element(depth: int) -> str:
        name, inside = draw(names), draw(words)
        if depth:
            inside += "".join(element(depth - 1) for _ in range(draw(st.integers(0, 3))))
        end = draw(st.sampled_from([f"</{name}>"] * 9 + [""]))
        return f"<{name}{draw(attributes)}>{inside}{end}"

    return element(3).encode(draw(st.sampled_from(["utf-8", "latin-1"])), "replace")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(
    st.lists(documents(), min_size=1, max_size=3), st.lists(st.sampled_from(["", "1", "a", "b"]), max_size=4)
)
def test_any_sequence_of_documents(updates: list[bytes], labels: list[str]) -> None:
    state = None
    for update in updates:
        state = merge(state, read_metadata(update))
        found = voices(state, labels)
        assert len(found) == len(labels)
        known = {one.id for one in state.participants}
        assert all(not voice.participant_id or voice.participant_id in known for voice in found)


# -- one document on top of another ----------------------------------------------------------------------------------


def test_partial_update_changes_what_it_names() -> None:
    state = merge(
        read_metadata(RFC.encode()),
        read_metadata(
            b"<recording><datamode>partial</datamode>"
            b"<participant participant_id='p2'><nameID aor='sip:new@box.com'/></participant></recording>"
        ),
    )
    assert [one.address.aor for one in state.participants] == ["sip:bob@biloxi.com", "sip:new@box.com"]
    assert voices(state, ["96", "97"]) == [Voice("p1"), Voice("p2")]


def test_partial_update_hands_a_stream_to_somebody_else() -> None:
    state = merge(
        read_metadata(RFC.encode()),
        read_metadata(
            b"<recording><datamode>partial</datamode><participant participant_id='p3'><nameID aor='sip:c@x'/></participant>"
            b"<participantstreamassoc participant_id='p3'><send>m2</send></participantstreamassoc></recording>"
        ),
    )
    assert voices(state, ["96", "97"]) == [Voice("p1"), Voice("p3")]


def test_complete_update_takes_participants_away_and_keeps_what_it_is_silent_about() -> None:
    state = merge(
        read_metadata(RFC.encode()),
        read_metadata(
            b"<recording><datamode>complete</datamode>"
            b"<participant participant_id='p1'><nameID aor='sip:bob@biloxi.com'/></participant></recording>"
        ),
    )
    assert [one.id for one in state.participants] == ["p1"]
    assert [one.label for one in state.streams] == ["96", "97"]
    assert voices(state, ["96"]) == [Voice("p1")]


@pytest.mark.parametrize(
    "junk", [b"", b"<recording><participant", b"junk", b"<recording/>", RFC[:700].encode()]
)
def test_broken_update_takes_nothing_away(junk: bytes) -> None:
    state = merge(read_metadata(RFC.encode()), read_metadata(junk))
    assert voices(state, ["96", "97"]) == [Voice("p1"), Voice("p2")]
    assert {one.id for one in state.participants} == {"p1", "p2"}


@pytest.mark.parametrize("value", ["\u00b2-1-1-1", "\u0664-1-1-1", f"1-1-1-{'9' * 5000}", "1-1-1-4294967296"])
def test_guid_of_words_that_are_none_is_no_decimal_one(value: str) -> None:
    assert not any(re.fullmatch("guid:[0-9a-f]{32}", one) for one in identifiers("guid", value))
    assert identifiers("guid", "1-2-3-4294967295") == ["guid:000000010000000200000003ffffffff"]
