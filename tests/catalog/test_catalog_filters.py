"""The filter language: what it accepts, what it says when it does not, and that SQL means what the tree means."""

from __future__ import annotations

import dataclasses
import operator
import re

import additions_kit
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.catalog import filters, lookup, recordings, values
from appliance.catalog.errors import FilterError
from appliance.catalog.filters import And, Comparison, Field, Not, Or
from appliance.catalog.numbering import Asked
from appliance.catalog.recording_filter import FIELDS
from appliance.catalog.records import MarkRow, PartyRow, State
from appliance.model import Direction, MarkKind, Role, new_id

PLAIN = {name: Field(values.ORDERED | values.HAS, str) for name in ("a", "b", "c", "a.b")}


def parse(text):
    return filters.parse(text, PLAIN)


def same(name, value, op="="):
    return Comparison(name, op, value)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", None),
        ("  \n ", None),
        ("a=1", same("a", "1")),
        (" a  =  1 ", same("a", "1")),
        ("a.b:x", same("a.b", "x", ":")),
        ('a = "x y \\" z"', same("a", 'x y " z')),
        ("a='it''s'", None),
        ("a='x' b='y'", And((same("a", "x"), same("b", "y")))),
        ("a=1 AND b=2 AND c=3", And((same("a", "1"), same("b", "2"), same("c", "3")))),
        # OR binds tighter than AND (AIP-160)
        ("a=1 AND b=2 OR c=3", And((same("a", "1"), Or((same("b", "2"), same("c", "3")))))),
        ("a=1 b=2 OR c=3", And((same("a", "1"), Or((same("b", "2"), same("c", "3")))))),
        ("(a=1 AND b=2) OR c=3", Or((And((same("a", "1"), same("b", "2"))), same("c", "3")))),
        ("NOT a=1", Not(same("a", "1"))),
        ("-a=1", Not(same("a", "1"))),
        ("NOT (a=1 OR b=2)", Not(Or((same("a", "1"), same("b", "2"))))),
        ("a>=2026-11-25T10:00:00+01:00", same("a", "2026-11-25T10:00:00+01:00", ">=")),
        ("a!=-5", same("a", "-5", "!=")),
        ("a=AND", same("a", "AND")),
    ],
)
def test_trees(text, tree):
    if text == "a='it''s'":
        with pytest.raises(FilterError):
            parse(text)  # quotes are escaped by a backslash, not doubled
        return
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "field", "position"),
    [
        ("nothing=1", "filter", 0),
        ("a=1 AND nothing=1", "filter", 8),
        ("a", "a", 1),
        ("a ==1 b", "a", 3),
        ("a=", "a", 2),
        ('a="x', "a", 2),
        ("(a=1", "filter", 4),
        ("a=1)", "filter", 3),
        ("a=1 AND", "filter", 7),
        ("a=1 OR", "filter", 6),
        ("NOT", "filter", 3),
        ("= 1", "filter", 0),
        ("(" * 30 + "a=1" + ")" * 30, "filter", 17),
        (" ".join(["a=1"] * 65), "filter", 256),
        ("a=" + "x" * 2000, "filter", 2000),
        ("-" * 100 + "a=1", "filter", 17),
    ],
)
def test_errors_name_field_and_position(text, field, position):
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert (caught.value.data["field"], caught.value.data["position"]) == (field, position)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("agent : '...'", "agent"),
        ("notes : '*'", "notes"),
        ("notes = pain", "notes"),
        ("tags : ''", "tags"),
        ("party.number = '*'", "party.number"),
        ("party.number = '07700*900'", "party.number"),
        ("start_time > yesterday", "start_time"),
        ("start_time > 2026-13-01", "start_time"),
        ("start_time > 2026-11-25T25:00:00Z", "start_time"),
        ("duration > 60", "duration"),
        ("size_bytes > 99999999999999999999999", "size_bytes"),
        ("state = LOST", "state"),
        ("state < FILED", "state"),
        ("whole = yes", "whole"),
        ("line = tenants/x", "line"),
        ('party.number = "Ada"', "party.number"),
        ('party.name : "..."', "party.name"),
        ("party.name = Ada", "party.name"),
        ("marks : SUNG", "marks"),
    ],
)
def test_wrong_values_name_the_field_and_never_repeat_what_was_written(text, field):
    with pytest.raises(FilterError) as caught:
        filters.parse(text, FIELDS)
    assert caught.value.data["field"] == field
    assert "Ada" not in caught.value.message and "yesterday" not in caught.value.message


@given(
    st.text(alphabet=st.sampled_from(list("ab.=<>!:()\"'\\- \nANDORT01é\0")) | st.characters(), max_size=80)
)
@example("a=\\")
@example('a="\\')
@example("a='\\'")
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_tree_or_a_filter_error(text):
    for fields in (PLAIN, FIELDS):
        try:
            filters.parse(text, fields)
        except FilterError as error:
            assert 0 <= error.data["position"] <= len(text)


# SQL against an evaluation of its own, over random recordings and random trees.

# Each address with its number in the form of E.164, written down by hand.
NAMES = ["Ada Lovelace", "Zoë Grün", "ada byron", "", "O'Neil", "100%_x"]
PLAIN_NUMBERS = {
    "sip:+441632960001@a": "441632960001",
    "sip:01632960001@a": "441632960001",
    "sip:0044163299@a": "44163299",
    "tel:+44-1632-960002": "441632960002",
    "sip:bob@a": "",
    "sip:200@b": "200",
}
AORS = list(PLAIN_NUMBERS)
TEXTS = [
    "Patient said: chest pain since Monday.",
    "PAIN in the Knee_1",
    "Zoë asked for a call back",
    "…",
    "pains",
]
TAGS = ["Urgent", "Zoë's case", "follow-up", "urgently"]

party = st.builds(
    lambda aor, name, role: PartyRow(aor, values.number_of(aor), name, role),
    st.sampled_from(AORS),
    st.sampled_from(NAMES),
    st.sampled_from(Role),
)
seconds = st.integers(0, 5).map(lambda n: n * 10**9)


@st.composite
def contents(draw, make_description):
    return make_description(
        start_ns=draw(seconds),
        end_ns=draw(st.none() | seconds),
        part=draw(st.integers(1, 3)),
        direction=draw(st.sampled_from(Direction)),
        source=draw(st.sampled_from(["siprec", "inline"])),
        parties=tuple(draw(st.lists(party, max_size=3))),
        marks=tuple(
            MarkRow(kind, 0, None, "", "", -1, {})
            for kind in draw(st.lists(st.sampled_from(MarkKind), max_size=2))
        ),
        identifiers=tuple(draw(st.sets(st.sampled_from(["u1", "u2"])))),
        flags=tuple(draw(st.sets(st.sampled_from(["f1", "f2"])))),
    )


RESTRICTIONS = st.one_of(
    st.tuples(
        st.sampled_from(["start_time", "end_time"]),
        st.sampled_from(sorted(values.ORDERED)),
        st.integers(0, 5).map(lambda n: f"1970-01-01T00:00:0{n}Z"),
    ),
    st.tuples(
        st.just("duration"), st.sampled_from(sorted(values.ORDERED)), st.sampled_from(["0s", "1s", "2.5s"])
    ),
    st.tuples(st.just("part"), st.sampled_from(sorted(values.ORDERED)), st.sampled_from(["1", "2"])),
    st.tuples(
        st.just("direction"), st.sampled_from(["=", "!="]), st.sampled_from([d.name for d in Direction])
    ),
    st.tuples(st.just("source"), st.sampled_from(["=", "!="]), st.sampled_from(["siprec", "inline"])),
    st.tuples(st.just("session_ids"), st.just(":"), st.sampled_from(["u1", "u2", "u"])),
    st.tuples(st.just("flags"), st.just(":"), st.sampled_from(["f1", "f2"])),
    st.tuples(st.just("marks"), st.just(":"), st.sampled_from([m.name for m in MarkKind])),
    st.tuples(st.just("party.role"), st.just(":"), st.sampled_from([r.name for r in Role])),
    st.tuples(st.just("party.address"), st.sampled_from(["=", "!=", ":"]), st.sampled_from([*AORS, "sip:"])),
    st.tuples(
        st.sampled_from(["party.number", "agent"]),
        st.sampled_from(["=", "!=", ":"]),
        st.sampled_from(
            [
                "+441632960001",
                "+44 (0)1632 960001",
                "01632 960001",
                "960001",
                "00",
                "0",
                "+44",
                "329",
                "200",
                "+44*",
                "0163*",
                "*960001",
                "*3296*",
                "2*",
                "0044*",
            ]
        ),
    ),
    st.tuples(
        st.just("agent"), st.sampled_from(["=", "!=", ":"]), st.sampled_from(["ada", "Ada LOV", "gru", "x"])
    ),
    st.tuples(
        st.just("notes"),
        st.just(":"),
        st.sampled_from(["pain", "pain*", "PAIN chest", "zoe back", "knee_1", "knee", "ch* mon*", "*pain"]),
    ),
    st.tuples(
        st.just("tags"), st.just(":"), st.sampled_from(["urgent", "URGENT*", "zoe's case", "follow", "f*"])
    ),
    st.tuples(st.just("party.name"), st.just(":"), st.sampled_from(["ada", "ADA LOV", "gru", "x", "100"])),
).map(lambda parts: f'{parts[0]} {parts[1]} "{parts[2]}"')
FILTERS = st.recursive(
    RESTRICTIONS,
    lambda inner: st.one_of(
        inner.map(lambda text: f"NOT ({text})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) OR ({pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) AND ({pair[1]})"),
        st.tuples(inner, inner).map(
            lambda pair: f"{pair[0]} {pair[1]}" if "AND" not in "".join(pair) else pair[0]
        ),
    ),
    max_leaves=5,
)
COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def oracle(content, added, part):
    """What one restriction means, in other words than the SQL."""
    field, op, value = part.field, part.operator, part.value
    simple = {
        "start_time": content.start_ns,
        "end_time": content.end_ns,
        "duration": content.duration_ns,
        "part": content.part,
        "direction": content.direction.value,
        "source": content.source,
    }
    if field in simple:
        return simple[field] is not None and COMPARE[op](simple[field], value)
    if field == "session_ids":
        return value in content.identifiers
    if field == "flags":
        return value in content.flags
    if field == "marks":
        return value in [mark.kind.value for mark in content.marks]
    if field == "party.role":
        return value in [one.role.value for one in content.parties]
    if field == "party.address":
        if op == ":":
            return any(one.aor.startswith(value) for one in content.parties)
        return (value in [one.aor for one in content.parties]) == (op == "=")
    if field == "party.number" or (field == "agent" and isinstance(value, Asked)):
        some = [
            PLAIN_NUMBERS[one.aor]
            for one in content.parties
            if field == "party.number" or one.role is Role.AGENT
        ]
        return any(number and number_fits(value, op, number) for number in some) != (op == "!=")
    if field == "notes":
        written = {word for text in added.texts for word in words(text)}
        return all(any(fits(word, one.text, one.open_end) for word in written) for one in value)
    if field == "tags":
        return any(fits(plain(tag), value.text, value.open_end) for tag in added.tags)
    known = [
        word
        for one in content.parties
        if field == "party.name" or one.role is Role.AGENT
        for word in values.words_of(one.name)
    ]
    if field == "agent" and op != ":":
        return (set(value) <= set(known)) == (op == "=")
    return all(any(word.startswith(start) for word in known) for start in value)


def plain(text):
    return text.casefold().replace("ë", "e").replace("ü", "u")


def words(text):
    return re.findall(r"[a-z0-9_]+", plain(text))


def fits(word, asked, open_end):
    return word.startswith(asked) if open_end else word == asked


def number_fits(asked, op, number):
    digits = asked.digits.lstrip("+")
    abroad = asked.digits.startswith("+")
    if op == ":":
        return number.startswith(digits) if abroad else (digits.lstrip("0") or digits) in number
    if asked.open_start:
        return digits in number if asked.open_end else number.endswith(digits)
    begin = {digits}
    if not abroad:
        if digits.startswith("00"):
            begin.add(digits[2:])
        elif digits.startswith("0"):
            begin.add("44" + digits[1:])
    begin.discard("")
    if asked.open_end:
        return number.startswith(tuple(begin))
    return number == (digits if abroad or len(digits) < 8 else max(begin - {digits}, default=digits))


@dataclasses.dataclass(frozen=True)
class Added:
    """What people added to a recording."""

    texts: tuple[str, ...]
    tags: tuple[str, ...]


additions_of_one = st.builds(
    Added,
    st.lists(st.sampled_from(TEXTS), max_size=2).map(tuple),
    st.sets(st.sampled_from(TAGS)).map(tuple),
)


@pytest.mark.parametrize("bounds", [(700, 7000, 20_000), (0, 0, 20_000), (0, 1, 0)])
@given(data=st.data())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sql_means_what_the_tree_means(bounds, data, database, make_held, make_description, monkeypatch):
    for name, value in zip(("FEW", "MANY", "SMALL"), bounds, strict=True):
        monkeypatch.setattr(lookup, name, value)  # 0: whatever is found at all is common
    made = data.draw(st.lists(contents(make_description), min_size=1, max_size=6))
    texts = data.draw(st.lists(FILTERS, min_size=1, max_size=6))
    tenant = new_id()  # each example has a tenant of its own, so that the database need not be new
    by_id = {}
    with database.write() as connection:
        for position, content in enumerate(made):
            one = make_held(tenant_id=tenant)
            recordings.take(connection, one, position, content)
            added = data.draw(additions_of_one)
            for text in added.texts:
                additions_kit.add_note(connection, one.recording_id, text, None, "me", 1)
            additions_kit.change_tags(connection, one.recording_id, added.tags, (), "me", 1)
            by_id[one.recording_id] = content, added
    with database.read() as connection:
        for text in texts:
            tree = filters.parse(text, FIELDS)
            found = recordings.search(
                connection,
                tenant_id=tenant,
                where=tree,
                order=recordings.Order(),
                limit=100,
                bound=recordings.newest(connection),
            )
            wanted = {
                recording_id
                for recording_id, (content, added) in by_id.items()
                if filters.matches(tree, lambda part, c=content, a=added: oracle(c, a, part))
            }
            assert {row.recording_id for row in found} == wanted, text


def test_state_and_whole_are_of_the_row(database, file, make_held):
    whole = file(make_held())
    cut = file(make_held(whole=False, state=State.QUARANTINED))
    with database.read() as connection:

        def ids(text):
            found = recordings.search(
                connection,
                tenant_id=None,
                where=filters.parse(text, FIELDS),
                order=recordings.Order(),
                limit=10,
                bound=10,
            )
            return {row.recording_id for row in found}

        assert ids("whole=true") == {whole} and ids("whole=false") == {cut}
        assert ids("state=QUARANTINED") == {cut} and ids("state != quarantined") == {whole}
