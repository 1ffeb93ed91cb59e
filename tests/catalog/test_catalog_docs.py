"""The examples of docs/search.md, on both databases; and that the page names every field."""

from __future__ import annotations

import re
from pathlib import Path

import additions_kit
import pytest

from appliance.catalog import filters, recordings, values
from appliance.catalog.recording_filter import FIELDS
from appliance.catalog.records import PartyRow
from appliance.model import Direction, Role, new_id

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text("utf-8")


def table(head: str) -> list[list[str]]:
    """Cells of the rows below a head."""
    lines = PAGE[PAGE.index(f"| {head} |") :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def party(text: str, role: Role) -> PartyRow:
    name, _, number = text.rpartition(", ")
    aor = f"sip:{number.replace(' ', '')}@pbx.example"
    return PartyRow(aor, values.number_of(aor), name, role)


@pytest.fixture
def by_letter(database, make_held, make_description):
    """The recordings of the page, by their ids."""
    found = {}
    for letter, began, length, caller, agent, tags, note in table("recording"):
        held = make_held()
        start_ns = values.time_ns(began)
        content = make_description(
            start_ns=start_ns,
            end_ns=start_ns + int(length.split()[0]) * 10**9,
            call_id=new_id(),
            direction=Direction.INBOUND,
            parties=(party(caller, Role.CALLER), party(agent, Role.AGENT)),
        )
        with database.write() as connection:
            recordings.take(connection, held, 1, content)
            some = [tag.strip() for tag in tags.split(",") if tag.strip()]
            additions_kit.change_tags(connection, held.recording_id, some, (), "me", 1)
            if note:
                additions_kit.add_note(connection, held.recording_id, note, None, "me", 1)
        found[held.recording_id] = letter
    return found


def test_the_examples_find_what_the_page_says(database, by_letter):
    examples = table("filter")
    assert len(by_letter) == 4 and len(examples) > 20
    with database.read() as connection:
        for text, wanted in examples:
            rows = recordings.search(
                connection,
                tenant_id=None,
                where=filters.parse(text.strip("`"), FIELDS),
                order=recordings.Order(),
                limit=10,
                bound=recordings.newest(connection),
            )
            assert sorted(by_letter[row.recording_id] for row in rows) == wanted.split(), text


def test_the_page_names_every_field_with_its_operators():
    said = {
        name: set(re.findall(r"[!<>]?=|[<>:]", cells[1]))
        for cells in table("field")
        for name in re.findall(r"`([a-z_.]+)`", cells[0])
    }
    assert said == {name: set(field.operators) for name, field in FIELDS.items()}


def test_the_error_on_the_page_is_the_error():
    text = re.search(r"--filter '([^']+)'\n\s+direction", PAGE)[1]
    with pytest.raises(filters.FilterError) as caught:
        filters.parse(text, FIELDS)
    assert f"(at character {caught.value.data['position']})" in PAGE
    assert text[caught.value.data["position"] :].startswith("durration")
