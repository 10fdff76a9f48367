"""Make frontier rows of outcomes: counted by level, family, seed and cell, with intervals, paired over λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dami_agent.evaluation.call_batches import AnswerOutcome, SeededQuestions
from dami_agent.evaluation.stats import half_width, mean, mean_half_width
from dami_agent.types import Intensity

Cell = tuple[str, int]
"""A family and a level."""


def cells_of(asked: SeededQuestions) -> dict[Cell, list[int]]:
    """Return where the questions of each family and level stand in ``asked``."""
    found: dict[Cell, list[int]] = {}
    for index, (_, question) in enumerate(asked):
        found.setdefault((question.family, question.level), []).append(index)
    return found


def levels_of(asked: SeededQuestions) -> dict[int, list[int]]:
    """Return where the questions of each level stand in ``asked``, by rising level."""
    found: dict[int, list[int]] = {}
    for index, (_, question) in enumerate(asked):
        found.setdefault(question.level, []).append(index)
    return dict(sorted(found.items()))


def summary(intensity: Intensity, asked: SeededQuestions, found: Sequence[AnswerOutcome]) -> dict[str, Any]:
    """Make the row of one λ from its outcomes; ``_ci`` are half 95 % intervals."""
    right = [float(outcome.right) for outcome in found]
    tokens = [float(outcome.tokens) for outcome in found]
    thinking = [float(outcome.tokens) for outcome in found if outcome.thought]
    by_level = {str(level): places for level, places in levels_of(asked).items()}
    by_family: dict[str, list[int]] = {}
    by_seed: dict[str, list[int]] = {}
    for index, (seed, question) in enumerate(asked):
        by_family.setdefault(question.family, []).append(index)
        by_seed.setdefault(str(seed), []).append(index)
    return {
        "lambda": float(intensity),
        "accuracy": round(mean(right), 4),
        "accuracy_ci": round(half_width(int(sum(right)), len(right)), 4),
        "tokens": round(mean(tokens), 2),
        "tokens_ci": rounded(mean_half_width(tokens), 2),
        "think_ratio": round(mean([outcome.thought for outcome in found]), 4),
        "finished": round(mean([outcome.finished for outcome in found]), 4),
        "finished_ci": round(half_width(sum(outcome.finished for outcome in found), len(found)), 4),
        "by_level": _means(by_level, right),
        "by_level_ci": {
            name: round(half_width(int(sum(right[i] for i in places)), len(places)), 4)
            for name, places in by_level.items()
        },
        "tokens_by_level": _means(by_level, tokens),
        "tokens_by_level_ci": {
            name: rounded(mean_half_width([tokens[i] for i in places]), 2) for name, places in by_level.items()
        },
        "by_family": _means(by_family, right),
        "by_seed": _means(by_seed, right),
        "reasoning_tokens": round(mean([outcome.reasoning_tokens for outcome in found]), 2),
        "thinking_outputs": len(thinking),
        "thinking_tokens": round(mean(thinking), 2) if thinking else None,
        "thinking_tokens_ci": rounded(mean_half_width(thinking), 2),
        "errors": sum(outcome.failed for outcome in found),
        "template": found[0].template,
        "cells": _cells(asked, right, tokens),
    }


def _means(groups: Mapping[str, list[int]], values: Sequence[float]) -> dict[str, float]:
    return {name: round(mean([values[i] for i in groups[name]]), 4) for name in sorted(groups)}


def _cells(asked: SeededQuestions, right: Sequence[float], tokens: Sequence[float]) -> dict[str, Any]:
    """Return family -> level -> accuracy and tokens with half intervals, questions."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for (family, level), places in cells_of(asked).items():
        found.setdefault(family, {})[str(level)] = {
            "accuracy": round(mean([right[i] for i in places]), 4),
            "accuracy_ci": round(half_width(int(sum(right[i] for i in places)), len(places)), 4),
            "tokens": round(mean([tokens[i] for i in places]), 2),
            "tokens_ci": rounded(mean_half_width([tokens[i] for i in places]), 2),
            "questions": len(places),
        }
    return found


def differences(asked: SeededQuestions, found: Mapping[Intensity, Sequence[AnswerOutcome]]) -> list[dict[str, Any]]:
    """Return for each λ what it gains, question by question, on Instruct, on Thinking and on the λ before it.

    Accuracy and tokens with half of the paired 95 % interval, and accuracy by seed; a λ is not held against itself.
    """
    order = sorted(found)
    rows = []
    for place, value in enumerate(order):
        row: dict[str, Any] = {"lambda": float(value)}
        for name, other in (("instruct", order[0]), ("thinking", order[-1]), ("previous", order[max(0, place - 1)])):
            if other != value:
                row[name] = _paired(asked, found[value], found[other])
        rows.append(row)
    return rows


def _paired(asked: SeededQuestions, these: Sequence[AnswerOutcome], others: Sequence[AnswerOutcome]) -> dict[str, Any]:
    right = [float(a.right) - float(b.right) for a, b in zip(these, others, strict=True)]
    tokens = [float(a.tokens - b.tokens) for a, b in zip(these, others, strict=True)]
    seeds = sorted({seed for seed, _ in asked})
    return {
        "accuracy": round(mean(right), 4),
        "accuracy_ci": rounded(mean_half_width(right), 4),
        "tokens": round(mean(tokens), 2),
        "tokens_ci": rounded(mean_half_width(tokens), 2),
        "by_seed": {
            str(seed): round(mean([d for d, (s, _) in zip(right, asked, strict=True) if s == seed]), 4)
            for seed in seeds
        },
    }


def rounded(value: float | None, digits: int) -> float | None:
    """Round for JSON, which has no infinity: the half width of fewer than two values is null."""
    return None if value is None or value == float("inf") else round(value, digits)


def rounded_interval(interval: tuple[float, float] | None) -> list[float] | None:
    """Round both ends to four digits, for JSON."""
    return None if interval is None else [round(value, 4) for value in interval]
