"""Compare a policy file with budgets per tool with always-Thinking and ``auto``: tokens saved, and success.

Against always-Thinking the estimator's choice of λ is counted with what rules and budgets do; against ``auto``, which
chooses λ by the same estimator and knows no policy, it is not.

All solve the same tasks in the same run of ``dami bench``; intervals are a paired bootstrap over tasks. Thoughts count
with their closing tokens, and a discarded probe counts as thought: nothing that was spent to decide is left
out of what was spent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from dami_agent.evaluation.agents import Mode, ModeResult, TaskRun
from dami_agent.evaluation.rows import rounded, rounded_interval
from dami_agent.evaluation.stats import bootstrap
from dami_agent.policy.registry import read_policy
from dami_agent.types import modules_of

SHIPPED = Path(__file__).with_name("policy.yaml")
"""The file that ``dami bench`` uses unless told otherwise; an example to copy, too."""

MUST_SAVE = 0.5
"""Share of always-Thinking's reasoning tokens that a policy must save."""

Pairs = Sequence[tuple[int, int]]


def policy_mode(source: Any = SHIPPED) -> Mode:
    """Make the arm that leaves λ and budgets to a policy.

    Args:
        source: a ``ReasoningPolicy``, or a preset, path or dict that makes one.

    Raises:
        InvalidPolicy: it does not validate.
    """
    return Mode(name="policy", intensity=None, policy=read_policy(source))


def with_weights_for(arm: Mode, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``model`` (arguments of ChatDAMI) with merged weights where the arm's policy sets a λ per module.

    Only they run it; every arm runs so then, or seconds could not be compared.
    """
    per_module = arm.policy is not None and any(modules_of(value) for _, value in arm.policy.intensities)
    return {**({"weights_mode": "merged"} if per_module else {}), **model}


def against_thinking(policy: ModeResult, thinking: ModeResult, *, seed: int = 0) -> dict[str, Any]:
    """Compare the policy's runs with always-Thinking's of the same tasks: tokens saved, difference in success.

    Args:
        policy: of :func:`policy_mode`.
        thinking: of λ=1.
        seed: of the bootstrap.

    Returns:
        ``reasoning_saved`` and ``tokens_saved`` are shares in [0, 1] (below 0 where more was spent, None where Thinking
        spent nothing), ``solved_difference`` is a share of the tasks. ``saves_enough`` and ``success_not_below`` go by
        these values, not by an end of their intervals. ``by_tool``: reasoning tokens by what they were charged to.
    """
    assert policy.mode.policy is not None
    both = list(zip(policy.runs, thinking.runs, strict=True))
    reasoning = [(p.reasoning_tokens, t.reasoning_tokens) for p, t in both]
    tokens = [(p.output_tokens, t.output_tokens) for p, t in both]
    solved = [(int(p.solved), int(t.solved)) for p, t in both]
    saved = _saved(reasoning)
    return {
        "name": policy.mode.policy.name,
        "reasoning_tokens": {"policy": policy.reasoning_tokens, "thinking": thinking.reasoning_tokens},
        "reasoning_saved": rounded(saved, 4),
        "reasoning_saved_ci": rounded_interval(bootstrap(reasoning, _saved, seed=seed)),
        "tokens_saved": rounded(_saved(tokens), 4),
        "tokens_saved_ci": rounded_interval(bootstrap(tokens, _saved, seed=seed)),
        "solved_difference": rounded(_difference(solved), 4),
        "solved_difference_ci": rounded_interval(bootstrap(solved, _difference, seed=seed)),
        "saves_enough": saved is not None and saved >= MUST_SAVE,
        "success_not_below": policy.solved >= thinking.solved,
        "by_tool": _by_tool(policy.runs, thinking.runs),
    }


def against_auto(policy: ModeResult, auto: ModeResult, *, seed: int = 0) -> dict[str, Any]:
    """Count what the policy's rules and budgets changed beside ``auto``: steps, and tokens on the same tasks.

    Args:
        policy: of :func:`policy_mode`.
        auto: of λ by the estimator alone, with the same random streams.
        seed: of the bootstrap.

    Returns:
        ``steps`` are the policy's, ``ruled`` those that a rule won. ``lambda_changed`` counts steps whose λ is not the
        one of ``auto`` at the same step of the same task, ``capped`` those with a thought closed or a reply cut by a
        cap, or tools disabled; ``changed`` is either. ``tokens_saved`` and ``reasoning_saved`` are shares of what
        ``auto`` spent, None where it spent nothing.
    """
    both = list(zip(policy.runs, auto.runs, strict=True))
    tokens = [(p.output_tokens, a.output_tokens) for p, a in both]
    reasoning = [(p.reasoning_tokens, a.reasoning_tokens) for p, a in both]
    steps = [(step, other) for p, a in both for step, other in zip_longest(p.steps, a.steps) if step is not None]
    moved = [other is not None and step.intensity != other.intensity for step, other in steps]
    capped = [step.capped for step, _ in steps]
    return {
        "steps": len(steps),
        "ruled": sum(bool(step.rule) for step, _ in steps),
        "lambda_changed": sum(moved),
        "capped": sum(capped),
        "changed": sum(one or other for one, other in zip(moved, capped, strict=True)),
        "tokens_saved": rounded(_saved(tokens), 4),
        "tokens_saved_ci": rounded_interval(bootstrap(tokens, _saved, seed=seed)),
        "reasoning_saved": rounded(_saved(reasoning), 4),
        "reasoning_saved_ci": rounded_interval(bootstrap(reasoning, _saved, seed=seed)),
    }


def describe_against_auto(found: Mapping[str, Any]) -> str:
    """Say in a sentence what a policy's rules and budgets changed beside ``auto`` on the same tasks."""
    steps, ruled = found["steps"], found["ruled"]
    if not found["changed"]:
        return (
            f"Its rules and budgets changed neither λ nor a cap in any of the {steps:,} steps (rules decided {ruled:,} "
            "of them), so what it saves is what `auto` saves."
        )
    tokens = "" if found["tokens_saved"] is None else f"; tokens against `auto`: {_change(found)}"
    return (
        f"Its rules and budgets changed λ or a cap in {found['changed']:,} of {steps:,} steps (λ in "
        f"{found['lambda_changed']:,}, a cap that bound in {found['capped']:,}){tokens}."
    )


def _change(found: Mapping[str, Any]) -> str:
    """Format output tokens more (+) or less (−) than ``auto``'s."""
    ends = found["tokens_saved_ci"]
    interval = "" if ends is None else f" (95 %: {_signed(-ends[1])} to {_signed(-ends[0])})"
    return _signed(-found["tokens_saved"]) + interval


def _signed(share: float) -> str:
    return f"{share:+.0%}".replace("-", "−").replace("%", " %") if round(share, 2) else "±0 %"


def _saved(pairs: Pairs) -> float | None:
    """Return the share of the second ones' sum that the first ones do not spend."""
    whole = sum(other for _, other in pairs)
    return 1 - sum(own for own, _ in pairs) / whole if whole else None


def _difference(pairs: Pairs) -> float:
    return sum(own - other for own, other in pairs) / len(pairs)


def _by_tool(policy: Sequence[TaskRun], thinking: Sequence[TaskRun]) -> dict[str, dict[str, int]]:
    """Sum reasoning tokens by what they were charged to, most spent by Thinking first."""
    own, other = _charged(policy), _charged(thinking)
    names = sorted(own | other, key=lambda name: (-other[name], name))
    return {name: {"policy": own[name], "thinking": other[name]} for name in names}


def _charged(runs: Sequence[TaskRun]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for run in runs:
        for step in run.steps:
            counts[step.charged_to] += step.reasoning_tokens
    return counts
