"""A small batched sampler for development: plain Qwen3 forward over a state dict, static KV buffers, rows leave early.

It is not the project's engine (that is `dami_agent.runtime`); it exists to try a checkpoint in seconds while training.
A test compares its logits with transformers'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from dami_agent.training.export import SHAPE

State = Mapping[str, torch.Tensor]
LAYERS, HEADS, GROUPS, WIDTH = (
    SHAPE["num_hidden_layers"],
    SHAPE["num_attention_heads"],
    SHAPE["num_key_value_heads"],
    SHAPE["head_dim"],
)
_EPS, _THETA = 1e-6, 10000.0


@dataclass(frozen=True)
class Sampled:
    """What one row generated, and the log-probability (at temperature 1) of each token."""

    ids: list[int]
    logprobs: list[float]
    finished: bool


def lerp(low: State, high: State, intensity: float) -> dict[str, torch.Tensor]:
    """theta(lambda) of two states, in fp32."""
    return {name: torch.lerp(value.float(), high[name].float(), intensity) for name, value in low.items()}


def _norm(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(hidden, (hidden.shape[-1],), weight, _EPS)


def _rotate(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of [rows, length, heads, WIDTH] at integer positions [rows, length]."""
    frequency = _THETA ** (-torch.arange(0, WIDTH, 2, dtype=torch.float32) / WIDTH)
    angle = positions[..., None].float() * frequency
    cos, sin = (torch.cat([f(angle)] * 2, -1)[:, :, None, :] for f in (torch.cos, torch.sin))
    half = WIDTH // 2
    turned = torch.cat((-states[..., half:], states[..., :half]), -1)
    return states * cos + turned * sin


class Cache:
    """Keys and values of every layer in one buffer [layers, rows, groups, length, WIDTH], filled to `lengths`."""

    def __init__(self, rows: int, length: int) -> None:
        self.keys = torch.zeros(LAYERS, rows, GROUPS, length, WIDTH)
        self.values = torch.zeros(LAYERS, rows, GROUPS, length, WIDTH)
        self.lengths = torch.zeros(rows, dtype=torch.long)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop every other row."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.lengths = self.lengths[rows]


def forward(state: State, ids: torch.Tensor, counts: torch.Tensor, cache: Cache) -> torch.Tensor:
    """Logits [rows, length, vocabulary] of right-padded new tokens; `counts` of them are real per row."""
    rows, length = ids.shape
    positions = cache.lengths[:, None] + torch.arange(length)
    reach = int(cache.lengths.max()) + length
    mask = torch.arange(reach)[None, None, :] <= positions[:, :, None]
    hidden = functional.embedding(ids, state["model.embed_tokens.weight"])
    index = torch.arange(rows)[:, None].expand(rows, length)
    for layer in range(LAYERS):
        part = f"model.layers.{layer}."
        attention = part + "self_attn."
        normed = _norm(hidden, state[part + "input_layernorm.weight"])
        query = functional.linear(normed, state[attention + "q_proj.weight"]).view(rows, length, HEADS, WIDTH)
        key = functional.linear(normed, state[attention + "k_proj.weight"]).view(rows, length, GROUPS, WIDTH)
        value = functional.linear(normed, state[attention + "v_proj.weight"]).view(rows, length, GROUPS, WIDTH)
        query = _rotate(_norm(query, state[attention + "q_norm.weight"]), positions)
        key = _rotate(_norm(key, state[attention + "k_norm.weight"]), positions)
        cache.keys[layer][index, :, positions] = key
        cache.values[layer][index, :, positions] = value
        keys, values = cache.keys[layer][:, :, :reach], cache.values[layer][:, :, :reach]
        folded = query.view(rows, length, GROUPS, HEADS // GROUPS, WIDTH).permute(0, 2, 3, 1, 4)
        scores = folded @ keys[:, :, None].transpose(-1, -2) / WIDTH**0.5
        scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
        mixed = (torch.softmax(scores, -1) @ values[:, :, None]).permute(0, 3, 1, 2, 4).reshape(rows, length, -1)
        hidden = hidden + functional.linear(mixed, state[attention + "o_proj.weight"])
        normed = _norm(hidden, state[part + "post_attention_layernorm.weight"])
        gate = functional.silu(functional.linear(normed, state[part + "mlp.gate_proj.weight"]))
        inner = gate * functional.linear(normed, state[part + "mlp.up_proj.weight"])
        hidden = hidden + functional.linear(inner, state[part + "mlp.down_proj.weight"])
    cache.lengths = cache.lengths + counts
    return functional.linear(_norm(hidden, state["model.norm.weight"]), state["model.embed_tokens.weight"])


def padded(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and their lengths."""
    counts = torch.tensor([len(prompt) for prompt in prompts])
    ids = torch.zeros(len(prompts), int(counts.max()), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    return ids, counts


@torch.inference_mode()
def score(state: State, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]]) -> list[list[float]]:
    """Log-probabilities of `replies` under teacher forcing."""
    found: list[list[float]] = []
    for first in range(0, len(prompts), 128):
        group = [
            (list(p), list(r)) for p, r in zip(prompts[first : first + 128], replies[first : first + 128], strict=True)
        ]
        ids, counts = padded([p + r for p, r in group])
        logits = forward(state, ids, counts, Cache(len(group), ids.shape[1]))
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
    generator = torch.Generator().manual_seed(seed)
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
    ids, counts = padded(prompts)
    cache = Cache(len(prompts), ids.shape[1] + limit)
    logits = forward(state, ids, counts, cache)[torch.arange(len(prompts)), counts - 1]
    alive = torch.arange(len(prompts))
    written: list[list[int]] = [[] for _ in prompts]
    scores: list[list[float]] = [[] for _ in prompts]
    finished = [False] * len(prompts)
    stop = torch.tensor(list(stops))
    for _ in range(limit):
        logprobs = torch.log_softmax(logits, -1)
        if temperature == 0:
            picked = logits.argmax(-1)
        else:
            best, tokens = logits.topk(top_k, -1)
            choice = torch.multinomial(torch.softmax(best / temperature, -1), 1, generator=generator)
            picked = tokens.gather(-1, choice)[:, 0]
        for row, token, value in zip(
            alive.tolist(), picked.tolist(), logprobs.gather(-1, picked[:, None])[:, 0].tolist(), strict=True
        ):
            written[row].append(token)
            scores[row].append(value)
        running = ~torch.isin(picked, stop)
        for row in alive[~running].tolist():
            finished[row] = True
        if not running.any():
            break
        if not running.all():
            cache.keep(running.nonzero()[:, 0])
            alive, picked = alive[running], picked[running]
        logits = forward(state, picked[:, None], torch.ones(len(picked), dtype=torch.long), cache)[:, 0]
    return [Sampled(*each) for each in zip(written, scores, finished, strict=True)]
