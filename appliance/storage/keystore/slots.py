"""Which kind of root slot a box has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.model import InvalidError
from appliance.storage.keystore.rootslot import Fault, FileRootSlot, RootSlot, no_fault
from appliance.storage.keystore.tpm import DEVICE, Tpm
from appliance.storage.keystore.tpmslot import TpmRootSlot


def root_slot(
    kind: str,
    directories: Sequence[Path],
    tcti: str = DEVICE,
    *,
    pcrs: Sequence[int] = (),
    fault: Fault = no_fault,
) -> RootSlot:
    """`file`: in the keystore's directories; `tpm`: in the TPM reached by `tcti`. InvalidError for any other kind.

    `pcrs`: see TpmRootSlot.
    """
    if kind == "file":
        return FileRootSlot(directories, fault)
    if kind == "tpm":
        return TpmRootSlot(Tpm(tcti), pcrs=pcrs, fault=fault)
    raise InvalidError("root keys lie in files or in a TPM: file, tpm", field="kind")
