from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catalog import paging
from appliance.catalog.errors import PageTokenError, PageTokenExpiredError, ResumeTokenError
from appliance.catalog.paging import Tokens

TOKENS = Tokens(b"k" * 32)


@given(st.lists(st.integers(-(2**63), 2**63) | st.text(max_size=30), max_size=4), st.binary(max_size=50))
def test_page_tokens_give_back_their_position(position, query):
    assert TOKENS.read_page(TOKENS.page(query, position, 1000.5), query, 1000.5) == position


def test_a_page_token_is_bound_to_its_query_and_expires():
    token = TOKENS.page(b"query", [1], 1000)
    with pytest.raises(PageTokenError):
        TOKENS.read_page(token, b"other", 1000)
    assert TOKENS.read_page(token, b"query", 1000 + paging.PAGE_TOKEN_S) == [1]
    with pytest.raises(PageTokenExpiredError):
        TOKENS.read_page(token, b"query", 1001 + paging.PAGE_TOKEN_S)


def test_tokens_of_another_box_or_kind_are_refused():
    with pytest.raises(PageTokenError):
        TOKENS.read_page(Tokens(b"x" * 32).page(b"q", [1], 0), b"q", 0)
    with pytest.raises(PageTokenError):
        TOKENS.read_page(TOKENS.resume(5), b"q", 0)
    with pytest.raises(ResumeTokenError):
        TOKENS.read_resume(TOKENS.page(b"q", [1], 0))
    assert TOKENS.read_resume(TOKENS.resume(5)) == 5


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda raw: raw.hex()))
def test_anything_else_is_refused(text):
    with pytest.raises(ResumeTokenError):
        TOKENS.read_resume(text)


def test_each_flipped_character_is_refused():
    token = TOKENS.resume(12345)
    for place in range(len(token)):
        other = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        try:
            assert TOKENS.read_resume(other) == 12345  # only where the character holds no bits of the token
            assert place == len(token) - 1
        except ResumeTokenError:
            pass


def test_the_key_is_made_once(database):
    with database.write() as connection:
        first = Tokens.of(connection)
    with database.read() as connection:
        assert Tokens.of(connection) == first
