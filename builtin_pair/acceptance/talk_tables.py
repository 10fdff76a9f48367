"""What ``python -m builtin_pair freeform`` and ``conversations`` measured, as Markdown."""

from __future__ import annotations

from builtin_pair.acceptance.markdown import Json, table

KINDS = {
    "one_call": "one call",
    "call_then_work": "a call, then work on its result",
    "two_calls": "two calls",
    "many_tools": "one of many tools",
    "ids": "ids with letters",
    "no_tools": "no tools bound",
    "extract": "fields filled from a text",
    "no_tool_fits": "no tool fits",
    "follow_up": "a follow-up",
}
TALK = {
    "follow_up": "a follow-up after a right answer",
    "right_doubted": "a doubt after a right answer: kept",
    "wrong_doubted": "a doubt after a wrong answer: mended",
    "thanks": "thanks: answered without a number",
}


def at(row: Json) -> str:
    """Return how a row's λ is shown."""
    return "`auto`" if row["lambda"] == "auto" else f"λ={row['lambda']:g}"


def freeform(result: Json) -> str:
    """Show how many requests in people's own words are solved, by kind and λ."""
    rows = result["rows"]
    body = [["**all**", *(f"{row['solved']} ± {row['solved_ci']:.0f} of {row['cases']}" for row in rows)]]
    body += [[told, *(row["by_kind"][kind].replace("/", " of ") for row in rows)] for kind, told in KINDS.items()]
    body.append(["output tokens", *(f"{row['tokens']:,}" for row in rows)])
    body.append(["no reply", *(str(row["empty"]) for row in rows)])
    return (
        f"{table(['request', *map(at, rows)], body, right=1)}\n\n± half a 95 % interval, seed {result['seed']}; the "
        "requests and tools were written by somebody who had seen no training template. "
        "(`python -m builtin_pair freeform`)"
    )


def conversations(result: Json) -> str:
    """Show what the pair says to follow-ups, doubts and thanks, in words that training has and in new ones."""
    rows = result["rows"]
    body = []
    for kind, told in TALK.items():
        for words in ("known", "new"):
            key = f"{kind}, {words} words"
            if key in rows[0]:
                body.append([told, words, *(row[key].replace("/", " of ") for row in rows)])
    body.append(["no reply", "", *(str(row["empty"]) for row in rows)])
    shown = table(["after an answer", "words", *map(at, rows)], body, right=2)
    return (
        f"{shown}\n\nAll go on from what Instruct answered to {result['questions']} held-out questions, right or "
        f"wrong; new words are in no training template; seed {result['seed']}. (`python -m builtin_pair conversations`)"
    )
