"""What happens near the end of the context window, and where nobody sets ``max_tokens``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dami_agent.checkpoints
from dami_agent.errors import ContextOverflow
from dami_agent.estimators import ConfidenceEstimator
from dami_agent.policy import Frontier, FrontierRow, ReasoningPolicy
from dami_agent.testing import FakeEngine, FakeReply, fake_chat_model
from dami_agent.types import Decision, Engine, Estimate, Intensity, Limits, Prompt

REPLY = FakeReply("seven", "one two three")


class Greedy:
    """Asks for a probe of 32 tokens, whatever is left."""

    name = "greedy"

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        if engine.info.context_length - len(prompt.token_ids) < 100:
            raise ContextOverflow("a probe does not fit")
        return Estimate(estimator=self.name, intensity=Intensity(0.9))


def left(room: int, **settings: Any) -> Any:
    """A model whose window leaves so many tokens after the prompt ``hi`` in Instruct's template."""
    model = fake_chat_model([], **settings)
    used = len(model.dialogue.render(model.build_step(_messages(), None, None, {}), "instruct").token_ids)
    engine = FakeEngine(lambda _: REPLY, model.engine.encode, context_length=used + room)
    return model.model_copy(update={"engine": engine})


def _messages() -> Any:
    from langchain_core.messages import HumanMessage

    return [HumanMessage("hi")]


@pytest.mark.parametrize("room", [1, 2, 3, 20, 30, 63])
@pytest.mark.parametrize("estimator", [None, ConfidenceEstimator(), Greedy()])
def test_auto_answers_where_lambda_0_does(room: int, estimator: Any) -> None:
    model = left(room, **({} if estimator is None else {"estimator": estimator}))
    reply = model.invoke("hi", reasoning_intensity="auto")
    assert reply.content
    (row,) = model.ledger.rows()
    assert (row.intensity, row.template) == (0, "instruct")
    assert f"passed over: {room} tokens of the context window are left" in row.reason


def test_an_estimator_of_ones_own_that_overflows_is_passed_over() -> None:
    model = left(80, estimator=Greedy())
    model.invoke("hi", reasoning_intensity="auto")
    assert model.ledger.rows()[0].intensity == 0
    assert "greedy passed over" in model.ledger.rows()[0].reason
    model = left(120, estimator=Greedy())
    model.invoke("hi", reasoning_intensity="auto")
    assert model.ledger.rows()[0].intensity == 0.9


def test_a_prompt_that_leaves_nothing_is_an_error_and_so_is_a_depth_that_was_asked_for() -> None:
    with pytest.raises(ContextOverflow):
        left(0).invoke("hi", reasoning_intensity="auto")
    model = left(1)
    extra = len(model.dialogue.render(model.build_step(_messages(), None, None, {}), "thinking").token_ids)
    if extra > model.engine.info.context_length - 1:
        with pytest.raises(ContextOverflow):
            model.invoke("hi", reasoning_intensity=1)


def test_a_depth_that_nobody_asked_for_falls_back_where_only_its_prompt_does_not_fit() -> None:
    model = left(1, policy={"accuracy_over_cost": 1.0})  # λ=1 without an estimate; Thinking's prompt is longer
    assert model.invoke("hi", reasoning_intensity="auto").content
    (row,) = model.ledger.rows()
    assert row.intensity == 0
    assert "does not fit the context window" in row.reason


def test_a_retry_that_does_not_fit_leaves_the_reply_before_it() -> None:
    policy = ReasoningPolicy(escalation={"max_attempts": 3}, verifier=lambda step, reply: False)
    model = left(1, policy=policy)
    reply = model.invoke("hi", reasoning_intensity=0)
    assert reply.content
    rows = model.ledger.rows()
    assert [row.error_type for row in rows] == [None, "ContextOverflow"]


def test_the_confidence_probe_shrinks_to_the_room() -> None:
    model = left(20)
    prompt = model.dialogue.render(model.build_step(_messages(), None, None, {}), "instruct")
    decision = Decision(intensity=Intensity(0), template="instruct", reason="probe", limits=Limits())
    ConfidenceEstimator().estimate(prompt, decision, model.engine)
    assert model.engine.requests[-1].decision.limits.max_tokens == 20


# ---- a cap where nobody set one -------------------------------------------------------------------------------------


def row(intensity: float, tokens: float, longest: float = 0) -> FrontierRow:
    return FrontierRow(intensity=Intensity(intensity), accuracy=0.5, tokens=tokens, longest=longest)


def test_the_cap_is_a_multiple_of_what_the_pair_writes() -> None:
    assert Frontier().reply_limit is None
    assert Frontier(rows=(row(0, 20), row(1, 100))).reply_limit == 1024
    assert Frontier(rows=(row(0, 20), row(1, 400))).reply_limit == 3200
    assert Frontier(rows=(row(0, 20, 90), row(1, 400, 900))).reply_limit == 2700
    builtin = Frontier.from_file(Path(dami_agent.checkpoints.__file__).parent / "builtin" / "frontier.json")
    assert builtin.reply_limit is not None
    assert builtin.reply_limit > 2048  # within which 99.8 % of its replies ended by themselves


@pytest.mark.parametrize(
    ("settings", "policy", "cap", "by"),
    [
        ({}, {}, 3200, "frontier"),
        ({"max_tokens": 50}, {}, 50, "caller"),
        ({"max_tokens": 50}, {"default": {"max_tokens": 20}}, 20, "policy"),
        ({}, {"default": {"max_tokens": 20}}, 20, "policy"),
        ({}, {"run": {"max_tokens": 800}}, 368, "budget"),
    ],
)
def test_who_set_the_cap_is_on_record(settings: Any, policy: Any, cap: int, by: str) -> None:
    frontier = Frontier(rows=(row(0, 20), row(1, 400)))
    model = fake_chat_model(lambda _: REPLY, policy=ReasoningPolicy(**policy, frontier=frontier))
    model.invoke("hi", reasoning_intensity=0, **settings)
    limits = model.ledger.rows()[0].limits
    assert (limits["max_tokens"], limits["max_tokens_by"]) == (cap, by)


def test_the_window_bounds_the_cap() -> None:
    frontier = Frontier(rows=(row(0, 20), row(1, 400)))
    model = left(500, policy=ReasoningPolicy(frontier=frontier))
    model.invoke("hi", reasoning_intensity=0)
    limits = model.ledger.rows()[0].limits
    assert (limits["max_tokens"], limits["max_tokens_by"]) == (500, "window")
