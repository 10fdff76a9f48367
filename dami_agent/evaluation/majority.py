"""Let Thinking vote on recorded steps: several replies to each at λ=1, and what more than half of them agree on.

What a calibration then measures is **agreement with Thinking, not being right**: where Thinking is wrong most of the
time, a λ that is wrong with it counts as right. Thinking's own share is measured leave-one-out: of one reply more than
vote, the one that has none. So it is not 1 by construction, and every λ is held to the same vote by a reply of its own.
Steps without a majority are left out: there Thinking does not know itself, and no λ could be judged.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dami_agent.errors import UsageError
from dami_agent.evaluation.asked import AskedBatch, SamplePlan, SampleSet
from dami_agent.evaluation.calibration import answers_in, shuffled, with_own_cap
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner, PairSource, Progress
from dami_agent.evaluation.recorded_steps import RecordedStep
from dami_agent.session import Session
from dami_agent.types import Intensity

__all__ = ["VOTES", "Vote", "vote"]

VOTES = 5
_CHUNK = 48
_SHARE = 0.5
"""Share of the time that voting may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Holds what Thinking agrees on.

    Attributes:
        asked: the steps with a majority, to be calibrated on.
        votes: replies to each step.
        steps: how many were voted on.
        without: of them, those without a majority.
        changed: steps left out before, as their text is not what was sent (a redaction hook changed it).
        unasked: steps that there was no time for.
    """

    asked: SampleSet
    votes: int
    steps: int
    without: int
    changed: int = 0
    unasked: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Return the numbers, for the frontier's file."""
        names = ("votes", "steps", "without", "changed", "unasked")
        return {name: getattr(self, name) for name in names}

    def said(self, ledger: str) -> str:
        """Say what accuracy means in a frontier that was measured on these steps."""
        return (
            f"agreement with the majority of {self.votes} replies of Thinking on {len(self.asked)} recorded steps of "
            f"{ledger}, not with known answers; Thinking's own is that of a reply left out of the vote"
        )


def vote(
    source: PairSource,
    plan: SamplePlan,
    steps: Sequence[RecordedStep],
    *,
    votes: int = VOTES,
    seconds: float | None = None,
    kept: Path | None = None,
    workers: int = 1,
    tell: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Vote:
    """Sample Thinking's replies to recorded steps, and keep the steps that more than half of them agree on.

    Args:
        source: the pair.
        plan: temperature and cap, as the calibration's.
        steps: of this pair.
        votes: replies to each.
        seconds: of the whole calibration; half of it may be voted.
        kept: a folder for the votes, from which a vote that broke off goes on.
        workers: processes that decode.
        tell: of progress.
        clock: seconds.

    Raises:
        UsageError: all texts were changed, a prompt does not fit the context window, or no step has a majority.
    """
    begun = clock()
    with BatchRunner(source, workers, tell) as runner, answers_in(kept) as folder:
        session = runner.session
        same = [step for step in steps if _as_sent(session, step)]
        if not same:
            raise UsageError(
                f"the texts of all {len(steps)} steps on record are not the prompts that were sent",
                hint="a redaction hook changes what is kept; calibrate on steps that were recorded without one",
            )
        asked = SampleSet(questions=[(1, step) for step in same])
        plan = with_own_cap(plan, session)
        order = shuffled(asked.asks(plan))
        file = folder / f"{asked.digest(session.engine.info.fingerprint, plan, 'votes')}.jsonl"
        found: dict[int, list[AnswerOutcome]] = {}
        for begin in range(0, len(order), _CHUNK):
            if begin and seconds is not None and clock() - begun > _SHARE * seconds:
                break
            places = tuple(order[begin : begin + _CHUNK])
            outcomes = runner.run([_batch(asked, plan, places, number, file) for number in range(1, votes + 1)])
            found |= dict(zip(places, map(list, zip(*outcomes, strict=True)), strict=True))
    agreed = {place: answer for place in sorted(found) if (answer := majority(found[place])) is not None}
    if not agreed:
        raise UsageError(
            f"on none of {len(found)} steps do more than half of {votes} replies of Thinking agree",
            hint="calibrate on questions with known answers: --questions",
        )
    return Vote(
        asked=SampleSet(questions=[(1, dataclasses.replace(same[at], majority=each)) for at, each in agreed.items()]),
        votes=votes,
        steps=len(found),
        without=len(found) - len(agreed),
        changed=len(steps) - len(same),
        unasked=len(same) - len(found),
    )


def majority(outcomes: Sequence[AnswerOutcome]) -> str | None:
    """Return the answer of more than half of the replies, if there is one; one that was cut off has no vote."""
    counts = Counter(each.answer for each in outcomes if each.finished and each.answer is not None)
    answer, count = max(counts.items(), key=lambda item: item[1], default=(None, 0))
    return answer if 2 * count > len(outcomes) else None


def _as_sent(session: Session, recorded: RecordedStep) -> bool:
    """Tell whether the text on record is as long as the prompt that was sent, as far as can be told."""
    return len(session.dialogue.render(recorded.step, recorded.template).token_ids) == recorded.prompt_tokens


def _batch(asked: SampleSet, plan: SamplePlan, places: tuple[int, ...], number: int, kept: Path) -> AskedBatch:
    """Make the batch of one vote; its random streams are other ones than those of the replies that are graded."""
    return AskedBatch(
        name="Thinking's votes",
        asked=asked,
        intensity=Intensity(1),
        plan=plan,
        places=places,
        attempt=number,
        kept=kept,
    )
