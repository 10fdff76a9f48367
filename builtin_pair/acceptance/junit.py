"""LangChain's standard suites, counted from the JUnit file pytest wrote of them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from dami_agent.errors import UsageError

COMMAND = "python -m pytest tests/chat_model/test_standard.py --junitxml=results/standard.xml"


def counted(path: Path) -> dict[str, int]:
    """Count ``tests``, and how many of them ``passed``, were ``skipped`` or ``xfailed`` (failed as was expected).

    Raises:
        UsageError: the file cannot be read, is of no test, or tells of a test that failed.
    """
    hint = f"write it with `{COMMAND}`"
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint=hint) from error
    failed = [
        case.get("name", "") for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    if failed or not cases:
        told = f"tests that failed: {', '.join(failed)}" if failed else "no test"
        raise UsageError(f"{path} tells of {told}", hint=hint)
    kinds = [found.get("type") for case in cases if (found := case.find("skipped")) is not None]
    xfailed = kinds.count("pytest.xfail")
    skipped = len(kinds) - xfailed
    return {"tests": len(cases), "passed": len(cases) - len(kinds), "skipped": skipped, "xfailed": xfailed}
