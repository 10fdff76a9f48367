"""Rows that pad a model's vocabulary are never drawn, however the model scores them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dami_agent.runtime import LocalEngine
from dami_agent.runtime.hidden_ids import ids_without_text
from dami_agent.types import Constraint, EngineInfo, Intensity, Sampling
from dami_agent.weights import load_weights
from tests.pairs import write_pair
from tests.runtime.support import CONTEXT, GREEDY, VOCAB, Lab, ask, prompt_of

PADDED = 384
HIDDEN = range(VOCAB, PADDED)
SCHEMA = Constraint(kind="json_schema", text='{"type": "object", "properties": {"a": {"type": "integer"}}}')


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A pair whose output has 64 rows more than its tokenizer has tokens, all with huge scores."""
    folder = tmp_path_factory.mktemp("padded")
    paths = write_pair(folder, seed=9, vocab=VOCAB, context=CONTEXT, dtype="float32")
    for path in paths:
        _pad(path)
    return Lab(*paths, tmp_path_factory.mktemp("merged"))


def _pad(folder: Path) -> None:
    import json

    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = PADDED
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.shape[0] == VOCAB:
            huge = 1e4 * tensor.abs().max() * torch.sign(torch.randn(PADDED - VOCAB, tensor.shape[1]))
            tensors[name] = torch.cat([tensor, huge])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(params=["merged", "mixed"])
def engine(padded: Lab, request: pytest.FixtureRequest) -> Iterator[LocalEngine]:
    mode = request.param
    with LocalEngine(
        lambda: load_weights(padded.instruct, padded.thinking, mode=mode),
        padded.tokenizer,
        info=EngineInfo(
            model="padded",
            fingerprint="padded",
            context_length=CONTEXT,
            vocab_size=PADDED,
            weights_mode=mode,
            device="cpu",
            dtype="float32",
        ),
        markers=padded.markers,
        eos_token_ids=padded.eos_ids,
        generation_defaults={},
    ) as engine:
        yield engine


def test_the_case_is_real(padded: Lab) -> None:
    assert int(padded.logits(0.0, [1, 2, 3])[-1].argmax()) in HIDDEN


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(temperature=1.0, seed=1),
        Sampling(temperature=100.0, seed=2),
        Sampling(temperature=1.0, top_k=5, min_p=0.1, seed=3),
        Sampling(temperature=1.0, repetition_penalty=1.5, seed=4),
    ],
)
@pytest.mark.parametrize("constraint", [None, SCHEMA])
def test_never_drawn(engine: LocalEngine, sampling: Sampling, constraint: Constraint | None) -> None:
    work = [
        (prompt_of([i + 1, 2, 3], constraint=constraint), ask(0.5, sampling=sampling, max_tokens=12)) for i in range(4)
    ]
    for job in [engine.submit(*request) for request in work]:
        assert not set(job.result(60).token_ids) & set(HIDDEN)


def test_log_probabilities_are_those_of_the_rest(engine: LocalEngine, padded: Lab) -> None:
    prompt = prompt_of([5, 6, 7])
    output = engine.generate(prompt, ask(0.5, sampling=replace(GREEDY, logprobs=330), max_tokens=5))
    logits = padded.logits(0.5, [5, 6, 7, *output.token_ids])[2:-1, :VOCAB].log_softmax(-1)
    logprobs = [event.logprob for event in output.events]
    for i, entry in enumerate(logprobs):
        assert entry is not None
        assert entry.logprob == pytest.approx(float(logits[i, entry.token_id]), abs=1e-3)
        assert len(entry.top) == VOCAB  # of 330 asked for, those that can be drawn
        assert sum(torch.tensor([p for _, p in entry.top]).exp().tolist()) == pytest.approx(1.0, abs=1e-4)
    scores = engine.score(prompt, output.token_ids, Intensity(0.5))
    assert scores == pytest.approx([e.logprob for e in logprobs if e is not None], abs=1e-3)
    assert engine.score(prompt, [VOCAB + 3], Intensity(0.5)) == (float("-inf"),)


def test_holes_count_and_ends_of_sequence_do_not() -> None:
    class Tokenizer:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0, "b": 1, "d": 3, "<added>": 6}

    assert ids_without_text(Tokenizer(), 9) == (2, 4, 5, 7, 8)  # type: ignore[arg-type]
    assert ids_without_text(Tokenizer(), 9, keep=[8]) == (2, 4, 5, 7)  # type: ignore[arg-type]
    assert ids_without_text(Tokenizer(), 2) == ()  # type: ignore[arg-type]
