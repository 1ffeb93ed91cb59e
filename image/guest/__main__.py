"""`python -m image.guest`: build the guest, run a command in a fresh one, keep one running by name."""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from image.cache import Cache
from image.errors import ImageError
from image.guest.root import Recipe
from image.guest.session import Guest
from image.guest.spec import Disk, Spec

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "dev.lock"
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

log = logging.getLogger("image")


def size(text: str) -> int:
    """Bytes from a number with K, M or G."""
    found = re.fullmatch(r"(\d+)([KMG]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 4G, 512M")
    return int(found[1]) * UNITS[found[2]]


def spec_of(options: argparse.Namespace) -> Spec:
    """The guest that was asked for: disks are named d1, d2 and so on."""
    disks = tuple(Disk(f"d{number}", options.size) for number in range(1, options.disks + 1))
    return Spec(disks=disks, memory=options.memory, cpus=options.cpus)


def folder_of(name: str) -> Path:
    """Where a guest with a name lives."""
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ImageError(f"{name!r} is no name for a guest: lower case, digits and hyphens")
    return Cache().root / "named" / name


def pass_on(out: bytes, err: bytes) -> None:
    """A command's output, as it comes."""
    for stream, data in ((sys.stdout, out), (sys.stderr, err)):
        stream.buffer.write(data)
        stream.buffer.flush()


def boot(guest: Guest) -> None:
    """From nothing to a guest with its disks and the checkout."""
    guest.create()
    took = guest.start()
    began = time.monotonic()
    sent = guest.sync(ROOT)
    log.info("guest up in %.1f s, %d files in %.1f s", took, sent, time.monotonic() - began)


def command(words: Sequence[str]) -> list[str]:
    """What stands after `--`."""
    given = list(words[1:] if words[:1] == ["--"] else words)
    if not given:
        raise ImageError("no command: it stands after --")
    return given


def do_build(options: argparse.Namespace) -> int:
    """Builds the image, or finds it in the cache."""
    log.info("%s", Recipe(Cache(), LOCK).get())
    return 0


def do_run(options: argparse.Namespace) -> int:
    """Boots a fresh guest, runs one command, forgets the guest."""
    words = command(options.command)
    image = Recipe(Cache(), LOCK).get()
    with tempfile.TemporaryDirectory(prefix="earwitness-guest-") as folder:
        guest = Guest(Path(folder, "guest"), image, spec_of(options))
        try:
            boot(guest)
            return guest.run(words, options.timeout, check=False, output=pass_on).code
        finally:
            guest.close()


def do_up(options: argparse.Namespace) -> int:
    """Leaves a guest running under a name; boots one again that was down with its disks kept."""
    folder = folder_of(options.name)
    if (folder / "guest.json").exists():
        guest = Guest.open(folder)
        took = guest.start()
        log.info("guest %s is up again in %.1f s, its disks as they were", options.name, took)
        return 0
    guest = Guest(folder, Recipe(Cache(), LOCK).get(), spec_of(options), outlive=True)
    try:
        boot(guest)
    except BaseException:
        guest.close()
        raise
    log.info(
        "guest %s has %s", options.name, ", ".join(disk.device for disk in guest.spec.disks) or "no disks"
    )
    return 0


def do_exec(options: argparse.Namespace) -> int:
    """Runs a command in a named guest."""
    guest = Guest.open(folder_of(options.name))
    if options.sync:
        guest.sync(ROOT)
    words = command(options.command)
    return guest.run(words, options.timeout, check=False, cwd=options.cwd, output=pass_on).code


def do_sync(options: argparse.Namespace) -> int:
    """Brings a named guest's checkout up to date."""
    log.info("%d files", Guest.open(folder_of(options.name)).sync(ROOT))
    return 0


def do_reset(options: argparse.Namespace) -> int:
    """Presses a named guest's reset button."""
    Guest.open(folder_of(options.name)).reset()
    return 0


def do_cut(options: argparse.Namespace) -> int:
    """Cuts a named guest's power; `up` boots it again with its disks as they were."""
    Guest.open(folder_of(options.name)).kill()
    return 0


def do_console(options: argparse.Namespace) -> int:
    """Shows a named guest's console since its last start."""
    pass_on(Guest.open(folder_of(options.name)).console().encode(), b"")
    return 0


def do_down(options: argparse.Namespace) -> int:
    """Ends a named guest and forgets its disks (`--keep`: keeps them for the next `up`)."""
    guest = Guest.open(folder_of(options.name))
    if options.keep:
        guest.stop()
    else:
        guest.close()
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m image.guest", description=__doc__)
    subs = top.add_subparsers(required=True, metavar="COMMAND")
    for name, action in (
        ("build", do_build), ("run", do_run), ("up", do_up), ("exec", do_exec), ("sync", do_sync),
        ("reset", do_reset), ("cut", do_cut), ("console", do_console), ("down", do_down),
    ):  # fmt: skip
        sub = subs.add_parser(name, help=action.__doc__, description=action.__doc__)
        sub.set_defaults(action=action)
        if name in ("run", "up"):
            sub.add_argument("--disks", type=int, default=4, help="data disks (default 4)")
            sub.add_argument("--size", type=size, default=size("4G"), help="of each, sparse (default 4G)")
            sub.add_argument("--memory", type=int, default=2048, help="MiB (default 2048)")
            sub.add_argument("--cpus", type=int, default=1)
        if name not in ("build", "run"):
            sub.add_argument("--name", default="dev", help="of the guest (default dev)")
        if name in ("run", "exec"):
            sub.add_argument("--timeout", type=float, default=1800.0, help="seconds (default 1800)")
            sub.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
        if name == "exec":
            sub.add_argument("--cwd", default="/srv/earwitness", help="working directory in the guest")
            sub.add_argument("--sync", action="store_true", help="bring the checkout up to date first")
        if name == "down":
            sub.add_argument("--keep", action="store_true", help="keep its disks for the next up")
    return top


def main() -> int:
    """The exit code: the command's own, 128 and the signal where one ended it, 70 where the guest failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    options = parser().parse_args()
    # Told to end, it ends what it began in the guest, as at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code: int = options.action(options)
    except ImageError as error:
        log.error("%s", error)
        return 70
    except KeyboardInterrupt:
        log.error("interrupted")
        return 130
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
