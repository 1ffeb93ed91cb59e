"""`earwitness events watch`: what happens on the box, as it happens."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.connection import bare, tenant_parent
from appliance.cli.context import JsonOption, TenantOption, box
from earwitness.v1 import events_pb2

app = typer.Typer(help="The feed of events.", no_args_is_help=True)


@app.command()
def watch(
    context: typer.Context,
    tenant: TenantOption = "",
    after: Annotated[str, typer.Option("--after", help="Resume token of the last event that was seen.")] = "",
    from_oldest: Annotated[
        bool, typer.Option("--from-oldest", help="Begin with the oldest event kept.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Events from now on (or after a resume token), until interrupted."""
    request = events_pb2.WatchEventsRequest(
        parent=tenant_parent(tenant), resume_token=after, from_oldest=from_oldest
    )
    with box(context) as services:
        for message in services.events.WatchEvents(request):
            if not message.HasField("event"):
                continue
            if json:
                output.print_line(output.as_dict(message))
                continue
            event = message.event
            word = output.enum_word(events_pb2.EventType, event.type)
            output.console.print(
                f"{output.when(event.time)}  {word:<21} {bare(event.subject)}  {event.message or event.state}".rstrip()
            )
