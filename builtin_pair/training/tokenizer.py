"""The pair's tokenizer: byte-level BPE of 1,152 entries in which a word is the same tokens wherever it stands.

Letters, single digits, punctuation runs and newlines are split before any merge, and a space is a token of its own
except before a fixed list of everyday words and around operators: so a name in a prompt and the same name in a JSON
call are the same tokens, which is what lets a small model copy it. Whole pieces of Qwen's tool preamble and of JSON
schemas are ordinary added tokens. All 256 bytes are in the vocabulary, so every text can be encoded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from builtin_pair.training import documents
from builtin_pair.training.mixtures import EARLY, LATE
from builtin_pair.training.templates import POSTAMBLE, PREAMBLE
from dami_agent.tasks import words
from dami_agent.tasks.catalogue import CATALOGUE

VOCABULARY = 1152
END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
PIECES = (
    PREAMBLE,
    POSTAMBLE,
    '\n{"type": "function", "function": {"description": "',
    '", "name": "',
    '", "parameters": {"properties": {"',
    '", "parameters": {"properties": {}, "type": "object"}}}',
    '": {"type": "string"}',
    '": {"type": "integer"}',
    '": {"description": "',
    '", "type": "string"}',
    '", "type": "integer"}',
    '}, "required": ["',
    '"], "type": "object"}}}',
    '\n{"name": "',
    '", "arguments": {"',
    '", "arguments": {',
    '", "arguments": {}}\n',
    '"}}\n',
    "}}\n",
    '": "',
    '": ',
    ', "',
    '", "',
)
"""Ordinary added tokens (special=False): constant pieces of prompts and calls, longest match first."""


def everyday(corpus: Iterable[str], count: int) -> list[str]:
    """List the most frequent words after a space in prose, but no names, items and other words that must be copied."""
    fixed = {*words.PEOPLE, *words.TOWNS, *words.ITEMS, *words.DISHES, *words.DAYS, *words.VERBS, *words.NOUNS}
    fixed |= {words.plural(item) for item in words.ITEMS}
    seen = Counter(word for text in corpus for word in re.findall(r"(?<= )[A-Za-z]+(?=[ .,?])", text))
    return [word for word, _ in seen.most_common() if word not in fixed][:count]


def build(prose: list[str], *, seed: int = 0, vocabulary: int = VOCABULARY, everyday_words: int = 260) -> Tokenizer:
    """Train the tokenizer on the tasks' prose and on made-up words.

    Args:
        prose: texts to learn pieces from.
        seed: equal seeds draw the same.
        vocabulary: number of entries.
        everyday_words: words that get an entry of their own.
    """
    common = sorted(everyday(prose, everyday_words), key=lambda word: (-len(word), word))
    pattern = (
        rf" (?:{'|'.join(common)})(?![\p{{L}}\p{{N}}_])| [-+*/=] |\p{{L}}+|\p{{N}}|\r?\n| +|[^\s\p{{L}}\p{{N}}]+|\s"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = 3 + len(CONTROL) + len(PIECES)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - added,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(prose, common, seed), trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (END, START, STOP)])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in (*CONTROL, *PIECES)])
    return tokenizer


def _corpus(prose: list[str], common: list[str], seed: int) -> Iterator[str]:
    """Return the prose, made-up words of the training split (so that their pieces get merges), and every pool word."""
    rng = Random(f"tokenizer:{seed}")
    yield from prose
    for _ in range(60_000):
        word = words.made_up(rng, "train")
        yield word if rng.random() < 0.7 else word.capitalize()
    pools = (*words.PEOPLE, *words.TOWNS, *words.ITEMS, *words.DISHES, *words.DAYS, "system", "user", "assistant")
    names = re.findall(
        r"[a-z]+",
        " ".join(f"{kind.spec.name} {' '.join(kind.spec.parameters['properties'])}" for kind in CATALOGUE.values()),
    )
    for word in (*pools, *names, *(" " + word for word in common), *(f" {sign} " for sign in "+-*/=")):
        yield from [word] * 600
    for word in (*words.VERBS, *words.NOUNS):
        yield from [word] * 60


def prose(seed: int = 0, count: int = 6000) -> list[str]:
    """Return what the base documents say, as text to train the tokenizer on."""
    rng, found = Random(f"prose:{seed}"), []
    mixture = (*EARLY, *LATE)
    for part in rng.choices(mixture, [part.weight for part in mixture], k=count):
        dialogue = documents.draw(rng, part.family, part.template, rng.random())
        found += [text for turn in dialogue.turns for text in (turn.content, turn.thought) if text]
        if part.family in ("route", "work"):
            found += [text for tool in dialogue.tools for text in (tool.description, tool.name)]
    return found


def wrap(tokenizer: Tokenizer, template: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer as transformers saves it, with a chat template."""
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=STOP,
        pad_token=END,
        additional_special_tokens=[START],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )
    wrapped.chat_template = template
    return wrapped


def load(folder: Path) -> Tokenizer:
    """Return the raw tokenizer of a checkpoint folder."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
