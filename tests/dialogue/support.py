"""A byte-level tokenizer with Qwen's added tokens, and the fixture templates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dami_agent.dialogue import Dialogue
from dami_agent.types import Message, Step, Tool, ToolCall

TEMPLATES = Path(__file__).parents[1] / "fixtures" / "templates"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
PIECES = ('": {"type": "string"}', '\n{"type": "function", "function": {"name": "', "}}\n", "</tools>\n\nFor each")
PROSE = [
    "The quick brown fox jumps over the lazy dog; what is 12 + 30? Call the tool and answer.",
    'for each function call, return a json object {"name": "add", "arguments": {"a": 1, "b": 2}}',
    "system user assistant think tool_call tool_response im_start im_end endoftext Ünïcödé 日本語 🙂",
]


def build_bare() -> Tokenizer:
    """Byte-level BPE without any added token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(PROSE * 3, trainer)
    return backend


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The same with Qwen's control tokens and some ordinary added ones."""
    backend = Tokenizer.from_str(BARE.to_str())
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    backend.add_tokens([AddedToken(t, special=False, normalized=False) for t in (*MARKERS, *PIECES)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")


@cache
def metaspace_tokenizer() -> Tokenizer:
    """Llama-2's kind: word-boundary marks and byte fallback."""
    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=[f"<0x{b:02X}>" for b in range(256)], show_progress=False
    )
    backend.train_from_iterator(PROSE, trainer)
    spec = json.loads(backend.to_str()) | {"added_tokens": []}
    backend = Tokenizer.from_str(json.dumps(spec))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<s>", "[INST]", "[/INST]")])
    return backend


BARE = build_bare()
TOKENIZER = build_tokenizer()
SOURCES = {
    "instruct": (TEMPLATES / "qwen3-instruct-2507.jinja").read_text(),
    "thinking": (TEMPLATES / "qwen3-thinking-2507.jinja").read_text(),
}
DIALOGUE = Dialogue(TOKENIZER, templates=SOURCES)


WORDS = [
    "add",
    "x y",
    "  two  ",
    "line\nbreak",
    "日本",
    "🙂",
    '"quoted" \\ back',
    "> quote",
    "a < b",
    "[1]",
    "think",
    "|",
    "",
]


def random_text(rng: Random, words: Sequence[str] = WORDS) -> str:
    return "".join(rng.choice(words) for _ in range(rng.randrange(4)))


def random_value(rng: Random, words: Sequence[str] = WORDS, depth: int = 2) -> Any:
    kinds = ["text", "number", "null", "list", "dict"] if depth else ["text", "number", "null"]
    match rng.choice(kinds):
        case "text":
            return random_text(rng, words)
        case "number":
            return rng.choice([1, -2.5, 10**20, True])
        case "list":
            return [random_value(rng, words, depth - 1) for _ in range(rng.randrange(3))]
        case "dict":
            return {random_text(rng, words): random_value(rng, words, depth - 1) for _ in range(rng.randrange(3))}
    return None


def random_step(
    rng: Random, words: Sequence[str] = WORDS
) -> tuple[Step, list[dict[str, Any]], list[dict[str, Any]] | None]:
    """A conversation as a Step, and the same as transformers takes it."""
    messages, turns = [], []
    if rng.random() < 0.5:
        content = random_text(rng, words)
        messages.append(Message(role="system", content=content))
        turns.append({"role": "system", "content": content})
    for _ in range(rng.randrange(1, 6)):
        role = rng.choice(["user", "assistant", "tool"])
        content, reasoning = random_text(rng, words), random_text(rng, words) if role == "assistant" else ""
        calls = [(random_text(rng, words), {"v": random_value(rng, words)}) for _ in range(rng.choice([0, 0, 1, 2]))]
        calls = calls if role == "assistant" else []
        messages.append(
            Message(
                role=role,  # type: ignore[arg-type]
                content=content,
                reasoning=reasoning or None,
                tool_calls=tuple(ToolCall(id="i", name=n, arguments=a) for n, a in calls),
            )
        )
        turn: dict[str, Any] = {"role": role, "content": content}
        if reasoning:
            turn["reasoning_content"] = reasoning
        if calls:
            turn["tool_calls"] = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in calls]
        turns.append(turn)
    if messages[-1].role == "assistant":  # it would be continued
        messages.append(Message(role="user", content="go on"))
        turns.append({"role": "user", "content": "go on"})
    names = [f"t{n}" for n in range(rng.choice([0, 1, 2]))]
    schema = {"type": "object", "properties": {"p": {"type": "string"}}}
    tools = tuple(
        Tool(name=n + random_text(rng, words), description=random_text(rng, words), parameters=schema) for n in names
    )
    listed = [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": schema}}
        for t in tools
    ]
    return Step(messages=tuple(messages), tools=tools), turns, listed or None
