"""Every list is cut where a page would not fit in an answer, and goes on there: nothing twice, nothing left out."""

from __future__ import annotations

from typing import Any

import pytest
from anycall import Method, call, methods
from test_api_isolation import ground  # noqa: F401 (a fixture: two tenants with something of everything)

from appliance.process import rpc

SIZES = 1000
CUT_ELSEWHERE = {"ListBuckets", "ListLegalHolds"}
"""What comes from the vault is cut otherwise: test_api_large."""


def is_list(method: Method) -> bool:
    asked, told = method.descriptor.input_type.fields_by_name, method.descriptor.output_type.fields_by_name
    return "page_token" in asked and "next_page_token" in told


def listed_in(answer: Any) -> list[str]:
    """Of an answer what is listed: by its name where it has one, as figures may change with time."""
    for field, value in answer.ListFields():
        if field.is_repeated and field.message_type is not None:
            return [getattr(one, "name", "") or str(one) for one in value]
    return []


def requests(method: Method, names: list[str]) -> Any:
    """The same question below everything that there is; a request for all tenants first."""
    if "parent" not in method.descriptor.input_type.fields_by_name:
        yield method.request_type(page_size=SIZES)
        return
    for parent in ["tenants/-", *names]:
        yield method.request_type(parent=parent, page_size=SIZES)


def walk(channel: Any, method: Method, request: Any) -> list[list[str]]:
    found = []
    while True:
        outcome = call(channel, method, request)
        assert outcome.code == "OK", (method.path, outcome.reason)
        (answer,) = outcome.messages
        found.append(listed_in(answer))
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def test_a_page_that_would_not_fit_goes_on_in_the_next(
    ground: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, client, mine, other = ground
    cut, whole_only = set(), set()
    for method in filter(is_list, methods()):
        if "AuditService" in method.path:
            continue  # it grows with each question; its own test has it
        for request in requests(method, mine.names + other.names):
            whole = call(client.channel, method, request)
            if whole.code != "OK" or len(listed_in(whole.messages[0])) < 2:
                continue
            everything = listed_in(whole.messages[0])
            with monkeypatch.context() as small:
                small.setattr(rpc, "ANSWER_LIMIT", 1)
                walked = walk(client.channel, method, request)
            assert [one for page in walked for one in page] == everything, method.path
            if len(walked) > 1:
                assert max(map(len, walked)) == 1, method.path
                cut.add(method.path.rpartition("/")[2])
                break
            whole_only.add(method.path.rpartition("/")[2])
    assert len(cut) > 15, sorted(cut)
    assert whole_only - cut <= CUT_ELSEWHERE, whole_only - cut
