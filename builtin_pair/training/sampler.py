"""A small batched sampler for development: plain Qwen3 forward over a state dict, static KV buffers, rows leave early.

It is not the project's engine (that is `dami_agent.runtime`); it exists to try a checkpoint in seconds while training.
A test compares its logits with transformers'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

State = Mapping[str, torch.Tensor]
_EPS, _THETA = 1e-6, 10000.0
_SPARE = 0.75
"""Rows that are done are dropped when fewer than this share of the batch is left: dropping copies the whole cache."""


@dataclass(frozen=True)
class Sampled:
    """What one row generated, and the log-probability (at temperature 1) of each token."""

    ids: list[int]
    logprobs: list[float]
    finished: bool


def lerp(low: State, high: State, intensity: float) -> dict[str, torch.Tensor]:
    """theta(lambda) of two states, in fp32."""
    return {name: torch.lerp(value.float(), high[name].float(), intensity) for name, value in low.items()}


@dataclass(frozen=True)
class Shape:
    """What a state says of its architecture."""

    layers: int
    heads: int
    groups: int
    width: int

    @classmethod
    def of(cls, state: State) -> Shape:
        """Read off the names and sizes of a Qwen3 state."""
        first = "model.layers.0.self_attn."
        width = len(state[first + "q_norm.weight"])
        heads, groups = (len(state[f"{first}{name}_proj.weight"]) // width for name in "qk")
        return cls(sum(name.endswith("q_norm.weight") for name in state), heads, groups, width)


def _norm(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(hidden, (hidden.shape[-1],), weight, _EPS)


def _turns(positions: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [rows, length, 1, width] of the rotary embedding at integer positions [rows, length]."""
    frequency = _THETA ** (-torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width)
    angle = torch.cat([positions[..., None].float() * frequency] * 2, -1)[:, :, None, :]
    return torch.cos(angle), torch.sin(angle)


def _rotate(states: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary embedding of [rows, length, heads, width]."""
    low, high = states.chunk(2, -1)
    return states * turns[0] + torch.cat((-high, low), -1) * turns[1]


class Cache:
    """Keys and values of every layer in one buffer [layers, rows, groups, length, width], filled to `lengths`."""

    def __init__(self, shape: Shape, rows: int, length: int, device: torch.device) -> None:
        self.shape = shape
        self.keys = torch.zeros(shape.layers, rows, shape.groups, length, shape.width, device=device)
        self.values = torch.zeros_like(self.keys)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop every other row; what is not filled yet is not copied."""
        self.lengths, filled = self.lengths[rows], int(self.lengths.max())
        self.keys, self.values = (self._kept(buffer, rows, filled) for buffer in (self.keys, self.values))

    @staticmethod
    def _kept(buffer: torch.Tensor, rows: torch.Tensor, filled: int) -> torch.Tensor:
        layers, _, groups, length, width = buffer.shape
        kept = torch.zeros(layers, len(rows), groups, length, width, device=buffer.device)
        kept[:, :, :, :filled] = buffer[:, rows, :, :filled]
        return kept


def forward(state: State, ids: torch.Tensor, counts: torch.Tensor, cache: Cache) -> torch.Tensor:
    """Logits [rows, length, vocabulary] of right-padded new tokens; `counts` of them are real per row."""
    (rows, length), shape = ids.shape, cache.shape
    device = ids.device
    positions = cache.lengths[:, None] + torch.arange(length, device=device)
    reach = int(cache.lengths.max()) + length
    mask = torch.arange(reach, device=device)[None, None, :] <= positions[:, :, None]
    hidden = functional.embedding(ids, state["model.embed_tokens.weight"])
    index = torch.arange(rows, device=device)[:, None].expand(rows, length)
    turns = _turns(positions, shape.width)
    for layer in range(shape.layers):
        part = f"model.layers.{layer}."
        attention = part + "self_attn."
        normed = _norm(hidden, state[part + "input_layernorm.weight"])
        query = functional.linear(normed, state[attention + "q_proj.weight"]).view(rows, length, shape.heads, -1)
        key = functional.linear(normed, state[attention + "k_proj.weight"]).view(rows, length, shape.groups, -1)
        value = functional.linear(normed, state[attention + "v_proj.weight"]).view(rows, length, shape.groups, -1)
        query = _rotate(_norm(query, state[attention + "q_norm.weight"]), turns)
        key = _rotate(_norm(key, state[attention + "k_norm.weight"]), turns)
        cache.keys[layer][index, :, positions] = key
        cache.values[layer][index, :, positions] = value
        keys, values = cache.keys[layer][:, :, :reach], cache.values[layer][:, :, :reach]
        mixed = _attend(query, keys, values, mask)
        hidden = hidden + functional.linear(mixed, state[attention + "o_proj.weight"])
        normed = _norm(hidden, state[part + "post_attention_layernorm.weight"])
        gate = functional.silu(functional.linear(normed, state[part + "mlp.gate_proj.weight"]))
        inner = gate * functional.linear(normed, state[part + "mlp.up_proj.weight"])
        hidden = hidden + functional.linear(inner, state[part + "mlp.down_proj.weight"])
    cache.lengths = cache.lengths + counts
    return functional.linear(_norm(hidden, state["model.norm.weight"]), state["model.embed_tokens.weight"])


def _attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T) v; the query heads of one key head are folded into rows, so that no key is copied."""
    rows, length, heads, width = query.shape
    groups, reach = keys.shape[1:3]
    folded = query.view(rows, length, groups, -1, width).permute(0, 2, 3, 1, 4).reshape(rows, groups, -1, width)
    scores = (folded @ keys.transpose(-1, -2) / width**0.5).view(rows, groups, -1, length, reach)
    scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
    mixed = (torch.softmax(scores, -1).view(rows, groups, -1, reach) @ values).view(rows, heads, length, width)
    return mixed.transpose(1, 2).reshape(rows, length, -1)


def device_of(state: State) -> torch.device:
    """Where a state lies; everything is sampled there."""
    return next(iter(state.values())).device


def padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and their lengths."""
    counts = torch.tensor([len(prompt) for prompt in prompts])
    ids = torch.zeros(len(prompts), int(counts.max()), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    return ids.to(device), counts.to(device)


@torch.inference_mode()
def score(state: State, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]]) -> list[list[float]]:
    """Log-probabilities of `replies` under teacher forcing."""
    found: list[list[float]] = []
    for first in range(0, len(prompts), 128):
        group = [
            (list(p), list(r)) for p, r in zip(prompts[first : first + 128], replies[first : first + 128], strict=True)
        ]
        ids, counts = padded([p + r for p, r in group], device_of(state))
        logits = forward(state, ids, counts, Cache(Shape.of(state), len(group), ids.shape[1], ids.device))
        logprobs = torch.log_softmax(logits, -1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
        found += [logprobs[i, len(p) - 1 : len(p) + len(r) - 1].tolist() for i, (p, r) in enumerate(group)]
    return found


@torch.inference_mode()
def sample(
    state: State,
    prompts: Sequence[Sequence[int]],
    *,
    stops: Sequence[int],
    limit: int = 400,
    temperature: float = 0.7,
    top_k: int = 20,
    seed: int = 0,
    rows: int = 256,
) -> list[Sampled]:
    """Continue every prompt; rows of like lengths run together. Temperature 0 is greedy."""
    results: list[Sampled | None] = [None] * len(prompts)
    generator = torch.Generator(device_of(state)).manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        for i, each in zip(
            chosen, _run(state, [prompts[i] for i in chosen], stops, limit, temperature, top_k, generator), strict=True
        ):
            results[i] = each
    return [each for each in results if each is not None]


def _run(
    state: State,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[int],
    limit: int,
    temperature: float,
    top_k: int,
    generator: torch.Generator,
) -> list[Sampled]:
    device = device_of(state)
    ids, counts = padded(prompts, device)
    cache = Cache(Shape.of(state), len(prompts), ids.shape[1] + limit, device)
    row_of = torch.arange(len(prompts), device=device)
    live = torch.ones(len(prompts), dtype=torch.bool, device=device)
    logits = forward(state, ids, counts, cache)[row_of, counts - 1]
    written: list[list[int]] = [[] for _ in prompts]
    scores: list[list[float]] = [[] for _ in prompts]
    stop = torch.tensor(list(stops), device=device)
    for _ in range(limit):
        picked = _pick(logits, temperature, top_k, generator)
        said = torch.log_softmax(logits, -1).gather(-1, picked[:, None])[:, 0]
        for row, token, value in zip(row_of[live].tolist(), picked[live].tolist(), said[live].tolist(), strict=True):
            written[row].append(token)
            scores[row].append(value)
        live &= ~torch.isin(picked, stop)
        if not live.any():
            break
        if live.sum() < _SPARE * len(live):
            cache.keep(live.nonzero()[:, 0])
            row_of, picked, live = row_of[live], picked[live], live[live]
        logits = forward(state, picked[:, None], torch.ones_like(picked), cache)[:, 0]
    ends = set(stops)
    return [Sampled(ids, values, ids[-1] in ends) for ids, values in zip(written, scores, strict=True)]


def _pick(logits: torch.Tensor, temperature: float, top_k: int, generator: torch.Generator) -> torch.Tensor:
    """The next token of every row [rows]."""
    if temperature == 0:
        return logits.argmax(-1)
    best, tokens = logits.topk(top_k, -1)
    choice = torch.multinomial(torch.softmax(best / temperature, -1), 1, generator=generator)
    return tokens.gather(-1, choice)[:, 0]
