"""The fake engine that we give to people for their tests."""

from __future__ import annotations

import random
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool

from dami_agent.errors import Cancelled, ContextOverflow, DeadlineExceeded, EngineClosed, InvalidRequest
from dami_agent.testing import FakeEngine, FakeReply, fake_chat_model
from dami_agent.types import Decision, Engine, Intensity, Job, Limits, Prompt


def codes(text: str) -> list[int]:
    """A vocabulary of one token a character, so that counts can be seen."""
    return [ord(c) for c in text]


def text_of(events: object, part: str) -> str:
    return "".join(chr(e.token_id) for e in events if e.part == part)  # type: ignore[attr-defined]


def decision(**limits: object) -> Decision:
    return Decision(intensity=Intensity(0.5), template="thinking", reason="", limits=Limits(**limits))  # type: ignore[arg-type]


THINKING = Prompt(token_ids=(1, 2, 3), template="thinking", in_thought=True)
INSTRUCT = Prompt(token_ids=(1, 2, 3), template="instruct")


def test_it_is_an_engine() -> None:
    engine = FakeEngine(["hi"], codes)
    assert isinstance(engine, Engine)
    assert isinstance(engine.submit(INSTRUCT, decision()), Job)


def test_it_says_the_script_and_remembers_the_requests() -> None:
    engine = FakeEngine(["one", FakeReply("two", reasoning="hm")], codes)
    first, second = engine.generate(INSTRUCT, decision()), engine.generate(THINKING, decision())
    assert text_of(first.events, "answer") == "one"
    assert (text_of(second.events, "reasoning"), text_of(second.events, "answer")) == ("hm", "two")
    assert second.thought_closed_by == "model"
    assert [r.prompt for r in engine.requests] == [INSTRUCT, THINKING]
    with pytest.raises(InvalidRequest, match="script is over"):
        engine.submit(INSTRUCT, decision())


def test_no_thought_under_instructs_template() -> None:
    generation = FakeEngine([FakeReply("two", reasoning="hm")], codes).generate(INSTRUCT, decision())
    assert generation.reasoning_tokens == 0
    assert generation.thought_closed_by is None


@given(
    st.text("abc", max_size=30),
    st.text("xyz", max_size=30),
    st.none() | st.integers(1, 60),
    st.none() | st.integers(0, 40),
    st.integers(0, 20),
)
@settings(max_examples=200, deadline=None)
def test_limits_hold(thought: str, answer: str, most: int | None, cap: int | None, reserve: int) -> None:
    limits = decision(max_tokens=most, max_reasoning_tokens=cap, answer_reserve=min(reserve, (most or 60) // 2))
    generation = FakeEngine([FakeReply(answer, reasoning=thought)], codes).generate(THINKING, limits)
    spoken = text_of(generation.events, "reasoning")
    assert thought.startswith(spoken)
    assert answer.startswith(text_of(generation.events, "answer"))
    assert most is None or generation.output_tokens <= most
    assert cap is None or len(spoken) <= cap
    whole = text_of(generation.events, "answer") == answer
    if generation.finish_reason == "stop":
        assert whole
    if most is None:
        assert (whole, generation.finish_reason) == (True, "stop")
        assert generation.thought_closed_by == ("model" if spoken == thought else "cap")


def test_stop_strings_end_the_answer_but_not_the_thought() -> None:
    generation = FakeEngine([FakeReply("a END b", reasoning="END")], codes).generate(
        THINKING, decision(stop=("END", "b"))
    )
    assert text_of(generation.events, "answer") == "a "
    assert text_of(generation.events, "reasoning") == "END"
    assert generation.stop_string == "END"


def test_errors_can_be_scripted() -> None:
    job = FakeEngine([FakeReply("par", error=DeadlineExceeded("late"))], codes).submit(INSTRUCT, decision())
    seen = []
    with pytest.raises(DeadlineExceeded, match="late"):
        seen.extend(job)
    with pytest.raises(DeadlineExceeded):
        job.result()


def test_cancel_deadline_close_and_context() -> None:
    engine = FakeEngine(lambda _: "x" * 100, codes, seconds_per_token=0.01, context_length=200)
    job = engine.submit(INSTRUCT, decision())
    tokens = iter(job)
    next(tokens)
    job.cancel()
    with pytest.raises(Cancelled) as cancelled:
        list(tokens)
    assert 1 <= len(cancelled.value.generation.events) < 100
    with pytest.raises(DeadlineExceeded):
        engine.generate(INSTRUCT, decision(timeout=0.05))
    with pytest.raises(ContextOverflow):
        engine.submit(Prompt(token_ids=tuple(range(200)), template="instruct"), decision())
    running = engine.submit(INSTRUCT, decision())
    engine.close()
    engine.close()
    with pytest.raises(EngineClosed):
        running.result()
    with pytest.raises(EngineClosed):
        engine.submit(INSTRUCT, decision())


def test_scores_are_the_same_every_time() -> None:
    engine, tokens = FakeEngine([], codes), [random.randrange(99) for _ in range(5)]
    assert engine.score(INSTRUCT, tokens, Intensity(1)) == FakeEngine([], codes).score(INSTRUCT, tokens, Intensity(1))
    assert engine.score(INSTRUCT, tokens, Intensity(1)) != engine.score(INSTRUCT, tokens, Intensity(0))
    assert all(-1 < s <= 0 for s in engine.score(INSTRUCT, tokens, Intensity(1)))


def test_many_threads_get_one_reply_each() -> None:
    engine, got = FakeEngine([str(n) for n in range(64)], codes), []
    threads = [
        threading.Thread(target=lambda: got.append(text_of(engine.generate(INSTRUCT, decision()).events, "answer")))
        for _ in range(64)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=int) == [str(n) for n in range(64)]


def test_a_fake_model_answers_without_torch() -> None:
    code = """
import sys
from dami_agent.testing import fake_chat_model
print(fake_chat_model(["sure"]).invoke("hi").content, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["sure", "False"]


def test_importing_it_takes_no_torch() -> None:
    code = "import sys, dami_agent.testing; print('torch' in sys.modules, 'transformers' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_an_agent_on_a_fake_chat_model() -> None:
    call = FakeReply("I add.", reasoning="which tool?", tool_calls=[("add", {"a": 3, "b": 4})])
    model = fake_chat_model([call, FakeReply("It is 7.", reasoning="easy – „日本“")], intensity=0.8)
    agent = create_agent(model, [add])
    messages = agent.invoke({"messages": [HumanMessage("What is 3 plus 4?")]})["messages"]
    asked, answered = [m for m in messages if isinstance(m, AIMessage)]
    assert asked.tool_calls[0]["args"] == {"a": 3, "b": 4}
    assert messages[2].content == "7"
    assert answered.content == "It is 7."
    assert answered.additional_kwargs["reasoning_content"] == "easy – „日本“"
    assert [r.decision.intensity for r in model.engine.requests] == [0.8, 0.8]
    rows = model.ledger.rows()
    assert [(r.tools_digested, r.tools_called) for r in rows] == [((), ("add",)), (("add",), ())]
    assert all(r.intensity == 0.8 and r.reasoning_tokens > 0 for r in rows)


def test_what_is_asked_for_at_the_call_arrives() -> None:
    model = fake_chat_model(lambda request: f"{request.decision.intensity:g}")
    assert model.invoke("x", reasoning_intensity=0.25).content == "0.25"
    assert "".join(chunk.text for chunk in model.stream("x", reasoning_effort="none")) == "0"


def test_a_garbled_tool_call_is_kept() -> None:
    model = fake_chat_model(['<tool_call>\n{"name": "add", "arguments": {"a": 3\n</tool_call>'] * 2)  # asked for twice
    reply = model.bind_tools([add]).invoke("x", reasoning_intensity=0)
    assert reply.tool_calls == []
    assert reply.invalid_tool_calls
