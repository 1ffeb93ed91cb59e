"""Debian trixie, from the mirrors that this machine's own apt uses: sources, versions, trees."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from image.commands import CONTAINED, run
from image.errors import BuildError

SUITE = "trixie"
COMPONENTS = ("main", "contrib")  # contrib has ZFS
ARCHITECTURE = "amd64"
# Settings of the machine's apt that say how a mirror is reached; a tree's apt needs them as well.
REACHING = re.compile(
    r"^Acquire::(?:(?:http|https)::.+|Check-Valid-Until|Check-Date|Retries) ", re.IGNORECASE
)
UNWANTED = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
)

log = logging.getLogger("image")


@dataclass(frozen=True)
class Source:
    """One line of a sources list."""

    uri: str
    suite: str

    def line(self) -> str:
        """As apt reads it."""
        return f"deb {self.uri} {self.suite} {' '.join(COMPONENTS)}"


def codename(os_release: str) -> str:
    """The codename of a Debian, from the text of `/etc/os-release`."""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    name = fields.get("VERSION_CODENAME", "").strip('"')
    if fields.get("ID", "").strip('"') != "debian" or not name:
        raise BuildError("images are built on Debian: /etc/os-release names another system")
    return name


def translate(targets: str, host: str) -> list[Source]:
    """Trixie's sources, from the index targets (`URI|suite|component`) of a machine that runs `host`.

    A suite that the machine takes from some mirror is taken from the same mirror: the release itself, its updates,
    its security suite. Other suites and third parties are left out.
    """
    wanted = {host: SUITE, f"{host}-updates": f"{SUITE}-updates", f"{host}-security": f"{SUITE}-security"}
    wanted |= {"stable": SUITE, "stable-updates": f"{SUITE}-updates", "stable-security": f"{SUITE}-security"}
    found = []
    for target in targets.splitlines():
        uri, suite, component = target.split("|")
        source = Source(uri, wanted.get(suite, ""))
        if component == "main" and source.suite and source not in found:
            found.append(source)
    if SUITE not in {source.suite for source in found}:
        raise BuildError(f"this machine's apt names no mirror of Debian {host}, so none of {SUITE}")
    if f"{SUITE}-security" not in {source.suite for source in found}:
        log.warning("this machine's apt names no security mirror: %s without security updates", SUITE)
    return found


def sources() -> list[Source]:
    """Trixie's sources for this machine."""
    targets = run(
        ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
         "Created-By: Packages"],
    )  # fmt: skip
    return translate(targets, codename(Path("/etc/os-release").read_text()))


class Apt:
    """An apt of its own that knows trixie, in a directory; the machine's own apt is not touched."""

    def __init__(self, root: Path, found: Sequence[Source]) -> None:
        self.root = root
        for folder in ("lists/partial", "cache/archives/partial", "etc"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "etc/sources.list").write_text("".join(f"{source.line()}\n" for source in found))
        (root / "status").touch()

    def _options(self) -> list[str]:
        settings = {
            "Dir::Etc::SourceList": self.root / "etc/sources.list", "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null", "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::Lists": self.root / "lists", "Dir::State::status": self.root / "status",
            "Dir::State::extended_states": self.root / "extended_states", "Dir::Cache": self.root / "cache",
            "APT::Architecture": ARCHITECTURE, "APT::Architectures": ARCHITECTURE, "APT::Default-Release": "",
            "APT::Sandbox::User": "root",  # the directory may not be readable for apt's own user
        }  # fmt: skip
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def update(self) -> None:
        """Fetches the lists."""
        run(["apt-get", *self._options(), "-q", "update", "--error-on=any"])

    def field(self, package: str, name: str) -> str:
        """A field of a package's candidate; `BuildError` where there is none."""
        shown = run(["apt-cache", *self._options(), "--no-all-versions", "show", package])
        for line in shown.splitlines():
            if line.startswith(f"{name}: "):
                return line.split(": ", 1)[1].strip()
        raise BuildError(f"{package} has no {name} in {SUITE}")

    def download(self, packages: Sequence[str], folder: Path) -> list[Path]:
        """Fetches packages (`name=version`) without what they depend on."""
        before = set(folder.glob("*.deb"))
        run(["apt-get", *self._options(), "-q", "download", *packages], cwd=folder)
        return sorted(set(folder.glob("*.deb")) - before)


def make_tree(
    tree: Path, found: Sequence[Source], packages: Sequence[str | Path], *, lean: bool = True
) -> None:
    """Installs a Debian with these packages (names, or files ending in .deb) into a directory. Wants root."""
    listed = tree.with_name(f"{tree.name}.sources.list")
    listed.write_text("".join(f"{source.line()}\n" for source in found))
    options = [
        f"--aptopt={line}" for line in run(["apt-config", "dump"]).splitlines() if REACHING.match(line)
    ]
    if lean:
        options += [f"--dpkgopt=path-exclude={pattern}" for pattern in UNWANTED]
    run(
        [*CONTAINED, "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory", f"--architectures={ARCHITECTURE}",
         f"--components={','.join(COMPONENTS)}", *options, f"--include={','.join(map(str, packages))}",
         SUITE, tree, listed],
    )  # fmt: skip
    listed.unlink()
