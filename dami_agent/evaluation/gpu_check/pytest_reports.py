"""Write what became of every test to a file, a line of JSON each, as soon as it has ended; a plugin of pytest."""

from __future__ import annotations

import json
import os
from typing import Any


def pytest_runtest_logreport(report: Any) -> None:
    """Append the report of a test that ran, was skipped, or could not be set up or torn down."""
    if report.when != "call" and report.outcome == "passed":
        return
    row = {
        "name": report.nodeid,
        "outcome": report.outcome,
        "seconds": round(report.duration, 2),
        "printed": report.capstdout[-4000:],
        "said": "" if report.outcome == "passed" else report.longreprtext[-4000:],
    }
    with open(os.environ["DAMI_TEST_REPORTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
