"""Kinds of alarms about what is kept: the vault, keys, retention, replicas. Conditions by their types."""

from __future__ import annotations

from typing import Final

from appliance.alarms.kind import critical, warning

_VAULT: Final = (
    critical(
        "FilingFailed",
        "Recordings cannot be filed and wait in the spool",
        "Look at the disk; it is tried again by itself.",
        touches_recording=True,
    ),
    warning(
        "Quarantine",
        "Recordings cannot be filed and are kept in quarantine",
        "`earwitness vault status` names them, and why. Nothing is lost; ask support before anything is removed.",
        touches_recording=True,
    ),
    critical(
        "FilesMissing",
        "Recordings that the vault's journal names have no file",
        "Bring them back with `earwitness vault replicas restore` (docs/replica.md). Find out who took them.",
        touches_recording=True,
    ),
    critical(
        "SidecarsDamaged",
        "What was added to recordings later is damaged or missing",
        "The recordings themselves are whole. Bring the sidecars back with `earwitness vault replicas restore`; where no "
        "copy has them, begin them anew (earwitness notes begin-anew).",
    ),
    warning(
        "UnknownFiles", "Things among the buckets are known to nobody", "They are left alone: look at them."
    ),
    critical(
        "NotReconciled",
        "Buckets and journal cannot be compared",
        "Look at the store; it is tried again by itself. Nothing expires meanwhile.",
    ),
    critical(
        "BucketsNotLocked",
        "Quiet buckets cannot be locked",
        "Look at the store; it is tried again by itself.",
    ),
    critical(
        "JournalDamaged",
        "The vault's journal is damaged",
        "Look at the disk. What could be read holds; see docs/vault.md.",
    ),
    warning("ParkingFailed", "Deleted recordings still lie in their buckets", "Look at the store."),
    critical(
        "ErasureUnfinished",
        "An erasure that was begun is not complete",
        "Look at the keystore's disks; it goes on by itself, and is reported only when it is done.",
    ),
    critical(
        "IntentDamaged",
        "An intent to erase is damaged and kept",
        "Look into vault/erasing; see docs/erasure.md.",
    ),
    critical(
        "HoldsUnsettled",
        "Legal holds are in force, but not all snapshots are held yet",
        "Look at the store; it goes on by itself.",
    ),
    critical(
        "FiledNotHeld",
        "Recordings were filed that legal holds do not hold yet",
        "Look at the store; it goes on by itself. They are not erased meanwhile.",
    ),
    critical(
        "HoldsUncovered",
        "Legal holds are in force, but not all that they hold is in a snapshot of theirs",
        "Look at the store; it goes on by itself. Nothing that is held is erased meanwhile.",
    ),
    warning(
        "PinsWithoutHold",
        "Recordings are kept by a legal hold that is not in the book",
        "Was an older copy put back? Place the hold again, or release the recordings (docs/retention.md).",
    ),
)

_KEYS: Final = (
    critical(
        "KeyMissing",
        "Recordings wait in the spool because their keys were never deposited",
        "Keep the files, and ask support.",
        touches_recording=True,
    ),
    critical(
        "KeysNotKept",
        "Keys cannot be kept and wait in the spool",
        "Look at the keystore's disks.",
        touches_recording=True,
    ),
    critical(
        "KeysNotDeposited",
        "Keys cannot be deposited: recordings wait in memory",
        "Look at vault and disk.",
        touches_recording=True,
    ),
    warning(
        "DepositsUnopened",
        "Key deposits are sealed to an older deposit key",
        "Capture renews them by itself; if it stays, look at capture.",
    ),
    critical(
        "KeysAbsent",
        "Recordings have no key, and nothing says that they were erased",
        "They are kept. Put the right keystore back: see docs/keystore.md. Clear this when you know why.",
        by_hand=True,
        touches_recording=True,
    ),
    critical(
        "BucketKeysAbsent",
        "Buckets have no key that opens them",
        "They are left as they are: see docs/keystore.md.",
    ),
    warning(
        "KeystoreRepaired",
        "The keystore repaired itself from its other copy",
        "Look at the disk of the damaged copy. Clear this when you have.",
        by_hand=True,
    ),
    critical("KeystoreDegraded", "One copy of the keystore is not usable", "Look at its disk; replace it."),
    critical(
        "KeystoreCopyMissing",
        "Copies of the keystore are missing, so nothing can be erased",
        "Bring the disk back, or declare it destroyed with `earwitness vault copies forget`.",
    ),
    critical(
        "KeystoreDamaged",
        "The keystore could not be looked through",
        "Look at its disks: see docs/keystore.md.",
    ),
    critical(
        "SecondFactorsUnreadable",
        "The key that second factors are sealed under is lost or another",
        "Put control/identities.key back, or let people enrol anew: see docs/identities.md.",
    ),
)

_RETENTION: Final = (
    critical(
        "RetentionBraked",
        "Nothing expires: the volume brake stopped a plan that is far larger than forecast",
        "Look at `earwitness retention plan`, and confirm it if it is right.",
    ),
    warning(
        "RetentionFrozen",
        "Nothing expires while the retention clock is in doubt",
        "See `earwitness retention clock`.",
    ),
    critical(
        "RetentionFailed",
        "Parts of the last retention run failed",
        "They are tried again; look at the store.",
    ),
    critical(
        "RetentionNotRun",
        "Nothing expires: the retention run failed",
        "It is tried again; look at the store.",
    ),
    critical("ClockNotKept", "The retention clock cannot be kept", "Look at the disk of the data directory."),
    critical(
        "RetentionClockFrozen",
        "The retention clock and the wall clock disagree",
        "See that the box knows the time, then `earwitness retention clock accept`.",
    ),
    warning(
        "RetentionClockRaised",
        "The retention clock was raised to where it had been before",
        "Was an older copy put back? Clear this when you know why.",
        by_hand=True,
    ),
    warning(
        "RetentionClockAccepted",
        "The retention clock was set by an operator",
        "Nothing to do, if that was meant: the audit log says who. Clear this then.",
        by_hand=True,
    ),
)

_REPLICAS: Final = (
    warning(
        "ReplicaBehind",
        "Not everything is replicated",
        "Is the replica reachable, has it space? What is erased here is not yet known there (docs/replica.md).",
    ),
    critical(
        "ReplicaDiverged", "A replica does not fit to what is here", "See docs/replica.md for what to do."
    ),
    critical(
        "ReplicaStale",
        "An older state of a replica was put back",
        "It is told again what was erased. Find out who put it back; see docs/replica.md.",
    ),
    warning("ReplicaIll", "A replica's medium is not well", "Look at its disks."),
    warning(
        "ReplicaLeftovers",
        "A replica has copies of buckets that are not here",
        "Bring them back with `earwitness vault replicas restore` if they are missed; else they are left alone.",
    ),
    warning(
        "ReplicaUnconfigured",
        "Snapshots are kept for replicas that are not in the settings",
        "Put them back into the settings, or forget them (docs/replica.md).",
    ),
)

KINDS: Final = (*_VAULT, *_KEYS, *_RETENTION, *_REPLICAS)
