"""Say how much is measured: prompts of random tokens, numbers of requests and λs, repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from dami_agent.types import Intensity

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Sizes of all rows and curves.

    Attributes:
        repetitions: of each side of a row, after one that is not counted; medians are reported.
        reloads: whether changes of λ are compared with merged files that are loaded again, too.
        shortest, longest: tokens of the prompts, which are spread evenly between the two.
        new_tokens: output tokens of each request.
        requests: sent at once where rows are batches.
        lambdas: distinct λs where there are many.
        history: tokens of an agent's first prompt.
        growth: tokens by which each step's prompt is longer than the one before.
        steps: of an agent.
        arrivals: requests that arrive over time.
        concurrencies: requests sent at once, for the first curve.
        distinct: numbers of λs, for the second.
        curve_repetitions: of each point of a curve.
    """

    repetitions: int
    shortest: int
    longest: int
    new_tokens: int
    history: int
    growth: int
    concurrencies: tuple[int, ...]
    distinct: tuple[int, ...]
    curve_repetitions: int
    requests: int = 32
    lambdas: int = 8
    steps: int = 6
    arrivals: int = 64
    reloads: bool = True

    @property
    def context(self) -> int:
        """Return the tokens of the longest request, prompt and output together."""
        agent = self.history + (self.steps - 1) * self.growth
        return max(agent, self.longest) + self.new_tokens


FULL = Workload(
    repetitions=5,
    shortest=16,
    longest=128,
    new_tokens=32,
    history=512,
    growth=96,
    concurrencies=(1, 2, 4, 8, 16, 32, 64, 128),
    distinct=(1, 2, 4, 8, 16, 32),
    curve_repetitions=3,
)
QUICK = Workload(
    repetitions=3,
    shortest=8,
    longest=64,
    new_tokens=16,
    history=256,
    growth=48,
    concurrencies=(1, 8, 32, 128),
    distinct=(1, 8, 32),
    curve_repetitions=1,
)


class Prompts:
    """Draws prompts of a tokenizer's ordinary tokens; the same key gives the same prompts.

    Args:
        tokenizer: of the pair.
        vocab_size: of the model; ids from there on are left out.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
        control = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
        self._ids = sorted(i for i in tokenizer.get_vocab().values() if i < vocab_size and i not in control)

    def draw(self, lengths: Sequence[int], *key: object) -> list[tuple[int, ...]]:
        """Draw one prompt of each length."""
        random = Random(repr(key))
        return [tuple(random.choices(self._ids, k=length)) for length in lengths]

    def mixed(self, count: int, workload: Workload, *key: object) -> list[tuple[int, ...]]:
        """Draw prompts of mixed lengths, in no order: evenly spread from the shortest to the longest."""
        spread = workload.longest - workload.shortest
        lengths = [workload.shortest + spread * i // max(1, count - 1) for i in range(count)]
        Random(repr(key)).shuffle(lengths)
        return self.draw(lengths, *key)


def spread_lambdas(count: int) -> tuple[Intensity, ...]:
    """Return distinct λs, evenly spread and none of them 0 or 1, which cost less than all others."""
    return tuple(Intensity(i / (count + 1)) for i in range(1, count + 1))


def cycled(values: Sequence[Intensity], count: int) -> list[Intensity]:
    """Return ``count`` λs, the values over and over."""
    return [values[i % len(values)] for i in range(count)]
