"""Keys: deposits from capture, the epoch store, root slots, shredding. See docs/keystore.md."""

from appliance.storage.keystore.attended import TenantKeys
from appliance.storage.keystore.buckets import BucketName
from appliance.storage.keystore.copies import CopyState
from appliance.storage.keystore.deposit import Deposit, Depositor, DepositRequest, open_deposit
from appliance.storage.keystore.granted import GrantedKey, open_data_key
from appliance.storage.keystore.intake import Added
from appliance.storage.keystore.passphrase import Proof
from appliance.storage.keystore.publish import load_deposit_key, publish_deposit_key
from appliance.storage.keystore.rootslot import FileRootSlot, RootSlot
from appliance.storage.keystore.slots import root_slot
from appliance.storage.keystore.store import Keystore, Shredded
from appliance.storage.keystore.tenantkeys import KeyMode
from appliance.storage.keystore.tpmslot import TpmRootSlot

__all__ = [
    "Added",
    "BucketName",
    "CopyState",
    "Deposit",
    "DepositRequest",
    "Depositor",
    "FileRootSlot",
    "GrantedKey",
    "KeyMode",
    "Keystore",
    "Proof",
    "RootSlot",
    "Shredded",
    "TenantKeys",
    "TpmRootSlot",
    "load_deposit_key",
    "open_data_key",
    "open_deposit",
    "publish_deposit_key",
    "root_slot",
]
