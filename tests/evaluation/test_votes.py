"""What several replies of Thinking come to, by hand; and that nothing is decoded twice."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from dami_agent.answers import answer_of
from dami_agent.evaluation import runner
from dami_agent.evaluation.asked import AnswerFile, AskedBatch, SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner, PairSource
from dami_agent.evaluation.quality import _Sampling
from dami_agent.evaluation.rivals import voted
from dami_agent.evaluation.runner import Request
from dami_agent.evaluation.samples import collect
from dami_agent.evaluation.votes import RETRIES, Votes, adaptive, majority, retried, sample_votes, votes_of
from dami_agent.tasks import questions
from dami_agent.types import Intensity

SET = SampleSet(questions=[(1, question) for question in questions("calibration", 6, seed=1)])
PLAN = SamplePlan(lambdas=(0, 1), max_tokens=600)


def said(answer: str | None, tokens: int, confidence: float, *, finished: bool = True) -> AnswerOutcome:
    """A reply of Thinking; "right" is the right answer."""
    return AnswerOutcome(
        right=answer == "right",
        tokens=tokens,
        template="thinking",
        answer=answer,
        logprob=math.log(confidence),
        finished=finished,
    )


CUT = said("right", 9, 0.99, finished=False)
ROWS = [
    [said("right", 1, 0.9), said("right", 2, 0.8), said("wrong", 4, 0.7)],  # two agree at once
    [said("wrong", 1, 0.5), said("right", 2, 0.6), said("right", 4, 0.7)],  # the third decides
    [said("right", 1, 0.5), said("wrong", 2, 0.6), said("other", 4, 0.7)],  # a tie: the first
    [said("wrong", 1, 0.9), said("wrong", 2, 0.95), said("right", 4, 0.7)],  # agreed, and wrong
    [CUT, said("wrong", 2, 0.4), said("right", 4, 0.7)],  # a tie of the two that have a vote
    [said(None, 1, 0.9), CUT, said("right", 4, 0.7)],  # one vote
    [CUT, CUT, said(None, 4, 0.99)],  # none: the first
]
VOTES = votes_of(list(zip(*ROWS, strict=True)))


def test_a_reply_that_was_cut_off_has_neither_vote_nor_confidence() -> None:
    assert VOTES.replies == 3
    assert VOTES.answers.tolist() == [[0, 0, 2], [0, 1, 1], [0, 1, 2], [0, 0, 2], [-1, 1, 2], [-1, -1, 2], [-1, -1, -1]]
    assert VOTES.confidence[4:].tolist() == [pytest.approx(row) for row in ([0, 0.4, 0.7], [0, 0, 0.7], [0, 0, 0])]
    assert VOTES.right[6].tolist() == [1, 1, 0]


def test_a_majority_pays_for_all_replies() -> None:
    right, tokens = majority(VOTES, 3)
    assert right.tolist() == [1, 1, 1, 0, 0, 1, 1]
    assert tokens.tolist() == [7, 7, 7, 7, 15, 14, 22]
    right, tokens = majority(VOTES, 2)
    assert right.tolist() == [1, 0, 1, 0, 0, 0, 1]
    assert tokens.tolist() == [3, 3, 3, 3, 11, 10, 18]


def test_a_third_reply_is_asked_for_only_where_two_differ() -> None:
    right, tokens = adaptive(VOTES, 3)
    assert right.tolist() == majority(VOTES, 3)[0].tolist()
    assert tokens.tolist() == [3, 7, 7, 3, 15, 14, 22]


@pytest.mark.parametrize("count", [3, 4, 5])
def test_replies_stop_as_soon_as_no_others_could_change_the_vote(count: int) -> None:
    """On random votes: where it stops, the leader is beyond reach, and one reply before that it was not."""
    rng = torch.Generator().manual_seed(count)
    options = ["right", "wrong", "other", None]
    for _ in range(60):
        answers = [options[place] for place in torch.randint(0, 4, (count,), generator=rng).tolist()]
        votes = votes_of([[said(answer, 1, 0.9)] for answer in answers])
        _, tokens = adaptive(votes, count)
        asked = int(tokens)
        tally = [answers[:asked].count(option) for option in options[:3]]
        first, second = sorted(tally, reverse=True)[:2]
        assert asked == count or first > second + count - asked
        if asked > 1:  # not one too many
            tally = [answers[: asked - 1].count(option) for option in options[:3]]
            first, second = sorted(tally, reverse=True)[:2]
            assert first <= second + count - asked + 1


def test_whoever_is_unsure_asks_again_and_takes_the_surer_reply() -> None:
    right, tokens = retried(VOTES, 0.55)
    assert right.tolist() == [1, 1, 0, 0, 0, 0, 1]
    assert tokens.tolist() == [1, 3, 3, 1, 11, 10, 18]
    right, tokens = retried(VOTES, 0.5)  # is sure enough
    assert right.tolist() == [1, 0, 1, 0, 0, 0, 1]
    assert tokens.tolist() == [1, 1, 1, 1, 11, 10, 18]
    right, tokens = retried(VOTES, 1.0)  # the first and surer reply of the first question stands
    assert right.tolist() == [1, 1, 0, 0, 0, 0, 1]
    assert tokens.tolist() == [3, 3, 3, 3, 11, 10, 18]


def test_every_knob_is_a_point_of_a_curve(tmp_path: Path) -> None:
    VOTES.save(tmp_path / "votes.safetensors")
    curves = voted(Votes.load(tmp_path / "votes.safetensors"))
    assert {name: len(curve) for name, curve in curves.items()} == {
        "majority": 2,
        "adaptive votes": 1,
        "retry": len(RETRIES),
    }
    assert curves["majority"][1].tokens.tolist() == majority(VOTES, 3)[1].tolist()
    assert curves["adaptive votes"][0].cost == pytest.approx(71 / 7)
    two = voted(dataclasses.replace(VOTES, answers=VOTES.answers[:, :2]))
    assert [len(two[name]) for name in ("majority", "adaptive votes")] == [1, 0]


def test_the_first_reply_is_the_one_that_heads_are_fitted_to_and_nothing_is_decoded_twice(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    with BatchRunner(PairSource()) as batches:
        votes = sample_votes(batches, PLAN, SET, 2, kept=file)
        lines = AnswerFile(file).read()
        assert len(lines) == 2 * len(SET)
        samples = collect(batches, PLAN, SET, kept=file)
        assert AnswerFile(file).read().items() >= lines.items()
        assert file.read_text().count("\n") == 3 * len(SET)  # of λ=0
        assert votes.right[:, 0].tolist() == samples.right[:, -1].tolist()
        assert votes.tokens[:, 0].tolist() == samples.tokens[:, -1].tolist()
        assert votes.tokens[:, 0].tolist() != votes.tokens[:, 1].tolist()

        kept = file.read_text().splitlines()
        file.write_text("\n".join(kept[: len(SET) + 2]) + kept[len(SET) + 2][:20])  # it broke off
        again = sample_votes(batches, PLAN, SET, 2, kept=file)
        assert again.tokens.tolist() == votes.tokens.tolist()
        assert again.answers.tolist() == votes.answers.tolist()

        sampling = _Sampling(batches, PLAN, tmp_path, keep=True)
        table = sampling.votes(SET)
        (answers,) = tmp_path.glob("tested-*.jsonl")
        answers.unlink()
        assert sampling.votes(SET).tokens.tolist() == table.tokens.tolist()
        assert table.tokens[:, :2].tolist() == votes.tokens.tolist()
        assert not answers.exists()  # the table is what is read

        asks = SET.asks(PLAN)
        requests = (Request(step=ask.step, intensity=Intensity(1)) for ask in asks)
        replies = list(runner.answers(batches.session, requests))
        first = AnswerFile(file).read("1.0 thinking 0")
        assert [first["1.0 thinking 0", place].answer for place in range(len(asks))] == [
            answer_of(each.reply) for each in replies
        ]


def test_replies_that_were_kept_without_their_answers_are_given_again(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    asked = dataclasses.replace(SET, questions=SET.questions[:3])
    batch = AskedBatch(name="any", asked=asked, intensity=Intensity(1), plan=PLAN, kept=file)
    with BatchRunner(PairSource()) as batches:
        (bare,) = batches.run([batch])
        (told,) = batches.run([dataclasses.replace(batch, voted=True)])
        assert [each.logprob for each in bare] == [None] * 3
        assert [(each.right, each.tokens) for each in told] == [(each.right, each.tokens) for each in bare]
        assert all(each.logprob is not None and each.answer is not None for each in told)
        assert batches.run([batch]) == [told]  # what came last counts
