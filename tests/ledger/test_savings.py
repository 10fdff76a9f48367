"""Expected savings without the command line, against sums by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from dami_agent.errors import InvalidPolicy
from dami_agent.ledger import Ledger, Savings
from dami_agent.policy import Frontier
from dami_agent.types import Intensity
from tests.ledger.records import make_record

ROWS = [{"lambda": at, "accuracy": 0.5, "tokens": tokens} for at, tokens in ((0.0, 10.0), (0.5, 30.0), (1.0, 90.0))]
TOOLS = [{"lambda": at, "tokens": tokens} for at, tokens in ((0.0, 4.0), (0.0, 8.0), (1.0, 20.0), (1.0, 30.0))]


def test_savings_from_python(tmp_path: Path) -> None:
    file = tmp_path / "frontier.json"
    file.write_text(json.dumps({"pair": "mine", "rows": ROWS, "tools": TOOLS}))
    savings = Savings(Frontier.from_file(file), Frontier.from_file(file, of="tools"))
    ledger = Ledger.open(":memory:")
    for seed, bound in ((1, True), (2, False)):
        record = make_record(seed)
        assert record.generation is not None
        generation = dataclasses.replace(record.generation, intensity=Intensity(0.25), answer_intensity=None)
        step = record.step if bound else dataclasses.replace(record.step, tools=())
        ledger.record(dataclasses.replace(record, step=step, generation=generation, discarded_tokens=3))
    with_tools, without = ledger.rows()
    assert savings.expected(with_tools) == 25 - (6 + 0.25 * (25 - 6)) - with_tools.probe_tokens - 3
    assert savings.expected(without) == 90 - 20 - without.probe_tokens - 3
    total = savings.total([with_tools, without])
    assert total == (savings.expected(with_tools) or 0) + (savings.expected(without) or 0)
    assert savings.statement([without])["frontiers"] == ["mine (frontier.json)"]
    other = Savings(Frontier.from_file(file), model="another")
    assert (other.expected(without), other.total([without]), Savings(None).expected(without)) == (None, None, None)


def test_a_frontier_with_damaged_tool_dialogues_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "frontier.json"
    file.write_text(json.dumps({"pair": "mine", "rows": ROWS, "tools": [{"lambda": 1}]}))
    assert Frontier.from_file(file).rows
    with pytest.raises(InvalidPolicy, match=r"frontier frontier\.json: tools: KeyError: 'tokens'"):
        Frontier.from_file(file, of="tools")
