"""Stores and root slots as the settings say. What is away now is opened all the same, and found when it comes."""

from __future__ import annotations

from pathlib import Path

from appliance.config.settings import Settings, StoreSettings
from appliance.storage.keystore import RootSlot, root_slot
from appliance.storage.vault.contract import BucketStore
from appliance.storage.vault.directory import DirectoryStore


def open_store(settings: Settings) -> BucketStore:
    """The vault's own. StoreRefusedError where the software beneath is not what it may stand on."""
    root = settings.vault.root or str(settings.layout.vault)
    return _open(settings, settings.vault, root, "vault")


def open_staging(settings: Settings) -> BucketStore:
    """A store beside it, through which what comes back from a copy goes. StoreRefusedError."""
    vault = settings.vault
    root = f"{vault.root}-restoring" if vault.backend == "zfs" else str(_directory(settings) / "restoring")
    return _open(settings, vault, root, "restoring")


def open_other(settings: Settings, store: StoreSettings, name: str) -> BucketStore:
    """Another one, such as a replica's. StoreRefusedError."""
    return _open(settings, store, store.root, name)


def open_slots(settings: Settings) -> RootSlot:
    """Where root keys lie."""
    vault = settings.vault
    return root_slot(vault.root_slot, settings.layout.keystores, vault.tpm, pcrs=vault.tpm_pcrs)


def _directory(settings: Settings) -> Path:
    return Path(settings.vault.root) if settings.vault.root else settings.layout.vault


def _open(settings: Settings, store: StoreSettings, root: str, name: str) -> BucketStore:
    if store.backend == "directory":
        return DirectoryStore(Path(root))
    from appliance.storage.vault.zfs import open_store as open_zfs  # only where there is ZFS

    mounts = (store.mounts or settings.layout.mounts) / name
    return open_zfs(root, mounts, deadline_s=settings.vault.deadline_s)
