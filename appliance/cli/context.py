"""What every command of the client shares: the connection of this invocation and the common options."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

import grpc
import typer

from appliance.cli.connection import Connection
from earwitness import Client

Box = Client
"""The services of one box over one channel."""

CALL_TIMEOUT_S = 30.0
LOOK_TIMEOUT_S = 900.0  # what looks at everything that is stored

JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs instead of a table for people.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Only this tenant (name or id).")]
LineOption = Annotated[str, typer.Option("--line", help="Only this line (name or id).")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryOption = Annotated[bool, typer.Option("--validate-only", help="Check it, change nothing.")]


@contextlib.contextmanager
def box(context: typer.Context) -> Iterator[Box]:
    """Connects to the box that the options name."""
    connection: Connection = context.obj
    with connection.channel() as channel:
        yield services_of(channel)


def services_of(channel: grpc.Channel) -> Box:
    """The services that a channel reaches."""
    return Box(channel)
