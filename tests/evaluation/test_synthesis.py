"""What exploring low and synthesising high comes to, by hand; and that λ=1 is told what was found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dami_agent.evaluation import runner
from dami_agent.evaluation.asked import AnswerFile, SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner, PairSource
from dami_agent.evaluation.quality import _Sampling
from dami_agent.evaluation.rivals import told
from dami_agent.evaluation.runner import Request
from dami_agent.evaluation.samples import collect
from dami_agent.evaluation.synthesis import (
    Syntheses,
    sample_syntheses,
    syntheses_of,
    synthesised,
    with_answers,
)
from dami_agent.tasks import Question, questions
from dami_agent.types import Intensity

SET = SampleSet(questions=[(1, question) for question in questions("calibration", 5, seed=1)])
PLAN = SamplePlan(lambdas=(0, 0.4, 1), max_tokens=500)


def said(answer: str | None, tokens: int, *, finished: bool = True) -> AnswerOutcome:
    """A reply; "right" is the right answer."""
    return AnswerOutcome(right=answer == "right", tokens=tokens, template="thinking", answer=answer, finished=finished)


EXPLORED = [
    [said("right", 1), said("right", 2)],
    [said("wrong", 1), said("wrong", 2)],
    [said("right", 1), said("wrong", 2)],
    [said(None, 1), said(None, 2)],
    [said("right", 1, finished=False), said("right", 2)],
]
FINALS = [said("wrong", 10), said("right", 10), said("right", 10), said("wrong", 10), said("right", 10)]
FOUND = syntheses_of([EXPLORED, EXPLORED[::-1]], [FINALS, FINALS])


def test_all_replies_are_paid_for() -> None:
    right, tokens = synthesised(FOUND, 0, on_doubt=False)
    assert right.tolist() == [0, 1, 1, 0, 1]
    assert tokens.tolist() == [13] * 5


def test_two_that_agree_are_believed_and_what_was_cut_off_or_says_nothing_agrees_with_nobody() -> None:
    right, tokens = synthesised(FOUND, 0, on_doubt=True)
    assert right.tolist() == [1, 0, 1, 0, 1]
    assert tokens.tolist() == [3, 3, 13, 13, 13]


def test_every_explorer_is_a_point_of_both_curves(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "found.safetensors")
    curves = told(Syntheses.load(tmp_path / "found.safetensors"))
    assert {name: [point.cost for point in curve] for name, curve in curves.items()} == {
        "a2r": [13.0, 13.0],
        "a2r on doubt": [9.0, 9.0],
    }
    assert curves["a2r on doubt"][1].tokens.tolist() == [13, 13, 13, 3, 3]


def test_what_others_said_stands_above_the_question() -> None:
    prompt = with_answers("What is 2 plus 3?", ["5\n", " \n"])
    assert prompt == "Two answers to a question are 5 and (none). Either may be wrong.\n\nWhat is 2 plus 3?"


def test_thinking_is_told_what_was_found_and_nothing_is_decoded_twice(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    with BatchRunner(PairSource()) as batches:
        found = sample_syntheses(batches, PLAN, SET, (0.4,), kept=file)
        assert found.right.shape == (len(SET), 1)
        explored = AnswerFile(file).read()
        assert {label for label, _ in explored} == {"0.4 thinking 0", "0.4 thinking 1"}

        samples = collect(batches, PLAN, SET, kept=file)
        assert found.explored[:, 0].tolist() == samples.right[:, 1].tolist()
        assert file.read_text().count("\n") == 4 * len(SET)  # λ=.4 twice, λ=0, λ=1

        # λ=1 answers the question with both answers above it, as by hand.
        for place, (seed, question) in enumerate(SET.questions):
            assert isinstance(question, Question)
            answers = [explored[f"0.4 thinking {number}", place].content or "" for number in (0, 1)]
            asked = dataclasses.replace(question, prompt=with_answers(question.prompt, answers))
            (ask,) = SampleSet(questions=[(seed, asked)]).asks(PLAN)
            (reply,) = runner.answers(batches.session, [Request(step=ask.step, intensity=Intensity(1))])
            assert found.final_tokens[place, 0] == reply.tokens
            assert bool(found.right[place, 0]) == question.grade(reply.reply.content)

        lines = file.read_text()
        again = sample_syntheses(batches, PLAN, SET, (0.4,), kept=file)
        assert again.final_tokens.tolist() == found.final_tokens.tolist()
        assert file.read_text() == lines


def test_a_table_that_was_kept_is_read(tmp_path: Path) -> None:
    few = dataclasses.replace(SET, questions=SET.questions[:2])
    with BatchRunner(PairSource()) as batches:
        sampling = _Sampling(batches, PLAN, tmp_path, keep=True)
        table = sampling.syntheses(few)
        for answers in tmp_path.glob("*.jsonl"):
            answers.unlink()
        assert sampling.syntheses(few).tokens.tolist() == table.tokens.tolist()
        assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize("kept", [None, "answers.jsonl"])
def test_nothing_need_be_kept(tmp_path: Path, kept: str | None) -> None:
    few = dataclasses.replace(SET, questions=SET.questions[:1])
    with BatchRunner(PairSource()) as batches:
        found = sample_syntheses(batches, PLAN, few, (0.4,), kept=None if kept is None else tmp_path / kept)
    assert found.tokens.shape == (1, 1)
    assert sorted(each.name for each in tmp_path.iterdir()) == (
        [] if kept is None else ["answers-told-0.4.jsonl", kept]
    )
