"""Prompts: uploaded in parts, checked, rendered, listed, downloaded, removed; and what a restart makes of them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import threading
import wave

import grpc
import numpy as np
import pytest
import sqlalchemy as sa

import earwitness
from appliance.access.identities import Role
from appliance.api import samples, uploads
from appliance.api.promptstore import PromptStore
from appliance.catalog import prompts as rows
from appliance.catalog import tables
from appliance.media.audio.encode import wav_header
from appliance.media.audio.prompts import FORMS, unpack
from appliance.model import new_id
from appliance.model.prompt import Prompt
from earwitness.v1 import prompts_pb2 as pb
from earwitness.v1 import tenants_pb2

WORDS = "Your call is recorded.\nIf you do not wish this, say so."


def sound(seconds: float = 1.0, rate: int = 16000, level: float = 0.1, channels: int = 1) -> bytes:
    rng = np.random.default_rng(7)
    pcm = np.clip(rng.standard_normal((int(seconds * rate), channels)) * level * 32767, -32767, 32767)
    return wav_header(rate, channels, len(pcm)) + pcm.astype("<i2").tobytes()


def messages(parent: str, audio: bytes, part: int = 100_000, **first):
    fields = {"display_name": "Greeting", "language": "en-gb", "text": WORDS, "purposes": ["training"]}
    prompt = pb.Prompt(**{**fields, **first.pop("prompt", {})})
    yield pb.CreatePromptRequest(parent=parent, prompt=prompt, **first)
    for at in range(0, len(audio), part):
        yield pb.CreatePromptRequest(audio=audio[at : at + part])


def create(client, parent: str, audio: bytes | None = None, **first) -> pb.CreatePromptResponse:
    return client.prompts.CreatePrompt(messages(parent, sound() if audio is None else audio, **first))


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def listed(client, parent: str) -> list[pb.Prompt]:
    return list(client.prompts.ListPrompts(pb.ListPromptsRequest(parent=parent)).prompts)


def downloaded(client, name: str) -> bytes:
    header, data = None, b""
    for item in client.prompts.DownloadPrompt(pb.DownloadPromptRequest(name=name)):
        if item.HasField("header"):
            assert header is None and not data
            header = item.header
        else:
            data += item.chunk
    assert header.size_bytes == len(data) and header.sha256 == hashlib.sha256(data).digest()
    assert header.file_name == f"{name[-26:]}.wav"
    return data


@pytest.fixture
def home(box):
    return f"tenants/{box.default_line()[0]}"


def test_from_upload_to_removal(box, home):
    client = box.client()
    data = sound()
    answer = create(client, home, data, part=1000)
    made = answer.prompt
    assert made.name.startswith(f"{home}/prompts/")
    assert (made.display_name, made.language, made.text) == ("Greeting", "en-GB", WORDS)
    assert list(made.purposes) == ["training"] and made.duration.ToMilliseconds() == 1020
    assert made.text_sha256 == hashlib.sha256(WORDS.encode()).digest() and len(made.audio_sha256) == 32
    assert made.create_time.seconds
    found = answer.sound
    assert (found.format, found.sample_rate, found.channels) == ("wav/pcm_s16le", 16000, 1)
    assert found.speech_dbfs == pytest.approx(-20, abs=0.5) and abs(found.gain_db) < 0.5
    assert client.prompts.GetPrompt(pb.GetPromptRequest(name=made.name)).prompt == made
    anywhere = f"tenants/-/prompts/{made.name[-26:]}"
    assert client.prompts.GetPrompt(pb.GetPromptRequest(name=anywhere)).prompt == made
    assert listed(client, home) == [made] == listed(client, "tenants/-")

    folder = box.layout.prompts / made.name[-26:]
    assert {path.name for path in folder.iterdir()} == {"prompt.json", *(form.file for form in FORMS)}
    assert stat.S_IMODE(folder.stat().st_mode) & 0o007 == 0
    written = Prompt.model_validate_json((folder / "prompt.json").read_bytes())
    assert written.text == WORDS and written.tenant_id == home[8:] and written.duration_ms == 1020
    for file in written.files:
        data = (folder / file.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
        assert len(unpack(data)) == 51

    with wave.open(io.BytesIO(downloaded(client, made.name))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    meant = np.frombuffer(sound()[44:], "<i2")
    assert np.corrcoef(heard[: len(meant)], meant)[0, 1] > 0.999

    client.prompts.DeletePrompt(pb.DeletePromptRequest(name=made.name, request_id="d"))
    assert not folder.exists() and not listed(client, home)
    client.prompts.DeletePrompt(pb.DeletePromptRequest(name=made.name, request_id="d"))
    again = refused(lambda: client.prompts.DeletePrompt(pb.DeletePromptRequest(name=made.name)))
    assert (again.code, again.reason) == (grpc.StatusCode.NOT_FOUND, "PROMPT_NOT_FOUND")


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (b"no sound at all" * 100, "PROMPT_FORMAT"),
        (b"", "PROMPT_EMPTY"),
        (sound(61, 8000), "PROMPT_TOO_LONG"),
        (sound(0.1), "PROMPT_TOO_SHORT"),
        (sound(level=0.0005), "PROMPT_SILENT"),
        (sound(level=1.0), "PROMPT_CLIPPING"),
        (sound(rate=96000), "PROMPT_RATE"),
        (sound(channels=3), "PROMPT_CHANNELS"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_sounds(box, home, audio, reason):
    client = box.client()
    for how in ({}, {"validate_only": True}):
        found = refused(lambda how=how: create(client, home, audio, **how))
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert list(found.fields) == ["audio"]
    assert not listed(client, home)
    assert not (PromptStore(box.layout.prompts).ids() - {entry["id"] for entry in samples.shipped()})


def test_an_upload_ends_where_it_is_too_large(box, home):
    sent = threading.Event()

    def endless():
        yield from messages(home, b"")
        while not sent.is_set():
            yield pb.CreatePromptRequest(audio=bytes(500_000))

    found = refused(lambda: box.client().prompts.CreatePrompt(endless()))
    sent.set()
    assert (found.reason, found.data["limit"]) == ("PROMPT_TOO_LARGE", str(20 << 20))


def test_an_upload_that_does_not_go_on_ends(box, home, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_WAIT_S", 0.1)
    done = threading.Event()

    def stuck(first):
        yield from first
        done.wait(20)

    client = box.client()
    for first in ([], list(messages(home, sound()))[:2]):
        found = refused(lambda first=first: client.prompts.CreatePrompt(stuck(first)))
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "UPLOAD_TOO_SLOW")
    done.set()


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ({"display_name": ""}, "prompt.display_name"),
        ({"text": ""}, "prompt.text"),
        ({"text": " \n"}, "prompt.text"),
        ({"text": "x" * 2001}, "prompt.text"),
        ({"text": "a\tb"}, "prompt.text"),
        ({"language": ""}, "prompt.language"),
        ({"language": "English"}, "prompt.language"),
        ({"language": "en_GB"}, "prompt.language"),
        ({"purposes": ["ok", "Not This"]}, "prompt.purposes[1]"),
        ({"purposes": [f"p{n}" for n in range(17)]}, "prompt.purposes"),
    ],
)
def test_bad_words_name_the_field(box, home, prompt, field):
    found = refused(lambda: create(box.client(), home, prompt=prompt))
    assert (found.code, list(found.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


def test_languages_are_written_as_they_are_usually(box, home):
    client = box.client()
    for given, kept in (("CY", "cy"), ("zh-hant-tw", "zh-Hant-TW"), ("es-419", "es-419")):
        answer = create(client, home, prompt={"language": given}, validate_only=True)
        assert answer.prompt.language == kept


def test_streams_that_are_none(box, home):
    client = box.client()

    def send(*parts):
        return lambda: client.prompts.CreatePrompt(iter(parts))

    first = next(messages(home, b""))
    assert refused(send()).reason == "REQUEST_MALFORMED"
    assert list(refused(send(first, first)).fields) == ["audio"]
    nobody = pb.CreatePromptRequest(parent=f"tenants/{new_id()}", prompt=first.prompt, audio=sound())
    assert refused(send(nobody)).reason == "TENANT_NOT_FOUND"
    for parent in ("", "tenants/-", "prompts/x"):
        assert refused(send(pb.CreatePromptRequest(parent=parent))).reason == "NAME_INVALID"
    raw = client.channel.stream_unary("/earwitness.v1.PromptsService/CreatePrompt")
    assert refused(lambda: raw(iter([b"\xff\xff\xff"]))).reason == "REQUEST_MALFORMED"
    assert refused(lambda: raw(iter([first.SerializeToString(), b"\xff\xff"]))).reason == "REQUEST_MALFORMED"


def test_request_ids_and_validate_only(box, home):
    client = box.client()
    checked = create(client, home, validate_only=True, request_id="p")
    assert not checked.prompt.name and checked.sound.format and not listed(client, home)
    made = create(client, home, request_id="p")
    same = create(client, home, request_id="p", part=777)
    assert same.prompt == made.prompt and not same.HasField("sound")
    for other in ({"audio": sound(0.5)}, {"prompt": {"text": "Other words."}}):
        assert refused(lambda other=other: create(client, home, request_id="p", **other)).reason == (
            "REQUEST_ID_REUSED"
        )
    assert len(listed(client, home)) == 1
    name = made.prompt.name
    client.prompts.DeletePrompt(pb.DeletePromptRequest(name=name, validate_only=True))
    assert len(listed(client, home)) == 1


def test_prompts_of_a_line_stay(box, home):
    client = box.client()
    made = create(client, home).prompt
    rules = tenants_pb2.InlineRules(inbound=[tenants_pb2.Target(uri="sip:pbx.example")], whisper=made.name)
    line = client.tenants.CreateLine(
        tenants_pb2.CreateLineRequest(
            parent=home, line=tenants_pb2.Line(display_name="x", numbers=["200"], inline=rules)
        )
    ).line
    for how in ({}, {"validate_only": True}):
        request = pb.DeletePromptRequest(name=made.name, **how)
        found = refused(lambda request=request: client.prompts.DeletePrompt(request))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROMPT_IN_USE")
        assert found.data["line"] == line.name
    assert downloaded(client, made.name)


def test_samples_come_with_the_box_and_stay(make_box):
    box = make_box(rendered=False)
    box.default_line()
    client = box.client()
    found = listed(client, "")
    assert {one.language for one in found} == {"en-GB", "cy", "de", "fr", "pl"} and len(found) == 6
    for one in found:
        assert one.name.startswith("prompts/") and one.text and one.duration.ToMilliseconds() > 1000
        assert list(one.purposes) == (
            [] if "Whisper" in one.display_name else ["quality", "training", "evidence"]
        )
        assert len(downloaded(client, one.name)) > 32 * one.duration.ToMilliseconds()
    assert refused(
        lambda: client.prompts.DeletePrompt(pb.DeletePromptRequest(name=found[0].name))
    ).reason == ("PROMPT_SHIPPED")
    tenant_name = f"tenants/-/prompts/{found[0].name[-26:]}"
    assert client.prompts.GetPrompt(pb.GetPromptRequest(name=tenant_name)).prompt == found[0]
    shutil.rmtree(box.layout.prompts / found[0].name[-26:])
    box.stop()
    box.start()
    box.default_line()
    assert listed(box.client(), "") == found, "nothing twice, and what was lost is there again"
    assert downloaded(box.client(), found[0].name)


def test_pages(box, home):
    client = box.client()
    names = [create(client, home, prompt={"display_name": f"{n}"}).prompt.name for n in range(3)]
    first = client.prompts.ListPrompts(pb.ListPromptsRequest(parent=home, page_size=2))
    rest = client.prompts.ListPrompts(
        pb.ListPromptsRequest(parent=home, page_size=2, page_token=first.next_page_token)
    )
    assert [one.name for one in (*first.prompts, *rest.prompts)] == names and not rest.next_page_token
    other = pb.ListPromptsRequest(parent="tenants/-", page_token=first.next_page_token)
    assert refused(lambda: client.prompts.ListPrompts(other)).reason == "PAGE_TOKEN_INVALID"
    nobody = pb.ListPromptsRequest(parent=f"tenants/{new_id()}")
    assert refused(lambda: client.prompts.ListPrompts(nobody)).reason == "TENANT_NOT_FOUND"


def test_who_may(box, home):
    made = create(box.client(), home).prompt
    integration = box.enroll("reader", Role.INTEGRATION)
    assert listed(integration, home) == [made] and downloaded(integration, made.name)
    assert refused(lambda: create(integration, home)).reason == "METHOD_DENIED"
    assert refused(
        lambda: integration.prompts.DeletePrompt(pb.DeletePromptRequest(name=made.name))
    ).reason == ("METHOD_DENIED")
    records = box.audited()
    asked = [one for one in records if one["method"].endswith("/CreatePrompt") and one["what"] == "asked"]
    assert [(one["who"], one["subject"]) for one in asked] == [("admin", home)]
    assert WORDS[:10] not in json.dumps(records), "names and ids, not what was said"


def test_what_is_damaged_is_said(box, home):
    client = box.client()
    made = create(client, home).prompt
    folder = box.layout.prompts / made.name[-26:]
    (folder / "L16-16000-1.packets").write_bytes(bytes(51 * 642))
    download = pb.DownloadPromptRequest(name=made.name)
    found = refused(lambda: list(client.prompts.DownloadPrompt(download)))
    assert (found.code, found.reason) == (grpc.StatusCode.DATA_LOSS, "PROMPT_DAMAGED")
    (folder / "PCMA-8000-1.packets").unlink()
    box.stop()
    box.start()

    def told() -> bool:
        return any(one.type == samples.DAMAGED for one in box.status.conditions())

    assert told()
    box.run(box.control._samples.look())
    assert told()
    box.client().prompts.DeletePrompt(pb.DeletePromptRequest(name=made.name))
    box.run(box.control._samples.look())
    assert not told()


def test_a_disk_that_takes_nothing(box, home):
    client = box.client()
    shutil.rmtree(box.layout.prompts)
    box.layout.prompts.write_text("in the way")
    found = refused(lambda: create(client, home, request_id="p"))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "PROMPT_UNWRITTEN")
    assert not listed(client, home)
    box.layout.prompts.unlink()
    assert create(client, home, request_id="p").prompt.name


def test_what_a_crash_leaves_is_taken_away(box, home):
    made = create(box.client(), home).prompt
    folder = box.layout.prompts / made.name[-26:]
    (box.layout.prompts / f".new-{new_id()}").mkdir()
    # Rendered and not yet in the catalogue when the process died: nobody was told of it.
    stray = new_id()
    shutil.copytree(folder, box.layout.prompts / stray)
    text = (folder / "prompt.json").read_text("utf-8").replace(made.name[-26:], stray)
    (box.layout.prompts / stray / "prompt.json").write_text(text, "utf-8")
    box.stop()
    box.start()
    assert listed(box.client(), home) == [made]
    shipped = {entry["id"] for entry in samples.shipped()}
    assert {path.name for path in box.layout.prompts.iterdir()} == {made.name[-26:], *shipped}


def test_a_lost_catalogue_finds_its_prompts_again(box, home):
    client = box.client()
    made = create(client, home).prompt
    rules = tenants_pb2.InlineRules(inbound=[tenants_pb2.Target(uri="sip:pbx.example")], whisper=made.name)
    line = tenants_pb2.Line(display_name="x", numbers=["200"], inline=rules)
    line = client.tenants.CreateLine(tenants_pb2.CreateLineRequest(parent=home, line=line)).line
    box.stop()
    for path in box.layout.control.glob("catalogue.db*"):
        path.unlink()
    box.start()
    box.default_line()
    client = box.client()
    assert listed(client, home) == [made] and len(listed(client, "")) == 6
    assert client.tenants.GetLine(tenants_pb2.GetLineRequest(name=line.name)).line.inline == line.inline


def test_an_upload_whose_entry_cannot_be_written_leaves_no_files(box, home):
    before = PromptStore(box.layout.prompts).ids()

    def full(connection: sa.Connection) -> None:
        for _ in range(rows.MAX_OF_TENANT):
            connection.execute(
                sa.insert(tables.prompts).values(
                    id=new_id(),
                    tenant_id=home[8:],
                    display_name="x",
                    language="en",
                    text="x",
                    text_sha256="00" * 32,
                    audio_sha256="00" * 32,
                    purposes=[],
                    duration_ms=1,
                    create_ns=1,
                )
            )

    box.write(full)
    found = refused(lambda: create(box.client(), home))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "PROMPT_LIMIT")
    assert PromptStore(box.layout.prompts).ids() == before
