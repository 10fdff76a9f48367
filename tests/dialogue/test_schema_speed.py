"""How soon a schema is ready: once per schema, within the bounds that were asked for."""

from __future__ import annotations

import json
import statistics
import time
import warnings
from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from dami_agent.dialogue.json_schema import check, enforceable, fitting, validator
from dami_agent.runtime import grammar as runtime_grammar
from dami_agent.runtime.grammar import GrammarCompiler
from dami_agent.types import Constraint

from .grammar import Grammar
from .support import TOKENIZER
from .test_pydantic import MODELS


@pytest.fixture(scope="module")
def fresh() -> list[dict[str, Any]]:
    """The models' schemas under titles that no cache has met."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [{**TypeAdapter(model).json_schema(), "title": f"fresh {n}"} for n, model in enumerate(MODELS)]


def test_a_schema_is_ready_in_five_milliseconds(fresh: list[dict[str, Any]]) -> None:
    """Processor time of the first use, median: 5 ms is the bound (2.5 measured), four times that a slow machine's."""
    spent = []
    for schema in fresh:
        begun = time.thread_time()
        check(schema, "test")
        enforceable(schema)
        validator(schema)
        spent.append(time.thread_time() - begun)
    assert statistics.median(spent) < 4 * 0.005


def test_a_schema_is_prepared_and_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_ = runtime_grammar.compile_constraint

    def counted(constraint: Constraint, vocabulary: Any) -> Any:
        compiled.append(constraint.text)
        return compile_(constraint, vocabulary)

    monkeypatch.setattr(runtime_grammar, "compile_constraint", counted)
    schema = {"type": "object", "properties": {"met once": {"type": "integer"}}}
    tried = fitting.compile_schema
    tries: list[Any] = []

    def tried_and_counted(schema: Any) -> Any:
        tries.append(schema)
        return tried(schema)

    monkeypatch.setattr(fitting, "compile_schema", tried_and_counted)
    for _ in range(3):
        grammar = Grammar(enforceable(schema)[0])
        assert grammar.accepts('{"met once": 1}')
    assert len(tries) == len(compiled) == 1
    assert validator(schema) is validator(dict(schema))


@pytest.mark.slow
def test_a_grammar_of_152_000_tokens_is_compiled_in_fifty_milliseconds(fresh: list[dict[str, Any]]) -> None:
    """Processor time, median over the models: 50 ms is the bound, and four times that a slow machine's."""
    backend = Tokenizer.from_str(TOKENIZER.backend_tokenizer.to_str())
    spec = json.loads(backend.to_str())
    vocabulary, letters, rng = spec["model"]["vocab"], "abcdefghijklmnopqrstuvwxyz0123456789", Random(1)
    size = 151_936
    number = len(TOKENIZER)
    while number < size:
        text = "".join(rng.choices(letters, k=rng.randint(4, 9)))
        if text not in vocabulary:
            vocabulary[text] = number
            number += 1
    large = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(spec)), eos_token="<|im_end|>")
    book = GrammarCompiler(large, size, [TOKENIZER.convert_tokens_to_ids("<|im_end|>")])
    book.matcher(Constraint(kind="json_schema", text="{}"))  # reads the vocabulary
    spent = []
    for schema in fresh:
        text = json.dumps(enforceable(schema)[0])
        begun = time.thread_time()
        assert book.matcher(Constraint(kind="json_schema", text=text)).mask().any()
        spent.append(time.thread_time() - begun)
    assert statistics.median(spent) < 4 * 0.05
