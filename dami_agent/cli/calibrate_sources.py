"""Find what ``dami calibrate`` is to ask: a user's own questions, synthetic or third-party ones, or recorded steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dami_agent.cli.call_view import nothing, warn_of_damage
from dami_agent.cli.output import visible
from dami_agent.errors import UsageError

if TYPE_CHECKING:
    from dami_agent.evaluation.asked import SampleSet
    from dami_agent.evaluation.call_batches import PairSource
    from dami_agent.evaluation.recorded_steps import RecordedStep

__all__ = ["asked_of", "check_ledger_options", "name_of", "recorded"]

GYM = "reasoning-gym:"


def check_ledger_options(
    ledger: str | None, votes: int | None, temperature: float | None, others: Mapping[str, object]
) -> None:
    """Refuse what makes no sense with ``--ledger``, or without it."""
    if ledger is None:
        if votes is not None:
            raise UsageError("--votes is of --ledger", hint="name a ledger, or leave --votes out")
        return
    for name, given in others.items():
        if given is not None:
            raise UsageError(f"--ledger brings recorded steps, and {name} other questions", hint="give one of them")
    if temperature == 0:
        raise UsageError(
            "at --temperature 0 all of Thinking's replies to a step are the same, so they agree on anything",
            hint="leave --temperature out",
        )


def recorded(location: str, source: PairSource, most: int | None) -> list[RecordedStep]:
    """Read the pair's steps of a ledger; of its weights nothing is read for it.

    Raises:
        UsageError: there is no ledger, no call in it, no text, or no step of this pair.
        LedgerError: it cannot be read.
    """
    from dami_agent.evaluation.recorded_steps import recorded_steps, with_texts
    from dami_agent.ledger import Ledger

    opened = Ledger.open(location)
    rows = opened.rows()
    if not rows:
        raise UsageError(visible(nothing(opened, rows, {})), hint="name a ledger that kept texts (DAMI_LEDGER_TEXT=1)")
    opened.close()
    warn_of_damage(rows)
    told = with_texts(rows)
    return recorded_steps(told, source.open().engine.info.fingerprint, most)


def name_of(location: str) -> str:
    """Return a ledger's name for people: the file's, or the database's without user and password."""
    return "a database" if "://" in location else Path(location).name


def asked_of(questions: Path | None, tasks: str, count: int | None) -> tuple[SampleSet, str]:
    """Return what is asked, and what is said of it in the file."""
    from dami_agent.evaluation.asked import SampleSet
    from dami_agent.evaluation.gym_questions import gym_questions
    from dami_agent.evaluation.own_questions import read_questions
    from dami_agent.evaluation.train_estimator import builtin_sets

    if questions is not None:
        return SampleSet(questions=[(1, each) for each in read_questions(questions)]), questions.name
    if tasks == "builtin":
        number = count or 700
        return builtin_sets(number, 0, max(1, number * 2 // 7))[0], "built-in tasks, calibration split"
    if not tasks.startswith(GYM) or not tasks.removeprefix(GYM):
        raise UsageError(f"--tasks {tasks}", hint=f"give builtin, or {GYM} with names such as {GYM}gsm_symbolic")
    names = [name.strip() for name in tasks.removeprefix(GYM).split(",") if name.strip()]
    return SampleSet(questions=[(1, each) for each in gym_questions(names, count or 500)]), tasks
