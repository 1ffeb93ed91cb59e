"""The project's locked Python packages for another Python than this machine's: by hash, wheels only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement

from image.cache import Cache, key_of
from image.commands import run
from image.errors import BuildError

PYTHON = "3.13"  # trixie's
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64",
             "manylinux_2_12_x86_64", "manylinux2010_x86_64", "manylinux_2_5_x86_64", "manylinux1_x86_64",
             "linux_x86_64")  # fmt: skip

# Tools of developers that no test in the guest imports; each costs download and disk.
LEFT_OUT: Mapping[str, str] = {
    "atheris": "coverage-guided fuzzing runs in `make test`",
    "buf-bin": "lint of the contract",
    "coverage": "vcon's",
    "flask": "moto's",
    "flask-cors": "moto's",
    "grimp": "import walls",
    "grpc-stubs": "types for mypy",
    "grpcio-tools": "generates the stubs, which are committed",
    "import-linter": "import walls",
    "librt": "mypy's runtime",
    "ast-serialize": "mypy's parser",
    "moto": "S3 for tests of exit packs, in `make test`",
    "mypy": "type checks",
    "mypy-extensions": "mypy's",
    "mypy-protobuf": "generates the stubs",
    "pytest-cov": "vcon's",
    "pytest-mock": "vcon's",
    "ruff": "lint and format",
    "types-protobuf": "types for mypy",
    "vcon": "checks vCons of exit packs, in `make test`",
}
NEVER = ("pyzfs",)  # PyPI's is of 2016 and would hide Debian's libzfs_core


def locked_for(lock: str, python: str = PYTHON) -> list[str]:
    """The lines of a lock file that hold for a Python on 64-bit Linux, without markers, each with its hashes.

    `BuildError` where a name is left out that the lock does not have: the list of exceptions must stay true.
    """
    environment = {name: str(value) for name, value in default_environment().items()}
    environment |= {
        "python_version": python, "python_full_version": f"{python}.0", "implementation_version": f"{python}.0",
        "implementation_name": "cpython", "platform_python_implementation": "CPython", "os_name": "posix",
        "platform_machine": "x86_64", "platform_system": "Linux", "sys_platform": "linux",
    }  # fmt: skip
    kept, seen = [], set()
    for entry in lock.replace("\\\n", " ").splitlines():
        words = entry.split("--hash=")
        if not words[0].strip() or entry.lstrip().startswith("#"):
            continue
        requirement = Requirement(words[0].strip())
        hashes = [f"--hash={word.strip()}" for word in words[1:]]
        seen.add(requirement.name)
        if requirement.name in NEVER:
            raise BuildError(f"{requirement.name} must not be in the lock: it hides Debian's libzfs_core")
        if not hashes:
            raise BuildError(f"{requirement.name} is locked without a hash")
        if requirement.name in LEFT_OUT or not _holds(requirement.marker, environment):
            continue
        kept.append(" ".join([f"{requirement.name}{requirement.specifier}", *hashes]))
    if unknown := sorted(set(LEFT_OUT) - seen):
        raise BuildError(f"left out of the guest but not in the lock: {', '.join(unknown)}")
    return kept


def _holds(marker: Marker | None, environment: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(environment)


def download(lines: list[str], folder: Path) -> None:
    """Fetches the wheels as the machine's own pip is configured to, checking every hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{line}\n" for line in lines))
    abi = f"cp{PYTHON.replace('.', '')}"
    run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--progress-bar", "off", "--require-hashes", "--no-deps",
         "--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON,
         *[word for name in (abi, "abi3", "none") for word in ("--abi", name)],
         *[word for name in PLATFORMS for word in ("--platform", name)],
         "--dest", folder, "--requirement", requirements],
        env={"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip


def wheelhouse(cache: Cache, lock: Path) -> Path:
    """The directory with the wheels and the `requirements.txt` that installs them, offline."""
    lines = locked_for(lock.read_text())
    return cache.get("wheels", key_of([lines, PYTHON, PLATFORMS]), lambda folder: download(lines, folder))
