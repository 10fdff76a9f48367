"""Where λ per step does not help, as Markdown lists, read off the results that the tables show."""

from __future__ import annotations

from builtin_pair.acceptance.agent_tables import mode_name
from builtin_pair.acceptance.markdown import Json, in_points, with_margin


def agents(bench: Json) -> str:
    """List what does as well as λ per step on agent tasks, or better: the router, fixed λs, Instruct, the oracle."""
    modes = bench["modes"]
    own, thinking = modes["dami"], modes["thinking"]
    told = []
    if (router := modes.get("router")) is not None:
        told.append(
            "**Between two λs and all of them.** A router between λ=0 and λ=1 solves "
            f"{_at(router)}, λ per step {_at(own)}."
        )
    fixed = [name for name, mode in modes.items() if name.startswith("lambda=") and mode["solved"] >= own["solved"]]
    if fixed:
        name = min(fixed, key=lambda each: modes[each]["output_tokens"])
        told.append(
            f"**Without an estimator.** λ={name.removeprefix('lambda=')} throughout solves {_at(modes[name])}, no "
            "fewer tasks than λ per step; what a choice per step saves is tokens alone."
        )
    own_easy, easy = (mode["by_depth"].get("0") for mode in (own, modes["instruct"]))
    if own_easy and easy and bench["depths"].get("0"):
        told.append(
            f"**Steps that call or copy** ({bench['depths']['0']:.0%} of all) take {own_easy['tokens']:.0f} tokens, of "
            f"Instruct {easy['tokens']:.0f}: an agent that has no others needs Instruct alone."
        )
    if (oracle := modes.get("oracle")) is not None:
        told.append(
            f"**What it misses.** The smallest λ that is enough at each step would solve {_at(oracle)}; λ per step is "
            f"{oracle['solved'] - own['solved']} tasks from that, always-Thinking "
            f"{oracle['solved'] - thinking['solved']}."
        )
    return _listed(told, "dami bench")


def questions(quality: Json) -> str:
    """List the rivals that λ per question is not clearly above, at equal tokens, and at which shares of them."""
    thinking = quality["thinking"]["tokens"]
    even: dict[str, list[str]] = {}
    for budget in quality["budgets"]:
        for name, found in budget["gains"].items():
            if found["gain"] <= found["ci"]:
                even.setdefault(name, []).append(f"{with_margin(found)} at {budget['tokens'] / thinking:.0%}")
    told = [f"**{name}**: {', '.join(where)} of Thinking's tokens." for name, where in even.items()]
    return _listed(told or ["λ per question is clearly above every rival."], "dami bench quality")


def budgets(curve: Json) -> str:
    """List the budgets under which Thinking, cut off where they end, solves more than λ per step."""
    behind = [
        f"per {point['scope']} {point['share']:.0%}, {in_points(found['solved'], found['solved_ci'])}"
        for point in curve["points"]
        if (found := point["auto_against_thinking"])["solved"] < 0
    ]
    if not behind:
        return _listed(["Under none of the budgets does Thinking solve more."], "dami bench --budgets")
    told = (
        "**Some budgets.** λ per step solves fewer tasks than Thinking under the same budget, which is a share of "
        "`auto`'s own thoughts; in points: "
    )
    return _listed([f"{told}{'; '.join(behind)}."], "dami bench --budgets")


def unseen(benches: Json) -> str:
    """List the kinds of unseen tasks on which λ per step, or the policy file, solves fewer than always-Thinking."""
    told = []
    for kind, bench in benches.items():
        thinking = bench["modes"]["thinking"]["solved"]
        fewer = [
            f"{mode_name(name)} {bench['modes'][name]['solved']}"
            for name in ("dami", "policy")
            if bench["modes"][name]["solved"] < thinking
        ]
        if fewer:
            told.append(
                f"**An unseen {kind}.** Of {bench['tasks']} tasks Thinking solves {thinking}, {' and '.join(fewer)}."
            )
    return _listed(told or ["Of none of the unseen kinds does Thinking solve more."], "dami bench --unseen WHAT")


def _at(mode: Json) -> str:
    return f"{mode['solved']} of {mode['tasks']} at {mode['output_tokens']:,} tokens"


def _listed(told: list[str], command: str) -> str:
    return "\n".join(f"- {each}" for each in told) + f"\n\n(`{command}`)"
