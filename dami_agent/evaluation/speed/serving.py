"""Measure serving: prompts that are read again, first tokens under load, and how throughput grows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from random import Random
from statistics import median
from typing import Any

from dami_agent.evaluation.speed.bench import Bench, at_once, submit
from dami_agent.evaluation.speed.comparison import Work
from dami_agent.evaluation.speed.workload import cycled, spread_lambdas
from dami_agent.evaluation.stats import quantile
from dami_agent.runtime import LocalEngine
from dami_agent.types import Intensity, Job

READ_AT = Intensity(1)
"""λ that shared prompts are read at."""
LOAD = 0.7
"""Share of the requests that the engine can answer a second which arrive in one, on average."""


def prefix_row(bench: Bench, engine: LocalEngine, uncached: LocalEngine) -> dict[str, Any]:
    """Measure ``prefix_reuse``: what an agent whose λ changes at every step waits for its prompts to be read.

    Args:
        bench: what to measure.
        engine: keeps prefixes.
        uncached: keeps none.
    """
    work = bench.workload
    lambdas = spread_lambdas(work.steps)
    cached: list[int] = []

    def agent(engine: LocalEngine, number: int) -> Work:
        (history,) = bench.prompts.draw([work.history + (work.steps - 1) * work.growth], "agent", number)
        found = []
        for step, intensity in enumerate(lambdas):
            prompt = history[: work.history + step * work.growth]
            found.append(submit(engine, prompt, intensity, work.new_tokens, prefix=READ_AT).result())
        cached.append(sum(generation.cached_tokens for generation in found))
        return Work(
            seconds=sum(generation.timing.prefill for generation in found),
            requests=len(found),
            prompt_tokens=sum(generation.prompt_tokens for generation in found),
            new_tokens=sum(generation.output_tokens for generation in found),
        )

    found = bench.compare("prefix_reuse", partial(agent, engine), partial(agent, uncached))
    last = work.history + (work.steps - 1) * work.growth
    note = (
        f"reference: LocalEngine(prefix_tokens=0); prompts of {work.history} to {last} tokens in {work.steps} steps, "
        f'each at another λ, prefix="shared": {max(cached)} of {found.ours[0].prompt_tokens} tokens not read again; '
        f"{engine.info.weights_mode} weights"
    )
    return bench.row("prefix_reuse", found.seconds(), note)


def ttft_row(bench: Bench, engine: LocalEngine) -> dict[str, Any]:
    """Measure ``ttft_tail``: requests arrive at random times, and wait for their first token.

    Args:
        bench: what to measure.
        engine: for many λs.
    """
    work = bench.workload
    values = cycled(spread_lambdas(work.lambdas), work.arrivals)
    prompts = bench.prompts.mixed(work.requests, work, "capacity")
    capacity = [at_once(engine, prompts, values[: work.requests], work.new_tokens) for _ in range(2)][-1]
    pause = capacity.seconds / work.requests / LOAD
    tails, medians = [], []
    for number in range(work.repetitions + 1):
        random = Random(repr(("arrivals", number)))
        jobs: list[Job] = []
        due = time.perf_counter()
        for prompt, intensity in zip(bench.prompts.mixed(work.arrivals, work, "ttft", number), values, strict=True):
            time.sleep(max(0.0, due - time.perf_counter()))
            jobs.append(submit(engine, prompt, intensity, work.new_tokens))
            due += random.expovariate(1 / pause)
        waits = sorted(job.result().timing.first_token for job in jobs)
        if number:
            tails.append(quantile(waits, 0.99))
            medians.append(quantile(waits, 0.5))
        bench.tell("ttft_tail", number, work.repetitions)
    note = (
        f"p99, reference: p50; {work.arrivals} requests of {work.lambdas} λs, {1 / pause:.3g} a second on average: "
        f"{LOAD:.0%} of what it answers when all are sent at once; {engine.info.weights_mode} weights"
    )
    return bench.row("ttft_tail", (median(tails), median(medians)), note)


def curves(bench: Bench, engine: LocalEngine) -> list[dict[str, Any]]:
    """Measure output tokens a second over the number of requests at once, and over that of distinct λs.

    Args:
        bench: what to measure.
        engine: for many λs, with a place for every request.
    """
    work = bench.workload
    wanted = [("throughput_over_concurrency", n, min(n, work.lambdas)) for n in work.concurrencies]
    wanted += [("throughput_over_lambdas", work.requests, n) for n in work.distinct]
    points = []
    for done, (name, requests, distinct) in enumerate(wanted, 1):
        values = cycled(spread_lambdas(distinct), requests)
        points.append(
            {
                "pair": bench.pair.name,
                "name": name,
                "requests": requests,
                "lambdas": distinct,
                "tokens_per_second": round(_throughput(bench, engine, values), 1),
            }
        )
        bench.tell("curves", done, len(wanted))
    return points


def _throughput(bench: Bench, engine: LocalEngine, values: Sequence[Intensity]) -> float:
    work = bench.workload
    found = []
    for number in range(work.curve_repetitions + 1):
        prompts = bench.prompts.mixed(len(values), work, "curve", number)
        found.append(at_once(engine, prompts, values, work.new_tokens))
    return found[1].new_tokens / median(each.seconds for each in found[1:])  # the first warms up
