"""What a person reads: by the published schema, escaped, in whatever script."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from appliance.packs import subject, subjectpage
from appliance.packs.subject import Facts, Given, MarkOf, Muted, ReadBy, Use, Withheld

DOCS = Path(__file__).parents[2] / "docs" / "schemas" / subject.SCHEMA
SCRIPTS = (
    "Zoë Ærøskøbing", "Νίκος Παπαδόπουλος", "Юлия Щербакова", "שרה לוי", "محمد العربي", "ऋषि शर्मा", "ஆறுமுகம்", "สมชาย ใจดี",
    "王小明",
    "ほたる", "김민수", "ელენე", "Անահիտ", "ᐃᓄᒃᑎᑐᑦ", "አበበ", "𐍈𐌰𐌹𐌻", "e\u0301\u0323", "👩🏽‍⚕️", "<b>&\"'</b>", "\u202eevil",
)  # fmt: skip
GIVEN = Given(
    file="audio/0001.wav",
    sha256="0" * 64,
    time="2026-11-25T10:00:00+00:00",
    duration_ms=61_500,
    direction="inbound",
    line="Reception",
    channels=("caller", "agent"),
    whole=True,
    purposes=(Use("Training of staff", "SI 2018/356"),),
    told="announced",
    kept_until="2029-11-25T10:00:00+00:00",
    reads=(ReadBy("2026-11-26T09:00:00+00:00", ("records-officer",), "Complaints"),),
    marks=(MarkOf("paused", 1000, 2000),),
    muted=(Muted("agent", 0, None),),
    ground="third-party",
    text="A colleague is spoken of.",
)
FACTS = Facts(
    controller="Elm Street Surgery",
    contact="dpo@elm.example",
    reference="SAR-7",
    received="2026-11-20",
    made="2026-11-27T12:00:00+00:00",
    time_zone="Europe/London",
    given=(GIVEN,),
    withheld=(Withheld("2026-11-24T10:00:00+00:00", "legal-privilege", ""),),
)


class Reader(HTMLParser):
    """Text and tags, as a browser sees them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.loads: list[str | None] = []
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loads += [value for name, value in attrs if name == "src"]

    def handle_data(self, data):
        self.text += data


def test_the_published_schema_is_what_packs_carry_and_holds_of_them():
    assert DOCS.read_bytes() == subject.schema()
    schema = json.loads(subject.schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    content = json.loads(subject.index(FACTS))
    jsonschema.validate(content, schema)
    assert content["recordings"][0]["muted_reason"].endswith("A colleague is spoken of.")
    assert content["withheld"][0]["reason"].startswith("It is covered by legal professional privilege")
    for broken in (
        {"more": 1},
        {"format": "other"},
        {"withheld": [{"time": "", "ground": "whim", "reason": "x"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**content, **broken}, schema)
    grounds = schema["properties"]["withheld"]["items"]["properties"]["ground"]["enum"]
    assert grounds == list(subject.GROUNDS), "each ground has its words"


def test_the_page_tells_all_that_the_law_asks():
    text = Reader(subjectpage.page(FACTS)).text
    for told in (
        "Elm Street Surgery", "SAR-7", "Reception", "inbound", "1:01", "Training of staff", "2029-11-25",
        "records officer, for Complaints", "agent, 0:00 to the end", "A colleague is spoken of.", "paused",
        "legal professional privilege", "Information Commissioner's Office", "Articles 16",
    ):  # fmt: skip
        assert told in text, told


@pytest.mark.parametrize("name", SCRIPTS)
def test_names_of_every_script_come_through_whole(name):
    facts = replace(FACTS, controller=name, reference=name, given=(replace(GIVEN, line=name, text=name),))
    page = Reader(subjectpage.page(facts))
    assert page.text.count(name) >= 4
    assert page.tags.isdisjoint({"b", "script", "img", "iframe", "link"}) and page.loads == ["audio/0001.wav"]
    assert json.loads(subject.index(facts))["controller"]["name"] == name
