"""What two versions of a tenant, a line or a purpose differ in, in colour; and the list of versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.text import Text

from appliance.cli import output
from appliance.cli.context import CALL_TIMEOUT_S
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import tenants_pb2 as pb


def show(changes: Sequence[pb.FieldChange], more: int = 0, *, indent: str = "") -> None:
    """One change a line: red goes, green comes."""
    if not changes:
        output.console.print(f"{indent}Nothing changes.")
    for one in changes:
        line = Text(indent)
        line.append(one.path, style="bold")
        line.append(": ")
        if one.before:
            line.append(f"- {output.plain(one.before)}", style="red")
        if one.before and one.after:
            line.append("  ")
        if one.after:
            line.append(f"+ {output.plain(one.after)}", style="green")
        output.console.print(line, soft_wrap=True)
    if more:
        output.console.print(f"{indent}(and {more} more)")


def history(ask: Callable[..., Any], request: Any, limit: int, json: bool) -> None:
    """Versions, newest first."""
    found: list[pb.Version] = []
    request.page_size = min(limit, 1000)
    while len(found) < limit:
        answer = ask(request, timeout=CALL_TIMEOUT_S)
        found += answer.versions
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    del found[limit:]
    if json:
        output.print_json({"versions": [output.as_dict(one) for one in found]})
        return
    for one in found:
        said = [f"version {one.version}", output.when(one.create_time), f"by {one.actor or 'the box'}"]
        if one.restored_version:
            said.append(f"back to version {one.restored_version}")
        if one.redacted:
            said.append("numbers taken out since")
        if one.request:
            said.append(f"audit: {one.request}")
        output.console.print(Text(output.plain(", ".join(said)), style="bold"), soft_wrap=True)
        if one.version == 1:
            output.console.print("  made")
        else:
            show(one.changes, one.more_changes, indent="  ")


def before_last(ask: Callable[..., Any], request: Any) -> int:
    """The number of the version before the newest; Failure where there is none."""
    request.page_size = 2
    found = ask(request, timeout=CALL_TIMEOUT_S).versions
    if len(found) < 2:
        raise Failure(Exit.CONFLICT, "there is no version before this one", "NO_OLDER_VERSION")
    return int(found[1].version)
