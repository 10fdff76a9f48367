"""Rows that decode together, one token per step.

A lane is filled by :meth:`Lane.prefill`, advances by :meth:`Lane.step`, loses rows as they end and may take over
another lane's rows at any token boundary (:meth:`Lane.join`). Rows of one lane share forward passes, nothing else.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from dami_agent.errors import DamiError, EngineClosed, OutputInvalid, RunError
from dami_agent.runtime.grammar import mask_tokens
from dami_agent.runtime.passes import Passes
from dami_agent.runtime.row import Row
from dami_agent.runtime.sampling import choose
from dami_agent.types import Part, TokenLogprob

if TYPE_CHECKING:
    from dami_agent.weights import Weights

__all__ = ["Lane", "advance", "as_ours"]

# One in so many rows may be computed idly, after its end.
_IDLE_SHARE = 16
# Tokens per forward pass of a prefill, over all rows: bounds the memory of attention masks and activations.
_PREFILL_TOKENS = 8192
_STUCK = "the schema asks for text that this tokenizer cannot write; widen it"


class Lane:
    """Rows with one cache; every row has at least one output token once prefilled."""

    def __init__(self, passes: Passes, rows: list[Row]) -> None:
        self._passes = passes
        self.rows = rows

    @classmethod
    def prefill(cls, weights: Weights, rows: Sequence[Row], pulse: Callable[[], None]) -> Lane:
        """Read the rows' tokens so far and decode the first new token of each.

        Args:
            weights: lends the model.
            rows: their prompts are padded on the left to the longest.
            pulse: called between chunks; ends jobs that were to end meanwhile.
        """
        lengths = [len(row.tokens) for row in rows]
        width = max(lengths)
        passes = Passes(weights, [row.intensity for row in rows], [width - n for n in lengths])
        ids = [[0] * (width - len(row.tokens)) + row.tokens for row in rows]
        chunk = max(1, _PREFILL_TOKENS // len(rows))
        lane = cls(passes, list(rows))
        logits = None
        for start in range(0, width, chunk):
            pulse()
            if all(row.done for row in rows):
                return lane
            logits = passes.forward([row[start : start + chunk] for row in ids], 1)
        for row in rows:
            row.job.weights_version = weights.version
            row.job.clock.prefill += passes.forward_seconds
            row.job.clock.switch += passes.switch_seconds
        assert logits is not None  # a prompt has at least one token
        advance(lane.rows, logits[:, -1])
        return lane

    @property
    def slots(self) -> int:
        """Cache positions in use, padding included."""
        return self._passes.slots

    @property
    def width(self) -> int:
        """Columns of the cache."""
        return self._passes.width

    def step(self) -> None:
        """One token for every row."""
        switched = self._passes.switch_seconds
        logits = self._passes.forward([row.tokens[-1:] for row in self.rows], 1)
        switched = self._passes.switch_seconds - switched
        if switched:
            for row in self.rows:
                row.job.clock.switch += switched
                row.job.weights_version = self._passes.weights.version
        advance(self.rows, logits[:, -1])

    def compact(self, leaving: Row | None = None, *, now: bool = False) -> None:
        """Drop the rows that have ended, and ``leaving``, once it pays, or ``now``.

        It costs a copy of what stays. Until a sixteenth of the rows has ended, it is cheaper to compute them idly.
        """
        stay = [i for i, row in enumerate(self.rows) if not row.done and row is not leaving]
        ended = len(self.rows) - len(stay)
        if ended and (now or leaving is not None or not stay or ended > len(self.rows) // _IDLE_SHARE):
            self.rows = [self.rows[i] for i in stay]
            if stay:
                self._passes.keep_rows(stay)

    def join(self, other: Lane) -> None:
        """Take over the rows of ``other``, which must not be used any more."""
        self._passes.join(other._passes)
        self.rows += other.rows


@torch.inference_mode()  # logits made under it may only be changed in place under it
def advance(rows: Sequence[Row], scores: torch.Tensor) -> None:
    """Choose, judge and write the next token of every row.

    Args:
        rows: those that have ended are passed over.
        scores: float32 [rows, vocabulary], raw logits; changed in place.
    """
    logprobs = _raw_logprobs(rows, scores)
    tokens = _choose_all(rows, scores)
    taken: list[tuple[int, Row, int, Part]] = []
    for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        if not row.done and (judged := row.take(token)) is not None:
            taken.append((i, row, *judged))
    for i, row, token, part in taken:
        _guarded_write(row, token, part, _read_logprob(row, logprobs.get(i), token))


def _guarded_write(row: Row, token: int, part: Part, logprob: TokenLogprob | None) -> None:
    try:
        row.write(token, part, logprob)
    except Exception as error:  # one row's trouble (its tokenizer, its grammar) must not reach the others
        row.job.fail(as_ours(error))


def _choose_all(rows: Sequence[Row], scores: torch.Tensor) -> list[int]:
    """The next token of every row: written by the engine, or drawn under mask and warpers."""
    tokens = [-1 if (forced := row.thought.forced()) is None else forced for row in rows]
    free = [i for i, token in enumerate(tokens) if token < 0 and not rows[i].done]
    for i in free:
        forbidden = rows[i].forbid_tool_call
        if forbidden is not None and rows[i].thought.open:
            scores[i, forbidden] = -torch.inf
    matchers = [(i, matcher) for i in free if rows[i].constrained and (matcher := rows[i].matcher) is not None]
    if matchers:
        for i in mask_tokens(scores, matchers):
            rows[i].job.fail(OutputInvalid("the grammar allows no token of the vocabulary here", hint=_STUCK))
            free.remove(i)
    groups: dict[object, list[int]] = {}
    for i in free:
        groups.setdefault(rows[i].key, []).append(i)
    for members in groups.values():
        key = rows[members[0]].key
        part = scores if len(members) == len(rows) else scores[members]
        seen = [rows[i].tokens for i in members] if key[4] != 1.0 else None
        chosen = choose(part, key, [rows[i].uniform() for i in members], seen).tolist()
        for i, token in zip(members, chosen, strict=True):
            tokens[i] = token
    return tokens


def _raw_logprobs(rows: Sequence[Row], scores: torch.Tensor) -> dict[int, torch.Tensor]:
    """Log-softmax of the raw logits, float32 [vocabulary], of the rows that want log-probs."""
    wanted = [i for i, row in enumerate(rows) if row.logprobs is not None and not row.done]
    return dict(zip(wanted, torch.log_softmax(scores[wanted], dim=-1), strict=True)) if wanted else {}


def _read_logprob(row: Row, logprobs: torch.Tensor | None, token: int) -> TokenLogprob | None:
    if logprobs is None or row.logprobs is None:
        return None
    top: tuple[tuple[int, float], ...] = ()
    if row.logprobs:
        values, ids = logprobs.topk(row.logprobs)
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(token_id=token, logprob=float(logprobs[token]), top=top)


def as_ours(error: Exception) -> Exception:
    """A fresh error of our classes for each request, with a hint where the cause is plain.

    Fresh, because every ``RunError`` carries its own request's partial generation.
    """
    if isinstance(error, EngineClosed):
        return EngineClosed(error.message, hint=error.hint)
    if isinstance(error, DamiError):
        return error
    memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    ours = RunError(
        f"the model failed: {type(error).__name__}: {error}",
        hint="the device is out of memory: lower max_batch_size, max_tokens or context_length" if memory else None,
    )
    # The error may be kept for long; the frames it points to hold the batch's cache and logits.
    traceback.clear_frames(error.__traceback__)
    ours.__cause__ = error
    return ours
