"""Make rows of a calibration's answers, and compare two λs prompt by prompt; what hangs together counts once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dami_agent.estimators.judge import mean_ci
from dami_agent.evaluation.asked import Ask
from dami_agent.evaluation.call_batches import AnswerOutcome
from dami_agent.evaluation.rows import rounded
from dami_agent.evaluation.stats import half_width, mean
from dami_agent.types import Intensity

__all__ = ["Difference", "difference", "row_of"]

_WORSE = 0.01


@dataclass(frozen=True, slots=True)
class Difference:
    """Hold what one λ gains on another, prompt by prompt, with half intervals."""

    accuracy: float
    accuracy_ci: float
    tokens: float
    tokens_ci: float

    @property
    def beats(self) -> bool:
        """Tell whether it is better beyond noise at no more tokens, or as good at fewer beyond noise."""
        better = self.accuracy > self.accuracy_ci and self.tokens <= 0
        shorter = self.accuracy - self.accuracy_ci >= -_WORSE and -self.tokens > self.tokens_ci
        return better or shorter

    @property
    def said(self) -> dict[str, float | None]:
        """Return what the file keeps of it."""
        return {"gain": round(self.accuracy, 4), "gain_ci": rounded(self.accuracy_ci, 4)}


def difference(
    these: Mapping[int, AnswerOutcome], others: Mapping[int, AnswerOutcome], asks: Sequence[Ask]
) -> Difference:
    """Compare two λs on the prompts that both were asked.

    Where few replies changed from right to wrong, the normal interval is too narrow; it is never taken for less than
    three in n groups, which is what may go unseen in all of them once in twenty times.

    Args:
        these, others: outcomes by prompt, of either λ.
        asks: all prompts, for their groups.
    """
    shared = [place for place in these if place in others]
    right = [float(these[place].right) - float(others[place].right) for place in shared]
    tokens = [float(these[place].tokens - others[place].tokens) for place in shared]
    groups = [asks[place].group for place in shared]
    accuracy, accuracy_ci = _mean_ci(right, groups)
    return Difference(accuracy, max(accuracy_ci, 3 / max(1, len(set(groups)))), *_mean_ci(tokens, groups))


def _mean_ci(values: Sequence[float], groups: Sequence[str]) -> tuple[float, float]:
    numbers: dict[str, int] = {}
    members = [numbers.setdefault(group, len(numbers)) for group in groups]
    return mean_ci(torch.tensor(values), torch.tensor(members))


def row_of(
    value: Intensity,
    asks: Sequence[Ask],
    found: Mapping[int, AnswerOutcome],
    thinking: Mapping[int, AnswerOutcome],
) -> dict[str, Any]:
    """Make the row of one λ: counts, cells by kind of prompt, and what it keeps of Thinking's on the same prompts.

    Args:
        value: λ.
        asks: all prompts.
        found, thinking: outcomes by prompt, at λ and at λ=1.
    """
    outcomes = list(found.values())
    right, tokens = [each.right for each in outcomes], [float(each.tokens) for each in outcomes]
    groups = [asks[place].group for place in found]
    row: dict[str, Any] = {
        "lambda": float(value),
        "accuracy": round(mean(right), 4),
        "accuracy_ci": round(max(half_width(sum(right), len(right)), _mean_ci(list(map(float, right)), groups)[1]), 4),
        "tokens": round(mean(tokens), 2),
        "tokens_ci": rounded(_mean_ci(tokens, groups)[1], 2),
        "questions": len(outcomes),
        "think_ratio": round(mean([each.thought for each in outcomes]), 4),
        "finished": round(mean([each.finished for each in outcomes]), 4),
        "reasoning_tokens": round(mean([each.reasoning_tokens for each in outcomes]), 2),
        "errors": sum(each.failed for each in outcomes),
        "template": outcomes[0].template,
    }
    kinds: dict[str, list[AnswerOutcome]] = {}
    for place, each in found.items():
        kinds.setdefault(asks[place].kind, []).append(each)
    row["cells"] = {"kind": {name: _cell(each) for name, each in sorted(kinds.items())}}
    return row | {"of_thinking": _share(found, thinking, groups)}


def _share(
    found: Mapping[int, AnswerOutcome], thinking: Mapping[int, AnswerOutcome], groups: Sequence[str]
) -> dict[str, float | None]:
    """Return which share of Thinking's accuracy and tokens remains; the interval is that of a ratio of paired means."""
    right = [float(each.right) for each in found.values()]
    theirs = [float(thinking[place].right) for place in found]
    tokens = sum(thinking[place].tokens for place in found)
    if not sum(theirs) or not tokens:
        return {"accuracy": None, "accuracy_ci": None, "tokens": None}
    share = mean(right) / mean(theirs)
    rest = [one - share * other for one, other in zip(right, theirs, strict=True)]
    spread = _mean_ci(rest, groups)[1] / mean(theirs)
    used = sum(each.tokens for each in found.values()) / tokens
    return {"accuracy": round(share, 4), "accuracy_ci": rounded(spread, 4), "tokens": round(used, 4)}


def _cell(found: Sequence[AnswerOutcome]) -> dict[str, Any]:
    right = [each.right for each in found]
    return {
        "accuracy": round(mean(right), 4),
        "accuracy_ci": round(half_width(sum(right), len(right)), 4),
        "tokens": round(mean([float(each.tokens) for each in found]), 2),
        "questions": len(found),
    }
