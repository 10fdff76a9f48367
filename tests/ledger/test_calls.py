"""What the rows of real calls say: λ from what was asked to what was used, and tokens of whatever broke off."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.errors import EngineBusy, RunError
from dami_agent.estimators import FixedEstimator
from dami_agent.ledger import CallRow, Ledger, Price, Prices
from dami_agent.ledger.columns import values_of
from dami_agent.pipeline import Pipeline
from dami_agent.policy import BudgetTracker, Frontier, ReasoningPolicy
from dami_agent.testing import FakeEngine, FakeReply, fake_chat_model
from dami_agent.types import (
    CallRecord,
    Decision,
    Estimate,
    Generation,
    Intensity,
    IntensityRequest,
    Job,
    Prompt,
    RunContext,
)
from tests.policy.support import FRONTIER, requested, step, user
from tests.test_pipeline import Prober

GRID = (0.0, 0.2, 0.6, 0.8, 1.0)
unit = st.integers(0, 20).map(lambda n: n / 20)


class Estimator(FixedEstimator):
    """Estimates without a probe."""

    def estimate(self, prompt: Any, decision: Any, engine: Any) -> Estimate:
        return Estimate(estimator="test", intensity=self.intensity)


class Caching(FakeEngine):
    """Has some of each prompt in a cache, as other backends do."""

    def write(self, reply: Any, request: Any) -> Generation:
        return dataclasses.replace(super().write(reply, request), cached_tokens=5)


class Fragile(FakeEngine):
    """Breaks with its second job."""

    failure: RunError

    def submit(self, prompt: Prompt, decision: Decision) -> Any:
        if self.requests:
            raise self.failure
        return super().submit(prompt, decision)


class Book:
    """What a ledger would keep of the last call."""

    row: CallRow

    def record(self, record: CallRecord) -> None:
        self.row = CallRow.read({"id": 1, **values_of(record)})


MODEL = cache(lambda: fake_chat_model([]))


def called(estimate: float, asks: float | None, bounds: list[float], frontier: Frontier = FRONTIER) -> CallRow:
    fake, book = MODEL(), Book()
    Pipeline(
        engine=FakeEngine([FakeReply("It is 7.", reasoning="first this")], fake.engine.encode),
        dialogue=fake.dialogue,
        policy=ReasoningPolicy(frontier=frontier, default={"intensity": tuple(bounds)}),
        estimator=Estimator(Intensity(estimate)),
        ledger=book,
    ).run(step(user("What is it?"), intensity_request=IntensityRequest() if asks is None else requested(asks)))
    return book.row


# ---- λ --------------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(unit, st.tuples(unit, unit).map(sorted), st.booleans())
def test_an_estimate_is_bounded_then_snapped_then_used(estimate: float, bounds: list[float], measured: bool) -> None:
    low, high = bounds
    row = called(estimate, None, bounds, FRONTIER if measured else Frontier())
    inside = [g for g in GRID if low <= g <= high] if measured else []
    bounded = min(max(estimate, low), high)
    if low == high:  # nothing was left to estimate
        assert (row.intensity_estimated, row.intensity_bounded) == (None, low)
    else:
        assert (row.intensity_estimated, row.intensity_bounded) == (estimate, bounded)
    nearest = max(inside, key=lambda g: (-abs(g - bounded), g)) if inside else None
    assert row.intensity_snapped == nearest
    assert row.intensity == (bounded if nearest is None else nearest)
    assert row.intensity_requested is None


@settings(max_examples=40, deadline=None)
@given(unit, st.tuples(unit, unit).map(sorted))
@pytest.mark.filterwarnings("ignore:λ=")
def test_a_number_is_bounded_and_runs_as_given(number: float, bounds: list[float]) -> None:
    low, high = bounds
    row = called(0.0, number, bounds)
    assert (row.intensity_requested, row.intensity_snapped, row.intensity_estimated) == (number, None, None)
    assert row.intensity == row.intensity_bounded == min(max(number, low), high)


# ---- tokens ---------------------------------------------------------------------------------------------------------


def voices(engine: type[FakeEngine] = FakeEngine, **policy: Any) -> tuple[Pipeline, Ledger]:
    model = MODEL()
    reply = FakeReply("It is seven.", reasoning="first this, then that")
    own = ReasoningPolicy(frontier=FRONTIER, default={"intensity": 1, "answer_intensity": 0.2}, **policy)
    ledger = Ledger.open(":memory:")
    made = Pipeline(
        engine=engine([reply] * 2, model.engine.encode),
        dialogue=model.dialogue,
        policy=own,
        estimator=model.estimator,
        ledger=ledger,
    )
    return made, ledger


def test_the_answers_own_intensity_and_the_tokens_dropped_for_it() -> None:
    pipeline, ledger = voices(run={"max_tokens": 1000})
    now = step(user("What is it?"), root_run_id="run")
    pipeline.run(now)
    (row,) = ledger.rows()
    assert (row.intensity, row.intensity_answer) == (1, 0.2)
    assert row.discarded_tokens == 1  # that the answer had begun is how the thought's end is known
    assert row.output_tokens == row.reasoning_tokens + row.answer_tokens + row.discarded_tokens
    assert row.output_tokens == pipeline.budgets.spent(pipeline.policy, now.run_context).tokens
    assert ledger.verify().whole


def test_without_a_thought_the_answer_has_the_intensity_it_was_decoded_with() -> None:
    pipeline, ledger = voices()
    pipeline.run(step(user("What is it?"), intensity_request=requested(0.0)))
    (row,) = ledger.rows()
    assert (row.intensity, row.intensity_answer) == (0, None)


@pytest.mark.parametrize("failure", [EngineBusy("full"), RunError("broke")])
def test_a_thought_whose_answer_fails_is_on_record(failure: RunError) -> None:
    class Breaking(Fragile):
        pass

    Breaking.failure = failure
    pipeline, ledger = voices(Breaking)
    with pytest.raises(RunError):
        pipeline.run(step(user("What is it?")))
    (row,) = ledger.rows()
    assert row.error_type == type(failure).__name__
    assert row.reasoning_tokens > 0
    assert row.intensity == 1
    assert ledger.verify().whole


def test_a_stream_closed_early_is_a_row_with_the_tokens_it_cost() -> None:
    model = fake_chat_model(["one two three four five six seven"], seconds_per_token=0.01)
    ledger = Ledger.open(":memory:")
    policy = ReasoningPolicy(frontier=FRONTIER, run={"max_tokens": 500})
    pipeline = Pipeline(
        engine=model.engine, dialogue=model.dialogue, policy=policy, estimator=model.estimator, ledger=ledger
    )
    now = step(user("Count."), intensity_request=requested(0.0), root_run_id="run")
    stream: Any = pipeline.stream(now)
    next(stream)
    stream.close()
    (row,) = ledger.rows()
    assert (row.error_type, row.accepted) == ("Cancelled", None)
    assert 0 < row.answer_tokens < 40
    assert row.output_tokens == pipeline.budgets.spent(policy, now.run_context).tokens
    assert row.decode_seconds is not None


async def test_an_async_stream_left_early_is_a_row_and_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.open(":memory:")
    model = fake_chat_model(["one two three four five six seven " * 20], seconds_per_token=0.01, ledger=ledger)
    stream: Any = model.astream("Count.")
    async for chunk in stream:
        if chunk.content:
            break
    await stream.aclose()
    for _ in range(200):
        if ledger.rows():
            break
        await asyncio.sleep(0.02)
    (row,) = ledger.rows()
    assert (row.error_type, row.answer_tokens > 0) == ("Cancelled", True)
    await asyncio.sleep(0.05)
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize("probe", [0, 3, 100])
def test_what_a_policy_says_was_spent_is_what_the_rows_add_up_to(probe: int) -> None:
    """Calls that end and streams closed early; probes discarded, carried on, and taken as the answer."""
    price = Price(prompt=2.0, cached=1.0, output=7.0, device_second=11.0)
    model = MODEL()
    said = [FakeReply("one two three four five six", reasoning="first this, then that")] * 12
    policy = ReasoningPolicy(frontier=FRONTIER, run={"max_cost": 1e6, "price": price})
    ledger = Ledger.open(":memory:", prices=Prices(models={"*": price}))
    budgets = BudgetTracker()
    for intensity in (0.0, 0.8):
        pipeline = Pipeline(
            engine=Caching(said, model.engine.encode, seconds_per_token=0.001),
            dialogue=model.dialogue,
            policy=policy,
            estimator=Prober(intensity, probe) if probe else Estimator(Intensity(intensity)),
            ledger=ledger,
            budgets=budgets,
        )
        pipeline.run(step(user("Count."), root_run_id="run"))
        stream: Any = pipeline.stream(step(user("Count."), root_run_id="run"))
        next(stream)
        stream.close()
    rows = ledger.rows()
    assert len(rows) == 4
    assert sum(row.error_type is not None for row in rows) == 2
    spent = budgets.spent(policy, RunContext(root_run_id="run"))
    assert spent.tokens == sum(row.output_tokens for row in rows)
    assert spent.cost == pytest.approx(sum(row.cost or 0.0 for row in rows))
    assert spent.cost > 0
    assert ledger.verify().whole


def test_cached_tokens_of_a_backend_that_has_a_cache_pass_through() -> None:
    model = fake_chat_model([])
    ledger = Ledger.open(":memory:")
    model.engine = Caching([FakeReply("It is 7.")] * 2, model.engine.encode)
    model.ledger = ledger
    reply: Any = model.invoke("What is 3 plus 4?")
    (row,) = ledger.rows()
    assert row.cached_tokens == 5
    assert reply.usage_metadata["input_token_details"] == {"cache_read": 5}
    last: Any = list(model.stream("What is 3 plus 4?"))[-1]
    assert last.usage_metadata["input_token_details"] == {"cache_read": 5}


def test_an_engine_that_breaks_while_nobody_reads_leaves_a_row() -> None:
    class Broken(FakeEngine):
        def submit(self, prompt: Prompt, decision: Decision) -> Any:
            return _Breaks(super().submit(prompt, decision))

    class _Breaks:
        def __init__(self, job: Job) -> None:
            self.job = job

        def __iter__(self) -> Any:
            raise MemoryError("out of memory")

        def result(self, timeout: float | None = None) -> Generation:
            raise MemoryError("out of memory")

        def cancel(self) -> None:
            self.job.cancel()

    pipeline, ledger = voices(Broken)
    with pytest.raises(MemoryError):
        pipeline.run(step(user("What is it?")))
    (row,) = ledger.rows()
    assert (row.error_type, row.output_tokens) == ("MemoryError", 0)
