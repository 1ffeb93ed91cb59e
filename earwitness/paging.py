"""All pages of a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def pages(call: Callable[..., Answer], request: Any, *, timeout: float | None = None) -> Iterator[Answer]:
    """The answers of a List method, page after page, until the last; `timeout` is that of each page, in seconds.

    `request` is changed: its page_token goes on. RpcError where a page cannot be had.
    """
    while True:
        answer: Any = call(request, timeout=timeout)
        yield answer
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token
