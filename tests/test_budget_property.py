"""Random rules, random branching runs, through LangChain and the real pipeline: no hard budget is ever overspent.

What was spent is counted where it is decoded, in the scripted engine; the policy's own account must never say less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from random import Random
from threading import Lock
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel

from dami_agent.chat_model import ChatDAMI
from dami_agent.errors import DamiError, OutputInvalid, RunError
from dami_agent.ledger import Ledger
from dami_agent.policy import ReasoningPolicy
from dami_agent.testing import FakeEngine, FakeJob, FakeReply, FakeRequest, fake_chat_model
from dami_agent.types import Decision, Engine, Estimate, Generation, Intensity, Prompt, RunContext, TokenEvent
from tests.policy.random_policies import TOOLS, policies

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", ""]
SPECS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in TOOLS]

branches = st.recursive(
    st.sampled_from(["call", "stream", "leave", "forced"]),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.lists(inner, min_size=2, max_size=4).map(tuple),
    max_leaves=14,
)
"""A run: a list is one thing after the other, a tuple is done at once, a word is a model call."""


class Careless:
    """Replies of any length, with thoughts, calls, broken calls and failures; safe to use from many threads."""

    def __init__(self, seed: int) -> None:
        self._random, self._lock = Random(seed), Lock()

    def chance(self, share: float) -> bool:
        with self._lock:
            return self._random.random() < share

    def number(self, most: int) -> int:
        with self._lock:
            return self._random.choice([0, most, self._random.randint(0, most)])

    def text(self) -> str:
        return " ".join(WORDS * (self.number(70) // 10 + 1))

    def reply(self, _: FakeRequest) -> FakeReply:
        calls = [(TOOLS[self.number(2)], {})] if self.chance(0.3) else []
        answer = '<tool_call>\n{"name": \n</tool_call>' if self.chance(0.15) else self.text()
        error = RunError("fell off") if self.chance(0.1) else OutputInvalid("no JSON") if self.chance(0.1) else None
        return FakeReply(answer, self.text() if self.chance(0.8) else "", calls, error=error)


class Counted(FakeEngine):
    """Carries a thought or a probe on as a real engine does, and knows what it decoded."""

    def submit(self, prompt: Prompt, decision: Decision) -> FakeJob:
        job = super().submit(prompt, decision)
        job.shown = max(job.shown, len(prompt.reply_ids))  # there from the start
        return job

    def write(self, reply: FakeReply, request: FakeRequest) -> Generation:
        made = super().write(reply, request)
        carried = request.prompt.reply_ids
        if not carried:
            return made
        before = next(
            job.generation.events[: len(carried)]
            for job in reversed(self.jobs)
            if job.generation.token_ids[: len(carried)] == carried
        )
        if any(event.part == "answer" for event in before):
            return made
        rest = tuple(TokenEvent(token_id=token, part="answer") for token in self.encode(reply.text))
        most = request.decision.limits.max_tokens or len(before) + len(rest)
        return replace(made, events=(before + rest)[:most])

    def reply_begun_by(self, prompt: Prompt) -> FakeReply:
        try:
            return super().reply_begun_by(prompt)
        except DamiError:
            return FakeReply("seven")  # after a thought

    def decoded(self, charged_to: str | None = None) -> Sequence[TokenEvent]:
        """Every token once, those of calls charged to a tool if given."""
        events: list[TokenEvent] = []
        for request, job in zip(self.requests, self.jobs, strict=True):
            if charged_to in (None, request.decision.charged_to):
                events += job.generation.events[len(request.prompt.reply_ids) : job.shown]
        return events


class Prober:
    """Probes, perhaps with a thought, and says any λ."""

    name = "prober"

    def __init__(self, careless: Careless) -> None:
        self._careless = careless

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        most = min(32, decision.limits.max_tokens or 32)
        limits = replace(decision.limits, max_tokens=most, answer_reserve=0)
        probe = engine.generate(prompt, replace(decision, intensity=Intensity(0), limits=limits))
        value = Intensity(self._careless.number(10) / 10)
        return Estimate(
            estimator=self.name, intensity=value, probe=probe, probe_prompt=prompt, tokens=probe.output_tokens
        )


@cache
def parts() -> tuple[Any, Callable[[str], Sequence[int]]]:
    model = fake_chat_model([])
    return model.dialogue, model.engine.encode


def chain_of(branch: Any, model: ChatDAMI, careless: Careless) -> Any:
    if isinstance(branch, list):
        whole = RunnableLambda(lambda given: given)
        for each in branch:
            whole = whole | chain_of(each, model, careless)  # type: ignore[assignment]
        return whole
    if isinstance(branch, tuple):
        return RunnableParallel({str(n): chain_of(each, model, careless) for n, each in enumerate(branch)})
    return RunnableLambda(lambda _: call(branch, model, careless))


def call(how: str, model: ChatDAMI, careless: Careless) -> str:
    """One model call, whatever becomes of it."""
    messages: list[Any] = [HumanMessage("go on")]
    names = [TOOLS[careless.number(2)] for _ in range(careless.number(2))]
    if names:
        asked = [{"name": name, "args": {}, "id": f"{n}"} for n, name in enumerate(names)]
        messages.append(AIMessage("", tool_calls=asked))
        messages += [ToolMessage("r", name=name, tool_call_id=f"{n}") for n, name in enumerate(names)]
    given: dict[str, Any] = {"tools": SPECS}
    if how == "forced":
        given["tool_choice"] = TOOLS[careless.number(2)]
    if careless.chance(0.2):
        given["max_tokens"] = 1 + careless.number(60)
    if careless.chance(0.3):
        given["reasoning_intensity"] = 0.9
    try:
        if how in ("stream", "leave"):
            stream = model.stream(messages, {"tags": ["t"]}, **given)
            for n, _ in enumerate(stream):
                if how == "leave" and n > 2:
                    stream.close()  # type: ignore[attr-defined]
                    break
        else:
            model.invoke(messages, **given)
    except DamiError:
        pass
    return "done"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies, branches, st.integers(0, 2**31))
def test_no_run_overspends_a_hard_budget(policy: ReasoningPolicy, branch: Any, seed: int) -> None:
    dialogue, encode = parts()
    careless = Careless(seed)
    engine, ledger = Counted(careless.reply, encode), Ledger.open(":memory:")
    model = ChatDAMI(engine=engine, dialogue=dialogue, policy=policy, estimator=Prober(careless), ledger=ledger)
    chain_of(branch, model, careless).invoke("go")
    rows = ledger.rows()
    ledger.close()
    (root,) = {row.root_run_id for row in rows}
    run, spent = policy.run, model.budgets.spent(policy, RunContext(root_run_id=root))
    tokens = len(engine.decoded())
    reasoning = sum(event.part == "reasoning" for event in engine.decoded())
    told = sum(row.output_tokens for row in rows)
    unknown = any(row.error_type in ("RunError", "OutputInvalid") for row in rows)  # these do not say how far they came
    assert told <= tokens if unknown else told == tokens
    assert sum(spent.by_tool.values()) == spent.reasoning_tokens  # charges add up
    if run.max_tokens is not None:  # type: ignore[union-attr]
        assert tokens <= spent.tokens <= run.max_tokens  # type: ignore[union-attr]
    if run.max_reasoning_tokens is not None:  # type: ignore[union-attr]
        assert reasoning <= spent.reasoning_tokens <= run.max_reasoning_tokens  # type: ignore[union-attr]
    for name, tool in policy.tools.items():
        thought = sum(event.part == "reasoning" for event in engine.decoded(name))
        most = tool.run_max_reasoning_tokens  # type: ignore[union-attr]
        if most is not None:
            assert thought <= spent.by_tool.get(name, 0) <= most
