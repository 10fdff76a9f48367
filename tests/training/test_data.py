"""Documents: rendered as the shipped chat templates render them, encoded reversibly, learned from replies only."""

import warnings
from pathlib import Path
from random import Random

import pytest

import dami_agent
from dami_agent.training import data, documents, render, templates
from dami_agent.training import tokenizer as tokens
from dami_agent.training.render import Turn

BUILTIN = Path(dami_agent.__file__).parent / "checkpoints" / "builtin"


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.load(BUILTIN / "base")


def _messages(dialogue):
    messages = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    for turn in dialogue.turns:
        message = {"role": turn.role, "content": turn.content}
        if turn.thought is not None:
            message["reasoning_content"] = turn.thought
        if turn.call:
            name, arguments = turn.call
            message["tool_calls"] = [{"type": "function", "function": {"name": name, "arguments": dict(arguments)}}]
        messages.append(message)
    return messages


@pytest.mark.parametrize("template", ["instruct", "thinking"])
def test_segments_are_what_the_chat_template_renders(template):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer

        wrapped = AutoTokenizer.from_pretrained(BUILTIN / template)
    rng = Random(7)
    for index in range(120):
        family = tuple(documents.FAMILIES)[index % len(documents.FAMILIES)]
        dialogue = documents.draw(rng, family, template, rng.uniform(0.2, 1.0))
        tools = [tool.to_openai() for tool in dialogue.tools]
        whole = "".join(text for text, _ in render.segments(dialogue))
        rendered = wrapped.apply_chat_template(_messages(dialogue), tools=tools or None, tokenize=False)
        assert whole == rendered.removesuffix("\n")
        first = render.Dialogue(dialogue.turns[:1], dialogue.tools, dialogue.system, template)
        asked = wrapped.apply_chat_template(
            _messages(first), tools=tools or None, tokenize=False, add_generation_prompt=True
        )
        assert render.prompt(first) == asked


def test_the_shipped_templates_are_these():
    for role, text in (
        ("base", templates.INSTRUCT),
        ("instruct", templates.INSTRUCT),
        ("thinking", templates.THINKING),
    ):
        assert (BUILTIN / role / "chat_template.jinja").read_text(encoding="utf-8").strip() == text.strip()


def test_one_tokenizer_for_all_three():
    files = {(BUILTIN / role / "tokenizer.json").read_bytes() for role in ("base", "instruct", "thinking")}
    assert len(files) == 1


def test_every_text_survives_encoding(tokenizer):
    for text in ("Grüße 你好 \t\r\n 12.50€ <think> a  b", '{"a": [1, null]}', "\U0001f600 x_y-z"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_a_word_is_the_same_tokens_wherever_it_stands(tokenizer):
    word = tokenizer.encode("blorfin_Kex", add_special_tokens=False).ids
    for around in ("call blorfin_Kex on", '{"name": "blorfin_Kex"}', "(blorfin_Kex)"):
        ids = tokenizer.encode(around, add_special_tokens=False).ids
        assert any(ids[i : i + len(word)] == word for i in range(len(ids)))


def test_only_replies_are_learned_from(tokenizer):
    turns = [
        Turn("user", "Hello"),
        Turn("assistant", "Hi", "small"),
        Turn("user", "Bye"),
        Turn("assistant", "Bye", "x"),
    ]
    encoded = data.encode(tokenizer, [render.Dialogue(turns, template="thinking")])[0]
    learned = tokenizer.decode(
        [i for i, flag in zip(encoded.ids, encoded.learn, strict=False) if flag], skip_special_tokens=False
    )
    assert learned == "small\n</think>\n\nHi<|im_end|>x\n</think>\n\nBye<|im_end|>"


def test_a_turn_without_its_thought_teaches_nothing_under_thinking():
    turns = [Turn("user", "Hello"), Turn("assistant", "Hi", None)]
    assert not any(flag for _, flag in render.segments(render.Dialogue(turns, template="thinking")))


def test_pools_depend_on_seed_and_number_alone(tokenizer):
    mixture = data.MIXTURES["base"]
    first = data.pools(tokenizer, mixture, seed=1, size=40, index=3, copy_share=0.2)
    assert first == data.pools(tokenizer, mixture, seed=1, size=40, index=3, copy_share=0.2)
    assert first != data.pools(tokenizer, mixture, seed=1, size=40, index=4, copy_share=0.2)


def test_training_documents_hold_no_test_question_and_no_tool_of_the_standard_suites():
    rng = Random(11)
    from dami_agent.tasks import split_of

    for _ in range(300):
        dialogue = documents.draw(rng, rng.choice(("question", "route", "work")), "thinking", rng.random())
        assert split_of([turn.content for turn in dialogue.turns if turn.role == "user"][-1]) == "train"
    text = " ".join(
        str(documents.draw(rng, family, "instruct", 0.5)) for family in ("novel", "writing", "chat") for _ in range(300)
    ).lower()
    for word in ("magic_function", "get_weather", "san francisco", "joke", "punchline", "haiku"):
        assert word not in text
