"""Documents of conversations, forms, many tools, requests without a tool: what they say is true, and fits."""

import json
import re
from random import Random

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builtin_pair.training import documents, forms, thoughts
from builtin_pair.training.phrasing import rephrased
from builtin_pair.training.render import TrainingDialogue, segments

TEMPLATES = ("instruct", "thinking")
WRONG = ("No, I made a mistake.", "You are right, that was wrong.")


def drawn(family: str, template: str, style: float, count: int = 150) -> list[TrainingDialogue]:
    rng = Random(f"{family}:{template}:{style}")
    return [documents.draw(rng, family, template, style) for _ in range(count)]  # type: ignore[arg-type]


def answer_of(text: str) -> str:
    return re.findall(r"answers? (?:is|are) (.+?)\.", text)[-1]


def applied(value: int, text: str) -> int:
    """A follow-up as a reader takes it: one number, and a word that says what is done with it."""
    (number,) = map(int, re.findall(r"\d+", text))
    low = text.lower()
    if re.search(r"times|multiply|of those", low):
        return value * number
    return value - number if re.search(r"take|subtract|minus|less|lost|gone|decrease|without", low) else value + number


@pytest.mark.parametrize(
    ("template", "style"), [("instruct", 0.0), ("thinking", 0.0), ("thinking", 0.5), ("thinking", 1.0)]
)
def test_follow_ups_go_on_from_the_last_answer(template: str, style: float) -> None:
    seen = 0
    for dialogue in drawn("conversation", template, style, 300):
        turns = dialogue.turns
        for before, asked, reply in zip(turns[1::2], turns[2::2], turns[3::2], strict=False):
            if not re.search(r"\d", asked.content) or "answer" not in reply.content:
                continue
            assert int(answer_of(reply.content)) == applied(int(answer_of(before.content)), asked.content)
            seen += 1
            if reply.learn and reply.thought and style >= thoughts.EQUATIONS:
                assert f"= {answer_of(reply.content)}" in reply.thought
    assert seen > 100


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_doubted_answer_is_kept_when_it_is_right_and_mended_when_it_is_wrong(template: str) -> None:
    kept = mended = 0
    for dialogue in drawn("conversation", template, 1.0 if template == "thinking" else 0.0, 400):
        first, asked, reply = dialogue.turns[1:4] if len(dialogue.turns) == 4 else (None, None, None)
        if reply is None or not re.search(r"Yes|mistake|wrong", reply.content):
            continue
        same = answer_of(first.content) == answer_of(reply.content)
        assert same == reply.content.startswith("Yes"), (asked.content, reply.content)
        assert same != reply.content.startswith(WRONG)
        if template == "thinking":
            assert ("that is right." if same else "that is wrong.") in reply.thought
        kept, mended = kept + same, mended + (not same)
    assert kept > 40
    assert mended > 20


@pytest.mark.parametrize("template", TEMPLATES)
def test_thanks_are_answered_without_a_number(template: str) -> None:
    thanks = [d for d in drawn("conversation", template, 1.0, 400) if "elcome" in d.turns[-1].content]
    assert len(thanks) > 10
    assert not any(re.search(r"\d", dialogue.turns[-1].content) for dialogue in thanks)


@pytest.mark.parametrize("template", TEMPLATES)
def test_nothing_that_was_answered_before_is_learned_under_thinkings_template(template: str) -> None:
    for dialogue in drawn("conversation", template, 1.0):
        learned = [text for text, flag in segments(dialogue) if flag]
        assert learned
        assert template == "instruct" or len(learned) == 1


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_form_is_filled_with_what_the_text_says(template: str) -> None:
    sizes, worked_out = set(), 0
    for dialogue in drawn("form", template, 0.0, 200):
        prompt, reply = dialogue.turns
        if reply.calls:
            ((name, value),) = reply.calls
            (spec,) = dialogue.tools
            assert name == spec.name
            schema = spec.parameters
        else:
            value = json.loads(reply.content)
            schema = json.loads(dialogue.system.removeprefix(forms.SCHEMA_NOTE))
        jsonschema.validate(value, {**schema, "additionalProperties": False})
        told = [bool(re.search(rf"(?<!\w){re.escape(str(each))}", prompt.content)) for each in value.values()]
        worked_out += not all(told)
        assert told.count(False) <= (len(told) <= 2), "one field at most is worked out, in a form of one or two"
        sizes.add(len(value))
    assert sizes == {1, 2, 3, 4}
    assert worked_out > 10


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_tool_of_many_is_called_only_where_it_is_bound(template: str) -> None:
    bound, refused, coded = set(), 0, 0
    for dialogue in drawn("crowd", template, 0.0, 200):
        names = {spec.name for spec in dialogue.tools}
        assert len(names) == len(dialogue.tools)
        bound.add(len(names))
        reply = dialogue.turns[1]
        if not reply.calls:
            refused += 1
            assert not any(f" {name} " in f" {dialogue.turns[0].content} " for name in names)
            continue
        ((name, arguments),) = reply.calls
        (spec,) = [spec for spec in dialogue.tools if spec.name == name]
        jsonschema.validate(dict(arguments), dict(spec.parameters))
        coded += any(
            re.fullmatch(r"[A-Z]+-?\d+|\d+[A-Z]|\w+_\d+", str(each)) is not None for each in arguments.values()
        )
    assert max(bound) >= 17
    assert 0.08 < refused / 200 < 0.3
    assert coded > 15


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_short_lookup_is_made_where_its_tool_is_bound_and_refused_where_not(template: str) -> None:
    """The words are the same, with one tool or several: only the tools tell."""
    alone = dict.fromkeys((True, False), 0)
    for dialogue in drawn("short", template, 1.0, 300):
        called = [name for turn in dialogue.turns for name, _ in turn.calls]
        alone[bool(called)] += len(dialogue.tools) == 1
        if called:
            assert set(called) <= {spec.name for spec in dialogue.tools}
            if dialogue.turns[-1].role == "assistant" and not dialogue.turns[-1].calls:
                assert dialogue.turns[-1].content == f"The answer is {dialogue.turns[-2].content}."
        else:
            assert dialogue.tools
            assert "tool" in dialogue.turns[-1].content or "answer" not in dialogue.turns[-1].content
    assert min(alone.values()) > 5
    assert alone[True] > alone[False]


@given(st.integers(0, 10_000), st.sampled_from(["question", "route", "hard", "novel"]))
def test_other_words_keep_numbers_names_and_quotes(seed: int, family: str) -> None:
    rng = Random(seed)
    text = documents.FAMILIES[family](rng, "instruct", 0.0).turns[0].content
    told = rephrased(Random(seed), text)
    assert re.findall(r"\d+", told) == re.findall(r"\d+", text)
    assert re.findall(
        r"'[^']+'|\"[^\"]+\"", told.replace("what's", "").replace("What's", "").replace("I'd", "")
    ) == re.findall(r"'[^']+'|\"[^\"]+\"", text)
    inside = re.findall(r"(?<!^)(?<![.?!:\n] )\b[A-Z]\w+", text)
    assert all(name in told for name in inside)


def test_ids_are_letters_and_digits() -> None:
    rng = Random(3)
    codes = {forms.code(rng) for _ in range(300)}
    assert all(re.search(r"\d", each) and re.search(r"[A-Za-z]", each) for each in codes)
    assert any(re.fullmatch(r"[A-Z]\d{1,3}", each) for each in codes)
