"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WHOLE = ("ID", "Tenant", "Condition")  # what people copy

console = Console(highlight=False, soft_wrap=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def as_dict(message: Message) -> dict[str, Any]:
    """The proto JSON mapping, with every scalar field present, so that programs need no defaults."""
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def print_json(value: object) -> None:
    """One JSON document, indented on a terminal, else on one line."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_line(value: object) -> None:
    """One JSON document on one line: what a watch writes for each change."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def table(columns: Iterable[str], rows: Iterable[Iterable[str]], *, empty: str) -> None:
    """A plain table; `empty` is said where there are no rows. Where it is too narrow cells are folded, never cut."""
    cells = [list(row) for row in rows]
    if not cells:
        console.print(empty)
        return
    result = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        right = column.startswith(">")
        whole = max(len(row[place]) for row in cells) if column in _WHOLE else None
        result.add_column(
            column.lstrip(">"),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=whole is not None,
            min_width=whole,
        )
    for row in cells:
        result.add_row(*map(_cell, row))
    console.print(result)


def plain(text: str) -> str:
    """Without what a terminal would obey: names come from the network."""
    return "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)


def _cell(text: str) -> Text:
    return Text(plain(text))  # brackets are no markup here


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line; empty values are left out."""
    result = Table(box=None, show_header=False, pad_edge=False)
    result.add_column(style="bold", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            result.add_row(name, _cell(value))
    console.print(result)


def when(stamp: Timestamp) -> str:
    """Local time to the second; nothing for an unset time."""
    if not stamp.seconds:
        return ""
    moment = datetime.fromtimestamp(stamp.seconds, UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def when_ns(ns: int) -> str:
    """The same of nanoseconds since the Unix epoch."""
    return when(Timestamp(seconds=ns // 10**9))


def moment(stamp: Timestamp) -> str:
    """Local time in few characters, for tables: the year only where it is another one."""
    if not stamp.seconds:
        return ""
    local = datetime.fromtimestamp(stamp.seconds, UTC).astimezone()
    return local.strftime("%d %b %H:%M" if local.year == datetime.now().year else "%Y-%m-%d")


def clock(duration: Duration) -> str:
    """h:mm:ss, or m:ss.t below an hour."""
    total = duration.seconds + duration.nanos / 1e9
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{int(hours)}:{int(minutes):02}:{int(seconds):02}"
    return f"{int(minutes)}:{seconds:04.1f}"


def ago(stamp: Timestamp) -> str:
    """How long a state has lasted."""
    if not stamp.seconds:
        return ""
    span = datetime.now(UTC) - datetime.fromtimestamp(stamp.seconds, UTC)
    return str(max(span, timedelta()) - timedelta(microseconds=span.microseconds))


def size(count: int) -> str:
    """Bytes with a binary unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count(number: int, noun: str) -> str:
    """1 recording, 2 recordings."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def some(number: int, noun: str) -> str:
    """The same; nothing where there is none."""
    return count(number, noun) if number else ""


def enum_word(message_enum: Any, value: int) -> str:
    """An enum value as people read it: RECORDING_STATE_FILED becomes filed."""
    name = str(message_enum.Name(value))
    prefix = _snake(message_enum.DESCRIPTOR.name)
    return name.removeprefix(prefix + "_").lower().replace("_", " ").replace("unspecified", "")


def _snake(camel: str) -> str:
    return "".join(
        "_" + letter if letter.isupper() and place else letter for place, letter in enumerate(camel)
    ).upper()
