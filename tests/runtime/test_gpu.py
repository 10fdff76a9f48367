"""On CUDA: a mixed-λ batch decoded by a random pair of Qwen3-4B's shape in bf16. Skips without a GPU."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from dami_agent.runtime import LocalEngine
from dami_agent.runtime.factory import find_markers
from dami_agent.types import EngineInfo, Intensity, Sampling, WeightsMode
from dami_agent.weights import load_weights
from tests.pairs import write_tokenizer
from tests.runtime.support import ask, prompt_of
from tests.weights.real_shapes import qwen3_4b

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.timeout(900),
]
VOCAB = 151_936
LAMBDAS = (0.0, 0.4, 0.75, 1.0)
# bf16 keeps 8 bits: between two orders of summation, or a merged weight and two products, log-probs differ by this. On
# a CPU, 36 layers of width 256 differ by 0.016 in the root mean square and by 0.06 at most; a neighbouring λ by 0.2.
TOLERANCE = 0.25
ROOT_MEAN_SQUARE = 0.08


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with qwen3_4b(tmp_path_factory) as pair:
        yield pair


def open_on_cuda(folders: tuple[Path, Path], mode: WeightsMode, scratch: Path) -> LocalEngine:
    torch.cuda.empty_cache()  # of the test before
    if torch.cuda.mem_get_info()[0] < 30 * 2**30:
        pytest.skip("needs 30 GiB of free GPU memory")
    write_tokenizer(scratch)
    (scratch / "config.json").write_text('{"model_type": "qwen3"}')
    tokenizer = AutoTokenizer.from_pretrained(scratch)
    return LocalEngine(
        lambda: load_weights(*folders, mode=mode, device="cuda", dtype="bfloat16"),
        tokenizer,
        info=EngineInfo(
            model="random Qwen3-4B",
            fingerprint="",
            context_length=4096,
            vocab_size=VOCAB,
            weights_mode=mode,
            device="cuda",
            dtype="bfloat16",
        ),
        markers=find_markers(tokenizer),
        eos_token_ids=[313],
        generation_defaults={},
    )


@pytest.mark.parametrize("mode", ["mixed", "merged"])
def test_a_batch_of_mixed_intensity(folders: tuple[Path, Path], mode: WeightsMode, tmp_path: Path) -> None:
    rng = random.Random(1)
    prompts = [prompt_of([rng.randrange(VOCAB) for _ in range(rng.choice((20, 300, 900)))]) for _ in range(16)]
    with open_on_cuda(folders, mode, tmp_path) as engine:
        began = time.perf_counter()
        engine.load()
        print(f"{mode}: loaded in {time.perf_counter() - began:.1f} s")
        for sampling in (
            Sampling(temperature=0.0, logprobs=0),
            Sampling(temperature=0.7, top_k=20, seed=4, logprobs=0),
        ):
            began = time.perf_counter()
            jobs = [
                engine.submit(prompt, ask(LAMBDAS[i % 4], sampling=sampling, max_tokens=64))
                for i, prompt in enumerate(prompts)
            ]
            results = [job.result() for job in jobs]
            seconds = time.perf_counter() - began
            tokens = sum(r.output_tokens for r in results)
            print(f"{mode}, T={sampling.temperature}: {tokens} tokens of 16 requests, 4 λs, in {seconds:.2f} s")
            squares: list[float] = []
            for prompt, result in zip(prompts, results, strict=True):
                forced = engine.score(prompt, result.token_ids, Intensity(result.intensity))
                decoded = [e.logprob.logprob for e in result.events if e.logprob is not None]
                assert forced == pytest.approx(decoded, abs=TOLERANCE)
                squares += [(a - b) ** 2 for a, b in zip(forced, decoded, strict=True)]
            error = math.sqrt(statistics.fmean(squares))
            print(f"{mode}, T={sampling.temperature}: log-probs differ from those of a row alone by {error:.4f}")
            assert error < ROOT_MEAN_SQUARE
        torch.cuda.synchronize()
    torch.cuda.empty_cache()
