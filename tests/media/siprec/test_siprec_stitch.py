"""Numbers, and which recording sessions are one call."""

from __future__ import annotations

import pytest

from appliance.media.siprec.numbers import pattern_rank, same_number, subscriber
from appliance.media.siprec.stitch import WINDOW_NS, Fingerprint, Match, Relation, Stitcher


@pytest.mark.parametrize(
    ("address", "number"),
    [
        ("sip:1002@192.0.2.10", "1002"),
        ("2025550100@192.0.2.55", "2025550100"),
        ("+123456789", "+123456789"),
        ("tel:+44-1632-960100;phone-context=x", "+441632960100"),
        ("sip:+44%201632%20960100@x;user=phone", "+441632960100"),
        ("sip:00441632960100@x", "+441632960100"),
        ('"Front, Desk" <sip:01632960100;npdi@x>;tag=1', "01632960100"),
        ("sips:1002:secret@x", "1002"),
        ("sip:Queue.One@x", "queue.one"),
        ("sip:1002", "1002"),
        ("sip:192.0.2.1", ""),
        ("sip:sbc.example:5060", ""),
        ("sip:[2001:db8::1]:5060", ""),
        ("sip:anonymous@anonymous.invalid", ""),
        ("", ""),
        ("<<>>@@", ""),
        ("*98", "*98"),
    ],
)
def test_subscriber(address: str, number: str) -> None:
    assert subscriber(address) == number


def test_same_number_in_national_and_international_spelling() -> None:
    spellings = ["+441632960100", "441632960100", "01632960100"]
    assert all(same_number("+441632960100", one) for one in spellings)
    assert not same_number("+441632960100", "0960100") and not same_number("", "")
    assert not same_number("1002", "2") and not same_number("+1002", "002")


@pytest.mark.parametrize(
    ("pattern", "number", "fits"),
    [
        ("01632960100", "01632960100", True),
        ("+441632960100", "01632960100", True),
        ("0163296*", "01632960100", True),
        ("+44*", "441632960100", True),
        ("*", "anything", True),
        ("*", "", False),
        ("", "1", False),
        ("100", "1002", False),
        ("1*2", "102", False),
        ("reception", "reception", True),
    ],
)
def test_patterns(pattern: str, number: str, fits: bool) -> None:
    assert bool(pattern_rank(pattern, number)) is fits


def test_the_more_specific_pattern_counts_more() -> None:
    ranks = [
        pattern_rank(one, "01632960100") for one in ("01632960100", "+441632960100", "016329*", "01*", "*")
    ]
    assert ranks == sorted(ranks, reverse=True) and len(set(ranks)) == 5


def of(
    *keys: str, numbers: str = "1 2", tenant: str = "t", voices: str = "", groups: str = "", **more: object
) -> Fingerprint:
    return Fingerprint(
        tenant, frozenset(keys), frozenset(groups.split()), numbers=frozenset(numbers.split()),
        voices=frozenset(voices.split()), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_relations() -> None:
    stitcher = Stitcher()
    stitcher.add("call", "one", of("session:a", "ucid:b", voices="1", groups="g"))
    assert stitcher.find(of("session:a"), 0) == Match("call", "one", Relation.DUPLICATE)
    assert stitcher.find(of("ucid:b", "session:z"), 0) == Match("call", "one", Relation.DUPLICATE)
    assert stitcher.find(of("session:a", voices="2"), 0) == Match("call", "one", Relation.COMPANION)
    assert stitcher.find(of("session:q", groups="g"), 0) == Match("call", "one", Relation.CONTINUATION)
    assert stitcher.find(of("session:a", tenant="other"), 0) is None
    assert stitcher.find(of("session:a", numbers="8 9"), 0) is None
    assert stitcher.find(of("session:a", numbers=""), 0) is not None
    assert stitcher.find(of("session:z"), 0) is None
    stitcher.ended("one", 5)
    assert stitcher.find(of("session:a"), 6) == Match("call", "one", Relation.CONTINUATION)
    assert stitcher.find(of("session:a"), 6 + WINDOW_NS) is None and not len(stitcher)


def test_ends_of_a_fork() -> None:
    stitcher = Stitcher()
    stitcher.add("call", "near", of(fork="refci:1", near=True, numbers=""))
    assert stitcher.find(of(fork="refci:1", near=False, numbers="7"), 0) == Match(
        "call", "near", Relation.COMPANION
    )
    assert stitcher.find(of(fork="refci:1", near=True, numbers="7"), 0) == Match(
        "call", "near", Relation.DUPLICATE
    )


def test_what_is_learnt_later_counts() -> None:
    stitcher = Stitcher()
    stitcher.add("call", "one", of("session:a"))
    stitcher.add("call", "one", of("session:b"))
    assert stitcher.find(of("session:a"), 0) is None and stitcher.find(of("session:b"), 0) is not None


def test_memory_is_bounded() -> None:
    stitcher = Stitcher()
    for number in range(21_000):
        stitcher.add("call", str(number), of(f"session:{number}"))
    assert len(stitcher) == 20_000 and len(stitcher._index) == 20_000
