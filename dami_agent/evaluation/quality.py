"""Hold λ per question against everything that knows less, on the same sampled replies, tokens of estimating included.

Heads are fitted to questions of the calibration split and judged on the test split. Every method is replayed on the
same replies, one for each question and λ, and has a **curve**: accuracy against tokens as its own knob turns (a price,
a threshold). Two methods are compared **at equal tokens**: the one's point against the best mix of two points of the
other's curve, λ=0 and λ=1 among them, that costs as much, question by question, with the paired 95 % interval;
questions in the same words count as one. Points of fixed λs are chosen on the questions that they are judged by, which
favours them.

- ``fixed``: every λ of the grid. ``router``: the head, left λ=0 and λ=1 alone
  (:class:`~dami_agent.estimators.RouterEstimator`). ``rule``: 1 − c, which needs no training
  (c: both models' least sure tokens, weighed as :class:`~dami_agent.estimators.ConfidenceEstimator` does).
- ``gate``: λ=1 where the mean token entropy of Instruct's probe is high, else λ=0, which is the rule of
  :class:`~dami_agent.estimators.EntropyEstimator`; ``head on entropy`` is what it goes by on a pair with heads.
- ``shuffled``: a method's λs dealt to the questions at random, in expectation: a selector with the same histogram.
- ``other families``: the head as it chooses for a family of questions that it was not fitted to.
- ``caps`` and ``early exit``: Thinking, stopped (:mod:`dami_agent.evaluation.early_exit`).
- ``majority``, ``adaptive votes`` and ``retry``: several replies of Thinking, all paid for
  (:mod:`dami_agent.evaluation.votes`).
- ``a2r`` and ``a2r on doubt``: explore low, then synthesise high (:mod:`dami_agent.evaluation.synthesis`).
- ``oracle``: knows which replies are right; a bound, not a method.

``areas`` are mean accuracies of the best mixes over all budgets, of every method chosen on the questions it is judged
by: they compare methods, and promise nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from dami_agent.estimators.fit import READS, fit_head
from dami_agent.estimators.head import Head, Reads
from dami_agent.estimators.judge import PRICES, best_mix, mean_ci
from dami_agent.estimators.samples import Samples
from dami_agent.evaluation.asked import SamplePlan, SampleSet
from dami_agent.evaluation.calibration import answers_in
from dami_agent.evaluation.call_batches import BatchRunner, PairSource, Progress
from dami_agent.evaluation.early_exit import CAPS, Trials, sample_trials
from dami_agent.evaluation.rivals import (
    ACCEPTS,
    ENTROPIES,
    FINE_PRICES,
    Curve,
    Point,
    gated,
    head_curve,
    left_out,
    oracle,
    point_of,
    ruled,
    shuffled,
    stopped,
    told,
    voted,
)
from dami_agent.evaluation.samples import collect, states_read_at
from dami_agent.evaluation.synthesis import EXPLORERS, Syntheses, sample_syntheses
from dami_agent.evaluation.votes import REPLIES, Votes, sample_votes
from dami_agent.tasks import Question

__all__ = ["BUDGETS", "compare_methods", "quality"]

BUDGETS = (0.35, 0.45, 0.55, 0.66)
"""Shares of always-Thinking's tokens."""

_AREA = 60


def quality(
    source: PairSource,
    plan: SamplePlan,
    learned: SampleSet,
    tested: SampleSet,
    *,
    caps: bool = True,
    votes: bool = True,
    syntheses: bool = True,
    kept: Path | None = None,
    workers: int = 1,
    tell: Progress | None = None,
) -> dict[str, Any]:
    """Sample replies to two sets of questions, fit heads to one, and compare the methods on the other.

    Args:
        source: the pair.
        plan: the λs, temperature and cap.
        learned, tested: questions without tools; of the built-in families.
        caps: also sample Thinking under caps on its thought.
        votes: also sample two more replies of Thinking to each question of ``tested``, for methods that take several.
        syntheses: also let λ=1 answer each question of ``tested`` with two answers of a low λ in view.
        kept: a folder for what was sampled; a run that broke off goes on from it.
        workers: processes that decode.
        tell: of progress.
    """
    with BatchRunner(source, workers, tell) as runner, answers_in(kept) as folder:
        sampling = _Sampling(runner, plan, folder, keep=kept is not None)
        fitted_to = sampling.samples("learned", learned)
        # Before fixed λs, which take their replies from these: they keep less of each.
        several = sampling.votes(tested) if votes else None
        explored = sampling.syntheses(tested) if syntheses else None
        judged_by = sampling.samples("tested", tested)
        trials = sampling.trials(tested) if caps else None
        info = runner.session.engine.info
    found = compare_methods(fitted_to, judged_by, _families(learned), _families(tested), trials, several, explored)
    said = {"temperature": plan.temperature, "max_tokens": plan.max_tokens}
    return {"pair": info.model, "fingerprint": info.fingerprint, **said, **found}


_Table = TypeVar("_Table", Trials, Votes, Syntheses)


@dataclass(frozen=True, slots=True)
class _Sampling:
    """Samples what methods are replayed on, or reads what was sampled before.

    Attributes:
        runner, plan: the pair, and how replies are drawn.
        folder: for the answers as they come.
        keep: it lasts, so tables are kept there too.
    """

    runner: BatchRunner
    plan: SamplePlan
    folder: Path
    keep: bool

    def samples(self, name: str, asked: SampleSet) -> Samples:
        """Sample replies at every λ, with the states and probes that heads read."""
        of = self._of(asked)
        file = self.folder / f"{name}-{of}.safetensors"
        if file.exists():
            return Samples.load(file, of)
        found = collect(self.runner, self.plan, asked, kept=file.with_suffix(".jsonl"))
        if self.keep:
            found.save(file, of)
        return found

    def trials(self, tested: SampleSet) -> Trials:
        """Sample Thinking under caps."""
        return self._table(Trials, f"caps-{self._digest(tested, 'caps', CAPS)}", sample_trials, tested)

    def votes(self, tested: SampleSet) -> Votes:
        """Sample several replies of Thinking; the first ones are found there by :meth:`samples`."""
        name = f"votes-{self._digest(tested, 'votes', REPLIES)}"
        return self._table(Votes, name, sample_votes, tested, answers=f"tested-{self._of(tested)}")

    def syntheses(self, tested: SampleSet) -> Syntheses:
        """Sample what low λs find and λ=1 makes of it; the first replies are found there by :meth:`samples`."""
        name = f"syntheses-{self._digest(tested, 'syntheses', EXPLORERS)}"
        return self._table(Syntheses, name, sample_syntheses, tested, answers=f"tested-{self._of(tested)}")

    def _table(
        self,
        kind: type[_Table],
        name: str,
        sample: Callable[..., _Table],
        tested: SampleSet,
        *,
        answers: str | None = None,
    ) -> _Table:
        """Read a table that was kept, or sample it, with its answers in a file of their own or in a shared one."""
        file = self.folder / f"{name}.safetensors"
        if file.exists():
            return kind.load(file)
        kept = self.folder / f"{answers or name}.jsonl"
        found = sample(self.runner, self.plan, tested, switch=self._switch, kept=kept)
        if self.keep:
            found.save(file)
        return found

    @property
    def _switch(self) -> float:
        return self.runner.session.frontier.switch_point

    def _digest(self, asked: SampleSet, *how: object) -> str:
        return asked.digest(self.runner.session.engine.info.fingerprint, self.plan, self._switch, *how)

    def _of(self, asked: SampleSet) -> str:
        return self._digest(asked, states_read_at(self.runner.session.frontier))


def compare_methods(
    learned: Samples,
    tested: Samples,
    learned_families: Sequence[str],
    tested_families: Sequence[str],
    trials: Trials | None = None,
    votes: Votes | None = None,
    syntheses: Syntheses | None = None,
) -> dict[str, Any]:
    """Compare every method on sampled replies; see the module's docstring.

    Args:
        learned: what heads are fitted to.
        tested: what they are judged by.
        learned_families, tested_families: of the questions, in their order.
        trials: of ``tested``, at λ=1 under caps.
        votes: of ``tested``, at λ=1.
        syntheses: of ``tested``.
    """
    heads: dict[Reads, Head] = {reads: fit_head(learned, reads) for reads in READS}
    curves: dict[str, Curve] = {"fixed": [point_of(tested, place) for place in range(len(tested.lambdas))]}
    for reads, head in heads.items():
        curves[f"head on {reads}"] = head_curve(tested, head)
    best = max(_OF_AUTO, key=lambda reads: heads[reads].static_gain)
    name = f"head on {best}"
    curves["shuffled"] = shuffled(tested, heads[best])
    curves["router"] = head_curve(tested, heads[best], ends=True)
    curves["other families"] = left_out(learned, tested, learned_families, tested_families, best)
    curves["rule"] = [ruled(tested, accept) for accept in ACCEPTS]
    curves["gate"] = [gated(tested, entropy) for entropy in ENTROPIES]
    if trials is not None:
        curves |= stopped(tested, trials)
    if votes is not None:
        curves |= voted(votes)
    if syntheses is not None:
        curves |= told(syntheses)
    curves["oracle"] = [oracle(tested, price) for price in FINE_PRICES]
    instruct, thinking = curves["fixed"][0], curves["fixed"][-1]
    whole = {key: [*curve, instruct, thinking] for key, curve in curves.items()}  # what needs no estimator
    budgets = [
        _at(_within(curves[name], share * thinking.cost), whole, name, tested.groups) | {"share": share}
        for share in BUDGETS
    ]
    return {
        "questions": len(tested),
        "learned": len(learned),
        "lambdas": [float(value) for value in tested.lambdas],
        "method": name,
        "thinking": {"accuracy": _round(thinking.right.mean()), "tokens": round(thinking.cost, 1)},
        "budgets": budgets,
        "areas": {key: _round(_area(curve, thinking.cost)) for key, curve in whole.items()},
        "even": _even(curves[name], heads[best], thinking, tested.groups),
        "at_most_thinking": _difference(_within(curves[name], thinking.cost), thinking, tested.groups),
        "curves": {
            key: [{"accuracy": _round(p.right.mean()), "tokens": round(p.cost, 1)} for p in curve]
            for key, curve in curves.items()
        },
    }


_OF_AUTO: tuple[Reads, ...] = (
    "states",
    "probe",
    "joint",
)  # λ is chosen by them where nobody names one


def _families(asked: SampleSet) -> list[str]:
    return [question.family if isinstance(question, Question) else "" for _, question in asked.questions]


# ---- comparisons --------------------------------------------------------------------------------------------------


def _within(curve: Curve, budget: float) -> Point:
    """Return the dearest point of a curve within a budget; where none is, the cheapest."""
    fitting = [point for point in curve if point.cost <= budget]
    return max(fitting, key=lambda p: p.cost) if fitting else min(curve, key=lambda p: p.cost)


def mixed(curve: Curve, budget: float) -> torch.Tensor:
    """Return each question's expected share of right replies under the best mix of two points within a budget."""
    return best_mix([point.right for point in curve], [point.cost for point in curve], budget)


def _at(point: Point, curves: Mapping[str, Curve], name: str, groups: torch.Tensor) -> dict[str, Any]:
    """Compare a point of the method with all others at its tokens."""
    gains = {
        key: _gain(point.right, mixed(curve, point.cost), groups)
        for key, curve in curves.items()
        if key not in (name, "oracle")
    }
    fixed, bound = mixed(curves["fixed"], point.cost), mixed(curves["oracle"], point.cost)
    room = float((bound - fixed).mean())
    others = _within(curves["other families"], point.cost)
    return {
        "accuracy": _round(point.right.mean()),
        "tokens": round(point.cost, 1),
        "gains": gains,
        "oracle_share": _round((point.right - fixed).mean() / room) if room > 0 else None,
        "other_families_over_fixed": _gain(others.right, mixed(curves["fixed"], others.cost), groups),
    }


def _gain(one: torch.Tensor, other: torch.Tensor, groups: torch.Tensor) -> dict[str, float]:
    gain, half = mean_ci(one - other, groups)
    return {"gain": _round(gain), "ci": _round(half)}


def _difference(point: Point, other: Point, groups: torch.Tensor) -> dict[str, float]:
    return _gain(point.right, other.right, groups) | {"tokens": _round(point.cost / other.cost)}


def _even(curve: Curve, head: Head, thinking: Point, groups: torch.Tensor) -> dict[str, float]:
    """Return what the highest price comes to that loses a hundredth at most on what the head was fitted to."""
    sound = [price for price, point in zip(PRICES, head.prices, strict=True) if point.gain >= -0.01]
    return _difference(curve[FINE_PRICES.index(sound[-1]) if sound else 0], thinking, groups)


def _area(curve: Curve, most: float) -> float:
    """Return the mean accuracy of a curve's mixes over budgets up to Thinking's tokens, in even steps."""
    return sum(float(mixed(curve, most * (step + 1) / _AREA).mean()) for step in range(_AREA)) / _AREA


def _round(value: float | torch.Tensor) -> float:
    return round(float(value), 4)
