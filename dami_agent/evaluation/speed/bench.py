"""Hold what all rows share: the pair and where it runs, engines that ignore the end of sequence, requests to them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from dami_agent.checkpoints import CheckpointPair
from dami_agent.evaluation.speed.comparison import Comparison, Measurement, Work, in_turn
from dami_agent.evaluation.speed.goals import row
from dami_agent.evaluation.speed.workload import Prompts, Workload
from dami_agent.runtime import LocalEngine
from dami_agent.runtime.factory import engine_arguments
from dami_agent.runtime.threads import limit_threads
from dami_agent.types import Decision, Intensity, Job, Limits, Prompt, Sampling, WeightsMode
from dami_agent.weights import Weights, load_weights, supports_mixed

Progress = Callable[[str, int, int], None]

GREEDY = Sampling(temperature=0.0, seed=0)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Says what is measured, where and how much.

    Attributes:
        pair: verified.
        device, dtype: of ours and of the reference.
        workload: sizes.
        prompts: draws prompts.
        tell: told of progress.
    """

    pair: CheckpointPair
    device: str
    dtype: str
    workload: Workload
    prompts: Prompts
    tell: Progress

    @property
    def many(self) -> WeightsMode:
        """Return the weights mode that serves many λs: mixed, where the architecture has it."""
        return "mixed" if supports_mixed(self.pair.config) else "merged"

    def weights(self) -> Weights:
        """Load merged weights."""
        return load_weights(
            self.pair.instruct.path, self.pair.thinking.path, mode="merged", device=self.device, dtype=self.dtype
        )

    def engine(self, mode: WeightsMode, **options: Any) -> LocalEngine:
        """Open an engine whose replies end at ``max_tokens`` alone: no end of sequence, no repetition ends them.

        Args:
            mode: of the weights.
            options: of :class:`LocalEngine`. Unless they say otherwise no prefix is kept: repetitions shall not read
                from a cache what the reference reads anew.
        """
        release(self.device)
        settings: dict[str, Any] = {"prefix_tokens": 0, "loop_rule": None, **options}
        arguments = engine_arguments(self.pair, mode=mode, device=self.device, dtype=self.dtype, **settings)
        engine = LocalEngine(**(arguments | {"eos_token_ids": ()}))
        engine.load()
        return engine

    def compare(self, name: str, ours: Measurement, reference: Measurement) -> Comparison:
        """Measure both in turn, with progress under the row's name."""
        repetitions = self.workload.repetitions
        return in_turn(ours, reference, repetitions, lambda done, total: self.tell(name, done, total))

    def row(self, name: str, numbers: tuple[float, float], note: str) -> dict[str, Any]:
        """Make the JSON of a row from ours and the reference."""
        return row(self.pair.name, name, *numbers, note)


def submit(
    engine: LocalEngine,
    prompt: Sequence[int],
    intensity: Intensity,
    new_tokens: int,
    *,
    sampling: Sampling = GREEDY,
    prefix: Intensity | None = None,
) -> Job:
    """Send a request for so many tokens.

    Args:
        engine: opened by :meth:`Bench.engine`.
        prompt: token ids.
        intensity: λ of the reply.
        new_tokens: that it will have.
        sampling: greedy unless it says otherwise.
        prefix: λ that the prompt is read at; None: the reply's.
    """
    decision = Decision(
        intensity=intensity,
        template="instruct",
        reason="speed",
        sampling=sampling,
        limits=Limits(max_tokens=new_tokens),
        prefix_intensity=prefix,
    )
    return engine.submit(Prompt(token_ids=tuple(prompt), template="instruct"), decision)


def at_once(
    engine: LocalEngine, prompts: Sequence[Sequence[int]], intensities: Sequence[Intensity], new_tokens: int
) -> Work:
    """Send all requests at once and wait for the last; prompt i is answered at λ i."""
    began = time.perf_counter()
    jobs = [submit(engine, prompt, value, new_tokens) for prompt, value in zip(prompts, intensities, strict=True)]
    found = [job.result() for job in jobs]
    return Work(
        seconds=time.perf_counter() - began,
        requests=len(found),
        prompt_tokens=sum(generation.prompt_tokens for generation in found),
        new_tokens=sum(generation.output_tokens for generation in found),
    )


def threads_of(weights: Weights) -> int:
    """Return how many threads an engine computes these weights on: torch's number, or one for a tiny model's."""

    def read() -> int:
        limit_threads(weights)
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:  # the limit is the thread's own, and ends with it
        return pool.submit(read).result()


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Have torch compute on so many threads, the reference's helpers included, and on as many as before after that."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def release(device: str) -> None:
    """Give back what a GPU's allocator keeps of models that are gone: a plan counts it as taken."""
    if device.startswith("cuda"):
        gc.collect()
        torch.cuda.empty_cache()


def synchronize(device: str) -> None:
    """Wait for what a GPU still computes."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
