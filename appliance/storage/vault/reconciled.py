"""What a comparison of buckets, journal and keystore found, and the conditions that say so."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.process.status import ALARM, WARNING, Status


@dataclass(slots=True)
class Reconciled:
    """What was found; each count is of recordings, files, buckets or snapshots."""

    files: int = 0  # in buckets that were looked into
    unchanged: int = 0  # buckets that are as they were when they were last found in order
    filed: int = 0  # files the journal did not know, now filed
    moved: int = 0  # files brought to where the journal says
    erased: int = 0  # holdings whose erasure the journal did not know
    keys_absent: int = 0  # holdings without a key that nobody erased
    unknown: int = 0  # files that no rule names
    missing: int = 0  # holdings without a file
    strangers: int = 0  # what is not ours among the buckets
    keyless: int = 0  # buckets whose key is destroyed or does not open them
    held_again: int = 0  # snapshots of ours that had lost their hold
    sidecars: int = 0  # sidecars of which the journal says by now how far they go
    sidecars_damaged: int = 0  # that do not have what the journal says


def tell(status: Status, result: Reconciled) -> None:
    """Conditions that say what is not as it should be."""
    for name, count, severity, message in (
        (
            "FilesMissing",
            result.missing,
            ALARM,
            "recordings that the journal names have no file. Restore them from a copy.",
        ),
        (
            "UnknownFiles",
            result.unknown + result.strangers,
            WARNING,
            "things among the buckets are known to nobody. They are left alone.",
        ),
        (
            "SidecarsDamaged",
            result.sidecars_damaged,
            ALARM,
            "recordings do not have all that was added to them, such as notes. Restore their bucket from a copy.",
        ),
        (
            "KeysAbsent",
            result.keys_absent,
            ALARM,
            "recordings have no key, and nothing says that they were erased. They are kept, and cannot be read: put the"
            " right keystore back.",
        ),
        (
            "BucketKeysAbsent",
            result.keyless,
            ALARM,
            "buckets have no key that opens them. They are left as they are.",
        ),
    ):
        if count:
            status.raise_condition(name, severity, f"{count} {message}")
        else:
            status.clear_condition(name)
