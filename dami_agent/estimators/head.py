"""Define heads, which predict how likely a reply is to be right and how long it will be, before it is decoded.

For each λ_j of a short list, with x the standardised features (of hidden states: their first principal components,
after a probe's numbers where both are read) and a 1 appended:

    P(right | λ_j) = sigmoid(x · r_j)         tokens(λ_j) = exp(x · l_j)

and with a **price** c, the share of right replies that as many tokens as Thinking's mean reply are worth,

    λ(q) = argmax_j  P(right | λ_j) − c · tokens(λ_j) / tokens of Thinking's mean reply

so that the exchange rate of accuracy against cost is chosen after training. :mod:`dami_agent.estimators.fit` trains it,
:mod:`dami_agent.estimators.heads` keeps it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from statistics import fmean
from typing import Any, Literal, NamedTuple, get_args

import torch

from dami_agent.errors import InvalidRequest
from dami_agent.types import Candidate, Intensity

__all__ = [
    "TENSORS",
    "Choice",
    "Head",
    "Kind",
    "PricePoint",
    "Reads",
    "entropy_vector",
    "joint_vector",
    "probe_vector",
    "states_vector",
    "vector_of",
]

Reads = Literal["states", "probe", "joint", "entropy"]
"""What a head reads: the pair's hidden states of the prompt, the log-probabilities of Instruct's probe, both of these
(``joint``), or the entropy of that probe."""

READ_STATES = ("states", "joint")
"""What is read of hidden states."""

Kind = Literal["plain", "tools"]
"""What a head is for: prompts without tools, or with them."""

_BEYOND, _LEAST_GAIN = 1.3, 0.005
_LONGEST = 1.5  # of heads whose card does not say

TENSORS = ("center", "scale", "components", "right", "length")


class Choice(NamedTuple):
    """Holds all λs by falling value, the numbers behind them by name, and what a token costs in their values."""

    candidates: tuple[Candidate, ...]
    features: dict[str, float]
    token_price: float = 0.0

    @property
    def intensity(self) -> Intensity:
        """Return the best λ."""
        return self.candidates[0].intensity


@dataclass(frozen=True, slots=True, kw_only=True)
class PricePoint:
    """Holds what one price came to on prompts that the head was not fitted on (folds left out in turn).

    Attributes:
        price: c of the module's docstring.
        accuracy, tokens: means of the replies at the λs that were chosen, the estimator's own tokens included.
        gain, gain_ci: accuracy less always-Thinking's on the same prompts, and half its 95 % interval.
        static_gain, static_gain_ci: accuracy less that of the best mix of two fixed λs at equal tokens, and half its
            95 % interval.
        lost, won: questions and tasks that Thinking gets right and this does not, and the other way round; -1: not
            counted, as in files of before.
    """

    price: float
    accuracy: float
    tokens: float
    gain: float
    gain_ci: float
    static_gain: float
    static_gain_ci: float
    lost: float = -1
    won: float = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """Predicts P(right | λ) and tokens(λ); see the module's docstring.

    Attributes:
        reads, kind: what it reads, and which prompts it is for.
        layers: whose states it reads, as transformers numbers ``hidden_states``; () of one that reads a probe.
        lambdas: λ_j, ascending.
        center, scale: float32 [features] of the standardisation.
        components: float32 [features, k].
        right, length: float32 [k + 1, λs]; the last row is the bias.
        thinking_tokens: mean tokens of a reply of Thinking.
        prices: what each price came to, by rising price.
        card: what it was trained on and how well it does, for people.
        read_at: λ that prompts are read at for their states; where the prompts of all replies are read at it too
            (a shared prefix), the reply begins with what was read. Of heads on probes: 0.
    """

    reads: Reads
    kind: Kind
    layers: tuple[int, ...]
    lambdas: tuple[Intensity, ...]
    center: torch.Tensor
    scale: torch.Tensor
    components: torch.Tensor
    right: torch.Tensor
    length: torch.Tensor
    thinking_tokens: float
    prices: tuple[PricePoint, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    read_at: Intensity = Intensity(0)

    def predict(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict for some prompts.

        Args:
            features: float [prompts, features].

        Returns:
            P(right | λ) and tokens(λ), both float32 [prompts, λs].
        """
        x = ((features.float() - self.center) / self.scale) @ self.components
        x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        return torch.sigmoid(x @ self.right), torch.exp((x @ self.length).clamp(max=12))

    def choose(self, right: torch.Tensor, tokens: torch.Tensor, price: float) -> torch.Tensor:
        """Choose for each prompt the place of the λ whose value is greatest, the lowest of equals: int64 [prompts].

        Args:
            right: P(right | λ), [prompts, λs].
            tokens: what a reply at each λ costs, [prompts, λs].
            price: c of the module's docstring.
        """
        return self.values(right, tokens, price).argmax(dim=-1)

    def values(self, right: torch.Tensor, tokens: torch.Tensor, price: float) -> torch.Tensor:
        """Compute what a reply at each λ is worth, its price off; arguments and shape as for :meth:`choose`."""
        return right - price * tokens / self.thinking_tokens

    def estimate(self, features: torch.Tensor, overhead: int, price: float) -> Choice:
        """Choose λ for one prompt.

        Args:
            features: float [features].
            overhead: output tokens that estimating has cost, lost unless λ=0 is chosen.
            price: c of the module's docstring; see :meth:`price_for`.

        Returns:
            All λs by falling value, and the numbers behind them by name.
        """
        right, tokens = self.predict(features[None])
        worth = self.values(right, with_overhead(tokens, torch.tensor([overhead])), price)[0]
        order = worth.argsort(descending=True, stable=True).tolist()
        lengths = [0, *tokens[0, 1:].tolist()]
        said = {"price": price}
        for value, p, length in zip(self.lambdas, right[0].tolist(), tokens[0].tolist(), strict=True):
            said |= {f"right@{value:g}": p, f"tokens@{value:g}": length}
        ranked = (
            Candidate(
                intensity=self.lambdas[at],
                reasoning_tokens=math.ceil(lengths[at]),
                most_reasoning_tokens=math.ceil(lengths[at] * self.longest),
                value=float(worth[at]),
            )
            for at in order
        )
        return Choice(tuple(ranked), said, price / self.thinking_tokens)

    @property
    def longest(self) -> float:
        """Return how many times the predicted tokens a reply has at most, nine times out of ten, of other folds."""
        return float(self.card.get("tokens_q90", _LONGEST))

    def price_for(self, max_loss: float, price: float | None = None, risk: float | None = None) -> float:
        """Return the price that settings of an estimator lead to.

        Args:
            max_loss: see :meth:`point_within`, or with ``risk`` :meth:`point_promised`.
            price: the price itself.
            risk: the chance that more is lost after all.

        Raises:
            InvalidRequest: the loss cannot be promised.
        """
        if price is not None:
            return price
        if risk is None:
            return self.point_within(max_loss).price
        point = self.point_promised(max_loss, risk)
        if point is None:
            raise InvalidRequest(
                f"a loss of at most {max_loss:g} cannot be promised at risk {risk:g} by what the head was fitted to",
                hint="calibrate on more questions, allow more, or leave risk= out for an expectation",
            )
        return point.price

    def point_promised(self, max_loss: float, risk: float) -> PricePoint | None:
        """Return what the highest price came to that loses no more than ``max_loss``, but for a chance of ``risk``.

        Lost is a question that Thinking gets right and the chosen λ does not, won the other way round; of tasks, one
        of whose steps is wrong. Prices are tested one after the other from 0, each against the hypothesis that more is
        lost than won by over ``max_loss``, and the last before the first that fails is taken: such a fixed sequence
        needs no correction for trying many (Learn then Test, arXiv 2110.01052). The test is exact for any number of
        prompts (:func:`chance_of_more`). It assumes questions and tasks drawn like those that the head was fitted to,
        and takes what other folds say of a prompt, of settings chosen with it, for what the head will say of a new one.
        """
        groups = int(self.card.get("groups", 0))
        sound = itertools.takewhile(
            lambda point: chance_of_more(point.lost, point.won, groups, max_loss) <= risk, self.prices
        )
        return max(sound, key=lambda point: point.price, default=None)

    @property
    def _steps(self) -> float:
        """Return how many prompts hang together on average: the steps of a task."""
        prompts = self.card.get("prompts", 1)
        return float(prompts / self.card.get("groups", prompts))

    def point_within(self, max_loss: float) -> PricePoint:
        """Return what the price came to that is taken for a loss of ``max_loss`` tasks, folds left out.

        From the most accurate price, the price rises while no more than ``max_loss`` is lost against it. A task is lost
        with its first wrong step, so of steps of tasks that share is divided by how many a task has. A point estimate:
        prices are many and samples few, so expect a little more to be lost.
        """
        best = max(self.prices, key=lambda point: (point.gain, point.price))
        floor = best.gain - max_loss / self._steps - 1e-9
        above = (point for point in self.prices if point.price > best.price)
        return [best, *itertools.takewhile(lambda point: point.gain >= floor, above)][-1]

    @property
    def static_gain(self) -> float:
        """Return the accuracy beyond that of fixed λs at equal tokens, the mean over all prices.

        At any one price it says less: near 0 every head is always-Thinking, and which price keeps to a loss hangs on a
        few prompts.
        """
        return fmean(point.static_gain for point in self.prices)

    def pays(self, price: float | None = None) -> bool:
        """Tell whether it is to be gone by: better than fixed λs at equal tokens beyond doubt, or a price is named.

        Beyond doubt is 1.3 times half the 95 % interval, one time in a hundred by chance, as several heads are tried;
        and half a right reply in a hundred, below which a few lucky prompts would do. The interval of the mean over
        prices is taken for as wide as theirs are on average, which it would be if all of them stood and fell together.
        """
        half = fmean(point.static_gain_ci for point in self.prices)
        return price is not None or self.static_gain > max(_LEAST_GAIN, _BEYOND * half)

    def check_shapes(self) -> None:
        """Check that the tensors belong together, and that there are prices to choose by.

        Raises:
            ValueError: they do not; says which.
        """
        features, k = self.components.shape
        shapes = {"center": (features,), "scale": (features,), "right": (k + 1, n := len(self.lambdas))}
        for name, shape in {**shapes, "length": (k + 1, n)}.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"{name} has the shape {tuple(getattr(self, name).shape)}, not {shape}")
        numbers = [getattr(self, name) for name in TENSORS]
        if not all(torch.isfinite(each).all() for each in numbers):
            raise ValueError("not all of its numbers are finite")
        if not self.prices or not all(math.isfinite(value) for point in self.prices for value in astuple(point)):
            raise ValueError("it does not say what prices came to")
        values = [float(value) for value in self.lambdas]
        if values[:1] != [0.0] or values[-1:] != [1.0] or values != sorted(set(values)):
            raise ValueError(f"its λs do not rise from 0 to 1: {values}")
        if self.reads not in get_args(Reads) or self.kind not in get_args(Kind):
            raise ValueError(f"nothing is known of heads that read {self.reads!r} of {self.kind!r} prompts")
        told = 0 if self.reads == "states" else len(vector_of(self.reads, {}))  # by the probe
        of_states = features - told
        if self.reads in READ_STATES and (not self.layers or of_states <= 0 or of_states % (2 * len(self.layers))):
            raise ValueError(f"{of_states} features are not the last and mean states of {len(self.layers)} layers")
        if self.reads not in READ_STATES and of_states:
            raise ValueError(f"{features} features are not those of a probe")


_BETS = 40


def chance_of_more(lost: float, won: float, count: int, limit: float) -> float:
    """Bound the chance to see so little lost if the mean loss, less what is won, were ``limit`` or more.

    Whoever bets a share ν on each question against that hypothesis multiplies the stake by 1 + ν·(limit − x), x being 1
    where one is lost, −1 where one is won, else 0: a fair game at best, so the stake exceeds 1/p with a chance of p at
    most (Ville). Averaged over many ν it stays fair, and needs no order of the questions (betting, arXiv 2010.09686).

    Args:
        lost, won: of the questions.
        count: questions.
        limit: of the mean loss, in [0, 1].

    Returns:
        p; 1 if nothing was counted.
    """
    if lost < 0 or not count:
        return 1.0
    even = count - lost - won
    stakes = []
    for step in range(1, _BETS + 1):
        share = step / (_BETS + 1)  # below 1: a stake is never lost whole
        log = lost * math.log1p(share * (limit - 1)) + even * math.log1p(share * limit)
        stakes.append(log + won * math.log1p(share * (limit + 1)))
    most = max(stakes)
    mean = most + math.log(math.fsum(math.exp(each - most) for each in stakes) / len(stakes))
    return min(1.0, math.exp(-mean))


def with_overhead(tokens: torch.Tensor, overhead: torch.Tensor) -> torch.Tensor:
    """Add what estimating costs to the tokens at every λ but the first, 0, whose reply begins with the probe.

    Args:
        tokens: [prompts, λs].
        overhead: [prompts].
    """
    return torch.cat([tokens[:, :1], tokens[:, 1:] + overhead[:, None]], dim=1)


def states_vector(states: Sequence[Sequence[float]]) -> torch.Tensor:
    """Put the pooled states of some layers one after the other: float32 [features]."""
    return torch.tensor([value for row in states for value in row], dtype=torch.float32)


_LEAST = -20.0  # no log-probability below this tells anything more


def probe_vector(features: Mapping[str, float]) -> torch.Tensor:
    """Put the numbers of a probe (:class:`~dami_agent.estimators.ConfidenceEstimator`) in a row: float32 [features].

    Both models' least and summed log-probabilities, the log-odds of the weakest tokens, length, and whether it ended.
    What is missing counts as the least sure.
    """
    weakest = [max(_LEAST, features.get(f"{who}_min_logprob", _LEAST)) for who in ("instruct", "thinking")]
    sums = [max(1.5 * _LEAST, features.get(f"{who}_sum_logprob", 1.5 * _LEAST)) for who in ("instruct", "thinking")]
    odds = [value - math.log(max(1e-6, -math.expm1(value))) for value in weakest]
    ends = [features.get("probe_tokens", 0.0), features.get("probe_ended", 0.0)]
    return torch.tensor([*weakest, *sums, *odds, *ends], dtype=torch.float32)


_MOST_ENTROPY, _LEAST_ENTROPY = 8.0, 1e-4


def entropy_vector(features: Mapping[str, float]) -> torch.Tensor:
    """Put the entropy of a probe (:class:`~dami_agent.estimators.EntropyEstimator`) in a row: float32 [features].

    It stands there with its square and its logarithm, so that what a head predicts may fall with it and rise again:
    entropy is not monotone in difficulty. What is missing counts as the most uncertain.
    """
    entropy = min(_MOST_ENTROPY, max(0.0, features.get("entropy", _MOST_ENTROPY)))
    return torch.tensor([entropy, entropy**2, math.log(entropy + _LEAST_ENTROPY)], dtype=torch.float32)


def vector_of(reads: Reads, features: Mapping[str, float]) -> torch.Tensor:
    """Put the numbers of a probe in the row that a head reads of it: float32 [features].

    Args:
        reads: ``probe``, ``joint`` or ``entropy``.
        features: an estimate's numbers by name.
    """
    return entropy_vector(features) if reads == "entropy" else probe_vector(features)


def joint_vector(features: Mapping[str, float], states: Sequence[Sequence[float]]) -> torch.Tensor:
    """Put a probe's numbers and the pooled states of some layers in the row of a joint head: float32 [features].

    Args:
        features: the probe's numbers by name.
        states: of the prompt, one row a layer.
    """
    return torch.cat([probe_vector(features), states_vector(states)])
