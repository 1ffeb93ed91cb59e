"""Writes the table of docs/roles.md from the table that the box goes by."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.access.identities import Role
from appliance.access.policy import ALLOWED

PAGE: Final = Path(__file__).parents[1] / "docs" / "roles.md"
PREFIX: Final = "/earwitness.v1."
HEAD: Final = "| method "


def table() -> list[str]:
    """Lines of Markdown, a row a method."""
    lines = [
        f"{HEAD}| " + " | ".join(role.value for role in Role) + " |",
        "| --- |" + " --- |" * len(Role),
    ]
    for method, roles in ALLOWED.items():
        if method.startswith(PREFIX):
            marks = " | ".join("x" if role in roles else " " for role in Role)
            lines.append(f"| `{method.removeprefix(PREFIX)}` | {marks} |")
    return lines


def main() -> None:
    text = PAGE.read_text("utf-8")
    begin = text.index(HEAD)
    PAGE.write_text(text[:begin] + "\n".join(table()) + "\n", "utf-8")


if __name__ == "__main__":
    main()
