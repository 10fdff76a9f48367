"""Tool documents: every call is answered, what is copied stands in the prompt, thoughts follow the level of detail."""

import json
import re
from random import Random

import jsonschema
import pytest

from builtin_pair.training import calling, render, thoughts, tooling
from dami_agent.tasks.agent import agent_task
from dami_agent.tasks.task import Operation, PlannedCall

STYLES = (0.0, thoughts.VALUES - 0.01, thoughts.EQUATIONS - 0.01, thoughts.LINES - 0.01, 1.0)


def tasks(count, kind="work", seed=0):
    rng, found = Random(seed), []
    while len(found) < count:
        task = agent_task(rng, kind)
        if task is not None:
            found.append(task)
    return found


@pytest.mark.parametrize("family", tooling.FAMILIES)
@pytest.mark.parametrize("template", ["instruct", "thinking"])
def test_every_call_is_of_a_bound_tool_and_is_answered(family, template):
    rng = Random(f"{family}:{template}")
    for _ in range(150):
        dialogue = tooling.FAMILIES[family](rng, template, rng.random())
        names = {tool.name for tool in dialogue.tools}
        waiting = 0
        for turn in dialogue.turns:
            assert waiting == 0 or turn.role == "tool"
            assert {name for name, _ in turn.calls} <= names
            waiting += len(turn.calls) - (turn.role == "tool")
        assert dialogue.turns[-1].role == "assistant"
        assert waiting == len(dialogue.turns[-1].calls)


@pytest.mark.parametrize("family", ["novel", "writing"])
def test_what_a_call_says_was_said_before(family):
    rng, seen = Random(family), 0
    for _ in range(300):
        dialogue, said = tooling.FAMILIES[family](rng, "instruct", rng.random()), ""
        for turn in dialogue.turns:
            for _, arguments in turn.calls:
                for key, value in arguments.items():
                    pieces = re.split(rf"\bA {key} about |\.$|^A ", str(value)) if family == "writing" else [str(value)]
                    assert all(piece in said for piece in pieces)
                    seen += 1
            said += " " + turn.content
    assert seen > 300


def test_written_objects_have_the_required_keys_and_only_known_ones():
    rng, as_json = Random(3), 0
    for _ in range(300):
        dialogue = tooling.draw_writing(rng, "instruct", 0.5)
        last = dialogue.turns[-1]
        if last.calls:
            schema, value = dialogue.tools[0].parameters, last.calls[0][1]
        else:
            value, as_json = json.loads(last.content), as_json + 1
            if not dialogue.system.startswith("Answer with JSON"):
                assert all(f"'{key}'" in dialogue.turns[0].content for key in value)
                continue
            schema = json.loads(dialogue.system.split("\n")[1])
        assert list(value) == list(schema["required"])
        jsonschema.validate(value, {**schema, "additionalProperties": False})
    assert 40 < as_json < 160


@pytest.mark.parametrize("style", STYLES)
def test_thoughts_of_a_whole_task_hold_all_its_work_and_no_other_numbers(style):
    rng = Random(1)
    for task in tasks(80):
        turns = calling.task_turns(rng, task, "thinking", style, partial=False)
        assert len([turn for turn in turns if turn.role == "assistant"]) == task.steps
        text = " ".join(turn.thought or "" for turn in turns)
        steps = [*(step for call in task.plan for step in call.work), *task.work]
        if style < thoughts.EMPTY:
            assert not text.strip()
        elif style < thoughts.VALUES:
            assert all(re.search(rf"\b{step.value}\b", text) for step in steps)
        elif style < thoughts.LINES:
            assert all(step.line in text for step in steps)
        else:
            assert all(step.detail in text for step in steps)
        assert turns[-1].content.endswith(task.reply)


@pytest.mark.parametrize(("template", "style"), [("instruct", 1.0), ("instruct", 0.0), ("thinking", 0.0)])
def test_who_does_not_think_says_the_values_on_the_way(template, style):
    rng, said = Random(2), 0
    for task in tasks(120, seed=4):
        turns = [
            turn for turn in calling.task_turns(rng, task, template, style, partial=False) if turn.role == "assistant"
        ]
        values = [step.value for step in task.work[:-1]]
        assert turns[-1].content == (f"{', '.join(values)}. {task.reply}" if values else task.reply)
        for turn, group in zip(turns[:-1], task.rounds, strict=True):
            work = [step.value for call in group for step in call.work]
            assert turn.content == (f"{', '.join(work)}." if len(work) > 1 else "")
            said += len(work) > 1
    assert said


def test_a_longer_style_never_says_less():
    for task in tasks(60, seed=6):
        lengths = [
            sum(
                len(turn.thought or "")
                for turn in calling.task_turns(Random(0), task, "thinking", style, partial=False)
            )
            for style in STYLES
        ]
        assert lengths == sorted(lengths)


def call(name, result="1", work=(), **arguments):
    return PlannedCall(name, arguments, result, work)


@pytest.mark.parametrize(
    ("group", "done", "style", "mends", "thought"),
    [
        ([call("get_price", item="pen")], [], 0.2, False, "I call get_price."),
        ([call("get_price", item="pen")] * 2, [], 0.3, False, "I call get_price twice."),
        (
            [call("get_price", item="lamp"), call("get_price", item="pen")],
            [],
            0.5,
            False,
            "I need the price of lamp and the price of pen, so I call get_price twice.",
        ),
        (
            [call("get_price", item="lamp 7")],
            [[call("get_price", "Error: ask for lamp 7.", item="lamp"), call("get_stock", "30", item="pen")]],
            1.0,
            True,
            "The stock of pen is 30.\nThat did not work. I need the price of lamp 7, so I call get_price again.\n"
            "Check: get_price with item lamp 7, right.",
        ),
        (
            [call("free_seats", work=(Operation(40, "+", 2),), train=42)],
            [[call("next_train", "40", town="Oslo")]],
            0.4,
            False,
            "40 + 2 = 42.\nI call free_seats.",
        ),
        ([call("blorf", key="zan")], [], 1.0, False, "I call blorf with zan."),
    ],
)
def test_thoughts_before_calls_read_as_english(group, done, style, mends, thought):
    assert calling.before_calls(group, done, style, mends=mends) == thought


def test_a_reply_is_checked_against_what_the_catalogues_tools_said():
    done = [[call("get_price", "12", item="lamp"), call("get_stock", "7", item="pen")]]
    said = "I have all I need: 12."
    assert calling.before_reply(done, (), ("12",), 1.0) == f"{said}\nCheck: the price of lamp is 12, right."
    assert calling.before_reply(done, (), ("12",), thoughts.DETAIL - 0.01) == said
    assert calling.before_reply([[call("blorf", "12", key="zan")]], (), ("12",), 1.0) == said


def test_the_thought_before_a_later_hop_says_what_the_last_one_found():
    done = [[call("blorf", "34", key="Kex"), call("blorf", "20", key="Zan")]]
    group = [call("glim", rate=34, depth="Tru"), call("glim", rate=20, depth="Tru")]
    found = "blorf with Kex is 34, blorf with Zan is 20.\n"
    called = "I call glim with 34 (depth Tru) and glim with 20 (depth Tru)."
    assert calling.before_calls(group, done, 1.0, noun=calling.labelled) == found + called
    assert calling.before_calls(group, done, thoughts.LINES - 0.01, noun=calling.labelled) == called


@pytest.mark.parametrize("template", ["instruct", "thinking"])
def test_composed_documents_call_what_the_prompt_gives_or_a_tool_has_said(template):
    rng, turns_of_calls = Random(f"composed:{template}"), set()
    for _ in range(300):
        dialogue = tooling.draw_composed(rng, template, rng.random())
        assert dialogue.family == "composed"
        said = ""
        for turn in dialogue.turns:
            assert all(str(value) in said for _, given in turn.calls for value in given.values())
            said += f" {turn.content}"
        turns_of_calls.add(sum(bool(turn.calls) for turn in dialogue.turns))
        assert (dialogue.turns[-1].thought is None) == (template == "instruct")
        assert render.segments(dialogue)
    assert {1, 2, 4, 5} <= turns_of_calls


def test_dropped_thoughts_leave_the_last_one():
    rng, dropped = Random(8), 0
    for task in tasks(200, kind="route", seed=9):
        turns = [turn for turn in calling.task_turns(rng, task, "thinking", 1.0) if turn.role == "assistant"]
        assert turns[-1].thought
        dropped += any(turn.thought is None for turn in turns)
    assert 20 < dropped < 150


def test_an_agent_that_chose_its_depth_thought_where_there_was_something_to_work_out():
    """Some histories keep just the thoughts of steps that work; a deep step without one says its values on the way."""
    rng, by_need, told = Random(8), 0, 0
    for task in tasks(600, kind="work", seed=9):
        turns = [turn for turn in calling.task_turns(rng, task, "thinking", 1.0) if turn.role == "assistant"]
        deep = [any(call.work for call in group) for group in task.rounds]
        earlier = list(zip(turns[:-1], deep, strict=False))
        by_need += {True, False} == {bool(turn.thought) for turn, _ in earlier} and all(
            bool(turn.thought) == worked for turn, worked in earlier
        )
        for turn, _ in earlier:
            assert not (turn.thought and turn.content)
            told += bool(turn.content)
    assert by_need > 5
    assert told > 5
