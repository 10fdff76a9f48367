"""``dami policy check`` names what a policy speaks of and nobody has."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from dami_agent.cli.app import app

TEXT = "tools: {get_prise: {intensity: 0}, search: {intensity: 0}}\nnodes: {planer: {intensity: 1}}\n"


def test_misspelt_names_are_found_and_the_right_ones_suggested(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(TEXT)
    run = CliRunner().invoke(app, ["policy", "check", str(path), "--tools", "get_price, search", "--nodes", "planner"])
    assert run.exit_code == 1
    assert run.output.splitlines() == [
        "tools.get_prise: there is no tool 'get_prise'; did you mean 'get_price'?",
        "nodes.planer: there is no node 'planer'; did you mean 'planner'?",
    ]
    right = CliRunner().invoke(app, ["policy", "check", str(path), "--tools", "get_prise,search"])
    assert (right.exit_code, right.output) == (0, "p: 5 rules, no problem found\n")


def test_names_in_a_file_are_not_obeyed_by_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(json.dumps({"name": "\x9b2J", "tools": {"a\x1b[31m\u202e\nforged line": {"intensity": 0}}}))
    wrong = CliRunner().invoke(app, ["policy", "check", str(path), "--tools", "add\x1b[31m"])
    assert wrong.exit_code == 1
    assert wrong.output.startswith(r"tools.a\x1b[31m\u202e\nforged line: there is no tool")
    right = CliRunner().invoke(app, ["policy", "check", str(path)])
    for output in (wrong.output, right.output):
        assert not set("\x1b\x9b\u202e") & set(output)
        assert output.count("\n") == 1
