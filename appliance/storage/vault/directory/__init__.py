"""Buckets as directories, for where there is no ZFS; the same contract, with real keys and hard-link snapshots."""

from appliance.storage.vault.directory.store import DirectoryStore

__all__ = ["DirectoryStore"]
