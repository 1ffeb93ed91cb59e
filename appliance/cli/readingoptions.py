"""Options of every command that reads recordings: what they are read for."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from appliance.model.purpose import SEEDS

ENVIRONMENT: Final = "EARWITNESS_PURPOSE"


def known(begun: str) -> list[tuple[str, str]]:
    """For a shell that completes: the purposes that every tenant begins with, as no box is asked meanwhile."""
    return [(one, words) for one, words, _ in SEEDS if one.startswith(begun)]


PurposeOption = Annotated[
    str,
    typer.Option(
        "--purpose",
        envvar=ENVIRONMENT,
        help="What it is read for, such as training; `earwitness purposes list` has them.",
        autocompletion=known,
        show_default=False,
    ),
]
OverrideOption = Annotated[
    str,
    typer.Option(
        "--override",
        help="Why it must be read for a purpose that callers were not told of (10 to 200 characters, no personal data). "
        "For records officers.",
        show_default=False,
    ),
]
