"""Process 1 of the guest: starts the agent and udev, gathers orphans.

Runs on the guest's bare Python. When the agent ends the machine powers off: without it nobody can ask for anything.
"""

import importlib
import os
import sys

ENVIRONMENT = {
    "PATH": "/opt/earwitness/venv/bin:/usr/sbin:/usr/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "EARWITNESS_GUEST": "1",  # tests that need the guest look for this
}
# zpool waits for udev to have seen a disk's partitions, and disks are found by their serial numbers.
# The host waits for both, and for ZFS.
UDEV = "/usr/lib/systemd/systemd-udevd --daemon && udevadm trigger --action=add --subsystem-match=block"


def main() -> None:
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    os.posix_spawn("/usr/sbin/modprobe", ["modprobe", "zfs"], ENVIRONMENT)
    agent = os.fork()
    if agent == 0:
        # Forked, not started: an interpreter's start takes a good part of a second on an emulated machine.
        sys.path.insert(0, os.path.dirname(__file__))
        os.setsid()
        importlib.import_module("agent").main()
        os._exit(0)
    os.posix_spawn("/bin/sh", ["sh", "-c", UDEV], ENVIRONMENT)
    while True:
        ended, status = os.wait()
        if ended == agent:
            print(f"earwitness: the agent ended with status {status}: power off", flush=True)
            os.execv("/bin/busybox", ["busybox", "poweroff", "-n", "-f"])


if __name__ == "__main__":
    main()
