"""The same facts as a channel program tells, by command: for a dataset that no program can read. Slow, and never a hang."""

from __future__ import annotations

from typing import Any

from appliance.storage.vault.zfs.commands import Commands
from appliance.storage.vault.zfs.programs import KIND, NAMES, OPEN, ORIGIN, Facts, SnapshotFacts
from appliance.storage.vault.zfs.trouble import Trouble
from appliance.storage.vault.zfs.worker import Worker

_OWN = (KIND, OPEN, ORIGIN)
_DATASET = ("type", "keystatus", "encryptionroot", "guid", "referenced", *_OWN)


def by_command(commands: Commands, worker: Worker, name: str, snapshots: bool) -> list[Facts]:
    """Of one dataset; none where it is not there. Trouble."""
    try:
        raw = commands.json("zfs", "get", "-j", "-p", ",".join((*_DATASET, "receive_resume_token")), name)
    except Trouble as trouble:
        if trouble.all_are(2):
            return []
        raise
    children = commands.json("zfs", "list", "-j", "-d", "1", "-t", "filesystem,volume", "-o", "name", name)
    partly = _token(raw["datasets"][name])
    found = _snapshots(commands, worker, name) if snapshots or partly else []
    return [from_json(raw["datasets"][name], children["datasets"], found)]


def from_json(dataset: dict[str, Any], children: dict[str, Any], snapshots: list[SnapshotFacts]) -> Facts:
    """One dataset as `zfs get -j` tells it."""
    name, properties = dataset["name"], dataset["properties"]

    def own(key: str) -> str:
        one = properties.get(key, {})
        return str(one["value"]) if one.get("source", {}).get("type") == "LOCAL" else ""

    word, _, size = own(OPEN).partition(" ")
    return Facts(
        name,
        own(KIND),
        word if size in ("", properties["referenced"]["value"]) else "",
        own(ORIGIN),
        properties["keystatus"]["value"] == "available",
        properties["encryptionroot"]["value"] == name,
        int(properties["guid"]["value"]),
        _token(dataset) and not snapshots,  # else what was broken off came after a snapshot that is whole
        properties["type"]["value"],
        tuple(sorted(set(children) - {name})),
        tuple(sorted(snapshots, key=lambda one: (one.txg, one.name))),
    )


def _token(dataset: dict[str, Any]) -> bool:
    return dataset["properties"]["receive_resume_token"]["value"] not in ("-", "")


def _snapshots(commands: Commands, worker: Worker, name: str) -> list[SnapshotFacts]:
    raw = commands.json("zfs", "get", "-j", "-p", "-d", "1", "-t", "snapshot", "all", name)
    found = []
    for one in raw["datasets"].values():
        held = int(one["properties"]["userrefs"]["value"]) > 0
        tags = worker.call("holds", name=one["name"]).value if held else []
        found.append(snapshot_from_json(one, tags))
    return found


def snapshot_from_json(one: dict[str, Any], tags: list[str]) -> SnapshotFacts:
    """One snapshot as `zfs get -j all` tells it."""
    properties = one["properties"]
    names = properties.get(NAMES, {}).get("value", "").split()
    return SnapshotFacts(
        one["name"].partition("@")[2],
        int(properties["createtxg"]["value"]),
        int(properties["creation"]["value"]),
        int(properties["guid"]["value"]),
        {f"ew:{key}": properties[f"ew:{key}"]["value"] for key in names},
        frozenset(tags),
    )
