"""Pack what became of every question of a sweep into its JSON, and read it back.

A row of ``outcomes`` is one λ: ``right``, ``thought`` and ``finished`` have a 0 or 1 for each question, ``tokens`` the
output tokens, separated by blanks. The questions themselves are not kept: :func:`dami_agent.evaluation.sweep.held_out`
draws the same ones again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dami_agent.errors import UsageError
from dami_agent.evaluation.call_batches import AnswerOutcome
from dami_agent.types import Intensity

FLAGS = ("right", "thought", "finished")

NEEDED = ("rows", "questions", "seeds", "temperature", "max_tokens", "switch_point", "fingerprint")
"""What a sweep's JSON says of itself, whatever was measured."""


def read_sweep(path: Path) -> Mapping[str, Any]:
    """Read what ``dami sweep --output`` wrote.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    hint = "write it with `dami sweep --output FILE`"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint=hint) from error
    if not isinstance(data, dict) or (missing := [name for name in NEEDED if name not in data]):
        lacks = f"it has no {', '.join(missing)}" if isinstance(data, dict) else "it is no JSON object"
        raise UsageError(f"{path} is not what a sweep wrote: {lacks}", hint=hint)
    return data


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
