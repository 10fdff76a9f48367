"""Agent tasks: the reference plan really solves them with the bound tools, and graders can fail."""

from random import Random

from dami_agent.tasks import CATALOGUE, World, agent_tasks, novel_task
from dami_agent.tasks.agent import MOST_TOOLS
from dami_agent.tasks.words import made_up, word_split


def test_equal_arguments_give_equal_tasks():
    first, again = agent_tasks("test", 60, seed=1), agent_tasks("test", 60, seed=1)
    assert [(task.prompt, task.plan, task.answers) for task in first] == [
        (task.prompt, task.plan, task.answers) for task in again
    ]


def test_splits_share_no_prompt():
    prompts = {split: {task.prompt for task in agent_tasks(split, 200)} for split in ("train", "test")}
    assert not prompts["train"] & prompts["test"]


def test_the_plan_solves_the_task_with_the_bound_tools():
    for task in agent_tasks("test", 300, seed=2):
        assert 1 <= len(task.tools) <= MOST_TOOLS
        assert 2 <= task.steps <= 6
        for call in task.plan:
            tool = task.tool(call.name)
            assert tool is not None
            assert tool.call(call.arguments) == call.result
        assert task.grade(task.reply)


def test_kinds_differ_in_work():
    tasks = agent_tasks("calibration", 200, seed=5)
    assert all(not task.work for task in tasks if task.kind == "route")
    assert all(task.work or any(call.work for call in task.plan) for task in tasks if task.kind == "work")


def test_grading_can_fail():
    for task in agent_tasks("test", 40):
        assert not task.grade("I do not know.")
        assert not task.grade(task.reply.replace(task.answers[-1], "99999"))


def test_wrong_arguments_are_an_error_text():
    tool = CATALOGUE["get_price"].bind(World(1))
    assert tool.call({"item": "lamp"}).isdigit()
    assert tool.call({"item": "LAMP"}) == tool.call({"item": "lamp"})
    assert tool.call({}).startswith("Error")
    assert tool.call({"item": "lamp", "colour": "red"}).startswith("Error")
    assert CATALOGUE["convert_units"].bind(World(1)).call({"amount": 3, "unit": "stones"}).startswith("Error")


def test_worlds_differ_and_repeat():
    assert World(1).value(0, 10**6, "price", "lamp") == World(1).value(0, 10**6, "price", "lamp")
    assert World(1).value(0, 10**6, "price", "lamp") != World(2).value(0, 10**6, "price", "lamp")


def test_made_up_words_of_test_are_never_those_of_training():
    rng = Random(0)
    train, test = ({made_up(rng, split) for _ in range(500)} for split in ("train", "test"))
    assert not train & test
    assert all(word_split(word.upper()) == "test" for word in test)


def test_novel_tasks_ask_for_one_of_the_bound_tools():
    rng = Random(4)
    for _ in range(200):
        task = novel_task(rng, "test", bound=3)
        assert len({tool.spec.name for tool in task.tools}) == 3
        tool = task.tool(task.plan[0].name)
        assert tool is not None
        assert tool.call(task.plan[0].arguments) == task.plan[0].result
        assert task.grade(task.reply)
