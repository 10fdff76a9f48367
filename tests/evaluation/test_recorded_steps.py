"""Recorded steps: which replies agree, what a majority is, and which calls of a ledger can be asked again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dami_agent import ChatDAMI
from dami_agent.answers import answer_of
from dami_agent.errors import LedgerError, UsageError
from dami_agent.evaluation.asked import AnswerFile, SamplePlan
from dami_agent.evaluation.call_batches import AnswerOutcome, PairSource
from dami_agent.evaluation.majority import majority, vote
from dami_agent.evaluation.recorded_steps import RecordedStep, recorded_steps, with_texts
from dami_agent.ledger import CallRow, Ledger
from dami_agent.types import InvalidToolCall, Reply, ToolCall


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(id=f"{name}-{len(arguments)}", name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12", "The result is 12."),
        ("7 + 5 = 12", "12.0"),
        ("So:\n\n**Answer: 1,200**", "1200"),
        ("We get \\boxed{12} in the end, of 30 tried.", "12"),
        ("\\boxed{\\frac{1}{2}} it is", "Hence, as it was to be shown: \\boxed{\\frac{1}{2}}"),
        ('{"a": 1.0, "b": [2]}', '{"b": [2.0], "a": 1}'),
        ("Paris.", "  paris"),
        ("At 10:30.", "**10:30**"),
        ("Sorted: 1, 2 and 3", "1 2 3"),
        ("Room 4: 12", "1. 12"),
        ("答えは12です", "12"),
        ("12 cm", "12cm"),
        ("\\boxed{$1,200}", "1200"),
        ("The lamp is *red*, I think", "the lamp is red; I think."),
    ],
)
def test_replies_that_say_the_same_agree(one: str, other: str) -> None:
    assert answer_of(Reply(content=one)) == answer_of(Reply(content=other)) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12", "13"),
        ("12", "-12"),
        ("Paris", "London"),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 1}', '{"a": 2}'),
        ("[12]", "12"),
        ("Berlin has about four million people, and it was founded long ago, in 1237", "1237"),  # a long last line
        ("not red", "red"),
        ("\\boxed{\\frac{1}{2}}", "\\boxed{\\frac{3}{2}}"),
        ("\\boxed{-x}", "\\boxed{x}"),
        ("\\boxed{\\frac{1}{\\sqrt{2}}}", "\\boxed{\\frac{3}{\\sqrt{2}}}"),
        ("\\boxed{1,2}", "\\boxed{3,2}"),
        ("It is 1/3.", "It is 2/3."),
        ("At 10:30", "At 11:30"),
        ("2024-01-05", "2023-02-05"),
        ("1, 2, 3", "2, 1, 3"),
        ("1 and 2", "3 and 2"),
        ("A4", "B4"),
        ("1234567890", "1234567891"),
        ("9007199254740993", "9007199254740992"),
    ],
)
def test_replies_that_say_something_else_do_not(one: str, other: str) -> None:
    assert answer_of(Reply(content=one)) != answer_of(Reply(content=other))


def test_calls_are_compared_by_name_and_arguments_in_any_order() -> None:
    lamp, chair = call("price", item="lamp", count=2), call("price", item="chair")
    same = ToolCall(id="other", name="price", arguments={"count": 2.0, "item": "lamp"})
    both = answer_of(Reply(content="Let me see.", tool_calls=(lamp, chair)))
    assert both == answer_of(Reply(tool_calls=(chair, same)))
    assert both != answer_of(Reply(tool_calls=(lamp,)))
    assert both != answer_of(Reply(tool_calls=(lamp, lamp)))
    assert answer_of(Reply(tool_calls=(lamp,))) != answer_of(Reply(tool_calls=(call("cost", item="lamp", count=2),)))
    broken = InvalidToolCall(id="9", name=None, text="{", error="cut off")
    assert answer_of(Reply(content="12", invalid_tool_calls=(broken,))) is None
    assert answer_of(Reply(content=" \n")) is None


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ("aaabc", "a"),
        ("aabbc", None),  # the most, and not more than half
        ("aabb", None),
        ("aa--", None),  # what has no answer counts as a reply
        ("aaa--", "a"),
        ("-----", None),
    ],
)
def test_a_majority_is_more_than_half_of_all_replies(answers: str, found: str | None) -> None:
    outcomes = [
        AnswerOutcome(right=False, tokens=9, template="thinking", answer=None if each == "-" else each)
        for each in answers
    ]
    assert majority(outcomes) == found
    assert majority([dataclasses.replace(each, finished=False) for each in outcomes]) is None  # cut off: no answer


Recorder = Callable[..., list[CallRow]]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorder:
    """Calls of the built-in pair, on record with their texts."""

    def record(*asked: Any, **settings: Any) -> list[CallRow]:
        ledger = Ledger.open(tmp_path / "mine.sqlite", **{"keep_text": True} | settings)
        model = ChatDAMI(reasoning_intensity=0.0, ledger=ledger, seed=3, max_tokens=60)
        for each in asked:
            model.bind_tools([price]).invoke(each) if "cost" in each else model.invoke(each)
        return list(ledger.rows())

    return record


def price(item: str) -> str:
    """Get the price of an item."""
    return "7"


def fingerprint() -> str:
    return PairSource().open().engine.info.fingerprint


def test_steps_of_this_pair_are_taken_each_once_the_newest_first(recorded: Recorder) -> None:
    rows = recorded("What is 3 + 4?", "What does a lamp cost?", "What is 5 + 4?", "What is 3 + 4?")
    steps = recorded_steps(rows, fingerprint())
    assert [step.step.messages[-1].content for step in steps] == [
        "What is 3 + 4?",
        "What is 5 + 4?",
        "What does a lamp cost?",
    ]
    assert [tool.name for tool in steps[2].step.tools] == ["price"]
    assert len({step.run for step in steps}) == 3
    assert len(recorded_steps(rows, fingerprint(), 2)) == 2


def test_what_cannot_be_asked_again_is_said(recorded: Recorder) -> None:
    rows = recorded("What is 3 + 4?")
    with pytest.raises(UsageError, match="none of the 1 calls on record has a text"):
        with_texts([dataclasses.replace(rows[0], prompt_text=None)])
    with pytest.raises(UsageError, match=r"no step on record was decoded by this pair \(another\), but by"):
        recorded_steps(rows, "another")
    with pytest.raises(LedgerError, match="on record cannot be read"):
        recorded_steps([dataclasses.replace(rows[0], prompt_text="{")], fingerprint())


PLAN = SamplePlan(lambdas=(0, 1), temperature=None, max_tokens=400)


def test_thinking_votes_and_a_vote_that_broke_off_goes_on(recorded: Recorder, tmp_path: Path) -> None:
    steps = recorded_steps(recorded("What is 3 + 4?", "What is 5 + 4?"), fingerprint())
    found = vote(PairSource(), PLAN, steps, votes=3, kept=tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    lines = file.read_text().splitlines()
    assert len(lines) == 6
    answers: dict[int, list[str | None]] = {}
    for (_, place), outcome in AnswerFile(file).read().items():
        answers.setdefault(place, []).append(outcome.answer)
    agreed = [step for _, step in found.asked.questions if isinstance(step, RecordedStep)]
    assert agreed
    for step in agreed:
        place = steps.index(dataclasses.replace(step, majority=None))
        assert answers[place].count(step.majority) >= 2
        assert step.right(Reply(content={"3": "It is 7.", "5": "9"}[step.step.messages[0].content[8]]))
        assert not step.right(Reply(content="11"))
    assert (found.steps, found.without) == (2, 2 - len(agreed))
    file.write_text("\n".join(lines[:4]))
    assert vote(PairSource(), PLAN, steps, votes=3, kept=tmp_path / "kept") == found
    assert sorted(file.read_text().splitlines()) == sorted(lines)


def test_what_a_hook_redacted_is_left_out(recorded: Recorder) -> None:
    rows = recorded("What is 3 + 4?", redact=lambda text: text.replace("3 + 4", "[gone, all of it]"))
    with pytest.raises(UsageError, match="texts of all 1 steps on record are not the prompts"):
        vote(PairSource(), PLAN, recorded_steps(rows, fingerprint()), votes=3)


def test_the_time_for_voting_is_half_of_all(recorded: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dami_agent.evaluation.majority._CHUNK", 1)
    steps = recorded_steps(recorded("What is 3 + 4?", "What is 5 + 4?"), fingerprint())
    times = iter([0.0, 51.0])
    found = vote(PairSource(), PLAN, steps, votes=3, seconds=100, clock=lambda: next(times))
    assert (found.steps, found.unasked) == (1, 1)
