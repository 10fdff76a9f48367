"""Constraints compiled by xgrammar, and a model that writes anything they allow."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import torch
import xgrammar

from dami_agent.types import Constraint

from .support import TOKENIZER

VOCAB = len(TOKENIZER)
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
_INFO = xgrammar.TokenizerInfo.from_huggingface(TOKENIZER, vocab_size=VOCAB, stop_token_ids=[END])
_COMPILER = xgrammar.GrammarCompiler(_INFO, max_threads=1, cache_enabled=False)
_CLOSERS = {i for i in range(VOCAB) if TOKENIZER.decode([i]).strip()[:1] in ('"', "}", "]")}


class Grammar:
    def __init__(self, constraint: Constraint | dict[str, Any]) -> None:
        text = constraint.text if isinstance(constraint, Constraint) else _schema(constraint)
        self._compiled = _COMPILER.compile_structural_tag(text)

    def accepts(self, text: str) -> bool:
        """Whether ``text`` is a whole answer."""
        matcher = xgrammar.GrammarMatcher(self._compiled)
        return bool(matcher.accept_string(text)) and bool(matcher.is_completed())

    def walk(self, rng: Random, tokens: int = 300, end: float = 0.5) -> tuple[list[int], bool]:
        """Tokens of a random answer, and whether it came to its end; leans towards closing what is open."""
        matcher, mask = xgrammar.GrammarMatcher(self._compiled), xgrammar.allocate_token_bitmask(1, VOCAB)
        ids: list[int] = []
        for _ in range(tokens):
            matcher.fill_next_token_bitmask(mask)
            bits = (mask[0][:, None] >> torch.arange(32)) & 1
            allowed = bits.flatten()[:VOCAB].nonzero().flatten().tolist()
            assert allowed, f"stuck after {TOKENIZER.decode(ids)!r}"
            closers = [i for i in allowed if i in _CLOSERS]
            if END in allowed and (len(allowed) == 1 or rng.random() < end):
                return ids, True
            token = (
                rng.choice(closers) if closers and rng.random() < 0.4 else rng.choice([i for i in allowed if i != END])
            )
            assert matcher.accept_token(token)
            ids.append(token)
        return ids, False


def _schema(schema: dict[str, Any]) -> str:
    content = {"type": "json_schema", "json_schema": schema, "max_whitespace_cnt": 1}
    return json.dumps({"type": "structural_tag", "format": content})
