"""Logins that are kept: for each box the token of a session, in a file that only its owner reads.

`$XDG_STATE_HOME/earwitness/logins.json`, else `~/.local/state/earwitness/logins.json`, mode 0600.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from appliance.cli import files
from appliance.cli.exits import Exit, Failure


@dataclass(frozen=True, repr=False)
class Login:
    """A session at a box. `authority`: its certificate authority (PEM)."""

    server: str
    name: str
    token: str
    authority: str
    expire_s: int

    @property
    def ca(self) -> bytes:
        return self.authority.encode()


def place() -> Path:
    """Where logins are kept."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "earwitness" / "logins.json"


def find(server: str) -> Login | None:
    """The login at a box; Failure where it is over."""
    entry = _read().get(server)
    if entry is None:
        return None
    try:
        kept = Login(server=server, **entry)
        over = kept.expire_s <= time.time()
    except TypeError:
        raise _damaged() from None
    if over:
        raise Failure(
            Exit.DENIED,
            f"the login of {kept.name} at {server} is over",
            "LOGIN_OVER",
            "sign in again: `earwitness login`, or forget it: `earwitness logout`",
        )
    return kept


def keep(login: Login) -> None:
    """Keep a login in the place of the one before."""
    entry = asdict(login)
    del entry["server"]
    _write({**_read(), login.server: entry})


def forget(server: str) -> bool:
    """Forget a login; False where none was kept."""
    entries = _read()
    if entries.pop(server, None) is None:
        return False
    _write(entries)
    return True


def _read() -> dict[str, Any]:
    path = place()
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & 0o077:
                raise Failure(
                    Exit.DENIED,
                    f"{path} can be read by others",
                    "LOGINS_OPEN",
                    f"remove it, or: chmod 600 {path}",
                )
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Failure(Exit.USAGE, f"cannot read {path}: {error.strerror}", "LOGINS_UNREADABLE") from error
    except ValueError:
        raise _damaged() from None
    if not isinstance(found, dict):
        raise _damaged()
    return found


def _write(entries: dict[str, Any]) -> None:
    path = place()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write(path, json.dumps(entries, indent=1).encode())


def _damaged() -> Failure:
    return Failure(
        Exit.USAGE, f"{place()} cannot be understood", "LOGINS_DAMAGED", "remove it, and sign in again"
    )
