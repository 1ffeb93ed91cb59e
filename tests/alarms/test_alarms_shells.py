"""Alarms on their way: real servers of mail, of the web and of syslog, that are down, slow, wrong, or refuse."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import hmac
import json
import socket
from dataclasses import replace

import pytest
from alarms_kit import (
    SCRIPTS,
    Collector,
    Hooks,
    Mails,
    authority,
    mail_server,
    message,
    silent_server,
)

from appliance.alarms import collector, dial, smtp, webhook
from appliance.alarms.channel import Security, Smtp, Syslog, Webhook
from appliance.alarms.errors import DeliveryError
from appliance.alarms.message import What

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def tls(tmp_path):
    return authority(tmp_path)


@pytest.fixture
def run(loop):
    import asyncio

    return lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)


def failed(run, work) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        run(work)
    return caught.value


def mail_to(port: int, tls, **fields) -> Smtp:
    base = Smtp(
        "localhost", "box@hospital.example", ("ops@hospital.example", "it@hospital.example"), port, ca=tls.pem
    )
    return replace(base, **fields)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_mail_arrives_over_tls_with_headers_of_every_script(run, tls):
    mails = Mails()
    with mail_server(mails, tls.server) as server:
        there = mail_to(server.port, tls)
        told = message(tenant_name=SCRIPTS, tenant_id="t" * 26)
        assert run(smtp.send(there, "", [told])).startswith("2.0.0 taken as 42")
        digest = [message(kind="GrantRequested", tenant_name=SCRIPTS) for _ in range(3)]
        run(smtp.send(there, "", digest))
        run(smtp.send(there, "", [message(What.TEST)], ["it@hospital.example"]))
    (to, raw, secured), (_, together, _), (one, _, _) = mails.got
    assert (to, secured) == (list(there.to), True) and one == ["it@hospital.example"]
    raw.decode("ascii")  # RFC 2047: what a server of 1982 may forward
    assert all(len(line) <= 998 for line in raw.splitlines())
    found = email.message_from_bytes(raw, policy=email.policy.default)
    assert found["Subject"] == f"[CRITICAL] The disk is full: recordings wait in memory ({SCRIPTS})"
    assert found["From"].addresses[0].addr_spec == "box@hospital.example"
    assert found["Message-ID"] == f"<{told.id}@box7.hospital.example>"
    assert found["References"] == f"<{told.alarm.id}.alarm@box7.hospital.example>"
    assert (found["Auto-Submitted"], found["Importance"]) == ("auto-generated", "high")
    assert not found.defects and not any(one.defects for one in found.values() if hasattr(one, "defects"))
    body = found.get_content()
    assert SCRIPTS in body and "Free space at once" in body and "free_percent: 3" in body
    several = email.message_from_bytes(together, policy=email.policy.default)
    assert several["Subject"] == "[NOTICE] 3 reminders (box7.hospital.example)"
    assert several.get_content().count("Alarm: ") == 3


def test_mail_to_an_address_of_another_script(run, tls):
    mails = Mails()
    with mail_server(mails, tls.server) as server:
        there = mail_to(server.port, tls, to=("дежурный@bücher.example",))
        run(smtp.send(there, "", [message()]))
    assert mails.got[0][0] == ["дежурный@xn--bcher-kva.example"]
    found = email.message_from_bytes(mails.got[0][1], policy=email.policy.SMTPUTF8)
    assert "дежурный@xn--bcher-kva.example" in str(found["To"])


def test_an_address_that_cannot_be_said_is_of_its_mail_alone(run, tls):
    mails = Mails()
    with mail_server(mails, tls.server, utf8=False) as server:
        there = mail_to(server.port, tls)
        for address, failure in (
            ("дежурный@hospital.example", "not-supported"),
            ("ops@x＜y.example", "address-unusable"),  # "<" in ASCII
        ):
            error = failed(run, smtp.send(replace(there, to=(address,)), "", [message()]))
            assert (error.failure, error.of_message) == (failure, True)
            error = failed(run, smtp.send(replace(there, sender=address), "", [message()]))
            assert (error.failure, error.of_message) == (failure, False), "from there nobody gets any"
        run(smtp.send(there, "", [message()]))
    assert len(mails.got) == 1


def test_mail_signs_in_over_implicit_tls(run, tls):
    mails = Mails()
    with mail_server(mails, tls.server, implicit=True, auth="right") as server:
        there = mail_to(server.port, tls, security=Security.TLS, username="box")
        assert failed(run, smtp.send(there, "wrong", [message()])).failure == "sign-in-refused"
        run(smtp.send(there, "right", [message()]))
        assert failed(run, smtp.send(replace(there, username=""), "", [message()])).failure == "smtp-530"
    assert len(mails.got) == 1


def test_mail_never_goes_in_the_clear_nor_to_a_stranger(run, tls, tmp_path):
    mails = Mails()
    with mail_server(mails, None) as server:  # offers no STARTTLS
        error = failed(run, smtp.send(mail_to(server.port, tls), "", [message()]))
        assert error.failure in ("failed", "not-supported") and not error.of_message
        run(smtp.send(mail_to(server.port, tls, security=Security.NONE, ca=""), "", [message()]))
        assert [secured for _, _, secured in mails.got] == [False]
    with mail_server(mails, tls.server) as server:
        other = mail_to(server.port, authority(tmp_path))
        assert failed(run, smtp.send(other, "", [message()])).failure == "certificate-not-trusted"
        system = mail_to(server.port, tls, ca="")
        assert failed(run, smtp.send(system, "", [message()])).failure == "certificate-not-trusted"
        assert failed(run, smtp.send(mail_to(server.port, tls, ca="x"), "", [message()])).failure == (
            "certificates-unreadable"
        )
    with mail_server(mails, tls.server, implicit=True) as server:
        other = mail_to(server.port, authority(tmp_path), security=Security.TLS)
        assert failed(run, smtp.send(other, "", [message()])).failure == "certificate-not-trusted"
    assert len(mails.got) == 1


def test_mail_that_is_refused_says_for_whom(run, tls):
    mails = Mails(refused={"it@hospital.example"})
    with mail_server(mails, tls.server) as server:
        there = mail_to(server.port, tls)
        error = failed(run, smtp.send(there, "", [message()]))
        assert (error.failure, error.refused, error.of_message) == (
            "smtp-550",
            ("it@hospital.example",),
            True,
        )
        assert error.reply == "5.1.1 nobody of that name?[2J"
        assert mails.got[0][0] == ["ops@hospital.example"]  # the other has it
        error = failed(run, smtp.send(there, "", [message()], error.refused))
        assert (error.failure, error.refused) == ("smtp-550", ("it@hospital.example",))
        assert run(smtp.send(there, "", [message()], ["gone@hospital.example"])) == "nobody is left to tell"
        mails.refused, mails.failing = set(), True
        error = failed(run, smtp.send(there, "", [message()]))
        assert (error.failure, error.of_message) == ("smtp-451", True)
    assert len(mails.got) == 1


def test_a_mail_server_that_is_down_or_says_nothing(run, tls, monkeypatch):
    assert failed(run, smtp.send(mail_to(closed_port(), tls), "", [message()])).failure == "refused"
    nobody = mail_to(25, tls, host="nobody.invalid")
    assert failed(run, smtp.send(nobody, "", [message()])).failure == "name-unknown"
    monkeypatch.setattr(smtp, "SEND_S", 0.2)
    with silent_server() as port:
        error = failed(run, smtp.send(mail_to(port, tls), "", [message()]))
    assert (error.failure, error.of_message, error.in_doubt) == ("no-answer", False, False)


def test_mail_that_may_have_been_taken_is_in_doubt(run, tls, monkeypatch):
    mails = Mails(hanging_up=True)
    with mail_server(mails, tls.server) as server:
        error = failed(run, smtp.send(mail_to(server.port, tls), "", [message()]))
        assert (error.failure, error.of_message, error.in_doubt) == ("closed", False, True)
        mails.hanging_up, mails.answer_s = False, 2.0
        monkeypatch.setattr(smtp, "SEND_S", 1.0)
        error = failed(run, smtp.send(mail_to(server.port, tls), "", [message()]))
        assert (error.failure, error.of_message, error.in_doubt) == ("no-answer", False, True)
        mails.failing = True
        assert not failed(run, smtp.send(mail_to(server.port, tls), "", [message()])).in_doubt
    assert len(mails.got) == 2


def test_a_webhook_is_signed_and_answered(run, tls):
    with Hooks(tls.server) as hooks:
        hooks.answer, hooks.status = b"thanks \x1b[2J" + b"x" * 100_000, 202
        told = message(tenant_name=SCRIPTS, tenant_id="t" * 26)
        reply = run(webhook.send(Webhook(hooks.url, tls.pem), SECRET, told))
    assert reply.startswith("202 Accepted\nthanks ?[2J") and len(reply) <= 1024
    headers, body = hooks.got[0]
    over = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    tag = base64.b64encode(hmac.digest(b"k" * 32, over, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{tag}" and headers["webhook-id"] == told.id
    found = json.loads(body)
    assert found["type"] == "earwitness.alarm.raised" and found["id"] == told.id
    assert found["tenant"] == {"name": "tenants/" + "t" * 26, "displayName": SCRIPTS}
    assert found["alarm"]["whatToDo"].startswith("Free space") and found["alarm"]["clearTime"] is None


@pytest.mark.parametrize(
    ("status", "of_message"), [(301, False), (400, True), (401, False), (429, False), (503, False)]
)
def test_a_webhook_that_does_not_take_it(run, tls, status, of_message):
    with Hooks(tls.server) as hooks:
        hooks.status = status
        hooks.headers = {"Location": hooks.url.replace("alarms", "elsewhere")} if status == 301 else {}
        error = failed(run, webhook.send(Webhook(hooks.url, tls.pem), SECRET, message()))
    assert (error.failure, error.of_message) == (f"status-{status}", of_message)
    assert len(hooks.got) == 1  # redirects are not followed


def test_a_webhook_that_cannot_be_reached(run, tls, tmp_path, monkeypatch):
    with Hooks(tls.server) as hooks:
        url = hooks.url
        error = failed(run, webhook.send(Webhook(url, authority(tmp_path).pem), SECRET, message()))
        assert error.failure == "certificate-not-trusted" and not hooks.got
        # A tenant's leads nowhere into the box.
        for inner in (
            url,
            url.replace("localhost", "127.0.0.1"),
            "https://[::1]:1/",
            "https://169.254.169.254/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
        ):
            error = failed(run, webhook.send(Webhook(inner, tls.pem), SECRET, message(), inward=False))
            assert error.failure == "address-not-allowed"
    assert failed(run, webhook.send(Webhook(url, tls.pem), SECRET, message())).failure == "refused"
    assert (
        failed(run, webhook.send(Webhook("https://no.invalid/"), SECRET, message())).failure == "name-unknown"
    )
    monkeypatch.setattr(webhook, "SEND_S", 0.2)
    with silent_server() as port:
        there = Webhook(f"https://127.0.0.1:{port}/", tls.pem)
        assert failed(run, webhook.send(there, SECRET, message())).failure == "no-answer"
    with mail_server(Mails(), None) as server:  # speaks, and no TLS
        there = Webhook(f"https://localhost:{server.port}/", tls.pem)
        assert failed(run, webhook.send(there, SECRET, message())).failure == "tls-failed"


def test_syslog_arrives_over_tls(run, tls, tmp_path):
    with Collector(tls.server) as there:
        settings = Syslog("localhost", there.port, tls.pem)
        told = message(tenant_name=SCRIPTS, tenant_id="t" * 26)
        assert run(collector.send(settings, told)) == "acknowledged"
        run(collector.send(settings, message(What.CLEARED, clear_ns=1)))
        got = there.got
        other = replace(settings, ca=authority(tmp_path).pem)
        assert failed(run, collector.send(other, message())).failure == "certificate-not-trusted"
        assert failed(run, collector.send(settings, message(), inward=False)).failure == "address-not-allowed"
        assert there.got == got
    size, _, rest = got.partition(b" ")
    first, second = rest[: int(size)].decode(), rest[int(size) :]
    # Facility 14 (log alert), severity 2 (critical): 114.
    assert (
        first.startswith("<114>1 2026-09-21T")
        and " box7.hospital.example earwitness - raised [alarm@32473" in first
    )
    assert f'id="{told.id}"' in first and 'kind="DiskFull"' in first and first.endswith(f"({SCRIPTS})")
    assert b"<118>1 " in second and b" cleared [" in second
    assert failed(run, collector.send(settings, message())).failure == "refused"


def test_what_leads_inwards():
    for text in (
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1%eth0",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
    ):
        assert dial.is_inward(text)
    for text in ("10.1.2.3", "192.168.0.1", "8.8.8.8", "fd00::1", "2001:db8::1"):
        assert not dial.is_inward(text)
