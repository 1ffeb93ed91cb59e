"""Notes byte for byte as golang.org/x/mod/sumdb/note and C2SP have them."""

from __future__ import annotations

import pytest

from appliance.audit.errors import NoteError, NoteUnverifiedError
from appliance.audit.note import Checkpoint, Signer, Verifier, open_note

# The published vectors of golang.org/x/mod/sumdb/note.
SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
ENOCH_LINE = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
NOTE = f"{TEXT}\n{PETER_LINE}"
# The example of C2SP tlog-checkpoint.
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)


def test_what_is_signed_is_what_go_signs():
    signer = Signer.parse(SIGNER)
    assert signer.sign(TEXT) == NOTE
    assert str(signer.verifier) == PETER and signer.private_text() == SIGNER
    text, signers = open_note(NOTE, [Verifier.parse(PETER)])
    assert text == TEXT and signers == [Verifier.parse(PETER)]


def test_keys_that_are_mangled_are_refused():
    for key, parse in ((PETER, Verifier.parse), (SIGNER, Signer.parse)):
        parse(key)
        mangled = [key[a:b] for a in range(len(key)) for b in range(a + 1, len(key) + 1) if b - a < len(key)]
        mangled += [key[:at] + chr(ord(key[at]) + 1) + key[at + 1 :] for at in range(len(key))]
        for one in mangled:
            with pytest.raises(NoteError):
                parse(one)
    for key in (
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ):
        with pytest.raises(NoteError):
            Verifier.parse(key)


def test_several_signatures():
    both = f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}"
    peter, enoch = Verifier.parse(PETER), Verifier.parse(ENOCH)
    assert open_note(both, [peter]) == (TEXT, [peter])
    assert open_note(both, [peter, enoch]) == (TEXT, [peter, enoch])
    assert open_note(f"{TEXT}\n{PETER_LINE * 2}{ENOCH_LINE}", [peter]) == (TEXT, [peter])
    for note, keys in (
        (both, []),
        (f"{TEXT}\n{ENOCH_LINE}", [peter]),
        (f"{TEXT}\n{PETER_LINE.replace('x08g', 'xxxx')}", [peter]),
        (f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', 'CarmenSandiego')}", [peter]),
        (f"{TEXT}\n{PETER_LINE[:60]}ABCD{PETER_LINE[60:]}", [peter]),
        (NOTE.replace("cryptography", "cryptographY"), [peter]),
    ):
        with pytest.raises(NoteUnverifiedError):
            open_note(note, keys)


@pytest.mark.parametrize(
    "note",
    [
        TEXT,
        TEXT + "\n",
        NOTE[:-1],
        "\x01" + NOTE,
        b"\xff" + NOTE.encode(),
        f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', 'Bad Name')}",
        f"{NOTE}Unexpected line.\n",
        f"{TEXT}\n{PETER_LINE * 101}",
        NOTE.replace("\n", "\r\n"),
        f"\n\n{PETER_LINE}",
        f"{TEXT}\n— PeterNeumann AAAA\n",
        "x" * (65 * 1024),
        "",
        "\ud800\n\n" + PETER_LINE,
    ],
)
def test_what_is_no_note_is_refused(note):
    with pytest.raises(NoteError):
        open_note(note, [Verifier.parse(PETER)])


def test_a_checkpoint_is_read_and_written_as_c2sp_has_it():
    text = SOFA.partition("\n\n")[0] + "\n"
    found = Checkpoint.parse(text)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.root.hex().startswith("0ac5186a") and found.text() == text
    assert Checkpoint.parse(text + "an extension\n") == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        "a\n01\n" + "A" * 43 + "=\n",
        "a\n-1\n" + "A" * 43 + "=\n",
        "a\n+1\n" + "A" * 43 + "=\n",
        "a\n1\n" + "A" * 42 + "==\n",
        "a\n1\nAAAA\n",
        "\n1\n" + "A" * 43 + "=\n",
        "a\n1\n" + "A" * 43 + "=",
        "a\n99999999999999999999\n" + "A" * 43 + "=\n",
        "a\n\u0661\n" + "A" * 43 + "=\n",
        "a\n1\n" + "A" * 42 + "B=\n",
        "a\n1\n" + "A" * 43 + "=\n\nmore\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


def test_nothing_is_signed_that_is_no_note():
    signer = Signer.generate("earwitness/x/audit")
    for text in ("", "\n", "abc", "a\rb\n"):
        with pytest.raises(NoteError):
            signer.sign(text)
    for name in ("", "a b", "a+b", "a\u00a0b", "x" * 201):
        with pytest.raises(NoteError):
            Signer.generate(name)
    assert Signer.parse(signer.private_text()).verifier == signer.verifier
    assert signer.named("earwitness/x/audit/2").verifier.id != signer.verifier.id
