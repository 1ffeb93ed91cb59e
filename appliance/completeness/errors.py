"""What can be wrong with call records as a whole. What is wrong with one row is a `reading.Problem`."""

from __future__ import annotations

from appliance.model import ExhaustedError, InvalidError


class RecordMapError(InvalidError):
    """A column map says what cannot be; `data['field']` names what is to blame."""

    reason = "RECORD_MAP_INVALID"


class RecordMapMisfitError(InvalidError):
    """More than a fifth of a file's rows cannot be read: the column map does not fit the file.

    `data`: `rows`, `broken`, and what most of them have in common: `column`, `problem`.
    """

    reason = "RECORD_MAP_MISFIT"


class RecordsUnreadableError(InvalidError):
    """The file is no text in the encoding that the column map names; `data['offset']`: the first byte that is not."""

    reason = "RECORDS_UNREADABLE"


class RecordsTooLargeError(ExhaustedError):
    """A file of call records has more bytes or rows than are taken at once; `data['limit']`."""

    reason = "RECORDS_TOO_LARGE"
