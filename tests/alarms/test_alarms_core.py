"""What holds for alarms without any of them being kept or sent: life, times, texts; and every condition has a row."""

from __future__ import annotations

import ast
import json
import random
import re
from pathlib import Path

import pytest
from alarms_kit import NOW, SCRIPTS, message

from appliance.alarms import life, payload, schedule, texts
from appliance.alarms.conditions import CONDITIONS
from appliance.alarms.kinds import ALL, KINDS
from appliance.alarms.mail import is_address
from appliance.alarms.message import What
from appliance.alarms.severity import Severity

ROOT = Path(__file__).parents[2]
S = 10**9
_TYPE = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+")
# Findings of the retention clock that are told in the log alone (severity INFO).
_LOGGED = {"RetentionClockStarted", "RetentionClockGapTaken", "RetentionClockThawed"}


def raised_names() -> dict[str, str]:
    """Every name of a condition that the code may raise, and where: all texts of the form of a type, in modules that raise
    conditions or make what others raise as such."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "appliance").rglob("*.py")):
        text = path.read_text("utf-8")
        if "alarms" in path.parts or not re.search(r"raise_condition|Ailment\(|ClockFinding\(", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _TYPE.fullmatch(node.value):
                found[node.value] = path.name
    for name in _methods():
        found.pop(name, None)
    # The one name of a single word, and what is said of a process by others.
    return {**found, "Quarantine": "watch.py", "ProcessDown": "processes.py"}


def _methods() -> set[str]:
    """Names of methods, which are of the same form."""
    texts_of = (path.read_text("utf-8") for path in (ROOT / "proto").rglob("*.proto"))
    return {name for text in texts_of for name in re.findall(r"^  rpc (\w+)\(", text, re.MULTILINE)}


def test_every_condition_has_a_row_and_every_row_a_condition():
    raised = raised_names()
    assert len(raised) > 70
    rows = {one.name for one in CONDITIONS}
    unknown = {name: where for name, where in raised.items() if name not in rows | _LOGGED | set(KINDS)}
    assert not unknown, "give each of these a row in appliance/alarms"
    assert not rows - raised.keys()
    assert len(KINDS) == len(ALL), "two kinds have one name"
    assert len(rows) == len(CONDITIONS)


def test_every_kind_says_what_is_the_matter_and_what_to_do():
    for kind in KINDS.values():
        assert re.fullmatch(r"[A-Z][A-Za-z]{5,63}", kind.name), kind.name
        assert 10 <= len(kind.title) <= 100 and not kind.title.endswith("."), kind.name
        assert kind.what_to_do.endswith((".", "?")) and 12 <= len(kind.what_to_do) <= 500, kind.name
        for page in re.findall(r"docs/[a-z-]+\.md", kind.what_to_do):
            assert (ROOT / page).is_file(), (kind.name, page)


def test_the_docs_are_written_from_the_table():
    from tools.write_alarms import PAGE, table

    text = PAGE.read_text("utf-8")
    assert "\n".join(table()) in text, "write docs/alarms.md anew: python tools/write_alarms.py"


def test_an_alarm_goes_on_for_a_few_minutes():
    assert life.goes_on(None, "", NOW)
    assert life.goes_on(NOW, "", NOW + life.FLAP_NS - 1) and not life.goes_on(NOW, "", NOW + life.FLAP_NS)
    assert not life.goes_on(NOW, "ada", NOW + 1)
    blip = (NOW, NOW + life.SETTLE_NS - 1, "")
    assert life.is_blip(Severity.WARNING, *blip) and not life.is_blip(Severity.CRITICAL, *blip)
    assert not life.is_blip(Severity.WARNING, NOW, NOW + life.SETTLE_NS, "")
    assert not life.is_blip(Severity.WARNING, NOW, None, "") and not life.is_blip(
        Severity.WARNING, NOW, NOW, "ada"
    )
    assert life.worse(Severity.NOTICE, Severity.CRITICAL) is Severity.CRITICAL


def test_a_start_is_no_alarm_for_a_moment():
    assert life.is_starting(True, 0, 0) and not life.is_starting(False, 0, 0)
    assert life.is_starting(True, life.START_NS - 1, life.START_NS - 1)
    assert not life.is_starting(True, life.START_NS, 0), "the process has run for long enough"
    assert not life.is_starting(True, 0, life.START_NS), "it starts again and again"
    assert {one.name for one in ALL if one.at_start} == {
        "CaptureUnreachable",
        "LinePolicyWaiting",
        "RoutingTableMissing",
        "SearchIndexIncomplete",
        "SignalingUnreachable",
        "SipCertificateMissing",
        "VaultUnreachable",
    }


def test_tries_are_further_and_further_apart_and_end():
    chance = random.Random(7)
    spans = [schedule.backoff(tries, chance) for tries in range(1, 40)]
    for tries, span in enumerate(spans, 1):
        whole = min(5 * S * 2 ** (tries - 1), 900 * S)
        assert whole // 2 <= span <= whole
    assert len(set(spans[10:])) > 20  # not all at once
    day = schedule.DAY_NS
    assert not schedule.given_up(NOW, NOW + day, digest=False) and schedule.given_up(
        NOW, NOW + day + 1, digest=False
    )
    assert not schedule.given_up(NOW, NOW + 2 * day, digest=True) and schedule.given_up(
        NOW, NOW + 2 * day + 1, digest=True
    )


@pytest.mark.parametrize("hour", [0, 14, 23])
def test_the_digest_is_at_its_hour(hour):
    at = schedule.next_digest(NOW, hour)
    assert NOW < at <= NOW + schedule.DAY_NS and at % schedule.DAY_NS == hour * schedule.HOUR_NS
    assert schedule.next_digest(at, hour) == at + schedule.DAY_NS and schedule.next_digest(at - 1, hour) == at


def test_what_is_for_whom():
    take = schedule.is_for
    assert take(What.RAISED, Severity.WARNING, Severity.WARNING, mail=True)
    assert not take(What.RAISED, Severity.NOTICE, Severity.WARNING, mail=False)
    assert take(What.ACKNOWLEDGED, Severity.WARNING, Severity.WARNING, mail=False)
    assert not take(What.ACKNOWLEDGED, Severity.WARNING, Severity.WARNING, mail=True)
    assert take(What.CLEARED, Severity.WARNING, Severity.NOTICE, mail=True)
    assert not take(What.CLEARED, Severity.NOTICE, Severity.NOTICE, mail=True)


def test_texts_are_of_one_line_and_say_what_to_do():
    nasty = "Ward\r\nBcc: all@example.org\x85\u2028\u2029\x00\u202e\ud800"
    line = texts.line(message(tenant_name=nasty))
    assert line.isprintable() and len(line.splitlines()) == 1 and "Bcc" in line
    line.encode()
    assert SCRIPTS in texts.line(message(tenant_name=SCRIPTS))
    stood = texts.body(message(count=3, seen_ns=NOW + 60 * S, ack_ns=NOW, ack_by="ada"))
    for words in (
        "What to do:",
        "Times: 3",
        "Acknowledged: 2026-09-21 14:13:20 UTC by ada",
        "earwitness alarms ack",
    ):
        assert words in stood
    over = texts.body(message(What.CLEARED, clear_ns=NOW + S))
    assert (
        "over since 2026-09-21 14:13:21 UTC" in over and "What to do" not in over and "alarms ack" not in over
    )
    assert "when this was to be sent it stood" in texts.body(message(clear_ns=NOW + S))
    assert "worse: " in texts.line(message(What.ESCALATED)) and "over: " in texts.line(message(What.CLEARED))
    assert texts.line(message(What.TEST)).startswith("[TEST]") and "Nothing is the matter" in texts.body(
        message(What.TEST)
    )
    assert texts.name_of(message(tenant_id="t" * 26).alarm).startswith("tenants/")


def test_the_document_of_a_webhook():
    found = json.loads(payload.document(message(What.CLEARED, clear_ns=NOW, clear_by="ada")))
    assert found["type"] == "earwitness.alarm.cleared" and "tenant" not in found
    assert (found["alarm"]["clearTime"], found["alarm"]["clearer"]) == ("2026-09-21T14:13:20Z", "ada")
    assert found["alarm"]["data"] == {"free_percent": 3}
    assert json.loads(payload.document(message(What.TEST))).keys() == {"type", "id", "time", "box"}
    # The example of the Standard Webhooks specification.
    headers = payload.signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    with pytest.raises(ValueError, match="base64"):
        payload.key_of("whsec_!")


def test_addresses_of_mail():
    for good in ("a@b.example", "o'neil+x@sub.b.example", "дежурный@bücher.example", "root@localhost"):
        assert is_address(good), good
    for bad in (
        "",
        "a",
        "@b",
        "a@",
        "a b@c",
        "a@b\n",
        "a@b..c",
        ".a@b",
        "a..b@c",
        "<a@b>",
        "a@b,c@d",
        '"a"@b',
        "a@@b",
        "x" * 251 + "@b.c",
    ):
        assert not is_address(bad), bad
