"""Choose a λ for each layer by how much its activations in both checkpoints tell of each other, as ACM does.

ACM (Activation-Guided Consensus Merging, arXiv 2505.14009) measures the mutual information of both models' activations
layer by layer on calibration prompts, and gives a layer less of the tuned model the more of it is shared: weight
1 / (1 + exp(t·I)). Ours is **like** it, not it: I is that of normal variables, −½·log(1 − ρ²) with ρ the correlation of
a channel over the prompts, its mean over the channels of a layer; and t·I is shifted so that the layers' mean λ is a
given one, which says how much of Thinking is meant.
"""

from __future__ import annotations

import torch

from dami_agent.evaluation.asked import SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import Progress
from dami_agent.evaluation.samples import every_layer, read_states, rendered
from dami_agent.session import Session
from dami_agent.tasks import questions
from dami_agent.types import Intensity
from dami_agent.weights.static_merges import StaticMerge, by_layer

__all__ = ["MEANS", "PROMPTS", "consensus_merges", "information", "layer_weights"]

MEANS = (0.4, 0.6, 0.8)
"""Mean λs of the merges."""

PROMPTS = 200
"""Questions of the calibration split whose activations are read."""

_SHARPNESS = 0.7
"""t of ACM."""

_FAR, _HALVINGS = 64.0, 60
"""Where the shift is looked for, and how closely."""

_ALIKE = 0.9999
"""ρ² at most: of channels that are equal in both, the information would be infinite."""


def consensus_merges(session: Session, tell: Progress | None = None) -> list[StaticMerge]:
    """Read both checkpoints' activations and return a merge for each mean λ.

    Args:
        session: the pair, of an engine that gives hidden states.
        tell: of progress.

    Raises:
        InvalidRequest: the pair's engine gives no hidden states, or does not say how many layers it has.
    """
    asked = SampleSet(questions=[(0, question) for question in questions("calibration", PROMPTS, seed=0)])
    prompts = rendered(session, asked.asks(SamplePlan()))
    layers = every_layer(session.engine)
    low, high = (read_states(session, prompts, layers, tell, read_at=Intensity(value)) for value in (0, 1))
    found = information(low, high)
    return [by_layer("acm-like", f"mean λ={mean:g}", layer_weights(found, mean)) for mean in MEANS]


def information(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Return the mean mutual information of the channels of each layer, in nats: [layers].

    Args:
        low, high: activations of Instruct and Thinking: [prompts, layers, channels].
    """
    low, high = (each.double() - each.double().mean(dim=0) for each in (low, high))
    product = (low * high).sum(dim=0).square()
    squares = low.square().sum(dim=0) * high.square().sum(dim=0)
    shared = torch.where(squares > 0, product / squares.clamp_min(1e-300), 0.0).clamp_max(_ALIKE)
    return -0.5 * torch.log1p(-shared).mean(dim=1)


def layer_weights(found: torch.Tensor, mean: float) -> list[float]:
    """Return each layer's λ in [0, 1], of the given mean: the more information is shared, the less of Thinking.

    Args:
        found: information of each layer.
        mean: above 0, below 1.
    """
    low, high = -_FAR, _FAR
    for _ in range(_HALVINGS):  # the mean rises with the shift
        shift = (low + high) / 2
        weights = torch.sigmoid(shift - _SHARPNESS * found)
        low, high = (shift, high) if weights.mean() < mean else (low, shift)
    return [float(value) for value in weights]
