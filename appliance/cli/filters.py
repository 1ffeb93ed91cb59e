"""Shows where a filter is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grpc
from rich.cells import cell_len

import earwitness
from appliance.cli import output

_BEFORE, _AFTER = 60, 20  # characters of a long filter that are shown


@contextlib.contextmanager
def shown(text: str) -> Iterator[None]:
    """Where the box refuses the filter: the filter and a caret below the place, before the line that says why."""
    try:
        yield
    except grpc.RpcError as error:
        told = earwitness.details(error)
        position = told.data.get("position", "") if told.reason == "FILTER_INVALID" else ""
        if position.isdecimal():
            for line in pointed(text, int(position)):
                output.errors.print(line, markup=False, soft_wrap=True)
        raise


def pointed(text: str, position: int) -> list[str]:
    """The filter, cut where it is long, and a caret below the character at this position."""
    at = min(position, len(text))
    start, end = max(0, at - _BEFORE), at + _AFTER
    head = ("…" if start else "") + output.plain(text[start:at]).replace("\n", " ")
    tail = output.plain(text[at:end]).replace("\n", " ") + ("…" if end < len(text) else "")
    return [f"  {head}{tail}", "  " + " " * cell_len(head) + "^"]
