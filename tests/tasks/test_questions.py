"""Questions: deterministic, in disjoint splits, solvable as their own work says, and graders that can fail."""

import pytest

from dami_agent.tasks import FAMILIES, LEVELS, final_number, questions, split_of
from dami_agent.tasks.arithmetic import LARGEST, OPERATIONS


def test_equal_arguments_give_equal_questions_and_other_seeds_others():
    assert questions("test", 50, seed=3) == questions("test", 50, seed=3)
    assert questions("test", 50, seed=3) != questions("test", 50, seed=4)


def test_splits_share_no_question_and_the_text_decides():
    drawn = {split: {item.prompt for item in questions(split, 400)} for split in ("train", "calibration", "test")}
    assert not drawn["train"] & drawn["test"]
    assert not drawn["train"] & drawn["calibration"]
    assert not drawn["calibration"] & drawn["test"]
    assert all(split_of(prompt) == split for split, prompts in drawn.items() for prompt in prompts)


def test_every_level_and_family_comes_in_turn():
    drawn = questions("test", 200)
    for family in FAMILIES:
        for level in LEVELS:
            rows = [item for item in drawn if (item.family, item.level) == (family, level)]
            assert len(rows) >= 15
            assert all(len(item.work) == OPERATIONS[level] for item in rows)


def test_the_work_leads_to_the_answer_within_range():
    for item in questions("calibration", 300, seed=9):
        assert item.work[-1].result == item.answer
        assert all(0 <= step.result <= LARGEST for step in item.work)
        assert all(after.left == before.result for before, after in zip(item.work, item.work[1:], strict=False))


@pytest.mark.parametrize(
    ("text", "number"),
    [("The answer is 36.", 36), ("12 + 5 = 17, so 1,017", 1017), ("minus -4", -4), ("none", None), ("7 and 8", 8)],
)
def test_final_number(text, number):
    assert final_number(text) == number


def test_grading_can_fail():
    item = questions("test", 1)[0]
    assert item.grade(f"The answer is {item.answer}.")
    assert not item.grade(f"The answer is {item.answer + 1}.")
    assert not item.grade("")
