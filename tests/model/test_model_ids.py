"""Ids: 16 bytes in 26 letters, one spelling each."""

from __future__ import annotations

import base64

import pytest

from appliance.model import InvalidError, id_bytes, id_text, is_id, new_id


def test_one_spelling_each():
    """26 letters hold two bits more than 16 bytes: of the letters at the end only those are good that leave them 0."""
    made = new_id()
    for last in "abcdefghijklmnopqrstuvwxyz234567":
        text = made[:-1] + last
        same = id_text(base64.b32decode(text.upper() + "======")) == text
        assert is_id(text) == same
        if same:
            assert id_text(id_bytes(text)) == text
        else:
            with pytest.raises(InvalidError):
                id_bytes(text)


@pytest.mark.parametrize(
    "text", ["", "a" * 25, "a" * 27, "A" * 26, "a" * 25 + "1", "a" * 26 + "\n", "ä" * 26]
)
def test_what_is_none(text):
    assert not is_id(text)
    with pytest.raises(InvalidError):
        id_bytes(text)
