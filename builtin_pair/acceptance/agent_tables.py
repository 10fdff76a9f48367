"""What ``dami bench`` measured, as Markdown: agents on the usual tasks, by depth, under budgets, on unseen tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from builtin_pair.acceptance.markdown import Json, between, in_points, mark, table
from dami_agent.evaluation.budget_curve import MUST_KEEP, SCOPES, lost_at_half, used
from dami_agent.evaluation.policy_arm import describe_against_auto

UNSEEN_MODES = ("instruct", "thinking", "dami", "policy")
"""Ways to choose λ that are shown for tasks with something unseen, in this order."""

DEPTHS = {"0": "calls or copies", "1": "1 operation", "2": "2", "3": "3 or 4", "4": "5 to 7", "5": "8 and more"}
"""What a step of each depth works out."""


def agents(bench: Json) -> str:
    """Show agent tasks solved and tokens spent under every way to choose λ, each against always-Thinking."""
    header = ["mode", "solved", "points against Thinking", "output tokens, probes included", "of Thinking's"]
    body = [_row(name, mode) for name, mode in bench["modes"].items()]
    text = table(header, body, right=1)
    told = [_verdict(bench), *_static(bench), _policy(bench["policy"]), _unanswered(bench), _source(bench)]
    return f"{text}\n\n{' '.join(told)}"


def _row(name: str, mode: Json) -> list[str]:
    against = mode["against_thinking"]
    points = "" if name == "thinking" else in_points(against["solved"], against["solved_ci"])
    share = "" if against["tokens"] is None else f"{against['tokens']:.0%}"
    return [mode_name(name), f"{_solved(mode)} of {mode['tasks']}", points, f"{mode['output_tokens']:,}", share]


def _verdict(bench: Json) -> str:
    found = bench["modes"]["dami"]["against_thinking"]
    said = (
        f"λ per step: {in_points(found['solved'])} points against always-Thinking (95 %: {between(found['solved_ci'])})"
    )
    return f"{said} at {found['tokens']:.0%} of its tokens{_interval(found['tokens_ci'])}."


def _static(bench: Json) -> list[str]:
    """Say how λ per step compares with the best static λ, and with the best that costs no more."""
    told = []
    for key, what in (
        ("best_static", "the best static λ"),
        ("best_static_at_most_its_tokens", "the best at no more tokens"),
    ):
        if found := bench.get(key):
            name = found["mode"].replace("lambda=", "λ=").replace("instruct", "λ=0").replace("thinking", "λ=1")
            points = f"{in_points(found['solved'])} points (95 %: {between(found['solved_ci'])})"
            told.append(f"Against {what} ({name}): {points} at {found['tokens']:.0%} of its tokens.")
    return told


def _unanswered(bench: Json) -> str:
    """Say how many runs, of all modes, ended with a blank answer, and how many with an error."""
    modes = bench["modes"].values()
    blank, errors = (sum(mode["empty"] for mode in modes), sum(sum(mode["errors"].values()) for mode in modes))
    return f"Of all {bench['tasks'] * len(modes):,} runs {blank} ended with a blank answer, {errors} with an error."


def depth(bench: Json) -> str:
    """Show, by what a step must work out, how deeply each mode thinks there and what it spends."""
    names = [name for name in ("instruct", "thinking", "dami", "oracle") if name in bench["modes"]]
    header = ["a step works out", "of all steps", *(f"{mode_name(name)}: tokens" for name in names), "mean λ per step"]
    body = []
    for key, share in bench["depths"].items():
        cells = [bench["modes"][name]["by_depth"].get(key) for name in names]
        own = bench["modes"]["dami"]["by_depth"].get(key)
        tokens = ["" if cell is None else f"{cell['tokens']:.0f}" for cell in cells]
        body.append([DEPTHS[key], f"{share:.0%}", *tokens, "" if own is None else f"{own['mean_lambda']:.2f}"])
    found = bench["lambda_by_depth"]
    told = "" if found is None else f"Rank correlation of λ and depth over the steps: {found:.2f}. "
    return f"{table(header, body, right=1)}\n\n{told}{_source(bench)}"


def bars(bench: Json) -> str:
    """Show what agents must reach on the built-in pair, and whether they do."""
    modes, steps = bench["modes"], sum(bench["lambdas"].values())
    used = sorted((value for value, count in bench["lambdas"].items() if count >= 0.05 * steps), key=float)
    rows = [_share_bar("Instruct", modes["instruct"], "≤ 65 %", lambda share: share <= 0.65)]
    rows += [_share_bar("Thinking", modes["thinking"], "≥ 88 %", lambda share: share >= 0.88)]
    rows += [_against_bar("λ per step", modes["dami"], least=-0.01, most=0.45)]
    if "oracle" in modes:
        rows += [_against_bar("the oracle", modes["oracle"], least=0.0, most=0.40)]
    rows += [
        ["λs that 5 % of the steps have each", "≥ 4", f"{len(used)}: {', '.join(used)}", mark(len(used) >= 4)],
        ["blank answers", "0", (blank := str(sum(mode["empty"] for mode in modes.values()))), mark(blank == "0")],
    ]
    return f"{table(['agents', 'must', 'measured', 'met'], rows)}\n\n{_source(bench)}"


def _share_bar(name: str, mode: Json, must: str, met: Callable[[float], bool]) -> list[str]:
    share, half = (mode[key] / mode["tasks"] for key in ("solved", "solved_ci"))
    return [f"{name}, of the tasks solved", must, f"{share:.1%} ± {half:.1%}", mark(met(share))]


def _against_bar(name: str, mode: Json, *, least: float, most: float) -> list[str]:
    found = mode["against_thinking"]
    must = f"≥ {in_points(least)} points against Thinking at ≤ {most:.0%} of its tokens"
    measured = f"{in_points(found['solved'], found['solved_ci'])} at {found['tokens']:.0%}"
    return [name, must, measured, mark(found["solved"] >= least and found["tokens"] <= most)]


def budgets(curve: Json) -> str:
    """Show the tasks solved under reasoning budgets, from generous to starving, by λ per step and by Thinking."""
    header = [
        "budget",
        "of `auto`'s own thoughts",
        "tokens a run",
        "used by `auto`",
        "`auto`",
        "Thinking, forced",
        "λ=0.5, forced",
        "`auto` − Thinking",
    ]
    body, free = [], curve["auto"]
    for point in curve["points"]:
        arms, against = point["arms"], point["auto_against_thinking"]
        solved = [f"{_solved(arms[name])}" for name in ("auto", "thinking", "lambda=0.5")]
        points = in_points(against["solved"], against["solved_ci"])
        spent = f"{used(curve, arms['auto']):.0%}"
        body.append(
            [f"per {point['scope']}", f"{point['share']:.0%}", f"{point['budget']:.0f}", spent, *solved, points]
        )
    told = (
        f"Without a budget `auto` solves {_solved(free)} of {curve['tasks']} with {free['thought_per_task']:.0f} "
        "tokens of thought a run."
    )
    lost = {scope: lost_at_half(curve, scope) for scope in SCOPES}
    said = [f"{in_points(points / 100)} points per {scope}" for scope, points in lost.items() if points is not None]
    if said:
        told += (
            f" Where budgets make it use half of them: {', '.join(said)} (between the two budgets around the half); at "
            f"most {MUST_KEEP:g} may be lost."
        )
    return f"{table(header, body, right=1)}\n\n{told} (`dami bench --budgets`)"


def agents_unseen(benches: Json) -> str:
    """Show agent tasks solved where a part of them is in no training task; ``benches`` has a result per part."""
    body = [
        [kind, str(bench["tasks"]), *(_solved(bench["modes"][name]) for name in UNSEEN_MODES)]
        for kind, bench in benches.items()
    ]
    text = table(["never seen in training", "tasks", *map(mode_name, UNSEEN_MODES)], body, right=1)
    seeds = " and ".join(dict.fromkeys(_seeds(bench) for bench in benches.values()))
    each = "a row each of `dami bench --unseen WHAT --tasks N --no-controls`"
    return f"{text}\n\nTasks solved, ± half a 95 % interval, {seeds}; {each}."


def _source(bench: Json) -> str:
    return f"{bench['tasks']} tasks never seen in training, {_seeds(bench)}. (`dami bench`)"


def _seeds(bench: Json) -> str:
    seeds = bench["seeds"]
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _solved(mode: Json) -> str:
    return f"{mode['solved']} ± {mode['solved_ci']:.0f}"


def _policy(found: Json) -> str:
    """Say what a policy file with budgets per tool does beside ``auto``."""
    return f"A policy file with budgets per tool: {describe_against_auto(found['against_auto'])}"


def mode_name(name: str) -> str:
    """Name a way to choose λ as tables do."""
    known = {
        "dami": "**λ per step** (`auto`)",
        "instruct": "always Instruct (λ=0)",
        "thinking": "always Thinking (λ=1)",
        "policy": "**a policy file with budgets per tool**",
        "shuffled": "the same λs, shuffled over the steps",
        "redrawn": "λs drawn from the same histogram",
        "router": "a router between λ=0 and λ=1",
        "retries": "Instruct, tried again after errors",
        "capped": "Thinking under a cap on each thought",
        "oracle": "oracle: the smallest λ that is enough",
    }
    return known.get(name, f"always {name.replace('lambda', 'λ')}")


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" (95 %: {ends[0]:.0%} to {ends[1]:.0%})"
