"""The pool as a medium: made ready, how much space there is, what tenants take up, a reserve for when it is full."""

from __future__ import annotations

import errno
import threading
from typing import Any, Final

from appliance.storage.vault.errors import StoreRefusedError, StoreUnavailableError
from appliance.storage.vault.stored import Space, Usage
from appliance.storage.vault.zfs.commands import Commands
from appliance.storage.vault.zfs.datasets import BUCKET_WORDS, Datasets
from appliance.storage.vault.zfs.programs import KIND
from appliance.storage.vault.zfs.trouble import Trouble

RESERVE: Final = 256 << 20  # bytes; less in a small pool
RESERVE_PART: Final = 16  # of what is free when it is made
REARM: Final = 4  # times as much must be free again before it is taken back


def _values(found: dict[str, Any], name: str) -> dict[str, str]:
    properties = found["datasets"][name]["properties"]
    return {key: str(one["value"]) for key, one in properties.items()}


class Medium:
    """See the module."""

    def __init__(self, datasets: Datasets, commands: Commands, deadline_s: float) -> None:
        self._datasets = datasets
        self._tree = datasets.tree
        self._commands = commands
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._ready = False
        self.relieved = False
        self.freeing = True
        """Something was destroyed whose space may still be on its way back."""

    # Making ready.

    def prepare(self) -> None:
        """Makes root and reserve where they are missing. StoreRefusedError where somebody else's data lies there."""
        with self._lock:
            if self._ready:
                return
            there = {
                one.name: one
                for one in self._datasets.facts([self._tree.root, self._tree.reserve], children=True)
            }
            root = there.get(self._tree.root)
            if root is None:
                self._datasets.make_parent(self._tree.root, "root")
            elif root.kind != "root":
                if root.kind or root.children or root.key_loaded or root.type != "filesystem":
                    raise StoreRefusedError(
                        "the root of the buckets is somebody else's",
                        found=f"{root.name}: {root.type}, {len(root.children)} datasets below",
                        wanted="an empty, unencrypted file system, or none",
                    )
                words = [word for word in BUCKET_WORDS if not word.startswith("canmount")]
                self._commands.run("zfs", "set", *words, "canmount=off", f"{KIND}=root", root.name)
            if self._tree.reserve not in there:
                self._reserve()
            else:  # a process before this one may have given it away
                values = _values(self._get(self._tree.reserve, "refreservation"), self._tree.reserve)
                self.relieved = int(values["refreservation"]) == 0
            self._ready = True

    def forget(self) -> None:
        """The pool went away: what it holds when it comes back is looked at anew."""
        with self._lock:
            self._ready = False

    # The reserve.

    def _reserve(self) -> None:
        size = min(RESERVE, self.free().free // RESERVE_PART)
        try:
            self._datasets.make_parent(self._tree.reserve, "reserve")
            self._commands.run("zfs", "set", f"refreservation={size}", self._tree.reserve)
            self.relieved = False
        except Trouble as trouble:
            if trouble.number not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.relieved = True  # it is full already; `rearm` comes back to it

    def relieve(self) -> bool:
        """Gives the reserve away, so that a full pool can still be emptied; false where that was done before."""
        if self.relieved:
            return False
        self._commands.run("zfs", "set", "refreservation=none", self._tree.reserve)
        self.relieved = True
        return True

    def rearm(self, space: Space) -> None:
        """Takes the reserve back when there is room again."""
        if self.relieved and space.free > REARM * min(RESERVE, space.total // RESERVE_PART):
            self._reserve()

    # Space.

    def _get(self, name: str, *properties: str) -> dict[str, Any]:
        return self._commands.json("zfs", "get", "-j", "-p", ",".join(properties), name)

    def free(self) -> Space:
        """As it is now."""
        values = _values(self._get(self._tree.root, "available", "used"), self._tree.root)
        return Space(int(values["available"]), int(values["available"]) + int(values["used"]))

    def space(self) -> Space:
        """Waits for space that is being given back, within the deadline; then as it is."""
        if self.freeing:
            try:
                self._commands.run(
                    "zpool", "wait", "-t", "free", self._tree.pool, deadline_s=self._deadline_s
                )
                self.freeing = False
            except StoreUnavailableError as error:
                if error.data.get("errno") != errno.ETIMEDOUT:
                    raise
        found = self.free()
        self.rearm(found)
        return found

    def usage(self, tenant_id: str) -> Usage:
        """Bytes on disk, snapshots too; nothing where the tenant has no bucket."""
        name = self._tree.tenant(tenant_id)
        try:
            values = _values(self._get(name, "used", "quota"), name)
        except Trouble as trouble:
            if trouble.number != errno.ENOENT:
                raise
            return Usage(0, 0)
        return Usage(int(values["used"]), int(values["quota"]))

    def set_quota(self, tenant_id: str, quota: int) -> None:
        """In bytes; 0: none. EDQUOT where more than that is used."""
        name = self._datasets.make_tenant(tenant_id)
        self._commands.run("zfs", "set", f"quota={quota or 'none'}", name)
