"""The checklist: every criterion met by a pair that is good, and missed by one that is not."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from itertools import pairwise
from typing import Any

import pytest

from builtin_pair.acceptance.criteria import criteria
from builtin_pair.acceptance.criterion import Criterion, measured
from builtin_pair.acceptance.parity_cells import parity_cells
from dami_agent.evaluation.call_batches import AnswerOutcome
from dami_agent.types import Intensity
from tests.evaluation.outcomes import asked, found

QUESTIONS = asked(1500)
GOOD = found(QUESTIONS)

Found = dict[Intensity, list[AnswerOutcome]]


@functools.cache
def good_parity() -> dict[str, Any]:
    return parity_cells(QUESTIONS, GOOD[Intensity(0)], GOOD[Intensity(1)])


@functools.cache
def good() -> dict[str, Criterion]:
    """What is said of the good pair; half a second of resampling."""
    return judged(GOOD)


def result(outcomes: Found, **other: Any) -> dict[str, Any]:
    """What else the bars read, as a good pair has it."""
    tools = [
        {"setting": setting, "lambda": value, "exact": 0.99, "dialogues": 300}
        for setting in ("one unseen tool", "one of three unseen tools")
        for value in (0.0, 1.0)
    ]
    unseen = [
        {"kind": kind, "lambda": value, "gap": 0.02, "gap_ci": 0.05}
        for kind in ("template", "name", "length")
        for value in (0.0, 1.0)
    ]
    totals = {"accuracy": 0.97, "tokens": 40.0}
    tried = {"difference": 0.02, "difference_ci": 0.01, "tries": 5, "questions": 300}
    tried |= {"oracle": totals, "pass_at_k": totals}
    ends = outcomes[Intensity(0)], outcomes[Intensity(1)]
    unchanged = ends[0] is GOOD[Intensity(0)] and ends[1] is GOOD[Intensity(1)]
    parity = good_parity() if unchanged else parity_cells(QUESTIONS, *ends)
    parity = parity | {"share": 0.6, "share_ci": [0.5, 0.7], "tokens_ratio": 0.1}
    return {"tools": tools, "unseen": unseen, "controls": tried, "parity": parity} | other


def judged(outcomes: Found, **other: Any) -> dict[str, Criterion]:
    return {criterion.name: criterion for criterion in criteria(QUESTIONS, outcomes, result(outcomes, **other))}


def changed(value: float, change: Any) -> Found:
    """The good pair with the outcomes at one λ changed."""
    key = Intensity(value)
    return GOOD | {key: [change(q, o) for (_, q), o in zip(QUESTIONS, GOOD[key], strict=True)]}


def wrong_unless(keep: Any) -> Any:
    return lambda q, o: dataclasses.replace(o, right=o.right and keep(q))


def test_a_good_pair_meets_every_criterion() -> None:
    told = good()
    assert len(told) == 17
    for name, criterion in told.items():
        if name != "standard_suites":
            assert criterion.met, criterion
            assert criterion.value is not None
            if criterion.interval is not None and name != "levels":
                assert criterion.interval[0] <= criterion.value <= criterion.interval[1], criterion


def test_values_are_plain_counts() -> None:
    told = good()
    instruct, thinking = GOOD[Intensity(0)], GOOD[Intensity(1)]
    accuracy = statistics.fmean(o.right for o in thinking)
    assert told["thinking"].value == pytest.approx(accuracy)
    assert told["lead"].value == pytest.approx(accuracy - statistics.fmean(o.right for o in instruct))
    first = [i for i, (_, q) in enumerate(QUESTIONS) if q.level == 1]
    assert told["instruct_level_1"].value == pytest.approx(statistics.fmean(instruct[i].right for i in first))
    share = sum(instruct[i].tokens for i in first) / sum(thinking[i].tokens for i in first)
    assert told["instruct_level_1_tokens"].value == pytest.approx(share)
    means = [statistics.fmean(o.tokens for o in GOOD[value]) for value in sorted(GOOD)]
    steps = [b - a for a, b in pairwise(means)]
    assert told["tokens"].value == pytest.approx(max(steps) / (means[-1] - means[0]))
    assert told["finish"].value == pytest.approx(min(statistics.fmean(o.finished for o in x) for x in GOOD.values()))


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("thinking", changed(1, lambda _, o: dataclasses.replace(o, right=True))),
        ("thinking", changed(1, wrong_unless(lambda q: q.level < 4))),
        ("lead", GOOD | {Intensity(0): GOOD[Intensity(1)]}),
        ("instruct_level_1", changed(0, wrong_unless(lambda q: q.family != "chain"))),
        ("instruct_level_1_tokens", changed(0, lambda _, o: dataclasses.replace(o, tokens=30))),
        ("levels", changed(0, wrong_unless(lambda q: q.level != 3))),
        ("finish", changed(0.5, lambda q, o: dataclasses.replace(o, finished=q.level > 1))),
        ("dips", changed(0.75, wrong_unless(lambda q: q.level < 5))),
        ("tokens", changed(0.75, lambda _, o: dataclasses.replace(o, tokens=o.tokens - 30))),
        ("tokens", changed(0.25, lambda _, o: dataclasses.replace(o, tokens=o.tokens + 24))),
        ("thinking_tokens", changed(0.75, lambda _, o: dataclasses.replace(o, tokens=o.tokens - 30 * o.thought))),
    ],
)
def test_a_spoiled_pair_misses_the_criterion(name: str, outcomes: Found) -> None:
    assert good()[name].met
    assert judged(outcomes)[name].met is False


def test_criteria_of_tools_and_unseen_questions_take_the_worst_lambda() -> None:
    tools = result(GOOD)["tools"]
    tools[1] = tools[1] | {"exact": 0.94}
    criterion = judged(GOOD, tools=tools)["one_unseen_tool"]
    assert (criterion.value, criterion.met, criterion.aimed) == (0.94, False, False)
    unseen = result(GOOD)["unseen"]
    unseen[0] = unseen[0] | {"gap": 0.1}
    criterion = judged(GOOD, unseen=unseen)["unseen_template"]
    assert (criterion.value, criterion.met, criterion.aimed) == (0.1, True, False)
    assert judged(GOOD, unseen=[], tools=[])["unseen_name"].met is None


def test_few_thinking_outputs_do_not_count() -> None:
    few = {value: [dataclasses.replace(o, thought=i < 29) for i, o in enumerate(x)] for value, x in GOOD.items()}
    assert judged(few)["thinking_tokens"].value is None


def test_an_oracle_that_is_not_above_is_reported_all_the_same() -> None:
    tried = result(GOOD)["controls"] | {"difference": -0.01}
    criterion = judged(GOOD, controls=tried)["oracle"]
    assert (criterion.met, criterion.aimed) == (True, False)
    assert judged(GOOD, controls=None)["oracle"].met is None


def test_criteria_for_people() -> None:
    shown = measured(good()["lead"].to_dict())
    assert shown[0].startswith("+")
    assert shown[0].endswith(" points")
    assert " to " in shown[1]
    assert measured(good()["standard_suites"].to_dict()) == ("-", "")
    tests = {"tests": 60, "passed": 44, "skipped": 13, "xfailed": 3}
    criterion = judged(GOOD, suites=tests)["standard_suites"]
    assert (measured(criterion.to_dict()), criterion.met, criterion.aimed) == (("3 xfail", ""), True, False)
    assert not judged(GOOD, suites=tests | {"xfailed": 5})["standard_suites"].met


def test_easy_questions_must_be_so_on_a_seed_that_did_not_choose_them() -> None:
    parity = result(GOOD)["parity"]
    assert judged(GOOD, parity=parity | {"elsewhere": -0.01})["parity_share"].met
    assert not judged(GOOD, parity=parity | {"elsewhere": -0.011})["parity_share"].met
