"""What ``dami bench`` measured, as Markdown: the blocks of real agents, on the usual tasks and on unseen ones."""

from __future__ import annotations

from collections.abc import Sequence

from builtin_pair.acceptance.markdown import Json, table
from dami_agent.evaluation.policy_arm import describe_against_auto

UNSEEN_MODES = ("instruct", "thinking", "dami", "policy")
"""Ways to choose λ that are shown for tasks with something unseen, in this order."""


def agents(bench: Json) -> str:
    """Show agent tasks solved and tokens spent under every way to choose λ."""
    thoughts = all("reasoning_tokens" in mode for mode in bench["modes"].values())
    body = []
    for name, mode in bench["modes"].items():
        body.append([_mode(name), f"{_solved(mode)} of {mode['tasks']}", f"{mode['output_tokens']:,}"])
        body[-1] += [f"{mode['reasoning_tokens']:,}"] if thoughts else []
    header = [
        "mode",
        "solved",
        "output tokens, probes included",
        *(["of them thoughts and probes"] if thoughts else []),
    ]
    text = table(header, body, right=1)
    spent = f"{bench['tokens_ratio']:.0%} of always-Thinking's tokens{_interval(bench['tokens_ratio_ci'])}"
    if bench["gap_closed"] is None:
        verdict = f"Always-Thinking solves no more than always-Instruct here; λ per step takes {spent}."
    else:
        closed = f"{bench['gap_closed']:.0%} of the gap between Instruct and Thinking"
        verdict = f"λ per step closes {closed}{_interval(bench['gap_closed_ci'])} at {spent}."
    verdict += _policy(bench["policy"]) if bench.get("policy") else ""
    return f"{text}\n\n{verdict} {bench['tasks']} tasks never seen in training, seed {bench['seed']}. (`dami bench`)"


def agents_unseen(benches: Json) -> str:
    """Show agent tasks solved where a part of them is in no training task; ``benches`` has a result per part."""
    body = [
        [kind, str(bench["tasks"]), *(_solved(bench["modes"][name]) for name in UNSEEN_MODES)]
        for kind, bench in benches.items()
    ]
    text = table(["never seen in training", "tasks", *map(_mode, UNSEEN_MODES)], body, right=1)
    seeds = " and ".join(dict.fromkeys(str(bench["seed"]) for bench in benches.values()))
    each = "a row each of `dami bench --unseen WHAT --tasks N --no-controls`"
    return f"{text}\n\nTasks solved, ± half a 95 % interval, seed {seeds}; {each}."


def _solved(mode: Json) -> str:
    return f"{mode['solved']} ± {mode['solved_ci']:.0f}"


def _policy(found: Json) -> str:
    """Say what a policy file with budgets per tool does beside always-Thinking."""
    if found["reasoning_saved"] is None:
        return ""
    low, high = found["solved_difference_ci"]
    return (
        f" A policy file with budgets per tool saves {found['reasoning_saved']:.0%} of always-Thinking's reasoning "
        f"tokens{_interval(found['reasoning_saved_ci'])} and solves {100 * found['solved_difference']:+.1f} points of "
        f"the tasks against it (95 %: {100 * low:+.1f} to {100 * high:+.1f})."
    ) + (f" {describe_against_auto(found['against_auto'])}" if "against_auto" in found else "")


def _mode(name: str) -> str:
    known = {
        "dami": "**λ per step** (`auto`)",
        "instruct": "always Instruct (λ=0)",
        "thinking": "always Thinking (λ=1)",
        "policy": "**a policy file with budgets per tool**",
        "shuffled": "the same λs, shuffled over the steps",
    }
    return known.get(name, f"always {name.replace('lambda', 'λ')}")


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" (95 %: {ends[0]:.0%} to {ends[1]:.0%})"
