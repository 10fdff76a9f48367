"""Questions of reasoning-gym: drawn by name and seed, and graded as their dataset grades them."""

from __future__ import annotations

import pickle

import pytest

from dami_agent.errors import UsageError
from dami_agent.evaluation.asked import SamplePlan, SampleSet
from dami_agent.evaluation.gym_questions import GymQuestion, gym_questions

pytest.importorskip("reasoning_gym")


def test_equal_parts_of_each_dataset_the_same_for_the_same_seed() -> None:
    found = gym_questions(["chain_sum", "letter_counting"], 7, seed=3)
    assert [question.kind for question in found] == ["chain_sum"] * 4 + ["letter_counting"] * 3
    assert found == gym_questions(["chain_sum", "letter_counting"], 7, seed=3) != gym_questions(["chain_sum"], 7)
    assert pickle.loads(pickle.dumps(found)) == found  # workers get them


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("{}", True),
        ("It makes {}.", True),
        ("4 and 7 make <answer>{}</answer>, I think", True),
        ("<answer>0.5</answer> or rather {}", False),
        ("{} and then 1234567", False),
        ("no idea", False),
        ("", False),
    ],
)
def test_a_number_in_a_sentence_counts_and_a_tag_goes_first(reply: str, right: bool) -> None:
    for question in gym_questions(["chain_sum"], 5):
        assert question.grade(reply.format(question.entry["answer"])) == right


def test_words_are_compared_whole() -> None:
    (question,) = gym_questions(["word_sorting"], 1)
    assert question.grade(question.entry["answer"])
    assert not question.grade(question.entry["answer"].split(",")[0])


def test_an_unknown_dataset_is_named_with_one_like_it() -> None:
    with pytest.raises(UsageError, match="no dataset 'chain_sums'") as refused:
        gym_questions(["chain_sums"], 5)
    assert refused.value.hint == "did you mean 'chain_sum'?"


def test_they_are_asked_as_they_stand() -> None:
    found: list[GymQuestion] = gym_questions(["chain_sum"], 3)
    asks = SampleSet(questions=[(1, question) for question in found]).asks(SamplePlan())
    assert [ask.step.messages[0].content for ask in asks] == [question.entry["question"] for question in found]
    assert {ask.kind for ask in asks} == {"chain_sum"}


@pytest.mark.parametrize("reply", ["The answer is 7.", "<answer>{}</answer>", "", "[1, 2", "\ud800"])
@pytest.mark.parametrize("name", ["prime_factorization", "game_of_life", "boxnet", "word_sorting"])
def test_what_a_dataset_cannot_read_is_wrong(name: str, reply: str) -> None:
    assert not gym_questions([name], 1)[0].grade(reply)


@pytest.mark.parametrize("name", ["string_insertion", "spiral_matrix", "n_queens", "countdown", "simple_integration"])
def test_a_reply_is_never_run(name: str) -> None:
    with pytest.raises(UsageError, match="grades by running the reply as Python"):
        gym_questions(["chain_sum", name], 2)


@pytest.mark.parametrize(("names", "told"), [([], "no dataset"), (["composite"], "cannot draw 'composite'")])
def test_what_cannot_be_drawn(names: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        gym_questions(names, 3)


def test_a_name_given_twice_counts_once() -> None:
    assert len(gym_questions(["chain_sum", "chain_sum"], 4)) == 4
