"""The page where a notice is acknowledged by a link, over real HTTPS: what people see, and what hostile clients get."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from html import unescape

import grpc
import pytest

import earwitness
from appliance.access.identities import Role
from appliance.api import noticepage
from appliance.audit.errors import AuditUnavailableError
from appliance.config.notices import NoticeSettings
from earwitness.v1 import calls_pb2, staff_pb2, tenants_pb2
from earwitness.v1 import notices_pb2 as pb

NAME = "نور الدين <b>O'Brien</b>"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Page:
    """A box with the page, a notice and somebody to read it."""

    def __init__(self, box) -> None:
        self.box = box
        self.client = box.client()
        self.home = f"tenants/{box.default_line()[0]}"
        self.page = box.control._notices.page
        self.tls = ssl.create_default_context(cafile=str(box.layout.pki / "ca.crt"))
        member = staff_pb2.StaffMember(display_name=NAME, numbers=["201"])
        self.who = self.client.notices.CreateStaffMember(
            staff_pb2.CreateStaffMemberRequest(parent=self.home, staff_member=member)
        ).staff_member
        text = "# Rules\n\nCalls are <script>alert(1)</script> recorded.\n\n- one\n- two & three"
        self.notice = self.client.notices.CreateNotice(
            pb.CreateNoticeRequest(
                parent=self.home,
                notice=pb.Notice(display_name="Recording", required=True),
                first_version=pb.NoticeVersion(text=text),
            )
        ).notice

    def link(self, **how) -> str:
        request = pb.CreateAcknowledgementLinkRequest(
            name=self.notice.name, staff_member=self.who.name, **how
        )
        return self.client.notices.CreateAcknowledgementLink(request).uri

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, headers=None):
        """Status, headers and body, over TLS with the box's name checked."""
        self.page._rate._buckets.clear()  # each question stands alone here
        connection = http.client.HTTPSConnection("127.0.0.1", self.page.port, context=self.tls, timeout=10)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found

    def raw(self, sent: bytes, wait_s: float = 5.0) -> bytes:
        """What comes back for bytes that may be no HTTP."""
        self.page._rate._buckets.clear()
        found = b""
        with (
            socket.create_connection(("127.0.0.1", self.page.port), timeout=wait_s) as plain,
            self.tls.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            try:
                connection.sendall(sent)
                while part := connection.recv(65536):
                    found += part
            except OSError:
                pass  # it was cut off
        return found

    def acknowledgements(self):
        request = pb.ListAcknowledgementsRequest(parent=self.home)
        return list(self.client.notices.ListAcknowledgements(request).acknowledgements)


@pytest.fixture
def page(make_box):
    return Page(make_box(notices=NoticeSettings(port=0)))


def form(name: str = NAME, read: str = "yes") -> bytes:
    return urllib.parse.urlencode({"name": name, "read": read}).encode()


def path_of(uri: str) -> str:
    found = urllib.parse.urlsplit(uri)
    assert not found.query and not found.fragment and re.fullmatch(r"/n/[A-Za-z0-9_-]+", found.path)
    return found.path


def test_a_person_reads_and_says_so_once(page):
    path = path_of(page.link())
    status, headers, body = page.ask(path)
    text = body.decode()
    assert status == 200 and headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
    assert "<script" not in text and "&lt;script&gt;" in text and "<h2>Rules</h2>" in text
    assert (
        "<li>two &amp; three</li>" in text
        and "Recording" in text
        and NAME in unescape(text)
        and "<b>" not in text
    )
    assert '<html lang="en-GB">' in text and '<label for="name">' in text and "http" not in text
    assert page.ask(path, "HEAD")[2] == b"" and not page.acknowledgements(), "reading uses nothing up"

    for wrong in (
        form(name=""),
        form(read="no"),
        b"",
        b"name=a&name=b&read=yes",
        b"%ff",
        form(name="a\u202eb"),
    ):
        status, _, body = page.ask(path, "POST", wrong, FORM)
        assert status == 422 and b'role="alert"' in body
    assert page.ask(path, "POST", form(), {"Content-Type": "application/json"})[0] == 422
    assert not page.acknowledgements()

    status, _, body = page.ask(path, "POST", form("Nūr ad-Dīn"), FORM)
    assert status == 200 and b"Thank you" in body
    (made,) = page.acknowledgements()
    assert made.way == pb.ACKNOWLEDGEMENT_WAY_LINK and made.evidence == "Nūr ad-Dīn" and not made.actor
    assert made.staff_member == page.who.name and made.text_sha256 == page.notice.current.text_sha256
    assert page.ask(path, "POST", form(), FORM)[0] == 404 and len(page.acknowledgements()) == 1
    entries = [one for one in page.box.audited() if one.get("method") == noticepage.METHOD]
    assert [(one["what"], one.get("outcome")) for one in entries] == [("asked", None), ("done", "OK")]
    assert entries[0]["staff_member"] == page.who.name and "Nūr" not in str(page.box.audited())
    assert path.removeprefix("/n/") not in str(page.box.audited())


def test_what_was_said_stays_said_where_its_end_is_not_written_down(page, monkeypatch):
    path, append = path_of(page.link()), page.page._trail.append
    published = page.box.control.parts.routing.publish
    order: list[str] = []

    async def full(record, *, durable):
        order.append(record["what"])
        if record["what"] == "done":
            raise AuditUnavailableError("no space")
        return await append(record, durable=durable)

    async def publish():
        order.append("published")
        await published()

    monkeypatch.setattr(page.page._trail, "append", full)
    monkeypatch.setattr(page.box.control.parts.routing, "publish", publish)
    status, _, body = page.ask(path, "POST", form(), FORM)
    monkeypatch.undo()
    assert status == 200 and b"Thank you" in body and len(page.acknowledgements()) == 1
    assert order == ["asked", "published", "done"]


def test_who_goes_away_meanwhile_has_said_so(page, monkeypatch):
    """And both entries are of one request."""
    begun, go_on = threading.Event(), threading.Event()
    add = noticepage.acknowledgements.add

    def slow(*said):
        begun.set()
        go_on.wait(10)
        return add(*said)

    monkeypatch.setattr(noticepage.acknowledgements, "add", slow)
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(page.ask, path_of(page.link()), "POST", form(), FORM)
        begun.wait(10)
        closing = pool.submit(page.box.run, page.page.close())
        with pytest.raises((OSError, http.client.HTTPException)):
            asked.result()
        go_on.set()
        closing.result()
    entries = [one for one in page.box.audited() if one.get("method") == noticepage.METHOD]
    assert [(one["what"], one.get("outcome")) for one in entries] == [("asked", None), ("done", "OK")]
    assert entries[0]["request"] == entries[1]["request"] != ""
    assert len(page.acknowledgements()) == 1


def test_tokens_that_cannot_be_used_are_answered_alike(page):
    used, over, good = (path_of(page.link(valid_days=days)) for days in (1, 2, 3))
    page.ask(used, "POST", form(), FORM)
    page.client.notices.WithdrawAcknowledgement(
        pb.WithdrawAcknowledgementRequest(name=page.acknowledgements()[0].name, reason="To try again")
    )
    page.box.clock.ahead_ns += int(2.5 * 86400) * 10**9
    token = good.removeprefix("/n/")
    unknown = [
        "/n/" + "A" * 75,
        "/n/" + token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"),
        "/n/" + ("B" if token[0] == "A" else "A") + token[1:],
        "/n/" + token + "A",
        good + "?x=1",
        "/n/",
        "/",
        "/n/../n/" + token,
        "/admin",
        "/n/" + "%41" * 75,
        "/n/" + "x" * 1500,
    ]
    answers = {page.ask(one)[::2] for one in (used, over, *unknown)}
    answers |= {page.ask(one, "POST", form(), FORM)[::2] for one in (used, over, *unknown)}
    assert len(answers) == 1 and next(iter(answers))[0] == 404
    assert page.ask(good)[0] == 200
    page.client.notices.ArchiveStaffMember(staff_pb2.ArchiveStaffMemberRequest(name=page.who.name))
    assert page.ask(good)[::2] in answers, "not for who left"
    assert page.ask(good, "DELETE")[0] == 405


def test_hostile_clients_are_bounded(page, monkeypatch):
    path = path_of(page.link())
    large = b"name=" + b"x" * 100_000 + b"&read=yes"
    assert page.ask(path, "POST", large, FORM)[0] == 422
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['Content-Type']}\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n"
    assert b"422" in page.raw(chunked.encode() + b"2000\r\n" + b"a" * 0x2000 + b"\r\n0\r\n\r\n")[:20]
    for sent in (
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: y\r\n" % n for n in range(200)) + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ):
        answer = page.raw(sent)
        assert answer == b"" or (answer.startswith(b"HTTP/1.") and b" 200 " not in answer[:20]), sent[:40]
    # Who says nothing, or half a request, is left after a while; others are served meanwhile.
    monkeypatch.setattr(noticepage, "CONNECTION_S", 0.5)
    assert page.raw(b"GET / HTT") == b""
    idle = [
        socket.create_connection(("127.0.0.1", page.page.port)) for _ in range(noticepage.MAX_OF_NETWORK * 2)
    ]
    try:
        page.box.wait(lambda: _serves(page, path))
    finally:
        for one in idle:
            one.close()
    assert not page.acknowledgements()


def _serves(page: Page, path: str) -> bool:
    try:
        return page.ask(path)[0] == 200
    except OSError:
        return False


def test_so_many_questions_of_a_network(page):
    path = path_of(page.link())
    page.page._now_s = lambda: 100.0
    seen = []
    for _ in range(int(noticepage.BURST) + 3):
        connection = http.client.HTTPSConnection("127.0.0.1", page.page.port, context=page.tls, timeout=10)
        connection.request("GET", path)
        seen.append(connection.getresponse().status)
        connection.close()
    assert seen.count(200) == noticepage.BURST and seen[-3:] == [429] * 3


def test_a_link_outlives_the_catalogue_and_what_counts_its_events_does_not(page):
    path, box = path_of(page.link()), page.box
    key = box.control.parts.tokens.key
    assert key != box.control.parts.link_key
    box.stop()
    for one in box.layout.control.glob("catalogue.db*"):
        one.unlink()
    box.start()
    page.client, page.page = box.client(), box.control._notices.page
    assert box.control.parts.tokens.key != key
    assert page.ask(path)[0] == 200
    assert page.ask(path, "POST", form(), FORM)[0] == 200
    [made] = page.acknowledgements()
    assert made.staff_member == page.who.name


def test_without_the_page_there_is_no_link(box):
    home = f"tenants/{box.default_line()[0]}"
    client = box.client()
    made = client.notices.AdoptDefaultNotices(pb.AdoptDefaultNoticesRequest(parent=home)).notices[0]
    member = staff_pb2.StaffMember(display_name="Ada")
    who = client.notices.CreateStaffMember(
        staff_pb2.CreateStaffMemberRequest(parent=home, staff_member=member)
    ).staff_member
    request = pb.CreateAcknowledgementLinkRequest(name=made.name, staff_member=who.name)
    with pytest.raises(grpc.RpcError) as caught:
        client.notices.CreateAcknowledgementLink(request)
    assert earwitness.details(caught.value).reason == "NOTICE_PAGE_OFF"


def test_who_is_barred_may_pause_at_once_after_the_page(page):
    box = page.box
    tenant_id, line_id = box.default_line()
    agent = box.enroll("ada", Role.AGENT, tenant_id=tenant_id, agent="201")
    line = tenants_pb2.Line(name=f"{page.home}/lines/{line_id}", rights=tenants_pb2.RIGHTS_PAUSE)
    page.client.tenants.UpdateLine(tenants_pb2.UpdateLineRequest(line=line))
    page.client.tenants.UpdateTenant(
        tenants_pb2.UpdateTenantRequest(
            tenant=tenants_pb2.Tenant(name=page.home, unacknowledged_may_pause=False),
            update_mask={"paths": ["unacknowledged_may_pause"]},
        )
    )
    from earwitness.internal.v1 import signaling_pb2

    party = signaling_pb2.LiveParty(aor="sip:201@pbx.example", role="agent", track=0)
    call = box.signaling.begin(tenant_id, line_id, parties=[party])
    box.wait(lambda: any(one.call_id == call for one in box.control.parts.board.calls()))
    pause = calls_pb2.PauseCallRequest(name=f"{page.home}/calls/{call}")
    with pytest.raises(grpc.RpcError) as caught:
        agent.calls.PauseCall(pause)
    told = earwitness.details(caught.value)
    assert told.reason == "NOTICE_NOT_ACKNOWLEDGED" and page.notice.name in told.data["notices"]
    assert '"numbers":["201"]' in box.layout.routing.read_text()
    assert page.ask(path_of(page.link()), "POST", form(), FORM)[0] == 200
    assert '"barred":[]' in box.layout.routing.read_text()
    assert agent.calls.PauseCall(pause).call.state == calls_pb2.CALL_STATE_PAUSED
