"""Rows that decode together, one token per step.

A batch is what a :class:`~dami_agent.runtime.prefill.Prefill` ends in. It advances by :meth:`RunningBatch.step`, loses
rows as they end and may take over another batch's rows at any token boundary (:meth:`RunningBatch.join`). Rows of one
batch share forward passes, nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch

from dami_agent.errors import OutputInvalid, RunError
from dami_agent.runtime.batch_inputs import BatchInputs
from dami_agent.runtime.failures import failing_alone, not_finite, to_dami_error
from dami_agent.runtime.grammar import mask_tokens
from dami_agent.runtime.prefix_cache import PrefixCache
from dami_agent.runtime.sampling import WarperKey, choose
from dami_agent.runtime.sequence import SequenceState
from dami_agent.types import TokenLogprob

__all__ = ["RunningBatch", "sample_next_tokens"]

# One in so many rows may be computed idly, after its end.
_IDLE_SHARE = 16
# Tokens that a grammar may refuse, one after the other, although its mask allowed them, before its row is given up.
_MOST_REFUSALS = 256
_STUCK = "the schema asks for text that this tokenizer cannot write; widen it"


class RunningBatch:
    """Decode sequences that share one KV cache, one token per step.

    Every row has at least one output token once prefilled.
    """

    def __init__(self, inputs: BatchInputs, rows: list[SequenceState]) -> None:
        self._inputs = inputs
        self.rows = rows

    @property
    def cache_tokens(self) -> int:
        """Cache positions in use, padding included."""
        return self._inputs.cache_tokens

    @property
    def width(self) -> int:
        """Columns of the cache."""
        return self._inputs.width

    def step(self) -> None:
        """Decode one token for every row."""
        switched = self._inputs.switch_seconds
        logits = self._inputs.forward([row.tokens[-1:] for row in self.rows], 1)
        switched = self._inputs.switch_seconds - switched
        if switched:
            for row in self.rows:
                row.job.clock.switch += switched
                row.job.weights_version = self._inputs.weights.version
        sample_next_tokens(self.rows, logits[:, -1])

    def keep_prefixes(self, prefixes: PrefixCache) -> None:
        """Keep what was computed of the rows that have ended as they should, once each."""
        for i, row in enumerate(self.rows):
            if row.job.succeeded and not row.kept:
                row.kept = True
                fed = min(row.reusable, len(row.tokens) - 1)  # the last may have ended the reply before it was fed
                prefixes.keep(row.prefix_intensity, row.tokens[:fed], partial(self._inputs.copy_row, i))

    def compact(self, leaving: SequenceState | None = None, *, now: bool = False) -> None:
        """Drop the rows that have ended, and ``leaving``, once it pays, or ``now``.

        It costs a copy of what stays. Until a sixteenth of the rows has ended, it is cheaper to compute them idly.
        """
        stay = [i for i, row in enumerate(self.rows) if not row.done and row is not leaving]
        ended = len(self.rows) - len(stay)
        if ended and (now or leaving is not None or not stay or ended > len(self.rows) // _IDLE_SHARE):
            self.rows = [self.rows[i] for i in stay]
            if stay:
                self._inputs.keep_rows(stay)

    def join(self, other: RunningBatch) -> None:
        """Take over the rows of ``other``, which must not be used any more."""
        self._inputs.join(other._inputs)
        self.rows += other.rows


@torch.inference_mode()  # logits made under it may only be changed in place under it
def sample_next_tokens(rows: Sequence[SequenceState], scores: torch.Tensor) -> None:
    """Choose, judge and write the next token of every row; what goes wrong with one row fails that row alone.

    Args:
        rows: those that have ended are passed over.
        scores: float32 [rows, vocabulary], raw logits; changed in place.
    """
    _fail_rows_without_scores(rows, scores)
    logprobs = _raw_logprobs(rows, scores)
    tokens = _choose_all(rows, scores)
    for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        if row.done or token < 0:
            continue
        with failing_alone(row):
            if (judged := row.take(token)) is not None:
                row.write(*judged, _read_logprob(row, logprobs.get(i), judged[0]))


def _fail_rows_without_scores(rows: Sequence[SequenceState], scores: torch.Tensor) -> None:
    """Fail the rows whose best score is not finite, and zero their scores so that nothing computed later trips.

    Args:
        rows: all of the batch.
        scores: float32 [rows, vocabulary]; changed in place.
    """
    best = scores.amax(dim=-1).tolist()  # NaN and +inf anywhere, and -inf everywhere, show in the maximum
    bad = [i for i, value in enumerate(best) if not math.isfinite(value)]
    for i in bad:
        if not rows[i].done:
            rows[i].fail(not_finite(best[i], f"output token {rows[i].written + 1}"))
    if bad:
        scores[bad] = 0.0


def _choose_all(rows: Sequence[SequenceState], scores: torch.Tensor) -> list[int]:
    """Choose the next token of every row: written by the engine, or drawn under mask and warpers; -1 for none.

    Args:
        rows: all of the batch.
        scores: float32 [rows, vocabulary]; masked in place.
    """
    # 1. What the engine writes itself: closing words, the close marker.
    tokens = [-1] * len(rows)
    free: list[int] = []
    for i, row in enumerate(rows):
        if row.done:
            continue
        with failing_alone(row):
            forced = row.thought.forced()
            if forced is None:
                free.append(i)
            else:
                tokens[i] = forced
    # 2. Mask markers that may not be drawn now, then what grammars forbid.
    banned = [(i, token) for i in free for token in rows[i].banned]
    if banned:
        places = torch.tensor(banned, device=scores.device)
        scores[places[:, 0], places[:, 1]] = -torch.inf
    _apply_grammars(rows, free, scores)
    # 3. Draw the rest, rows of equal warper settings together.
    groups: dict[WarperKey, list[int]] = {}
    for i in free:
        if not rows[i].done:
            groups.setdefault(rows[i].key, []).append(i)
    for key, members in groups.items():
        for i, token in zip(members, _draw(rows, members, key, scores), strict=True):
            tokens[i] = _grammatical(rows, i, key, scores, token)
            if tokens[i] < 0 and not rows[i].done:
                rows[i].fail(_overflow(key))
    return tokens


def _grammatical(rows: Sequence[SequenceState], i: int, key: WarperKey, scores: torch.Tensor, token: int) -> int:
    """Return ``token``, or what the same random number draws without it where the grammar refuses it after all.

    Args:
        rows: all of the batch.
        i: the row that ``token`` is of.
        key: the row's warper settings.
        scores: float32 [rows, vocabulary]; tokens that are refused are masked in place.
        token: as drawn; -1 if none could be.

    Returns:
        A token that the grammar takes; -1, and the row has failed, where there is none.
    """
    row = rows[i]
    for _ in range(_MOST_REFUSALS):
        if token < 0 or row.accepts(token):
            return token
        scores[i, token] = -torch.inf
        if not torch.isfinite(scores[i]).any():
            break
        token = _draw(rows, [i], key, scores)[0]
    row.job.fail(OutputInvalid("the grammar refuses every token that may come here", hint=_STUCK))
    return -1


def _apply_grammars(rows: Sequence[SequenceState], free: Sequence[int], scores: torch.Tensor) -> None:
    """Mask what the grammars of some rows forbid; a matcher that breaks, or allows nothing, fails its own row.

    Args:
        rows: all of the batch.
        free: indices of the rows that draw a token.
        scores: float32 [rows, vocabulary]; masked in place.
    """
    matchers = [(i, matcher) for i in free if rows[i].constrained and (matcher := rows[i].matcher) is not None]
    if not matchers:
        return
    try:
        stuck = mask_tokens(scores, matchers)
    except BaseException:  # whose fault it was shows when each is asked alone
        stuck = []
        for i, matcher in matchers:
            with failing_alone(rows[i]):
                stuck += mask_tokens(scores, [(i, matcher)])
    for i in stuck:
        rows[i].fail(OutputInvalid("the grammar allows no token of the vocabulary here", hint=_STUCK))


def _draw(rows: Sequence[SequenceState], members: Sequence[int], key: WarperKey, scores: torch.Tensor) -> list[int]:
    """Draw the next tokens of the rows ``members``, together or, where that fails, one by one.

    Args:
        rows: all of the batch.
        members: indices of the rows that draw; they share their warper settings.
        key: these settings.
        scores: float32 [rows, vocabulary], under masks.

    Returns:
        One token per member; -1 for one that failed.
    """
    part = scores if len(members) == len(rows) else scores[members]
    seen = [rows[i].tokens for i in members] if key[4] != 1.0 else None
    try:
        drawn: list[int] = choose(part, key, [rows[i].uniform() for i in members], seen).tolist()
        return drawn
    except BaseException as error:  # whose fault it was shows when each is drawn alone
        if len(members) > 1:
            return [token for i in members for token in _draw(rows, [i], key, scores)]
        rows[members[0]].fail(to_dami_error(error))
        return [-1]


def _overflow(key: WarperKey) -> RunError:
    return RunError(
        f"no token can be drawn: under repetition_penalty={key[4]:g} the scores of all tokens overflow",
        hint="use a repetition_penalty near 1 (1 turns it off)",
    )


def _raw_logprobs(rows: Sequence[SequenceState], scores: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return log-softmax of the raw logits, float32 [vocabulary], of the rows that want log-probs."""
    wanted = [i for i, row in enumerate(rows) if row.logprobs is not None and not row.done]
    return dict(zip(wanted, torch.log_softmax(scores[wanted], dim=-1), strict=True)) if wanted else {}


def _read_logprob(row: SequenceState, logprobs: torch.Tensor | None, token: int) -> TokenLogprob | None:
    if logprobs is None or row.logprobs is None:
        return None
    top: tuple[tuple[int, float], ...] = ()
    if row.logprobs:
        values, ids = logprobs.topk(row.logprobs)
        top = tuple((i, v) for i, v in zip(ids.tolist(), values.tolist(), strict=True) if v > -math.inf)
    return TokenLogprob(token_id=token, logprob=float(logprobs[token]), top=top)
