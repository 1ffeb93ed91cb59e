"""Writes the table of docs/alarms.md from the kinds of alarms that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.alarms.kinds import KINDS

PAGE: Final = Path(__file__).parents[1] / "docs" / "alarms.md"
HEAD: Final = "| kind "


def table() -> list[str]:
    """Lines of Markdown, a row a kind, in the order of their names."""
    lines = [
        f"{HEAD}| severity | what is the matter | what to do | cleared |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in sorted(KINDS):
        kind = KINDS[name]
        cleared = "by hand" if kind.by_hand else "by itself"
        cleared += ", not at a start" if kind.at_start else ""
        lines.append(f"| `{name}` | {kind.severity} | {kind.title} | {kind.what_to_do} | {cleared} |")
    return lines


def main() -> None:
    text = PAGE.read_text("utf-8")
    begin = text.index(HEAD)
    PAGE.write_text(text[:begin] + "\n".join(table()) + "\n", "utf-8")


if __name__ == "__main__":
    main()
