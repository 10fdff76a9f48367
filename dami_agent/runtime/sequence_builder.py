"""Make of a request the state that its decoding goes through, once it has been checked; without the model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from dami_agent.errors import InvalidRequest
from dami_agent.request_checks import check_intensity, check_request
from dami_agent.runtime.grammar import GrammarCompiler, Matcher
from dami_agent.runtime.job import LocalJob
from dami_agent.runtime.repetition import LoopDetector, LoopRule
from dami_agent.runtime.sampling import RandomStream, resolve_sampling, warper_key
from dami_agent.runtime.sequence import SequenceState
from dami_agent.runtime.stop_strings import StopStrings
from dami_agent.runtime.thought import Thought, ThoughtMarkers, cap_and_words
from dami_agent.types import Constraint, Decision, EngineInfo, Generation, Intensity, Limits, Prompt, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["SequenceBuilder"]

# The answer may repeat itself this many times as often as the thought before it counts as a loop.
_ANSWER_LOOP_FACTOR = 4


class SequenceBuilder:
    """Builds the states of one engine's requests; safe to use from many threads.

    Args:
        tokenizer: for stop strings and grammars.
        info: of the engine; ``context_length`` and ``vocab_size`` are held to.
        markers: control tokens around a thought.
        eos_token_ids: end-of-sequence tokens of both checkpoints.
        generation_defaults: ``generation_config`` of the Instruct (λ = 0) and the Thinking checkpoint (λ > 0).
        loop_rule: when a repetition counts as run away (thought closed, or answer cut with ``length``); None never.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        info: EngineInfo,
        markers: ThoughtMarkers,
        eos_token_ids: Collection[int],
        generation_defaults: Mapping[Template, Mapping[str, Any]],
        loop_rule: LoopRule | None,
    ) -> None:
        self._info = info
        self._tokenizer = tokenizer
        self.markers = markers
        self._closing_words = [
            str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
            for ids in (markers.plain_close_ids, markers.before_close_ids)
        ]
        self.eos_ids = frozenset(eos_token_ids)
        self._defaults = {name: dict(generation_defaults.get(name, {})) for name in ("instruct", "thinking")}
        self._loop_rule = loop_rule
        self._grammars = GrammarCompiler(tokenizer, info.vocab_size, sorted(self.eos_ids))

    def build(self, prompt: Prompt, decision: Decision, on_end: Callable[[], None] | None = None) -> SequenceState:
        """Check a request, compile its grammar, and return the state that its decoding goes through.

        Args:
            prompt, decision: the request.
            on_end: called once, from whichever thread ends its job.

        Raises:
            InvalidIntensity: a λ per module that the engine cannot run.
            InvalidRequest: sampling, limits or prompt that make no sense.
            ContextOverflow: it does not fit the context window.
            InvalidSchema: its constraint is malformed.
        """
        intensity, limits, markers = Intensity(decision.intensity), decision.limits, self.markers
        prefix = intensity if decision.prefix_intensity is None else Intensity(decision.prefix_intensity)
        for value in {intensity, prefix}:
            check_intensity(value, self._info)
        max_tokens = self._check_request(prompt, limits)
        cap, words = cap_and_words(markers, limits, max_tokens)
        defaults = self._defaults["thinking" if intensity > 0 else "instruct"]
        sampling = resolve_sampling(decision.sampling, defaults, self._info.vocab_size)
        assert sampling.seed is not None  # resolved
        matcher = self._grammars.matcher(prompt.constraint) if prompt.constraint is not None else None
        blank = Generation(
            events=(),
            finish_reason="length",
            intensity=intensity,
            sampling=sampling,
            prompt_tokens=len(prompt.token_ids),
            prefix_intensity=decision.prefix_intensity,
            weights_mode=self._info.weights_mode,
            closing_words=self._closing_words[words],
        )
        return SequenceState(
            prompt=prompt,
            intensity=intensity,
            prefix_intensity=prefix,
            job=LocalJob(blank, limits.timeout, on_end=on_end),
            thought=Thought(
                markers,
                self.eos_ids,
                in_thought=prompt.in_thought,
                cap=cap,
                words=words,
                rule=self._loop_rule,
            ),
            eos_ids=self.eos_ids,
            max_tokens=max_tokens,
            key=warper_key(sampling),
            stream=RandomStream(sampling.seed, prompt.token_ids),
            logprobs=sampling.logprobs,
            matcher=matcher,
            forbid_tool_call=self._forbidden(prompt.constraint, matcher),
            stops=(StopStrings(limits.stop, self._tokenizer, continues=prompt.continues) if limits.stop else None),
            loop=LoopDetector(self._loop_rule.scaled(_ANSWER_LOOP_FACTOR)) if self._loop_rule else None,
            after_close_ids=markers.after_close_ids,
            tokens=list(prompt.token_ids),
        )

    def _check_request(self, prompt: Prompt, limits: Limits) -> int:
        """Refuse what makes no sense; returns how many tokens may be written."""
        max_tokens = check_request(prompt, limits, self._info)
        if prompt.in_thought and self.markers.close_id is None:
            raise InvalidRequest(
                "the prompt opens a thought, but the vocabulary has no token that closes one",
                hint="use the Instruct template with this pair",
            )
        return max_tokens

    def _forbidden(self, constraint: Constraint | None, matcher: Matcher | None) -> int | None:
        """Return the tool-call token, where a thought may not end in it: the answer may not begin with it."""
        token = self.markers.tool_call_id
        if constraint is None or matcher is None or token is None:
            return None
        return None if constraint.tool_calls and matcher.allows(token) else token
