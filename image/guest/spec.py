"""What a guest consists of, and the QEMU command line that makes it."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

from image.guest import powercut

PORT = "org.earwitness.agent"
FIRST_DISK_SLOT = 8  # of the PCI bus: below are the root disk and the rest
MOST_DISKS = 16
# Nothing that only protects against a hostile neighbour: on an emulated machine it costs time and gives nothing.
KERNEL = (
    "console=ttyS0 loglevel=5 panic=0 oops=panic mitigations=off audit=0 random.trust_cpu=on no_timer_check"
)


@dataclass(frozen=True)
class Disk:
    """A data disk: in the guest `/dev/disk/by-id/virtio-NAME`, on the host a sparse raw file in the guest's folder."""

    name: str
    size: int  # bytes

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]{1,20}", self.name):  # virtio's serial numbers have 20 bytes
            raise ValueError(
                f"{self.name!r} is no name for a disk: lower case, digits and hyphens, at most 20"
            )

    @property
    def device(self) -> str:
        """Its path in the guest."""
        return f"/dev/disk/by-id/virtio-{self.name}"

    @property
    def file(self) -> str:
        """Its file's name in the guest's folder."""
        return f"disk-{self.name}.raw"


@dataclass(frozen=True)
class Spec:
    """A guest: memory in MiB, processors, data disks, and words for QEMU that only some tests need.

    `lossy`: a power cut takes with it what was not flushed (`powercut`).
    """

    disks: tuple[Disk, ...] = ()
    memory: int = 2048
    cpus: int = 1  # two emulated ones now and then trip over a kernel that patches its own code
    extra: tuple[str, ...] = ()
    lossy: bool = False

    def __post_init__(self) -> None:
        if len(self.disks) > MOST_DISKS or len({disk.name for disk in self.disks}) != len(self.disks):
            raise ValueError(f"at most {MOST_DISKS} disks, each with a name of its own")

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def loads(text: str) -> Spec:
        """From `dumps`."""
        said = json.loads(text)
        disks = tuple(Disk(**disk) for disk in said.pop("disks"))
        return Spec(disks=disks, extra=tuple(said.pop("extra")), **said)

    def slot(self, disk: Disk) -> int:
        """The PCI slot of a disk: the same each time, so that `/dev/vdb` is the first disk, too."""
        return FIRST_DISK_SLOT + self.disks.index(disk)


def command(spec: Spec, kernel: Path) -> list[str]:
    """QEMU's command line. Its files are relative to the guest's folder, which must be the working directory."""
    words = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-machine", "pc",
        "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(spec.cpus), "-m", str(spec.memory),
        "-kernel", str(kernel), "-initrd", "initrd", "-append", KERNEL,
        "-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console",
        "-qmp", "unix:qmp.sock,server=on,wait=off",
        "-device", "virtio-serial-pci,addr=0x4", "-chardev", "socket,id=agent,path=agent.sock,server=on,wait=off",
        "-device", f"virtserialport,chardev=agent,name={PORT}", "-device", "virtio-rng-pci,addr=0x5",
        "-blockdev", "driver=qcow2,node-name=root,file.driver=file,file.filename=root.qcow2",
        "-device", "virtio-blk-pci,drive=root,addr=0x3",
    ]  # fmt: skip
    for disk in spec.disks:
        words += ["-blockdev", blockdev(disk, spec.lossy)]
        words += ["-device", ",".join(f"{key}={value}" for key, value in device(spec, disk).items())]
    return [*words, *spec.extra]


def blockdev(disk: Disk, lossy: bool = False) -> str:
    """A disk's back end. Flushes end at the host's page cache, which outlives QEMU, all that a power cut here kills."""
    if lossy:
        return powercut.options(disk.name, disk.file)
    options = f"driver=raw,node-name=node-{disk.name},cache.no-flush=on,discard=unmap"
    return f"{options},file.driver=file,file.filename={disk.file}"


def device(spec: Spec, disk: Disk) -> dict[str, str]:
    """A disk's front end, as QMP's `device_add` wants it."""
    return {
        "driver": "virtio-blk-pci", "id": f"disk-{disk.name}", "drive": f"node-{disk.name}", "serial": disk.name,
        "addr": f"{spec.slot(disk):#x}",
    }  # fmt: skip
