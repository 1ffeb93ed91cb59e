"""Progress on what takes long: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from appliance.cli.output import errors


@contextlib.contextmanager
def bar(title: str, *, quiet: bool = False) -> Iterator[Callable[[float], None]]:
    """Gives a function to call with the fraction done, 0 to 1. The bar is on standard error and goes when done."""
    if quiet or not errors.is_terminal:
        yield lambda fraction: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda fraction: progress.update(task, completed=fraction)
