"""Forwarding to a real TLS collector: form, order, at least once over breaks and restarts, conditions."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path

import audit_kit as kit
import collector as peers
import pytest

from appliance.audit import syslog
from appliance.audit.checkpoints import parse
from appliance.audit.forward import BEHIND, FAILING, Forwarder
from appliance.audit.note import open_note
from appliance.audit.tree import leaf_hash
from appliance.config.settings import SyslogSettings
from appliance.process.status import Status


@pytest.fixture
def home(tmp_path):
    """Certificates, and a collector that is closed at the end."""
    made: list[peers.Collector] = []
    issuer = peers.authority(tmp_path)
    server = peers.issue(tmp_path, "server", issuer)

    class Home:
        folder = tmp_path
        client = peers.issue(tmp_path, "client", issuer)
        control = tmp_path / "control"
        status = Status()

        def collector(self, port: int = 0, **more) -> peers.Collector:
            made.append(peers.Collector(server, port=port, **more))
            return made[-1]

        @contextmanager
        def forwarding(self, log, port: int, **fields):
            settings = SyslogSettings(
                **{"host": "127.0.0.1", "port": port, "ca": tmp_path / "ca.crt", **fields}
            )
            forwarder = Forwarder(log, settings, self.status, settle_s=0.05, retry_s=0.02)
            try:
                yield forwarder
            finally:
                forwarder.close()

        def conditions(self) -> dict[str, str]:
            return {one.type: one.message for one in self.status.conditions()}

    yield Home()
    for one in made:
        one.close()


def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_messages_have_the_form_of_the_rfc_and_what_they_say_can_be_held_against_the_tree(home):
    collector = home.collector()
    with kit.running(home.control) as log:
        kit.write(log, 3, outcome="OK", method="/a/B", tenant="t")
        kit.write(log, 1, start=3, outcome="METHOD_DENIED", subject='x"]\\\u00e9')
        log.sign()
        with home.forwarding(log, collector.port) as forwarder:
            collector.wait(lambda: len(collector.got) >= 5)
            until(lambda: forwarder.progress.cursor == 4)
            progress = forwarder.progress
            assert progress.connected and not progress.failure and progress.delivered_ns
        first, denied, checkpoint = collector.got[0], collector.got[3], collector.got[4]
        assert (first.priority, first.kind) == (110, "asked") and denied.priority == 108
        assert first.data == {
            "index": "0", "leaf": leaf_hash(kit.lines(home.control)[0]).hex(), "tenant": "t", "who": "admin",
            "method": "/a/B", "outcome": "OK",
        }  # fmt: skip
        assert (
            denied.data["subject"] == 'x"]\\\u00e9' and json.loads(denied.message)["subject"] == 'x"]\\\u00e9'
        )
        assert [one.message for one in collector.got[:4]] == kit.lines(home.control)
        assert checkpoint.kind == "checkpoint"
        open_note(parse(checkpoint.message).note, [log.verifier])
    assert home.conditions() == {}


def test_what_cannot_stand_in_a_header_is_left_out():
    line = kit.line(1, what="a b\u00e9\n", who="x\ny")
    made = syslog.entry(line, 7, syslog.host_name("h\u00f6st name"))
    size, _, frame = made.partition(b" ")
    assert int(size) == len(frame)
    found = peers.MESSAGE.fullmatch(frame)
    assert found and found[3] == b"hstname" and found[4] == b"ab" and b'who="x?y"' in found[5]
    assert syslog.host_name("\u00e9") == "-"


def test_nothing_is_lost_while_the_collector_is_away(home):
    collector = home.collector()
    port = collector.port
    collector.close()
    with kit.running(home.control) as log, home.forwarding(log, port) as forwarder:
        kit.write(log, 50)
        until(lambda: FAILING in home.conditions())
        assert forwarder.progress.failure == "refused" and str(port) in home.conditions()[FAILING]
        kit.write(log, 50, start=50)
        back = home.collector(port)
        back.wait(lambda: len(back.got) >= 100)
        assert back.entries() == list(range(100))
        until(lambda: forwarder.progress.cursor == 100)
        assert home.conditions() == {}
    with kit.running(home.control) as log, home.forwarding(log, port):
        kit.write(log, 1, start=100)
        back.wait(lambda: len(back.entries()) >= 101)
    assert back.entries() == list(range(101)), "what was delivered is not sent again after a restart"


def test_what_was_lost_on_the_way_is_sent_again(home):
    """The collector breaks off every connection after a few messages, what lies unread in its buffers is gone."""
    collector = home.collector()
    collector.patience = 40
    with kit.running(home.control) as log, home.forwarding(log, collector.port) as forwarder:
        for start in range(0, 300, 30):
            kit.write(log, 30, start=start)
            time.sleep(0.03)
        until(lambda: collector.connections >= 3)
        collector.patience = None
        until(lambda: forwarder.progress.cursor == 300)
    came = collector.entries()
    assert set(came) == set(range(300)), "each at least once"
    order = list(dict.fromkeys(came))
    assert order == sorted(order), "in order, as they come for the first time"


def test_a_collector_that_takes_bytes_and_dies_before_it_reads_them(home):
    collector = home.collector()
    collector.deaf = True
    with kit.running(home.control) as log, home.forwarding(log, collector.port) as forwarder:
        forwarder._settle_s = 3600.0
        kit.write(log, 20)
        until(lambda: forwarder.progress.connected)
        time.sleep(0.1)
        assert forwarder.progress.cursor == 0, "acknowledged by its system is not yet delivered"
        collector.break_off()
        until(lambda: forwarder.progress.failure != "" or collector.connections > 1)
        collector.deaf = False
        forwarder._settle_s = 0.05
        collector.wait(lambda: len([one for one in collector.got if one.kind == "asked"]) >= 20)
        until(lambda: forwarder.progress.cursor == 20)


def test_memory_is_bounded_while_a_collector_takes_nothing(home, monkeypatch):
    monkeypatch.setattr("appliance.audit.forward.ON_THE_WAY", 20_000)
    monkeypatch.setattr("appliance.audit.forward.BATCH_BYTES", 5_000)
    monkeypatch.setattr("appliance.audit.forward.BEHIND_COUNT", 500)
    collector = home.collector()
    collector.deaf = True
    with kit.running(home.control) as log, home.forwarding(log, collector.port) as forwarder:
        forwarder._settle_s = 3600.0
        for start in range(0, 2000, 100):
            kit.write(log, 100, start=start)
        until(lambda: BEHIND in home.conditions())
        assert forwarder.progress.cursor == 0
        forwarder._settle_s = 0.01
        collector.deaf = False
        until(lambda: forwarder.progress.cursor == 2000)
        assert collector.entries() == list(range(2000)) and BEHIND not in home.conditions()


def test_who_the_collector_is_is_checked(home, tmp_path):
    (tmp_path / "other").mkdir()
    peers.authority(tmp_path / "other")
    collector = home.collector()
    with kit.running(home.control) as log:
        kit.write(log, 1)
        with home.forwarding(log, collector.port, ca=tmp_path / "other" / "ca.crt") as forwarder:
            until(lambda: forwarder.progress.failure == "certificate-not-trusted")
        with home.forwarding(log, collector.port, host="localhost") as forwarder:
            until(lambda: forwarder.progress.failure == "certificate-not-trusted")  # it is 127.0.0.1's
        with home.forwarding(log, collector.port, ca=tmp_path / "nothing.crt") as forwarder:
            until(lambda: forwarder.progress.failure == "file-unreadable")
    assert not collector.got


def test_a_collector_that_wants_a_client_certificate(home):
    collector = home.collector(clients=home.folder / "ca.crt")
    with kit.running(home.control) as log:
        kit.write(log, 2)
        with home.forwarding(log, collector.port) as forwarder:
            until(lambda: forwarder.progress.failure in ("tls-failed", "closed"))
            assert forwarder.progress.cursor == 0
        certificate, key = home.client
        with home.forwarding(log, collector.port, certificate=certificate, key=key) as forwarder:
            until(lambda: forwarder.progress.cursor == 2)
    assert collector.entries() == [0, 1]


@pytest.mark.parametrize(
    "text", ["", "nonsense", '{"cursor":"x"}', '{"cursor":99,"checkpoint":0,"generation":1}']
)
def test_a_cursor_that_is_damaged_loses_nothing(home, text):
    collector = home.collector()
    with kit.running(home.control) as log:
        kit.write(log, 3)
        Path(log.folder / "syslog.json").write_text(text)
        with home.forwarding(log, collector.port) as forwarder:
            until(lambda: forwarder.progress.cursor == 3)
    assert collector.entries() == [0, 1, 2]


def test_what_took_the_numbers_of_entries_that_a_power_cut_took_goes_out_too(home):
    collector = home.collector()
    with kit.running(home.control) as log:
        kit.write(log, 3)
        with home.forwarding(log, collector.port) as forwarder:
            until(lambda: forwarder.progress.cursor == 3)
        path = Path(log.folder / "syslog.json")
        with home.forwarding(log, collector.port) as forwarder:
            assert forwarder.progress.cursor == 3, "what was sent stays sent"
        said = json.loads(path.read_text())
        # As if the third had been another one when it went out.
        path.write_text(json.dumps(said | {"leaf": leaf_hash(b"another").hex()}))
        collector.got.clear()
        with home.forwarding(log, collector.port) as forwarder:
            collector.wait(lambda: len(collector.got) >= 3)
            until(lambda: forwarder.progress.cursor == 3)
        assert [one.message for one in collector.got[:3]] == kit.lines(home.control)


def test_settings_want_certificate_and_key_together():
    with pytest.raises(ValueError, match="belong together"):
        SyslogSettings(host="a", ca=Path("x"), certificate=Path("y"))
