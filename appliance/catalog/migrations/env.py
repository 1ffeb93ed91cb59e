"""Run by Alembic, with the connection that `Database.migrate` gives."""

from __future__ import annotations

from alembic import context

from appliance.catalog import (  # noqa: F401 - their tables belong to the metadata
    alarmtables,
    closingtables,
    completenesstables,
    contracttables,
    documenttables,
    granttables,
    noticetables,
    operations,
    reviewtables,
    searchtables,
    subjecttables,
    witnessed,
)
from appliance.catalog.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
