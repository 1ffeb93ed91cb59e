"""Every reason is documented, and goes over the wire as the docs say."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import appliance
from appliance.model import EarwitnessError
from appliance.process.rpc import CODES

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
# Carries the reason of whatever came over the wire.
CARRIERS = {"RemoteError"}


def subclasses(kind: type[EarwitnessError]) -> set[type[EarwitnessError]]:
    return {kind, *(found for child in kind.__subclasses__() for found in subclasses(child))}


def load_everything() -> None:
    for module in pkgutil.walk_packages(appliance.__path__, "appliance."):
        if not module.name.endswith(".__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)


def documented() -> dict[str, str]:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| ([A-Z_]+) \|", DOCS.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a reason stands twice"
    return dict(rows)


def test_every_reason_is_documented_with_its_code():
    load_everything()
    known = documented()
    ours = {
        kind.reason: CODES[kind.kind].name
        for kind in subclasses(EarwitnessError)
        if kind.__module__.startswith("appliance.") and kind.__name__ not in CARRIERS
    }
    missing = {reason: code for reason, code in ours.items() if known.get(reason) != code}
    assert not missing, "these want a row in docs/errors.md"
    assert set(known) - set(ours) == set(), "these reasons are documented, but nothing raises them"


def test_no_error_without_a_reason_of_its_own_form():
    load_everything()
    for kind in subclasses(EarwitnessError):
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+", kind.reason), kind
