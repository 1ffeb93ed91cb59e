"""Asks before what cannot be taken back: a word must be typed, and nothing typed means no."""

from __future__ import annotations

import sys

from appliance.cli import output
from appliance.cli.exits import Exit, Failure


def confirm(question: str, word: str, *, undone: str = "nothing was changed", shortest: int = 0) -> None:
    """Goes on only where the word is typed, or a beginning of it of `shortest` characters or more.

    The question is on standard error, so that standard output stays for the result. Failure NOT_CONFIRMED.
    """
    output.errors.print(f"{question}: ", end="", markup=False)
    typed = sys.stdin.readline().strip()
    begun = shortest and len(typed) >= shortest and word.startswith(typed)
    if typed != word and not begun:
        raise Failure(Exit.FAILED, undone, "NOT_CONFIRMED", "type what is asked for, or give --yes")
