"""Tasks that begin with one call: held out, with as many tools bound as they say, solved by their own plan."""

import re
from itertools import product

import pytest

from dami_agent.tasks import single_calls
from dami_agent.tasks.catalogue import CATALOGUE
from dami_agent.tasks.single import SETTINGS
from dami_agent.tasks.words import word_split

CASES = list(product(zip(SETTINGS, (1, 3, 3), strict=True), ("calibration", "test")))


@pytest.mark.parametrize(("setting", "split"), CASES)
def test_the_first_turn_is_one_call_of_one_of_the_bound_tools(setting, split):
    name, bound = setting
    tasks = single_calls(name, split, 40)
    assert len(tasks) == 40
    for task in tasks:
        assert len({tool.spec.name for tool in task.tools}) == len(task.tools) == bound
        assert len(task.rounds[0]) == 1
        call = task.plan[0]
        assert task.tool(call.name).call(call.arguments) == call.result
        assert task.grade(task.reply)


def test_a_demo_setting_binds_demo_tools_and_the_others_none_of_them():
    for setting in SETTINGS:
        names = {tool.spec.name for task in single_calls(setting, "test", 40) for tool in task.tools}
        assert names
        assert names <= set(CATALOGUE) if "demo" in setting else not names & set(CATALOGUE)


@pytest.mark.parametrize("split", ["train", "calibration", "test"])
def test_tasks_belong_to_their_split(split):
    assert [task.split for task in single_calls("one of three demo tools", split, 30)] == [split] * 30
    for setting in SETTINGS[::2]:
        names = [tool.spec.name for task in single_calls(setting, split, 30) for tool in task.tools]
        words = [part for name in names for part in re.findall(r"[A-Z]?[a-z]+", name)]
        assert {word_split(word) for word in words} == {split}


def test_equal_arguments_give_equal_tasks_and_other_seeds_others():
    for setting in SETTINGS:
        first = [task.prompt for task in single_calls(setting, "test", 15, seed=3)]
        assert [task.prompt for task in single_calls(setting, "test", 15, seed=3)] == first
        assert [task.prompt for task in single_calls(setting, "test", 15, seed=4)] != first
        assert [task.prompt for task in single_calls(setting, "calibration", 15, seed=3)] != first
