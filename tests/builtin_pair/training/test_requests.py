"""Requests written by hand: every line can be filled, follows its own schemas, and asks for what stands in it."""

import json
from dataclasses import replace
from random import Random

import jsonschema
import pytest

from builtin_pair.training import requests

FILES = sorted(requests.FOLDER.glob("*.jsonl"))


def problems(entry: requests.Entry) -> list[str]:
    """List what is wrong with an entry, over several fillings."""
    found = []
    if entry.kind not in requests.KINDS:
        return [f"no kind {entry.kind!r}"]
    if bool(entry.ask) == bool(entry.talk):
        found.append("either ask or talk")
    if entry.talk and len(entry.talk) % 2 == 0:
        found.append("talk ends with the user")
    if (entry.kind == "small_talk") != bool(entry.replies):
        found.append("small_talk, and nothing else, has replies")
    if entry.kind in ("no_tool_fits", "no_tools", "follow_up", "small_talk") and entry.calls:
        found.append(f"{entry.kind} makes no calls")
    if entry.kind in ("one_call", "two_calls", "call_then_work", "ids", "extract") and not entry.calls:
        found.append(f"{entry.kind} makes calls")
    if entry.kind == "no_tool_fits" and (not entry.tools or entry.answer is not None):
        found.append("no_tool_fits has tools and no answer")
    if entry.kind not in ("extract", "no_tool_fits", "small_talk") and entry.answer is None:
        found.append(f"{entry.kind} has an answer")
    if entry.kind != "extract" and [len(turn) for turn in entry.calls] != [len(turn) for turn in entry.results]:
        found.append("as many results as calls, round by round")
    rng = Random(json.dumps(entry.ask or entry.talk))
    for variant in [replace(entry, ask=(ask,)) for ask in entry.ask] or [entry]:
        for _ in range(6):
            try:
                wrong = misfits(requests.fill(rng, variant))
            except (ValueError, KeyError, IndexError, TypeError) as error:
                wrong = f"cannot be filled: {error}"
            if wrong:
                return [*found, f"{wrong} ({variant.ask})"]
    return found


def misfits(filled: requests.Filled) -> str | None:
    """Say what is wrong with the calls of a filled entry."""
    specs = {tool.name: tool for tool in filled.tools}
    known = " ".join(filled.said).lower()
    for calls, results in zip(filled.calls, filled.results or [()] * len(filled.calls), strict=False):
        for name, arguments in calls:
            if name not in specs:
                return f"no tool {name!r}"
            schema = specs[name].parameters
            try:
                jsonschema.validate(dict(arguments), dict(schema))
            except jsonschema.ValidationError as error:
                return f"{name}: {error.message}"
            for key, value in arguments.items():
                if key not in schema["properties"]:
                    return f"{name} has no parameter {key!r}"
                free = not isinstance(value, bool) and "enum" not in schema["properties"][key]
                if free and str(value).lower() not in known:
                    return f"{value!r} stands neither in the request nor in an earlier result"
        known += " " + " ".join(results).lower()
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_line_can_be_filled_and_holds_what_it_asks_for(path):
    wrong = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found = problems(requests.entry(json.loads(line)))
        except (json.JSONDecodeError, KeyError) as error:
            found = [repr(error)]
        wrong += [f"line {number}: {each}" for each in found]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "word", "said"),
    [
        ("a {x}", "air pump", "an air pump"),
        ("An {x}?", "lamp", "A lamp?"),
        ("is it a {x} or not", "unit", "is it a unit or not"),
        ("the {x}", "apple", "the apple"),
        ("data {x}", "apple", "data apple"),
    ],
)
def test_articles_fit_what_fills_the_slot(text, word, said):
    assert requests.put(text, {"x": word}) == said


def test_the_largest_is_who_has_most_whatever_the_numbers():
    data = {"kind": "no_tools", "ask": ["{a} and {b}?"], "slots": {"a": "int 1 9", "b": "int 1 9"}}
    entry = requests.entry(data | {"answer": "largest Tom={a} | Eva={b}"})
    for seed in range(30):
        filled = requests.fill(Random(seed), entry)
        first, second = (int(word) for word in filled.said[0].rstrip("?").split(" and "))
        assert filled.answer == ("Tom" if first > second else "Eva")
