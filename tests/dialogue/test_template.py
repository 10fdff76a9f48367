"""Prompts equal what transformers makes of the same messages, word for word the public format."""

from __future__ import annotations

from random import Random

import pytest

from dami_agent.dialogue import Dialogue
from dami_agent.errors import InvalidRequest
from dami_agent.types import Message, Step, Tool, ToolCall
from tests.chance import SEED

from .support import DIALOGUE, SOURCES, TOKENIZER, random_step

ADD = Tool(
    name="add",
    description="Adds.",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
)
CALL = ToolCall(id="c1", name="add", arguments={"a": 1, "b": 2})
LINE = (
    '{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", '
    '"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}}'
)
PREAMBLE = f"""# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{LINE}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call><|im_end|>
"""
AGENT = Step(
    messages=(
        Message(role="system", content="Be brief."),
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Hello", reasoning="greet"),
        Message(role="user", content="1+2, twice?"),
        Message(role="assistant", content="I add.", reasoning="\nuse add\n", tool_calls=(CALL, CALL)),
        Message(role="tool", content="3", tool_call_id="c1", name="add"),
        Message(role="tool", content="no such number", tool_call_id="c1", status="error"),
    ),
    tools=(ADD,),
)
CALLED = """I add.
<tool_call>
{"name": "add", "arguments": {"a": 1, "b": 2}}
</tool_call>
<tool_call>
{"name": "add", "arguments": {"a": 1, "b": 2}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
3
</tool_response>
<tool_response>
Error: no such number
</tool_response><|im_end|>
<|im_start|>assistant
"""


def text(step: Step, template: str, dialogue: Dialogue = DIALOGUE) -> str:
    return TOKENIZER.decode(dialogue.render(step, template).token_ids)  # type: ignore[arg-type]


def test_instruct_prompt_word_for_word() -> None:
    start = f"<|im_start|>system\nBe brief.\n\n{PREAMBLE}<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
    asked = "<|im_end|>\n<|im_start|>user\n1+2, twice?<|im_end|>\n<|im_start|>assistant\n"
    assert text(AGENT, "instruct") == start + asked + CALLED
    assert not DIALOGUE.render(AGENT, "instruct").in_thought


def test_thinking_prompt_keeps_the_thoughts_after_the_last_query() -> None:
    start = f"<|im_start|>system\nBe brief.\n\n{PREAMBLE}<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
    asked = "<|im_end|>\n<|im_start|>user\n1+2, twice?<|im_end|>\n<|im_start|>assistant\n"
    assert text(AGENT, "thinking") == start + asked + "<think>\nuse add\n</think>\n\n" + CALLED + "<think>\n"
    assert DIALOGUE.render(AGENT, "thinking").in_thought


@pytest.mark.parametrize("template", ["instruct", "thinking"])
def test_reasoning_kept_or_dropped_by_the_flag(template: str) -> None:
    everything = text(AGENT, template, Dialogue(TOKENIZER, templates=SOURCES, keep_reasoning="all"))
    assert "assistant\n<think>\ngreet\n</think>\n\nHello<|im_end|>" in everything
    assert "assistant\n<think>\nuse add\n</think>\n\nI add.\n<tool_call>" in everything
    nothing = text(AGENT, template, Dialogue(TOKENIZER, templates=SOURCES, keep_reasoning="none"))
    assert "greet" not in nothing
    assert "use add" not in nothing


@pytest.mark.parametrize("template", ["instruct", "thinking"])
def test_without_control_strings_equal_to_transformers(template: str) -> None:
    rng = Random(SEED)
    for _ in range(50):
        step, turns, tools = random_step(rng)
        want = TOKENIZER.apply_chat_template(
            turns, tools=tools, chat_template=SOURCES[template], add_generation_prompt=True, return_dict=False
        )
        assert list(DIALOGUE.render(step, template).token_ids) == want  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "shown"), [("", "Error"), ("bad", "Error: bad"), ("ERROR 5", "ERROR 5")])
def test_a_failed_tool_says_so(given: str, shown: str) -> None:
    step = Step(messages=(Message(role="user", content="x"), Message(role="tool", content=given, status="error")))
    assert f"<tool_response>\n{shown}\n</tool_response>" in text(step, "instruct")


def test_an_empty_tool_result_is_an_empty_response() -> None:
    step = Step(messages=(Message(role="user", content="x"), Message(role="tool", content="")))
    assert "<tool_response>\n\n</tool_response>" in text(step, "thinking")


def test_a_template_without_system_turn_gets_it_in_the_user_message() -> None:
    refusing = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    swallowing = refusing.replace("{{ raise_exception('no system') }}", "").replace(
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n",
        "{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}",
    )
    step = Step(messages=(Message(role="system", content="S"), Message(role="user", content="U")))
    for source in (refusing, swallowing):
        assert text(step, "instruct", Dialogue(TOKENIZER, templates={"instruct": source})) == (
            "<|im_start|>user\nS\n\nU<|im_end|>\n"
        )


def test_what_a_template_cannot_do_is_refused_with_a_reason() -> None:
    plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    user = (Message(role="user", content="U"),)
    dialogue = Dialogue(TOKENIZER, templates={"instruct": plain, "thinking": None})  # type: ignore[dict-item]
    with pytest.raises(InvalidRequest, match="does not show tools"):
        dialogue.render(Step(messages=user, tools=(ADD,)), "instruct")
    with pytest.raises(InvalidRequest, match="thinking checkpoint has no chat template"):
        dialogue.render(Step(messages=user), "thinking")
    with pytest.raises(InvalidRequest, match="no messages"):
        dialogue.render(Step(messages=()), "instruct")
    other = Dialogue(TOKENIZER, templates={"instruct": "{{ tools | tojson }}" + plain})
    with pytest.raises(InvalidRequest, match="<tool_call>"):
        other.render(Step(messages=user, tools=(ADD,)), "instruct")
    picky = Dialogue(TOKENIZER, templates={"instruct": "{{ raise_exception('roles must alternate') }}"})
    with pytest.raises(InvalidRequest, match="roles must alternate"):
        picky.render(Step(messages=user), "instruct")
    broken = Dialogue(TOKENIZER, templates={"instruct": "{% if %}"})
    with pytest.raises(InvalidRequest, match="broken"):
        broken.render(Step(messages=user), "instruct")
