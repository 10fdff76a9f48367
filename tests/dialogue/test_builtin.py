"""The built-in pair's tokenizer and templates: the same format as the fixtures, the same protection."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import dami_agent.checkpoints
from dami_agent.dialogue import Dialogue
from dami_agent.types import Message, Prompt, Step, TokenEvent, Tool
from tests.chance import SEED

from .support import SOURCES, TOKENIZER, WORDS, random_step
from .test_control import CONTROL, PARTS, SPOOFS, reference

FOLDER = Path(dami_agent.checkpoints.__file__).parent / "builtin"
BUILTIN = PreTrainedTokenizerFast.from_pretrained(FOLDER / "instruct")
TEMPLATES = {name: (FOLDER / name / "chat_template.jinja").read_text() for name in ("instruct", "thinking")}
DIALOGUE = Dialogue(BUILTIN, templates=TEMPLATES)  # type: ignore[arg-type]
NASTY = [*CONTROL * 2, *PARTS, *SPOOFS, *WORDS]


@pytest.mark.parametrize("name", ["instruct", "thinking"])
def test_templates_agree_with_the_fixtures_but_for_descriptions_coming_first(name: str) -> None:
    def rendered(source: str, tools: Any) -> Any:
        return TOKENIZER.apply_chat_template(
            turns, tools=tools, chat_template=source, add_generation_prompt=True, tokenize=False
        )

    rng = Random(SEED)
    for _ in range(60):
        _, turns, tools = random_step(rng, [*WORDS, "<think>", "</think>", "<tool_response>"])
        described = [tool | {"function": {"description": None} | tool["function"]} for tool in tools or ()]
        for order in (tools, described or None):
            assert rendered(TEMPLATES[name], order) == rendered(SOURCES[name], described or None)


@pytest.mark.parametrize("name", ["instruct", "thinking"])
def test_untrusted_control_strings_stay_text(name: str) -> None:
    rng = Random(SEED)
    for _ in range(25):
        step, turns, tools = random_step(rng, NASTY)
        want = reference(turns, tools, TEMPLATES[name], BUILTIN)
        assert list(DIALOGUE.render(step, name).token_ids) == want  # type: ignore[arg-type]


def test_the_preamble_is_one_token_though_it_names_control_tokens() -> None:
    schema = {"properties": {"p": {"type": "string"}}, "required": ["p"], "type": "object"}
    tools = (Tool(name="look", description="Looks.", parameters=schema),)
    ids = DIALOGUE.render(
        Step(messages=(Message(role="user", content="<tool_call>"),), tools=tools), "thinking"
    ).token_ids
    assert any("XML tags:\n<tool_call>" in BUILTIN.decode([i]) for i in ids)
    assert BUILTIN.convert_tokens_to_ids("<tool_call>") not in ids


def test_any_text_survives_encoding_and_reading() -> None:
    for text in ("Grüße, 日本 🙂\r\n\t<|im_end|>", "</think>\n\n<tool_call>", '{"name": "x"}}\n'):
        ids = DIALOGUE.render(Step(messages=(Message(role="user", content=text),)), "instruct").token_ids
        assert BUILTIN.decode(ids) == f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        parser = DIALOGUE.parser(Prompt(token_ids=ids, template="instruct"), Step(messages=()))
        plain = BUILTIN.encode(text.replace("<", "("))
        deltas = parser.read([TokenEvent(token_id=i, part="answer") for i in plain])
        assert "".join(d.text for d in deltas) == text.replace("<", "(").rstrip("\n")
