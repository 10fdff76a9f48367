"""Constraints as the runtime applies them, and a model that writes anything they allow."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from dami_agent.runtime.grammar import GrammarCompiler
from dami_agent.types import Constraint

from .support import TOKENIZER

VOCAB = len(TOKENIZER)
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
BOOK = GrammarCompiler(TOKENIZER, VOCAB, [END])
_CLOSERS = {i for i in range(VOCAB) if TOKENIZER.decode([i]).strip()[:1] in ('"', "}", "]")}


class Grammar:
    def __init__(self, constraint: Constraint | dict[str, Any]) -> None:
        if not isinstance(constraint, Constraint):
            constraint = Constraint(kind="json_schema", text=json.dumps(constraint))
        self._constraint = constraint

    def accepts(self, text: str) -> bool:
        """Whether ``text`` is a whole answer, in the tokens that the tokenizer makes of it."""
        return self.accepts_tokens(TOKENIZER.encode(text, add_special_tokens=False))

    def accepts_tokens(self, ids: list[int]) -> bool:
        matcher = BOOK.matcher(self._constraint)
        return all(matcher.mask()[token] and matcher.accept(token) for token in ids) and bool(matcher.mask()[END])

    def walk(self, rng: Random, tokens: int = 300, end: float = 0.5) -> tuple[list[int], bool]:
        """Tokens of a random answer, and whether it came to its end; leans towards closing what is open."""
        matcher = BOOK.matcher(self._constraint)
        ids: list[int] = []
        for _ in range(tokens):
            allowed = matcher.mask().nonzero().flatten().tolist()
            assert allowed, f"stuck after {TOKENIZER.decode(ids)!r}"
            closers = [i for i in allowed if i in _CLOSERS]
            if END in allowed and (len(allowed) == 1 or rng.random() < end):
                return ids, True
            token = (
                rng.choice(closers) if closers and rng.random() < 0.4 else rng.choice([i for i in allowed if i != END])
            )
            assert matcher.accept(token)
            ids.append(token)
        return ids, False
