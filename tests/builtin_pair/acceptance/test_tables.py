"""Tables and lists show what was measured, with its verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from builtin_pair.acceptance import publish
from builtin_pair.acceptance.tables import BLOCKS
from dami_agent.checkpoints import CheckpointPair
from dami_agent.tasks import UNSEEN
from tests.builtin_pair.acceptance.measured import (
    AGAINST,
    a_bench,
    a_bench_on,
    a_budget_curve,
    a_comparison,
    a_leaderboard,
    some_heads,
)


def test_what_a_shared_prefix_costs_is_shown_with_its_verdict(results: Path, root: Path) -> None:
    publish.publish(results, root)
    lines = (root / "docs/policy.md").read_text(encoding="utf-8").splitlines()
    shown = [line for line in lines if line.startswith(("| questions", "| agents"))]
    assert shown == [
        "| questions, λ=0.2 | 0.500 at 20 | 0.520 at 21 | +2.0 (−1.0 to +5.0) | 1.05 (1.00 to 1.10) | yes |",
        "| questions, λ=0.4 | 0.500 at 20 | 0.520 at 21 | +2.0 (−1.0 to +5.0) | 1.20 (1.00 to 1.10) | **no** |",
        "| agents, λ per step | 60 at 12,345 | 57 at 12,345 | −5.0 (−12.0 to +2.0) | 0.41 (0.38 to 0.44) | **no** |",
    ]


def test_every_block_is_a_well_formed_table_or_a_list(results: Path) -> None:
    read_back, stale = publish.read_results(results, CheckpointPair.builtin())
    assert not stale
    assert len(BLOCKS) == 26
    for name, (source, write) in BLOCKS.items():
        if name.startswith("limits_"):
            items, blank, last = write(read_back[source]).rpartition("\n\n")
            assert items.startswith(("- **", "- Under none")), name
            assert blank, name
            assert last.startswith("(`dami bench"), name
            continue
        lines = [line for line in write(read_back[source]).splitlines() if line.startswith("|")]
        assert len(lines) >= 3, name
        assert len({line.count("|") for line in lines}) == 1, name


def test_runs_without_an_answer_are_told() -> None:
    assert "Of all 1,206 runs 0 ended with a blank answer, 6 with an error." in BLOCKS["agents"][1](a_bench())


def test_strangers_tools_are_shown_by_category_with_what_failed() -> None:
    text = BLOCKS["bfcl"][1](a_leaderboard())
    assert "| λ=0.5 | valid | 0.120 ± 0.064 | 0.000 ± 0.064 | 0.100 ± 0.064 | 0.200 ± 0.064 |" in text
    assert "100 simple_python, 100 multiple" in text
    assert "Requests that raised an error: 2 ContextOverflow." in text
    assert "3 at λ=0, 3 at λ=0.5, 3 at λ=1." in text


def test_bars_show_a_missed_one(results: Path) -> None:
    data = json.loads((results / "sweep.json").read_text())
    assert data["criteria"][0]["name"] == "thinking"
    shown = BLOCKS["bars"][1](
        data | {"criteria": [data["criteria"][0] | {"met": False, "value": 0.5, "interval": None}]}
    )
    assert "| Thinking over all | 75 to 92 % | **no** |" in shown
    assert "| 50.0 % |" in shown


def test_the_pair_is_described_from_its_files() -> None:
    pair = CheckpointPair.builtin()
    found_facts = publish.facts(pair)
    size = (pair.instruct.path / "model.safetensors").stat().st_size
    assert 0 < size - found_facts["bytes"] < 100_000
    assert found_facts["bytes"] == 2 * found_facts["parameters"]
    assert str(found_facts["num_hidden_layers"]) in BLOCKS["pair"][1](found_facts)


def test_agents_on_unseen_tasks_stand_under_their_modes(results: Path) -> None:
    found = publish.read_results(results, CheckpointPair.builtin())[0]["unseen"]
    text = BLOCKS["agents_unseen"][1](found)
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert [row[:2] for row in rows] == [["template", "102"], ["name", "102"], ["length", "102"]]
    assert header[2:] == [
        "always Instruct (λ=0)",
        "always Thinking (λ=1)",
        "**λ per step** (`auto`)",
        "**a policy file with budgets per tool**",
    ]
    assert [row[2:] for row in rows] == [[f"{first + place} ± 9" for first in (43, 46, 40, 49)] for place in range(3)]
    assert "seeds 0 to 2;" in text
    assert "seeds 0 to 2 and seed 7;" in BLOCKS["agents_unseen"][1](found | {"name": found["name"] | {"seeds": [7]}})


def test_bars_of_agents_are_judged_by_what_was_measured() -> None:
    def met(bench: dict[str, Any]) -> list[str]:
        lines = BLOCKS["agent_bars"][1](bench).splitlines()[2:]
        return [line.strip("|").split("|")[-1].strip() for line in lines if line.startswith("|")]

    bench = a_bench()
    assert met(bench) == ["**no**", "**no**", "**no**", "**no**", "yes", "yes"]  # 74.6 % each, -2 points at 41 %
    good = {
        "instruct": {"solved": 100},
        "thinking": {"solved": 190},
        "dami": {"against_thinking": AGAINST | {"solved": -0.01, "tokens": 0.45}},
        "oracle": {"against_thinking": AGAINST | {"solved": 0.0, "tokens": 0.4}},
    }
    modes = {name: mode | good.get(name, {}) for name, mode in bench["modes"].items()}
    assert met(bench | {"modes": modes}) == ["yes"] * 6
    few = {"lambdas": {"0": 800, "0.4": 49, "0.8": 71, "1": 80}}
    blank = {"modes": modes | {"instruct": modes["instruct"] | {"empty": 2}}}
    assert met(bench | few | blank)[-2:] == ["**no**", "**no**"]


def test_heads_are_shown_at_the_price_they_are_used_at_beside_both_ends() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in BLOCKS["heads"][1](some_heads()).splitlines()
    ]
    shown = [row[1:] for row in rows[2:] if len(row) == 6]
    assert [row[0].split(":")[0] for row in shown] == 2 * ["λ=0", "λ=1", "`preference`", "`confidence`"]
    assert shown[1] == ["λ=1", "0.850", "270.0", "-", "-"]
    assert shown[3][1:] == ["0.810", "101.0", "-10.0 ± 1.0", "+6.0 ± 2.0"]
    assert shown[6][1:] == ["0.820", "102.0", "-10.0 ± 1.0", "+7.0 ± 2.0"]


def test_lambda_per_question_and_its_rivals_are_shown(results: Path, root: Path) -> None:
    publish.publish(results, root)
    lines = (root / "docs/results.md").read_text(encoding="utf-8").splitlines()
    for line in (
        "| at this share of Thinking's tokens | 37% | 50% |",
        "| more than fixed | −1.2 ± 2.0 | −1.2 ± 2.0 |",
        "| more than caps | +30.0 ± 2.0 | +30.0 ± 2.0 |",
        "| of the oracle's gain on fixed λs | 50% | – |",
        "| linear | λ=0.2 | 0.700 | 109 | 99.9% | – |",
        "| slerp | t=0.2 | 0.700 | 109 | 99.9% | +0.4 ± 2.0 |",
    ):
        assert line in lines
    assert any("beyond Thinking's tokens: majority 0.860 at 300%. (" in line for line in lines)


def test_what_does_as_well_as_lambda_per_step_is_said() -> None:
    """The cheapest fixed λ that solves no fewer tasks is named, not the best; Thinking's lead under budgets too."""
    bench = a_bench()
    own = bench["modes"]["dami"]
    modes = {
        "lambda=0.3": own | {"solved": 149, "output_tokens": 1},
        "lambda=0.5": own | {"output_tokens": 20_000},
        "lambda=0.8": own | {"solved": 160, "output_tokens": 30_000},
        "router": own | {"solved": 151},
        "thinking": own | {"solved": 155},
        "oracle": own | {"solved": 170, "output_tokens": 9_000},
    }
    said = BLOCKS["limits_agents"][1](bench | {"modes": bench["modes"] | modes})
    for words in (
        "A router between λ=0 and λ=1 solves 151 of 201 at 12,345 tokens, λ per step 150 of 201 at 12,345 tokens.",
        "λ=0.5 throughout solves 150 of 201 at 20,000 tokens",
        "(70% of all) take 20 tokens, of Instruct 20",
        "would solve 170 of 201 at 9,000 tokens; λ per step is 20 tasks from that, always-Thinking 15.",
    ):
        assert words in said

    said = BLOCKS["limits_questions"][1](a_comparison())
    assert said.startswith("- **fixed**: −1.2 ± 2.0 at 37%, −1.2 ± 2.0 at 50% of Thinking's tokens.\n\n")  # not caps
    above = a_comparison()
    for budget in above["budgets"]:
        budget["gains"]["fixed"] = {"gain": 0.021, "ci": 0.02}
    assert "λ per question is clearly above every rival." in BLOCKS["limits_questions"][1](above)

    curve = a_budget_curve()
    assert "Under none of the budgets does Thinking solve more." in BLOCKS["limits_budgets"][1](curve)
    behind = {**curve["points"][0], "share": 4.0, "auto_against_thinking": AGAINST}
    said = BLOCKS["limits_budgets"][1](curve | {"points": [*curve["points"], behind]})
    assert said.count("per run") == 1
    assert "per run 400%, −2.0 (−5.0 to +1.0)." in said

    benches = {kind: a_bench_on(kind) for kind in UNSEEN}  # of a template auto 40, Thinking 46, the file 49
    said = BLOCKS["limits_unseen"][1](benches)
    assert "**An unseen template.** Of 102 tasks Thinking solves 46, **λ per step** (`auto`) 40." in said
    level = {kind: bench | {"modes": {key: {"solved": 9} for key in bench["modes"]}} for kind, bench in benches.items()}
    assert "Of none of the unseen kinds does Thinking solve more." in BLOCKS["limits_unseen"][1](level)
