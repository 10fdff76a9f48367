"""Choose the next token: transformers' warpers, and one random stream per request.

The k-th output token of a request is drawn with the k-th number of its own stream, by inverse transform over token
ids. So a request draws the same tokens alone, in any batch, and when it is interrupted and continued.
"""

from __future__ import annotations

import math
import secrets
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias

import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dami_agent.checkpoints.generation_settings import temperature
from dami_agent.errors import InvalidRequest, shown
from dami_agent.types import Sampling

__all__ = ["RandomStream", "choose", "resolve_sampling", "warper_key"]

# Below this a temperature is greedy: dividing by it would overflow float32.
_COLDEST = 1e-6
# Above this a temperature is infinity in float32, and a forbidden token's -inf divided by it is NaN.
_HOTTEST = float(torch.finfo(torch.float32).max)
# Scores are divided or multiplied by the penalty: with this one, or its inverse, a million stays in float32's range.
_STRONGEST_PENALTY = 1e32
# Vocabularies above this are cut to the top-k candidates (and a margin for ties) before the warpers sort them.
_LARGE_VOCABULARY = 4096
_TIES = 64

WarperKey: TypeAlias = tuple[float, float, int, float, float]


def resolve_sampling(asked: Sampling, defaults: Mapping[str, Any], vocab_size: int) -> Sampling:
    """Fill every None in ``asked`` from a checkpoint's ``generation_config`` and validate the whole.

    ``do_sample: false``, or neither it nor a temperature, means greedy. What neither names is off.

    Raises:
        InvalidRequest: for a value outside its range, by name.
    """
    fallback = {
        "temperature": temperature(defaults),
        "top_p": defaults.get("top_p") or 1.0,
        "top_k": defaults.get("top_k") or 0,
        "min_p": defaults.get("min_p") or 0.0,
        "repetition_penalty": defaults.get("repetition_penalty") or 1.0,
    }
    chosen: dict[str, Any] = {
        name: value if (given := getattr(asked, name)) is None else given for name, value in fallback.items()
    }
    for name, (low, high) in {
        "temperature": (0.0, _HOTTEST),
        "top_p": (0.0, 1.0),
        "min_p": (0.0, 1.0),
        "repetition_penalty": (1 / _STRONGEST_PENALTY, _STRONGEST_PENALTY),
    }.items():
        chosen[name] = _number(name, chosen[name], low, high)
    if chosen["top_p"] == 0.0:
        raise InvalidRequest("top_p must be greater than 0", hint="1 turns it off")
    chosen["top_k"] = _integer("top_k", chosen["top_k"], 0, 2**31)
    if asked.logprobs is not None:
        _integer("logprobs", asked.logprobs, 0, vocab_size)
    seed = secrets.randbits(63) if asked.seed is None else _integer("seed", asked.seed, -(2**63), 2**64 - 1)
    return replace(asked, **chosen, seed=seed)


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) == math.inf:
        raise InvalidRequest(f"{name} must be a finite number, got {shown(value)}", hint="leave it out for the default")
    if not low <= value <= high:  # an int of any size compares with a float without overflow
        raise InvalidRequest(
            f"{name} must lie in [{low:g}, {high:g}], got {shown(value)}",
            hint="1 turns it off" if name == "repetition_penalty" else "leave it out for the default",
        )
    return float(value)


def _integer(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(f"{name} must be a whole number in [{low}, {high}], got {shown(value)}")
    return value


class RandomStream:
    """The uniform numbers of one request, by position, in [0, 1): same seed and prompt, same numbers on any machine.

    The prompt counts, so that whoever asks a thousand questions with one seed draws a thousand times, not once.

    Args:
        seed: of the request.
        prompt: its token ids.
    """

    _BLOCK = 64

    def __init__(self, seed: int, prompt: Sequence[int] = ()) -> None:
        self._seed, self._prompt = seed, prompt
        self._numbers: list[float] = []

    @cached_property
    def _generator(self) -> torch.Generator:  # made for the first number: greedy requests never ask for one
        said = array("q", (*divmod(self._seed, 2**32), *self._prompt))
        if sys.byteorder == "big":
            said.byteswap()
        mixed = int.from_bytes(blake2b(said.tobytes(), digest_size=8).digest(), "little", signed=True)
        return torch.Generator().manual_seed(mixed)

    def __getitem__(self, position: int) -> float:
        while len(self._numbers) <= position:
            block = torch.rand(self._BLOCK, generator=self._generator, dtype=torch.float64)
            self._numbers.extend(block.tolist())
        return self._numbers[position]


def warper_key(sampling: Sampling) -> WarperKey:
    """Return what rows must share to be warped together; temperature 0 stands for greedy."""
    temperature = sampling.temperature or 0.0
    penalty = sampling.repetition_penalty or 1.0
    if temperature < _COLDEST:  # the truncating warpers keep the best token, so greedy needs none of them
        return (0.0, 1.0, 0, 0.0, penalty)
    return (temperature, sampling.top_p or 1.0, sampling.top_k or 0, sampling.min_p or 0.0, penalty)


@lru_cache(maxsize=256)
def _warpers(key: WarperKey) -> tuple[LogitsProcessor, ...]:
    """Return the transformers' warpers in the order in which ``generate`` applies them."""
    temperature, top_p, top_k, min_p, _ = key
    chain: list[LogitsProcessor] = []
    if temperature != 1.0:
        chain.append(TemperatureLogitsWarper(temperature))
    if top_k:
        chain.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        chain.append(TopPLogitsWarper(top_p))
    if min_p > 0.0:
        chain.append(MinPLogitsWarper(min_p))
    return tuple(chain)


def choose(
    scores: torch.Tensor,
    key: WarperKey,
    uniforms: Sequence[float],
    seen: Sequence[Sequence[int]] | None = None,
) -> torch.Tensor:
    """Next token of rows that share their warper settings.

    Args:
        scores: float32 [rows, vocabulary], masked; not changed.
        key: the shared settings.
        uniforms: one number in [0, 1) per row (unused where greedy).
        seen: per row the tokens of prompt and output, for the repetition penalty; needed only where it is not 1.

    Returns:
        int64 [rows]; -1 where no token can be drawn, because a score is NaN or +inf or all are -inf.
    """
    if key[4] != 1.0 and seen is not None:
        scores = RepetitionPenaltyLogitsProcessor(key[4])(_rectangle(seen, scores.device), scores)
    drawable = scores.amax(dim=-1).isfinite()
    if drawable.all():
        return _chosen(scores, key, uniforms)
    return _chosen(scores.where(drawable.unsqueeze(-1), 0.0), key, uniforms).where(drawable, -1)


def _chosen(scores: torch.Tensor, key: WarperKey, uniforms: Sequence[float]) -> torch.Tensor:
    if key[0] == 0.0:
        return scores.argmax(dim=-1)
    top_k, candidates = key[2], None
    if top_k and scores.shape[-1] > max(_LARGE_VOCABULARY, top_k + _TIES):
        # Sorted by id again: over ids the cumulative sum is continuous in the logits, over ranks it is not.
        candidates = scores.topk(top_k + _TIES, dim=-1).indices.sort(dim=-1).values
        scores = scores.gather(-1, candidates)
    scores = scores - scores.amax(dim=-1, keepdim=True)  # no overflow at low temperatures
    unused = torch.empty(0, dtype=torch.long, device=scores.device)
    for warper in _warpers(key):
        scores = warper(unused, scores)
    home = scores.device
    if home.type == "mps":  # has no float64
        scores, candidates = scores.cpu(), None if candidates is None else candidates.cpu()
    cdf = scores.softmax(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    total = cdf[:, -1:]
    point = torch.tensor(uniforms, dtype=torch.float64, device=scores.device).unsqueeze(1) * total
    # right=True: the first token whose cumulative sum exceeds the point, so never one of probability 0
    picked = torch.searchsorted(cdf, torch.minimum(point, total * (1 - 1e-12)), right=True)
    return (picked if candidates is None else candidates.gather(-1, picked)).squeeze(1).to(home)


def _rectangle(rows: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Rows of ids as one tensor, short rows filled up with their own last id (the penalty counts a token once)."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows], device=device)
