"""The package for integrators: every name is there, and none is read before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import earwitness


def fresh(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("name", earwitness.__all__)
def test_every_name_is_there(name):
    assert getattr(earwitness, name) is not None
    assert name in dir(earwitness)


def test_a_name_that_is_not_there_is_said_so():
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = earwitness.nothing_such


def test_nothing_is_read_before_it_is_used():
    assert fresh("import earwitness, sys; print('grpc' in sys.modules)") == "False"
    assert fresh("import earwitness; print(earwitness.EventType.Name(0))") == "EVENT_TYPE_UNSPECIFIED"
    assert fresh("import earwitness; print(earwitness.v1.__name__, earwitness.paging.__name__)") == (
        "earwitness.v1 earwitness.paging"
    )
