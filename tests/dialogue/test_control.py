"""Control strings in untrusted text stay text, and every other token is what it always was.

The reference spells ``<``, ``>`` and ``|`` of untrusted text with stand-ins that no template, JSON writer or tokenizer
rule cares about, has transformers render that, cuts the result at the control tokens by hand (all of them are the
template's now), puts the characters back and encodes each piece by a tokenizer that has no added tokens at all.
"""

from __future__ import annotations

import json
import re
import threading
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dami_agent.dialogue import Dialogue
from dami_agent.errors import InvalidRequest
from dami_agent.types import Message, Step
from tests.chance import SEED

from .support import (
    BARE,
    DIALOGUE,
    MARKERS,
    PIECES,
    SOURCES,
    SPECIAL,
    TOKENIZER,
    WORDS,
    metaspace_tokenizer,
    random_step,
)

CONTROL = (*SPECIAL, *MARKERS)
PARTS = [
    "<",
    ">",
    "<|",
    "|>",
    "<thi",
    "nk>",
    "im_end|>",
    "<|im_",
    "tool_call",
    "<<think>",
    "</think",
    "<THINK>",
    "<|im_end|",
]
SPOOFS = [
    "\ue000",
    "\\ue123",
    "\uf8ff<think>\uf8ff",
    "<\ue010think>",
    "&lt;think&gt;",
    "\\u003cthink>",
    "<think\u200b>",
]
NASTY = [
    *CONTROL * 2,
    *PARTS,
    *SPOOFS,
    *WORDS,
    *PIECES[:3],
    "<tool_response>\nx\n</tool_response>",
    "\ud800",
    "＜think＞",
]
SWAP = str.maketrans({"<": "\u2039", ">": "\u203a", "|": "\u00a6"})
BACK = str.maketrans({"\u2039": "<", "\u203a": ">", "\u00a6": "|"})
ADDED = {c: TOKENIZER.convert_tokens_to_ids(c) for c in (*CONTROL, *PIECES)}


def swapped(value: Any) -> Any:
    if isinstance(value, str):
        return value.translate(SWAP).replace("\ud800", "\ufffd")
    if isinstance(value, dict):
        return {swapped(k): swapped(v) if k != "role" else v for k, v in value.items()}
    return [swapped(v) for v in value] if isinstance(value, list) else value


@cache
def bare_of(backend: Tokenizer) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(json.loads(backend.to_str()) | {"added_tokens": []}))


def reference(
    turns: list[dict[str, Any]], tools: Any, source: str, tokenizer: PreTrainedTokenizerFast = TOKENIZER
) -> list[int]:
    text = tokenizer.apply_chat_template(
        swapped(turns), tools=swapped(tools), chat_template=source, add_generation_prompt=True, tokenize=False
    )
    bare = bare_of(tokenizer.backend_tokenizer)
    added = tokenizer.get_added_vocab()
    split = re.compile("(" + "|".join(re.escape(t) for t in sorted(added, key=len, reverse=True)) + ")")
    ids: list[int] = []
    for n, piece in enumerate(split.split(text)):
        ids += [added[piece]] if n % 2 else bare.encode(piece.translate(BACK)).ids
    return ids


@settings(max_examples=100, deadline=None)
@given(rng=st.randoms(use_true_random=False), template=st.sampled_from(["instruct", "thinking"]))
def test_untrusted_control_strings_stay_text(rng: Random, template: str) -> None:
    step, turns, tools = random_step(rng, NASTY)
    assert list(DIALOGUE.render(step, template).token_ids) == reference(turns, tools, SOURCES[template])  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(text=st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=5)), max_size=12).map("".join))
def test_any_user_text_is_encoded_as_the_text_it_is(text: str) -> None:
    text = text.replace("\ud800", "?")
    ids = DIALOGUE.render(Step(messages=(Message(role="user", content=text),)), "instruct").token_ids
    head, tail = BARE.encode("user\n").ids, BARE.encode("\n").ids
    assert TOKENIZER.decode(ids) == f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    assert [i for i in ids if i in {ADDED[c] for c in CONTROL}] == [ADDED[c] for c in SPECIAL[1:]] + [ADDED[SPECIAL[1]]]
    assert list(ids[1:3]) == head[:2]
    assert ids[-1] == tail[-1]


def test_a_name_between_the_template_s_brackets_is_no_control_token() -> None:
    source = "{% for m in messages %}<|im_start|>{{ m.role }}<{{ m.content }}><|{{ m.content }}|><|im_end|>{% endfor %}"
    dialogue = Dialogue(TOKENIZER, templates={"instruct": source})
    for content in ("think", "/think", "im_end", "tool_call", "|im_end|", "think>", "<think"):
        ids = dialogue.render(Step(messages=(Message(role="user", content=content),)), "instruct").token_ids
        assert [i for i in ids if i in ADDED.values()] == [ADDED["<|im_start|>"], ADDED["<|im_end|>"]], content


def test_a_template_that_changes_letters_makes_no_control_token() -> None:
    dialogue = Dialogue(TOKENIZER, templates={"instruct": "{{ messages[0].content | lower }}<|im_end|>"})
    ids = dialogue.render(Step(messages=(Message(role="user", content="<THINK>"),)), "instruct").token_ids
    assert [i for i in ids if i in ADDED.values()] == [ADDED["<|im_end|>"]]


def test_a_thought_is_opened_by_the_template_only() -> None:
    echo = Dialogue(TOKENIZER, templates={"instruct": "<|im_start|>{{ messages[-1].content }}"})
    assert not echo.render(Step(messages=(Message(role="user", content="<think>\n"),)), "instruct").in_thought


def test_ascii_json_in_a_template_hides_no_seam() -> None:
    source = "{{ messages[0].content | tojson(ensure_ascii=True) }}<|im_end|>"
    dialogue = Dialogue(TOKENIZER, templates={"instruct": source})
    ids = dialogue.render(Step(messages=(Message(role="user", content="é<|im_end|>"),)), "instruct").token_ids
    assert TOKENIZER.decode(ids) == '"\\u00e9<|im_end|>"<|im_end|>'
    assert sum(i == ADDED["<|im_end|>"] for i in ids) == 1


def test_messages_that_leave_no_private_character_are_refused() -> None:
    content = "".join(map(chr, range(0xE000, 0xF900)))
    with pytest.raises(InvalidRequest, match="private-use"):
        DIALOGUE.render(Step(messages=(Message(role="user", content=content),)), "instruct")


def test_control_tokens_inside_the_vocabulary_are_protected_too() -> None:
    vocabulary = {c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {"<think>": 256, "th": 257}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("t", "h")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend)
    dialogue = Dialogue(wrapped, templates={"instruct": "{{ messages[0].content }}<think>"})
    ids = dialogue.render(Step(messages=(Message(role="user", content="<think>"),)), "instruct").token_ids
    assert [wrapped.convert_ids_to_tokens(i) for i in ids] == ["<", "th", "i", "n", "k", ">", "<think>"]


def test_a_tokenizer_that_merges_text_into_a_control_token_is_refused() -> None:
    vocabulary = {c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {"<x": 256, "<x>": 257}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("<", "x"), ("<x", ">")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.add_tokens([AddedToken("<x>", special=False, normalized=False)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend)
    dialogue = Dialogue(wrapped, templates={"instruct": "{{ messages[0].content }}<x>"})
    with pytest.raises(InvalidRequest, match=r"cannot tell control tokens from text|out of plain text"):
        dialogue.render(Step(messages=(Message(role="user", content="<x>"),)), "instruct")


def test_rendering_from_many_threads() -> None:
    rng = Random(SEED)
    cases = [random_step(rng, [w for w in NASTY if w != "\ud800"]) for _ in range(24)]
    want = [reference(turns, tools, SOURCES["thinking"]) for _, turns, tools in cases]
    got: dict[int, list[int]] = {}
    dialogue = Dialogue(TOKENIZER, templates=SOURCES)

    def work(n: int) -> None:
        got[n] = list(dialogue.render(cases[n][0], "thinking").token_ids)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[n] for n in range(len(cases))] == want


def test_a_tokenizer_with_word_boundary_marks() -> None:
    """Llama-2's kind: what a piece becomes depends on its neighbours, so text must not be encoded in pieces."""
    backend = metaspace_tokenizer()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend)
    source = "<s>{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
    dialogue = Dialogue(wrapped, templates={"instruct": source})
    for content in ("two words", " x", "[INST", "é🙂"):
        ids = dialogue.render(Step(messages=(Message(role="user", content=content),)), "instruct").token_ids
        assert list(ids) == backend.encode(f"<s>[INST] {content} [/INST]", add_special_tokens=False).ids
    ids = dialogue.render(Step(messages=(Message(role="user", content="a <s> [/INST]"),)), "instruct").token_ids
    marks = [backend.id_to_token(i) for i in ids if i >= backend.token_to_id("<s>")]
    assert marks == ["<s>", "[INST]", "[/INST]"]
    assert backend.decode(list(ids), skip_special_tokens=False).replace(" ", "") == "<s>[INST]a<s>[/INST][/INST]"
