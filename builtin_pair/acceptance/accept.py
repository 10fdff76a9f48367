"""Judge a sweep of the built-in pair: what is measured for acceptance alone, and the criteria, added to its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from builtin_pair.acceptance.criteria import criteria
from builtin_pair.acceptance.parity_cells import parity_cells
from builtin_pair.acceptance.unseen import LAMBDAS, compare_unseen, seen_accuracy, unseen_questions
from dami_agent.errors import UsageError
from dami_agent.evaluation.call_batches import BatchRunner, QuestionBatch
from dami_agent.evaluation.outcomes import unpacked
from dami_agent.evaluation.sweep import held_out
from dami_agent.tasks import UNSEEN
from dami_agent.types import Intensity


def accepted(
    sweep: Mapping[str, Any], unseen: Sequence[Mapping[str, Any]] = (), suites: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Add the criteria, and what they are judged by, to what ``dami sweep`` measured.

    Args:
        sweep: its JSON, with the outcomes of every question.
        unseen: what :func:`measure_unseen` returned; without it those criteria are not judged.
        suites: what :func:`builtin_pair.acceptance.junit.counted` says of LangChain's standard suites; None: not run.

    Raises:
        UsageError: the sweep lacks the outcomes.
    """
    found = unpacked(sweep)
    asked = list(held_out(sweep["questions"], sweep["seeds"]))
    judged = {"unseen": list(unseen), "suites": suites}
    judged |= {"parity": parity_cells(asked, found[Intensity(0)], found[Intensity(1)])}
    result = {**sweep, **judged}
    return result | {"criteria": [each.to_dict() for each in criteria(asked, found, result)]}


def measure_unseen(runner: BatchRunner, sweep: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Ask ``count`` questions of each unseen kind at each λ, and compare them with those of the sweep.

    Args:
        runner: of the pair that was swept.
        sweep: its JSON, with the outcomes of every question.
        count: 0 asks none.

    Raises:
        UsageError: the sweep lacks the outcomes, or is of another pair.
    """
    if runner.session.engine.info.fingerprint != sweep["fingerprint"]:
        raise UsageError("the sweep was measured on other weights than the built-in pair's")
    found = unpacked(sweep)
    asked = list(held_out(sweep["questions"], sweep["seeds"]))
    drawn = {kind: unseen_questions(kind, count, sweep["seeds"]) for kind in UNSEEN}
    batches = {
        (kind, value): QuestionBatch(
            name=f"unseen {kind}s",
            asked=drawn[kind],
            intensity=value,
            temperature=sweep["temperature"],
            max_tokens=sweep["max_tokens"],
            switch=sweep["switch_point"],
        )
        for kind in UNSEEN
        for value in found
        if count and value in LAMBDAS
    }
    outcomes = runner.run(list(batches.values()))
    return [
        {"kind": kind, "lambda": float(value)}
        | compare_unseen(kind, drawn[kind], answered, seen_accuracy(asked, found[value]))
        for (kind, value), answered in zip(batches, outcomes, strict=True)
    ]


def shipped(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Return the frontier file that ships: all but the outcomes, which are most of the bytes."""
    return {name: value for name, value in sweep.items() if name != "outcomes"}
