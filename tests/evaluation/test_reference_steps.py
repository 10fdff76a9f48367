"""Single steps of agent tasks: the history they stand in, how replies are judged, and their labels."""

from __future__ import annotations

import dataclasses

import pytest

from dami_agent.evaluation import agents
from dami_agent.evaluation import reference_steps as steps
from dami_agent.evaluation.reference_steps import StepLabel
from dami_agent.evaluation.runner import open_batch_session
from dami_agent.tasks import AgentTask, agent_tasks
from dami_agent.types import InvalidToolCall, Reply, Sampling, ToolCall


@pytest.fixture(scope="module")
def tasks() -> list[AgentTask]:
    return agent_tasks("calibration", 24, seed=3, kinds=("hard", "route", "work"))


def call(name: str, arguments: dict[str, object]) -> ToolCall:
    return ToolCall(id="x", name=name, arguments=arguments)


def test_every_turn_of_the_plan_is_a_step_after_all_that_came_before(tasks: list[AgentTask]) -> None:
    for task in tasks:
        found = steps.reference_steps(task, Sampling())
        assert len(found) == task.steps
        assert tuple(each.depth for each in found) == task.depths
        assert [each.calling for each in found] == [True] * len(task.rounds) + [False]
        for number, each in enumerate(found):
            before = [call for group in task.rounds[:number] for call in group]
            results = [message.content for message in each.step.messages if message.role == "tool"]
            made = [made for message in each.step.messages for made in message.tool_calls]
            assert results == [call.result for call in before]
            assert [(one.name, dict(one.arguments)) for one in made] == [(c.name, dict(c.arguments)) for c in before]
            assert {tool.name for tool in each.step.tools} == {tool.spec.name for tool in task.tools}


def test_the_plans_own_calls_and_reply_are_right_and_others_are_not(tasks: list[AgentTask]) -> None:
    for task in tasks:
        found = steps.reference_steps(task, Sampling())
        for group, each in zip(task.rounds, found, strict=False):
            own = tuple(call(planned.name, dict(planned.arguments)) for planned in group)
            assert each.right(Reply(tool_calls=own))
            assert each.right(Reply(tool_calls=own[:1]))
            assert not each.right(Reply(content=task.reply))
            assert not each.right(Reply())
            assert not each.right(Reply(tool_calls=(*own, call("nothing", {}))))
            broken = InvalidToolCall(id="y", name="a", text="{", error="no JSON")
            assert not each.right(Reply(tool_calls=own, invalid_tool_calls=(broken,)))
        assert found[-1].right(Reply(content=task.reply))
        assert not found[-1].right(Reply(content="The answer is 123456."))
        assert not found[-1].right(Reply(content=task.reply, tool_calls=(call("a", {}),)))


def test_labels_are_the_first_right_intensity_and_never_tried_beyond() -> None:
    asked = agent_tasks("calibration", 2, seed=4, kinds=("route",))
    session, tries = open_batch_session(), 0

    def done(count: int) -> None:
        nonlocal tries
        tries += count

    labels = steps.label(session, asked, (0.0, 1.0), done=done)
    assert [len(own) for own in labels] == [task.steps for task in asked]
    flat = [each for own in labels for each in own]
    assert tries == len(flat) + sum(each.intensity != 0.0 for each in flat)
    assert all(each.intensity in (0.0, 1.0, None) and each.tokens > 0 for each in flat)
    assert [each.depth for each in flat] == [depth for task in asked for depth in task.depths]
    assert sum(each.intensity == 0.0 for each in flat) > len(flat) / 2  # routing needs no thought


def test_labels_are_of_the_very_replies_that_an_agent_gets() -> None:
    """The same prompts, thoughts included, read at the same λ, under the same random streams: hindsight."""
    asked = agent_tasks("calibration", 6, seed=4, kinds=("hard",))
    labels = steps.label(open_batch_session(), asked, (0.5,), seed=7)
    runs = agents.run_mode(asked, agents.Mode(name="half", intensity=0.5), seed=7).runs
    compared = 0
    for run, own in zip(runs, labels, strict=True):
        for step, found in zip(run.steps, own, strict=False):
            assert step.output_tokens == found.tokens
            compared += 1
            if found.intensity is None:  # it called something else, and so does all that follows
                break
    assert compared > 12


def test_the_oracle_thinks_as_deeply_as_it_gets_where_nothing_was_enough() -> None:
    one = StepLabel(intensity=0.2, tokens=5, depth=3, calling=False)
    labels = [[one, dataclasses.replace(one, intensity=None)], [dataclasses.replace(one, intensity=0.0)]]
    assert steps.sufficient(labels) == ((0.2, 1.0), (0.0,))
    assert steps.sufficient(labels, otherwise=0.8) == ((0.2, 0.8), (0.0,))
