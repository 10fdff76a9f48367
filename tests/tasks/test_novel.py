"""Tools never seen: words of one split only, prompts that fit one bound tool, schemas as LangChain writes them."""

import re
from itertools import permutations
from random import Random
from typing import Annotated

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from dami_agent.tasks import novel_task
from dami_agent.tasks.invented import Argument, foreign, schema
from dami_agent.tasks.novel import novel_mended, novel_pair, novel_tasks, novel_tool, novel_tools
from dami_agent.tasks.words import NOUNS, VERBS, made_up, word_split


def parts(name):
    """A name's words: snake_case, camelCase."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+", name)]


def test_made_up_words_of_test_are_never_those_of_training():
    rng = Random(0)
    train, test = ({made_up(rng, split) for _ in range(500)} for split in ("train", "test"))
    assert not train & test
    assert all(word_split(word.upper()) == "test" for word in test)


def test_names_and_arguments_of_a_test_tool_belong_to_the_test_split():
    rng = Random(2)
    for _ in range(300):
        spec = novel_task(rng, "test").tools[0].spec
        for word in [*parts(spec.name), *(part for key in spec.parameters["properties"] for part in parts(key))]:
            assert word_split(word) == "test"


def test_a_task_asks_for_one_of_the_bound_tools():
    rng, by_description, told = Random(4), 0, 0
    for _ in range(300):
        task = novel_task(rng, "test", bound=3)
        call = task.plan[0]
        assert len(task.tools) == len({tool.spec.name for tool in task.tools}) == 3
        assert task.steps == 2
        assert task.tool(call.name).call(call.arguments) == call.result
        assert task.grade(task.reply)
        assert all(str(value) in task.prompt for value in call.arguments.values())
        if call.name not in task.prompt:
            by_description += 1
            asked = [tool for tool in task.tools if _described(tool.spec, task.prompt)]
            assert [tool.spec.name for tool in asked] == [call.name]
            told += (
                re.search(r"(Please|want to|Can you|this:|Time to|,) " + " ".join(parts(call.name)), task.prompt)
                is not None
            )
    assert 90 < by_description < 210
    assert told > 5


def _described(spec, prompt):
    """Whether the prompt has what the tool finds, or all words of its name one after the other."""
    subject = re.match(r"[A-Z][a-z]+(?: up)? the ([a-z]+) of", spec.description)[1]
    asked = re.search(rf"\b(?:the|a|Which) {subject}\b", prompt) is not None
    return asked or re.search(rf"\b{' '.join(parts(spec.name))}\b", prompt) is not None


def test_two_calls_go_together_or_in_turn():
    rng, seen = Random(6), set()
    for _ in range(200):
        bound = rng.choice((1, 2, 3))
        task = novel_pair(rng, "train", bound=bound)
        assert len(task.tools) == bound
        assert [task.tool(call.name).call(call.arguments) for call in task.plan] == list(task.answers)
        assert task.plan[0] != task.plan[1]
        assert len(task.rounds) == (2 if task.prompt.startswith("First: ") else 1)
        seen.add((len(task.rounds), task.plan[0].name == task.plan[1].name))
    assert len(seen) == 4


def test_an_error_of_a_new_tool_is_mended_as_its_text_says():
    rng = Random(9)
    for _ in range(200):
        task = novel_mended(rng, "train", bound=rng.choice((1, 2)))
        wrong, right = task.plan
        changed = [key for key in wrong.arguments if wrong.arguments[key] != right.arguments[key]]
        assert len(changed) == 1
        assert wrong.result.startswith("Error")
        assert str(right.arguments[changed[0]]) in wrong.result
        assert [task.tool(call.name).call(call.arguments) for call in task.plan] == [wrong.result, right.result]
        assert task.answers == (right.result,)


@pytest.mark.parametrize("split", ["train", "calibration", "test"])
def test_nothing_about_one_bound_tool_says_what_another_finds_or_its_whole_name(split):
    rng = Random(f"apart:{split}")
    for _ in range(100):
        tools = novel_tools(rng, split, 3, named=0.5)
        for one, other in permutations(tools, 2):
            said = set(re.findall(r"[a-z]+", other.spec.description.lower()))
            said |= {part for name in (other.spec.name, *other.arguments) for part in parts(name)}
            assert one.subject[0] not in said
            assert not {*parts(one.spec.name)} <= said


def test_many_names_say_what_the_tool_finds():
    rng = Random(15)
    told = sum(each.subject[0] in parts(each.spec.name) for each in (novel_tool(rng, "train") for _ in range(400)))
    assert 80 < told < 220


class Class(BaseModel):
    """A note."""

    first: str = Field(description="of the note")
    second: str | None = None


class Dictionary(TypedDict):
    """A note."""

    first: Annotated[str, ..., "of the note"]


def shape(parameters):
    """Key orders of a schema, without its names."""
    return list(parameters), [list(entry) for entry in parameters["properties"].values()]


def test_schemas_have_the_key_order_langchain_gives_classes_and_dicts():
    rng, arguments = Random(1), [Argument("first", "string", "x")]
    wanted = convert_to_openai_tool(Dictionary)["function"]["parameters"]
    assert shape(schema(rng, "train", arguments, form="dict", described=True, optional=False)) == shape(wanted)
    for form, given in (("class", Class.model_json_schema()), ("tool", Class)):
        order, entries = shape(convert_to_openai_tool(given)["function"]["parameters"])
        drawn = [shape(schema(rng, "train", arguments, form=form, described=True, optional=False)) for _ in range(40)]
        assert all(keys == order for keys, _ in drawn)
        assert entries[0] in [found[0] for _, found in drawn]
    optional = [schema(rng, "train", arguments, form="tool", optional=True)["properties"] for _ in range(60)]
    assert {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None} in [
        list(each.values())[1] for each in optional if len(each) > 1
    ]


def test_foreign_text_is_not_latin():
    rng = Random(7)
    texts = [foreign(rng) for _ in range(200)]
    assert not any(re.search(r"[a-zA-Z\s]", text) for text in texts)
    assert any(re.search("[぀-ヿ]", text) for text in texts)


def test_words_of_every_split_are_enough():
    for split in ("train", "calibration", "test"):
        assert sum(word_split(word) == split for word in NOUNS) >= 4
        assert sum(word_split(word) == split for word in VERBS) >= 1


def test_several_tasks_share_their_tools_and_each_calls_another():
    rng = Random(9)
    for _ in range(60):
        tasks = novel_tasks(rng, "train", 3, bound=4, named=0.0)
        assert len(tasks) == 3
        assert len({task.plan[0].name for task in tasks}) == 3
        assert all(task.tools == tasks[0].tools and len(task.tools) == 4 for task in tasks)
        assert all(task.tool(call.name).call(call.arguments) == call.result for task in tasks for call in task.plan)
        assert not any(
            re.search(rf"\b{task.plan[0].name}\b", task.prompt) and "_" in task.plan[0].name for task in tasks
        )
