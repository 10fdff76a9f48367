"""Agent tasks: solved by their plan and by independent readers of the prompt, disjoint in split, held out as said."""

import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.tasks import UNSEEN, agent_tasks, words
from dami_agent.tasks.agent import LARGEST, MOST_TOOLS, ROUTE, WORK, agent_task
from dami_agent.tasks.agent.changes import changes
from dami_agent.tasks.agent.scene import IN_TURN
from dami_agent.tasks.task import Operation
from dami_agent.tasks.world import invented_names

HELD_NAMES = {*words.HELD_PEOPLE, *words.HELD_ITEMS, *words.HELD_TOWNS}
CORRECTION = re.compile(
    r"(?:Ask for|listed as|is now|there is only|The code of \w+ is|the code of \w+ is|use) ([\w ]+?)(?: for |\.$)"
)


def named(name, *, kind="work", count=40):
    rng, found = Random(f"reader:{name}"), []
    while len(found) < count:
        task = agent_task(rng, kind, name)
        if task is not None:
            found.append(task)
    return found


def held_words(task):
    return HELD_NAMES & set(re.findall(r"\w+", task.prompt.replace("ies", "y"))) or {
        name for name in HELD_NAMES if words.plural(name) in task.prompt
    }


def test_equal_arguments_give_equal_tasks_and_other_seeds_others():
    drawn = [
        [
            (task.prompt, task.plan, task.answers, [tool.spec.name for tool in task.tools])
            for task in agent_tasks("test", 60, seed=seed)
        ]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_splits_share_no_prompt():
    prompts = {split: {task.prompt for task in agent_tasks(split, 300)} for split in ("train", "calibration", "test")}
    assert not prompts["train"] & (prompts["test"] | prompts["calibration"])
    assert not prompts["calibration"] & prompts["test"]


@pytest.mark.parametrize("unseen", [None, *UNSEEN])
def test_the_plan_solves_the_task_with_the_bound_tools(unseen):
    for task in agent_tasks("test", 250, seed=2, unseen=unseen):
        assert 1 <= len({tool.spec.name for tool in task.tools}) == len(task.tools) <= MOST_TOOLS
        assert 2 <= task.steps <= 6
        assert all(task.tool(call.name).call(call.arguments) == call.result for call in task.plan)
        steps = [*task.work, *(step for call in task.plan for step in call.work)]
        assert all(0 <= step.result <= LARGEST for step in steps if isinstance(step, Operation))
        assert task.grade(task.reply)
        assert task.unseen == ((unseen,) if unseen else ())


def test_plans_of_every_number_of_turns_are_common():
    turns = Counter(task.steps for task in agent_tasks("test", 1500))
    assert set(turns) == {2, 3, 4, 5, 6}
    assert min(turns.values()) >= 0.04 * 1500


def test_a_worked_out_argument_is_the_result_of_the_work_before_it():
    found = 0
    for task in agent_tasks("train", 400, kinds=("work",)):
        for group in task.rounds:
            work = [step for call in group for step in call.work]
            asked = [value for call in group for value in call.arguments.values()]
            assert not work or int(work[-1].value) in asked
            found += bool(work)
    assert found > 50


def test_an_error_is_followed_by_the_call_that_its_text_asks_for():
    tasks, mended = agent_tasks("train", 1500), 0
    for task in tasks:
        rounds = task.rounds
        for index, group in enumerate(rounds):
            failed = [call for call in group if call.result.startswith("Error")]
            if not failed:
                continue
            mended += 1
            again = rounds[index + 1]
            assert [call.name for call in again] == [call.name for call in failed]
            for wrong, right in zip(failed, again, strict=True):
                (old, new), *rest = zip(wrong.arguments.values(), right.arguments.values(), strict=True)
                assert all(a == b for a, b in rest)
                assert str(old) != str(new) == CORRECTION.search(wrong.result)[1]
                assert not right.result.startswith("Error")
    share = sum(any(call.result.startswith("Error") for call in task.plan) for task in tasks) / len(tasks)
    assert mended
    assert 0.08 <= share <= 0.17


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("route", "tour"),
        ("route", "several"),
        ("work", "basket"),
        ("work", "trip"),
        ("work", "purse"),
        ("work", "group"),
    ],
)
def test_lookups_go_together_unless_the_prompt_says_one_after_the_other(kind, name):
    seen = set()
    for task in named(name, kind=kind, count=120):
        in_turn = IN_TURN in task.prompt or task.prompt.startswith("First")
        rounds = [[call for call in group if not call.result.startswith("Error")] for group in task.rounds]
        first = len(task.rounds[0])
        lookups = sum(len(group) for group in rounds)
        assert first == (1 if in_turn else lookups)
        seen.add(in_turn)
    assert seen == {True, False}


def test_kinds_differ_in_work():
    tasks = agent_tasks("calibration", 300, seed=5)
    assert all(not task.work for task in tasks if task.kind == "route")
    assert all(task.work or any(call.work for call in task.plan) for task in tasks if task.kind == "work")


def test_without_unseen_nothing_held_out_appears():
    held = {name for table in (ROUTE, WORK) for name, template in table.items() if template.held}
    assert held == {"kitchen", "outing", "desks", "chiefs"}
    for split in ("train", "test"):
        for task in agent_tasks(split, 600):
            assert task.name not in held
            assert not HELD_NAMES & set(re.findall(r"\w+", f"{task.prompt} {task.plan}"))
            looked_up = [call for call in task.plan if not call.result.startswith("Error")]
            assert not (task.name in ("tour", "group") and len(looked_up) == 4)


def test_unseen_templates_names_and_lengths_are_those_held_out():
    held = {name for table in (ROUTE, WORK) for name, template in table.items() if template.held}
    assert {task.name for task in agent_tasks("test", 60, unseen="template")} == held
    assert all(held_words(task) for task in agent_tasks("test", 150, unseen="name"))
    lengths = Counter()
    for task in agent_tasks("test", 200, unseen="length"):
        assert not held_words(task)
        looked_up = [call for call in task.plan if not call.result.startswith("Error")]
        size = len(looked_up) if task.name in ("tour", "group", "basket", "path") else len(task.work)
        lengths[task.name, size] += 1
    assert {size for name, size in lengths if name in ("tour", "group")} == {4}
    assert {size for name, size in lengths if name in ("basket", "path")} == {3}
    assert {size for name, size in lengths if name == "sale"} == {4}


def test_a_third_kind_has_unseen_tools():
    tasks = agent_tasks("test", 90, kinds=("route", "work", "novel"))
    assert Counter(task.kind for task in tasks) == {"route": 30, "work": 30, "novel": 30}
    assert all(task.steps == 2 and len(task.tools) == 1 for task in tasks if task.kind == "novel")


def working_steps(task):
    """Operations of every model turn that works something out."""
    groups = [[step for call in group for step in call.work] for group in task.rounds]
    return [len(group) for group in [*groups, task.work] if group]


def test_working_steps_are_graded_from_easy_to_hard():
    tasks = agent_tasks("test", 800, kinds=("work",))
    steps = [count for task in tasks for count in working_steps(task)]
    hard = sum(count > 2 for count in steps) / len(steps)
    assert 0.5 <= hard <= 0.7
    assert {1, 2, 3, 5, 7} <= set(steps)
    assert 0.8 <= sum(max(working_steps(task)) > 2 for task in tasks) / len(tasks) <= 0.95
    assert sum(min(working_steps(task)) <= 2 < max(working_steps(task)) for task in tasks) > 40


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(4, 30), st.data())
def test_changes_never_get_stuck_in_a_small_range(seed, largest, data):
    start = data.draw(st.integers(1, largest))
    for count in (2, 5):
        work = changes(Random(seed), start, count, largest)
        assert len(work) == count
        assert all(1 <= step.result <= largest for step in work)


@pytest.mark.parametrize("start", [0, -3, LARGEST + 1])
def test_changes_refuse_a_start_out_of_range(start):
    with pytest.raises(ValueError, match="is not in 1"):
        changes(Random(0), start, 3, LARGEST)


@pytest.mark.parametrize("kind", ["route", "work"])
def test_made_up_names_are_used_answered_with_and_mended(kind):
    rng, used, failed, drawn = Random(12), 0, 0, 0
    for _ in range(400):
        names = invented_names(rng)
        task = agent_task(rng, kind, names=names)
        if task is None:
            continue
        drawn += 1
        assert not HELD_NAMES & set(re.findall(r"\w+", f"{task.prompt} {task.plan}"))
        values = [str(value) for call in task.plan for value in call.arguments.values()]
        new = {*names.people, *names.items, *names.towns} - {*words.PEOPLE, *words.ITEMS, *words.TOWNS}
        used += any(value in new for value in values)
        failed += any(call.result.startswith("Error") and {*call.arguments.values()} & new for call in task.plan)
        assert all(task.tool(call.name).call(call.arguments) == call.result for call in task.plan)
        known = {*names.people, *words.PEOPLE}
        assert all(call.result in known for call in task.plan if call.name == "boss_of" and "Error" not in call.result)
    assert used > 0.5 * drawn
    assert failed > 5


def test_grading_can_fail():
    for task in agent_tasks("test", 80, kinds=("route", "work", "novel")):
        assert not task.grade("I do not know.")
        assert not task.grade("")
        assert not task.grade(task.reply.replace(task.answers[-1], "99999x"))
        assert not task.grade(task.reply + " Or is it 1234567?")
        if task.answers != task.answers[::-1]:
            assert not task.grade(words.joined(task.answers[::-1]))


def test_a_word_counts_only_as_a_whole_word_at_the_end():
    task = next(
        task
        for task in agent_tasks("test", 400, kinds=("route",))
        if task.answers[0] in words.PEOPLE and len(task.answers) == 1
    )
    answer = task.answers[0]
    assert task.grade(f"It is **{answer}**.")
    assert not task.grade(f"The answer is {answer}x.")
    assert not task.grade(f"The answer is {answer} or Nobody.")
