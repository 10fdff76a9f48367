"""What ``dami bench quality`` and ``dami bench merges`` measured, as Markdown: λ per question against its rivals."""

from __future__ import annotations

from builtin_pair.acceptance.markdown import Json, table, with_margin


def quality(result: Json) -> str:
    """Show what λ per question gains on each rival at equal tokens, under budgets that are shares of Thinking's."""
    thinking, budgets = result["thinking"], result["budgets"]
    header = ["at this share of Thinking's tokens", *(f"{b['tokens'] / thinking['tokens']:.0%}" for b in budgets)]
    body = [[f"accuracy of {result['method']}", *(f"{b['accuracy']:.3f}" for b in budgets)]]
    body += [[f"more than {name}", *(with_margin(b["gains"][name]) for b in budgets)] for name in budgets[0]["gains"]]
    shares = ("–" if b["oracle_share"] is None else f"{b['oracle_share']:.0%}" for b in budgets)
    body.append(["of the oracle's gain on fixed λs", *shares])
    body.append(
        ["heads of other families, more than fixed", *(with_margin(b["other_families_over_fixed"]) for b in budgets)]
    )
    areas = ", ".join(f"{name} {value:.3f}" for name, value in result["areas"].items())
    dear = _beyond(result["curves"], thinking["tokens"])
    most, even = result["at_most_thinking"], result["even"]
    return (
        f"{table(header, body, right=1)}\n\nPoints of accuracy, ± half a paired 95 % interval; {result['questions']:,} "
        f"questions that nothing was fitted to, heads fitted to {result['learned']} others. Thinking: "
        f"{thinking['accuracy']:.3f} at {thinking['tokens']:.0f} tokens; at no more than these {with_margin(most)} "
        f"points at {most['tokens']:.0%} of them, and where the fit promises to lose a hundredth at most "
        f"{with_margin(even)} at {even['tokens']:.0%}. Mean accuracy over all budgets: {areas}. A rival whose own "
        "points all cost more counts as the best mix of Instruct and Thinking; what such points come to, beyond "
        f"Thinking's tokens: {dear}. "
        "(`dami bench quality`)"
    )


def _beyond(curves: Json, tokens: float) -> str:
    """Say what methods come to that take more than Thinking's tokens: the most accurate point of each."""
    best = {name: max(curve, key=lambda point: point["accuracy"]) for name, curve in curves.items() if curve}
    dear = [
        f"{name} {point['accuracy']:.3f} at {point['tokens'] / tokens:.0%}"
        for name, point in best.items()
        if point["tokens"] > tokens
    ]
    return ", ".join(dear) or "none"


def merges(result: Json) -> str:
    """Show what static merges gain on the best mix of two λs of the straight path at equal tokens."""
    body = [
        [
            row["method"],
            row["settings"],
            f"{row['accuracy']:.3f}",
            f"{row['tokens']:.0f}",
            f"{row['finished']:.1%}",
            with_margin({"gain": row["gain"], "ci": row["gain_ci"]}) if "gain" in row else "–",
        ]
        for row in result["rows"]
    ]
    header = ["merge", "", "accuracy", "tokens", "finished", "points over the straight path at equal tokens"]
    gains = [(row["gain"], row["gain_ci"]) for row in result["rows"] if "gain" in row]
    above, below = (sum(sign * gain > ci for gain, ci in gains) for sign in (1, -1))
    return (
        f"{table(header, body, right=2)}\n\n{result['questions']:,} held-out questions under Thinking's template, "
        f"{result['seeds']} seeds, ± half a paired 95 % interval. Clearly above the straight path: {above} of "
        f"{len(gains)} merges, clearly below: {below}; chance would set apart one of forty each way. "
        "(`dami bench merges`)"
    )
