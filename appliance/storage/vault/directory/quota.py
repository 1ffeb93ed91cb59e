"""What a tenant takes up on the medium, and may take up."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.model import is_id
from appliance.storage.keystore.files import make_directory, write_durably
from appliance.storage.names import BucketNameError
from appliance.storage.vault.directory.place import SIDECAR, SUFFIX
from appliance.storage.vault.errors import QuotaExceededError
from appliance.storage.vault.stored import Usage


class Quotas:
    """A file for each tenant that has one."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def usage(self, tenant_id: str) -> Usage:
        """Each file counts once, however many snapshots have it."""
        _check(tenant_id)
        sizes: dict[int, int] = {}
        for folder, _, names in os.walk(self._root / "buckets" / tenant_id):
            for name in names:
                if name.endswith((SUFFIX, SIDECAR)):
                    about = os.lstat(os.path.join(folder, name))
                    sizes[about.st_ino] = about.st_size
        return Usage(sum(sizes.values()), self._quota(tenant_id))

    def _quota(self, tenant_id: str) -> int:
        try:
            return int((self._root / "quotas" / tenant_id).read_text())
        except FileNotFoundError:
            return 0

    def set(self, tenant_id: str, quota: int) -> None:
        """Durably; QuotaExceededError where more than that is used already."""
        _check(tenant_id)
        if quota and self.usage(tenant_id).used > quota:
            raise QuotaExceededError("the tenant has used up more than that", tenant_id=tenant_id)
        make_directory(self._root / "quotas")
        write_durably(self._root / "quotas" / tenant_id, str(quota).encode())

    def refuse_over(self, tenant_id: str, size: int) -> None:
        """QuotaExceededError where so many bytes more are too many. Files are counted only where there is a quota."""
        quota = self._quota(tenant_id)
        if quota and self.usage(tenant_id).used + size > quota:
            raise QuotaExceededError("the tenant has used up its space", tenant_id=tenant_id)


def _check(tenant_id: str) -> None:
    if not is_id(tenant_id):
        raise BucketNameError("a tenant is named by its id", field="tenant_id")
