"""The catalogue as the settings name it: PostgreSQL away at the start and later, and a file that is damaged."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import grpc
import postgres_kit
import pytest
from pydantic import ValidationError

import earwitness
from appliance.api import catalogueopen
from appliance.config.catalogue import CatalogueSettings
from earwitness.v1 import notes_pb2, recordings_pb2


@pytest.fixture
def server():
    """A server that may be stopped."""
    if postgres_kit.programs() is None:
        pytest.skip(postgres_kit.MISSING)
    cluster = postgres_kit.Cluster.temporary()
    cluster.start()
    yield cluster
    cluster.remove()


def listed(client):
    request = recordings_pb2.ListRecordingsRequest(parent="tenants/-")
    return len(client.recordings.ListRecordings(request).recordings)


def conditions(box):
    return [one.type for one in box.status.conditions()]


@pytest.mark.postgresql
def test_a_box_gets_over_a_database_that_goes_and_comes(make_box, server, sealing):
    box = make_box(catalogue=server.text(server.new()))
    client = box.client()
    tenant, line = box.default_line()
    box.filed(box.vault.file(sealing(tenant, line)))
    assert listed(client) == 1
    server.stop()
    with pytest.raises(grpc.RpcError) as caught:
        listed(client)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert earwitness.details(caught.value).reason == "CATALOGUE_UNAVAILABLE"
    later = box.vault.file(sealing(tenant, line))  # the vault goes on
    box.wait(lambda: "CatalogueUnwritable" in conditions(box), 60)
    server.start()
    box.filed(later)
    assert listed(client) == 2
    box.wait(lambda: "CatalogueUnwritable" not in conditions(box), 60)


@pytest.mark.postgresql
def test_a_database_that_is_away_at_the_start_is_waited_for(make_box, server, monkeypatch):
    monkeypatch.setattr(catalogueopen, "_AGAIN_S", 0.1)
    url = server.text(server.new())
    server.stop()
    away = threading.Event()
    sleep = asyncio.sleep

    async def noticed(seconds):
        away.set()
        await sleep(seconds)

    monkeypatch.setattr(catalogueopen.asyncio, "sleep", noticed)
    threading.Thread(target=lambda: (away.wait(30), server.start())).start()
    box = make_box(catalogue=url)
    assert away.is_set() and listed(box.client()) == 0
    assert "CatalogueUnwritable" not in conditions(box)


def test_notes_of_a_damaged_catalogue_are_saved_and_it_is_said(make_box, sealing):
    box = make_box()
    box.fix_port()
    tenant, line = box.default_line()
    recording_id = box.vault.file(sealing(tenant, line))
    box.filed(recording_id)
    name = f"tenants/{tenant}/recordings/{recording_id}"
    note = notes_pb2.Note(text="seen by nobody else")
    made = box.client().notes.CreateNote(notes_pb2.CreateNoteRequest(parent=name, note=note)).note
    box.client().notes.UpdateRecordingTags(notes_pb2.UpdateRecordingTagsRequest(name=name, add=["kept"]))
    box.stop()
    path = box.layout.control / "catalogue.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'parties'").fetchone()[0]
    connection.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(data)
    box.start()
    box.filed(recording_id)
    told = {one.type: one.message for one in box.status.conditions()}
    assert "1 notes and 1 tags were all saved" in told["CatalogueRebuilt"]
    assert box.client().notes.GetNote(notes_pb2.GetNoteRequest(name=made.name)).note == made
    request = recordings_pb2.ListRecordingsRequest(parent="tenants/-", filter="notes:nobody tags:kept")
    assert [one.name for one in box.client().recordings.ListRecordings(request).recordings] == [name]


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "mysql://x/y"},
        {"url": "postgresql://db.example"},
        {"url": "postgresql://u:secret@db.example/x"},
        {"url": "postgresql://u@db.example/x?options=-cfsync%3Doff"},
        {"url": "postgresql://u@db.example/x?passfile=/etc/shadow"},
        {"password_file": "/etc/x"},
        {"url": "postgresql://u@db.example/x", "password_file": "x"},
        {"country": "0"},
        {"national_prefix": "a"},
        {"unknown": 1},
    ],
)
def test_settings_that_are_refused(wrong):
    with pytest.raises(ValidationError) as caught:
        CatalogueSettings.model_validate(wrong)
    assert "secret" not in str(caught.value.errors(include_input=False, include_url=False))


def test_settings_that_are_taken():
    url = "postgresql://u@db.example:5433/x?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    assert CatalogueSettings(url=url, password_file="/etc/db").url == url
    assert CatalogueSettings(url="postgresql://u@/x?host=/run/postgresql").country == "44"
