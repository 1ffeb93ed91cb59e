"""Versions of the catalogue's tables: which there are, of which one some tables are, and the way to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER: Final = Path(__file__).parent / "migrations"
KNOWN: Final = frozenset(path.name.partition("_")[0] for path in (FOLDER / "versions").glob("[0-9]*.py"))
"""Every one that there ever was; its module's name begins with it."""
HEAD: Final = max(KNOWN)


def present(connection: sa.Connection) -> str | None:
    """The version of the tables; None where there are none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found


def config(connection: sa.Connection) -> Config:
    """For Alembic's commands, on this connection."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: sa.Connection) -> None:
    """Brings the tables to the present version."""
    # Wanted once a release, and it takes a tenth of a second to import: every start would wait for it.
    from alembic import command

    command.upgrade(config(connection), "head")
