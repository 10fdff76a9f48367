"""Calibrate a pair: find its frontier and train its heads on one set of sampled replies, within a budget of time.

Prompts are asked in rounds, each about twice as long as the one before:

1. The first round compares both chat templates at every λ above 0: the **switch point** (``sweep.switch_point``).
2. Every round asks its prompts at every λ that is still in play. The first is made whatever the budget.
3. After a round a λ is **left out** that another beats beyond the noise of the paired comparison, and the widest jump
   of accuracy between two neighbours gets the λ in the middle, which is asked all prompts so far.
4. It ends when all prompts were asked, or when the next round would not fit into the budget.

So most replies are drawn where the choice of λ hangs on them. Rows are of λs that were asked every prompt; those left
out are listed with what they came to and what beat them. Prompts that failed at some λ (an engine out of memory) count
nowhere. Accuracy has Wilson's 95 % interval, a difference that of its paired mean, and prompts that hang together count
as one; looks at the data between rounds are not corrected for.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from dami_agent.errors import InvalidRequest, RunError, UsageError
from dami_agent.estimators.fit import LEAST, fit_heads
from dami_agent.estimators.heads import Heads
from dami_agent.evaluation.asked import AnswerFile, Ask, AskedBatch, SamplePlan, SampleSet
from dami_agent.evaluation.calibration_rows import difference, row_of
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner, PairSource, Progress
from dami_agent.evaluation.samples import every_layer, joined, read_probes, read_states, rendered, states_read_at
from dami_agent.evaluation.sweep import TEMPLATES, switch_point, templates_row
from dami_agent.policy import Frontier
from dami_agent.session import Session
from dami_agent.types import Intensity, Prompt

__all__ = ["CalibrationPlan", "answers_in", "calibrate", "shuffled", "with_own_cap"]

Outcomes = dict[Intensity, dict[int, AnswerOutcome]]
"""By λ and prompt."""

_THINKING = Intensity(1)
_JUMP = 0.05
_CLOSE = 0.11
_READING = 0.1
_FAILURES = 0.1
_LEAST_ROUND = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationPlan:
    """Say how a pair is calibrated.

    Attributes:
        samples: λs to begin with, temperature and cap; one try each.
        first: prompts of the first round, at least 8.
        most: λs in play at most.
        seconds: all of it may take about so long; None: as long as it takes.
    """

    samples: SamplePlan = field(
        default_factory=lambda: SamplePlan(lambdas=(0, 0.2, 0.4, 0.6, 0.8, 1), temperature=None, max_tokens=None)
    )
    first: int = 48
    most: int = 9
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.first < _LEAST_ROUND:
            raise UsageError(f"the first round needs at least {_LEAST_ROUND} prompts, got {self.first}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Holds what was found.

    Attributes:
        frontier: what :meth:`~dami_agent.policy.Frontier.from_dict` reads.
        heads: None where there were too few prompts, or the engine gives no hidden states; ``without`` says which.
        without: why there are no heads.
    """

    frontier: dict[str, Any]
    heads: Heads | None = None
    without: str = ""


def calibrate(
    source: PairSource,
    plan: CalibrationPlan,
    asked: SampleSet,
    *,
    kept: Path | None = None,
    workers: int = 1,
    tell: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Calibration:
    """Calibrate a pair; see the module's docstring.

    Args:
        source: the pair.
        plan: how.
        asked: questions and agent tasks.
        kept: a folder for the answers, from which a calibration that broke off goes on; None: they are not kept.
        workers: processes that decode.
        tell: of progress.
        clock: seconds, for the budget.

    Raises:
        UsageError: nothing is asked, a prompt does not fit the context window (says which, before anything is
            decoded), or no reply was right.
        RunError: more than a tenth of the calls failed.
    """
    if not len(asked):
        raise UsageError("there is nothing to ask")
    begun = clock()
    with BatchRunner(source, workers, tell) as runner, answers_in(kept) as folder:
        session = runner.session
        samples = with_own_cap(plan.samples, session)
        asks = asked.asks(samples)
        prompts = rendered(session, asks)
        info = session.engine.info
        file = folder / f"{asked.digest(info.fingerprint, samples)}.jsonl"
        plan = dataclasses.replace(plan, samples=samples)
        rounds = _Rounds(runner, plan, asked, asks, file, lambda: clock() - begun)
        rounds.run()
        by_lambda, thinking = dict(sorted(rounds.found.items())), rounds.found[_THINKING]
        frontier = {
            "rows": [row_of(value, asks, found, thinking) for value, found in by_lambda.items()],
            "left_out": rounds.left_out,
            "questions": len(thinking),
            "of": len(asks),
            "failed": len(rounds.failed),
            "switch_point": rounds.switch,
            "switch": rounds.templates,
            "pair": info.model,
            "fingerprint": info.fingerprint,
            "temperature": samples.temperature,
            "max_tokens": samples.max_tokens,
            "kinds": sorted({ask.kind for ask in asks}),
        }
        places = sorted(thinking)
        try:
            heads = _heads(session, [asks[p] for p in places], [prompts[p] for p in places], by_lambda, frontier, tell)
        except (RunError, UsageError) as error:  # the frontier has cost hours, and stands
            return Calibration(frontier=frontier, without=error.message)
    return Calibration(frontier=frontier, heads=heads)


def _heads(
    session: Session,
    asks: Sequence[Ask],
    prompts: Sequence[Prompt],
    by_lambda: Mapping[Intensity, Mapping[int, AnswerOutcome]],
    frontier: Mapping[str, Any],
    tell: Progress | None,
) -> Heads:
    """Fit heads to the λs of the grid: estimates snap to it, so a head that chose others would not be followed."""
    if max(sum(bool(ask.step.tools) == tools for ask in asks) for tools in (False, True)) < LEAST:
        raise InvalidRequest(f"fewer than {LEAST} prompts of a kind were asked")
    layers, measured = every_layer(session.engine), Frontier.from_dict(frontier)
    grid, read_at = measured.grid, states_read_at(measured)
    states = read_states(session, prompts, layers, tell, read_at=read_at)
    probes = read_probes(session, [ask.step for ask in asks], tell)
    replies = [[[found[place] for place in sorted(found)]] for value, found in by_lambda.items() if value in grid]
    lambdas = [value for value in by_lambda if value in grid]
    samples = joined(asks, layers, states, probes, lambdas, replies, read_at=read_at)
    return fit_heads(samples, session.engine.info.fingerprint)


@contextmanager
def answers_in(kept: Path | None) -> Iterator[Path]:
    """Give the folder for the answers; where they are not kept, one that lasts as long as they are needed."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with TemporaryDirectory() as name:
        yield Path(name)


def with_own_cap(samples: SamplePlan, session: Session) -> SamplePlan:
    """Return the plan with the pair's own cap of a reply, where it names none."""
    if samples.max_tokens is not None:
        return samples
    return dataclasses.replace(samples, max_tokens=session.max_tokens)


def shuffled(asks: Sequence[Ask]) -> list[int]:
    """Order the prompts by chance, always the same; what hangs together stays together."""
    groups: dict[str, list[int]] = {}
    for place, ask in enumerate(asks):
        groups.setdefault(ask.group, []).append(place)
    names = list(groups)
    Random("calibrate").shuffle(names)
    return [place for name in names for place in groups[name]]


class _Rounds:
    """Asks the prompts round by round, and keeps score of the λs."""

    def __init__(
        self,
        runner: BatchRunner,
        plan: CalibrationPlan,
        asked: SampleSet,
        asks: Sequence[Ask],
        kept: Path,
        elapsed: Callable[[], float],
    ) -> None:
        self._runner, self._plan, self._asked, self._kept, self._elapsed = runner, plan, asked, kept, elapsed
        self._asks = asks
        self.order = shuffled(asks)
        self.found: Outcomes = {Intensity(value): {} for value in plan.samples.lambdas}
        self.left_out: list[dict[str, Any]] = []
        self._gone: Outcomes = {}
        self.templates: list[dict[str, Any]] = []
        self.switch = 0.0
        self.done = 0
        self.failed: set[int] = set()
        self._made, self._seconds = 0, 0.0  # replies decoded in this process's rounds, and how long they took

    def run(self) -> None:
        """Ask until all was asked or the time is up."""
        size = min(self._plan.first, len(self.order))
        self._compare_templates(self.order[:size])
        number = 0
        while size:
            number += 1
            self._ask(f"round {number}", list(self.found), self.order[self.done : self.done + size])
            self.done += size
            self._check()
            if self.done < len(self.order):
                self._leave_out()
                self._refine()
            size = self._next(size)

    def _next(self, size: int) -> int:
        """Return how many prompts the next round has: twice as many, as far as time and prompts last; 0: none."""
        size = min(2 * size, len(self.order) - self.done)
        if self._plan.seconds is None:
            return size
        if not self._made:  # all was known from before: how long a reply takes is not
            return min(size, self._plan.first)
        fitting = self._fitting() // len(self.found)
        return size if fitting >= size else fitting if fitting >= _LEAST_ROUND else 0

    def _fitting(self) -> int:
        """Return how many replies fit into what is left of the time."""
        assert self._plan.seconds is not None
        left = (1 - _READING) * self._plan.seconds - self._elapsed()
        return max(0, math.floor(left * self._made / self._seconds))

    def _check(self) -> None:
        """Leave out prompts that failed at some λ, and refuse what nothing can be learned from.

        Raises:
            RunError: more than a tenth of the prompts failed.
            UsageError: no reply is right.
        """
        self.failed |= {place for found in self.found.values() for place, each in found.items() if each.failed}
        for found in (*self.found.values(), *self._gone.values()):
            for place in self.failed & found.keys():
                del found[place]
        if len(self.failed) > max(3, _FAILURES * self.done):
            raise RunError(f"{len(self.failed)} of {self.done} prompts failed at some λ; what was answered is kept")
        if not any(each.right for found in self.found.values() for each in found.values()):
            raise UsageError(
                f"none of the replies to {self.done} prompts is right at any λ", hint="check the answers and graders"
            )

    def _ask(
        self, name: str, values: Sequence[Intensity], places: Sequence[int], **settings: Any
    ) -> list[list[AnswerOutcome]]:
        """Ask prompts at some λs, and keep the outcomes unless ``template`` is given."""
        batches = [
            AskedBatch(
                name=name,
                asked=self._asked,
                intensity=value,
                plan=self._plan.samples,
                places=tuple(places),
                switch=self.switch,
                kept=self._kept,
                **settings,
            )
            for value in values
        ]
        known = AnswerFile(self._kept).read()
        fresh = sum((batch.label, place) not in known for batch in batches for place in places)
        before = self._elapsed()
        outcomes = self._runner.run(batches)
        if fresh:
            self._made, self._seconds = self._made + fresh, self._seconds + self._elapsed() - before
        if "template" not in settings:
            for value, found in zip(values, outcomes, strict=True):
                self.found.setdefault(value, {}).update(zip(places, found, strict=True))
        return outcomes

    def _compare_templates(self, places: Sequence[int]) -> None:
        above = [value for value in self.found if value > 0]
        each = [self._ask(f"{template}'s template", above, places, template=template) for template in TEMPLATES]
        for value, *outcomes in zip(above, *each, strict=True):
            instruct, thinking = (dict(zip(places, found, strict=True)) for found in outcomes)
            gained = difference(thinking, instruct, self._asks).said
            self.templates.append(templates_row(value, *outcomes) | gained)
        self.switch = switch_point(self.templates)

    def _leave_out(self) -> None:
        """Leave out each λ between the ends that another beats."""
        for value in [value for value in self.found if 0 < value < 1]:
            for other in [other for other in self.found if other != value]:
                against = difference(self.found[other], self.found[value], self._asks)
                if against.beats:
                    row = row_of(value, self._asks, self.found[value], self.found[_THINKING])
                    self.left_out.append(row | {"beaten_by": float(other)} | against.said)
                    self._gone[value] = self.found.pop(value)
                    break

    def _refine(self) -> None:
        """Ask the λ in the middle of the widest jump of accuracy what was asked so far; the ends may be left out."""
        known = self._gone | self.found
        jumps = []
        for low, high in pairwise(sorted(known)):
            rise = difference(known[high], known[low], self._asks)
            if high - low > _CLOSE and rise.accuracy - rise.accuracy_ci > _JUMP:
                jumps.append((rise.accuracy, round((low + high) / 2, 3)))
        if jumps and len(self.found) < self._plan.most:
            middle = Intensity(max(jumps)[1])
            if self._plan.seconds is not None and self._made and self._fitting() < self.done:
                return
            self._ask(f"λ={middle:g} as well", [middle], self.order[: self.done])
            self._check()
