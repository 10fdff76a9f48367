"""Dialogues to token batches: pools drawn from a mixture, cut into batches of like lengths.

A pool is drawn, encoded, sorted by length and cut into batches of about `tokens` padded tokens.
Rows are single documents (right padding under a causal mask needs no mask at all), so documents never see one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer

from builtin_pair.training import documents
from builtin_pair.training.render import Template, TrainingDialogue, segments

LONGEST = 1536


@dataclass(frozen=True)
class Part:
    """One part of a mixture: a family, under a template, at a level of detail drawn from low..high."""

    family: str
    template: Template
    weight: float
    low: float = 0.0
    high: float = 1.0


Mixture = tuple[Part, ...]


@dataclass(frozen=True)
class Encoded:
    """Token ids and which of them are learned from."""

    ids: list[int]
    loss_mask: list[bool]


def encode(tokenizer: Tokenizer, dialogues: list[TrainingDialogue]) -> list[Encoded]:
    """Encode segment by segment, so that what is learned begins exactly where generation begins."""
    pieces = [segments(dialogue) for dialogue in dialogues]
    flat = tokenizer.encode_batch([text for row in pieces for text, _ in row], add_special_tokens=False)
    encoded, position = [], 0
    for row in pieces:
        ids: list[int] = []
        loss_mask: list[bool] = []
        for _, flag in row:
            part = flat[position].ids
            position += 1
            ids += part
            loss_mask += [flag] * len(part)
        encoded.append(Encoded(ids[:LONGEST], loss_mask[:LONGEST]))
    return encoded


@dataclass(frozen=True)
class Frame:
    """Token ids around a user's turn and its reply, and those of plain text: no control token, no added piece."""

    opening: list[int]
    reply: list[int]
    stop: list[int]
    between: list[int]
    ordinary: list[int]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Frame:
        """Return the frame in a tokenizer's ids."""
        texts = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>", "\n")
        special = set(tokenizer.get_added_tokens_decoder())
        ordinary = [index for index in range(tokenizer.get_vocab_size()) if index not in special]
        opening, reply, stop, between = (tokenizer.encode(text, add_special_tokens=False).ids for text in texts)
        return cls(opening=opening, reply=reply, stop=stop, between=between, ordinary=ordinary)


def copying(rng: Random, frame: Frame) -> Encoded:
    """Random tokens: 8-60 to be repeated, or rows of which some are asked for: how copying is learned fast."""
    if rng.random() < 0.5:
        body = [rng.choice(frame.ordinary) for _ in range(rng.randint(8, 60))]
        return encode_turns(frame, [(body, body)])
    return encode_turns(frame, draw_lookup(rng, frame.ordinary))


def draw_lookup(rng: Random, ordinary: list[int]) -> list[tuple[list[int], list[int]]]:
    """Rows of a key and, up to six tokens after it, a value; then the keys, each asked for its value."""
    keys = rng.sample(ordinary, rng.randint(2, 10))
    values = [[rng.choice(ordinary) for _ in range(rng.randint(1, 4))] for _ in keys]
    said = [rng.choice(ordinary) for _ in range(rng.choice((0, 0, rng.randint(1, 6))))]
    stop = rng.choice(ordinary)
    rows = [token for key, value in zip(keys, values, strict=True) for token in (key, *said, *value, stop)]
    (first, value), *others = rng.sample([([key], value) for key, value in zip(keys, values, strict=True)], len(keys))
    return [([*rows, *first], value), *others]


def encode_turns(frame: Frame, turns: list[tuple[list[int], list[int]]]) -> Encoded:
    """Return turns of a user and an assistant, as token ids."""
    ids: list[int] = []
    loss_mask: list[bool] = []
    for asked, reply in turns:
        given = [*(frame.between if ids else ()), *frame.opening, *asked, *frame.reply]
        ids += [*given, *reply, *frame.stop]
        loss_mask += [False] * len(given) + [True] * (len(reply) + len(frame.stop))
    return Encoded(ids, loss_mask)


def pool(
    tokenizer: Tokenizer,
    mixture: Mixture,
    *,
    seed: str,
    size: int,
    copy_share: float = 0.0,
    self_mistakes: Sequence[TrainingDialogue] = (),
    mistake_share: float = 0.0,
) -> list[Encoded]:
    """`size` documents drawn from a mixture: a pure function.

    Args:
        tokenizer: the pair's.
        mixture: families, templates, levels of detail.
        seed: equal seeds give equal pools.
        size: documents.
        copy_share: share of random-token copies.
        self_mistakes: recorded mistakes of the pair's own (`self_mistakes.py`).
        mistake_share: share of the pool that is drawn from them.
    """
    rng, frame = Random(seed), Frame.of(tokenizer)
    copies = sum(rng.random() < copy_share for _ in range(size))
    dialogues = (
        [rng.choice(self_mistakes) for _ in range(size - copies) if rng.random() < mistake_share]
        if self_mistakes
        else []
    )
    for part in rng.choices(mixture, [part.weight for part in mixture], k=size - copies - len(dialogues)):
        style = rng.uniform(part.low, part.high)
        dialogues.append(documents.draw(rng, part.family, part.template, style))
    return encode(tokenizer, dialogues) + [copying(rng, frame) for _ in range(copies)]


def grouped(documents_: list[Encoded], *, tokens: int) -> list[list[Encoded]]:
    """Batches of rows of like lengths, short ones first, of at most about `tokens` padded tokens."""
    groups: list[list[Encoded]] = []
    current: list[Encoded] = []
    for each in sorted(documents_, key=lambda each: len(each.ids)):
        if current and (len(current) + 1) * _padded(len(each.ids)) > tokens:
            groups.append(current)
            current = []
        current.append(each)
    groups.append(current)
    return groups


@dataclass(frozen=True)
class TokenBatch:
    """One step's rows, right-padded: `ids` int32 [rows, width], and what is learned of them.

    `loss_positions` int64 [learned] are positions of the flattened [rows, width - 1] whose next token is learned.
    """

    ids: torch.Tensor
    loss_positions: torch.Tensor


@dataclass(frozen=True)
class Packed:
    """A pool's batches one after another in three tensors: few to hand from one process to another, or to a GPU.

    `ids` int32 [tokens], `loss_positions` int32 [learned], `shapes` int64 [batches, 3]: rows, width, learned.
    """

    ids: torch.Tensor
    loss_positions: torch.Tensor
    shapes: torch.Tensor

    def to(self, device: torch.device) -> Packed:
        """Return a copy on ``device``."""
        return Packed(self.ids.to(device), self.loss_positions.to(device), self.shapes)

    def batches(self) -> list[TokenBatch]:
        """Return the batches, as views."""
        sizes = self.shapes.tolist()
        ids = torch.split(self.ids, [rows * width for rows, width, _ in sizes])
        loss_positions = torch.split(self.loss_positions, [learned for *_, learned in sizes])
        return [
            TokenBatch(flat.view(rows, width), place.long())
            for flat, place, (rows, width, _) in zip(ids, loss_positions, sizes, strict=True)
        ]


def packed(groups: list[list[Encoded]]) -> Packed:
    """Batches of documents as tensors."""
    ids, loss_positions, shapes = [], [], []
    for group in groups:
        width = _padded(max(len(each.ids) for each in group))
        rows = np.zeros((len(group), width), np.int32)
        loss_mask = np.zeros((len(group), width), np.bool_)
        for row, each in enumerate(group):
            rows[row, : len(each.ids)] = each.ids
            loss_mask[row, : len(each.ids)] = each.loss_mask
        ids.append(rows.ravel())
        loss_positions.append(np.flatnonzero(loss_mask[:, 1:]).astype(np.int32))
        shapes.append((len(group), width, len(loss_positions[-1])))
    flat, where = torch.from_numpy(np.concatenate(ids)), torch.from_numpy(np.concatenate(loss_positions))
    return Packed(flat, where, torch.tensor(shapes))


def _padded(length: int) -> int:
    return -(-length // 16) * 16
