"""One document in three forms: nothing of a name gets out of its place, in every script; the same bytes each time."""

from __future__ import annotations

import contextlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pypdf
import pypdfium2
import pytest

from appliance.documents import drawing, html, markdown, pdf, plots, words
from appliance.documents.blocks import (
    MAX_ROWS,
    Document,
    Picture,
    Section,
    Text,
    listing,
    pairs,
    table,
)

MADE = 1_764_000_000 * 10**9
HOSTILE = "<script>alert(1)</script> | **bold** \\ `x` [a](javascript:b)\n# Forged\x1b[2J"
SCRIPTS = {
    "Greek": "Ωμέγα",
    "Cyrillic": "Привет",
    "Vietnamese": "Nguyễn",
    "Polish": "Łódź",
    "Thai": "ไทย",
    "Georgian": "ქართული",
    "Arabic": "مرحبا",
    "Hebrew": "שלום",
    "Devanagari": "नमस्ते",
}
EASTERN = {
    "Chinese": ("王小明", "[U+738B][U+5C0F][U+660E]"),
    "Japanese": ("やまだハナ子", "[U+3084]"),
    "Korean": ("김민수", "[U+AE40]"),
}
FALLEN_BACK = {
    "Han beyond": ("𠮷", "[U+20BB7]"),
    "Emoji beyond": ("🦓", "[U+1F993]"),
}


needs_font = pytest.mark.skipif(not pdf.EASTERN.exists(), reason="fonts-droid-fallback is not installed")


def document(*names: str) -> Document:
    drawn = plots.strip(["2026-11-01", "2026-11-02", "2026-11-03"], [1.0, 0.5, None])
    return Document(
        "A report",
        names[0],
        MADE,
        "Europe/London",
        (
            Section(
                "First",
                (
                    Text("Some words."),
                    listing(names or ("one",)),
                    pairs(("Name", names[0] if names else "x")),
                ),
            ),
            Section(
                "Second",
                (
                    table("Rows", "Name | >Number", [(one, str(place)) for place, one in enumerate(names)]),
                    Picture(drawn, "Strip", "3 days; the worst is 2026-11-02."),
                ),
            ),
        ),
    )


def read(data: bytes) -> tuple[pypdf.PdfReader, str]:
    opened = pypdf.PdfReader(io.BytesIO(data))
    return opened, "\n".join(page.extract_text() for page in opened.pages)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "line", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("rect", "line"):
            return
        assert self.open.pop() == tag


def test_the_same_document_gives_the_same_bytes():
    one = document(*SCRIPTS.values())
    for form in (markdown.written, html.written, pdf.written):
        assert form(one) == form(document(*SCRIPTS.values()))
    assert pdf.written(one) != pdf.written(document("Ωμέγα"))


@pytest.mark.parametrize("form", [markdown, html, pdf])
def test_names_in_every_script_come_through(form):
    names = [*SCRIPTS.values(), *(one for one, _ in (*EASTERN.values(), *FALLEN_BACK.values()))]
    data = form.written(document(*names))
    said = read(data)[1] if form is pdf else data.decode()
    said = re.sub(r"\s", "", said)
    for name in ("Greek", "Cyrillic", "Vietnamese", "Polish", "Thai", "Georgian"):
        assert SCRIPTS[name] in said, name
    if form is not pdf:
        assert all(one in said for one in names)
        return
    # Right to left and joined letters: all of them are there, whatever order an extractor gives them in.
    for name in ("Arabic", "Hebrew"):
        assert set(SCRIPTS[name]) <= set(said), name
    for shown in FALLEN_BACK.values():
        assert shown[1] in said, "what no font has is written as its code point, and is not lost"


def pixels(data: bytes, page: int = 0) -> np.ndarray:
    """A page at 144 dots an inch, in grey."""
    with contextlib.closing(pypdfium2.PdfDocument(data)) as opened:
        return opened[page].render(scale=2, grayscale=True).to_numpy().copy()


@needs_font
@pytest.mark.parametrize("script", EASTERN)
def test_names_of_the_east_are_shown_where_the_machine_has_the_font(script, monkeypatch):
    name, points = EASTERN[script]
    shown = pdf.written(document(name))
    said = re.sub(r"\s", "", read(shown)[1])
    assert said.count(name) == 4 and "[U+" not in said and pdf.LACKING[:30].replace(" ", "") not in said
    other = pdf.written(document(name[:-1] + "山"))
    assert (pixels(shown) != pixels(other)).any(), "the last letter has a shape of its own"
    monkeypatch.setattr(pdf, "EASTERN", pdf.EASTERN.with_name("absent.ttf"))
    fallen = pdf.written(document(name))
    said = re.sub(r"\s", "", read(fallen)[1])
    assert points in said and name not in said and pdf.LACKING.replace(" ", "") in said
    assert (pixels(shown) != pixels(fallen)).any()


@needs_font
def test_what_stands_after_a_name_of_another_font_is_as_it_was():
    """Below the title, in a row of a table, and at the head of a page."""
    plain, eastern = (pdf.written(document(*[name] * 120)) for name in ("abc", "王小明"))
    one, other = pixels(plain), pixels(eastern)
    made = slice(174, 200)  # "As of ...", below the name
    assert (one[made] < 128).sum() > 100 and (one[made] == other[made]).all()
    for page in (2, 3):  # on which the table begins, and goes on
        one, other = pixels(plain, page), pixels(eastern, page)
        numbers = np.s_[:1560, 1000:1110]  # a column, without the foot of the page
        assert (one[numbers] < 128).sum() > 1000 and (one[numbers] == other[numbers]).all()


def test_joined_letters_and_direction_are_as_the_script_has_them(monkeypatch):
    def name(text: str) -> np.ndarray:
        return pixels(pdf.written(document(text)))[146:173]  # below the title

    assert not (name("محمد") == name("\u200c".join("محمد"))).all(), "its letters are joined"
    assert not (name("क्षि") == name("क्\u200cषि")).all(), "a conjunct"
    hebrew = name("שלום")
    assert (hebrew < 200).sum() > 50
    monkeypatch.setattr(pdf, "_is_shaped", lambda document: False)
    assert (hebrew == name("םולש")).all(), "from right to left"
    assert not (hebrew == name("שלום")).all()


def test_a_pdf_has_title_language_pages_and_an_outline():
    long = document(*[f"name {place}" for place in range(120)])
    opened, said = read(pdf.written(long))
    assert opened.metadata.title == "A report" and opened.trailer["/Root"]["/Lang"] == "en"
    assert len(opened.pages) > 2
    for number, page in enumerate(opened.pages, 1):
        assert f"Page {number} of {len(opened.pages)}" in page.extract_text()
    assert [one.title for one in opened.outline] == ["First", "Second"]
    assert "2025-11-24 16:00:00 UTC" in said and "name 119" in said


def test_html_loads_and_runs_nothing_and_is_built_for_screen_readers():
    data = html.written(document(HOSTILE, "b")).decode()
    tags = Tags()
    tags.feed(data)
    assert not tags.open
    names = {tag for tag, _ in tags.seen}
    assert not names & {"script", "link", "img", "iframe", "object", "a"}
    assert not any(key.startswith("on") or key in ("src", "href") for _, some in tags.seen for key in some)
    assert ("html", {"lang": "en"}) in tags.seen and {"main", "h1", "h2", "caption"} <= names
    assert all(some.get("scope") for tag, some in tags.seen if tag == "th")
    picture = next(some for tag, some in tags.seen if tag == "svg")
    assert picture["role"] == "img" and "the worst is 2026-11-02" in picture["aria-label"]
    assert "\x1b" not in data and "alert(1)" in data


def test_markdown_keeps_names_in_their_cells():
    said = markdown.written(document(HOSTILE, "b")).decode()
    rows = [line for line in said.splitlines() if "alert" in line and line.startswith("| ")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in rows)
    assert "<script>" not in said and "\x1b" not in said
    assert not any(line.startswith("# Forged") for line in said.splitlines())
    assert "the worst is 2026-11-02" in said, "what a picture shows is said"


def test_a_long_table_says_what_it_leaves_out():
    one = table("x", "A", [(str(place),) for place in range(MAX_ROWS + 7)])
    assert len(one.rows) == MAX_ROWS + 1 and one.rows[-1] == ("and 7 more",)


def test_less_than_all_is_never_a_hundred_percent():
    assert words.percent(0.9999999) == "99.999 %" and words.percent(1.0) == "100.000 %"
    assert words.percent(None) == "not known" == words.length(None) == words.size(None)
    assert [words.length(one * 10**9) for one in (0, 59, 61, 3600, 90061)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "1 h",
        "1 d 1 h",
    ]


def test_colours_tell_all_most_and_little_apart():
    assert len({plots.color(one) for one in (1.0, 0.995, 0.5, None)}) == 4
    bars = plots.bars([("quality", 5, 1), ("training", 0, 0)])
    assert {one.text for one in bars.shapes if isinstance(one, drawing.Label)} >= {
        "quality",
        "5, 1 refused",
        "0",
    }
