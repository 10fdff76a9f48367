"""Measure the energy of a call: a GPU's power, integrated while the engine answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from dami_agent.evaluation.gpu_check.power import Meter, find_meter
from dami_agent.evaluation.gpu_check.setting import PartSkipped, Setting

BATCHES = (1, 8)
SECONDS = 5.0
"""Calls go on for so long, and the GPU is seen idle for a third of it."""
PROMPT, NEW_TOKENS = 128, 64


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield a row for each weights mode and number of requests at once: joules a call and a token.

    Raises:
        PartSkipped: nothing says what a GPU draws.
    """
    if setting.device == "cpu":
        raise PartSkipped("only a GPU's power is read")
    import torch

    from dami_agent.evaluation.speed.bench import at_once
    from dami_agent.evaluation.speed.measure import bench_of
    from dami_agent.evaluation.speed.workload import QUICK, cycled, spread_lambdas

    meter, why = find_meter(str(getattr(torch.cuda.get_device_properties(0), "uuid", "")) or None)
    if meter is None:
        raise PartSkipped(f"nothing says what the GPU draws: {why}")
    bench = bench_of(setting.pair(setting.shape), QUICK, lambda *_: None, device=setting.place)
    for mode in dict.fromkeys(("merged", bench.many)):
        with bench.engine(mode) as engine:
            for rows in BATCHES:
                values = cycled(spread_lambdas(1 if mode == "merged" else rows), rows)

                def call(number: int, rows: int = rows, values: Any = values, engine: Any = engine) -> int:
                    prompts = bench.prompts.draw([PROMPT] * rows, "energy", number)
                    return at_once(engine, prompts, values, NEW_TOKENS).new_tokens

                call(-1)  # warms up
                row = metered(meter, call, SECONDS)
                note = (
                    f"{rows} requests at once of {PROMPT} + {NEW_TOKENS} tokens at {len({*values})} λs, {mode} weights"
                )
                yield row | {"requests": rows, "mode": mode, "note": note, "joules_per_call": row["joules_each"] / rows}


def metered(meter: Meter, call: Callable[[int], int], seconds: float) -> dict[str, Any]:
    """Call again and again and integrate the power; the power before that is the idle one.

    Args:
        meter: answers.
        call: does the work; told how often it was called; returns output tokens.
        seconds: for all calls together, at least.

    Returns:
        JSON: joules in all, of each call and token, above the idle power too; watts, readings and what was asked.
    """
    with meter.reading() as readings:
        start = time.perf_counter()
        time.sleep(seconds / 3)
        began, calls, tokens = time.perf_counter(), 0, 0
        while calls == 0 or time.perf_counter() - began < seconds:
            tokens += call(calls)
            calls += 1
        ended = time.perf_counter()
        time.sleep(0.1)  # for a reading after the end
    joules, idle = readings.joules(began, ended), readings.joules(start, began) / (began - start)
    taken = ended - began
    return {
        "name": "energy",
        "source": meter.source,
        "joules_each": joules / calls,
        "joules_per_token": joules / tokens,
        "joules_per_token_above_idle": (joules - idle * taken) / tokens,
        "watts": joules / taken,
        "idle_watts": idle,
        "seconds": round(taken, 2),
        "calls": calls,
        "readings": sum(began <= at <= ended for at, _ in readings.points),
    }
