"""Thoughts closed before their end: cut anywhere, learned from after the close alone, answered from what is there."""

from pathlib import Path
from random import Random

import pytest

import builtin_pair
from builtin_pair.training import cut, data, documents, mixtures, render, thoughts
from builtin_pair.training import tokenizer as tokens
from dami_agent.tasks.task import Operation

BASE = Path(builtin_pair.__file__).parent / "base"
WORK = (Operation(24, "+", 5), Operation(29, "*", 3), Operation(87, "-", 5))


def drawn(count, style=None):
    rng = Random(21)
    return [documents.draw(rng, "cut", "thinking", rng.random() if style is None else style) for _ in range(count)]


def test_only_what_stands_after_the_close_is_learned():
    for dialogue in drawn(300):
        *before, (reply, learned) = render.segments(dialogue)
        assert learned
        assert not any(flag for _, flag in before)
        assert "think>" not in reply
        assert before[-1][0].endswith(dialogue.turns[-1].closing)
        assert reply.endswith("<|im_end|>")


def test_a_thought_is_cut_anywhere():
    thought = thoughts.worked(WORK, 1.0)
    rng = Random(22)
    found = {cut.cut(rng, thought) for _ in range(3000)}
    assert all(thought.startswith(each) and each != thought for each in found)
    assert "" in found
    lines = {each.rpartition("\n")[2] for each in found}
    assert {"First, 24 + 5 = 2", "Check: ", "So the result is 8"} <= lines  # within a number and a line too


@pytest.mark.parametrize(
    ("style", "kept", "there"),
    [
        (0.2, "29, 87, 8", False),
        (0.2, "29, 87, 82", True),
        (0.4, "24 + 5 = 29, 29 * 3 = 87, 87 - 5 = 8", False),
        (0.4, "24 + 5 = 29, 29 * 3 = 87, 87 - 5 = 82", True),
    ],
)
def test_the_result_is_reached_where_its_last_digit_stands(style, kept, there):
    assert cut.reached(kept, thoughts.worked(WORK, style), WORK, style) is there


@pytest.mark.parametrize("style", [0.2, 0.4, 0.6, 0.75, 1.0])
def test_the_answer_gives_the_result_that_was_reached_and_else_is_instructs(style):
    thought = thoughts.worked(WORK, style)
    turn = render.Turn("assistant", "The answer is 82.", thought)
    said = set()
    for seed in range(200):
        found = cut.closed(Random(seed), turn, "29, 87. The answer is 82.", WORK, style)
        there = cut.reached(found.given, thought, WORK, style)
        assert found.content == ("The answer is 82." if there else "29, 87. The answer is 82.")
        said.add(there)
    assert said == {True, False}


def test_agent_steps_call_and_reply_after_a_cut_thought():
    last = [dialogue.turns[-1] for dialogue in drawn(400) if dialogue.tools]
    assert sum(bool(turn.calls) for turn in last) > 50
    assert sum(not turn.calls for turn in last) > 20


def test_cuts_fall_between_tokens():
    """The beginning of a thought is encoded as the thought begins, or the pair would learn from what it never sees."""
    tokenizer = tokens.load(BASE)
    rng, same = Random(23), 0
    for _ in range(200):
        thought = thoughts.worked(documents.draw_train_question(rng).work, rng.uniform(thoughts.EMPTY, 1.0))
        kept = cut.cut(rng, thought)
        whole, ids = (tokenizer.encode(text, add_special_tokens=False).ids for text in (thought, kept))
        same += whole[: len(ids)] == ids
    assert same >= 180  # an everyday word and the space before it are one token


def test_every_stage_that_answers_learns_from_them():
    for mixture in (mixtures.LATE, mixtures.LAST, mixtures.INSTRUCT, mixtures.THINKING):
        assert any(part.family == "cut" and part.template == "thinking" for part in mixture)


def test_they_fit():
    tokenizer = tokens.load(BASE)
    assert max(len(each.ids) for each in data.encode(tokenizer, drawn(100, 1.0))) < data.LONGEST
