"""`prefix=`: one reading of a prompt for replies at every λ, asked for at init, bound, per call or in a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache

from dami_agent import ChatDAMI, ReasoningPolicy
from dami_agent.cli.explain import story
from dami_agent.errors import InvalidPolicy, InvalidRequest
from dami_agent.ledger import Ledger, Savings
from dami_agent.policy import Frontier
from dami_agent.types import Intensity

QUESTION = "Start with 7. Add 5. Multiply by 3. Take away 4. What is the result?"


def read_at(reply: Any) -> Any:
    return reply.response_metadata["prefix_intensity"]


def cached(reply: Any) -> int:
    return int(reply.usage_metadata["input_token_details"]["cache_read"])


def reread(reply: Any) -> int:
    return int(reply.response_metadata["reread_tokens"])


def test_a_change_of_lambda_reads_nothing_again(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    chat = ChatDAMI(prefix="shared", seed=1, max_tokens=40, ledger=ledger)
    first, second, third = (chat.invoke(QUESTION, reasoning_intensity=value) for value in (0.3, 0.8, 1.0))
    assert [read_at(reply) for reply in (first, second, third)] == [1.0, 1.0, 1.0]
    assert cached(second) == cached(third) > 0
    assert [row.intensity_prompt for row in ledger.rows()] == [1.0, 1.0, 1.0]
    assert [row.cached_tokens for row in ledger.rows()][1:] == [cached(second), cached(third)]
    exact = [chat.invoke(QUESTION, reasoning_intensity=value, prefix="exact") for value in (0.35, 0.85)]
    assert [(read_at(reply), cached(reply)) for reply in exact] == [(None, 0), (None, 0)]


def test_a_change_of_lambda_says_what_it_read_again(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    chat = ChatDAMI(prefix="exact", seed=1, max_tokens=40, ledger=ledger)
    question = f"Ada asks: {QUESTION}"  # no other test's: pairs, and what they keep of prompts, last for a process
    replies = [chat.invoke(question, reasoning_intensity=value) for value in (0.41, 0.83, 0.41)]
    known = cached(replies[2])
    assert known > 0
    assert [reread(reply) for reply in replies] == [0, known, 0]
    assert [row.reread_tokens for row in ledger.rows()] == [0, known, 0]
    said = [dict(story(row, Savings(None))).get("read again") for row in ledger.rows()]
    assert said == [None, f"{known} tokens of the prompt, kept from before but read at another λ", None]


def test_an_answer_of_its_own_lambda_counts_both_readings() -> None:
    chat = ChatDAMI(prefix="exact", seed=1)
    question = f"Bob asks: {QUESTION}"
    known = chat.invoke(question, reasoning_intensity=0.43).usage_metadata["input_tokens"] // 16 * 16
    policy = {"default": {"intensity": 0.87, "answer_intensity": 0.67}}
    reply = ChatDAMI(prefix="exact", seed=1, policy=policy).invoke(question)
    assert reply.response_metadata["thought_closed_by"] == "model"
    assert reread(reply) in (2 * known, 2 * known - 16)  # the prompt's last token is always read


@pytest.mark.parametrize("given", ["init", "bind", "call", "policy", "effort"])
def test_it_can_be_asked_for_everywhere(given: str) -> None:
    settings: dict[str, Any] = {"reasoning_intensity": 0.4, "seed": 1, "max_tokens": 8}
    if given == "init":
        reply = ChatDAMI(prefix="shared", **settings).invoke(QUESTION)
    elif given == "bind":
        reply = ChatDAMI(**settings).bind(prefix="shared").invoke(QUESTION)
    elif given == "call":
        reply = ChatDAMI(prefix="exact", **settings).invoke(QUESTION, prefix="shared")
    elif given == "policy":
        reply = ChatDAMI(policy={"prefix": "shared"}, **settings).invoke(QUESTION)
        assert read_at(ChatDAMI(policy={"prefix": "shared"}, prefix="exact", **settings).invoke(QUESTION)) is None
    else:
        reply = ChatDAMI(prefix="shared", reasoning_effort="low", seed=1, max_tokens=8).invoke(QUESTION)
    assert read_at(reply) == 1.0


def test_auto_shares_where_the_frontier_says_that_it_is_free() -> None:
    rows = [{"lambda": value, "accuracy": 0.5 + value / 4, "tokens": 10 + 100 * value} for value in (0, 0.5, 1)]
    for prefix, expected in (
        ({"intensity": 1, "free": True}, 1.0),
        ({"intensity": 1, "free": False}, None),
        (None, None),
    ):
        frontier = Frontier.from_dict({"rows": rows} | ({} if prefix is None else {"prefix": prefix}))
        assert frontier.prefix_for("auto") == expected
        assert frontier.prefix_for("exact") is None
        assert frontier.prefix_for("shared") == Intensity(1)
        chat = ChatDAMI(policy=ReasoningPolicy(frontier=frontier), reasoning_intensity=0.5, seed=1, max_tokens=8)
        assert read_at(chat.invoke(QUESTION)) == expected
    shared = Frontier.from_dict({"rows": rows, "prefix": {"intensity": 0.5, "free": True}})
    assert shared.prefix_for("auto") == shared.prefix_for("shared") == 0.5
    assert shared.fingerprint != Frontier.from_dict({"rows": rows}).fingerprint


def test_replies_read_otherwise_are_cached_apart() -> None:
    chat = ChatDAMI(reasoning_intensity=0.4, seed=1, max_tokens=8, cache=InMemoryCache())
    assert read_at(chat.invoke(QUESTION, prefix="exact")) is None
    assert read_at(chat.invoke(QUESTION)) == 1.0, "measured to be free for the built-in pair"
    assert read_at(chat.invoke(QUESTION, prefix="exact")) is None


@pytest.mark.parametrize("wrong", ["sharde", 1, True, ["shared"]])
def test_other_words_are_refused_before_work_begins(wrong: Any) -> None:
    for attempt in (
        lambda: ChatDAMI(prefix=wrong),
        lambda: ChatDAMI().bind(prefix=wrong).invoke(QUESTION),
        lambda: ChatDAMI().invoke(QUESTION, prefix=wrong),
    ):
        with pytest.raises((InvalidRequest, ValueError), match="prefix"):
            attempt()
    with pytest.raises(InvalidPolicy, match="prefix"):
        ReasoningPolicy.from_dict({"prefix": wrong})
