"""What tests of estimators share: questions whose difficulty is known, and engines that tell of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dami_agent import ChatDAMI
from dami_agent.estimators.head import Head, entropy_vector, probe_vector
from dami_agent.estimators.heads import Heads
from dami_agent.estimators.samples import Samples
from dami_agent.ledger import CallRow, Ledger
from dami_agent.tasks import questions
from dami_agent.types import Decision, EngineInfo, Generation, Intensity, Job, Prompt
from tests.estimators.test_estimators import ProbabilityEngine

LAMBDAS = tuple(map(Intensity, (0.0, 0.5, 1.0)))
LAYERS = (1, 2, 3, 4, 5, 6)
HIDDEN = 6
PROMPT = Prompt(token_ids=(1, 2, 3, 4), template="instruct")
DECISION = Decision(intensity=Intensity(0), template="instruct", reason="")


def drawn(count: int, *, seed: int = 0, told: bool = True, tools: bool = False) -> Samples:
    """Questions whose difficulty z stands in one layer's states (or, not ``told``, nowhere), with noise around it.

    λ=0 is right where z < 0, λ=.5 where z < .7, λ=1 always but one time in twenty; thinking takes 100 and 200 tokens.
    """
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(count, generator=rng)
    states = torch.randn(count, len(LAYERS), 2 * HIDDEN, generator=rng)
    if told:
        states[:, 3, 2] = z * 3 + 0.2 * torch.randn(count, generator=rng)
    lucky = torch.rand(count, generator=rng) < 0.95
    right = torch.stack([(z < 0).float(), (z < 0.7).float(), lucky.float()], dim=1)
    tokens = torch.tensor([10.0, 100.0, 200.0]).expand(count, 3) * (1 + 0.5 * torch.rand(count, 3, generator=rng))
    # Instruct's own tokens tell of z too, and cost 5 tokens unless they are the answer.
    weakest = -torch.exp(z + 0.3 * torch.randn(count, generator=rng)) if told else -torch.rand(count, generator=rng)
    features = [
        {f"{who}_{what}_logprob": w for who in ("instruct", "thinking") for what in ("min", "sum")}
        for w in weakest.tolist()
    ]
    return Samples(
        layers=LAYERS,
        states=states,
        probes=torch.stack([probe_vector(each | {"probe_tokens": 5, "probe_ended": 1}) for each in features]),
        entropies=torch.stack([entropy_vector({"entropy": -w}) for w in weakest.tolist()]),
        probe_tokens=torch.full((count,), 5.0),
        tools=torch.full((count,), float(tools)),
        groups=torch.arange(count).float(),
        lambdas=LAMBDAS,
        right=right,
        tokens=tokens,
    )


def only(head: Head, fingerprint: str = "pair-1") -> Heads:
    return Heads(fingerprint=fingerprint, heads=(head,))


class Reader:
    """An engine that gives the states it was made with."""

    def __init__(self, states: torch.Tensor, fingerprint: str = "pair-1") -> None:
        self._states = states
        self.info = EngineInfo(
            model="reader",
            fingerprint=fingerprint,
            context_length=4096,
            vocab_size=100,
            weights_mode="merged",
            device="cpu",
            dtype="float32",
        )
        self.read: list[tuple[float, tuple[int, ...]]] = []

    def hidden_states(
        self, prompt: Prompt, intensity: Intensity, layers: Sequence[int]
    ) -> tuple[tuple[float, ...], ...]:
        self.read.append((float(intensity), tuple(layers)))
        return tuple(tuple(self._states[LAYERS.index(layer)].tolist()) for layer in layers)

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        raise AssertionError("nothing is decoded to estimate")

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        raise AssertionError("nothing is decoded to estimate")

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        raise AssertionError("nothing is scored to estimate")

    def close(self) -> None: ...


class Both:
    """An engine with hidden states, and an Instruct whose tokens have these probabilities."""

    def __init__(self, states: torch.Tensor, own: Sequence[float]) -> None:
        self.reader, self.probed = Reader(states), ProbabilityEngine(own, own)
        self.info: EngineInfo = self.reader.info

    def hidden_states(
        self, prompt: Prompt, intensity: Intensity, layers: Sequence[int]
    ) -> tuple[tuple[float, ...], ...]:
        return self.reader.hidden_states(prompt, intensity, layers)

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return self.probed.submit(prompt, decision)

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        return self.probed.generate(prompt, decision)

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        return self.probed.score(prompt, completion, intensity)

    def close(self) -> None: ...


def rows_of_the_builtin_pair(estimator: str, count: int) -> list[CallRow]:
    """Ask the built-in pair some questions, λ by an estimator, and return what its ledger says of them."""
    ledger = Ledger.open(":memory:")
    model = ChatDAMI(estimator=estimator, seed=1, max_tokens=200, ledger=ledger)
    for question in questions("calibration", count, seed=3):
        model.invoke(question.prompt)
    return ledger.rows()
