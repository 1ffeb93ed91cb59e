"""The journal of runs: what was written is read again, however much a plan names, and nothing that could not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.model import new_id
from appliance.storage.names import BucketId
from appliance.storage.retention.items import Evacuation, ItemKind, PlanItem, Rule, Why
from appliance.storage.vault.errors import JournalLineTooLongError
from appliance.storage.vault.linefile import LineFile
from appliance.storage.vault.runs import MAX_IDS, Begun, Runs

RUN = new_id()
WHY = Why(Rule.RETENTION, "its retention is over")


def many(count: int) -> tuple[str, ...]:
    return tuple(f"{number:026d}" for number in range(count))


def items() -> list[PlanItem]:
    """One that evacuates 350,000 for two cases, one that names as many, one of many snapshots, and a small one."""
    bucket = BucketId(new_id(), new_id(), "2026-09")
    cases = (Evacuation(new_id(), many(340_000)), Evacuation(new_id(), many(MAX_IDS)))
    return [
        PlanItem(ItemKind.EXPIRE_BUCKET, WHY, bucket, 3, 4, evacuate=cases, snapshots=("guard",), whole=True),
        PlanItem(ItemKind.ERASE_DELETED, WHY, bucket, 350_000, 4, many(350_000)),
        PlanItem(ItemKind.DROP_SNAPSHOT, WHY, bucket, snapshots=many(MAX_IDS + 1)),
        PlanItem(ItemKind.EXPIRE_BUCKET, WHY, bucket, 1, 2, snapshots=("guard",), whole=True),
    ]


def test_a_plan_that_names_very_many_is_read_as_it_was_written(tmp_path: Path) -> None:
    planned = items()
    runs = Runs(tmp_path / "runs")
    assert runs.begin(Begun(RUN, "digest", 1, len(planned)), planned).items == planned
    runs.step(RUN, "key", done=True)
    runs.close()
    again = Runs(tmp_path / "runs")
    assert again.open is not None and again.open.whole
    assert again.open.items == planned and again.open.done == {"key"}
    again.close()


def test_a_plan_that_a_crash_tore_is_not_whole(tmp_path: Path) -> None:
    planned = items()[:1]
    runs = Runs(tmp_path / "runs")
    runs.begin(Begun(RUN, "digest", 1, len(planned)), planned)
    runs.close()
    raw = (tmp_path / "runs").read_bytes()
    (tmp_path / "runs").write_bytes(raw[: raw[:-1].rindex(b"\n") + 1])
    again = Runs(tmp_path / "runs")
    assert again.open is not None and not again.open.whole
    again.close()


def test_a_line_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "lines", max_line=100)
    longest = b"x" * 90
    file.append([longest])
    with pytest.raises(JournalLineTooLongError) as caught:
        file.append([b"before", longest + b"x"])
    assert caught.value.data == {"what": "lines", "bytes": 101, "limit": 100}
    file.append([b"after"])
    file.close()
    again = LineFile(tmp_path / "lines", max_line=100)
    assert list(again.bodies()) == [longest, b"after"]
    again.close()
