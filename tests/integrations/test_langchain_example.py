"""The page and the script in ``integrations/langchain`` run as they stand, on the built-in pair."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from dami_agent import ReasoningPolicy

FOLDER = Path(__file__).parent.parent.parent / "integrations" / "langchain"
BLOCKS = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(autouse=True)
def _own_ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAMI_LEDGER", str(tmp_path / "ledger.sqlite"))


def test_the_first_block_is_short() -> None:
    assert len(BLOCKS) == 2
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 25


def test_the_projects_page_shows_the_same_in_its_second_section() -> None:
    """tests/test_readme.py runs it as it stands there."""
    page = (FOLDER.parent.parent / "README.md").read_text(encoding="utf-8")
    second = page.split("\n## ")[1]
    (block,) = re.findall(r"```python\n(.*?)```", second, flags=re.DOTALL)
    assert block == BLOCKS[0]
    for part in ("policy=policy", "ReasoningBudgetMiddleware(", "dami_agent.trace("):
        assert part in block


def test_a_policy_a_middleware_and_a_trace() -> None:
    seen: dict[str, object] = {"__name__": "readme"}
    exec(compile(BLOCKS[0], "README.md", "exec"), seen)
    steps = seen["t"].steps  # type: ignore[attr-defined]
    assert steps
    assert sum(step.output_tokens for step in steps) <= 600
    assert any(step.rule == "tools.get_price" for step in steps)
    assert all(step.intensity <= 0.3 for step in steps if step.rule == "tools.get_price")


def test_a_policy_per_run(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(BLOCKS[1], "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()


def test_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert ReasoningPolicy.from_file(FOLDER / "policy.yaml").name == "shop"
    runpy.run_path(str(FOLDER / "agent.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "What is the price of a lamp? ->" in out
    assert "get_price" in out.split("->", 1)[1]
