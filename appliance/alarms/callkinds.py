"""Kinds of alarms about calls, processes and disks: conditions by their types."""

from __future__ import annotations

from typing import Final

from appliance.alarms.kind import critical, warning

_CALLS: Final = (
    critical(
        "CallsWithoutMedia",
        "A call is up and no media comes",
        "Look at `earwitness calls list`. Usually a firewall or the session border controller sends RTP to another address"
        " than the box offered: check its media address, NAT, and the range of ports.",
        touches_recording=True,
    ),
    critical(
        "CallsWithOneSide",
        "A call is up and one side has never sent any media",
        "Look at `earwitness calls list` for the track. Check that the switchboard forks both directions to the box.",
        touches_recording=True,
    ),
    warning(
        "CallsWithoutLine",
        "Calls are up that no line takes, so they are not recorded",
        "Add their numbers, queue or trunk to a line, or tell the switchboard not to send them.",
    ),
    critical(
        "CallsNotRecorded",
        "Calls are up that ought to be recorded and cannot be",
        "Look at the other alarms of capture: the calls go on without being recorded until it can.",
        touches_recording=True,
    ),
    critical(
        "RecordingsInterrupted",
        "Calls are not recorded since a restart of capture",
        "Those calls go on unrecorded; new ones are recorded. `earwitness box status` may say why it restarted.",
        touches_recording=True,
    ),
    critical(
        "MediaPortsExhausted",
        "No media port is free: new calls are sent elsewhere",
        "Widen the range of media ports in the site file, and in the firewall.",
        touches_recording=True,
    ),
    critical(
        "PortsExhausted",
        "A call could not be recorded: no media port is free",
        "Widen the range of media ports in the site file, and in the firewall.",
        touches_recording=True,
    ),
    critical(
        "RecordingRefused",
        "Capture cannot open recordings: new calls are sent elsewhere",
        "Look at the other alarms of capture and at its disk.",
        touches_recording=True,
    ),
    critical(
        "RegistrationFailed",
        "Not registered with a switchboard: calls from there do not arrive",
        "Check the account (sip.accounts), its password file, and that the switchboard answers.",
        touches_recording=True,
    ),
    critical(
        "SipPasswordUnreadable",
        "The password file of a SIP account cannot be used",
        "Write it anew (sip.accounts, password_file): the box cannot prove itself at that switchboard.",
        touches_recording=True,
    ),
    critical(
        "RoutingTableUnusable",
        "The routing table cannot be read",
        "The last good one is used, or none. The box writes it anew with the next change of a line: see docs/site.md.",
        touches_recording=True,
    ),
    warning(
        "RoutingTableMissing",
        "There is no routing table yet: calls cannot begin",
        "Wait until the control process has written it, at the first start; if it stays, look at `earwitness box status`.",
        touches_recording=True,
        at_start=True,
    ),
    warning(
        "SipCertificateMissing",
        "SIP over TLS has no usable certificate",
        "Put certificate and key where the site file says (docs/site.md).",
        at_start=True,
    ),
    warning(
        "PacketsOverflowed",
        "The kernel dropped packets before they could be read",
        "Recordings have a mark for each loss. Give the box more cores or fewer calls, and raise net.core.rmem_max.",
        touches_recording=True,
    ),
    critical(
        "PromptDamaged",
        "Files of prompts are missing or damaged, so calls are not announced by them",
        "Upload them again, give the new ones to the lines, remove the damaged ones.",
    ),
    warning(
        "SamplePromptsUnwritten",
        "The sample prompts cannot be written",
        "Make space on the disk of the data directory and start the box again.",
    ),
    warning(
        "LinePolicyWaiting",
        "What lines were made with is not in force yet",
        "It is tried again by itself as soon as the vault takes it; look for alarms of the vault.",
        at_start=True,
    ),
)

_PROCESSES: Final = (
    critical(
        "ProcessDown",
        "A process of the box does not answer",
        "The supervisor restarts it. If the alarm stays, look at the log and at state/incidents.jsonl.",
        touches_recording=True,
    ),
    critical(
        "SignalingUnreachable",
        "Signaling does not answer: calls cannot begin",
        "The supervisor restarts it. If the alarm stays, look at its log.",
        touches_recording=True,
        at_start=True,
    ),
    critical(
        "CaptureUnreachable",
        "A capture process does not answer: nothing is recorded there",
        "The supervisor restarts it. If the alarm stays, look at its log.",
        touches_recording=True,
        at_start=True,
    ),
    warning(
        "VaultUnreachable",
        "The vault does not answer: recordings are kept in the spool and appear later",
        "The supervisor restarts it. If the alarm stays, look at its log and at the disks.",
        at_start=True,
    ),
)

_DISKS: Final = (
    critical(
        "DiskNearlyFull",
        "The space for recordings is nearly used up",
        "Add space, or shorten retention. When the disk is full, recordings are lost.",
        touches_recording=True,
    ),
    critical(
        "DiskFull",
        "The disk is full: recordings wait in memory",
        "Free space at once: what does not fit into memory is lost.",
        touches_recording=True,
    ),
    critical(
        "DiskError",
        "The disk refuses writes: recordings wait in memory",
        "Look at the disk and the kernel's log at once: what does not fit into memory is lost.",
        touches_recording=True,
    ),
    critical(
        "DiskStalled",
        "The disk has not answered for seconds: recordings wait in memory",
        "Look at the disk and the kernel's log; a scrub or a copy that takes all of the disk is to be stopped.",
        touches_recording=True,
    ),
    critical(
        "PoolMissing",
        "A pool is not there",
        "Connect its disks, then `zpool import` it.",
        touches_recording=True,
    ),
    critical(
        "PoolSuspended",
        "A pool has lost more disks than it can do without",
        "Connect the disks again, then `zpool clear` it. Recordings wait in the spool.",
        touches_recording=True,
    ),
    critical(
        "PoolStuck",
        "A disk of a pool answers very slowly, or is gone",
        "Look at the kernel's log; replace the disk.",
        touches_recording=True,
    ),
    critical(
        "PoolFull",
        "A pool is full",
        "Destroy what has expired, shorten retention, or add disks. Recordings wait in the spool.",
        touches_recording=True,
    ),
    warning("PoolFilling", "Less than a tenth of a pool is free", "Add disks, or shorten retention."),
    critical("PoolDegraded", "A pool has lost a disk", "Replace the disk with `zpool replace`."),
    critical(
        "PoolErrors",
        "A pool has seen errors of its disks",
        "`zpool status -v` names the files: take them from the replica. Scrub the pool; replace a disk that goes on.",
    ),
    critical(
        "StoreRefused",
        "The store of recordings is refused",
        "See docs/zfs.md; nothing is filed.",
        touches_recording=True,
    ),
    critical(
        "StoreUnavailable",
        "The store of recordings is not there: recordings wait in the spool",
        "Mount it, look at its disk.",
        touches_recording=True,
    ),
)

KINDS: Final = (*_CALLS, *_PROCESSES, *_DISKS)
