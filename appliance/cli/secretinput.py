"""Passphrases come from the terminal, unseen, or from a file descriptor: never from an argument, which others can read."""

from __future__ import annotations

import getpass
import os
import sys

from appliance.cli.exits import Exit, Failure

MAX_BYTES = 8192  # of all that is read from a descriptor


class Secrets:
    """Asks for secrets one after the other. `fd`: each is a line there; absent: the terminal is asked."""

    def __init__(self, fd: int | None) -> None:
        self._lines = None if fd is None else _lines(fd)

    def ask(self, what: str, *, twice: bool = False) -> str:
        """One secret, without its line's end. Failure where there is none, or the two are not the same."""
        if self._lines is not None:
            if not self._lines:
                raise Failure(Exit.USAGE, f"{what}: nothing is left to read", "SECRET_MISSING")
            return self._lines.pop(0)
        if not sys.stdin.isatty():
            raise Failure(
                Exit.USAGE,
                f"{what}: there is no terminal to ask",
                "SECRET_MISSING",
                "give it on a file descriptor: --passphrase-fd 3 3<file",
            )
        found = getpass.getpass(f"{what}: ")
        if twice and getpass.getpass(f"{what}, again: ") != found:
            raise Failure(Exit.USAGE, "the two are not the same; nothing was changed", "SECRET_DIFFERS")
        return found


def _lines(fd: int) -> list[str]:
    raw = b""
    try:
        while len(raw) <= MAX_BYTES and (piece := os.read(fd, MAX_BYTES)):
            raw += piece
        if len(raw) > MAX_BYTES:
            raise Failure(Exit.USAGE, f"file descriptor {fd} holds no passphrase", "SECRET_MISSING")
        return raw.decode().splitlines()
    except (OSError, UnicodeDecodeError):
        # Not chained: what was read may be in the cause.
        raise Failure(Exit.USAGE, f"file descriptor {fd} cannot be read as text", "SECRET_MISSING") from None
