"""Compare prompts read once for every λ with prompts read at each: against two transformers models, and timed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from dami_agent.evaluation.gpu_check.setting import PartFailed, Setting

READ_AT = 1.0
"""λ of shared prompts: Thinking's own weights."""
REPLY_AT = 0.3
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.08}
"""Root mean square by which log-probs may differ from transformers' (see tests/runtime/test_gpu.py)."""
LAMBDAS = 8
"""λs of the replies whose prompts are timed."""


def compare(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield how far exact and shared replies are from transformers', and seconds to the first token of both.

    Raises:
        PartFailed: a reply is not what transformers' models say.
    """
    from dami_agent.evaluation.speed.bench import release
    from dami_agent.evaluation.speed.measure import bench_of
    from dami_agent.evaluation.speed.workload import QUICK

    bench = bench_of(setting.pair(setting.shape), QUICK, lambda *_: None, device=setting.place)
    count, length, new_tokens, long = (2, 40, 8, 64) if setting.rehearsal else (8, 512, 32, 4096)
    prompts = bench.prompts.draw([length] * count, "shared")
    found = []
    for mode in ("merged", bench.many):
        with bench.engine(mode) as engine:
            exact = _replies(engine, prompts, None, new_tokens)
            found.append(("exact_correct", mode, exact, REPLY_AT, READ_AT))
            shared = _replies(engine, prompts, READ_AT, new_tokens)
            found.append(("shared_correct", mode, shared, READ_AT, REPLY_AT))
            seconds = _waits(bench, engine, long)
        del engine
    with bench.engine(bench.many, prefix_tokens=1 << 16) as engine:
        kept = _waits(bench, engine, long, prefix=READ_AT)
    del engine
    release(bench.device)
    models = _Models(bench)
    wrong = []
    for name, mode, replies, read_at, other in found:
        error, largest = models.distance(prompts, replies, read_at)
        apart, _ = models.distance(prompts, replies, other)
        row: dict[str, Any] = {"name": name, "mode": mode, "dtype": bench.dtype}
        row |= {"rms": error, "largest": largest, "rms_read_otherwise": apart}
        row |= {"tolerance": TOLERANCE[bench.dtype], "tokens": sum(len(tokens) for tokens, _ in replies)}
        yield row | {
            "note": f"log-probs of {new_tokens} tokens at λ={REPLY_AT} after {count} prompts of {length}, read at "
            f"{read_at}; reference: transformers' models at both λs; read_otherwise: prompts read at {other}"
        }
        if not (error <= TOLERANCE[bench.dtype] and apart > 2 * error):
            wrong.append(f"{name}, {mode}: {error:.4f} from transformers', {apart:.4f} from a prompt read otherwise")
    note = (
        f"seconds until the first token, {LAMBDAS} λs of one prompt of {long} tokens one after the other; "
        f"reference: exact; {bench.many} weights"
    )
    yield {"name": "shared_prefill", "ours": kept, "reference": seconds, "ratio": seconds / kept, "note": note}
    if wrong:
        raise PartFailed("; ".join(wrong), hint="see the rows: rms must stay below the tolerance")


Reply = tuple[tuple[int, ...], list[float]]
"""Token ids and their log-probs."""


def _replies(engine: Any, prompts: Sequence[Sequence[int]], prefix: float | None, new_tokens: int) -> list[Reply]:
    """Answer all prompts at once, greedily, with the log-prob of every token."""
    from dami_agent.evaluation.speed.bench import submit
    from dami_agent.types import Intensity, Sampling

    read_at = None if prefix is None else Intensity(prefix)
    sampling = Sampling(temperature=0.0, logprobs=0)
    jobs = [
        submit(engine, prompt, Intensity(REPLY_AT), new_tokens, sampling=sampling, prefix=read_at) for prompt in prompts
    ]
    found = [job.result() for job in jobs]
    return [(each.token_ids, [event.logprob.logprob for event in each.events if event.logprob]) for each in found]


def _waits(bench: Any, engine: Any, length: int, *, prefix: float | None = None) -> float:
    """Return the seconds in which one prompt has its first token at each λ, one after the other; the second time."""
    from dami_agent.evaluation.speed.bench import submit
    from dami_agent.evaluation.speed.workload import spread_lambdas
    from dami_agent.types import Intensity

    read_at = None if prefix is None else Intensity(prefix)
    for number in range(2):  # the first warms up
        (prompt,) = bench.prompts.draw([length], "waits", number)
        jobs = (submit(engine, prompt, value, 1, prefix=read_at).result() for value in spread_lambdas(LAMBDAS))
        seconds = math.fsum(generation.timing.first_token for generation in jobs)
    return seconds


class _Models:
    """Holds transformers' models at the λs that prompts are read and answered at."""

    def __init__(self, bench: Any) -> None:
        import torch

        from dami_agent.evaluation.speed.reference import TransformersModel

        instruct, thinking = (
            TransformersModel(side.path, bench.device, bench.dtype).model
            for side in (bench.pair.instruct, bench.pair.thinking)
        )
        with torch.no_grad():
            for one, other in zip(instruct.parameters(), thinking.parameters(), strict=True):
                one.lerp_(other, REPLY_AT)
        self._device = bench.device
        self._models = {READ_AT: thinking, REPLY_AT: instruct}

    def distance(
        self, prompts: Sequence[Sequence[int]], replies: Sequence[Reply], read_at: float
    ) -> tuple[float, float]:
        """Return root mean square and maximum of the differences between the replies' log-probs and ours.

        Args:
            prompts, replies: as many of one as of the other.
            read_at: λ that all of a prompt but its last token is read at.
        """
        off = [
            abs(mine - reference)
            for prompt, (tokens, logprobs) in zip(prompts, replies, strict=True)
            for mine, reference in zip(logprobs, self._logprobs(prompt, tokens, read_at), strict=True)
        ]
        return math.sqrt(fmean(value * value for value in off)), max(off)

    def _logprobs(self, prompt: Sequence[int], tokens: Sequence[int], read_at: float) -> list[float]:
        import torch

        from dami_agent.weights.base import cache_argument

        ids = torch.tensor([[*prompt, *tokens]], device=self._device)
        first, rest = ids[:, : len(prompt) - 1], ids[:, len(prompt) - 1 : -1]
        model = self._models[REPLY_AT]
        with torch.inference_mode():
            read = self._models[read_at](first, use_cache=True).past_key_values
            logits = model(rest, **{cache_argument(model): read}).logits[0].float()
            chosen = torch.log_softmax(logits, dim=-1).gather(-1, ids[0, len(prompt) :, None])
        return [float(value) for value in chosen[:, 0].tolist()]
