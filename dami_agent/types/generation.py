"""Define what goes into an engine and what comes out: token ids, and how they were decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dami_agent.types.intensity import FinishReason, Intensity, Part, Template, ThoughtClosedBy, WeightsMode
from dami_agent.types.step import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """Describes a grammar that the answer (never the thought) must follow from its first token to its end.

    Attributes:
        kind: ``lark`` (llguidance's dialect of Lark, with ``%json`` for schemas), ``json_schema`` or ``ebnf`` (GBNF).
        text: the grammar in that notation.
        tool_calls: whether a ``<tool_call>`` may come; where False it is also masked inside the thought.
        complete: an output cut off by a cap is an error (structured output), not just ``finish_reason="length"``.
        notes: what was asked for and the grammar does not enforce, so that it is checked on the finished value.
    """

    kind: Literal["lark", "json_schema", "ebnf"]
    text: str
    tool_calls: bool = True
    complete: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Holds a rendered step: token ids in, and what may come out.

    Attributes:
        token_ids: prompt tokens, 1-D, no padding.
        template: whose chat template rendered it.
        in_thought: the template opened ``<think>``, so the first output token belongs to the thought.
        constraint: grammar of the answer, or None.
        reply_ids: tokens of the reply that were decoded before at the same λ (a probe) and are to be continued;
            they count as output.
        continues: the prompt ends inside an assistant message that the caller began; the reply is its rest, to the
            last newline.
        tools: how many tools it offers.
    """

    token_ids: tuple[int, ...]
    template: Template
    in_thought: bool = False
    constraint: Constraint | None = None
    reply_ids: tuple[int, ...] = ()
    continues: bool = False
    tools: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """Holds the natural-log probability of one output token, of the raw softmax, before any logits warper."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """Holds one output token as it is decoded; ``control`` tokens close the thought and are not text."""

    token_id: int
    part: Part
    logprob: TokenLogprob | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Measures seconds: in the queue, switching weights, prefill, first token since submission, decode, all of it."""

    queue: float = 0.0
    switch: float = 0.0
    prefill: float = 0.0
    first_token: float = 0.0
    decode: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """Holds what the engine produced for one prompt.

    Attributes:
        events: all output tokens in order, without the final end-of-sequence token.
        finish_reason: ``stop`` (end of sequence or stop string) or ``length`` (a cap).
        thought_closed_by: None if there was no thought or it was still open at the end.
        closing_words: what the engine wrote before the close marker, where it closed the thought itself; else None.
        stop_string: the stop string that ended the answer, if one did.
        prompt_tokens: of the prompt, without what was decoded before and carried on.
        cached_tokens: of the prompt, not computed anew because the engine still had them, read at the same λ.
        reread_tokens: of the prompt, computed anew although the engine still had them, because it had read them at
            another λ; where the answer has a λ of its own, those of the thought's reading and of the answer's.
        intensity: λ the tokens were decoded with.
        answer_intensity: λ the answer was decoded with, where it was not the thought's.
        prefix_intensity: λ that the prompt was read at but for its last token, as prompts of all replies are; None: it
            was read at the reply's own.
        sampling: with every default filled in, seed included.
        weights_version: of the merged copy; bumps on every rebuild. 0 for mixed.
    """

    events: tuple[TokenEvent, ...]
    finish_reason: FinishReason
    intensity: Intensity
    sampling: Sampling
    answer_intensity: Intensity | None = None
    prefix_intensity: Intensity | None = None
    thought_closed_by: ThoughtClosedBy | None = None
    closing_words: str | None = None
    stop_string: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reread_tokens: int = 0
    weights_mode: WeightsMode = "merged"
    weights_version: int = 0
    timing: Timing = Timing()

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Return the ids of all output tokens."""
        return tuple(e.token_id for e in self.events)

    @property
    def reasoning_tokens(self) -> int:
        """Count the tokens that the model thought. Everything that counts or caps reasoning counts these.

        The markers around a thought, and what the engine writes to close one, are output and not reasoning.
        """
        return sum(e.part == "reasoning" for e in self.events)

    @property
    def answer_tokens(self) -> int:
        """Count all other output tokens: the answer, the thought's markers, and what the engine wrote to close it."""
        return self.output_tokens - self.reasoning_tokens

    @property
    def output_tokens(self) -> int:
        """Count all output tokens."""
        return len(self.events)
