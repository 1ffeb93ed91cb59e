"""Packs for people, opened by 7-Zip."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from appliance.packs.zipping import Zip

pytestmark = pytest.mark.system
PASSPHRASE = "seven brown otters swim"


def test_seven_zip_opens_a_pack_with_the_passphrase_alone(tmp_path):
    program = shutil.which("7zz") or shutil.which("7z")
    if program is None:
        pytest.skip("7-Zip is not there: tests/system/install-peers.sh")
    path = tmp_path / "pack.zip"
    sound = bytes(range(256)) * 500
    with path.open("w+b") as file, Zip(file, PASSPHRASE.encode()) as pack:
        pack.add("audio/0001.wav", [sound], size=len(sound))
        pack.add("index.json", [b"{}"], size=2)

    def unpack(passphrase: str) -> int:
        command = [program, "x", "-y", f"-p{passphrase}", f"-o{tmp_path / 'out'}", str(path)]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    assert unpack("seven brown otters sink") != 0
    assert unpack(PASSPHRASE) == 0
    assert (tmp_path / "out" / "audio" / "0001.wav").read_bytes() == sound
    listed = subprocess.run([program, "l", "-slt", str(path)], capture_output=True, timeout=60, check=True)
    assert b"AES-256" in listed.stdout
