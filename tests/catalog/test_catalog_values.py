from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catalog import values

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01t00:00:01.000000001z", 10**9 + 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59Z", -(10**9)),
        ("2026-11-25T10:00:00.5-02:30", 1_795_609_800_500_000_000),
    ],
)
def test_times(text, ns):
    assert values.time_ns(text) == ns


@pytest.mark.parametrize(
    "text", ["", "now", "2026-02-30", "2026-1-1", "2026-11-25T10:00", "2026-11-25 10:00:00Z", "9999-01-01"]
)
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="should be a time"):
        values.time_ns(text)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_times_agree_with_datetime(moment):
    assert values.time_ns(moment.isoformat()) == (moment - EPOCH) // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize(
    ("aor", "number"),
    [
        ("sip:+441632960001@pstn.example", "+441632960001"),
        ("sips:01632-960001@h;user=phone", "01632960001"),
        ("tel:+44-1632-960.001;ext=5", "+441632960001"),
        ("sip:200@pbx", "200"),
        ("SIP:200@pbx", "200"),
        ("sip:bob@pbx", ""),
        ("sip:200bob@pbx", ""),
        ("sip:@pbx", ""),
        ("mailto:200@x", ""),
        ("", ""),
    ],
)
def test_numbers_in_addresses(aor, number):
    assert values.number_of(aor) == number


@given(st.text())
def test_numbers_of_anything_are_digits(aor):
    assert set(values.number_of(aor)) <= set("+0123456789")


def test_words_fold_case_and_accents_and_are_bounded():
    assert values.words_of("Zoë  GRÜN-Straße, Zoe") == ["zoe", "grun", "strasse"]
    assert len(values.words_of(" ".join(map(str, range(100))))) == values.MAX_WORDS
    assert all(len(word) <= values.MAX_WORD for word in values.words_of("x" * 500))
