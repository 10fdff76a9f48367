"""What the built-in pair must reach, and what it should: every criterion with its value and 95 % interval.

A criterion is met by its value, not by an end of its interval. What the words of some criteria mean here:

- *falls at every level*: each level is harder than the one before; *smoothly*: no fall is more than half of the whole.
- *dips*: how far any λ lies below the most accurate smaller λ.
- *tokens rise*: must, no λ writes less than the one before by more than the noise; should, none writes less at all. A
  step's share is of the range from the fewest to the most tokens. *Within outputs that think*: the same over replies
  with a thought that is not blank, at λs with at least thirty of them.
- *unseen* and *tool calls*: the worst of λ = 0, 0.5 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from builtin_pair.acceptance.criterion import Criterion, around, at_least, at_most, percent
from builtin_pair.acceptance.parity_cells import BEHIND
from dami_agent.evaluation.call_batches import AnswerOutcome, SeededQuestions
from dami_agent.evaluation.rows import levels_of
from dami_agent.evaluation.stats import Z, bootstrap, mean, mean_half_width, variance, wilson
from dami_agent.types import Intensity

Found = Mapping[Intensity, Sequence[AnswerOutcome]]
ENOUGH = 30
"""Outputs that think, for their mean tokens to count."""


def criteria(asked: SeededQuestions, found: Found, result: Mapping[str, Any]) -> list[Criterion]:
    """Judge the pair by all criteria, in the order of the checklist.

    Args:
        asked: the held-out questions.
        found: their outcomes at every λ, 0 and 1 among them.
        result: of the sweep, for what was counted already: ``tools``, ``unseen``, ``controls``, ``parity`` and,
            where they were run, ``suites``.
    """
    instruct, thinking = found[Intensity(0)], found[Intensity(1)]
    return [
        _thinking(thinking),
        _lead(instruct, thinking),
        *_first_level(asked, instruct, thinking),
        _falls(asked, instruct),
        _finish(found),
        _dips(found),
        _rise("tokens", "tokens along λ, largest step", found),
        _rise("thinking_tokens", "tokens within outputs that think, largest step", found, thinking_only=True),
        _oracle(result["controls"]),
        _tool(result["tools"], "one unseen tool", 0.95, 0.98),
        _tool(result["tools"], "one of three unseen tools", 0.80, 0.95),
        *(_unseen(result["unseen"], kind) for kind in ("template", "name", "length")),
        _parity(result["parity"]),
        _suites(result.get("suites")),
    ]


def _right(outcomes: Sequence[AnswerOutcome]) -> list[float]:
    return [float(outcome.right) for outcome in outcomes]


def _paired(these: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return the mean difference and its half interval."""
    differences = [a - b for a, b in zip(these, others, strict=True)]
    return mean(differences), mean_half_width(differences)


def _thinking(thinking: Sequence[AnswerOutcome]) -> Criterion:
    right = _right(thinking)
    value = mean(right)
    return Criterion(
        name="thinking",
        title="Thinking over all",
        must="75 to 92 %",
        aim="80 to 90 %",
        value=value,
        interval=wilson(int(sum(right)), len(right)),
        met=0.75 <= value <= 0.92,
        aimed=0.80 <= value <= 0.90,
    )


def _lead(instruct: Sequence[AnswerOutcome], thinking: Sequence[AnswerOutcome]) -> Criterion:
    value, half = _paired(_right(thinking), _right(instruct))
    verdict = at_least(value, 0.25, 0.35) | {"must": "≥ 25 points", "aim": "≥ 35 points"}
    return Criterion(
        name="lead", title="Thinking minus Instruct", unit="points", interval=around(value, half), **verdict
    )


def _first_level(
    asked: SeededQuestions, instruct: Sequence[AnswerOutcome], thinking: Sequence[AnswerOutcome]
) -> list[Criterion]:
    places = next(iter(levels_of(asked).values()))
    right = [instruct[i].right for i in places]
    pairs = [(instruct[i].tokens, thinking[i].tokens) for i in places]

    def ratio(drawn: Sequence[tuple[int, int]]) -> float | None:
        whole = sum(b for _, b in drawn)
        return sum(a for a, _ in drawn) / whole if whole else None

    return [
        Criterion(
            name="instruct_level_1",
            title="Instruct on level 1",
            interval=wilson(sum(right), len(right)),
            **at_least(mean(right), 0.92, 0.97),
        ),
        Criterion(
            name="instruct_level_1_tokens",
            title="its tokens there, of Thinking's",
            interval=bootstrap(pairs, ratio, resamples=1000),
            **at_most(ratio(pairs), 0.20, 0.12),
        ),
    ]


def _falls(asked: SeededQuestions, instruct: Sequence[AnswerOutcome]) -> Criterion:
    levels = [[float(instruct[i].right) for i in places] for places in levels_of(asked).values()]
    criterion = Criterion(
        name="levels",
        title="Instruct by level, smallest fall",
        must="falls at every level",
        aim="smoothly",
        unit="points",
    )
    if len(levels) < 2:
        return criterion
    falls = [(mean(a) - mean(b), math.sqrt(variance(a) / len(a) + variance(b) / len(b))) for a, b in pairwise(levels)]
    value, deviation = min(falls)
    whole = mean(levels[0]) - mean(levels[-1])
    largest = max(fall for fall, _ in falls)
    return replace(
        criterion,
        value=value,
        interval=around(value, Z * deviation),
        met=value > 0,
        aimed=value > 0 and largest <= 0.5 * whole,
        note="accuracy " + ", ".join(f"{mean(level):.3f}" for level in levels),
    )


def _finish(found: Found) -> Criterion:
    ended, value = min((sum(outcome.finished for outcome in outcomes), value) for value, outcomes in found.items())
    total = len(found[value])
    return Criterion(
        name="finish",
        title="finished at every λ, the worst",
        interval=wilson(ended, total),
        note=f"at λ={value:g}",
        **at_least(ended / total, 0.97, 0.99),
    )


def _dips(found: Found) -> Criterion:
    right = {value: _right(outcomes) for value, outcomes in sorted(found.items())}
    order = list(right)
    pairs = [(a, b) for place, b in enumerate(order) for a in order[:place]]
    smaller, larger = max(pairs, key=lambda pair: mean(right[pair[0]]) - mean(right[pair[1]]))
    value, half = _paired(right[smaller], right[larger])
    interval = around(value, half)
    verdict = at_most(max(0.0, value), 0.03, 0.01) | {"must": "≤ 3 points", "aim": "≤ 1 point"}
    note = f"λ={larger:g} below λ={smaller:g}" if value > 0 else "no λ is below a smaller one"
    return Criterion(
        name="dips",
        title="any λ below the best smaller λ",
        unit="points",
        interval=interval and (max(0.0, interval[0]), max(0.0, interval[1])),
        note=note,
        **verdict,
    )


def _rise(name: str, title: str, found: Found, *, thinking_only: bool = False) -> Criterion:
    wording: dict[str, Any] = {"name": name, "title": title, "must": "rise, ≤ 35 % of the range", "aim": "rise, ≤ 20 %"}
    tokens = {
        value: [float(outcome.tokens) for outcome in outcomes if outcome.thought or not thinking_only]
        for value, outcomes in sorted(found.items())
    }
    tokens = {value: numbers for value, numbers in tokens.items() if len(numbers) >= ENOUGH or not thinking_only}
    if len(tokens) < 2:
        return Criterion(**wording)
    steps = [
        (mean(tokens[b]) - mean(tokens[a]), _noise(tokens[a], tokens[b], paired=not thinking_only), a, b)
        for a, b in pairwise(tokens)
    ]
    _, _, low, high = max(steps)
    smallest, noise, before, after = min(steps)
    share = _largest_step([mean(numbers) for numbers in tokens.values()])
    note = f"λ={low:g} to {high:g}; smallest step {smallest:+.1f} ± {noise:.1f} tokens, λ={before:g} to {after:g}"
    if thinking_only:
        note += f"; λs from {min(tokens):g} on" if min(tokens) > 0 else ""
    return Criterion(
        **wording,
        value=share,
        interval=_step_interval([found[value] for value in tokens], thinking_only=thinking_only),
        met=share <= 0.35 and all(step >= -half for step, half, _, _ in steps),
        aimed=share <= 0.20 and smallest >= 0,
        note=note,
    )


def _largest_step(means: Sequence[float]) -> float:
    """Return the largest rise between neighbours, as a share of the range of all."""
    span = max(means) - min(means)
    return max(b - a for a, b in pairwise(means)) / span if span else 1.0


def _step_interval(found: Sequence[Sequence[AnswerOutcome]], *, thinking_only: bool) -> tuple[float, float] | None:
    """Bootstrap over the questions, each with its tokens at every λ; None where it does not count there."""
    each = [[outcome.tokens if outcome.thought or not thinking_only else None for outcome in row] for row in found]
    some_missing = any(None in row for row in each)

    def share(drawn: Sequence[tuple[int | None, ...]]) -> float | None:
        columns: Any = zip(*drawn, strict=True)
        columns = [
            [tokens for tokens in column if tokens is not None] if some_missing else column for column in columns
        ]
        return _largest_step([mean(column) for column in columns]) if all(columns) else None

    return bootstrap(list(zip(*each, strict=True)), share, resamples=500)


def _noise(before: Sequence[float], after: Sequence[float], *, paired: bool) -> float:
    """Return the half interval of a step; outputs that think are others at every λ, so there it is not paired."""
    if paired:
        return _paired(after, before)[1]
    return Z * math.sqrt(variance(before) / len(before) + variance(after) / len(after))


def _oracle(tried: Mapping[str, Any] | None) -> Criterion:
    wording: dict[str, Any] = {"name": "oracle", "title": "oracle smallest right λ minus pass@k of Thinking"}
    wording |= {"must": "reported", "aim": "above", "unit": "points"}
    if tried is None:
        return Criterion(**wording)
    value, half = tried["difference"], tried["difference_ci"]
    note = f"{tried['oracle']['accuracy']:.3f} at {tried['oracle']['tokens']:.0f} tokens against "
    note += f"{tried['pass_at_k']['accuracy']:.3f} at {tried['pass_at_k']['tokens']:.0f}, k={tried['tries']}, "
    note += f"{tried['questions']} questions"
    interval = None if half is None else around(value, half)
    return Criterion(**wording, value=value, interval=interval, met=True, aimed=value > 0, note=note)


def _worst(rows: Sequence[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], float]) -> Mapping[str, Any] | None:
    return max(rows, key=key) if rows else None


def _tool(rows: Sequence[Mapping[str, Any]], setting: str, must: float, aim: float) -> Criterion:
    row = _worst([row for row in rows if row["setting"] == setting], lambda row: -row["exact"])
    name, title = setting.replace(" ", "_"), f"{setting}, whole call right"
    if row is None:
        return Criterion(name=name, title=title, **at_least(None, must, aim))
    each = ", ".join(f"{other['exact']:.3f}" for other in rows if other["setting"] == setting)
    return Criterion(
        name=name,
        title=title,
        interval=wilson(round(row["exact"] * row["dialogues"]), row["dialogues"]),
        note=f"λ={row['lambda']:g}, the worst of {each}",
        **at_least(row["exact"], must, aim),
    )


def _unseen(rows: Sequence[Mapping[str, Any]], kind: str) -> Criterion:
    judged = [row for row in rows if row["kind"] == kind and row["gap"] is not None]
    row = _worst(judged, lambda row: float(row["gap"]))
    words = {"must": "≤ 15 points", "aim": "≤ 8 points"}
    name, title = f"unseen_{kind}", f"unseen {kind}s, seen minus unseen"
    if row is None:
        return Criterion(name=name, title=title, unit="points", **at_most(None, 0.15, 0.08) | words)
    return Criterion(
        name=name,
        title=title,
        unit="points",
        interval=around(row["gap"], row["gap_ci"]),
        note=f"λ={row['lambda']:g}, the worst of " + ", ".join(f"{100 * other['gap']:+.1f}" for other in judged),
        **at_most(row["gap"], 0.15, 0.08) | words,
    )


def _parity(parity: Mapping[str, Any]) -> Criterion:
    ratio = parity["tokens_ratio"]
    note = f"{len(parity['cells'])} of {parity['all_cells']} cells (family and level), "
    note += f"{parity['alone']} of them by themselves"
    note += f", at {percent(ratio)} of Thinking's tokens there" if ratio is not None else ""
    if parity["elsewhere_ci"] is not None:
        note += f"; chosen without a seed, on that seed {100 * parity['elsewhere']:+.1f} ± "
        note += f"{100 * parity['elsewhere_ci']:.1f} points"
    judged = at_least(parity["share"], 1 / 3, 0.5) | {"must": "≥ a third of the questions", "aim": "≥ half of them"}
    if parity["elsewhere"] is not None and parity["elsewhere"] < -BEHIND:
        judged |= {"met": False, "aimed": False}
    return Criterion(
        name="parity_share",
        title="questions on which Instruct ≥ Thinking − 1 point at ≤ 20 % of its tokens",
        interval=parity["share_ci"] and (parity["share_ci"][0], parity["share_ci"][1]),
        note=note,
        **judged,
    )


def _suites(tests: Mapping[str, int] | None) -> Criterion:
    wording: dict[str, Any] = {"name": "standard_suites", "title": "LangChain's standard suites", "unit": "xfail"}
    wording |= {"must": "≤ 4 xfail", "aim": "≤ 2"}
    if tests is None:
        return Criterion(**wording, note="not run: python -m builtin_pair accept --suites")
    count = tests["xfailed"]
    note = f"{tests['passed']} of {tests['tests']} tests pass, {tests['skipped']} are of features not offered"
    return Criterion(**wording, value=float(count), met=count <= 4, aimed=count <= 2, note=note)
