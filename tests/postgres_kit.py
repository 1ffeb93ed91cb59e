"""A PostgreSQL of the tests' own: Debian's programs, a temporary directory, a Unix socket and nothing else."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
import sqlalchemy as sa

MISSING = "PostgreSQL is not installed (make test-system installs it): its half is left out"
# What a site is told to set, too: a log that keeps nothing for others, and is not used again.
SITE = {"wal_level": "minimal", "max_wal_senders": "0", "wal_recycle": "off", "min_wal_size": "32MB"}
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def programs() -> Path | None:
    """Where initdb and postgres are; the newest."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if found:
        return max(found, key=lambda folder: int(folder.parent.name))
    here = shutil.which("postgres")
    return Path(here).resolve().parent if here else None


class Cluster:
    """One server. Runs as somebody without rights: PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path, settings: Mapping[str, str] = FAST) -> None:
        """`folder` is made where it does not hold a cluster yet."""
        found = programs()
        assert found is not None, MISSING
        self._programs = found
        self.folder = folder
        self._settings = {**SITE, "listen_addresses": "", "unix_socket_directories": str(folder), **settings}
        self._as = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        if not (folder / "data" / "PG_VERSION").exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._as is not None:
                os.chown(folder, self._as.pw_uid, self._as.pw_gid)
            self._run(
                "initdb",
                "-D",
                str(self.data),
                "-U",
                "earwitness",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            )

    @classmethod
    def temporary(cls, settings: Mapping[str, str] = FAST) -> Cluster:
        """In /tmp: the path of a socket must be short, and pytest's directories are its user's alone."""
        return cls(Path(tempfile.mkdtemp(prefix="earwitness-pg-", dir="/tmp")), settings)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _how(self) -> dict[str, object]:
        return (
            {}
            if self._as is None
            else {"user": self._as.pw_uid, "group": self._as.pw_gid, "extra_groups": []}
        )

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self._programs / program, *words], cwd=self.folder, capture_output=True, text=True, **self._how()
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        words = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data, *words],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._how(),
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL does not come up"
                time.sleep(0.05)

    def stop(self) -> None:
        """At once: whoever is connected is thrown out."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def dsn(self, name: str) -> str:
        """For psycopg."""
        return f"host={self.folder} user=earwitness dbname={name}"

    def execute(self, statement: str, name: str = "postgres") -> None:
        with psycopg.connect(self.dsn(name), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def url(self, name: str) -> sa.URL:
        return sa.make_url(self.text(name))

    def text(self, name: str) -> str:
        """As a site file has it."""
        return f"postgresql://earwitness@/{name}?host={self.folder}"

    def new(self, template: str = "", how: str = "ENCODING 'UTF8' LOCALE 'C'") -> str:
        """A new database, a copy of a template where one is named; gives its name."""
        name = f"t{secrets.token_hex(6)}"
        what = f"TEMPLATE {template}" if template else f"TEMPLATE template0 {how}"
        self.execute(f"CREATE DATABASE {name} {what}")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
