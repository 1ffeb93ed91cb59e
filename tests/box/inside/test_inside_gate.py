"""The facts that the box's start depends on: versions, where the library is from, module parameters."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import libzfs_core
import pytest
from conftest import Shell

OLDEST = (2, 3, 9)


def release(text: str) -> tuple[int, ...]:
    """The OpenZFS release in a version as Debian writes it."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    assert found, text
    return tuple(map(int, found.groups()))


def test_the_module_is_loaded_and_new_enough() -> None:
    assert release(Path("/sys/module/zfs/version").read_text()) >= OLDEST


def test_the_userland_is_of_the_modules_version(sh: Shell) -> None:
    userland, module = sh("zfs", "version").split()
    assert release(userland) == release(module) >= OLDEST


def test_libzfs_core_is_debians_and_not_of_the_virtual_environment() -> None:
    file = Path(libzfs_core.__file__)
    assert file.is_relative_to("/usr/lib/python3/dist-packages"), file
    assert not file.is_relative_to(sys.prefix)
    assert sys.prefix != sys.base_prefix, "the tests run in a virtual environment"
    assert sys.version_info[:2] == (3, 13)


def test_libzfs_core_knows_the_calls_that_pypis_does_not() -> None:
    for name in ("lzc_load_key", "lzc_unload_key", "lzc_channel_program_nosync"):
        assert callable(getattr(libzfs_core, name))


@pytest.mark.parametrize(
    ("module", "name", "value"), [("zfs", "zfs_bclone_enabled", "0"), ("spl", "spl_panic_halt", "1")]
)
def test_module_parameters(module: str, name: str, value: str) -> None:
    assert Path(f"/sys/module/{module}/parameters/{name}").read_text().strip() == value


def test_the_checkout_is_what_is_imported() -> None:
    from importlib.metadata import version

    import appliance

    assert Path(appliance.__file__).is_relative_to("/srv/earwitness")
    assert version("earwitness")
