"""Beyond Qwen3: padded batches of other families equal transformers' own forward pass."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from dami_agent.checkpoints import CheckpointPair
from dami_agent.runtime import LocalEngine
from dami_agent.types import Sampling
from tests.pairs import write_pair
from tests.runtime.support import CONTEXT, VOCAB, Lab, ask, prompt_of


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        ("llama", {}),
        ("qwen2", {}),
        ("gpt2", {}),  # learned positions: padding must not shift them
        ("qwen3_moe", {}),
        ("mistral", {"sliding_window": 16}),  # attention that forgets: the cache keeps all, the mask does not
    ],
)
def test_other_families(tmp_path: Path, arch: str, config: dict[str, Any]) -> None:
    folders = write_pair(tmp_path, arch=arch, seed=3, vocab=VOCAB, context=CONTEXT, dtype="float32", **config)
    lab = Lab(*folders, tmp_path)
    rng = random.Random(arch)
    with LocalEngine.open(CheckpointPair.open(*folders), device="cpu") as engine:
        work = [
            (rng.choice((0.0, 0.6)), [rng.randrange(300) for _ in range(rng.choice((3, 40, 90)))]) for _ in range(6)
        ]
        jobs = [engine.submit(prompt_of(tokens), ask(at, max_tokens=8)) for at, tokens in work]
        for (at, tokens), job in zip(work, jobs, strict=True):
            lab.assert_greedy(at, tokens, job.result(60).token_ids)
        assert engine.info.weights_mode == ("mixed" if arch in ("llama", "qwen2") else "merged")


def test_a_row_that_ended_at_the_last_position_may_wait_idly(tmp_path: Path) -> None:
    """Learned positions end at the context length; a row kept idle in its batch must not step over that."""
    lab = Lab(*write_pair(tmp_path, arch="gpt2", seed=3, vocab=VOCAB, context=64, dtype="float32"), tmp_path)
    with lab.engine("merged", context_length=64, eos_token_ids=[], loop_rule=None) as engine:
        jobs = [engine.submit(prompt_of(range(10, 10 + n)), ask(0.5)) for n in [60, *[5] * 24]]
        for n, job in zip([60, *[5] * 24], jobs, strict=True):
            lab.assert_greedy(0.5, range(10, 10 + n), job.result(60).token_ids)


def test_bfloat16(lab: Lab) -> None:
    """Decoding and teacher forcing of the same tokens, summed in another order, stay within bf16's 8 bits."""
    pair = CheckpointPair.open(lab.instruct, lab.thinking)
    with LocalEngine.open(pair, device="cpu", dtype="bfloat16") as engine:
        sampling = Sampling(temperature=1.0, seed=5, logprobs=0)
        prompts = [prompt_of(range(40, 45 + 9 * i)) for i in range(4)]
        jobs = [engine.submit(p, ask(0.3 * i, sampling=sampling, max_tokens=20)) for i, p in enumerate(prompts)]
        for prompt, job in zip(prompts, jobs, strict=True):
            out = job.result(60)
            decoded = [e.logprob.logprob for e in out.events if e.logprob is not None]
            assert engine.score(prompt, out.token_ids, out.intensity) == pytest.approx(decoded, abs=0.1)
