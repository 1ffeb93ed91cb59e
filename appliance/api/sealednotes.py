"""Reads what was added to recordings, out of their sealed sidecars, and checks it. Runs in worker threads."""

from __future__ import annotations

from appliance.api.vault import VaultReader
from appliance.catalog import sidecars
from appliance.catalog.sidecars import Entry
from appliance.model import EarwitnessError, Kind
from appliance.storage.sealed.sidecar import Head, SidecarFinding, check, parse, read
from appliance.storage.sealed.sidecarerrors import SidecarCorruptError, SidecarProblem


def entries(vault: VaultReader, recording_id: str) -> list[Entry]:
    """All entries of a sidecar, in order; those that are known here in the form they should have.

    SidecarCorruptError, also where a signature does not hold; what the vault raises (TENANT_LOCKED).
    """
    raw = vault.sidecar(recording_id)
    if not raw:
        raise SidecarCorruptError(SidecarProblem.MISSING, -1, -1)
    for one in check(raw, vault.device_key(), None, recording_id=recording_id):
        raise SidecarCorruptError(one.problem, one.offset, one.index)
    found = read(parse(raw), vault.lease(recording_id, "control", "notes", deleted=True))
    for index, entry in enumerate(found):
        try:
            sidecars.check(entry)
        except ValueError as error:
            raise SidecarCorruptError(SidecarProblem.CONTENT, -1, index) from error
    return found


def findings(
    vault: VaultReader, recording_id: str, root: bytes, data_key: bytes | None
) -> tuple[int, list[SidecarFinding]]:
    """How many entries a recording's sidecar has, and what is not as it was written. `root`: of the recording's footer.

    Without `data_key` nothing is opened. What the vault raises.
    """
    head = vault.sidecar_head(recording_id)  # before the sidecar itself, which may grow meanwhile
    if head is None:
        return 0, []
    try:
        raw = vault.sidecar(recording_id)
    except EarwitnessError as error:
        if error.kind is not Kind.CORRUPT:
            raise
        return 0, [SidecarFinding(SidecarProblem.MISSING)]  # or its bytes are not what the store was given
    found = check(
        raw,
        vault.device_key(),
        data_key,
        recording_id=recording_id,
        root=root,
        known=Head(head.entries, head.size, head.sha256),
    )
    return (0 if found else len(parse(raw).entries)), found
