"""Pack what became of every question of a sweep into its JSON, and read it back.

A row of ``outcomes`` is one λ: ``right``, ``thought`` and ``finished`` have a 0 or 1 for each question, ``tokens`` the
output tokens, separated by blanks. The questions themselves are not kept: :func:`dami_agent.evaluation.sweep.held_out`
draws the same ones again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dami_agent.errors import UsageError
from dami_agent.evaluation.call_batches import AnswerOutcome
from dami_agent.types import Intensity

FLAGS = ("right", "thought", "finished")


def packed(found: Mapping[Intensity, Sequence[AnswerOutcome]]) -> list[dict[str, Any]]:
    """Pack outcomes, as many at every λ, for JSON."""
    return [
        {"lambda": float(value)}
        | {name: "".join(str(int(getattr(outcome, name))) for outcome in outcomes) for name in FLAGS}
        | {"tokens": " ".join(str(outcome.tokens) for outcome in outcomes)}
        for value, outcomes in found.items()
    ]


def unpacked(sweep: Mapping[str, Any]) -> dict[Intensity, list[AnswerOutcome]]:
    """Read the outcomes of a sweep's JSON back: what :func:`packed` kept of them, and the template of their λ.

    Raises:
        UsageError: they are missing, or not as many as the questions.
    """
    rows, templates = sweep.get("outcomes") or (), {row["lambda"]: row["template"] for row in sweep["rows"]}
    found = {}
    for row in rows:
        tokens, flags = row["tokens"].split(), [row[name] for name in FLAGS]
        if {len(tokens), *map(len, flags)} != {sweep["questions"]}:
            raise UsageError(f"the sweep has other than {sweep['questions']} outcomes at λ={row['lambda']:g}")
        found[Intensity(row["lambda"])] = [
            AnswerOutcome(
                right=right == "1",
                thought=thought == "1",
                finished=finished == "1",
                tokens=int(count),
                template=templates[row["lambda"]],
            )
            for right, thought, finished, count in zip(*flags, tokens, strict=True)
        ]
    if not found:
        raise UsageError(
            "the sweep does not keep what became of every question",
            hint="measure it again with `dami sweep --output FILE`",
        )
    return found
