"""Notes of an older release are sealed in the background, a few at a time, and nobody has to ask for it."""

from __future__ import annotations

import asyncio

import pytest
from test_api_sidecars import Broken, create, entries, listed

from appliance.api import oldernotes
from appliance.api.oldernotes import AT_ONCE, BUSY, UNSEALED, OlderNotes
from appliance.catalog import sidecars
from appliance.catalog.searchtables import notes as notes_table
from appliance.catalog.searchtables import recording_tags as tags_table
from appliance.model import Kind, new_id
from appliance.process.rpc import RemoteError
from earwitness.v1 import box_pb2, recordings_pb2, tenants_pb2


class Older:
    """Recordings with notes as an older release left them, and the work on them."""

    def __init__(self, box, sealing) -> None:
        self.box, self.sealing = box, sealing
        self.tenant, self.line = box.default_line()
        self.client = box.client()
        self.work = self.started()

    def started(self) -> OlderNotes:
        """As after a start."""
        return OlderNotes(self.box.control.parts, between_s=0)

    def file(self, tenant: str = "", line: str = "") -> str:
        recording = self.box.vault.file(self.sealing(tenant or self.tenant, line or self.line))
        self.box.filed(recording)
        return recording

    def note(self, recording: str, text: str, name: str = "") -> None:
        row = {"id": name or new_id(), "recording_id": recording, "text": text,
               "offset_ns": None, "author": "ada", "create_ns": 5, "editor": "ada", "update_ns": 5}  # fmt: skip
        self.put(notes_table, row)

    def tag(self, recording: str, tag: str) -> None:
        row = {"recording_id": recording, "folded": tag, "tag": tag, "author": "bob", "create_ns": 6}
        self.put(tags_table, row)

    def put(self, table, row) -> None:
        self.box.run(
            self.box.control.parts.store.write(lambda c: c.execute(table.insert().values(**row)) and None)
        )

    def step(self) -> int:
        return self.box.run(self.work.step())

    def said(self) -> list[str]:
        found = self.client.box.GetBoxStatus(box_pb2.GetBoxStatusRequest()).conditions
        return [one.message.split(" ")[0] for one in found if one.type == UNSEALED]

    def name(self, recording: str) -> str:
        return f"tenants/{self.tenant}/recordings/{recording}"


@pytest.fixture
def older(box, sealing) -> Older:
    return Older(box, sealing)


def test_they_are_sealed_as_they_were_and_progress_is_told(older, monkeypatch):
    box, client = older.box, older.client
    some = sorted(older.file() for _ in range(5))
    older.note(some[0], "first")
    older.tag(some[0], "b")
    older.tag(some[1], "a")
    older.note(some[2], "third")
    older.note(some[3], "deleted")
    create(client, older.name(some[4]), "sealed at once")
    client.recordings.DeleteRecording(
        recordings_pb2.DeleteRecordingRequest(name=older.name(some[3]), reason="asked")
    )
    before = [listed(client, older.name(one)) for one in some]
    assert older.said() == []
    monkeypatch.setattr(oldernotes, "AT_ONCE", 2)
    assert older.step() == 1 and older.said() == ["1"]
    older.work = older.started()  # a restart: the catalogue knows what is left
    assert older.step() == 0 and older.said() == []
    assert [one["what"] for one in entries(box, some[0])] == ["note-created", "tags-changed"]
    assert [(one["by"], one["at_ns"], one["taken_over"]) for one in entries(box, some[0])] == [
        ("ada", 5, True),
        ("bob", 6, True),
    ]
    assert entries(box, some[1])[0]["tags"] == ["a"] and entries(box, some[2])[0]["text"] == "third"
    assert entries(box, some[3]) == [] and len(entries(box, some[4])) == 1
    assert [listed(client, older.name(one)) for one in some] == before
    assert older.step() == 0 and len(entries(box, some[0])) == 2, "once"
    client.recordings.UndeleteRecording(recordings_pb2.UndeleteRecordingRequest(name=older.name(some[3])))
    assert older.step() == 0 and len(entries(box, some[3])) == 1


def test_those_of_a_locked_tenant_wait_and_hold_up_nobody(older):
    box, client = older.box, older.client
    other = client.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Ward"))
    ).tenant.name
    line = client.tenants.CreateLine(
        tenants_pb2.CreateLineRequest(parent=other, line=tenants_pb2.Line(display_name="Desk"))
    ).line.name
    locked = [older.file() for _ in range(AT_ONCE + 3)]
    free = older.file(other.split("/")[1], line.rsplit("/", maxsplit=1)[1])
    for one in (*locked, free):
        older.note(one, "older")
    box.vault.keys.passphrases[older.tenant] = "words"
    for _ in range(3):
        left = older.step()
    assert left == len(locked) and older.said() == [str(left)]
    assert len(entries(box, free)) == 1 and not any(entries(box, one) for one in locked)
    del box.vault.keys.passphrases[older.tenant]
    box.wait(lambda: older.step() == 0)  # that they are unlocked is known within a second
    assert all(len(entries(box, one)) == 1 for one in locked) and older.said() == []


def test_a_busy_vault_is_left_alone_and_one_that_breaks_off_is_asked_again(older):
    box = older.box
    some = sorted(older.file() for _ in range(2))
    for one in some:
        older.note(one, "older")
    box.vault.spooled = BUSY + 1
    assert older.step() == 2 and older.said() == ["2"]
    assert not any(entries(box, one) for one in some)
    box.vault.spooled = BUSY
    box.vault.sidecars.fail = Broken("gone")
    with pytest.raises(RemoteError) as caught:
        older.step()
    assert caught.value.kind is Kind.UNAVAILABLE
    for _ in range(3):
        left = older.step()
    assert left == 0 and [len(entries(box, one)) for one in some] == [1, 1]


def test_a_malformed_one_is_passed_over(older):
    first, second = sorted(older.file() for _ in range(2))
    older.note(first, "older", "1" * 26)
    older.note(second, "older")
    for _ in range(3):
        left = older.step()
    assert left == 1 and older.said() == ["1"]
    assert (len(entries(older.box, first)), len(entries(older.box, second))) == (0, 1)


def test_control_does_it_by_itself_and_goes_on_after_a_break(older):
    recording = older.file()
    older.note(recording, "older")
    older.box.vault.sidecars.fail = Broken("gone")

    async def run() -> None:
        assert "older notes" in {one.get_name() for one in asyncio.all_tasks()}
        task = asyncio.create_task(OlderNotes(older.box.control.parts, round_s=0.05, between_s=0).run())
        while not task.done() and await older.box.control.parts.store.read(sidecars.count_unsealed):
            await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()

    older.box.run(asyncio.wait_for(run(), 20))
    assert len(entries(older.box, recording)) == 1
