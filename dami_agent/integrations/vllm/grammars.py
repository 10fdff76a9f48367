"""Have vLLM's grammars go on where the answer in the prompt has got to.

vLLM begins every request at its grammar's start. An answer that was begun in an earlier request (an estimator's probe)
stands in the prompt of the next, so its tokens are fed to the grammar before any is drawn.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

__all__ = ["BEGUN", "continue_begun_answers"]

BEGUN = "\n// begun: "
"""Ends a grammar whose first tokens stand in the prompt, as a comment of Lark; their ids follow, in commas."""


def continue_begun_answers() -> None:
    """Have the llguidance backend feed a grammar what its text says was written before; once is enough."""
    from vllm.v1.structured_output.backend_guidance import GuidanceBackend

    compile_grammar = GuidanceBackend.compile_grammar
    if hasattr(compile_grammar, "__wrapped__"):
        return

    @wraps(compile_grammar)
    def compile_and_continue(self: Any, request_type: Any, grammar_spec: str, *rest: Any, **named: Any) -> Any:
        grammar = compile_grammar(self, request_type, grammar_spec, *rest, **named)
        _, mark, begun = grammar_spec.rpartition(BEGUN)
        if mark:
            grammar.ll_matcher.consume_tokens([int(token) for token in begun.split(",")])
        return grammar

    GuidanceBackend.compile_grammar = compile_and_continue
