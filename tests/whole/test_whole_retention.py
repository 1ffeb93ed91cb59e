"""A served box and its command line: policies, a legal hold, deletion, the plan, the run, what is left and what says so.

With `--backend zfs` its buckets are in a pool: see tests/storage/vault/ground.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import whole_kit as kit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "storage" / "vault"))

from embedded_kit import started
from ground import pools

from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.demo.sbc import Sbc

pytestmark = pytest.mark.timeout(300 * kit.PATIENCE)


def bare(name: str) -> str:
    return name.rsplit("/", 1)[-1]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[EmbeddedBox]:
    folder = tmp_path_factory.mktemp("whole-retention")
    options: tuple[str, ...] = ()
    if pytestconfig.getoption("--backend") == "zfs":
        site = folder / "site.toml"
        vault = f'[vault]\nbackend = "zfs"\nroot = "{pools()[0]}/whole"\ndeadline_s = 120\n'
        site.write_text(f"start_timeout_s = 600\n{vault}")
        options = ("--config", str(site))
    with started(folder / "data", *options) as running:
        yield running


@pytest.fixture(scope="module")
def line(box: EmbeddedBox) -> str:
    """A line whose deleted recordings cannot be brought back for a day."""
    tenant = kit.cli(box, "tenants", "create", "Elm Street Surgery")["name"]
    made = kit.cli(
        box, "lines", "create", tenant, "Reception", "--number", "01632960100", "--grace-days", "0"
    )
    assert made["graceDays"] == 0 and made["grain"] == "GRAIN_MONTH"
    return str(made["name"])


@pytest.fixture(scope="module")
def names(box: EmbeddedBox, line: str) -> list[str]:
    """Three recordings of the line."""

    async def calls() -> None:
        async with Sbc("udp", box.sip("udp")) as sbc:
            for number in range(3):
                call = await sbc.place(kit.parties(number), [kit.noise(1, number), kit.noise(1, 10 + number)])
                await call.play()
                await call.hang_up()

    asyncio.run(calls())

    def filed() -> list[str] | None:
        found = [
            one["name"] for one in kit.recordings(box, "--order-by", "start_time") if one["line"] == line
        ]
        return found if len(found) == 3 else None

    return list(kit.until(filed, "the recordings are filed"))


def plan(box: EmbeddedBox) -> tuple[str, list[dict[str, Any]]]:
    found = kit.cli(box, "retention", "plan")
    return found["header"]["digest"], [one for one in found["items"] if one["destroys"]]


def test_from_a_policy_to_what_a_run_leaves(
    box: EmbeddedBox, line: str, names: list[str], tmp_path: Path
) -> None:
    held, gone, kept = names
    tenant = "/".join(line.split("/")[:2])

    # Policies: what lengthens holds, what shortens waits, what is none is refused.
    set_ = ("retention", "set", "--line", line)
    assert kit.cli(box, *set_, "--retention", "7y")["retentionPolicy"]["retention"] == "7 years"
    shorter = kit.cli(box, *set_, "--retention", "90d", "--yes")
    (waits,) = shorter["retentionPolicy"]["pendingChanges"]
    assert shorter["retentionPolicy"]["effective"]["retention"] == "7 years"
    assert (waits["oldValue"], waits["newValue"]) == ("7 years", "90 days")
    assert shorter["impact"]["differences"][0]["shortens"]
    for nonsense in ("0d", "-1y", "forever"):
        assert "RETENTION_INVALID" in kit.cli(box, *set_, "--retention", nonsense, code=2)
    assert not kit.cli(box, "retention", "cancel", "retention", "--line", line)["pendingChanges"]
    assert "POLICY_NOT_PENDING" in kit.cli(box, "retention", "cancel", "retention", "--line", line, code=3)

    # A legal hold: neither deleted nor erased.
    case = kit.cli(
        box,
        "holds",
        "create",
        tenant,
        "--title",
        "Inquest",
        "--reason",
        "the coroner asked",
        "--recording",
        held,
    )["name"]
    for words in (("delete", held), ("erase", held, "--yes", "--reason", "x")):
        said = kit.cli(box, "recordings", *words, code=8)
        assert "RECORDING_HELD" in said and bare(case) in said
    assert kit.cli(box, "recordings", "show", held)["legalHolds"] == [case]

    # A deletion without grace: planned, shown with its reason, confirmed, carried out.
    deleted = kit.cli(box, "recordings", "delete", gone, "--reason", "wrong number")
    assert deleted["purgeTime"]
    assert "GRACE_OVER" in kit.cli(box, "recordings", "undelete", gone, code=8)
    digest, doomed = plan(box)
    assert [one["kind"] for one in doomed] == ["PLAN_ITEM_KIND_ERASE_DELETED"]
    assert doomed[0]["recordings"] == [gone] and "grace of 0 days" in doomed[0]["reason"]["sentence"]
    assert "Would be destroyed" in kit.text(box, "retention", "plan")
    assert "PLAN_CHANGED" in kit.cli(box, "retention", "run", "--confirm", "0" * 64, code=8)
    assert kit.cli(box, "recordings", "show", gone)["state"] == "RECORDING_STATE_DELETED"
    done = kit.cli(box, "retention", "run", "--confirm", digest[:12])
    assert (done["outcome"], done["recordingCount"], done["confirmer"]) == ("RUN_OUTCOME_DONE", "1", "admin")
    erased = kit.until(
        lambda: (found := kit.cli(box, "recordings", "show", gone)).get("certificate") and found,
        "the catalogue knows of it",
    )
    assert int(erased["certificate"]["logNumber"]) > 0 and erased["certificate"]["version"] == 2
    shown = kit.text(box, "recordings", "show", gone)
    assert "Log number" in shown and "Epoch" in shown
    assert "ERASED" in kit.cli(box, "holds", "add", case, "--recording", gone, code=7), "too late is said"
    assert kit.cli(box, "retention", "runs")["retentionRuns"][0]["name"] == done["name"]

    # What the vault decides by outlives its process.
    os.kill(kit.pid_of(box, "vault"), signal.SIGKILL)
    kit.until(lambda: kit.cli_ok(box, "holds", "list"), "the vault is back")
    assert [one["name"] for one in kit.cli(box, "holds", "list")["legalHolds"]] == [case]
    assert kit.cli(box, "retention", "show", "--line", line)["retention"] == "7 years"
    assert "RECORDING_HELD" in kit.cli(box, "recordings", "delete", held, code=8)
    assert "HOLD_NOT_FOUND" in kit.cli(box, "holds", "show", "a" * 26, code=3)
    other = kit.cli(box, "tenants", "create", "Another")["name"]
    said = kit.cli(
        box, "holds", "create", other, "--title", "x", "--reason", "x", "--recording", kept, code=2
    )
    assert "HOLD_TENANT" in said

    # Explained, downloaded before it goes, seen in the vault, checked.
    assert [one["rule"] for one in kit.cli(box, "retention", "explain", held)["reasons"]] == [
        "RETENTION_RULE_LEGAL_HOLD",
        "RETENTION_RULE_RETENTION",
    ]
    pack = tmp_path / "exit"
    words = ("retention", "upcoming", "--days", "3000", "--line", line, "--download", str(pack))
    assert kit.cli(box, *words)["downloaded"] == 1
    assert kit.cli(box, *words)["present"] == 1, "done again, nothing is fetched"
    assert {path.name for path in pack.iterdir()} == {"index.jsonl", f"{bare(kept)}.wav"}
    vault = kit.cli(box, "vault", "status")
    assert [one["owner"] for one in vault["legalHolds"]] == ["admin", "admin"]
    assert all(one["present"] for one in vault["keystoreCopies"]) and vault["lastShredTime"]
    assert "in step with the wall clock" in kit.text(box, "vault", "status")
    totals = kit.cli(box, "vault", "verify")["totals"]
    assert (totals["checkedCount"], totals["damagedCount"]) == ("2", "0")
    (bucket,) = kit.cli(box, "vault", "buckets", "--tenant", tenant)["buckets"]
    owners = {hold["owner"] for one in bucket["snapshots"] for hold in one["holds"]}
    assert owners == {"vault", "admin"} and bucket["heldCount"] == "1"

    # Released: it goes as anything else.
    assert kit.cli(box, "holds", "release", case, "--reason", "closed", "--yes")["releaser"] == "admin"
    assert kit.cli(box, "recordings", "delete", held)["state"] == "RECORDING_STATE_DELETED"
    assert kit.cli(box, "retention", "run", "--yes")["recordingCount"] == "1"
    kit.until(
        lambda: kit.cli(box, "recordings", "show", held)["state"] == "RECORDING_STATE_ERASED",
        "the catalogue knows of it",
    )
    assert kit.cli(box, "recordings", "verify", kept)["verdict"] == "VERDICT_INTACT"


def test_damage_in_the_vault_is_found_and_named(box: EmbeddedBox, names: list[str]) -> None:
    kept = bare(names[2])
    (path,) = [
        found
        for place in (box.layout.vault, box.layout.mounts)
        for found in place.rglob(f"*{kept}*")
        if found.is_file() and "snapshots" not in found.parts
    ]
    whole = path.read_bytes()
    spoiled = bytearray(whole)
    spoiled[len(whole) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(spoiled))
    try:
        said = kit.cli(box, "vault", "verify", code=6)
        assert "1 NOT intact" in said and kept in said
    finally:
        path.write_bytes(whole)
    assert kit.cli(box, "vault", "verify", "--sample", "1")["totals"]["checkedCount"] == "1"
