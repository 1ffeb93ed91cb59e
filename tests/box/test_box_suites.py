"""Suites that run inside the guest; each of their tests is reported here as a subtest."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from suites import SUITES, Suite

from image.guest.session import Guest

REPORT = "/tmp/report.xml"
PER_TEST_S = 600  # emulated: pytest's own limit for tests on real machines is too short
MARGIN_S = 300.0


@dataclass(frozen=True)
class Case:
    """One test of a report: `outcome` is passed, skipped, failure or error, with what pytest said of it."""

    name: str
    outcome: str
    text: str


def cases(report: bytes) -> list[Case]:
    """The tests in a JUnit report."""
    found = []
    for element in ElementTree.fromstring(report).iter("testcase"):
        name = f"{element.get('classname')}::{element.get('name')}"
        said = next((child for child in element if child.tag in ("failure", "error", "skipped")), None)
        if said is None:
            found.append(Case(name, "passed", ""))
        else:
            found.append(Case(name, said.tag, f"{said.get('message')}\n{said.text or ''}"))
    return found


def judge(subtests: pytest.Subtests, case: Case) -> None:
    """Passes, skips or fails as the test inside did."""
    with subtests.test(msg=case.name):
        if case.outcome == "skipped":
            pytest.skip(case.text)
        if case.outcome != "passed":
            pytest.fail(f"{case.outcome} in the guest: {case.text}", pytrace=False)


@pytest.mark.timeout(max(suite.timeout for suite in SUITES) + MARGIN_S)
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_suite_in_the_guest(
    suite: Suite, boot: Callable[[int], Guest], subtests: pytest.Subtests, tmp_path: Path
) -> None:
    guest = boot(suite.disks)
    words = [
        "pytest",
        f"--junitxml={REPORT}",
        "-o",
        f"timeout={PER_TEST_S}",
        "-p",
        "no:cacheprovider",
        *suite.words,
    ]
    result = guest.run(words, suite.timeout, check=False)
    (tmp_path / "pytest.log").write_bytes(result.out + result.err)
    assert result.code in (0, 1), guest.describe(result.describe())
    report = guest.get(REPORT)
    (tmp_path / "report.xml").write_bytes(report)
    guest.close()
    ran = cases(report)
    assert any(case.outcome != "skipped" for case in ran), "no test ran in the guest"
    for case in ran:
        judge(subtests, case)
    assert (result.code == 0) == all(case.outcome in ("passed", "skipped") for case in ran), result.describe()
