"""Who a replica is (made at its first start) and of which box (pinned at the first greeting), in its state directory."""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter, ValidationError

from appliance.storage.keystore.files import make_directory, write_durably
from appliance.storage.replica.errors import ReplicaBusyError, ReplicaForeignError, ReplicaStateError

_SEED = 32


@dataclass(frozen=True, slots=True)
class _Identity:
    """Hexadecimal: `seed` of its own Ed25519 key, `primary` the box's device key (empty: not pinned yet)."""

    name: str
    seed: str
    primary: str = ""


_IDENTITY = TypeAdapter(_Identity)


class Identity:
    """See the module. The state directory is locked for as long as this lives: ReplicaBusyError.

    ReplicaForeignError where the directory is of a replica of another name, ReplicaStateError where it cannot be read.
    """

    def __init__(self, folder: Path, name: str) -> None:
        make_directory(folder)
        self._path = folder / "identity"
        self._lock = lock_file(folder / "lock", name)
        try:
            self._own = self._load(name)
        except BaseException:
            self.close()
            raise

    def _load(self, name: str) -> _Identity:
        try:
            found = _IDENTITY.validate_json(self._path.read_bytes())
            if len(bytes.fromhex(found.seed)) != _SEED:
                raise ValueError("a seed has 32 bytes")
        except FileNotFoundError:
            found = _Identity(name, secrets.token_hex(_SEED))
            write_durably(self._path, _IDENTITY.dump_json(found))
        except (ValidationError, ValueError) as error:
            raise ReplicaStateError("a replica's identity cannot be read", what="identity") from error
        if found.name != name:
            raise ReplicaForeignError("the state is that of a replica of another name", replica=name)
        return found

    def close(self) -> None:
        """Lets another take it."""
        os.close(self._lock)

    @property
    def key(self) -> Ed25519PrivateKey:
        """The replica's own, for receipts."""
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self._own.seed))

    @property
    def primary(self) -> str:
        """The box's device key, hexadecimal. ReplicaForeignError where none is pinned yet."""
        if not self._own.primary:
            raise ReplicaForeignError("the replica has not met its box yet", replica=self._own.name)
        return self._own.primary

    def pin(self, device_public_key: str) -> None:
        """Belongs to that box from now on. ReplicaForeignError where it belongs to another."""
        if not self._own.primary:
            pinned = replace(self._own, primary=device_public_key)
            write_durably(self._path, _IDENTITY.dump_json(pinned))
            self._own = pinned
        elif self._own.primary != device_public_key:
            raise ReplicaForeignError("the replica is of another box", replica=self._own.name)


def lock_file(path: Path, replica: str) -> int:
    """A file that one alone may have locked; close it to let it go. ReplicaBusyError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise ReplicaBusyError("another one is at work with this replica", replica=replica) from error
    except BaseException:
        os.close(fd)
        raise
    return fd
