"""One page of a list: how long it is, where it goes on, and the token of the next."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from appliance.api.parts import Parts, page_size, query_of
from appliance.catalog.errors import PageTokenError
from appliance.process.rpc import fitting

TIME_AND_ID = (int, str)


class Page:
    """Rows stand in the order of some values; those of the last row are where the next page goes on.

    `form`: the types of these values. `after`: those of the page before's last row, None on the first page.
    FieldInvalidError, PageTokenError.
    """

    def __init__(
        self, parts: Parts, method: str, request: Any, form: tuple[type[int | str], ...] = TIME_AND_ID
    ) -> None:
        self.size = page_size(request.page_size)
        self._tokens = parts.tokens
        self._query = query_of(method, request)
        self._now_s = parts.clock_ns() / 1e9
        self.after: Any = None
        if request.page_token:
            found = self._tokens.read_page(request.page_token, self._query, self._now_s)
            if len(found) != len(form) or not all(map(isinstance, found, form)):
                raise PageTokenError("not a page token of this query", field="page_token")
            self.after = tuple(found)

    def cut(self, listed: MutableSequence[Any]) -> int:
        """Takes away from the end of an answer's messages what does not fit in one; how many stay, one at least."""
        del listed[len(fitting(listed)) :]
        return len(listed)

    def token(self, *position: int | str) -> str:
        """Of the page after the row with these values."""
        return self._tokens.page(self._query, list(position), self._now_s)
