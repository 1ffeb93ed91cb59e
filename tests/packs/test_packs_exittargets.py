"""Folders that exit packs go to: what is taken up again, and what is not ours."""

from __future__ import annotations

import pytest

from appliance.config.exits import ExitFolder
from appliance.packs.errors import ExitTargetTakenError
from appliance.packs.exittargets import MARKER, PARTIAL, FolderTarget

NAME = "earwitness-exit-x"


@pytest.fixture
def target(tmp_path):
    made = FolderTarget(ExitFolder(path=tmp_path), (), NAME)
    yield made
    made.close()


def test_a_kill_between_the_folder_and_its_marker_is_taken_up(target, tmp_path):
    (tmp_path / f"{NAME}{PARTIAL}").mkdir()
    assert not target.open(begun=False)
    assert (tmp_path / f"{NAME}{PARTIAL}" / MARKER).read_text()


def test_a_folder_with_something_of_others_in_it_is_left_alone(target, tmp_path):
    other = tmp_path / f"{NAME}{PARTIAL}" / "other"
    other.parent.mkdir()
    other.write_text("theirs")
    with pytest.raises(ExitTargetTakenError):
        target.open(begun=False)
    assert [one.name for one in other.parent.iterdir()] == ["other"]
