"""What goes wrong with one request reaches no other: scores that are not finite, and whatever its own parts raise."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.errors import DamiError, InvalidRequest, RunError
from dami_agent.runtime import LocalEngine
from dami_agent.runtime.failures import to_dami_error
from dami_agent.runtime.sampling import choose, resolve_sampling, warper_key
from dami_agent.types import Constraint, Decision, Generation, Intensity, Job, Prompt, Sampling
from dami_agent.weights import load_weights
from tests.runtime.poisoned import PoisonedWeights, spoilt
from tests.runtime.scripted import ScriptedWeights
from tests.runtime.support import GREEDY, Lab, ask, prompt_of

POISON = 299
WARM = Sampling(temperature=1.0, top_p=0.95, top_k=40)
NAMES = {math.nan: "NaN", math.inf: r"\+inf", -math.inf: "-inf for every token"}
SCHEMA = Constraint(kind="json_schema", text='{"type": "object", "properties": {"a": {"type": "integer"}}}')


class Panic(BaseException):
    """As pyo3_runtime.PanicException: what a Rust library raises where it panics is no Exception."""


def poisoned(lab: Lab, mode: str, value: float, poison: int = POISON) -> LocalEngine:
    def load() -> PoisonedWeights:
        weights = load_weights(lab.instruct, lab.thinking, mode=mode)  # type: ignore[arg-type]
        return PoisonedWeights(weights, poison, value)

    return lab.engine(mode, weights=load)


def prompts(rng: random.Random, n: int) -> list[list[int]]:
    return [[rng.randrange(290) for _ in range(rng.choice((3, 9, 40)))] for _ in range(n)]


def together(engine: LocalEngine, work: Sequence[tuple[Prompt, Decision]]) -> list[Generation | Exception]:
    """Submit all before the worker begins, and gather results and errors."""
    return [ended(job) for job in [engine.submit(*request) for request in work]]


def ended(job: Job) -> Generation | Exception:
    try:
        return job.result(60)
    except DamiError as error:
        return error


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["merged", "mixed"])
@pytest.mark.parametrize("kind", ["greedy", "sampled", "logprobs", "grammar", "penalty"])
def test_a_row_without_finite_scores_fails_alone(lab: Lab, mode: str, kind: str, value: float) -> None:
    sampling = {
        "greedy": GREEDY,
        "sampled": replace(WARM, seed=4),
        "logprobs": replace(GREEDY, logprobs=3),
        "grammar": GREEDY,
        "penalty": replace(WARM, seed=4, repetition_penalty=1.2),
    }[kind]
    texts = prompts(random.Random(f"{kind}"), 6)
    decision = ask(0.5, sampling=sampling, max_tokens=6)
    clean = [(prompt_of(t, constraint=SCHEMA if kind == "grammar" else None), decision) for t in texts]
    with lab.engine(mode) as engine:
        expected = [engine.generate(*request) for request in clean]
    poison = next(t for t in range(290, 310) if not any(t in g.token_ids for g in expected))
    for at in (0, 4):
        bad = spoilt(texts[at], poison, len(texts[at]) - 1)
        work = [(replace(p, token_ids=tuple(bad)) if i == at else p, d) for i, (p, d) in enumerate(clean)]
        with poisoned(lab, mode, value, poison) as engine:
            results = together(engine, work)
            assert engine.generate(*clean[1]).token_ids == expected[1].token_ids  # and the engine lives on
        for i, (result, alone) in enumerate(zip(results, expected, strict=True)):
            if i == at:
                assert isinstance(result, RunError)
                assert result.generation is not None
                with pytest.raises(RunError, match=f"output token 1 are not finite \\({NAMES[value]}\\)"):
                    raise result
            else:
                assert isinstance(result, Generation), result
                assert result.token_ids == alone.token_ids


def test_a_row_may_lose_its_scores_in_mid_reply(lab: Lab) -> None:
    """The poison comes as an output token: the second pass of that row is spoilt, the tokens before are kept."""
    script = {40: POISON}

    def load() -> PoisonedWeights:
        return PoisonedWeights(Rows(lambda position: script.get(position, 7)), POISON, math.nan)

    class Rows(ScriptedWeights):
        def _forward(self, *, input_ids: torch.Tensor | None = None, **options: Any) -> Any:
            return super()._forward(**options)

    with lab.engine(weights=load, loop_rule=None) as engine:
        short, long = together(
            engine, [(prompt_of([5] * n), ask(max_tokens=20, max_reasoning_tokens=0)) for n in (3, 35)]
        )
    assert isinstance(short, Generation)
    assert short.output_tokens == 20
    assert isinstance(long, RunError)
    assert "output token 7 " in str(long)
    assert long.generation is not None
    assert long.generation.token_ids == (7, 7, 7, 7, 7, POISON)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_a_score_that_is_not_finite_fails_alone(lab: Lab, mode: str, value: float) -> None:
    from concurrent.futures import ThreadPoolExecutor

    texts = prompts(random.Random(3), 6)
    texts[2] = spoilt(texts[2], POISON, len(texts[2]) - 1)

    def score(engine: LocalEngine, text: list[int]) -> tuple[float, ...] | Exception:
        try:
            return engine.score(prompt_of(text), [1, 2, 3], Intensity(0.5))
        except DamiError as error:
            return error

    with poisoned(lab, mode, value) as engine, ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda text: score(engine, text), texts))
    for i, (text, result) in enumerate(zip(texts, results, strict=True)):
        if i == 2:
            assert isinstance(result, RunError)
            assert "not finite" in str(result)
        else:
            logits = lab.logits(0.5, [*text, 1, 2, 3]).log_softmax(-1)
            expected = [float(logits[len(text) + k - 1, t]) for k, t in enumerate((1, 2, 3))]
            assert result == pytest.approx(expected, abs=1e-4)


def test_an_extreme_penalty_is_refused_and_harms_nobody(lab: Lab) -> None:
    """``repetition_penalty=1e-39`` was accepted, and 32 of 32 neighbours failed."""
    with lab.engine("mixed") as engine:
        jobs = [engine.submit(prompt_of([i + 1, 2, 3]), ask(0.5, max_tokens=4)) for i in range(31)]
        with pytest.raises(InvalidRequest, match=r"repetition_penalty must lie in \[1e-32, 1e\+32\], got 1e-39"):
            engine.submit(prompt_of([1, 2]), ask(sampling=Sampling(temperature=1.0, repetition_penalty=1e-39)))
        assert {job.result(60).finish_reason for job in jobs} <= {"length", "stop"}


EXTREMES: dict[str, list[float]] = {
    "temperature": [0.0, 5e-324, 1e-45, 1e-6, 1.000001e-6, 0.01, 1.0, 1e6, 1e38, 3.4e38],
    "top_p": [5e-324, 1e-45, 1e-12, 0.5, 1 - 1e-16, 1.0],
    "min_p": [0.0, 5e-324, 1e-45, 0.5, 1.0],
    "repetition_penalty": [1e-32, 1e-9, 0.5, 1.0, 2.0, 1e9, 1e32],
    "top_k": [0, 1, 5, 2**31],
}


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in EXTREMES.items()}), st.data())
def test_what_is_accepted_can_be_drawn_from(extremes: dict[str, Any], data: st.DataObject) -> None:
    """Any accepted settings over finite scores of up to a million, some forbidden, draw a token that is allowed."""
    sampling = resolve_sampling(Sampling(seed=0, **extremes), {}, 8)
    score = st.floats(-1e6, 1e6, width=32)
    scores = torch.tensor([data.draw(st.lists(score, min_size=8, max_size=8))])
    scores[0, data.draw(st.lists(st.integers(0, 6), max_size=6))] = -torch.inf
    point = data.draw(st.floats(0, 1, exclude_max=True))
    token = int(choose(scores, warper_key(sampling), [point], [[0, 3, 7]]))
    assert 0 <= token < 8
    assert scores[0, token] > -torch.inf


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 1e39),
        ("temperature", 10**400),
        pytest.param("temperature", 10**5000, id="long"),
        ("top_p", 10**400),
        ("min_p", -(10**400)),
        pytest.param("top_k", 10**5000, id="long_k"),
        pytest.param("seed", -(10**5000), id="long_seed"),
        pytest.param("logprobs", 10**5000, id="long_logprobs"),
        ("repetition_penalty", 1e-33),
        ("repetition_penalty", 1e33),
        ("repetition_penalty", 10**400),
        ("repetition_penalty", float("nan")),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        resolve_sampling(Sampling(**{field: value}), {}, 100)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "limits",
    [
        {"timeout": 10**400},
        {"timeout": 1e300},
        {"timeout": math.nan},
        {"timeout": math.inf},
        {"max_tokens": -(10**5000)},
    ],
    ids=["long", "large", "nan", "inf", "max_tokens"],
)
def test_limits_out_of_range_are_refused_by_name(lab: Lab, limits: dict[str, Any]) -> None:
    with lab.engine(weights=ScriptedWeights(lambda _: 7)) as engine:
        with pytest.raises(InvalidRequest, match=next(iter(limits))):
            engine.submit(prompt_of([1, 2]), ask(**limits))
        job = engine.submit(prompt_of([1, 2]), ask(max_tokens=2, timeout=9e8))
        assert job.result(1e300).output_tokens == 2


def test_choose_marks_the_rows_it_cannot_draw_from() -> None:
    scores = torch.zeros(5, 6)
    scores[1, 3], scores[2, 0], scores[3] = math.nan, math.inf, -math.inf
    scores[:, 4] += 2.0
    for sampling in (GREEDY, WARM, replace(WARM, repetition_penalty=1.5)):
        tokens = choose(scores, warper_key(sampling), [0.9] * 5, [[1]] * 5).tolist()
        assert tokens[1:4] == [-1, -1, -1]
        assert min(tokens[0], tokens[4]) >= 0


class Trap:
    """Stands for a part of one row (its grammar, stop strings, loop detector) and raises whatever it is asked."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def raising(*_: Any, **__: Any) -> Any:
            raise self._error

        return raising

    def __len__(self) -> int:
        raise self._error

    def __getitem__(self, _: int) -> float:
        raise self._error


@pytest.mark.parametrize(
    "error", [ValueError("odd"), Panic("a panic"), SystemExit(3), KeyboardInterrupt(), MemoryError(), GeneratorExit()]
)
@pytest.mark.parametrize("part", ["stops", "loop", "matcher", "stream", "thought"])
def test_a_part_of_one_row_that_raises_fails_that_row_only(lab: Lab, part: str, error: BaseException) -> None:
    with lab.engine("mixed", loop_rule=None) as engine:
        rows: list[Any] = []
        add = engine.worker.queue.add_row
        engine.worker.queue.add_row = lambda row: (rows.append(row), add(row))[1]  # type: ignore[method-assign]
        sampling = replace(WARM, seed=1)
        with engine.worker.queue.changed:  # the worker waits until the row has its trap
            jobs = [
                engine.submit(prompt_of([i + 1, 2, 3]), ask(0.5, sampling=sampling, max_tokens=5)) for i in range(4)
            ]
            setattr(rows[1], part, Trap(error))
        for i, job in enumerate(jobs):
            if i == 1:
                with pytest.raises(RunError, match=type(error).__name__):
                    job.result(30)
            else:
                assert job.result(30).finish_reason in ("stop", "length")
        assert engine.generate(prompt_of([1, 2, 3]), ask(max_tokens=2)).output_tokens > 0


class Rude(Exception):
    def __str__(self) -> str:
        raise Panic("no text")


def test_an_error_without_a_text_is_still_told() -> None:
    ours = to_dami_error(Rude())
    assert isinstance(ours, RunError)
    assert str(ours) == "the model failed: Rude"


def test_an_error_of_ours_is_copied_for_each_request() -> None:
    error = RunError("broken", hint="mend it")
    first, second = to_dami_error(error), to_dami_error(error)
    assert str(first) == str(second) == str(error)
    assert len({id(first), id(second), id(error)}) == 3
    assert type(first) is RunError
