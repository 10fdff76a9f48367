"""Measure whether a compiled decode step pays (``torch.compile``, CUDA graphs), with λ switched between steps.

Merged weights between the ends are rebuilt where they are, so a captured graph computes with the new λ. The ends are
other storage: a graph captured before is not valid there, and what torch does then is measured too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dami_agent.evaluation.gpu_check.setting import PartFailed, Setting

if TYPE_CHECKING:
    import torch

    from dami_agent.evaluation.gpu_check.fixed_cache import FixedCache
    from dami_agent.weights import Weights

BATCHES = (1, 8)
BEFORE, AFTER, END = 0.3, 0.6, 1.0
"""λs that are switched between."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Deviation of the compiled step's logits from the eager one's, in deviations of these."""


@dataclass(frozen=True, slots=True)
class _Amounts:
    prompt: int
    new_tokens: int


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield a row for each batch size: tokens a second eager and compiled, and what a switch of λ does.

    Raises:
        PartFailed: the compiled step computes something else than the eager one.
    """
    from dami_agent.evaluation.speed.measure import bench_of
    from dami_agent.evaluation.speed.workload import QUICK

    bench = bench_of(setting.pair(setting.shape), QUICK, lambda *_: None, device=setting.place)
    weights = bench.weights()
    amounts = _Amounts(8, 4) if setting.rehearsal else _Amounts(128, 64)
    wrong = []
    for rows in BATCHES:
        texts = bench.prompts.draw([amounts.prompt + amounts.new_tokens] * rows, "compiled")
        row = _compare(weights, texts, amounts, setting)
        yield row | {"dtype": bench.dtype}
        limit = TOLERANCE[bench.dtype]
        wrong += [f"{key} of {rows} rows is {row[key]:.4f}" for key in ("off", "off_after_switch") if row[key] > limit]
        if row["off_at_end"] > limit:
            wrong.append(f"off_at_end of {rows} rows is {row['off_at_end']:.4f}: a graph outlived a switch to an end")
    if wrong:
        raise PartFailed("; ".join(wrong), hint=f"more than {limit:g} deviations of the eager logits")


def _compare(weights: Weights, texts: Sequence[Sequence[int]], amounts: _Amounts, setting: Setting) -> dict[str, Any]:
    """Measure one batch size; see :func:`measure`.

    Both sides are fed the same tokens throughout, so that their logits can be compared at any time.
    """
    import torch
    from torch._dynamo.utils import counters

    from dami_agent.evaluation.gpu_check.fixed_cache import FixedCache

    torch._dynamo.reset()
    counters.clear()
    prompts = [text[: amounts.prompt] for text in texts]
    fed = [[[text[at]] for text in texts] for at in range(amounts.prompt, amounts.prompt + amounts.new_tokens)]
    rows, columns = len(texts), amounts.prompt + 3 * amounts.new_tokens + 8
    # A compiler for rehearsals that compiles nothing: minutes of C++ would show no more.
    options: dict[str, Any] = {"backend": "eager"} if setting.rehearsal else {"mode": "reduce-overhead"}
    with weights.at([BEFORE] * rows) as model:
        compiled: Any = torch.compile(model, dynamic=False, **options)
    caches = {name: FixedCache(weights, rows, columns) for name in ("eager", "compiled")}
    steps = {
        "eager": _stepper(weights, None, caches["eager"]),
        "compiled": _stepper(weights, compiled, caches["compiled"]),
    }
    last = {name: _prompted(weights, caches[name], prompts) for name in caches}
    found: dict[str, Any] = {"name": "decode_compiled", "rows": rows, "unit": "tokens/s"}

    def both(intensity: float) -> tuple[float, float]:
        """Take one step of each on the same tokens; return the deviation, and the compiled step's seconds."""
        tokens = [[int(token)] for token in last["eager"].argmax(-1).tolist()]
        last["eager"], _ = _timed(weights, lambda: steps["eager"](tokens, intensity))
        last["compiled"], seconds = _timed(weights, lambda: steps["compiled"](tokens, intensity))
        off = (last["compiled"] - last["eager"]).std() / last["eager"].std()
        return float(off), seconds

    found["compile_seconds"] = round(sum(both(BEFORE)[1] for _ in range(3)), 2)  # compiled, warmed up, captured
    found["off"] = both(BEFORE)[0]
    rates = {name: _rate(weights, steps[name], last[name], BEFORE, fed) for name in caches}
    found["off_after_switch"], found["step_after_switch"] = both(AFTER)
    again = {name: _rate(weights, steps[name], last[name], AFTER, fed) for name in caches}
    found["off_at_end"], found["step_at_end"] = both(END)
    for name in caches:
        found[name] = min(rates[name], again[name])
    found["engine"] = _engine_rate(weights, prompts, fed)
    found["ratio"] = found["compiled"] / found["engine"]
    found["ratio_same_cache"] = found["compiled"] / found["eager"]
    found["graphs"] = counters["stats"]["unique_graphs"]
    found["graph_breaks"] = sum(counters["graph_break"].values())
    found["cuda_graphs_skipped"] = counters["inductor"]["cudagraph_skips"]
    found["note"] = (
        f"engine: eager with the cache that the engine grows; eager, compiled: with one that does not move; ratio: "
        f"compiled / engine; {options}; {amounts.prompt} tokens of prompt; off: deviation of the logits after λ="
        f"{BEFORE}, a switch to {AFTER}, and one to {END}, where storage moves; steps in seconds, the switch included"
    )
    return found


Step = Callable[[Sequence[Sequence[int]], float], "torch.Tensor"]


def _stepper(weights: Weights, compiled: Any, cache: FixedCache) -> Step:
    """Return what feeds one column at λ and returns the logits, float32 [rows, vocabulary]."""
    import torch

    def step(ids: Sequence[Sequence[int]], intensity: float) -> torch.Tensor:
        with weights.at([intensity] * len(ids)) as model, torch.no_grad():
            arguments = cache.arguments(weights, ids)
            if compiled is not None:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            output = (model if compiled is None else compiled)(**arguments)
            logits: torch.Tensor = output.logits[:, -1].float().clone()  # the next ones will be written to their place
        return logits

    return step


def _prompted(weights: Weights, cache: FixedCache, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Read the prompts, eagerly."""
    return _stepper(weights, None, cache)(prompts, BEFORE)


def _timed(weights: Weights, work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    from dami_agent.evaluation.speed.bench import synchronize

    device = str(weights.device)
    synchronize(device)
    began = time.perf_counter()
    found = work()
    synchronize(device)
    return found, round(time.perf_counter() - began, 5)


def _rate(
    weights: Weights, step: Step, logits: torch.Tensor, intensity: float, fed: Sequence[Sequence[Sequence[int]]]
) -> float:
    """Return tokens a second of feeding these columns, over all rows; each waits for the one before, as decoding does.

    Args:
        weights: of the model.
        step: feeds a column.
        logits: of the column before, float32 [rows, vocabulary].
        intensity: λ.
        fed: [columns, rows, 1] token ids.
    """

    def decode() -> torch.Tensor:
        found = logits
        for ids in fed:
            found.argmax(-1).tolist()
            found = step(ids, intensity)
        return found

    _, seconds = _timed(weights, decode)
    return round(len(logits) * len(fed) / seconds, 1)


def _engine_rate(weights: Weights, prompts: Sequence[Sequence[int]], fed: Sequence[Any]) -> float:
    """Return tokens a second of the engine's own decode step, eager and with the cache that grows."""
    from dami_agent.runtime.batch_inputs import BatchInputs, LoadedModel
    from dami_agent.types import Intensity

    inputs = BatchInputs(LoadedModel.of(weights, ()), [Intensity(BEFORE)] * len(prompts), [0] * len(prompts))
    logits = inputs.forward(prompts, 1)[:, -1]

    def step(ids: Sequence[Sequence[int]], intensity: float) -> torch.Tensor:
        return inputs.forward(ids, 1)[:, -1]

    _rate(weights, step, logits, BEFORE, fed[:2])  # warms up
    return _rate(weights, step, logits, BEFORE, fed)
