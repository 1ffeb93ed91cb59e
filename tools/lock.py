"""Resolve `requirements/dev.lock` from pyproject.toml, for every Python from 3.11 on, with hashes."""

import subprocess
import sys

COMMAND = [
    "uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate",
    "--no-header", "--no-emit-index-url", "--extra", "appliance", "--group", "dev", "pyproject.toml",
    "--output-file", "requirements/dev.lock",
]  # fmt: skip

if __name__ == "__main__":
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    subprocess.run([sys.executable, "-m", *COMMAND, *sys.argv[1:]], check=True)
