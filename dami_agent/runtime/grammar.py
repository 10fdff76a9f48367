"""Constrained decoding with llguidance: a constraint is compiled once and matched per request.

llguidance is imported by the first constraint: an engine that never meets one does without it.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from dami_agent.errors import InvalidSchema
from dami_agent.runtime.vocabulary import Vocabulary
from dami_agent.types import Constraint

if TYPE_CHECKING:
    import llguidance
    from transformers import PreTrainedTokenizerBase

__all__ = ["GrammarCompiler", "Matcher", "lark_of", "mask_tokens"]

_CACHED = 64  # compiled grammars kept; the least recently used go first
_LAYOUT = {"item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": False, "coerce_one_of": True}
# Digits of one part of a number: enough for 64 bits unsigned, too few to fill a budget with. Two of an exponent keep
# the number finite.
_DIGITS, _EXPONENT_DIGITS = 20, 2
_LONGEST_TOKEN = 8  # digits that one token may add: nothing is counted before a number is so close to its bound
_NUMBER = re.compile(rb"([0-9]+)(?:\.([0-9]*))?(?:[eE][+-]?([0-9]*))?\Z")
_TAIL = 64


class Matcher:
    """Track the grammar state of one answer: which tokens are allowed next. For one thread at a time.

    Args:
        matcher: llguidance's, at the grammar's start, owned by this object.
        vocabulary: the engine's.
        bound_numbers: whether a JSON number may have so many digits only (see ``_DIGITS``).
    """

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary: Vocabulary, *, bound_numbers: bool = True) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._bound_numbers = bound_numbers
        self._tail = b""

    def allows(self, token: int) -> bool:
        """Return whether ``token`` may come next."""
        return self._matcher.validate_tokens([token]) == 1

    def mask(self) -> torch.Tensor:
        """Return the tokens that may come next: bool [vocabulary]; none of them where the vocabulary cannot go on."""
        size = len(self._vocabulary.tokens)
        if self._matcher.is_error():
            return torch.zeros(size, dtype=torch.bool)
        packed = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        if self._matcher.is_error():  # the grammar has become too complex for the library's limits
            return torch.zeros(size, dtype=torch.bool)
        allowed = ((packed.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1).bool().flatten()[:size]
        if self._bound_numbers:
            self._end_number(allowed)
        return allowed

    def accept(self, token: int) -> bool:
        """Move on by ``token``; False, and nothing moved, where the grammar does not allow it."""
        if self._matcher.try_consume_tokens([token]) != 1:
            return False
        self._tail = (self._tail + self._vocabulary.tokens[token])[-_TAIL:]
        return True

    def _end_number(self, allowed: torch.Tensor) -> None:
        """Forbid, in place, the tokens that would make the number at the end of the answer too long.

        A number may end where it stands, and within a string a closing quote may come; so strings of digits, and
        identifiers that look like numbers, are left alone, and whatever the schema wants longer.

        Args:
            allowed: bool [vocabulary]; changed in place.
        """
        words, number = self._vocabulary, _NUMBER.search(self._tail)
        if number is None or words.quote is None or allowed[words.quote]:
            return
        whole, fraction, exponent = number.groups()
        if exponent is None and max(len(whole), len(fraction or b"")) <= _DIGITS - _LONGEST_TOKEN:
            return
        begins = exponent == b"" and int(allowed.sum()) == int(allowed[words.numeric].sum())
        if not begins and not allowed[words.ends].any():
            return
        longer = [id_ for id_, more in words.numbers if _too_long(number[0] + more)]
        shorter = allowed.clone()
        shorter[longer] = False
        if shorter.any():
            allowed.copy_(shorter)


def _too_long(text: bytes) -> bool:
    number = _NUMBER.match(text)
    if number is None:
        return False
    whole, fraction, exponent = (len(part or b"") for part in number.groups())
    return whole > _DIGITS or fraction > _DIGITS or exponent > _EXPONENT_DIGITS


class GrammarCompiler:
    """Compiles constraints for one vocabulary; safe from many threads. The vocabulary is read on first use.

    Args:
        tokenizer: the pair's tokenizer.
        vocab_size: of the model's output, which may be larger than the tokenizer's.
        eos_ids: tokens that end an answer wherever its grammar may end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, eos_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_ids = sorted(eos_ids)
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._compiled: OrderedDict[tuple[str, str], llguidance.LLMatcher] = OrderedDict()

    def matcher(self, constraint: Constraint) -> Matcher:
        """Return a fresh matcher for ``constraint``.

        Raises:
            InvalidSchema: when no grammar can be made of it.
        """
        vocabulary = self._read_vocabulary()
        key = (constraint.kind, constraint.text)
        with self._lock:
            compiled = self._compiled.get(key)
            if compiled is not None:
                self._compiled.move_to_end(key)
        if compiled is None:
            compiled = compile_constraint(constraint, vocabulary)
            with self._lock:
                self._compiled[key] = compiled
                while len(self._compiled) > _CACHED:
                    self._compiled.popitem(last=False)
        with self._lock:  # one copy at a time of one matcher
            fresh = compiled.deep_copy()
        return Matcher(fresh, vocabulary, bound_numbers=constraint.kind != "ebnf")

    def _read_vocabulary(self) -> Vocabulary:
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = Vocabulary(self._tokenizer, self._vocab_size, self._eos_ids)
            return self._vocabulary


def compile_constraint(constraint: Constraint, vocabulary: Vocabulary) -> llguidance.LLMatcher:
    """Compile a grammar; whatever the library raises on strangers' text becomes one error of ours."""
    import llguidance

    try:
        matcher = llguidance.LLMatcher(vocabulary.tokenizer, lark_of(constraint), log_level=0)
        trouble = matcher.get_error()
    except (InvalidSchema, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of its Rust core is no Exception
        trouble = f"{type(error).__name__}: {error}"
    if trouble:
        first = trouble.strip().split("\n", 1)[0][:300]
        raise InvalidSchema(
            f"no grammar can be made of this {constraint.kind}: {first}",
            hint="check the tool's or output's JSON schema (draft 2020-12) against the message",
        )
    return matcher


def lark_of(constraint: Constraint) -> str:
    """Write a constraint as Lark. Texts keep every spelling that the vocabulary has for them, so nothing is forced.

    Raises:
        InvalidSchema: a kind that is not known, or a schema that is no object.
    """
    if constraint.kind == "lark":
        return constraint.text
    if constraint.kind == "ebnf":
        from llguidance.gbnf_to_lark import any_to_lark

        return f'%llguidance {{"no_forcing": true}}\n{any_to_lark(constraint.text)}'
    if constraint.kind != "json_schema":
        raise InvalidSchema(f"unknown kind of constraint: {constraint.kind!r}", hint="json_schema, lark or ebnf")
    schema: Any = json.loads(constraint.text)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise InvalidSchema(f"a JSON schema is an object, not {constraint.text[:40]!r}", hint="see draft 2020-12")
    layout = {**_LAYOUT, **schema.get("x-guidance", {})}
    return f'%llguidance {{"no_forcing": true}}\nstart: %json {json.dumps({**schema, "x-guidance": layout})}'


def mask_tokens(scores: torch.Tensor, matchers: Sequence[tuple[int, Matcher]]) -> list[int]:
    """Set to -inf, in place, what the grammars of some rows forbid.

    Args:
        scores: float32 [rows, vocabulary].
        matchers: (row, matcher) of each constrained row.

    Returns:
        The rows that cannot go on.
    """
    rows: list[int] = []
    stuck: list[int] = []
    masks: list[torch.Tensor] = []
    for row, matcher in matchers:
        mask = matcher.mask()
        if mask.any():
            rows.append(row)
            masks.append(mask)
        else:
            stuck.append(row)
    if rows:
        forbidden = ~torch.stack(masks).to(scores.device)
        scores[rows] = scores[rows].masked_fill(forbidden, -torch.inf)
    return stuck
