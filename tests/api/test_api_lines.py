"""Lines in the path of calls: what they say, what is refused, and how they are changed."""

from __future__ import annotations

import gc

import grpc
import numpy as np
import pytest
import sqlalchemy as sa
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

import earwitness
from appliance.access.identities import Role
from appliance.catalog import tables
from appliance.media.audio.encode import wav_header
from appliance.model import new_id
from appliance.model.routing import AnnounceWhen, KeyCodes, Rights, RoutingTable
from earwitness.v1 import party_pb2, prompts_pb2
from earwitness.v1 import tenants_pb2 as pb

PBX = "sip:pbx.example;transport=tls"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def routed(box, name: str):
    table = RoutingTable.model_validate_json(box.layout.routing.read_bytes())
    return next(line for line in table.lines if line.line_id == name[-26:])


def create(client, parent, how=None, **fields) -> pb.Line:
    line = pb.Line(**{"display_name": "x", **fields})
    return client.tenants.CreateLine(pb.CreateLineRequest(parent=parent, line=line, **(how or {}))).line


def update(client, name, paths=(), how=None, **fields) -> pb.Line:
    request = pb.UpdateLineRequest(
        line=pb.Line(name=name, **fields), update_mask=FieldMask(paths=paths), **(how or {})
    )
    return client.tenants.UpdateLine(request).line


def prompt(client, parent, language="en-GB", **how) -> str:
    pcm = np.random.default_rng(3).standard_normal(8000) * 3000
    audio = wav_header(8000, 1, 8000) + pcm.astype("<i2").tobytes()
    said = prompts_pb2.Prompt(display_name="p", language=language, text="Recorded.", purposes=["training"])
    request = prompts_pb2.CreatePromptRequest(parent=parent, prompt=said, audio=audio, **how)
    return client.prompts.CreatePrompt(iter([request])).prompt.name


def inline(**fields) -> pb.InlineRules:
    return pb.InlineRules(**{"inbound": [pb.Target(uri=PBX)], **fields})


def seconds(count: int, nanos: int = 0) -> Duration:
    return Duration(seconds=count, nanos=nanos)


def test_who_is_of_another_tenant_by_now_gets_no_line_by_an_old_request_id(box):
    """As somebody whose groups at the identity provider changed: the name is the same, the tenant another."""
    tenant_id, line_id = box.default_line()
    second = (
        box.client()
        .tenants.CreateTenant(pb.CreateTenantRequest(tenant=pb.Tenant(display_name="other")))
        .tenant.name[-26:]
    )
    mover = box.enroll("mover", Role.TENANT_ADMINISTRATOR, tenant_id=tenant_id)
    name, how = f"tenants/{tenant_id}/lines/{line_id}", {"request_id": "r1"}
    assert update(mover, name, how=how, display_name="y").display_name == "y"
    box.write(
        lambda connection: connection.execute(
            sa.update(tables.identities)
            .where(tables.identities.c.name == f"{tenant_id}/mover")
            .values(tenant_id=second)
        )
    )
    assert refused(lambda: update(mover, name, how=how, display_name="y")).reason == "LINE_NOT_FOUND"


@pytest.fixture
def home(box):
    return f"tenants/{box.default_line()[0]}"


@pytest.fixture
def client(box, home):
    return box.client()


def test_all_rules_reach_the_routing_table(box, home, client):
    english, welsh = prompt(client, home), prompt(client, home, "cy")
    samples = client.prompts.ListPrompts(prompts_pb2.ListPromptsRequest()).prompts
    whisper = next(one for one in samples if "Whisper" in one.display_name)
    said = {
        "numbers": ["200"],
        "inline": inline(
            inbound=[pb.Target(uri=PBX, srtp=True), pb.Target(uri="sips:desk@192.0.2.7:5071")],
            outbound=[pb.Target(uri="sip:[2001:db8::1]:5060;transport=udp")],
            ring_time=seconds(20),
            announcement=pb.Announcement(
                prompts=[welsh, english], when=pb.ANNOUNCE_WHEN_AFTER_ANSWER, interruptible=True
            ),
            whisper=whisper.name,
            tone_interval=seconds(15),
        ),
        "keys": pb.KeyCodes(pause="*7", end=""),
        "rights": pb.RIGHTS_PAUSE,
        "agents": [
            pb.AgentRights(number="20*", may=pb.RIGHTS_END),
            pb.AgentRights(number="201", may=pb.RIGHTS_NONE),
        ],
        "auto_resume_delay": seconds(120),
        "reminder_interval": seconds(0),
    }
    made = create(client, home, **said)
    assert (made.inline, made.rights) == (said["inline"], pb.RIGHTS_PAUSE)
    assert (made.keys.pause, made.keys.resume, made.keys.end) == ("*7", "*3", "")
    assert [*made.agents] == said["agents"] and made.auto_resume_delay.seconds == 120
    assert made.HasField("reminder_interval") and not made.reminder_interval.seconds
    assert client.tenants.GetLine(pb.GetLineRequest(name=made.name)).line == made
    assert made in client.tenants.ListLines(pb.ListLinesRequest(parent=home)).lines

    line = routed(box, made.name)
    rules = line.inline
    assert [(one.uri, one.srtp) for one in rules.inbound] == [
        (PBX, True),
        ("sips:desk@192.0.2.7:5071", False),
    ]
    assert (rules.ring_s, rules.tone_s) == (20, 15)
    first = client.prompts.GetPrompt(prompts_pb2.GetPromptRequest(name=welsh)).prompt
    ref = rules.announcement.prompts[0]
    assert (ref.prompt_id, ref.language, ref.purposes) == (welsh[-26:], "cy", ("training",))
    assert (ref.text_sha256, ref.audio_sha256) == (first.text_sha256.hex(), first.audio_sha256.hex())
    assert ref.duration_ms == first.duration.ToMilliseconds()
    assert rules.announcement.prompts[1].prompt_id == english[-26:]
    assert rules.announcement.when is AnnounceWhen.AFTER_ANSWER and rules.announcement.interruptible
    assert rules.whisper.prompt_id == whisper.name[-26:] and rules.whisper.language == "en-GB"
    assert line.keys == KeyCodes(pause="*7", resume="*3", end="")
    assert [(one.number, one.may) for one in line.agents] == [("20*", Rights.END), ("201", Rights.NONE)]
    assert (line.rights, line.auto_resume_s, line.reminder_s) == (Rights.PAUSE, 120, 0)


def test_what_is_not_said(box, home, client):
    made = create(client, home, inline=inline())
    assert (made.keys.pause, made.keys.resume, made.keys.end) == ("*2", "*3", "*4")
    assert (made.rights, made.auto_resume_delay.seconds, made.reminder_interval.seconds) == (
        pb.RIGHTS_NONE,
        0,
        30,
    )
    assert (made.inline.ring_time.seconds, made.inline.tone_interval.seconds) == (30, 0)
    assert not made.inline.HasField("announcement") and not made.inline.whisper
    assert not create(client, home).HasField("inline")


TARGET = "line.inline.inbound[0].uri"
ANNOUNCED = "line.inline.announcement.prompts"


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"inline": pb.InlineRules()}, "line.inline"),
        ({"inline": inline(inbound=[pb.Target(uri="")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="pbx.example")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="tel:+441632960100")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="http://pbx.example")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="sip:")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="sip:pbx.example:99999")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="sip:pbx.example?Subject=x")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="sip:a:secret@pbx.example")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="sip:pbx.example;transport=pigeon")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="sip:pbx.example\r\nVia: x")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri=f"sip:{'x' * 252}")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="sip:pbx..example")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri=f"sip:{'x' * 64}.example")])}, TARGET),
        ({"inline": inline(inbound=[pb.Target(uri="sip:.")])}, TARGET),
        (
            {"inline": inline(outbound=[pb.Target(uri=PBX), pb.Target(uri="x")])},
            "line.inline.outbound[1].uri",
        ),
        ({"inline": inline(inbound=[pb.Target(uri=PBX)] * 9)}, "line.inline.inbound"),
        ({"inline": inline(ring_time=seconds(0))}, "line.inline.ring_time"),
        ({"inline": inline(ring_time=seconds(301))}, "line.inline.ring_time"),
        ({"inline": inline(ring_time=seconds(3, 5))}, "line.inline.ring_time"),
        ({"inline": inline(tone_interval=seconds(4))}, "line.inline.tone_interval"),
        ({"inline": inline(tone_interval=seconds(-1))}, "line.inline.tone_interval"),
        ({"inline": inline(announcement=pb.Announcement())}, ANNOUNCED),
        ({"inline": inline(announcement=pb.Announcement(prompts=["x"] * 17))}, ANNOUNCED),
        ({"inline": inline(announcement=pb.Announcement(prompts=["x"]))}, f"{ANNOUNCED}[0]"),
        ({"inline": inline(whisper="hello")}, "line.inline.whisper"),
        ({"keys": pb.KeyCodes(pause="*22222222")}, "line.keys.pause"),
        ({"keys": pb.KeyCodes(resume="3E")}, "line.keys.resume"),
        ({"keys": pb.KeyCodes(end="*2")}, "line.keys.end"),
        ({"keys": pb.KeyCodes(end="*25")}, "line.keys.end"),
        ({"keys": pb.KeyCodes(end="*")}, "line.keys.pause"),
        ({"rights": 9}, "line.rights"),
        ({"agents": [pb.AgentRights(number="x", may=pb.RIGHTS_END)]}, "line.agents[0].number"),
        ({"agents": [pb.AgentRights(number="201")]}, "line.agents[0].may"),
        ({"agents": [pb.AgentRights(number="201", may=pb.RIGHTS_END)] * 2}, "line.agents[1].number"),
        (
            {"agents": [pb.AgentRights(number=f"{n}", may=pb.RIGHTS_END) for n in range(5001)]},
            "line.agents",
        ),
        ({"auto_resume_delay": seconds(9)}, "line.auto_resume_delay"),
        ({"auto_resume_delay": seconds(3601)}, "line.auto_resume_delay"),
        ({"reminder_interval": seconds(4)}, "line.reminder_interval"),
    ],
)
def test_bad_rules_name_the_field(box, home, client, fields, field):
    for how in ({}, {"validate_only": True}):
        found = refused(lambda how=how: create(client, home, how, **fields))
        assert (found.code, list(found.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    made = create(client, home)
    found = refused(lambda: update(client, made.name, list(fields), **fields))
    assert (found.code, list(found.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert client.tenants.GetLine(pb.GetLineRequest(name=made.name)).line == made


def test_what_is_at_the_bounds_is_taken(home, client):
    agents = [pb.AgentRights(number=f"{n}", may=pb.RIGHTS_PAUSE) for n in range(5000)]
    made = create(
        client,
        home,
        inline=inline(ring_time=seconds(300), tone_interval=seconds(5)),
        keys=pb.KeyCodes(pause="12345678", resume="A", end="#"),
        agents=agents,
        auto_resume_delay=seconds(10),
        reminder_interval=seconds(3600),
    )
    assert len(made.agents) == 5000 and made.keys.pause == "12345678"


def test_prompts_must_be_there_and_ones_own(box, home, client):
    other = client.tenants.CreateTenant(
        pb.CreateTenantRequest(tenant=pb.Tenant(display_name="Other"))
    ).tenant.name
    mine, again, theirs = prompt(client, home), prompt(client, home, "EN-gb"), prompt(client, other)
    stolen = f"{home}/prompts/{theirs[-26:]}"
    for name in (theirs, stolen, f"tenants/-/prompts/{theirs[-26:]}", f"{home}/prompts/{new_id()}"):
        for rules, field in (
            (inline(announcement=pb.Announcement(prompts=[mine, name])), f"{ANNOUNCED}[1]"),
            (inline(whisper=name), "line.inline.whisper"),
        ):
            for how in ({}, {"validate_only": True}):
                found = refused(lambda how=how, rules=rules: create(client, home, how, inline=rules))
                assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "PROMPT_NOT_FOUND")
                assert found.data.get("field", field) == field
    twice = inline(announcement=pb.Announcement(prompts=[mine, again]))
    found = refused(lambda: create(client, home, inline=twice))
    assert (found.reason, list(found.fields)) == ("PROMPT_LANGUAGE_TWICE", [f"{ANNOUNCED}[1]"])


def test_a_number_is_one_lines_alone(box, home, client):
    first = create(client, home, numbers=["200", "201"])
    for how in ({}, {"validate_only": True}):
        found = refused(lambda how=how: create(client, home, how, numbers=["300", "201"]))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NUMBER_TAKEN")
        assert found.data["line"] == first.name and found.data["field"] == "line.numbers[1]"
    other = client.tenants.CreateTenant(
        pb.CreateTenantRequest(tenant=pb.Tenant(display_name="Other"))
    ).tenant.name
    found = refused(lambda: create(client, other, numbers=["200"]))
    assert found.reason == "NUMBER_TAKEN" and "line" not in found.data
    assert home[8:] not in str(found) and first.name[-26:] not in str(found)
    second = create(client, home, numbers=["300"])
    for how in ({}, {"validate_only": True}):
        found = refused(lambda how=how: update(client, second.name, ["numbers"], how, numbers=["200"]))
        assert (found.reason, found.data["line"]) == ("NUMBER_TAKEN", first.name)
    update(client, first.name, ["numbers"], numbers=["201"])
    assert [*update(client, second.name, ["numbers"], numbers=["200"]).numbers] == ["200"]


def test_after_a_number_was_refused_the_catalogue_is_written_as_before(box, home, client):
    """The look through the numbers ends early then; what it read from must not keep its connection in the past."""
    made = create(client, home, numbers=["200", "201"])
    create(client, home, numbers=["300"])
    gc.disable()  # an error and what it holds would go at any time
    try:
        for number in range(8):
            for how in ({}, {"validate_only": True}):
                assert (
                    refused(lambda how=how: create(client, home, how, numbers=["200"])).reason
                    == "NUMBER_TAKEN"
                )
            update(client, made.name, display_name=f"n{number}")
    finally:
        gc.enable()


def test_what_the_mask_names_is_changed_and_nothing_else(box, home, client):
    spoken = prompt(client, home)
    made = create(
        client,
        home,
        numbers=["200"],
        trunks=["192.0.2.1"],
        directions=[party_pb2.DIRECTION_INBOUND],
        inline=inline(announcement=pb.Announcement(prompts=[spoken]), whisper=spoken, ring_time=seconds(9)),
        rights=pb.RIGHTS_END,
        keys=pb.KeyCodes(pause="*7"),
    )
    expected = pb.Line()
    expected.CopyFrom(made)

    def check(found: pb.Line) -> None:
        assert found.etag != expected.etag
        expected.etag = found.etag
        assert found == expected
        assert client.tenants.GetLine(pb.GetLineRequest(name=made.name)).line == expected

    # Of a line that says more, what is named alone counts.
    more = {"display_name": "y", "numbers": ["300"], "rights": pb.RIGHTS_NONE}
    expected.display_name = "y"
    check(update(client, made.name, ["display_name"], **more))
    expected.inline.announcement.when = pb.ANNOUNCE_WHEN_AFTER_ANSWER
    check(
        update(
            client,
            made.name,
            ["inline.announcement.when"],
            inline=inline(announcement=pb.Announcement(when=pb.ANNOUNCE_WHEN_AFTER_ANSWER)),
        )
    )
    # Named and not said: as if it never had been.
    expected.inline.whisper = ""
    check(update(client, made.name, ["inline.whisper"]))
    expected.keys.pause = "*2"
    check(update(client, made.name, ["keys.pause"]))
    expected.inline.ClearField("announcement")
    check(update(client, made.name, ["inline.announcement"]))
    del expected.directions[:]
    expected.directions.extend(create(client, home).directions)
    check(update(client, made.name, ["directions"]))
    expected.ClearField("inline")
    del expected.numbers[:]
    expected.numbers.append("400")
    check(update(client, made.name, ["inline", "numbers"], numbers=["400"]))
    assert routed(box, made.name).inline is None
    # Without a mask, what is said.
    expected.rights = pb.RIGHTS_PAUSE
    check(update(client, made.name, rights=pb.RIGHTS_PAUSE))
    # All of it.
    whole = update(client, made.name, ["*"], display_name="z")
    assert not whole.numbers and not whole.trunks and whole.rights == pb.RIGHTS_NONE
    assert (whole.display_name, whole.create_time, whole.name) == ("z", made.create_time, made.name)


def test_masks_that_name_something_else(home, client):
    made = create(client, home)
    for paths in (["grain"], ["grace_days"], ["name"], ["etag"], ["colour"], ["inline.colour"], ["*", "rights"],
                  ["agents.number"], ["display_name.x"], [""], ["."], ["inline."]):  # fmt: skip
        found = refused(lambda paths=paths: update(client, made.name, paths, display_name="y"))
        assert (found.code, list(found.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, ["update_mask"]), paths


def test_etag_request_id_validate_only(box, home, client):
    made = create(client, home)
    shown = update(client, made.name, ["display_name"], {"validate_only": True}, display_name="y")
    assert shown.display_name == "y" and shown.name == made.name
    assert client.tenants.GetLine(pb.GetLineRequest(name=made.name)).line == made
    once = {"request_id": "u"}
    changed = update(client, made.name, ["display_name"], once, display_name="y", etag=made.etag)
    assert routed(box, made.name).display_name == "y"
    assert update(client, made.name, ["display_name"], once, display_name="y", etag=made.etag) == changed
    for how in ({}, {"validate_only": True}):
        found = refused(
            lambda how=how: update(client, made.name, ["display_name"], how, display_name="z", etag=made.etag)
        )
        assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    anywhere = f"tenants/-/lines/{made.name[-26:]}"
    assert update(client, anywhere, ["display_name"], display_name="z").name == made.name


def test_what_is_not_there(box, home, client):
    other = client.tenants.CreateTenant(
        pb.CreateTenantRequest(tenant=pb.Tenant(display_name="Other"))
    ).tenant.name
    made = create(client, home)
    for name in (f"{home}/lines/{new_id()}", f"{other}/lines/{made.name[-26:]}"):
        assert refused(lambda name=name: update(client, name, display_name="y")).reason == "LINE_NOT_FOUND"
    assert refused(lambda: update(client, "lines/x", display_name="y")).reason == "NAME_INVALID"
    operator = box.enroll("auditor", Role.AUDITOR)
    assert refused(lambda: update(operator, made.name, display_name="y")).reason == "METHOD_DENIED"


def test_one_line_takes_the_rest_after_a_change_too(box, home, client):
    made = create(client, home)
    first = f"{home}/lines/{box.default_line()[1]}"
    found = refused(lambda: update(client, made.name, ["catch_all"], catch_all=True))
    assert (found.reason, found.data["line"]) == ("CATCH_ALL_TAKEN", first)
    assert update(client, first, ["display_name"], display_name="y").catch_all
    update(client, first, ["catch_all"])
    assert update(client, made.name, ["catch_all"], catch_all=True).catch_all
