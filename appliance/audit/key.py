"""The key that signs checkpoints: made at the first start, kept beside the log, readable by its owner alone.

Its name is the log's origin, `earwitness/<box>/audit`. After a break the same key signs under the name of the next
generation, `earwitness/<box>/audit/2`, so that no two checkpoints of one origin contradict each other.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

from appliance.audit import files
from appliance.audit.errors import NoteError
from appliance.audit.note import Signer
from appliance.model import new_id

FILE: Final = "audit.key"
_ORIGIN = re.compile(r"(earwitness/[a-z2-7]{26}/audit)(?:/([1-9][0-9]{0,8}))?")


def obtain(control: Path) -> tuple[Signer, bool]:
    """The key (under the name of the first generation), and whether it was made just now. OSError."""
    path = control / FILE
    try:
        signer = Signer.parse(path.read_text("ascii"))
        if _ORIGIN.fullmatch(signer.name):
            return signer, False
        raise NoteError("not a key of an audit log", field="key")
    except FileNotFoundError:
        pass
    except (NoteError, UnicodeDecodeError):
        path.rename(path.with_name(f"audit.damaged-{time.time_ns()}.key"))
    signer = Signer.generate(f"earwitness/{new_id()}/audit")
    files.replace(path, f"{signer.private_text()}\n".encode())
    return signer, True


def origin(signer: Signer, generation: int) -> str:
    """The log's name in a generation, from 1."""
    return signer.name if generation == 1 else f"{signer.name}/{generation}"


def generation_of(text: str) -> int:
    """Of an origin; 0 where it is none of ours."""
    found = _ORIGIN.fullmatch(text)
    return int(found[2] or 1) if found else 0


def is_of(text: str, signer: Signer) -> bool:
    """Whether an origin is this key's, in whatever generation."""
    found = _ORIGIN.fullmatch(text)
    return found is not None and found[1] == signer.name
