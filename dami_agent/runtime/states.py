"""Read prompts for the model's hidden states: what a head on them predicts from before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from dami_agent.errors import InvalidRequest
from dami_agent.runtime.batch_inputs import LoadedModel
from dami_agent.runtime.failures import not_finite
from dami_agent.runtime.prefix_cache import PrefixCache
from dami_agent.runtime.reading import Reading, ReadRequest
from dami_agent.runtime.schedule import Group

__all__ = ["StatesReading", "StatesRequest"]


@dataclass(slots=True, kw_only=True, eq=False)
class StatesRequest(ReadRequest):
    """Read the prompt ``context`` (at least one token) at λ, and keep the hidden states after some layers.

    Attributes:
        layers: as transformers numbers ``hidden_states``: 0 is the embedding, the last is after the final norm.
    """

    context: tuple[int, ...]
    layers: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """Return the prompt."""
        return self.context


class StatesReading(Reading[StatesRequest]):
    """Computes the pooled states of some prompts: of each layer, the last token's and the mean over all tokens.

    Args:
        model: what reads.
        group: of all requests.
        requests: of like length, for any layers.
    """

    def __init__(self, model: LoadedModel, group: Group, requests: Sequence[StatesRequest]) -> None:
        super().__init__(model, group, requests)
        last = int(model.weights.config.get_text_config().num_hidden_layers)
        for request in requests:
            if not all(layer <= last for layer in request.layers):
                request.fail(InvalidRequest(f"layers must be some of 0 to {last}, got {list(request.layers)}"))
        self._layers = sorted({layer for request in requests if not request.done for layer in request.layers})
        self._sums: torch.Tensor | None = None
        self._last: torch.Tensor | None = None

    def _read(self, ids: Sequence[Sequence[int]], start: int, end: int) -> None:
        device = self._model.weights.device
        mine = torch.arange(start, end, device=device)[None, :] >= torch.tensor(self._pads, device=device)[:, None]
        states = self._inputs.hidden_states(ids, self._layers)  # one for each layer, pooled before the next is copied
        sums = torch.stack([torch.where(mine[..., None], each.float(), 0).sum(dim=1) for each in states], dim=1)
        self._sums = sums if self._sums is None else self._sums + sums
        self._last = torch.stack([each[:, -1].float() for each in states], dim=1)

    def _finish(self) -> None:
        assert self._sums is not None
        assert self._last is not None
        lengths = torch.tensor([len(r.tokens) for r in self.requests], device=self._sums.device)
        pooled = torch.cat([self._last, self._sums / lengths[:, None, None]], dim=-1).cpu()
        for request, states in zip(self.requests, pooled, strict=True):
            if request.done:
                continue
            chosen = states[[self._layers.index(layer) for layer in request.layers]]
            if torch.isfinite(chosen).all():
                request.finish(tuple(tuple(row) for row in chosen.tolist()))
            else:
                request.fail(not_finite(float(chosen.sum()), "a hidden state of the prompt"))

    def keep_prefixes(self, prefixes: PrefixCache) -> None:
        """Keep the keys and values that were computed, for the reply at the same λ; nothing of what broke off."""
        if self._inputs.width < self._width:
            return
        for row, request in enumerate(self.requests):
            if request.failed:
                continue
            prefixes.keep(request.intensity, request.tokens, partial(self._inputs.copy_row, row))
