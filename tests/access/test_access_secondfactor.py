"""Codes by time, recovery codes, passphrases."""

from __future__ import annotations

import hashlib
import inspect

import pytest

from appliance.access import passphrases, secondfactor
from appliance.access.refusals import PassphraseError

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("at_s", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
    ],
)
def test_the_vectors_of_rfc_6238(at_s, code):
    """Appendix B, SHA-1, the last six of its eight digits."""
    assert secondfactor.code(SECRET, at_s // 30) == code
    assert secondfactor.matching_step(SECRET, code, at_s, 0) == at_s // 30


def test_one_step_of_drift_and_no_more():
    now_s = 1_764_000_010
    step = now_s // 30
    for drift in (-1, 0, 1):
        assert (
            secondfactor.matching_step(SECRET, secondfactor.code(SECRET, step + drift), now_s, 0)
            == step + drift
        )
    for drift in (-2, 2):
        assert secondfactor.matching_step(SECRET, secondfactor.code(SECRET, step + drift), now_s, 0) is None


def test_a_code_counts_once_and_an_older_one_not_after_it():
    now_s = 1_764_000_010
    step = now_s // 30
    code = secondfactor.code(SECRET, step)
    assert secondfactor.matching_step(SECRET, code, now_s, step - 1) == step
    assert secondfactor.matching_step(SECRET, code, now_s, step) is None
    assert secondfactor.matching_step(SECRET, secondfactor.code(SECRET, step - 1), now_s, step) is None


@pytest.mark.parametrize("said", ["", "12345", "abcdef", "٣٣٣٣٣٣", "\ud800", "1" * 10000])
def test_what_is_no_code(said):
    assert secondfactor.matching_step(SECRET, said, 59, 0) is None


def test_the_uri_names_the_box_and_the_identity():
    uri = secondfactor.uri(SECRET, "ada", "Earwitness north")
    assert (
        uri.startswith("otpauth://totp/")
        and "ada" in uri
        and "secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" in uri
    )


def test_recovery_codes():
    codes = secondfactor.recovery_codes()
    assert len(set(codes)) == 10 and all(secondfactor.is_recovery(code) for code in codes)
    assert not secondfactor.is_recovery("123456")
    for spelling in (codes[0].upper(), codes[0].replace("-", " ")):
        assert secondfactor.recovery_hash(spelling) == secondfactor.recovery_hash(codes[0])
    assert len({secondfactor.recovery_hash(code) for code in codes}) == 10


def test_a_passphrase_is_kept_as_argon2id_and_found_again():
    kept = passphrases.hashed("correct horse battery")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passphrases.verify(kept, "correct horse battery")
    assert not passphrases.verify(kept, "correct horse batterz")
    assert passphrases.hashed("correct horse battery") != kept, "salted"


def test_one_spelling_for_what_looks_alike():
    kept = passphrases.hashed("Käse und Brötchen")
    assert passphrases.verify(kept, "Ka\u0308se\u00a0und Bro\u0308tchen")


def test_a_name_without_a_passphrase_costs_the_same_work(monkeypatch):
    calls = []

    class Counting:
        def verify(self, kept, text):
            calls.append(kept)
            return passphrases.argon2.PasswordHasher().verify(kept, text)

    nobody = passphrases._nobody()
    monkeypatch.setattr(passphrases, "_HASHER", Counting())
    assert not passphrases.verify(None, "correct horse battery")
    assert calls == [nobody] and nobody.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert "time_cost" in inspect.signature(passphrases.argon2.PasswordHasher).parameters


@pytest.mark.parametrize(
    "wrong", ["", "short", "x" * 300, "aaaaaaaaaaaaaa", "with\nnewline here", "lovelace lovelace"]
)
def test_a_passphrase_that_is_too_easy(wrong):
    with pytest.raises(PassphraseError) as caught:
        passphrases.check_form(wrong, "lovelace")
    assert caught.value.data["field"] == "passphrase"
    assert hashlib.sha256(wrong.encode()).hexdigest() and (not wrong or wrong not in str(caught.value))


def test_damaged_hashes_match_nothing():
    assert not passphrases.verify("$argon2id$nonsense", "correct horse battery")
