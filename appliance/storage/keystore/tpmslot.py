"""Root slots in a TPM's NV memory, where what is undefined is gone: no file system or flash keeps an old block of it.

Three indices: `base` and `base + 1` are the slots, defined anew for each key and undefined to destroy it; `base + 2` says
which counts. The bytes are those of the files (docs/keystore.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.storage.keystore.errors import KeystoreCorruptError, RootKeyMissingError, TpmError
from appliance.storage.keystore.rootslot import (
    ACTIVE_BYTES,
    SLOT_BYTES,
    Active,
    Fault,
    RootKey,
    RootSlot,
    no_fault,
    parse_active,
    parse_slot,
)
from appliance.storage.keystore.tpm import AUTH_UNAVAILABLE, POLICY_FAIL, UNINITIALIZED, UNKNOWN_HANDLE, Tpm

BASE = 0x0180_4557
"""Of the range that the owner of the machine gives out (0x01800000 to 0x01BFFFFF)."""


class TpmRootSlot(RootSlot):
    """See the module. Raises TpmError where the TPM does not answer or refuses.

    `pcrs`: registers that must be as they were when the key was written, or it cannot be read: 7 holds the state of Secure
    Boot. An update of the firmware's keys changes it for good, and with it everything is lost.
    """

    in_copies = False
    absent = "there is a keystore, and the TPM holds no root key of it: the TPM was cleared or replaced"

    def __init__(
        self, tpm: Tpm, *, base: int = BASE, pcrs: Sequence[int] = (), fault: Fault = no_fault
    ) -> None:
        self._tpm = tpm
        self._base = base
        self._pcrs = tuple(pcrs)
        self._fault = fault

    @property
    def _pointer(self) -> int:
        return self._base + 2

    def use(self, directories: Sequence[Path]) -> None:
        """Root keys do not lie in directories."""

    def active(self) -> Active | None:
        """See RootSlot."""
        raw = self._read(self._pointer, ACTIVE_BYTES, ())
        if raw is None:
            return None
        found = parse_active(raw)
        if found is None:
            raise KeystoreCorruptError("the TPM's pointer to the root slot is damaged", what="active")
        return found

    def write(self, slot: int, root: RootKey) -> None:
        """See RootSlot."""
        self.destroy(slot)
        self._tpm.define(self._base + slot, SLOT_BYTES, self._pcrs)
        self._fault("slot defined in the TPM")
        self._tpm.write(self._base + slot, root.pack(slot))
        self._fault("slot written in the TPM")

    def read(self, slot: int) -> RootKey:
        """See RootSlot."""
        raw = self._read(self._base + slot, SLOT_BYTES, self._pcrs)
        if raw is None:
            raise RootKeyMissingError("the TPM holds no root key in this slot", slot=slot)
        found = parse_slot(raw, slot)
        if found is None:
            raise RootKeyMissingError("what the TPM holds in this slot is no root key", slot=slot)
        return found

    def _read(self, index: int, size: int, pcrs: Sequence[int]) -> bytes | None:
        """None where the index is not defined or was never written."""
        try:
            return self._tpm.read(index, size, pcrs)
        except TpmError as error:
            code = error.data.get("code")
            if code in (UNINITIALIZED, UNKNOWN_HANDLE) and (
                code == UNINITIALIZED or index not in self._tpm.indices()
            ):
                return None
            if code == AUTH_UNAVAILABLE and pcrs:
                # It is from before the registers were asked for: the next turn asks for them.
                return self._read(index, size, ())
            if code in (AUTH_UNAVAILABLE, POLICY_FAIL):
                raise TpmError(
                    "the TPM does not give the root key out in this state of the machine (its Secure Boot settings or "
                    "firmware changed, or the setting of registers)",
                    command="nvread",
                    code=code,
                ) from error
            raise

    def activate(self, active: Active) -> None:
        """See RootSlot. NV memory wears, so the same is not written twice."""
        if self._read(self._pointer, ACTIVE_BYTES, ()) != active.pack():
            if self._pointer not in self._tpm.indices():
                self._tpm.define(self._pointer, ACTIVE_BYTES)
                self._fault("pointer defined in the TPM")
            self._tpm.write(self._pointer, active.pack())
        self._fault("flipped in the TPM")

    def mend(self, active: Active, root: RootKey) -> list[str]:
        """See RootSlot: the TPM has no second copy, so there is only the pointer to be made again."""
        if self._read(self._pointer, ACTIVE_BYTES, ()) == active.pack():
            return []
        self.activate(active)
        return ["TPM: the pointer to the root slot was missing or damaged, repaired"]

    def destroy(self, slot: int) -> None:
        """See RootSlot."""
        if self._base + slot not in self._tpm.indices():
            return
        self._tpm.undefine(self._base + slot)
        if self._base + slot in self._tpm.indices():
            raise TpmError("the TPM still has what was destroyed", command="nvundefine")
        self._fault("slot destroyed in the TPM")
