from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catalog.numbering import Asked, Numbering, asked

UK = Numbering()
FRANCE = Numbering("33", "0", "00")
US = Numbering("1", "1", "011")
ITALY = Numbering("39", "", "00")  # the zero belongs to the number


@pytest.mark.parametrize(
    ("rules", "written", "normal"),
    [
        (UK, "+447700900123", "447700900123"),
        (UK, "07700900123", "447700900123"),
        (UK, "00447700900123", "447700900123"),
        (UK, "447700900123", "447700900123"),
        (UK, "08001111", "448001111"),
        (UK, "200", "200"),
        (UK, "0", "0"),
        (UK, "01", "01"),
        (UK, "00", "00"),
        (UK, "999", "999"),
        (UK, "0033142685300", "33142685300"),
        (FRANCE, "0142685300", "33142685300"),
        (US, "12125550123", "12125550123"),
        (US, "011442079460000", "442079460000"),
        (ITALY, "0612345678", "0612345678"),
    ],
)
def test_normal_forms(rules, written, normal):
    assert rules.normal(written) == normal


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("07700 900123", Asked("07700900123")),
        ("+44 (0)7700-900.123", Asked("+447700900123")),
        ("(01632) 960001", Asked("01632960001")),
        ("+44*", Asked("+44", open_end=True)),
        ("*123", Asked("123", open_start=True)),
        (" * 12 * ", Asked("12", True, True)),
    ],
)
def test_numbers_as_they_are_asked_for(text, found):
    assert asked(text) == found


@pytest.mark.parametrize(
    "text", ["", "*", "**", "Ada", "1*2", "+", "++44", "()", "٣٤٥", "1" * 33, "1 " * 60, "0x1"]
)
def test_what_is_no_number(text):
    with pytest.raises(ValueError, match="telephone number"):
        asked(text)


@given(st.text(max_size=120) | st.text("0123456789+*() .-", max_size=120))
def test_any_text_is_a_number_or_refused(text):
    try:
        found = asked(text)
    except ValueError:
        return
    assert set(found.digits.lstrip("+")) <= set("0123456789") and len(found.digits) <= 33


@given(st.from_regex(r"\A[1-9][0-9]{9}\Z"))
def test_home_and_abroad_are_one(number):
    forms = {UK.normal(f"0{number}"), UK.normal(f"+44{number}"), UK.normal(f"0044{number}")}
    assert forms == {f"44{number}"}
    assert all(f"44{number}".startswith(tuple(UK.starts(f"0{number[:n]}"))) for n in range(1, 10))
