"""What measuring writes, in small, for tests of what is published."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

from builtin_pair.acceptance.accept import accepted
from builtin_pair.acceptance.talk_tables import KINDS, TALK
from dami_agent.checkpoints import CheckpointPair
from dami_agent.evaluation import confidence_rule, controls, rows
from dami_agent.evaluation.confidence_rule import Observation
from dami_agent.evaluation.outcomes import packed
from dami_agent.tasks import FAMILIES, LEVELS, UNSEEN, Unseen
from dami_agent.types import Intensity
from tests.evaluation.outcomes import asked, found, outcome

FINGERPRINT = CheckpointPair.builtin().fingerprint


def a_sweep() -> dict[str, Any]:
    """A sweep's JSON from random outcomes, through the functions that a real one goes through."""
    rng = random.Random(3)
    questions = asked(300)
    outcomes = found(questions)
    tries = [[outcome(rng.random() < 0.6, rng.randint(9, 99), logprob=-rng.random()) for _ in range(30)]] * 5
    tools = [
        {"setting": name, "lambda": at, "exact": 0.9, "exact_ci": 0.03, "dialogues": 300}
        for name in ("one unseen tool", "one of three unseen tools")
        for at in (0.0, 1.0)
    ]
    unseen = [
        {"kind": kind, "lambda": 1.0, "accuracy": 0.8, "seen": 0.85, "gap": 0.05, "gap_ci": 0.04, "finished": 1.0}
        | {"questions": 300}
        for kind in ("template", "name", "length")
    ]
    accuracy = {"accuracy": 0.5, "tokens": 20.0}
    result: dict[str, Any] = {
        "rows": [rows.summary(value, questions, each) for value, each in outcomes.items()],
        "questions": 300,
        "seeds": 3,
        "switch_point": 0.0,
        "pair": "dami-builtin",
        "fingerprint": FINGERPRINT,
        "temperature": 0.7,
        "families": list(FAMILIES),
        "levels": list(LEVELS),
        "switch": [{"lambda": 0.5, "instruct": accuracy, "thinking": accuracy, "gain": 0.0, "gain_ci": 0.1}],
        "tools": tools,
        "controls": controls.compare([Intensity(v) for v in (0, 0.5, 1)], tries),
        "outcomes": packed(outcomes),
    }
    return json.loads(json.dumps(accepted(result, unseen)))


def a_leaderboard() -> dict[str, Any]:
    row = {"items": 100, "valid": 0.12, "valid_ci": 0.064, "name": 0.5, "name_ci": 0.097, "tokens": 61.2}
    row |= {"unreadable": 3, "errors": {}}
    by_category = {name: row | {"valid": at / 10} for at, name in enumerate(("simple_python", "multiple", "parallel"))}
    rows = [row | {"lambda": at, "items": 300, "by_category": by_category, "faults": {}} for at in (0.0, 0.5, 1.0)]
    rows[1] = rows[1] | {"errors": {"ContextOverflow": 2}}
    return {"fingerprint": FINGERPRINT, "seed": 0, "max_tokens": 1024, "items": 300, "rows": rows}


AGAINST = {"solved": -0.02, "solved_ci": [-0.05, 0.01], "tokens": 0.41, "tokens_ci": [0.38, 0.44]}


def a_bench() -> dict[str, Any]:
    by_depth = {depth: {"steps": 10, "tokens": 20.0, "mean_lambda": 0.1} for depth in ("0", "4")}
    mode = {
        "solved": 150,
        "tasks": 201,
        "solved_ci": 11.8,
        "output_tokens": 12345,
        "against_thinking": AGAINST,
        "by_depth": by_depth,
        "empty": 0,
        "errors": {"GraphRecursionError": 1},
    }
    changed = {"steps": 9, "ruled": 1, "lambda_changed": 0, "capped": 0, "changed": 0, "tokens_saved": 0.0}
    return {
        "tasks": 201,
        "seeds": [0, 1, 2],
        "unseen": None,
        "modes": dict.fromkeys(("dami", "instruct", "thinking", "lambda=0.5", "shuffled", "oracle"), mode),
        "policy": {"against_auto": changed},
        "best_static": AGAINST | {"mode": "lambda=0.5"},
        "depths": {"0": 0.7, "4": 0.3},
        "lambda_by_depth": 0.61,
        "lambdas": {"0": 800, "0.4": 60, "0.8": 60, "1": 80},
        "fingerprint": FINGERPRINT,
    }


def some_requests() -> dict[str, Any]:
    row = {"solved": 120, "solved_ci": 13.4, "cases": 200, "tokens": 4321, "empty": 0}
    rows = [row | {"lambda": at, "by_kind": dict.fromkeys(KINDS, "9/20")} for at in ("auto", 0.0)]
    return {"fingerprint": FINGERPRINT, "seed": 0, "rows": rows}


def some_conversations() -> dict[str, Any]:
    row = {f"{kind}, {words} words": "18/20" for kind in TALK for words in ("known", "new")} | {"empty": 1}
    rows = [row | {"lambda": at} for at in ("auto", 0.0)]
    return {"fingerprint": FINGERPRINT, "seed": 0, "questions": 60, "rows": rows}


def a_shared_prefix() -> dict[str, Any]:
    ends = {"accuracy": 0.5, "tokens": 20.0}, {"accuracy": 0.52, "tokens": 21.0}
    row = {"lambda": 0.2, "exact": ends[0], "shared": ends[1], "difference": 0.02, "difference_ci": [-0.01, 0.05]}
    row |= {"tokens_ratio": 1.05, "tokens_ratio_ci": [1.0, 1.1]}
    solved = {"solved": 60, "output_tokens": 12_345}
    agents = {"mode": "dami", "exact": solved, "shared": solved | {"solved": 57}, **AGAINST, "solved_ci": [-0.12, 0.02]}
    agents |= {"solved": -0.05}
    return {
        "intensity": 1.0,
        "free": False,
        "rows": [row, row | {"lambda": 0.4, "tokens_ratio": 1.2}],
        "agents": [agents],
        "questions": 2100,
        "tasks": 402,
        "seeds": 3,
        "fingerprint": FINGERPRINT,
    }


def a_budget_curve() -> dict[str, Any]:
    arm = {"solved": 100, "solved_ci": 12.2, "thought_per_task": 70.0}
    point = {
        "scope": "run",
        "share": 0.5,
        "budget": 71.0,
        "arms": {"auto": arm, "thinking": arm | {"solved": 90}, "lambda=0.5": arm},
        "auto_against_thinking": AGAINST | {"solved": 0.05},
        "auto_against_free": AGAINST | {"solved": -0.04},
    }
    return {
        "tasks": 201,
        "auto": arm | {"thought_per_task": 142.0},
        "points": [point, point | {"scope": "tool"}],
        "pair": "dami-builtin",
        "fingerprint": FINGERPRINT,
    }


def a_bench_on(unseen: Unseen) -> dict[str, Any]:
    """A result of agents on tasks with something unseen, in which every mode has a number of its own."""
    modes = {
        name: {"solved": 40 + 3 * place + UNSEEN.index(unseen), "tasks": 102, "solved_ci": 9.4}
        for place, name in enumerate(("dami", "instruct", "thinking", "policy"))
    }
    return a_bench() | {"tasks": 102, "unseen": unseen, "modes": modes}


def a_calibration() -> dict[str, Any]:
    rng = random.Random(5)
    observed = [
        Observation(
            kind=rng.choice(("question", "call")),
            own=(-rng.random(),),
            scored=(-rng.random(),),
            probe_tokens=1,
            right=(rng.random() < 0.5, True, True),
            tokens=(1, 20, 40),
        )
        for _ in range(60)
    ]
    return confidence_rule.report(observed, (0.0, 0.5, 1.0)) | {"fingerprint": FINGERPRINT}


def some_heads() -> dict[str, Any]:
    """Two heads for each kind of prompt; each has numbers of its own."""
    ends = [{"lambda": 0.0, "accuracy": 0.6, "tokens": 19.0}, {"lambda": 1.0, "accuracy": 0.85, "tokens": 270.0}]
    cards = []
    for place, (kind, reads) in enumerate(itertools.product(("plain", "tools"), ("states", "probe"))):
        prices = [
            {
                "price": price,
                "accuracy": 0.8 + place / 100,
                "tokens": 100.0 + place,
                "gain": -price,
                "gain_ci": 0.01,
                "static_gain": 0.05 + place / 100,
                "static_gain_ci": 0.02,
            }
            for price in (0.0, 0.1, 0.2)
        ]
        cards.append({"kind": kind, "reads": reads, "prompts": 300, "fixed": ends, "prices": prices, "price": 0.1})
    return {"fingerprint": FINGERPRINT, "cards": [card | {"prompts": 500} for card in cards], "test": cards}


def a_comparison() -> dict[str, Any]:
    """A result of ``dami bench quality``."""
    gain = {"gain": -0.012, "ci": 0.02}
    budget = {"accuracy": 0.77, "tokens": 100.0, "share": 0.35, "gains": {"fixed": gain, "caps": gain | {"gain": 0.3}}}
    budget |= {"oracle_share": 0.5, "other_families_over_fixed": gain}
    return {
        "fingerprint": FINGERPRINT,
        "method": "head on states",
        "questions": 2100,
        "learned": 700,
        "thinking": {"accuracy": 0.843, "tokens": 270.0},
        "budgets": [budget, budget | {"tokens": 135.0, "oracle_share": None}],
        "areas": {"fixed": 0.75, "oracle": 0.9},
        "curves": {
            "fixed": [{"accuracy": 0.843, "tokens": 270.0}],
            "majority": [{"accuracy": 0.85, "tokens": 540.0}, {"accuracy": 0.86, "tokens": 810.0}],
        },
        "at_most_thinking": gain | {"tokens": 0.9},
        "even": gain | {"tokens": 0.6},
    }


def some_merges() -> dict[str, Any]:
    row = {"method": "linear", "settings": "λ=0.2", "accuracy": 0.7, "tokens": 109.4, "finished": 0.999}
    rows = [row, row | {"method": "slerp", "settings": "t=0.2", "gain": 0.004, "gain_ci": 0.02}]
    return {"fingerprint": FINGERPRINT, "questions": 600, "seeds": 3, "rows": rows}


def block(name: str, text: str = "old") -> str:
    return f"<!-- results:{name} -->\n{text}\n<!-- /results:{name} -->\n"
