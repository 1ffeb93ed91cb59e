"""The vault: keeps recordings in buckets, owns their keys, erases. `python -m appliance.storage.vault` is the process."""

from appliance.storage.vault.contract import (
    BucketId,
    BucketState,
    BucketStore,
    SliceUnit,
    Space,
    Stored,
    slice_of,
)
from appliance.storage.vault.core import Vault
from appliance.storage.vault.directory import DirectoryStore
from appliance.storage.vault.erasure import Eraser
from appliance.storage.vault.filing import Filer
from appliance.storage.vault.holding import Certificate, Holding, HoldingState
from appliance.storage.vault.intake import Intake

__all__ = [
    "BucketId",
    "BucketState",
    "BucketStore",
    "Certificate",
    "DirectoryStore",
    "Eraser",
    "Filer",
    "Holding",
    "HoldingState",
    "Intake",
    "SliceUnit",
    "Space",
    "Stored",
    "Vault",
    "slice_of",
]
