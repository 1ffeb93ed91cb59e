"""What can go wrong with where a pack goes."""

from __future__ import annotations

import errno
from typing import Final

from appliance.model import EarwitnessError, ExhaustedError, InvalidError, PreconditionError, UnavailableError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ExitTargetInvalidError(InvalidError):
    """An exit pack may not go there: not below an allowed folder, through a link, or an unknown bucket; `field`."""

    reason = "EXIT_TARGET_INVALID"


class ExitTargetAwayError(UnavailableError):
    """Where an exit pack goes does not answer: a disk that was pulled, a store that is down; `code` says what it said."""

    reason = "EXIT_TARGET_AWAY"


class ExitSpaceError(ExhaustedError):
    """There is too little space where an exit pack goes: `needed` bytes at least, `free` are."""

    reason = "EXIT_SPACE"


class ExitTargetTakenError(PreconditionError):
    """Something that is not ours lies where the exit pack would go."""

    reason = "EXIT_TARGET_TAKEN"


def of_os(error: OSError, needed: int = 0, free: int = -1) -> EarwitnessError:
    """What a failed call to the system means for a pack."""
    if error.errno in _FULL:
        return ExitSpaceError("there is no space where the exit pack goes", needed=needed, free=max(0, free))
    code = errno.errorcode.get(error.errno or 0, "EIO")
    return ExitTargetAwayError("where the exit pack goes does not answer", code=code)
