"""Suites that run inside the guest; each of their tests is reported here as a subtest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from suites import SUITES, Suite

from image.guest.report import SKIPPED, Case, cases, summary
from image.guest.session import Guest

REPORT = "/tmp/report.xml"
PER_TEST_S = 600  # emulated: pytest's own limit for tests on real machines is too short
MARGIN_S = 300.0


def judge(subtests: pytest.Subtests, case: Case) -> None:
    """Passes, skips or fails as the test inside did."""
    with subtests.test(msg=case.name):
        if case.bad:
            pytest.fail(f"{case.outcome} in the guest: {case.text}", pytrace=False)
        if case.outcome == SKIPPED:
            pytest.skip(case.text)


@pytest.fixture(scope="module")
def guest(boot: Callable[[int], Guest]) -> Iterator[Guest]:
    """One for all suites, and for nothing else. What is inside comes first: it wants disks without a pool."""
    made = boot(3)
    yield made
    made.close()


@pytest.mark.timeout(max(suite.timeout for suite in SUITES) + MARGIN_S)
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_suite_in_the_guest(
    suite: Suite,
    guest: Guest,
    subtests: pytest.Subtests,
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    words = ["pytest", f"--junitxml={REPORT}", "-o", f"timeout={PER_TEST_S}", *suite.words]
    result = guest.run(words, suite.timeout, check=False)
    (tmp_path / "pytest.log").write_bytes(result.out + result.err)
    assert result.code in (0, 1), guest.describe(result.describe())
    report = guest.get(REPORT)
    (tmp_path / "report.xml").write_bytes(report)
    ran = cases(report)
    tell(f"{suite.name}: {summary(ran)}")
    assert any(case.outcome != SKIPPED for case in ran), "no test ran in the guest"
    for case in ran:
        judge(subtests, case)
    assert (result.code != 0) == any(case.bad for case in ran), result.describe()
