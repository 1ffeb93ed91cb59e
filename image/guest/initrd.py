"""The guest's initrd, made anew for each start: modules and busybox of the image, and our own first programs."""

from __future__ import annotations

import stat
from pathlib import Path

INSIDE = Path(__file__).with_name("inside")


def _entry(name: str, mode: int, data: bytes, number: int) -> bytes:
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)


def cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """An archive (newc) of files, given by name as permissions and contents; directories come by themselves."""
    entries: list[bytes] = []
    made: set[str] = set()
    for name, (permissions, data) in files.items():
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in made:
                made.add(folder)
                entries.append(_entry(folder, stat.S_IFDIR | 0o755, b"", len(entries) + 1))
        entries.append(_entry(name, stat.S_IFREG | permissions, data, len(entries) + 1))
    return b"".join(entries) + _entry("TRAILER!!!", 0, b"", 0)


def build(boot: Path) -> bytes:
    """The initrd from an image's `boot` directory."""
    files: dict[str, tuple[int, bytes]] = {
        "init": (0o755, (INSIDE / "initrd-init").read_bytes()),
        "bin/busybox": (0o755, (boot / "busybox").read_bytes()),
    }
    for file in sorted(boot.glob("*.ko")):
        files[f"boot/{file.name}"] = (0o644, file.read_bytes())
    for file in sorted([*INSIDE.glob("*.py"), *INSIDE.glob("*.rules")]):
        files[f"inside/{file.name}"] = (0o644, file.read_bytes())
    for folder in ("dev", "proc", "sysroot"):
        files[f"{folder}/.keep"] = (0o644, b"")
    return cpio(files)
