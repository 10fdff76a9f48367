"""What ``dami bench prefix`` measured, as Markdown."""

from __future__ import annotations

from builtin_pair.acceptance.markdown import Json, in_points, mark, table
from dami_agent.evaluation.shared_prefix import LEAST_LOW, MOST_LOST, MOST_TOKENS, is_free, is_free_of


def prefix(result: Json) -> str:
    """Show what replies gain and lose where their prompts are read once, at Thinking's λ."""
    body = [
        [
            f"questions, λ={row['lambda']:g}",
            *(f"{row[mode]['accuracy']:.3f} at {row[mode]['tokens']:.0f}" for mode in ("exact", "shared")),
            in_points(row["difference"], row["difference_ci"]),
            _ratio(row["tokens_ratio"], row["tokens_ratio_ci"]),
            mark(is_free(dict(row))),
        ]
        for row in result["rows"]
    ]
    body += [
        [
            f"agents, {'λ per step' if row['mode'] == 'dami' else row['mode']}",
            *(f"{row[mode]['solved']} at {row[mode]['output_tokens']:,}" for mode in ("exact", "shared")),
            in_points(row["solved"], row["solved_ci"]),
            _ratio(row["tokens"], row["tokens_ci"]),
            mark(is_free_of(dict(row))),
        ]
        for row in result["agents"]
    ]
    header = ["", "exact", "shared", "points, shared − exact", "tokens, shared to exact", "free"]
    asked = f"{result['questions']:,} held-out questions (accuracy, tokens a reply)"
    solved = f"{result['tasks']} agent tasks (solved, tokens in all)"
    return (
        f"{table(header, body, right=1)}\n\n{asked} and {solved}, {result['seeds']} seeds, 95 % intervals; shared "
        f"prompts are read at λ={result['intensity']:g}. Free is at most {100 * MOST_LOST:g} point lost (of questions "
        f"with an interval above −{-100 * LEAST_LOW:g}) at {MOST_TOKENS:g} times the tokens or less. "
        "(`dami bench prefix`)"
    )


def _ratio(value: float | None, ends: list[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" + ("" if ends is None else f" ({ends[0]:.2f} to {ends[1]:.2f})")
