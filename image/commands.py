"""Running the programs that a build needs, each with a log, a deadline, and an error that shows the log's end."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from image.errors import BuildError

TAIL_LINES = 30
DEADLINE_S = 3600.0  # the longest, building ZFS, takes five minutes where nothing else runs

# For what mounts or has children: all of it ends with this process, mounts included. Sweeping up
# a half-made tree whose /dev is still the machine's own would be a bad surprise.
CONTAINED = (
    "setpriv", "--pdeathsig", "KILL", "--",
    "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
)  # fmt: skip

log = logging.getLogger("image")


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    return "\n".join(text.splitlines()[-lines:])


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    deadline_s: float = DEADLINE_S,
) -> str:
    """Runs a program to its end; gives its standard output. `BuildError` where it fails or takes too long."""
    words = [os.fspath(word) for word in command]
    merged = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
    try:
        done = subprocess.run(
            words, env=merged, cwd=cwd, timeout=deadline_s, text=True, errors="replace",
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise BuildError(f"{words[0]} is not installed on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{words[0]} took more than {deadline_s:.0f} s") from error
    if done.returncode:
        raise BuildError(
            f"{' '.join(words[:6])} … ended with {done.returncode}\n{tail(done.stdout + done.stderr)}"
        )
    return done.stdout


def in_tree(tree: Path, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> str:
    """Runs a program of a Debian tree in it, without mounting anything there. Wants root."""
    clean = {"PATH": "/usr/sbin:/usr/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", **(env or {})}
    words = [f"{key}={value}" for key, value in clean.items()]
    return run([*CONTAINED, "chroot", tree, "env", "-i", *words, *command])


def need(*programs: str) -> None:
    """`BuildError` where the machine lacks one of these programs."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise BuildError(
            f"{', '.join(missing)}: not installed; `make test-box` as root installs what is needed"
        )
