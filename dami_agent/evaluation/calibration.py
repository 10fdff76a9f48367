"""Calibrate a pair: find its frontier and train its heads on one set of sampled replies, within a budget of time.

Prompts are asked in rounds, each about twice as long as the one before:

1. The first round compares both chat templates at every λ above 0: the **switch point** (``sweep.switch_point``).
2. Every round asks its prompts at every λ that is still in play. The first is made whatever the budget.
3. After a round a λ is **left out** that another beats beyond the noise of the paired comparison, and the widest jump
   of accuracy between two neighbours gets the λ in the middle, which is asked all prompts so far.
4. It ends when all prompts were asked, or when the next round would not fit into the budget.

So most replies are drawn where the choice of λ hangs on them. Rows are of λs that were asked every prompt; those left
out are listed with what they came to and what beat them. Accuracy has Wilson's 95 % interval, a difference that of its
paired mean; looks at the data between rounds are not corrected for.
"""

from __future__ import annotations

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

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.fit import LEAST, fit_heads
from dami_agent.estimators.heads import Heads
from dami_agent.evaluation.asked import AnswerFile, Ask, AskedBatch, SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner, PairSource, Progress
from dami_agent.evaluation.rows import rounded
from dami_agent.evaluation.samples import joined, read_probes, read_states, rendered
from dami_agent.evaluation.stats import half_width, mean, mean_half_width
from dami_agent.evaluation.sweep import TEMPLATES, switch_point, templates_row
from dami_agent.request_checks import reader_of_states
from dami_agent.types import Intensity

__all__ = ["CalibrationPlan", "calibrate"]

Outcomes = dict[Intensity, dict[int, AnswerOutcome]]
"""By λ and prompt."""

_THINKING = Intensity(1)
_JUMP = 0.05
_CLOSE = 0.11
_WORSE = 0.01
_READING = 0.1
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
        UsageError: a prompt does not fit the context window; says which, before anything is decoded.
    """
    begun = clock()
    with BatchRunner(source, workers, tell) as runner, _folder(kept) as folder:
        asks = asked.asks(plan.samples)
        prompts = rendered(runner.session, asks)
        info = runner.session.engine.info
        file = folder / f"{asked.digest(info.fingerprint, plan.samples)}.jsonl"
        rounds = _Rounds(runner, plan, asked, asks, file, lambda: clock() - begun)
        rounds.run()
        by_lambda, thinking = dict(sorted(rounds.found.items())), rounds.found[_THINKING]
        frontier = {
            "rows": [_row(value, asks, found, thinking) for value, found in by_lambda.items()],
            "left_out": rounds.left_out,
            "questions": rounds.done,
            "of": len(asks),
            "switch_point": rounds.switch,
            "switch": rounds.templates,
            "pair": info.model,
            "fingerprint": info.fingerprint,
            "temperature": plan.samples.temperature,
            "max_tokens": plan.samples.max_tokens,
            "kinds": sorted({ask.kind for ask in asks}),
        }
        places = sorted(rounds.order[: rounds.done])
        if max(sum(bool(asks[p].step.tools) == tools for p in places) for tools in (False, True)) < LEAST:
            return Calibration(frontier=frontier, without=f"fewer than {LEAST} prompts of a kind were asked")
        try:
            reader_of_states(runner.session.engine)
        except InvalidRequest as error:
            return Calibration(frontier=frontier, without=error.message)
        layers = tuple(range(1, info.layers + 1))
        states = read_states(runner.session, [prompts[place] for place in places], layers, tell)
        probes = read_probes(runner.session, [asks[place].step for place in places], tell)
    replies = [[[found[place] for place in places]] for found in by_lambda.values()]
    samples = joined([asks[place] for place in places], layers, states, probes, list(by_lambda), replies)
    return Calibration(frontier=frontier, heads=fit_heads(samples, info.fingerprint))


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """Give the folder for the answers; where they are not kept, one that lasts as long as they are needed."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with TemporaryDirectory() as name:
        yield Path(name)


def _shuffled(asks: Sequence[Ask]) -> list[int]:
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
        self.order = _shuffled(asks)
        self.found: Outcomes = {Intensity(value): {} for value in plan.samples.lambdas}
        self.left_out: list[dict[str, Any]] = []
        self._gone: Outcomes = {}
        self.templates: list[dict[str, Any]] = []
        self.switch = 0.0
        self.done = 0
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
            if self.done < len(self.order):
                self._leave_out()
                self._refine()
            size = self._next(size)

    def _next(self, size: int) -> int:
        """Return how many prompts the next round has: twice as many, as far as time and prompts last; 0: none."""
        size = min(2 * size, len(self.order) - self.done)
        if self._plan.seconds is None or not self._made:
            return size
        left = (1 - _READING) * self._plan.seconds - self._elapsed()
        fitting = math.floor(left * self._made / self._seconds / len(self.found))
        return size if fitting >= size else fitting if fitting >= _LEAST_ROUND else 0

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
        self.templates = [templates_row(*of) for of in zip(above, *each, strict=True)]
        self.switch = switch_point(self.templates)

    def _leave_out(self) -> None:
        """Leave out each λ between the ends that another beats."""
        for value in [value for value in self.found if 0 < value < 1]:
            for other in [other for other in self.found if other != value]:
                against = _difference(self.found[other], self.found[value])
                if against.beats:
                    row = _row(value, self._asks, self.found[value], self.found[_THINKING])
                    self.left_out.append(row | {"beaten_by": float(other)} | against.said)
                    self._gone[value] = self.found.pop(value)
                    break

    def _refine(self) -> None:
        """Ask the λ in the middle of the widest jump of accuracy what was asked so far; the ends may be left out."""
        known = self._gone | self.found
        jumps = []
        for low, high in pairwise(sorted(known)):
            rise = _difference(known[high], known[low])
            if high - low > _CLOSE and rise.accuracy - rise.accuracy_ci > _JUMP:
                jumps.append((rise.accuracy, round((low + high) / 2, 3)))
        if jumps and len(self.found) < self._plan.most:
            middle = Intensity(max(jumps)[1])
            self._ask(f"λ={middle:g} as well", [middle], self.order[: self.done])


@dataclass(frozen=True, slots=True)
class _Difference:
    """Hold what one λ gains on another, prompt by prompt, with half intervals."""

    accuracy: float
    accuracy_ci: float
    tokens: float
    tokens_ci: float

    @property
    def beats(self) -> bool:
        """Tell whether it is better beyond noise at no more tokens, or as good at fewer beyond noise."""
        better = self.accuracy > self.accuracy_ci and self.tokens <= 0
        shorter = self.accuracy - self.accuracy_ci >= -_WORSE and -self.tokens > self.tokens_ci
        return better or shorter

    @property
    def said(self) -> dict[str, float | None]:
        """Return what the file keeps of it."""
        return {"gain": round(self.accuracy, 4), "gain_ci": rounded(self.accuracy_ci, 4)}


def _difference(these: Mapping[int, AnswerOutcome], others: Mapping[int, AnswerOutcome]) -> _Difference:
    shared = [place for place in these if place in others]
    right = [float(these[place].right) - float(others[place].right) for place in shared]
    tokens = [float(these[place].tokens - others[place].tokens) for place in shared]
    return _Difference(mean(right), mean_half_width(right), mean(tokens), mean_half_width(tokens))


def _row(
    value: Intensity,
    asks: Sequence[Ask],
    found: Mapping[int, AnswerOutcome],
    thinking: Mapping[int, AnswerOutcome],
) -> dict[str, Any]:
    """Make the row of one λ: counts, cells by kind of prompt, and what it keeps of Thinking's on the same prompts."""
    outcomes = list(found.values())
    right, tokens = [each.right for each in outcomes], [float(each.tokens) for each in outcomes]
    row: dict[str, Any] = {
        "lambda": float(value),
        "accuracy": round(mean(right), 4),
        "accuracy_ci": round(half_width(sum(right), len(right)), 4),
        "tokens": round(mean(tokens), 2),
        "tokens_ci": rounded(mean_half_width(tokens), 2),
        "questions": len(outcomes),
        "think_ratio": round(mean([each.thought for each in outcomes]), 4),
        "finished": round(mean([each.finished for each in outcomes]), 4),
        "reasoning_tokens": round(mean([each.reasoning_tokens for each in outcomes]), 2),
        "errors": sum(each.failed for each in outcomes),
        "template": outcomes[0].template,
    }
    kinds: dict[str, list[AnswerOutcome]] = {}
    for place, each in found.items():
        kinds.setdefault(asks[place].kind, []).append(each)
    row["cells"] = {"kind": {name: _cell(each) for name, each in sorted(kinds.items())}}
    return row | {"of_thinking": _share(found, thinking)}


def _share(found: Mapping[int, AnswerOutcome], thinking: Mapping[int, AnswerOutcome]) -> dict[str, float | None]:
    """Return which share of Thinking's accuracy and tokens remains; the interval is that of a ratio of paired means."""
    right = [float(each.right) for each in found.values()]
    theirs = [float(thinking[place].right) for place in found]
    tokens = sum(thinking[place].tokens for place in found)
    if not sum(theirs) or not tokens:
        return {"accuracy": None, "accuracy_ci": None, "tokens": None}
    share = mean(right) / mean(theirs)
    spread = mean_half_width([one - share * other for one, other in zip(right, theirs, strict=True)]) / mean(theirs)
    used = sum(each.tokens for each in found.values()) / tokens
    return {"accuracy": round(share, 4), "accuracy_ci": rounded(spread, 4), "tokens": round(used, 4)}


def _cell(found: Sequence[AnswerOutcome]) -> dict[str, Any]:
    right = [each.right for each in found]
    return {
        "accuracy": round(mean(right), 4),
        "accuracy_ci": round(half_width(sum(right), len(right)), 4),
        "tokens": round(mean([float(each.tokens) for each in found]), 2),
        "questions": len(found),
    }
