"""Read a user's own steps from a ledger that kept texts, and bring replies to a form in which they can be compared.

Nobody has written down the right answers to what was asked in earnest. So a step is right here where its reply
**agrees with the majority of Thinking's** (:mod:`dami_agent.evaluation.majority` takes the vote), as
:mod:`dami_agent.answers` compares them. Texts of any length hardly ever agree so: such steps end up without a majority.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dami_agent.answers import answer_of
from dami_agent.errors import LedgerError, UsageError
from dami_agent.ledger import CallRow, step_of
from dami_agent.types import Limits, Reply, Step, Template

__all__ = ["RecordedStep", "rebuilt_step", "recorded_steps", "with_texts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStep:
    """Holds one step of a ledger.

    Attributes:
        step: messages, tools and form as they were sent; stop strings in its limits.
        text: the step as the ledger keeps it, which tells it from others.
        run: whose step it is; steps of one run hang together.
        template, prompt_tokens: how its prompt was rendered, and how long it was.
        majority: what most of Thinking's replies agree on, as :func:`answer_of` writes it; None: not known yet.
    """

    step: Step
    text: str
    run: str
    template: Template
    prompt_tokens: int
    majority: str | None = None

    @property
    def prompt(self) -> str:
        """Return what tells it from others."""
        return self.text

    @property
    def kind(self) -> str:
        """Return what form its answer has, for counts by kind."""
        return "recorded step" if self.majority is None else f"recorded {self.majority.partition(' ')[0]}"

    def right(self, reply: Reply) -> bool:
        """Tell whether a reply agrees with the majority."""
        return self.majority is not None and answer_of(reply) == self.majority


def rebuilt_step(row: CallRow) -> Step:
    """Rebuild a recorded step: messages, tools, form and stop strings, without its other settings and run context.

    Raises:
        LedgerError: what is on record is damaged.
    """
    assert row.prompt_text is not None
    try:
        stop = tuple(row.limits.get("stop") or ())
        return replace(step_of(row.prompt_text), limits=Limits(stop=stop))
    except Exception as error:  # somebody wrote into the file: whatever stands there, one error of ours comes out
        raise LedgerError(
            f"the text of call {row.call_id} on record cannot be read: {type(error).__name__}: {error}"[:300],
            hint="`dami logs --verify` names damaged rows",
        ) from error


def with_texts(rows: Sequence[CallRow]) -> list[CallRow]:
    """Return the rows whose text is on record.

    Raises:
        UsageError: there are none.
    """
    told = [row for row in rows if row.prompt_text is not None]
    if not told:
        raise UsageError(
            f"none of the {len(rows)} calls on record has a text, so nothing can be asked again",
            hint="from now on, keep texts with DAMI_LEDGER_TEXT=1 or Ledger.open(..., keep_text=True)",
        )
    return told


def recorded_steps(rows: Sequence[CallRow], fingerprint: str, most: int | None = None) -> list[RecordedStep]:
    """Return the steps of a pair, each prompt once, the newest first.

    Args:
        rows: of a ledger, with their texts, oldest first; attempts at one call are one step.
        fingerprint: of the pair.
        most: steps to return at most.

    Raises:
        UsageError: none is this pair's.
        LedgerError: what is on record is damaged.
    """
    mine = [row for row in rows if row.fingerprint == fingerprint and row.weights_mode is not None]
    if not mine:
        others = ", ".join(sorted({f"{row.model} ({row.fingerprint})" for row in rows}))
        raise UsageError(
            f"no step on record was decoded by this pair ({fingerprint}), but by {others}",
            hint="name the checkpoints that the steps ran on",
        )
    newest = {row.prompt_text: row for row in mine}  # of equal prompts the last
    chosen = sorted(newest.values(), key=lambda row: row.id, reverse=True)[:most]
    return [_recorded(row) for row in chosen]


def _recorded(row: CallRow) -> RecordedStep:
    assert row.prompt_text is not None
    return RecordedStep(
        step=rebuilt_step(row),
        text=row.prompt_text,
        run=row.run,
        template="thinking" if row.template == "thinking" else "instruct",
        prompt_tokens=row.prompt_tokens,
    )
