"""A byte-level tokenizer with Qwen's added tokens, and the fixture templates."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dami_agent.dialogue import Dialogue

TEMPLATES = Path(__file__).parents[1] / "fixtures" / "templates"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
PIECES = ('": {"type": "string"}', '\n{"type": "function", "function": {"name": "', "}}\n")
PROSE = [
    "The quick brown fox jumps over the lazy dog; what is 12 + 30? Call the tool and answer.",
    'for each function call, return a json object {"name": "add", "arguments": {"a": 1, "b": 2}}',
    "system user assistant think tool_call tool_response im_start im_end endoftext Ünïcödé 日本語 🙂",
]


def build_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(PROSE * 3, trainer)
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    backend.add_tokens([AddedToken(t, special=False, normalized=False) for t in (*MARKERS, *PIECES)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")


TOKENIZER = build_tokenizer()
SOURCES = {
    "instruct": (TEMPLATES / "qwen3-instruct-2507.jinja").read_text(),
    "thinking": (TEMPLATES / "qwen3-thinking-2507.jinja").read_text(),
}
DIALOGUE = Dialogue(TOKENIZER, templates=SOURCES)
