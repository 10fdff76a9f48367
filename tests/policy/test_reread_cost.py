"""`reread_cost`: an estimated λ stays at the last one where another is not worth reading the history again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from dami_agent import ChatDAMI
from dami_agent.cli.explain import story
from dami_agent.errors import InvalidPolicy
from dami_agent.ledger import Ledger, Savings
from dami_agent.policy import BudgetTracker, ReasoningPolicy
from dami_agent.policy.history import Histories
from dami_agent.testing import fake_chat_model
from dami_agent.types import (
    CallRecord,
    Candidate,
    Decision,
    Engine,
    Estimate,
    Generation,
    Intensity,
    Limits,
    Message,
    Prompt,
    RunContext,
    Sampling,
    Step,
)
from tests.policy.support import FRONTIER, requested, round_of, said, step, user

HISTORY = (user("first"), *round_of("search"))
"""The messages of the step before; the next one has another round after them."""

COST, PRICE, TOKENS = 0.1, 0.001, 100


def policy(**more: Any) -> ReasoningPolicy:
    given = {"default": {"intensity": "auto"}, "reread_cost": COST, **more}
    return ReasoningPolicy.from_dict(given, frontier=FRONTIER)


def valued(values: Mapping[float, float], length: int = 10) -> Estimate:
    """An estimate of the λ of the greatest value."""
    order = sorted(values, key=lambda value: -values[value])
    candidates = tuple(
        Candidate(intensity=Intensity(each), reasoning_tokens=length, value=values[each]) for each in order
    )
    return Estimate(estimator="test", intensity=Intensity(order[0]), candidates=candidates, token_price=PRICE)


def read(
    budgets: BudgetTracker, rules: ReasoningPolicy, now: Step, intensity: float, tokens: int = TOKENS, **fields: Any
) -> None:
    """Note that a step was answered at ``intensity``, its prompt of so many tokens."""
    generation = Generation(
        events=(), finish_reason="stop", intensity=Intensity(intensity), sampling=Sampling(), prompt_tokens=tokens
    )
    record = CallRecord(
        step=now, decision=None, generation=generation, reply=None, model="test", started_at=0.0, seconds=0.0
    )
    changed = {name: value for name, value in fields.items() if name != "error"}
    record = dataclasses.replace(record, generation=dataclasses.replace(generation, **changed))
    budgets.note_history(rules, now, dataclasses.replace(record, error=fields.get("error")))


def second(**more: Any) -> Step:
    return step(*HISTORY, *round_of("search", "price"), **{"root_run_id": "run", **more})


def decided(
    values: Mapping[float, float], *, before: float = 0.8, rules: ReasoningPolicy | None = None, **more: Any
) -> Decision:
    """Decide the second step of a run whose first was answered at ``before``."""
    rules, budgets = rules or policy(), BudgetTracker()
    read(budgets, rules, step(*HISTORY, root_run_id="run"), before)
    return rules.decide(second(**more), 0, lambda _: valued(values), budgets=budgets)


@pytest.mark.parametrize(("gain", "intensity"), [(0.0099, 0.8), (0.0101, 0.6), (0.5, 0.6)])
def test_it_stays_for_less_than_reading_again_costs(gain: float, intensity: float) -> None:
    """100 tokens, each a tenth of a decoded one, each of these a thousandth of a right reply: 0.01."""
    decision = decided({0.6: 0.7 + gain, 0.8: 0.7})
    assert decision.intensity == intensity
    assert decision.estimate is not None
    assert decision.estimate.intensity == 0.6
    reason = "test estimate 0.60; stays at 0.8, as 0.6 gains 0.0099 and reading 100 tokens again costs 0.01"
    assert decision.reason == (reason if intensity == 0.8 else "test estimate 0.60")
    assert (decision.bounded, decision.snapped) == (intensity, intensity)


def test_only_what_is_not_known_at_the_new_lambda_costs() -> None:
    rules, budgets = policy(), BudgetTracker()
    history = (user("first"),)
    for tokens, intensity in ((80, 0.6), (100, 0.8)):
        read(budgets, rules, step(*history, root_run_id="run"), intensity, tokens)
        history = (*history, *round_of("search"))
    for gain, intensity in ((0.0019, 0.8), (0.0021, 0.6)):
        estimate = valued({0.6: 0.7 + gain, 0.8: 0.7})
        decision = rules.decide(step(*history, root_run_id="run"), 0, lambda _, e=estimate: e, budgets=budgets)
        assert decision.intensity == intensity


NEAR = {0.6: 0.705, 0.8: 0.7, 0.2: 0.1, 1.0: 0.1, 0.0: 0.1}


@pytest.mark.parametrize(
    ("changed", "intensity"),
    [
        ({}, 0.8),
        ({"rules": policy(reread_cost=0)}, 0.6),
        ({"intensity_request": requested(1)}, 1),  # a number runs as given
        ({"rules": policy(default={"intensity": 0.2})}, 0.2),
        ({"rules": policy(default={"intensity": [0, 0.7]})}, 0.6),  # bounds come after
        ({"rules": policy(default={"intensity": [0.9, 1]})}, 1),
        ({"limits": Limits(max_reasoning_tokens=5)}, 0),  # no thought fits
        ({"rules": policy(accuracy_over_cost=0.6)}, 0.8),  # moved up the grid from the estimate, not held
        ({"rules": policy(accuracy_over_cost=0.4)}, 0.2),
        ({"rules": policy(prefix="shared")}, 0.6),  # nothing is read again
        ({"root_run_id": "another"}, 0.6),
        ({"before": 0.37}, 0.6),  # not of the grid
        ({"before": 0.6}, 0.6),
        ({"before": 0.2}, 0.6),
    ],
)
def test_who_beats_whom(changed: dict[str, Any], intensity: float) -> None:
    decision = decided(NEAR, **changed)
    assert decision.intensity == intensity
    assert ("stays at" in decision.reason) == (not changed)


def test_an_instruct_reply_reads_nothing_again_and_a_thought_after_one_does() -> None:
    assert decided({0.0: 0.705, 0.8: 0.7}).intensity == 0
    assert decided({0.8: 0.705, 0.0: 0.7}, before=0.0).intensity == 0


def test_errors_of_tools_raise_what_has_stayed() -> None:
    rules, budgets = policy(escalation={"max_attempts": 3, "on": ["tool_error"]}), BudgetTracker()
    read(budgets, rules, step(*HISTORY, root_run_id="run"), 0.8)
    now = step(*HISTORY, *round_of("search", failed=True), root_run_id="run")
    decision = rules.decide(now, 0, lambda _: valued(NEAR), budgets=budgets)
    assert decision.intensity == 1
    assert "stays at 0.8" in decision.reason


def test_an_estimator_that_knows_no_values_is_taken_at_its_word() -> None:
    rules, budgets = policy(), BudgetTracker()
    read(budgets, rules, step(*HISTORY, root_run_id="run"), 0.8)
    for estimate in (
        Estimate(estimator="test", intensity=Intensity(0.6), token_price=PRICE),
        dataclasses.replace(valued({0.6: 0.7}), token_price=1.0),
        dataclasses.replace(valued(NEAR), token_price=0.0),
    ):
        assert rules.decide(second(), 0, lambda _, e=estimate: e, budgets=budgets).intensity == 0.6


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ((user("another"), *round_of("search")), {}),
        (HISTORY, {"prefix_intensity": Intensity(1)}),  # read at another λ than its reply's
        (HISTORY, {"error": "Cancelled: gone"}),
    ],
)
def test_a_step_that_it_does_not_go_on_from_says_nothing(messages: tuple[Message, ...], fields: dict[str, Any]) -> None:
    rules, budgets = policy(), BudgetTracker()
    read(budgets, rules, step(*messages, root_run_id="run"), 0.8, **fields)
    assert rules.decide(second(), 0, lambda _: valued(NEAR), budgets=budgets).intensity == 0.6


def test_branches_that_go_on_from_one_step_find_the_same_whatever_runs_beside_them() -> None:
    histories, begun = Histories(), step(user("first"), root_run_id="run")
    histories.note("run", begun, Intensity(0.8), 50)
    branches = [step(user("first"), said(text), user("go on")) for text in ("one", "two")]
    expected = histories.before("run", branches[0])
    assert expected is not None
    assert (expected.intensity, expected.reread(Intensity(0.2)), expected.reread(Intensity(0.8))) == (0.8, 50, 0)
    histories.note("run", branches[0], Intensity(0.2), 70)
    assert histories.before("run", branches[1]) == histories.before("run", branches[0]) == expected
    assert histories.before("run", begun) is None
    assert histories.before("other", branches[0]) is None
    assert histories.before("run", dataclasses.replace(branches[0], tools=step(tools=("search",)).tools)) is None


def test_an_answer_of_its_own_lambda_is_what_was_kept() -> None:
    rules, budgets = policy(), BudgetTracker()
    read(budgets, rules, step(*HISTORY, root_run_id="run"), 1.0, answer_intensity=Intensity(0.8))
    assert rules.decide(second(), 0, lambda _: valued(NEAR), budgets=budgets).intensity == 0.8


def test_such_replies_are_not_cached_and_wrong_numbers_are_refused() -> None:
    assert policy().cache_key(RunContext()) is None
    assert policy(reread_cost=0).cache_key(RunContext()) == ""
    for wrong in (-0.1, 1.5, "auto", True, float("nan")):
        with pytest.raises(InvalidPolicy, match="reread_cost"):
            policy(reread_cost=wrong)


# ---- whole runs -----------------------------------------------------------------------------------------------------


@dataclass
class Swinging:
    """Finds now one λ a little better, now the other."""

    best: Sequence[float]
    name: str = "swinging"
    asked: list[float] = field(default_factory=list)

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        self.asked.append(self.best[len(self.asked) % len(self.best)])
        return valued({each: 0.71 if each == self.asked[-1] else 0.7 for each in self.best})


def converse(chat: ChatDAMI, thread: str, *, stream: bool = False) -> list[AIMessage]:
    """Four turns of one thread, each after the whole of the one before."""
    messages: list[Any] = []
    replies = []
    config: Any = {"configurable": {"thread_id": thread}}
    for number in range(4):
        messages.append(HumanMessage(f"Start with {number + 7}. Add 5. What is the result? {thread}"))
        if stream:
            first, *rest = chat.stream(messages, config)
            whole = first
            for chunk in rest:
                whole = whole + chunk
            reply = AIMessage(whole.content, response_metadata=whole.response_metadata)
        else:
            reply = chat.invoke(messages, config)
        replies.append(reply)
        messages.append(AIMessage(reply.content))
    return replies


def lambdas(replies: Sequence[AIMessage]) -> list[float]:
    return [reply.response_metadata["intensity"] for reply in replies]


@pytest.mark.parametrize("stream", [False, True])
def test_a_scripted_run_stays_where_it_would_swing(stream: bool) -> None:
    for cost, expected in ((0.0, [0.3, 0.8, 0.3, 0.8]), (0.5, [0.3, 0.3, 0.3, 0.3])):
        rules = {"prefix": "exact", "reread_cost": cost, "run": {"per": "thread"}}
        chat = fake_chat_model(["Twelve."] * 4, policy=rules, estimator=Swinging((0.3, 0.8)))
        assert lambdas(converse(chat, "one", stream=stream)) == expected


def test_the_builtin_pair_reads_nothing_again_where_it_stays() -> None:
    """With the pair's own frontier, engine and cache; what is read again is the engine's own count."""
    for cost in (0.0, 1.0):
        ledger, low, high = Ledger.open(":memory:"), 0.6, 1.0
        rules = {"prefix": "exact", "reread_cost": cost, "run": {"per": "thread"}, "default": {"max_tokens": 60}}
        chat = ChatDAMI(policy=rules, estimator=Swinging((high, low)), ledger=ledger, seed=1)
        found = lambdas(converse(chat, f"swinging at {cost}"))
        rows = ledger.rows()
        if cost:
            assert found == [high] * 4
            assert [row.reread_tokens for row in rows] == [0] * 4
            assert all(row.cached_tokens for row in rows[1:])
            told = dict(story(rows[1], Savings(None)))
            assert told["because"].startswith("test estimate 0.60; stays at 1, as 0.6 gains 0.01 and reading")
        else:
            assert found == [high, low, high, low]
            assert [row.reread_tokens > 0 for row in rows] == [False, True, True, True]
