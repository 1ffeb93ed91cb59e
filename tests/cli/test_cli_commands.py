"""The table of commands: it lists what the modules are, and a command reads no module but its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer

from appliance.cli import main
from appliance.cli.commands import ENTRIES, Commands
from appliance.cli.exits import Exit


def _root() -> Commands:
    made = typer.main.get_command(main.app)
    assert isinstance(made, Commands)
    return made


def _context(root: Commands) -> typer.Context:
    return typer.Context(root, info_name="earwitness")


@pytest.mark.parametrize("name", ENTRIES)
def test_what_is_listed_is_what_there_is(name: str) -> None:
    root = _root()
    found = root.get_command(_context(root), name)
    assert found.name == name
    assert (found.help or "").split("\n\n")[0].replace("\n", " ") == ENTRIES[name].help
    if not ENTRIES[name].function:
        assert found.commands
        assert not any(option.name == "install_completion" for option in found.params)
    assert root.get_command(_context(root), name) is found


def test_help_names_all_of_them_and_opens_none() -> None:
    script = (
        "import sys; from appliance.cli import main; code = main.run(['--help'])\n"
        "import json; print(json.dumps([m for m in sys.modules if m.startswith('appliance.cli.')]), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert all(f"│ {name} " in done.stdout for name in [*ENTRIES, "demo"])
    read = set(json.loads(done.stderr.splitlines()[-1]))
    assert not read & {f"appliance.cli.{entry.module}" for entry in ENTRIES.values()}


def test_a_word_that_is_nearly_a_command_is_told_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["record"]) == Exit.USAGE
    assert "Did you mean 'recordings'" in capsys.readouterr().err


def test_after_the_help_a_command_is_the_whole_command(capsys: pytest.CaptureFixture[str]) -> None:
    root = _root()
    assert root(args=["--help"], prog_name="earwitness", standalone_mode=False) == 0
    assert "Bring a deleted" not in capsys.readouterr().out
    assert root(args=["recordings", "--help"], prog_name="earwitness", standalone_mode=False) == 0
    assert "Bring a deleted" in capsys.readouterr().out
