"""Serve many requests at any λ at once, token ids in and token ids out; nothing here knows a message.

Requests are checked, and their grammars compiled, in the caller's thread; one worker thread owns the model.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from dami_agent.errors import EngineClosed, InvalidRequest
from dami_agent.request_checks import check_fits, check_request, check_tokens
from dami_agent.runtime.factory import engine_arguments
from dami_agent.runtime.failures import panics_to_dami_error
from dami_agent.runtime.grammar import GrammarCompiler, Matcher
from dami_agent.runtime.hidden_ids import ids_without_text
from dami_agent.runtime.job import LocalJob
from dami_agent.runtime.reading import ReadRequest
from dami_agent.runtime.repetition import LoopDetector, LoopRule
from dami_agent.runtime.sampling import RandomStream, resolve_sampling, warper_key
from dami_agent.runtime.scoring import ScoreRequest
from dami_agent.runtime.sequence import SequenceState
from dami_agent.runtime.states import StatesRequest
from dami_agent.runtime.stop_strings import StopStrings
from dami_agent.runtime.thought import Thought, ThoughtMarkers, cap_and_words
from dami_agent.runtime.worker import Capacity, Worker
from dami_agent.types import Constraint, Decision, EngineInfo, Generation, Intensity, Limits, Prompt, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dami_agent.checkpoints import CheckpointPair
    from dami_agent.weights import Weights

__all__ = ["LocalEngine"]

PREFIX_TOKENS = 32_768
"""Cache positions that ended requests may keep: a few dozen agents' conversations."""

# The answer may repeat itself this many times as often as the thought before it counts as a loop.
_ANSWER_LOOP_FACTOR = 4


class LocalEngine:
    """Implements :class:`dami_agent.types.Engine` on this machine's CPU or GPU.

    Making one is cheap: the weights are loaded by the first request, or by :meth:`load`. The worker thread is a daemon;
    it ends at :meth:`close`, when the engine is garbage-collected, and at exit. An engine is of no use in a forked
    child (its thread stays behind); make one there.

    Args:
        weights: the weights, or what loads them; given to this engine alone.
        tokenizer: for stop strings and grammars.
        info: what this engine runs on; ``context_length`` and ``vocab_size`` are held to.
        markers: control tokens around a thought.
        eos_token_ids: end-of-sequence tokens of both checkpoints.
        generation_defaults: ``generation_config`` of the Instruct (λ = 0) and the Thinking checkpoint (λ > 0).
        max_batch_size: requests decoded at once.
        max_batch_tokens: no further request is admitted above so many cache positions; None: no bound.
        prefix_tokens: cache positions of ended requests that are kept, while there is room, for prompts that begin
            alike at the same λ; 0 keeps none.
        max_queue: requests waiting before ``EngineBusy``.
        loop_rule: when a repetition counts as run away (thought closed, or answer cut with ``length``); None never.
    """

    def __init__(
        self,
        weights: Weights | Callable[[], Weights],
        tokenizer: PreTrainedTokenizerBase,
        *,
        info: EngineInfo,
        markers: ThoughtMarkers,
        eos_token_ids: Collection[int],
        generation_defaults: Mapping[Template, Mapping[str, Any]],
        max_batch_size: int = 32,
        max_batch_tokens: int | None = None,
        prefix_tokens: int = PREFIX_TOKENS,
        max_queue: int = 1024,
        loop_rule: LoopRule | None = LoopRule(),  # noqa: B008  (frozen)
    ) -> None:
        self._info = info
        self._tokenizer = tokenizer
        self._markers = markers
        self._closing_words = [
            str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
            for ids in (markers.plain_close_ids, markers.before_close_ids)
        ]
        self._eos_ids = frozenset(eos_token_ids)
        self._defaults = {name: dict(generation_defaults.get(name, {})) for name in ("instruct", "thinking")}
        self._loop_rule = loop_rule
        self._grammars = GrammarCompiler(tokenizer, info.vocab_size, sorted(self._eos_ids))
        load = weights if callable(weights) else lambda: weights
        capacity = Capacity(
            rows=max_batch_size, cache_tokens=max_batch_tokens, prefix_tokens=prefix_tokens, queue=max_queue
        )
        hidden = ids_without_text(tokenizer, info.vocab_size, keep=self._eos_ids)
        self.worker = Worker(load, capacity, hidden)
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(self, _shut_down, self.worker, self._pid)

    @classmethod
    def open(cls, pair: CheckpointPair, **options: Any) -> Self:
        """Make an engine for a verified pair.

        Args:
            pair: verified.
            options: see :func:`dami_agent.runtime.factory.engine_arguments`, which says what is raised too.
        """
        return cls(**engine_arguments(pair, **options))

    @property
    def info(self) -> EngineInfo:
        """Return what this engine runs on."""
        return self._info

    @property
    def markers(self) -> ThoughtMarkers:
        """Return the control tokens around a thought."""
        return self._markers

    @property
    def closed(self) -> bool:
        """Return whether it takes no requests any more: closed, or broken by what ended its thread."""
        return self.worker.queue.closed

    def load(self) -> None:
        """Load the weights now, if they are not, and wait for it. Raises what loading raises."""
        self._check_process()
        self.worker.queue.add_load().result()

    def submit(self, prompt: Prompt, decision: Decision) -> LocalJob:
        """Check a request, compile its grammar and queue it.

        Raises:
            InvalidRequest: sampling, limits or prompt that make no sense.
            ContextOverflow: it does not fit the context window.
            InvalidSchema: its constraint is malformed.
            EngineBusy, EngineClosed: the queue is full; the engine is closed.
        """
        self._check_process()
        with self._arriving(), panics_to_dami_error():
            row = self.sequence_of(prompt, decision)
            row.replay()
            if not row.done:
                self.worker.queue.add_row(row)
            return row.job

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        """Run a request to its end; an interrupt (Ctrl-C) while waiting cancels it."""
        job = self.submit(prompt, decision)
        try:
            return job.result()
        finally:
            job.cancel()  # of no effect on a job that has ended

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        """Return each completion token's natural-log probability after ``prompt`` (and its ``reply_ids``) at λ.

        Raises:
            InvalidRequest, ContextOverflow, EngineBusy, EngineClosed: as :meth:`submit`.
        """
        self._check_process()
        context = (*prompt.token_ids, *prompt.reply_ids)
        check_tokens("prompt", context, self._info)
        if not completion:
            return ()
        check_tokens("completion", completion, self._info)
        check_fits(len(context), len(completion), self._info)
        scores: tuple[float, ...] = self._read(
            ScoreRequest(context=context, completion=tuple(completion), intensity=Intensity(intensity))
        )
        return scores

    def hidden_states(
        self, prompt: Prompt, intensity: Intensity, layers: Sequence[int]
    ) -> tuple[tuple[float, ...], ...]:
        """Return the pooled hidden states of ``prompt`` at λ; see :class:`dami_agent.types.StateReader`.

        What is computed of the prompt is kept for a reply at the same λ.

        Raises:
            InvalidRequest, ContextOverflow, EngineBusy, EngineClosed: as :meth:`submit`.
        """
        self._check_process()
        check_tokens("prompt", prompt.token_ids, self._info)
        check_fits(len(prompt.token_ids), 1, self._info)
        if not layers or not all(type(layer) is int and layer >= 0 for layer in layers):
            raise InvalidRequest(f"layers must be whole numbers from 0 on, at least one, got {list(layers)}")
        states: tuple[tuple[float, ...], ...] = self._read(
            StatesRequest(context=prompt.token_ids, layers=tuple(layers), intensity=Intensity(intensity))
        )
        return states

    def _read(self, request: ReadRequest) -> Any:
        with self._arriving():
            self.worker.queue.add_read(request)
        try:
            return request.future.result()
        finally:
            request.future.cancel()  # of no effect on one that has ended

    def close(self) -> None:
        """Fail what is queued or running with ``EngineClosed`` and free the memory; idempotent."""
        self._finalizer()

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __deepcopy__(self, memo: object) -> LocalEngine:
        """Share the engine: its weights and its thread are not to be had twice."""
        return self

    def __reduce__(self) -> str:
        raise InvalidRequest(
            "an engine cannot be sent to another process",
            hint="name it there: ChatDAMI(engine='local', instruct=..., thinking=...) opens the pair where it is used",
        )

    def __repr__(self) -> str:
        i = self._info
        return f"LocalEngine({i.model!r}, {i.weights_mode}, {i.device}, {i.dtype}, context_length={i.context_length})"

    # --- checks, in the caller's thread ------------------------------------------------------------------------------

    def sequence_of(self, prompt: Prompt, decision: Decision) -> SequenceState:
        """Check a request, and build the state that its decoding goes through."""
        intensity, limits, markers = Intensity(decision.intensity), decision.limits, self._markers
        prefix = intensity if decision.prefix_intensity is None else Intensity(decision.prefix_intensity)
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
            job=LocalJob(blank, limits.timeout, on_end=self._job_ended),
            thought=Thought(
                markers,
                self._eos_ids,
                in_thought=prompt.in_thought,
                cap=cap,
                words=words,
                rule=self._loop_rule,
            ),
            eos_ids=self._eos_ids,
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
        if prompt.in_thought and self._markers.close_id is None:
            raise InvalidRequest(
                "the prompt opens a thought, but the vocabulary has no token that closes one",
                hint="use the Instruct template with this pair",
            )
        return max_tokens

    def _forbidden(self, constraint: Constraint | None, matcher: Matcher | None) -> int | None:
        """Return the tool-call token, where a thought may not end in it: the answer may not begin with it."""
        token = self._markers.tool_call_id
        if constraint is None or matcher is None or token is None:
            return None
        return None if constraint.tool_calls and matcher.allows(token) else token

    def _job_ended(self) -> None:
        """Do nothing: a job's reference to this method keeps the engine alive while the job runs."""

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise EngineClosed("this engine belongs to the parent process", hint="make an engine after the fork")

    @contextmanager
    def _arriving(self) -> Iterator[None]:
        self.worker.queue.announce(1)
        try:
            yield
        finally:
            self.worker.queue.announce(-1)


def _shut_down(worker: Worker, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not touch locks that its parent may hold
        worker.close(timeout=10.0)
