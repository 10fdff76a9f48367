"""The docstring of ChatDAMI has what LangChain's partner packages show, and its examples run."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from dami_agent.chat_model import ChatDAMI

DOC = inspect.getdoc(ChatDAMI) or ""
SECTIONS = [
    "Setup",
    "Key init args — completion params",
    "Key init args — client params",
    "Instantiate",
    "Invoke",
    "Stream",
    "Async",
    "Tool calling",
    "Structured output",
    "Reasoning intensity and budgets",
    "Token usage",
    "Logprobs",
    "Response metadata",
    "Raises",
]


def test_the_sections_stand_in_order() -> None:
    assert re.findall(r"^(\S.*):$", DOC, flags=re.MULTILINE) == SECTIONS


def test_the_named_arguments_exist() -> None:
    section = DOC.split("completion params:")[1].split("Instantiate:")[0]
    names = [
        name for line in re.findall(r"^    ([a-z_, ]+): ", section, flags=re.MULTILINE) for name in line.split(", ")
    ]
    assert len(names) > 10
    assert set(names) - {"model"} <= set(ChatDAMI.model_fields)


@pytest.mark.slow
def test_the_examples_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DAMI_LEDGER", str(tmp_path / "ledger.sqlite"))
    blocks = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", DOC, flags=re.DOTALL)]
    assert len(blocks) == 11
    scope: dict[str, Any] = {"__name__": "docstring"}

    async def run() -> None:
        for block in blocks:
            code = compile(block, "ChatDAMI.__doc__", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, scope)
            if inspect.isawaitable(result):
                await result

    asyncio.run(run())
    shown = capsys.readouterr().out
    assert "[{'name': 'get_price', 'args': {'item': 'lamp'}" in shown
    assert "item='lamp' count=3" in shown
    assert scope["full"].text == "".join(chunk.text for chunk in scope["model"].stream(scope["messages"]))
    assert scope["shallow"].response_metadata["intensity"] == 0.0
    assert scope["deep"].response_metadata["intensity"] == 1.0
    assert scope["deep"].usage_metadata["output_token_details"]["reasoning"] <= 64
    assert len(scope["replies"]) == 2
