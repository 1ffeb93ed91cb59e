"""What follows `earwitness`: one table. A command's module is read when it is asked for, so that a command starts fast."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class Entry:
    """A command or a group of commands."""

    module: str  # of appliance.cli
    help: str  # as `earwitness --help` lists it
    function: str = ""  # of a command; a group is its module's `app`

    def load(self, name: str) -> Any:
        """The command itself, as Typer builds it."""
        module = importlib.import_module(f"appliance.cli.{self.module}")
        found: Any
        if not self.function:
            found = typer.main.get_group(module.app)
        else:
            alone = typer.Typer(add_completion=False)
            alone.command(name)(getattr(module, self.function))
            found = typer.main.get_command(alone)
        found.name = name
        return found


ENTRIES: Final = {
    "verify": Entry(
        "evidence",
        "Check sealed recordings offline: whole, untouched, by this box, in this order, with these gaps.",
        "verify",
    ),
    "login": Entry(
        "login",
        "Sign in at the box's port for tokens. The session is kept, mode 0600, and used by every command until it ends.",
        "login",
    ),
    "logout": Entry("login", "End the session at the box, and forget it here.", "logout"),
    "serve": Entry(
        "serve",
        "Run the box: record SIPREC calls, keep them sealed, serve the gRPC API. Stops cleanly on SIGTERM.",
        "serve",
    ),
    "calls": Entry("calls", "Live calls: list, watch, listen, pause, resume, stop."),
    "recordings": Entry("recordings", "Recordings: list, show, download, verify, delete, undelete, erase."),
    "notes": Entry("notes", "Notes on recordings: add, list, edit, delete."),
    "retention": Entry(
        "retention", "Retention: show, set, cancel, plan, run, runs, upcoming, explain, clock."
    ),
    "subjects": Entry(
        "subjects",
        "Requests for access (UK GDPR Art. 15): the clock, find, choose, mute, withhold, pack, answer.",
    ),
    "holds": Entry("holds", "Legal holds: create, add, release, list, show."),
    "grants": Entry("grants", "Support grants: what the provider's staff may read, until when, how often."),
    "vault": Entry("vault", "The vault: status, buckets, verify, copies, quota."),
    "tenants": Entry("tenants", "Tenants: whose calls these are. List, create, update, history, undo."),
    "identities": Entry(
        "identities",
        "Identities: who may come in, with certificates, passphrases, or by the identity provider.",
    ),
    "keys": Entry("keys", "Keys of tenants: who opens the recordings. Show, mode, unlock, lock, passphrase."),
    "lines": Entry("lines", "Lines: what a tenant contracted. List, show, create, update, history, undo."),
    "prompts": Entry("prompts", "Prompts: announcements and whispers. Add, list, show, get, delete."),
    "purposes": Entry(
        "purposes", "Purposes: what recordings may be used for. List, create, update, archive, report."
    ),
    "staff": Entry(
        "staff", "Staff: who works here. List, add, change, import from a table, say that somebody left."
    ),
    "notices": Entry(
        "acknowledgements",
        "Notices: what staff is told of recording. Adopt, write, publish; acknowledge; who has not.",
    ),
    "completeness": Entry(
        "completeness",
        "Completeness: the switchboard's call records against the recordings. Import, sources, days, report, watch.",
    ),
    "scorecards": Entry(
        "scorecards", "Scorecards for reviews: list, show, create, update, archive, history."
    ),
    "reviews": Entry("reviews", "Reviews of calls: next, show, answer, submit, list, figures, rules."),
    "documents": Entry(
        "documents",
        "Documents made from the real configuration: make, list, get, verify; service-level; planned work.",
    ),
    "events": Entry("events", "The feed of events."),
    "audit": Entry("audit", "The audit log: who did what, and proof of it."),
    "alarms": Entry("alarms", "Alarms: what stands, who looks after it, and the channels it is told by."),
    "box": Entry("box", "The box itself: status, rebuild-catalogue."),
    "operations": Entry(
        "operations", "Long work that goes on by itself, over restarts: verify, list, show, watch, cancel."
    ),
    "exit-pack": Entry(
        "exitpacks", "Exit packs: everything of a tenant or line in open forms. Create, watch, list, verify."
    ),
    "evidence": Entry("evidence", "Evidence: what an outsider needs to check recordings without the box."),
}


class Commands(TyperGroup):
    """The root group: names and help of what is in ENTRIES, and each command when it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in ENTRIES.items():
            self.add_command(TyperGroup(name=name, help=entry.help))
        self._loaded: dict[str, Any] = {}
        self._listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See TyperGroup."""
        if self._listing or cmd_name not in ENTRIES:
            return super().get_command(ctx, cmd_name)
        if cmd_name not in self._loaded:
            self._loaded[cmd_name] = ENTRIES[cmd_name].load(cmd_name)
        return self._loaded[cmd_name]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See TyperGroup. A list of names opens none of them."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False
