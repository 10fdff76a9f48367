"""Tasks of calls that build on each other: the plan is answered, nothing is given away, held-out lengths stay out."""

import re
from random import Random

import pytest

from builtin_pair.composed import composed_chain, composed_work
from dami_agent.tasks.task import final_number
from dami_agent.tasks.words import word_split

DRAWS = (composed_chain, composed_work)
SPLITS = ("train", "calibration", "test")


def drawn(draw, count=300, split="train", seed=0):
    rng = Random(f"{draw.__name__}:{split}:{seed}")
    return [draw(rng, split) for _ in range(count)]


def own_words(text):
    """The words of an identifier or a text that are not capitals, digits or another script."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+", text)]


def given(task):
    """The values that the prompt gives: what the calls say that no call has returned."""
    found = {call.result for call in task.plan}
    return {str(value) for call in task.plan for value in call.arguments.values()} - found


@pytest.mark.parametrize("draw", DRAWS)
def test_every_planned_call_is_answered_as_planned(draw):
    for task in drawn(draw):
        assert 1 <= len(task.tools) <= 4
        assert len({tool.spec.name for tool in task.tools}) == len(task.tools)
        for call in task.plan:
            tool = task.tool(call.name)
            assert list(call.arguments) == tool.spec.parameters["required"]
            assert tool.call(call.arguments) == call.result
            for name, value in call.arguments.items():
                kind = tool.spec.parameters["properties"][name]["type"]
                assert kind == ("integer" if isinstance(value, int) else "string")


@pytest.mark.parametrize("draw", DRAWS)
def test_the_reference_is_right_and_another_answer_wrong(draw):
    for task in drawn(draw):
        assert task.kind == "novel"
        assert task.grade(task.reply)
        assert not task.grade("The answer is 31415 zzz.")
        if final_number(task.answers[-1]) is not None and task.answers[-1].isdigit():
            assert not task.grade(task.reply.replace(task.answers[-1], str(int(task.answers[-1]) + 1)))


@pytest.mark.parametrize("draw", DRAWS)
def test_equal_seeds_give_equal_tasks(draw):
    assert drawn(draw, 40) == drawn(draw, 40)
    assert drawn(draw, 40) != drawn(draw, 40, seed=1)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("draw", DRAWS)
def test_words_of_tools_and_values_belong_to_the_split(draw, split):
    for task in drawn(draw, 100, split):
        for tool in task.tools:
            names = [tool.spec.name, *tool.spec.parameters["properties"]]
            for word in own_words(" ".join(names).replace("_", " ")):
                assert word_split(word) == split
            finds, thing = re.match(
                r"[A-Z][a-z]+(?: up)? the ([a-z]+) of an? ([a-z]+)\.", tool.spec.description
            ).groups()
            assert {word_split(finds), word_split(thing)} == {split}
        for text in (*given(task), *(call.result for call in task.plan)):
            assert all(word_split(word) == split for word in own_words(text))


@pytest.mark.parametrize("draw", DRAWS)
def test_what_a_call_says_stands_in_the_prompt_or_was_found_before_and_what_is_found_does_not(draw):
    for task in drawn(draw):
        known = set()
        for group in task.rounds:
            for call in group:
                assert all(str(value) in known or str(value) in task.prompt for value in call.arguments.values())
                if call.result.isdigit():
                    assert not re.search(rf"(?<!\w){call.result}(?!\w)", task.prompt)
                else:
                    assert not re.search(rf"(?<!\w){re.escape(call.result)}(?!\w)", task.prompt)
            assert len({call.result for call in group}) == len(group)
            known |= {call.result for call in group}


def test_hops_go_on_with_exactly_what_was_found_and_never_number_three():
    seen = set()
    for task in drawn(composed_chain, 500):
        first, *later = task.rounds
        assert 2 <= len(task.rounds) <= 5
        assert len(task.rounds) != 3
        before = [call.result for call in first]
        for group in later:
            assert len(group) == len(first)
            for call, result in zip(group, before, strict=True):
                assert result in {str(value) for value in call.arguments.values()}
            before = [call.result for call in group]
        assert task.answers == tuple(before)
        kinds = len({call.name for call in task.plan})
        seen.add((len(first), len(task.rounds), min(kinds, 2), max(len(call.arguments) for call in task.plan)))
    assert {(1, 2, 2, 1), (2, 2, 2, 1), (3, 2, 2, 1), (2, 2, 2, 2), (1, 2, 1, 1), (1, 4, 1, 1), (1, 5, 1, 1)} <= seen
    assert {(1, 4, 2, 1), (2, 4, 2, 1)} <= seen


def test_chains_are_asked_for_nested_and_step_by_step():
    prompts = [task.prompt for task in drawn(composed_chain, 500)]
    nested = sum(
        re.search(r"\bthe \w+ of the \w+|\b(?:in|for|at|has|have) the \w+ of", each) is not None for each in prompts
    )
    steps = sum(re.search(r"\b[Tt]hen\b|\b[Aa]fter that\b", each) is not None for each in prompts)
    assert nested > 120
    assert steps > 150
    assert sum("both" in each for each in prompts) > 20
    assert len({re.sub(r"\b(?!of\b|the\b|then\b)[a-z]+\b|\d+", "", each) for each in prompts}) > 300


def test_work_stays_in_range_and_never_has_the_lengths_training_holds_back():
    spans, weighted, counts = set(), set(), set()
    for task in drawn(composed_work, 600):
        assert task.work
        assert len(task.rounds) <= 2
        assert all(0 <= step.result <= 999 for step in task.work)
        assert all(2 <= int(call.result) <= 90 for call in task.rounds[-1])
        assert task.answers == (str(task.work[-1].result),)
        found = [int(call.result) for call in task.rounds[-1]]
        counts.add(len(found))
        products = [step for step in task.work[: len(found)] if step.symbol == "*" and step.left in found]
        many = len(found) > 1 and len(products) == len(found)
        done = 2 * len(found) - 1 if many else len(found) - 1
        if many:
            weighted.add(len(found))
        spans.add(len(task.work) - done)
    assert counts == {1, 2, 3, 4}
    assert weighted == {2, 4}
    assert spans == {0, 1, 2, 3, 5, 6}, "of one number a factor counts as a change here: six are a factor and five"


def test_a_difference_is_larger_minus_smaller_in_the_order_of_the_calls():
    for task in drawn(composed_work, 400):
        first = task.work[0]
        if len(task.rounds[-1]) == 2 and first.symbol == "-":
            found = [int(call.result) for call in task.rounds[-1]]
            assert first.left == max(found)
            assert first.right == min(found)
            asked = [next(iter(call.arguments.values())) for call in task.rounds[0]]
            places = [re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", task.prompt).start() for value in asked]
            assert places == sorted(places)
