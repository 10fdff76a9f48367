"""Trial answers at rising caps are of one thought, and an early exit pays for all of them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from dami_agent.evaluation import runner
from dami_agent.evaluation.asked import SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import BatchRunner, PairSource
from dami_agent.evaluation.early_exit import Trials, exits, sample_trials
from dami_agent.evaluation.runner import Request
from dami_agent.tasks import questions
from dami_agent.types import Intensity

CAPS = (8, 40)
SET = SampleSet(questions=[(1, question) for question in questions("calibration", 12, seed=1)])
PLAN = SamplePlan(max_tokens=600)


def trials(**given: list[list[float]]) -> Trials:
    columns = {name: torch.tensor(rows) for name, rows in given.items()}
    return Trials(**columns)


FOUND = trials(
    right=[[0, 1], [1, 0], [0, 0], [1, 1]],
    tokens=[[20, 50], [20, 50], [20, 50], [9, 9]],
    answer_tokens=[[10, 9], [10, 9], [10, 9], [5, 5]],
    confidence=[[0.5, 0.9], [0.95, 0.2], [0.1, 0.1], [0.3, 0.3]],
    whole=[[0, 0], [0, 0], [0, 0], [1, 1]],
)
RIGHT, TOKENS = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([100.0, 100.0, 100.0, 9.0])


def test_the_first_sure_answer_is_taken_and_what_was_tried_before_is_paid() -> None:
    right, tokens = exits(FOUND, RIGHT, TOKENS, 0.9)
    assert right.tolist() == [1, 1, 1, 1]
    # The second trial after a first of 10 tokens; the first; the whole reply after trials of 10 and 9; no trial at all.
    assert tokens.tolist() == [50 + 10, 20, 100 + 19, 9]


def test_nothing_is_ever_sure_enough_and_everything_is() -> None:
    right, tokens = exits(FOUND, RIGHT, TOKENS, 1.1)
    assert right.tolist() == RIGHT.tolist()
    assert tokens.tolist() == [119, 119, 119, 9]
    assert exits(FOUND, RIGHT, TOKENS, 0.0)[0].tolist() == [0, 1, 0, 1]


def test_a_capped_thought_is_the_beginning_of_the_whole_one() -> None:
    with BatchRunner(PairSource()) as batches:
        whole, cut = (
            list(
                runner.answers(
                    batches.session,
                    (Request(step=ask.step, intensity=Intensity(1)) for ask in SET.asks(plan)),
                    switch_point=0,
                )
            )
            for plan in (PLAN, dataclasses.replace(PLAN, max_reasoning_tokens=CAPS[1]))
        )
        found = sample_trials(batches, PLAN, SET, CAPS)
    capped = 0
    for place, (one, other) in enumerate(zip(whole, cut, strict=True)):
        thoughts = [
            [event.token_id for event in answer.generation.events if event.part == "reasoning"]
            for answer in (one, other)
            if answer.generation is not None
        ]
        assert thoughts[1] == thoughts[0][: CAPS[1]]
        if not found.whole[place, 1]:
            capped += 1
        else:
            assert found.tokens[place, 1] == one.tokens
            assert found.right[place, 1] == float(SET.asks(PLAN)[place].right(one.reply))
    assert capped > 3
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()
    assert (found.answer_tokens < found.tokens).all()


def test_a_confidence_is_the_geometric_mean_of_the_answers_tokens() -> None:
    with BatchRunner(PairSource()) as batches:
        plan = dataclasses.replace(PLAN, max_reasoning_tokens=CAPS[0])
        (answer,) = runner.answers(
            batches.session, [Request(step=SET.asks(plan)[0].step, intensity=Intensity(1))], switch_point=0
        )
        found = sample_trials(batches, PLAN, dataclasses.replace(SET, questions=SET.questions[:1]), CAPS[:1])
    assert answer.generation is not None
    events = [event for event in answer.generation.events if event.part == "answer" and event.logprob is not None]
    mean = sum(event.logprob.logprob for event in events if event.logprob) / len(events)
    assert float(found.confidence[0, 0]) == pytest.approx(math.exp(mean), rel=1e-5)
