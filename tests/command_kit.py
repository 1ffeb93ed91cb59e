"""The command line as processes of their own that start at once: forked off one that has read the libraries.

The modules of the command line itself are read by each anew, so a command is as fresh as one from a shell.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO

_CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")


@functools.cache
def _begin() -> None:
    """Starts the process that is forked from."""
    _CONTEXT.set_forkserver_preload(["command_libraries"])
    kept = os.environ.get("PYTHONPATH")
    tests = Path(__file__).parent
    os.environ["PYTHONPATH"] = (
        f"{tests}{os.pathsep}{tests.parent}"  # it is not told our sys.path before Python 3.14
    )
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if kept is not None:
            os.environ["PYTHONPATH"] = kept


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def run(*words: str, timeout: float, environment: Mapping[str, str] | None = None) -> Done:
    """Runs `earwitness words…` to its end; TimeoutError, after which it is gone."""
    _begin()
    with ExitStack() as stack:
        files: list[IO[bytes]] = [stack.enter_context(tempfile.NamedTemporaryFile()) for _ in range(2)]
        child = _CONTEXT.Process(
            target=_earwitness,
            args=(
                words,
                [file.name for file in files],
                dict(os.environ if environment is None else environment),
            ),
        )
        child.start()
        try:
            child.join(timeout)
            if child.exitcode is None:
                raise TimeoutError(f"not ended after {timeout:.0f} s: earwitness {' '.join(words)}")
        finally:
            child.kill()
            child.join()
        return Done(child.exitcode, *(file.read().decode() for file in files))


def _earwitness(words: tuple[str, ...], files: list[str], environment: dict[str, str]) -> None:
    """In the child: becomes the command."""
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(files, 1):
        fd = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(fd, number)
        os.close(fd)
    sys.argv = ["earwitness", *words]
    from appliance.cli.main import main

    main()
