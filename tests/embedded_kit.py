"""Boxes that run as processes, with what a first start makes in place: samples, catalogue (`make demo` has none)."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import catalogue_kit

from appliance.api import samples
from appliance.api.promptstore import PromptStore
from appliance.cli.demonstration.embedded import EmbeddedBox, embedded_box
from appliance.config.layout import Layout

RENDERED_NS: Final = 1_764_000_000_000_000_000


@functools.cache
def rendered_samples() -> Path:
    """The samples, rendered once in this test process: it takes seconds. Gone with it."""
    folder = Path(tempfile.mkdtemp(prefix="earwitness-samples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shelf = PromptStore(folder / "prompts")
    for entry in samples.shipped():
        samples.make(entry, shelf, RENDERED_NS)
    return folder / "prompts"


@contextlib.contextmanager
def started(data: Path, *options: str, ports: bool = True) -> Iterator[EmbeddedBox]:
    """As `embedded_box`; a new data directory has the samples and an empty catalogue already."""
    if not data.exists():
        data.mkdir(mode=0o700, parents=True)
        layout = Layout(data)
        shutil.copytree(rendered_samples(), layout.prompts)
        catalogue_kit.place(layout.control / "catalogue.db")
    with embedded_box(data, *options, ports=ports) as box:
        yield box
