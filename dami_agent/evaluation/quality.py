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
- ``oracle``: knows which replies are right; a bound, not a method.

``areas`` are mean accuracies of the best mixes over all budgets, of every method chosen on the questions it is judged
by: they compare methods, and promise nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dami_agent.estimators import ConfidenceEstimator
from dami_agent.estimators.fit import READS, fit_head
from dami_agent.estimators.head import Head, Reads, with_overhead
from dami_agent.estimators.judge import PRICES, best_mix, mean_ci
from dami_agent.estimators.samples import Samples
from dami_agent.evaluation.asked import SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import BatchRunner, PairSource, Progress
from dami_agent.evaluation.early_exit import THRESHOLDS, Trials, exits, sample_trials
from dami_agent.evaluation.samples import collect, states_read_at
from dami_agent.tasks import FAMILIES, Question

__all__ = ["BUDGETS", "compare_methods", "quality"]

BUDGETS = (0.35, 0.45, 0.55, 0.66)
"""Shares of always-Thinking's tokens."""

_ACCEPTS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
_ENTROPIES = (0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)
_AREA = 60


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """Holds what one setting of a method comes to, question by question: float64 [questions] each."""

    right: torch.Tensor
    tokens: torch.Tensor

    @property
    def cost(self) -> float:
        """Return mean tokens."""
        return float(self.tokens.mean())


Curve = Sequence[Point]


def quality(
    source: PairSource,
    plan: SamplePlan,
    learned: SampleSet,
    tested: SampleSet,
    *,
    caps: bool = True,
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
        kept: a folder for what was sampled; a run that broke off goes on from it.
        workers: processes that decode.
        tell: of progress.
    """
    with BatchRunner(source, workers, tell) as runner:
        info = runner.session.engine.info
        frontier = runner.session.frontier
        samples = []
        for name, asked in (("learned", learned), ("tested", tested)):
            of = asked.digest(info.fingerprint, plan, frontier.switch_point, states_read_at(frontier))
            file = kept / f"{name}-{of}.safetensors" if kept is not None else None
            if file is not None and file.exists():
                samples.append(Samples.load(file, of))
                continue
            samples.append(collect(runner, plan, asked, kept=kept and kept / f"{name}-{of}.jsonl"))
            if file is not None:
                samples[-1].save(file, of)
        trials = _trials(runner, plan, tested, kept) if caps else None
    families = [_families(asked) for asked in (learned, tested)]
    found = compare_methods(samples[0], samples[1], families[0], families[1], trials)
    said = {"temperature": plan.temperature, "max_tokens": plan.max_tokens}
    return {"pair": info.model, "fingerprint": info.fingerprint, **said, **found}


def _trials(runner: BatchRunner, plan: SamplePlan, tested: SampleSet, kept: Path | None) -> Trials:
    """Sample Thinking under caps, or read what was sampled before."""
    switch = runner.session.frontier.switch_point
    of = tested.digest(runner.session.engine.info.fingerprint, plan, switch)
    file = kept and kept / f"caps-{of}.safetensors"
    if file is not None and file.exists():
        return Trials.load(file)
    found = sample_trials(runner, plan, tested, switch=switch, kept=file and file.with_suffix(".jsonl"))
    if file is not None:
        found.save(file)
    return found


def compare_methods(
    learned: Samples,
    tested: Samples,
    learned_families: Sequence[str],
    tested_families: Sequence[str],
    trials: Trials | None = None,
) -> dict[str, Any]:
    """Compare every method on sampled replies; see the module's docstring.

    Args:
        learned: what heads are fitted to.
        tested: what they are judged by.
        learned_families, tested_families: of the questions, in their order.
        trials: of ``tested``, at λ=1 under caps.
    """
    heads: dict[Reads, Head] = {reads: fit_head(learned, reads) for reads in READS}
    curves: dict[str, Curve] = {"fixed": [_chosen(tested, place) for place in range(len(tested.lambdas))]}
    for reads, head in heads.items():
        curves[f"head on {reads}"] = _curve(tested, head)
    best = max(_OF_AUTO, key=lambda reads: heads[reads].point_within(_LOSS).static_gain)
    name = f"head on {best}"
    curves["shuffled"] = _shuffled(tested, heads[best])
    curves["router"] = _curve(tested, heads[best], ends=True)
    curves["other families"] = _left_out(learned, tested, learned_families, tested_families, best)
    curves["rule"] = [_ruled(tested, accept) for accept in _ACCEPTS]
    curves["gate"] = [_gated(tested, entropy) for entropy in _ENTROPIES]
    if trials is not None:
        curves |= _stopped(tested, trials)
    curves["oracle"] = [_oracle(tested, price) for price in PRICES]
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


_LOSS = 0.002
_OF_AUTO: tuple[Reads, ...] = ("states", "probe")  # the heads that λ is chosen by where nobody names an estimator


def _families(asked: SampleSet) -> list[str]:
    return [question.family if isinstance(question, Question) else "" for _, question in asked.questions]


# ---- methods ------------------------------------------------------------------------------------------------------


def _chosen(samples: Samples, places: int | torch.Tensor, overhead: torch.Tensor | None = None) -> Point:
    """Return what the λs at ``places`` come to; ``overhead`` is what estimating has cost, lost unless λ=0 is chosen."""
    rows = torch.arange(len(samples))
    at = torch.as_tensor(places).expand(len(samples))
    tokens = samples.tokens if overhead is None else with_overhead(samples.tokens, overhead)
    return Point(samples.right[rows, at].double(), tokens[rows, at].double())


def _curve(samples: Samples, head: Head, *, ends: bool = False) -> Curve:
    """Return a head's points, by rising price; with ``ends``, of λ=0 and λ=1 alone."""
    return [_chosen(samples, places, samples.overhead(head.reads)) for places in _places(samples, head, ends=ends)]


def _places(samples: Samples, head: Head, *, ends: bool = False) -> list[torch.Tensor]:
    right, tokens = head.predict(samples.features(head.reads, head.layers))
    tokens = with_overhead(tokens, samples.overhead(head.reads))
    found = []
    for price in PRICES:
        value = head.values(right, tokens, price)
        if ends:
            value[:, 1:-1] = -math.inf
        found.append(value.argmax(dim=1))
    return found


def _shuffled(samples: Samples, head: Head) -> Curve:
    """Return what each price's λs come to on average over all ways to deal them to the questions."""
    found = []
    costs = with_overhead(samples.tokens, samples.overhead(head.reads))
    for places in _places(samples, head):
        shares = torch.bincount(places, minlength=len(samples.lambdas)).double() / len(samples)
        found.append(Point(samples.right.double() @ shares, costs.double() @ shares))
    return found


def _left_out(
    learned: Samples, tested: Samples, of_learned: Sequence[str], of_tested: Sequence[str], reads: Reads
) -> Curve:
    """Choose for each family by a head that was fitted to the others."""
    places = torch.zeros(len(PRICES), len(tested), dtype=torch.int64)
    for family in FAMILIES:
        theirs = torch.tensor([each == family for each in of_tested])
        if not theirs.any():
            continue
        head = fit_head(learned.chosen(torch.tensor([each != family for each in of_learned])), reads)
        for row, chosen in zip(places, _places(tested.chosen(theirs), head), strict=True):
            row[theirs] = chosen
    return [_chosen(tested, row, tested.overhead(reads)) for row in places]


def _ruled(samples: Samples, accept: float) -> Point:
    """Go by 1 − c, taken to the nearest λ that was sampled."""
    weight = ConfidenceEstimator().thinking_weight
    c = torch.exp((1 - weight) * samples.probes[:, 0] + weight * samples.probes[:, 1])
    wanted = torch.where(c >= accept, torch.zeros_like(c), 1 - c)
    grid = torch.tensor([float(value) for value in samples.lambdas])
    return _chosen(samples, (grid[None] - wanted[:, None]).abs().argmin(dim=1), samples.probe_tokens)


def _gated(samples: Samples, threshold: float) -> Point:
    """Take λ=1 where the mean entropy of Instruct's probe, in nats a token, is above a threshold."""
    places = torch.where(samples.entropies[:, 0] > threshold, len(samples.lambdas) - 1, 0)
    return _chosen(samples, places, samples.probe_tokens)


def _stopped(samples: Samples, trials: Trials) -> dict[str, Curve]:
    """Return what Thinking comes to under caps, and by early exits."""
    caps = [Point(trials.right[:, at].double(), trials.tokens[:, at].double()) for at in range(len(trials.caps))]
    early = [exits(trials, samples.right[:, -1], samples.tokens[:, -1], threshold) for threshold in THRESHOLDS]
    return {"caps": caps, "early exit": [Point(right.double(), tokens.double()) for right, tokens in early]}


def _oracle(samples: Samples, price: float) -> Point:
    value = samples.right - price * samples.tokens / samples.tokens[:, -1].mean() - 1e-6 * samples.tokens
    return _chosen(samples, value.argmax(dim=1))


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
    fixed, oracle = mixed(curves["fixed"], point.cost), mixed(curves["oracle"], point.cost)
    room = float((oracle - fixed).mean())
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
    sound = [place for place, point in enumerate(head.prices) if point.gain >= -0.01]
    return _difference(curve[sound[-1] if sound else 0], thinking, groups)


def _area(curve: Curve, most: float) -> float:
    """Return the mean accuracy of a curve's mixes over budgets up to Thinking's tokens, in even steps."""
    return sum(float(mixed(curve, most * (step + 1) / _AREA).mean()) for step in range(_AREA)) / _AREA


def _round(value: float | torch.Tensor) -> float:
    return round(float(value), 4)
