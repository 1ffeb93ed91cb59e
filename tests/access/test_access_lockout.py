"""Guessing is slowed, and nobody can lock another one out by it."""

from __future__ import annotations

import pytest

from appliance.access.lockout import BUDGET, FREE, MOST_S, Lockout
from appliance.access.networks import UNKNOWN, network_of
from appliance.access.refusals import SignInSlowedError

DESK, ELSEWHERE = "192.0.2.1", "198.51.100.7"


def admitted(lockout: Lockout, name: str, network: str, known: bool, now_s: float) -> bool:
    try:
        lockout.admit(name, network, known, now_s)
    except SignInSlowedError as error:
        assert error.data["retry_after_s"] >= 1
        return False
    return True


def test_guessing_from_one_place_is_slowed_to_a_crawl():
    lockout, guesses = Lockout(), 0
    for second in range(86400):
        guesses += admitted(lockout, "ada", ELSEWHERE, False, float(second))
    # A code of six digits, three of which are right at a time, besides a passphrase: hopeless.
    assert FREE < guesses < 86400 / MOST_S + BUDGET


def test_guessing_from_many_places_uses_up_the_names_budget():
    lockout, guesses = Lockout(), 0
    for second in range(86400):
        network = f"2001:db8:{second:x}::/64"  # another one each time
        guesses += admitted(lockout, "ada", network, False, float(second))
    assert BUDGET <= guesses <= BUDGET * 25 + 1


def test_the_owner_at_the_usual_desk_gets_in_all_the_while():
    lockout = Lockout()
    for second in range(0, 7200, 7):
        for place in range(20):
            admitted(lockout, "ada", f"2001:db8:{second:x}:{place:x}::/64", False, float(second))
        assert admitted(lockout, "ada", DESK, True, second + 0.5), second
        lockout.succeeded("ada", DESK, True)


def test_an_attack_on_one_name_slows_no_other():
    lockout = Lockout()
    for second in range(3600):
        admitted(lockout, "ada", ELSEWHERE, False, float(second))
    assert not admitted(lockout, "ada", ELSEWHERE, False, 3600.0)
    assert admitted(lockout, "grace", ELSEWHERE, False, 3600.0)


def test_an_own_success_does_not_wash_away_failures_of_another_name():
    lockout = Lockout()
    for _ in range(int(FREE) + 1):
        admitted(lockout, "ada", ELSEWHERE, False, 0.0)
    assert admitted(lockout, "mallory", ELSEWHERE, True, 0.0)
    lockout.succeeded("mallory", ELSEWHERE, True)
    assert not admitted(lockout, "ada", ELSEWHERE, False, 0.0)


def test_many_at_once_are_no_way_around():
    lockout = Lockout()
    assert sum(admitted(lockout, "ada", ELSEWHERE, False, 0.0) for _ in range(1000)) == FREE + 1


def test_who_mistypes_and_then_is_right_begins_anew():
    lockout = Lockout()
    for round_ in range(20):
        for _ in range(int(FREE)):
            assert admitted(lockout, "ada", DESK, True, float(round_))
        lockout.succeeded("ada", DESK, True)


def test_a_slowed_attempt_may_come_again_when_it_was_told():
    lockout = Lockout()
    for _ in range(int(FREE) + 1):
        lockout.admit("ada", DESK, True, 0.0)
    with pytest.raises(SignInSlowedError) as caught:
        lockout.admit("ada", DESK, True, 0.0)
    assert admitted(lockout, "ada", DESK, True, caught.value.data["retry_after_s"])


def test_a_clock_that_goes_back_gives_nothing():
    lockout = Lockout()
    while admitted(lockout, "ada", f"10.0.0.{len(lockout._places)}", False, 1000.0):
        pass
    for now_s in (0.0, 1000.0):
        assert not admitted(lockout, "ada", "10.1.0.1", False, now_s)


def test_memory_is_bounded_and_the_counts_never_overflow():
    lockout = Lockout(most=100)
    for number in range(1000):
        admitted(lockout, f"name{number}", DESK, False, 0.0)
    assert len(lockout._places) == len(lockout._budgets) == 100
    lockout = Lockout()
    for number in range(5000):
        admitted(lockout, "ada", DESK, True, number * MOST_S)


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:192.0.2.7:40000", "192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:3::9%5D:40000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:ffff::1]:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:1", "192.0.2.7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"),
        ("unix:/run/x.sock", UNKNOWN),
        ("ipv4:nonsense:1", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_networks(peer, network):
    assert network_of(peer) == network
