"""Quick measurements: generations are parsed as they are written, several calls too; an oracle solves every task."""

from pathlib import Path
from random import Random

import pytest

import builtin_pair
from builtin_pair.training import calling, documents, evaluate, slips
from builtin_pair.training import tokenizer as tokens
from builtin_pair.training.render import Dialogue, Turn, call_text, segments
from builtin_pair.training.sampler import Sampled
from dami_agent.tasks import agent_tasks


@pytest.fixture(scope="module")
def bench():
    return evaluate.Bench(tokens.load(Path(builtin_pair.__file__).parent / "base"))


def written(bench, text, *, finished=True):
    ids = bench.tokenizer.encode(text + "<|im_end|>" * finished, add_special_tokens=False).ids
    return Sampled(ids, [0.0] * len(ids), finished)


CALLS = (("get_price", {"item": "lamp"}), ("free_seats", {"train": 42}), ("get_budget", {}))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize("said", ["", "29, 82."])
def test_every_call_and_what_is_said_before_it_is_read(bench, count, said):
    calls = CALLS[:count]
    text = "\n".join([said, *(call_text(*call) for call in calls)])
    reply = bench.parse(written(bench, text), "instruct")
    assert (reply.text, reply.calls, reply.thought, reply.closed) == (said, calls, "", True)
    thinking = bench.parse(written(bench, f"I call it.\n</think>\n\n{text}"), "thinking")
    assert (thinking.text, thinking.calls, thinking.thought, thinking.closed) == (said, calls, "I call it.", True)


def test_a_broken_call_is_no_call_of_any_tool_and_an_open_thought_is_not_closed(bench):
    broken = bench.parse(
        written(bench, call_text(*CALLS[0]) + '\n<tool_call>\n{"name": "get_\n</tool_call>'), "instruct"
    )
    assert broken.calls == (CALLS[0], ("", {}))
    assert not bench.parse(written(bench, "I think", finished=False), "thinking").closed
    assert not bench.parse(written(bench, "I think"), "thinking").closed


@pytest.mark.parametrize("template", ["instruct", "thinking"])
def test_an_oracle_solves_every_task_and_the_dialogue_becomes_its_document(bench, template):
    for task in agent_tasks("test", 60, kinds=("route", "work", "novel")):
        style = 1.0 if template == "thinking" else 0.0
        document = calling.task_turns(Random(0), task, template, style, partial=False)
        episode = evaluate.Episode(task, [Turn("user", task.prompt)])
        for turn in (turn for turn in document if turn.role == "assistant"):
            assert episode.text is None
            text = segments(Dialogue([Turn("user", ""), turn], template=template))[-1][0].removesuffix("<|im_end|>")
            evaluate._advance(episode, bench.parse(written(bench, text), template), 1, True)
        assert task.grade(episode.text)
        assert episode.steps == task.steps
        assert [(t.role, t.content, t.calls) for t in episode.turns] == [
            (t.role, t.content, t.calls) for t in document[:-1]
        ]


def test_the_cap_of_a_reply_and_of_a_slips_thought_is_above_every_thought_in_training(bench):
    rng = Random(8)
    longest = max(
        len(bench.tokenizer.encode(turn.thought or "", add_special_tokens=False).ids)
        for family in ("question", "work")
        for _ in range(300)
        for turn in documents.draw(rng, family, "thinking", 1.0).turns
    )
    assert 500 < longest < slips.LIMIT < bench.limit
