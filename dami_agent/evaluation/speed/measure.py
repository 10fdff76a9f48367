"""Run the whole benchmark: one pair, one process, every row against its reference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from dami_agent.checkpoints import CheckpointPair, plan
from dami_agent.checkpoints.pair import both_or_neither
from dami_agent.errors import UsageError
from dami_agent.evaluation.speed.bench import Bench, Progress, computing_on, threads_of
from dami_agent.evaluation.speed.decoding import many_lambda_rows, one_lambda_rows, overhead_row
from dami_agent.evaluation.speed.goals import GOALS, judged
from dami_agent.evaluation.speed.random_pair import SHAPES, write_random_pair
from dami_agent.evaluation.speed.reference import TransformersModel
from dami_agent.evaluation.speed.serving import curves, prefix_row, ttft_row
from dami_agent.evaluation.speed.switching import switch_rows
from dami_agent.evaluation.speed.workload import FULL, QUICK, Prompts, Workload
from dami_agent.runtime.engine import PREFIX_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedPlan:
    """Says which pair to measure, and how long.

    Attributes:
        instruct, thinking: both checkpoints, or neither.
        shape: of a pair of random weights in their place; None and no checkpoints: the built-in pair.
        quick: shorter prompts and replies, fewer repetitions and points.
    """

    instruct: str | None = None
    thinking: str | None = None
    shape: str | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        both_or_neither(self.instruct, self.thinking, "--instruct and --thinking")
        if self.shape is not None and self.instruct is not None:
            raise UsageError("--shape makes a pair of its own", hint="give a shape or two checkpoints")
        if self.shape is not None and self.shape not in SHAPES:
            raise UsageError(f"unknown shape {self.shape!r}", hint=f"one of {', '.join(SHAPES)}")

    @property
    def workload(self) -> Workload:
        """Return how much is measured."""
        return QUICK if self.quick else FULL


def speed(asked: SpeedPlan, progress: Progress) -> dict[str, Any]:
    """Measure all rows and curves.

    Args:
        asked: what to measure.
        progress: told what is done.

    Returns:
        JSON: the rows, what each was to reach, the points of the curves, and what all of it ran on.

    Raises:
        UsageError: the pair's context is too short, or it is spread over several devices.
        CheckpointError: the pair cannot be used.
        RunError: ours and a reference did not do the same work.
    """
    with tempfile.TemporaryDirectory(prefix="dami-speed-") as scratch:
        if asked.shape is not None:
            pair = write_random_pair(Path(scratch), asked.shape)
        else:
            pair = CheckpointPair.named(asked.instruct, asked.thinking)
        bench = bench_of(pair, asked.workload, progress)
        threads, rows, points = 0, [], []
        for each in measured(bench, Path(scratch)):
            threads = each.threads
            rows += each.rows
            points += each.points
    rows.sort(key=lambda row: list(GOALS).index(row["name"]))
    return {
        "pair": bench.pair.name,
        "shape": asked.shape,
        "quick": asked.quick,
        "device": bench.device,
        "dtype": bench.dtype,
        "threads": threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rows": rows,
        "goals": judged(rows, asked.shape),
        "curves": points,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Holds what has just been measured.

    Attributes:
        rows: as JSON, in no order.
        points: of the curves, as JSON.
        threads: that torch computes on.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    threads: int


def measured(bench: Bench, scratch: Path) -> Iterator[Measured]:
    """Measure all rows and curves, and yield them as they are known.

    Args:
        bench: what to measure.
        scratch: a folder for the reference's merged files.

    Raises:
        RunError: ours and a reference did not do the same work.
    """
    weights = bench.weights()
    threads = threads_of(weights)
    with computing_on(threads):
        merged = scratch / "merged"
        yield Measured(threads=threads, rows=switch_rows(bench, weights, merged))
        del weights
        yield Measured(threads=threads, rows=_serving(bench))
        if bench.workload.concurrencies:
            with bench.engine(bench.many, max_batch_size=max(bench.workload.concurrencies)) as engine:
                points = curves(bench, engine)
            del engine
            yield Measured(threads=threads, points=points)
        for rows in _decoding(bench, merged):
            yield Measured(threads=threads, rows=rows)


def bench_of(pair: CheckpointPair, workload: Workload, progress: Progress, *, device: str = "auto") -> Bench:
    """Plan the pair, and see that it runs on one device and has the context that is needed.

    Args:
        pair: verified.
        workload: how much is measured.
        progress: told what is done.
        device: as plans take it.

    Raises:
        UsageError: it would be spread over several devices, or its context is too short.
    """
    chosen = plan(pair, device=device)
    if chosen.device_map is not None:
        raise UsageError(
            f"{pair.name} would be spread over several devices, where the reference is not measured",
            hint="measure a pair that fits on one",
        )
    if chosen.context_length < workload.context:
        raise UsageError(
            f"{pair.name} has a context of {chosen.context_length} tokens here, {workload.context} are needed",
            hint="measure another pair" if workload == QUICK else "--quick needs fewer",
        )
    prompts = Prompts(pair.instruct.tokenizer(), int(pair.model_config().get_text_config().vocab_size))
    return Bench(pair=pair, device=chosen.device, dtype=chosen.dtype, workload=workload, prompts=prompts, tell=progress)


def _decoding(bench: Bench, merged: Path) -> Iterator[list[dict[str, Any]]]:
    """Measure what needs an engine of merged weights; ``merged`` holds the reference's merged files."""
    with bench.engine("merged") as one:
        yield [overhead_row(bench, one)]
        with bench.engine(bench.many) as many:
            yield many_lambda_rows(bench, one, many)
        del many  # before the reference takes its memory
        # Last, for what transformers' continuous batching may do to a device.
        yield one_lambda_rows(bench, one, TransformersModel(merged, bench.device, bench.dtype))


def _serving(bench: Bench) -> list[dict[str, Any]]:
    """Measure what needs an engine that keeps prefixes, as engines do by default."""
    with bench.engine(bench.many, prefix_tokens=PREFIX_TOKENS) as engine:
        with bench.engine(bench.many) as uncached:
            rows = [prefix_row(bench, engine, uncached)]
        return [*rows, ttft_row(bench, engine)]
