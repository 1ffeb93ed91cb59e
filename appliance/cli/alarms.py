"""`earwitness alarms`: what somebody has to know and act on, and where it is told."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from appliance.cli import alarmchannels, alarmview, output
from appliance.cli.connection import resource, tenant_parent
from appliance.cli.context import CALL_TIMEOUT_S, Box, DryOption, JsonOption, TenantOption, box
from appliance.cli.exits import Exit
from appliance.model import new_id
from earwitness import pages
from earwitness.v1 import alarms_pb2 as pb
from earwitness.v1 import events_pb2

app = typer.Typer(
    help="Alarms: what stands, who looks after it, and the channels it is told by.", no_args_is_help=True
)
app.add_typer(alarmchannels.app, name="channels")

AlarmArgument = Annotated[str, typer.Argument(help="Name or id of the alarm.")]
_TYPES = (
    events_pb2.EVENT_TYPE_ALARM_RAISED,
    events_pb2.EVENT_TYPE_ALARM_ACKNOWLEDGED,
    events_pb2.EVENT_TYPE_ALARM_CLEARED,
)


@app.command("list")
def list_alarms(
    context: typer.Context,
    tenant: TenantOption = "",
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    filter_: Annotated[
        str, typer.Option("--filter", help="Such as 'severity >= warning AND kind = DiskFull'.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
    json: JsonOption = False,
) -> None:
    """Alarms that stand, newest first, and how long each does. Exit code 1 while a critical one is open."""
    text = (
        filter_
        if everything
        else " AND ".join(filter(None, ("state != cleared", filter_ and f"({filter_})")))
    )
    asked = pb.ListAlarmsRequest(parent=tenant_parent(tenant), filter=text, page_size=min(limit, 1000))
    found: list[pb.Alarm] = []
    with box(context) as services:
        for answer in pages(services.alarms.ListAlarms, asked, timeout=CALL_TIMEOUT_S):
            found += answer.alarms
            if len(found) >= limit:
                break
    del found[limit:]
    if json:
        output.print_json({"alarms": [output.as_dict(one) for one in found]})
    else:
        alarmview.table(found)
    if any(one.severity == pb.ALARM_SEVERITY_CRITICAL and one.state == pb.ALARM_STATE_OPEN for one in found):
        raise typer.Exit(Exit.FAILED)


@app.command()
def show(context: typer.Context, alarm: AlarmArgument, json: JsonOption = False) -> None:
    """One alarm, and what to do about it."""
    with box(context) as services:
        found = services.alarms.GetAlarm(pb.GetAlarmRequest(name=_name(alarm)), timeout=CALL_TIMEOUT_S).alarm
    _show(found, json)


@app.command()
def ack(
    context: typer.Context,
    alarm: AlarmArgument,
    note: Annotated[str, typer.Option("--note", help="What is being done; no personal data.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Say that somebody looks after an alarm."""
    how: dict[str, Any] = {"name": _name(alarm), "request_id": new_id(), "validate_only": validate_only}
    with box(context) as services:
        if undo:
            back = services.alarms.UnacknowledgeAlarm(
                pb.UnacknowledgeAlarmRequest(**how), timeout=CALL_TIMEOUT_S
            )
            _show(back.alarm, json)
            return
        done = services.alarms.AcknowledgeAlarm(
            pb.AcknowledgeAlarmRequest(**how, note=note), timeout=CALL_TIMEOUT_S
        )
    _show(done.alarm, json)


@app.command()
def clear(
    context: typer.Context, alarm: AlarmArgument, validate_only: DryOption = False, json: JsonOption = False
) -> None:
    """Clear an alarm whose cause cannot tell that it is over; others clear by themselves."""
    asked = pb.ClearAlarmRequest(name=_name(alarm), request_id=new_id(), validate_only=validate_only)
    with box(context) as services:
        done = services.alarms.ClearAlarm(asked, timeout=CALL_TIMEOUT_S).alarm
    _show(done, json)


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
    """Alarms as they are raised, acknowledged and cleared, until interrupted."""
    request = events_pb2.WatchEventsRequest(
        parent=tenant_parent(tenant), resume_token=after, from_oldest=from_oldest, types=_TYPES
    )
    with box(context) as services:
        for message in services.events.WatchEvents(request):
            if not message.HasField("event"):
                continue
            if json:
                output.print_line(output.as_dict(message))
            else:
                _event(services, message.event)


@app.command()
def test(
    context: typer.Context,
    channel: Annotated[str, typer.Argument(help="Name or id of the channel.")],
    json: JsonOption = False,
) -> None:
    """Send a test message by a channel, and say what the far end said."""
    asked = pb.TestAlarmChannelRequest(name=alarmchannels.name_of(channel))
    with box(context) as services:
        answer = services.alarms.TestAlarmChannel(asked, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
    else:
        output.console.print("delivered" if answer.delivered else f"not delivered: {answer.failure}")
        if answer.reply:
            output.console.print(output.plain(answer.reply), markup=False)
    if not answer.delivered:
        raise typer.Exit(Exit.FAILED)


@app.command()
def kinds(context: typer.Context, json: JsonOption = False) -> None:
    """The kinds of alarms there are, and what to do about each."""
    found: list[pb.AlarmKind] = []
    with box(context) as services:
        for answer in pages(
            services.alarms.ListAlarmKinds, pb.ListAlarmKindsRequest(page_size=1000), timeout=CALL_TIMEOUT_S
        ):
            found += answer.alarm_kinds
    if json:
        output.print_json({"alarmKinds": [output.as_dict(one) for one in found]})
        return
    rows = (
        (one.kind, output.enum_word(pb.AlarmSeverity, one.severity), one.title, one.what_to_do)
        for one in found
    )
    output.table(("Kind", "Severity", "What", "What to do"), rows, empty="")


def _event(services: Box, event: events_pb2.Event) -> None:
    word = output.enum_word(events_pb2.EventType, event.type).removeprefix("alarm ")
    alarm = services.alarms.GetAlarm(pb.GetAlarmRequest(name=event.subject), timeout=CALL_TIMEOUT_S).alarm
    line = alarmview.severity(alarm.severity)
    line.append(f"  {output.when(event.time)}  {word:<12} {alarm.title} ({output.plain(alarm.subject)})")
    output.console.print(line, soft_wrap=True)


def _show(alarm: pb.Alarm, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(alarm))
    else:
        alarmview.show(alarm)


def _name(text: str) -> str:
    return text if text.startswith("alarms/") else resource("alarms", text)
