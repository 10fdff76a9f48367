"""Chunked prefill: prompts are read a piece at a time, so that rows which decode need not wait for their end.

Where prompts are read at one λ for replies at another (a shared prefix), chunks end before each prompt's last token,
which is read at the reply's.
"""

from __future__ import annotations

from collections.abc import Sequence

from dami_agent.runtime.batch import RunningBatch, sample_next_tokens
from dami_agent.runtime.batch_inputs import BatchInputs, LoadedModel
from dami_agent.runtime.prefix_cache import PrefixCache
from dami_agent.runtime.schedule import Group
from dami_agent.runtime.sequence import SequenceState

__all__ = ["Prefill"]


class Prefill:
    """Reads the tokens of some rows chunk by chunk; the last chunk gives each its first new token.

    Args:
        model: what reads.
        group: of all rows as they decode.
        rows: prompts of like length; they are padded on the left to the longest, and change λ at one column, if at all.
        prefixes: what was read before.

    Attributes:
        decodes_in: the group in which the rows decode.
        rows: those that are still read; rows that end meanwhile are dropped between chunks.
        batch: the rows as they decode, once all is read.
        arrived: when the oldest of the rows was submitted (``time.monotonic`` seconds).
    """

    def __init__(self, model: LoadedModel, group: Group, rows: Sequence[SequenceState], prefixes: PrefixCache) -> None:
        self._model = model
        self._prefixes = prefixes
        self.decodes_in = group
        self.batch: RunningBatch | None = None
        self.arrived = min(row.job.clock.submitted for row in rows)
        self._begin(list(rows))

    def _begin(self, rows: list[SequenceState]) -> None:
        self.rows = rows
        self._width = max(len(row.tokens) for row in rows)
        self._pads = [self._width - len(row.tokens) for row in rows]
        self._ids = [[0] * pad + row.tokens for pad, row in zip(self._pads, rows, strict=True)]
        self._inputs = BatchInputs(self._model, [row.prefix_intensity for row in rows], self._pads)

    @property
    def _changes_at(self) -> int:
        """Return the column from which on rows are read at the λ that they decode at."""
        return max(
            pad + row.prefix_length if row.prefix_length else 0 for pad, row in zip(self._pads, self.rows, strict=True)
        )

    @property
    def group(self) -> Group:
        """Return the group whose weights read the next chunk."""
        if self.decodes_in is None or not self.rows or self._inputs.width >= self._changes_at:
            return self.decodes_in
        return self.rows[0].prefix_intensity

    @property
    def begun(self) -> bool:
        """Return whether anything has been read."""
        return self._inputs.width > 0

    @property
    def finished(self) -> bool:
        """Return whether there is nothing left to read."""
        return self.batch is not None or all(row.done for row in self.rows)

    @property
    def remaining(self) -> int:
        """Return the tokens still to be read, padding included."""
        return len(self.rows) * (self._width - self._inputs.width)

    @property
    def cache_tokens(self) -> int:
        """Cache positions that it will have taken in the end, padding included."""
        return len(self.rows) * self._width

    def advance(self) -> None:
        """Read one chunk of at most ``model.chunk_tokens`` tokens over all rows."""
        self._drop_ended()
        if not self.rows:
            return
        if not self.begun:
            self._begin_with_prefixes()
        start, columns = self._inputs.width, max(1, self._model.chunk_tokens // len(self.rows))
        shared = start < (change := self._changes_at)
        self._inputs.intensities = [row.prefix_intensity if shared else row.intensity for row in self.rows]
        end = min(start + columns, change if shared else self._width)
        logits = self._inputs.forward([ids[start:end] for ids in self._ids], 1)
        if self._inputs.width < self._width:
            return
        for row in self.rows:
            row.job.weights_version = self._model.weights.version
            row.job.clock.prefill += self._inputs.forward_seconds
            row.job.clock.switch += self._inputs.switch_seconds
        self.batch = RunningBatch(self._inputs, self.rows)
        sample_next_tokens(self.rows, logits[:, -1])

    def _begin_with_prefixes(self) -> None:
        """Take over the columns that nobody needs read any more: padding, or read before at the row's λ."""
        found = [self._prefixes.find(row.prefix_intensity, row.tokens[: row.reusable + 1]) for row in self.rows]
        ends = [pad + (prefix.length if prefix else 0) for pad, prefix in zip(self._pads, found, strict=True)]
        first = min(ends)
        if any(prefix and first > pad for prefix, pad in zip(found, self._pads, strict=True)):
            self._inputs.begin(found, first)
        for row, pad in zip(self.rows, self._pads, strict=True):
            length = len(row.prompt.token_ids)
            if not row.written:  # else it was read before: by a probe that it goes on from, or until it was preempted
                row.job.cached_tokens = max(0, first - pad)
            if row.written == len(row.prompt.reply_ids):  # at another λ than the probe's, all of it is read again
                prompt = row.tokens[: min(row.reusable, length) + 1]
                row.job.reread_tokens = self._prefixes.count_reread(row.prefix_intensity, prompt)

    def drop(self, row: SequenceState) -> None:
        """Go on without a row, whatever has become of it."""
        self._keep([i for i, each in enumerate(self.rows) if each is not row])

    def _drop_ended(self) -> None:
        stay = [i for i, row in enumerate(self.rows) if not row.done]
        if len(stay) < len(self.rows):
            self._keep(stay)

    def _keep(self, stay: Sequence[int]) -> None:
        """Drop all rows but these, and the columns that are then padding everywhere."""
        rows = [self.rows[i] for i in stay]
        first = min((self._pads[i] for i in stay), default=0)
        if not rows:
            self.rows = rows
        elif first >= self._inputs.width:  # nothing of theirs has been read yet
            self._begin(rows)
        else:
            self._inputs.keep_rows(stay)
            self.rows = rows
            self._width -= first
            self._pads = [self._pads[i] - first for i in stay]
            self._ids = [self._ids[i][first:] for i in stay]
