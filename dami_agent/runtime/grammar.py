"""Constrained decoding with xgrammar: a Constraint compiled once, matched per request.

xgrammar and jsonschema are imported by the first constraint: an engine that never meets one does without them.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from dami_agent.errors import InvalidSchema
from dami_agent.types import Constraint

if TYPE_CHECKING:
    import xgrammar
    from transformers import PreTrainedTokenizerBase

__all__ = ["GrammarBook", "Matcher", "mask_tokens"]

# Between two JSON tokens at most so much white space: enough for pretty printing, too little to fill a budget with.
_MAX_WHITESPACE = 20
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_CACHE_BYTES = 1 << 28  # of compiled grammars; the least recently used go first


class Matcher:
    """Where one answer stands in its grammar.

    Args:
        compiled: the grammar.
        allowed: bitmask, int32 [ceil(vocabulary / 32)], of the tokens that may be written at all; None: all.
    """

    def __init__(self, compiled: xgrammar.CompiledGrammar, allowed: torch.Tensor | None = None) -> None:
        import xgrammar

        self._matcher = xgrammar.GrammarMatcher(compiled)
        self._allowed = allowed

    def allows(self, token: int) -> bool:
        """Whether ``token`` may come next."""
        if not self._matcher.accept_token(token):
            return False
        self._matcher.rollback(1)
        return True

    def fill(self, bitmask: torch.Tensor, row: int) -> bool:
        """Write the tokens that may come next into ``bitmask[row]``; False when there is none.

        None means that the vocabulary cannot spell what the grammar wants.
        """
        self._matcher.fill_next_token_bitmask(bitmask, row)
        if self._allowed is not None:
            bitmask[row] &= self._allowed
        return bool(bitmask[row].any())

    def accept(self, token: int) -> bool:
        """Move on by ``token``; False, and nothing moved, where the grammar does not allow it."""
        return bool(self._matcher.accept_token(token))


class GrammarBook:
    """Compiles constraints for one vocabulary; safe from many threads. The compiler is made on first use.

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
        self._compiler: xgrammar.GrammarCompiler | None = None
        self._printable: torch.Tensor | None = None

    def matcher(self, constraint: Constraint) -> Matcher:
        """A fresh matcher for ``constraint``.

        Raises:
            InvalidSchema: when no grammar can be made of it.
        """
        compiler = self._get_compiler()
        try:
            if constraint.kind == "json_schema":
                _check_schemas([json.loads(constraint.text)])
                compiled = compiler.compile_json_schema(constraint.text, max_whitespace_cnt=_MAX_WHITESPACE)
                return Matcher(compiled, self._printable)
            if constraint.kind == "structural_tag":
                _check_schemas(_embedded_schemas(json.loads(constraint.text)))
                compiled = compiler.compile_structural_tag(constraint.text)
            elif constraint.kind == "ebnf":
                compiled = compiler.compile_grammar(constraint.text)
            else:
                raise InvalidSchema(f"unknown kind of constraint: {constraint.kind!r}")
            return Matcher(compiled)
        except InvalidSchema:
            raise
        except Exception as error:  # xgrammar raises RuntimeError, ValueError and types of its C++ core
            raise InvalidSchema(
                f"no grammar can be made of this {constraint.kind}: {error}",
                hint="check the tool's or output's JSON schema (draft 2020-12) against the message",
            ) from error

    def _get_compiler(self) -> xgrammar.GrammarCompiler:
        import xgrammar

        with self._lock:
            if self._compiler is None:
                info = xgrammar.TokenizerInfo.from_huggingface(
                    self._tokenizer, vocab_size=self._vocab_size, stop_token_ids=self._eos_ids or None
                )
                # One thread: compilation happens in the callers' threads, beside decoding.
                self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_limit_bytes=_CACHE_BYTES)
                self._printable = _printable(info.decoded_vocab)
            return self._compiler


def _printable(vocabulary: Sequence[bytes]) -> torch.Tensor:
    """Bitmask of the tokens without control characters, line feeds aside.

    xgrammar lets control characters other than line ends into a string of bounded length, where JSON forbids them.
    """
    import xgrammar

    mask = xgrammar.allocate_token_bitmask(1, len(vocabulary))  # all ones
    for token, text in enumerate(vocabulary):
        if _CONTROL.search(text):
            mask[0, token // 32] &= ~(1 << token % 32) if token % 32 != 31 else 0x7FFFFFFF
    return mask[0]


def mask_tokens(scores: torch.Tensor, matchers: Sequence[tuple[int, Matcher]]) -> list[int]:
    """Set to -inf, in place, what the grammars of some rows forbid.

    Args:
        scores: float32 [rows, vocabulary].
        matchers: (row, matcher) of each constrained row.

    Returns:
        The rows that cannot go on.
    """
    import xgrammar

    bitmask = xgrammar.allocate_token_bitmask(scores.shape[0], scores.shape[-1])
    rows: list[int] = []
    stuck: list[int] = []
    for row, matcher in matchers:
        if matcher.fill(bitmask, row):
            rows.append(row)
        else:
            stuck.append(row)
    if rows:
        xgrammar.apply_token_bitmask_inplace(scores, bitmask.to(scores.device), indices=rows)
    return stuck


def _check_schemas(schemas: Sequence[Any]) -> None:
    import jsonschema
    from jsonschema.validators import validator_for

    try:
        for schema in schemas:
            validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)
            _refuse_foreign_references(schema)
    except jsonschema.SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its root"
        raise InvalidSchema(f"not a JSON schema, at {where}: {error.message}", hint="see draft 2020-12") from error


def _refuse_foreign_references(node: Any) -> None:
    """xgrammar takes a reference to another document for "anything"; we say so instead."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
                raise InvalidSchema(f"the schema refers to another document: {value}", hint="put it into $defs")
            if key not in ("const", "enum", "default", "examples"):
                _refuse_foreign_references(value)
    elif isinstance(node, list):
        for value in node:
            _refuse_foreign_references(value)


def _embedded_schemas(node: Any) -> list[Any]:
    return list(_walk(node))


def _walk(node: Any) -> Iterator[Any]:
    """Every ``json_schema`` of a structural tag, not looking inside the schemas themselves."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("json_schema", "schema") and isinstance(value, (dict, bool)):
                yield value
            else:
                yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)
