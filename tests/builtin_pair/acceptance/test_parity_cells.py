"""Where Instruct is good enough: by cells, and tried on a seed that did not choose them."""

from __future__ import annotations

import pytest

from builtin_pair.acceptance.parity_cells import parity_cells
from dami_agent.tasks import FAMILIES
from tests.evaluation.outcomes import asked, draw, outcome


def test_cells_count_only_if_as_good_and_cheap() -> None:
    questions = asked(25 * 4, seeds=1)
    thinking = [outcome(True, 100) for _ in questions]
    instruct = []
    for _, question in questions:
        good = question.level == 1 or question.family == "list"
        cheap = question.level != 3
        instruct.append(outcome(good, 20 if cheap else 21))
    told = parity_cells(questions, instruct, thinking)
    cells = {(cell["family"], cell["level"]) for cell in told["cells"]}
    families = {question.family for _, question in questions}
    assert cells == {(family, 1) for family in families} | {("list", level) for level in (2, 4, 5)}
    assert told["share"] == pytest.approx(8 / 25)
    assert told["alone"] == len(cells)
    assert told["tokens_ratio"] == 0.2
    assert told["elsewhere"] is None  # one seed cannot be tried on another


def test_one_wrong_answer_does_not_take_a_cell_away_but_many_do() -> None:
    questions = asked(25 * 40)
    thinking = [outcome(True, 100) for _ in questions]
    missed = {("list", 1): 1, ("story", 1): 4}
    left = dict(missed)
    instruct = []
    for _, question in questions:
        cell = question.family, question.level
        wrong = question.level > 1 or left.get(cell, 0) > 0
        left[cell] = left.get(cell, 0) - 1
        instruct.append(outcome(not wrong, 10))
    told = parity_cells(questions, instruct, thinking)
    cells = {(cell["family"], cell["level"]) for cell in told["cells"]}
    assert cells == {(family, 1) for family in FAMILIES} - {("story", 1)}  # 1 of 160 is wrong, it would be 5 of 200
    assert told["alone"] == 3


def test_a_cell_that_loses_much_is_not_paid_for_by_one_that_wins() -> None:
    questions = asked(25 * 40)
    won, lost = ("list", 1), ("story", 1)
    cell = [(question.family, question.level) for _, question in questions]
    thinking = [outcome(cell[i] != won or i % 10 != 0, 100) for i in range(len(questions))]
    instruct = [outcome(cell[i] == won or (cell[i] == lost and i % 4 != 0), 10) for i in range(len(questions))]
    told = parity_cells(questions, instruct, thinking)
    assert told["cells"] == [{"family": "list", "level": 1}]


def test_cells_chosen_by_luck_lose_on_the_seed_that_did_not_choose_them() -> None:
    questions = asked(300)
    thinking = draw(questions, 1, right=lambda _: 0.5, tokens=lambda _: 100)
    instruct = draw(questions, 2, right=lambda _: 0.4, tokens=lambda _: 10)
    told = parity_cells(questions, instruct, thinking)
    inside = [(c["family"], c["level"]) for c in told["cells"]]
    places = [i for i, (_, q) in enumerate(questions) if (q.family, q.level) in inside]
    chosen = sum(instruct[i].right - thinking[i].right for i in places) / len(places)
    assert chosen >= -0.01
    assert told["elsewhere"] < chosen
    assert told["elsewhere_questions"] > 0


def test_no_cells() -> None:
    questions = asked(50)
    told = parity_cells(questions, [outcome(False, 10)] * 50, [outcome(True, 10)] * 50)
    assert (told["share"], told["cells"], told["tokens_ratio"], told["elsewhere"]) == (0.0, [], None, None)
