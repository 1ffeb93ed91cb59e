"""Make the virtual environment of a checkout: `bootstrap.py VENV LOCKFILE`.

Runs on a bare Debian Python, so it uses the standard library alone.
"""

import os
import pathlib
import subprocess
import sys
import venv

OLDEST = (3, 11)


def fail(message: str) -> None:
    sys.exit(f"earwitness: {message}")


def main(target: str, lock: str) -> None:
    if sys.version_info < OLDEST:
        fail(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {sys.version.split()[0]}")
    python = pathlib.Path(target, "bin", "python")
    if not python.exists():
        print(f"making the environment in {target}", flush=True)
        try:
            venv.create(target, with_pip=True, symlinks=True)
        except subprocess.CalledProcessError:
            fail("this Python cannot make environments with pip: install python3-venv, then try again")
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--progress-bar", "off", "--no-compile"]
    print("installing the locked packages (about a minute)", flush=True)
    for arguments in (
        ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", lock],
        ["--no-deps", "--no-build-isolation", "--editable", "."],
    ):
        if subprocess.run(pip + arguments, env=env).returncode:
            fail("installation failed; the lines above say why")
    # What pip would do with one core. A file that does not compile is none that is imported.
    packages = str(next(pathlib.Path(target, "lib").iterdir()))
    subprocess.run([str(python), "-m", "compileall", "-qq", "-j", "0", packages], check=False)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        fail("usage: bootstrap.py VENV LOCKFILE")
    main(*sys.argv[1:])
