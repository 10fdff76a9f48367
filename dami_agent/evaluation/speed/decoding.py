"""Measure decoding: one request, batches at one λ and at many, and what the loop spends beside the forward passes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

from dami_agent.errors import RunError
from dami_agent.evaluation.speed.bench import Bench, at_once, submit, synchronize
from dami_agent.evaluation.speed.comparison import Work
from dami_agent.evaluation.speed.reference import TransformersModel
from dami_agent.evaluation.speed.workload import cycled, spread_lambdas
from dami_agent.runtime import LocalEngine
from dami_agent.types import Intensity, Sampling

HALF = Intensity(0.5)
"""λ of the reference's merged files."""
_ROWS = 8
_SAMPLED = Sampling(temperature=0.7, top_p=0.8, top_k=20, seed=0)


def one_lambda_rows(bench: Bench, engine: LocalEngine, model: TransformersModel) -> list[dict[str, Any]]:
    """Measure ``decode_single`` and ``batch_one_lambda`` against transformers on the merged model.

    Args:
        bench: what to measure.
        engine: of merged weights.
        model: of the same pair, merged at ``HALF``.
    """
    work, prompts = bench.workload, bench.prompts
    length = (work.shortest + work.longest) // 2
    found = bench.compare(
        "decode_single",
        lambda number: at_once(engine, prompts.draw([length], "single", number), [HALF], work.new_tokens),
        lambda number: model.generate(prompts.draw([length], "single", number), work.new_tokens),
    )
    note = f"reference: transformers' generate; {length} tokens of prompt, {work.new_tokens} new ones; merged weights"
    rows = [bench.row("decode_single", found.rates(), note)]

    generate, which = model.faster_batch(prompts.mixed(work.requests, work, "batch"), work.new_tokens)
    halves = [HALF] * work.requests
    found = bench.compare(
        "batch_one_lambda",
        lambda number: at_once(engine, prompts.mixed(work.requests, work, number), halves, work.new_tokens),
        lambda number: generate(prompts.mixed(work.requests, work, number), work.new_tokens),
    )
    note = f"reference: {which}; {_lengths(bench)}; merged weights"
    return [*rows, bench.row("batch_one_lambda", found.rates(), note)]


def many_lambda_rows(bench: Bench, one: LocalEngine, many: LocalEngine) -> list[dict[str, Any]]:
    """Measure ``batch_many_lambda`` and ``mixed_overhead``.

    Args:
        bench: what to measure.
        one: engine of merged weights.
        many: engine for many λs.
    """
    work = bench.workload
    lambdas = spread_lambdas(work.lambdas)
    values = cycled(lambdas, work.requests)

    def together(engine: LocalEngine, intensities: list[Intensity], number: int) -> Work:
        return at_once(engine, bench.prompts.mixed(work.requests, work, number), intensities, work.new_tokens)

    def one_after_the_other(number: int) -> Work:
        prompts = bench.prompts.mixed(work.requests, work, number)
        parts = []
        for value in lambdas:
            mine = [prompt for prompt, each in zip(prompts, values, strict=True) if each == value]
            parts.append(at_once(many, mine, [value] * len(mine), work.new_tokens))
        return Work(
            seconds=sum(part.seconds for part in parts),
            requests=sum(part.requests for part in parts),
            prompt_tokens=sum(part.prompt_tokens for part in parts),
            new_tokens=sum(part.new_tokens for part in parts),
        )

    mode = many.info.weights_mode
    found = bench.compare("batch_many_lambda", partial(together, many, values), one_after_the_other)
    note = f"reference: the same engine, one λ after the other; {len(lambdas)} λs; {_lengths(bench)}; {mode} weights"
    rows = [bench.row("batch_many_lambda", found.rates(), note)]
    halves = [HALF] * work.requests
    found = bench.compare("mixed_overhead", partial(together, many, values), partial(together, one, halves))
    note = f"{mode} weights at {len(lambdas)} λs, reference: merged weights at one; {_lengths(bench)}; floor 2×"
    return [*rows, bench.row("mixed_overhead", found.per_token(), note)]


def _lengths(bench: Bench) -> str:
    work = bench.workload
    return f"{work.requests} prompts of {work.shortest} to {work.longest} tokens, {work.new_tokens} new ones each"


def overhead_row(bench: Bench, engine: LocalEngine) -> dict[str, Any]:
    """Measure what a step of decoding takes beside the model's forward pass.

    Args:
        bench: what to measure.
        engine: of merged weights, whose passes are the shortest.
    """
    work, repetitions = bench.workload, bench.workload.repetitions
    length = (work.shortest + work.longest) // 2
    beside, whole = [], []
    for number in range(repetitions + 1):
        prompts = bench.prompts.draw([length] * _ROWS, "overhead", number)
        with _forward_passes(bench, engine) as passes:
            jobs = [submit(engine, prompt, HALF, work.new_tokens, sampling=_SAMPLED) for prompt in prompts]
            for job in jobs:
                job.result()
        loop, forward, steps = _longest_loop(passes)
        if number:  # the first pays for what is done once
            beside.append((loop - forward) / steps)
            whole.append(loop / steps)
        bench.tell("overhead", number, repetitions)
    note = f"reference: the whole step; {_ROWS} rows, sampled with top_k and top_p; merged weights"
    return bench.row("overhead", (median(beside), median(whole)), note)


@contextmanager
def _forward_passes(bench: Bench, engine: LocalEngine) -> Iterator[list[tuple[tuple[int, ...], float, float]]]:
    """Yield a list that gets shape of the ids, begin and end (seconds) of every forward pass inside."""
    assert engine.worker.model is not None  # loaded when it was opened
    passes: list[tuple[tuple[int, ...], float, float]] = []
    began = 0.0

    def before(*_: Any) -> None:
        nonlocal began
        synchronize(bench.device)
        began = time.perf_counter()

    def after(_module: Any, _arguments: Any, named: dict[str, Any], _output: Any) -> None:
        synchronize(bench.device)
        passes.append((tuple(named["input_ids"].shape), began, time.perf_counter()))

    with engine.worker.model.weights.at([HALF]) as model:
        hooks = [model.register_forward_pre_hook(before), model.register_forward_hook(after, with_kwargs=True)]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def _longest_loop(passes: list[tuple[tuple[int, ...], float, float]]) -> tuple[float, float, int]:
    """Return seconds of the longest run of steps that decode all rows, seconds of its passes, and its steps.

    From the end of one pass to the end of another: each step is what follows a pass, and the next pass.
    """
    best: list[tuple[float, float]] = []
    run: list[tuple[float, float]] = []
    for shape, began, ended in passes:
        run = [*run, (began, ended)] if shape == (_ROWS, 1) else []
        best = max(best, run, key=len)
    if len(best) < 2:
        raise RunError("the rows were never decoded together", hint="measure more new tokens: leave --quick out")
    return best[-1][1] - best[0][1], sum(ended - began for began, ended in best[1:]), len(best) - 1
