"""Expected failures of the standard suites are counted from pytest's own JUnit file."""

from __future__ import annotations

from pathlib import Path

import pytest

from builtin_pair.acceptance.junit import counted
from dami_agent.errors import UsageError

SUITE = """
import pytest

def test_right(): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert False

def test_skipped(): pytest.skip("not offered")
"""


def junit(pytester: pytest.Pytester, suite: str) -> Path:
    pytester.makepyfile(suite)
    pytester.runpytest("-p", "no:cacheprovider", "--junitxml=found.xml")
    return pytester.path / "found.xml"


def test_counts_of_what_pytest_writes(pytester: pytest.Pytester) -> None:
    assert counted(junit(pytester, SUITE)) == {"tests": 3, "passed": 1, "skipped": 1, "xfailed": 1}


def test_a_suite_that_fails_is_no_result(pytester: pytest.Pytester) -> None:
    with pytest.raises(UsageError, match="test_wrong"):
        counted(junit(pytester, SUITE + "\ndef test_wrong(): assert False\n"))


@pytest.mark.parametrize("text", [None, "<testsuites", "<testsuites/>"])
def test_no_tests_are_no_result(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "found.xml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=r"found\.xml"):
        counted(path)
